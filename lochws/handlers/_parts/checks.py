"""Checks of arguments that several ready-made handlers share: the app, and names of events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from ... import WebSocketApp
from ...dispatch.naming import CLASSES, EventName, Name, event_names

if TYPE_CHECKING:
    from ... import Feed

#: What a handler may serve that needs no single connection.
AppOrFeed: TypeAlias = "WebSocketApp | Feed"


def check_app(app: object) -> None:
    """Raise TypeError unless `app` is a `lochws.WebSocketApp`.

    The error names only the type, because the argument may be a URL that contains a token.
    """
    if isinstance(app, type):
        raise TypeError(f"app: expected a lochws.WebSocketApp, not the class {app.__name__}")
    if not isinstance(app, WebSocketApp):
        raise TypeError(f"app: expected a lochws.WebSocketApp, not {type(app).__name__}")


def check_app_or_feed(app: object) -> None:
    """Raise TypeError unless `app` is a `lochws.WebSocketApp` or a `lochws.Feed`. Names only its type."""
    if isinstance(app, WebSocketApp):
        return
    from ... import Feed  # noqa: PLC0415  most programs have no feeds

    if not isinstance(app, Feed):
        kind = f"the class {app.__name__}" if isinstance(app, type) else type(app).__name__
        raise TypeError(f"app: expected a lochws.WebSocketApp or a lochws.Feed, not {kind}")


def wanted_events(names: Iterable[EventName]) -> tuple[Name, ...]:
    """Return the event names without duplicates; ``"event"`` stands for all events.

    Args:
        names: names of events, or classes of `lochws.events`.

    Raises:
        TypeError: `names` is a single name, or contains something that is neither a name nor an event class.
        ValueError: a name is not that of an event. (``"batch"``, ``"error"`` and ``"sent"`` are not events.)
    """
    if isinstance(names, str):
        raise TypeError(f"events={names!r}: expected several names, such as [{names!r}]")
    wanted = event_names(tuple(names))
    if others := [name for name in wanted if name not in CLASSES and name != "event"]:
        raise ValueError(f"events: {others[0]!r} is not an event")
    return wanted
