"""What a ready-made handler is asked for: which app, and which events, by name or by class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .naming import CLASSES, EventName, event_names


def check_app(app: object, needed: Any) -> None:
    """Refuse what is no app, or a class of apps.

    Args:
        app: what was given.
        needed: a runtime-checkable protocol: what is needed of it.

    Raises:
        TypeError: it has not what is needed.
    """
    if isinstance(app, type) or not isinstance(app, needed):
        raise TypeError(f"app={app!r}: expected a lochws.WebSocketApp")


def wanted_events(names: Iterable[EventName]) -> tuple[str, ...]:
    """The names of events, each once; ``"event"`` stands for all.

    Raises:
        TypeError: it is one name and no several, or has something that is neither a name nor an event class.
        ValueError: there is no such event; handlers get other things too, by such names as ``"batch"``.
    """
    if isinstance(names, str):
        raise TypeError(f"events={names!r}: expected several, such as [{names!r}]")
    wanted = event_names(tuple(names))
    if others := [name for name in wanted if name not in CLASSES and name != "event"]:
        raise ValueError(f"events: {others[0]!r} is no event")
    return wanted
