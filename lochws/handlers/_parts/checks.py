"""What a ready-made handler is asked for: which app, and which events, by name or by class."""

from __future__ import annotations

from collections.abc import Iterable

from ...dispatch.naming import CLASSES, EventName, event_names


def check_app(app: object) -> None:
    """Refuse what is no app, such as a URL or a class. It may have a secret in it, and is not shown.

    Raises:
        TypeError: handlers cannot be registered with it.
    """
    if isinstance(app, type):
        raise TypeError(f"app: expected a lochws.WebSocketApp, not the class {app.__name__}")
    if not callable(getattr(app, "on", None)):
        raise TypeError(f"app: expected a lochws.WebSocketApp, not {type(app).__name__}")


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
