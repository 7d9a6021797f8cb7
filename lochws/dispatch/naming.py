"""Which method or function is meant for which event: names, marks, and what is nearly a name."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from .. import events
from .callables import MARK, check_callable
from .handler import Handler

HandlerFunction: TypeAlias = Callable[[Any], object]
Function = TypeVar("Function", bound=Callable[..., object])
EventName: TypeAlias = str | type[events.Event]

#: What is no event's name, and yet what handlers are registered for.
ANY = "event"
ERROR = "error"
BATCH = "batch"
SENT = "sent"

#: Event classes by name. UnknownMessage is never made.
CLASSES: Final = MappingProxyType({
    kind.name: kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and hasattr(kind, "name")
    and kind is not events.UnknownMessage
})
NAMES: Final = (*CLASSES, ANY, ERROR, BATCH, SENT)
_INHERITED: Final = tuple((name, f"on_{name}", getattr(Handler, f"on_{name}")) for name in NAMES)
_classes: WeakKeyDictionary[type, tuple[int, Mapping[str, tuple[str, ...]]]] = WeakKeyDictionary()
# What other libraries call our events: difflib would not find them.
_FOREIGN = {"open": "ready", "message": "text", "close": "closed"}


def on(*names: EventName) -> Callable[[Function], Function]:
    """Mark a method of a class as the handler of one or more events, by name or by class.

    The method's own name does not matter. Returns a decorator that gives the function back unchanged.

    Raises:
        TypeError: something is neither a name nor an event class, or nothing was named.
        ValueError: there is no such event.
    """
    wanted = event_names(names)

    def mark(function: Function) -> Function:
        setattr(function, MARK, (*getattr(function, MARK, ()), *wanted))
        return function

    return mark


def check_class(cls: type) -> None:
    """Refuse a class that has a handler method with a misspelt name.

    Raises:
        TypeError: a method is called ``on_…`` and nearly, but not quite, after an event.
    """
    for name in dir(cls):
        if name.startswith("on_") and callable(getattr(cls, name)):
            _check_spelling(name[3:], f"{cls.__name__}.{name}")


def check_attributes(handler: object) -> None:
    """Refuse what was assigned to an app as a handler, the way of other libraries: nobody would call it.

    Not done at the assignment itself, where it would slow down every assignment of the user's handlers.

    Raises:
        AttributeError: an attribute is called ``on_…`` after an event, or is a function and nearly so.
    """
    # vars() makes the attributes a dictionary for good, and until Python 3.13 each later access to one takes
    # twice the time, in every handler. So it is not called where nothing was assigned that could be one.
    values = [value for value in gc.get_referents(handler) if value is not type(handler)]
    if not (any(map(_may_be_handler, values)) or any(_is_assigned(handler, f"on_{name}") for name in NAMES)):
        return
    for name, value in vars(handler).items():
        if not name.startswith("on_"):
            continue
        event = name[3:] if name[3:] in NAMES or not callable(value) else _nearest(name[3:], 0.8)
        if event in NAMES:
            raise AttributeError(
                f"{name} was assigned: override on_{event} in a subclass, or use app.on({event!r})"
            )


def _may_be_handler(value: object) -> bool:
    # Attributes that have become a dictionary already are seen as that.
    if isinstance(value, dict):
        return any(isinstance(name, str) and name.startswith("on_") for name in value)
    return callable(value)


def _is_assigned(handler: object, name: str) -> bool:
    value = getattr(handler, name, None)
    return getattr(value, "__func__", value) is not getattr(type(handler), name, None)


def methods_of(handler: object) -> list[tuple[str, HandlerFunction]]:
    """The handler methods of an object: the plain ones by event, then the marked ones as they are defined.

    Raises:
        TypeError: one of them is misspelt, or cannot be called with one argument.
    """
    marked = _marked(type(handler))
    found: list[tuple[str, HandlerFunction]] = []
    for name, attribute, inherited in _INHERITED:
        method = getattr(handler, attribute, None)
        if method is not None and getattr(method, "__func__", method) is not inherited:
            check_callable(method)
            found.append((name, method))
    for attribute, wanted in marked.items():
        method = getattr(handler, attribute)
        check_callable(method)
        found.extend((name, method) for name in wanted)
    return found


def _marked(cls: type) -> Mapping[str, tuple[str, ...]]:
    """A class's methods that `on` has marked, with their events. The class is checked, too.

    Both are remembered until something is added to the class: an app is made in a fifth of the time.
    """
    size = sum(len(vars(base)) for base in cls.__mro__)
    known = _classes.get(cls)
    if known is None or known[0] != size:
        check_class(cls)
        marked: dict[str, tuple[str, ...]] = {}
        for base in reversed(cls.__mro__):
            for attribute, value in vars(base).items():
                wanted = getattr(value, MARK, None)
                if wanted:
                    marked[attribute] = wanted
        known = _classes[cls] = size, marked
    return known[1]


def event_names(names: tuple[EventName, ...]) -> tuple[str, ...]:
    """The names of events that are given by name or by class, each once.

    Raises:
        TypeError: something is neither a name nor an event class, or nothing was named.
        ValueError: there is no such event; the message names the nearest.
    """
    if not names:
        raise TypeError('which event? Name one or more, such as on("text") or on(events.Text)')
    return tuple(dict.fromkeys(map(_event_name, names)))


def _event_name(name: EventName) -> str:
    if isinstance(name, type) and issubclass(name, events.Event):
        if name is events.Event:
            return ANY
        name = name.name
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is no event: expected a name such as 'text', or a class in lochws.events")
    if name not in NAMES:
        nearest = _nearest(name.removeprefix("on_"), 0.5)
        hint = f"did you mean {nearest!r}?" if nearest else f"there are {', '.join(NAMES)}"
        raise ValueError(f"there is no event {name!r}: {hint}")
    return name


def _check_spelling(name: str, where: str) -> None:
    # A class may well have methods of its own that begin with on_; only near misses are refused.
    if name not in NAMES and (nearest := _nearest(name, 0.8)):
        raise TypeError(f"{where} is never called: there is no event {name!r}. Did you mean on_{nearest}?")


def _nearest(name: str, cutoff: float) -> str | None:
    name = name.lower()
    if name in _FOREIGN:
        return _FOREIGN[name]
    from difflib import get_close_matches  # noqa: PLC0415  for mistakes alone

    swapped = [known for known in NAMES if sorted(known) == sorted(name)]
    return next(iter(swapped or get_close_matches(name, NAMES, n=1, cutoff=cutoff)), None)
