"""Checks of the arguments that several ready-made handlers have: the app, and names of events."""

from __future__ import annotations

from collections.abc import Iterable

from ... import WebSocketApp
from ...dispatch.naming import CLASSES, EventName, event_names


def check_app(app: object) -> None:
    """Raise TypeError unless `app` is a `lochws.WebSocketApp`.

    The error names the type only: what was passed may be a URL with a token in it.
    """
    if isinstance(app, type):
        raise TypeError(f"app: expected a lochws.WebSocketApp, not the class {app.__name__}")
    if not isinstance(app, WebSocketApp):
        raise TypeError(f"app: expected a lochws.WebSocketApp, not {type(app).__name__}")


def wanted_events(names: Iterable[EventName]) -> tuple[str, ...]:
    """Return the names of events, each once; ``"event"`` stands for all events.

    Args:
        names: names of events, or classes of `lochws.events`.

    Raises:
        TypeError: `names` is a single name, or contains something that is neither a name nor an event class.
        ValueError: there is no such event. (``"batch"``, ``"error"`` and ``"sent"`` are not events.)
    """
    if isinstance(names, str):
        raise TypeError(f"events={names!r}: expected several names, such as [{names!r}]")
    wanted = event_names(tuple(names))
    if others := [name for name in wanted if name not in CLASSES and name != "event"]:
        raise ValueError(f"events: {others[0]!r} is not an event")
    return wanted
