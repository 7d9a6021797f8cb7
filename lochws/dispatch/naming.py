"""Event names: the mapping of methods to events, and suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType, MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, cast
from weakref import WeakKeyDictionary

from .. import events
from .callables import MARK, check_callable
from .handler import Handler

if TYPE_CHECKING:
    from . import typed

    as_marking, as_registering = typed.as_marking, typed.as_registering
else:
    def as_marking(function):
        """Return the function, which gets an overload for each event in the eyes of type checkers."""
        return function

    as_registering = as_marking

HandlerFunction: TypeAlias = Callable[[Any], object]
Function = TypeVar("Function", bound=Callable[..., object])
#: The names that `on` accepts.
Name: TypeAlias = Literal[
    "connecting", "connect_fail", "connected", "rejected", "ready", "poll", "text", "binary", "ping",
    "pong", "protocol_error", "unresponsive", "stale", "closing", "closed", "disconnected", "back_off",
    "event", "error", "batch", "sent",
]
EventName: TypeAlias = Name | type[events.Event]

#: Names that handlers can be registered for although they are not names of events.
ANY: Final = "event"
ERROR: Final = "error"
BATCH: Final = "batch"
SENT: Final = "sent"

#: Event classes by name, except UnknownMessage, which is never created.
CLASSES: Final = MappingProxyType({
    kind.name: kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and hasattr(kind, "name")
    and kind is not events.UnknownMessage
})
NAMES: Final = (*CLASSES, ANY, ERROR, BATCH, SENT)
_INHERITED: Final = tuple((name, f"on_{name}", getattr(Handler, f"on_{name}")) for name in NAMES)
_classes: WeakKeyDictionary[type, tuple[int, Mapping[str, tuple[str, ...]]]] = WeakKeyDictionary()
# The names that other libraries use for our events, where difflib finds no match or a wrong one.
_FOREIGN: Final = MappingProxyType({
    "open": "ready", "connect": "ready", "message": "text", "close": "closed", "disconnect": "disconnected",
})


@as_marking
def on(*names: EventName) -> Callable[[Function], Function]:
    """Mark a method of a class as the handler of one or more events, by name or by class: a decorator.

    The method may have any name. The decorator returns it unchanged.

    Raises:
        TypeError: an argument is neither a name nor an event class, or there are no arguments.
        ValueError: no event has that name; the message suggests the closest one.
    """
    wanted = event_names(names, "@on")

    def mark(function: Function) -> Function:
        setattr(function, MARK, (*getattr(function, MARK, ()), *wanted))
        return function

    return mark


def check_class(cls: type) -> None:
    """Refuse a class that has a handler method with a misspelt name.

    Raises:
        TypeError: a method's name begins with ``on_`` and nearly, but not exactly, matches an event.
    """
    for name in dir(cls):
        if name.startswith("on_") and callable(getattr(cls, name)):
            _check_spelling(name[3:], f"{cls.__name__}.{name}")


def check_attributes(handler: object) -> None:
    """Refuse an object to which a handler was assigned as an attribute, as is usual with other libraries.

    Such a handler would not be called. Assignments themselves are not checked, because that would slow down
    every assignment in the user's handlers. The object's ``__dict__`` is not accessed, because creating it
    would slow down every attribute access before Python 3.13.

    Raises:
        AttributeError: an attribute is named ``on_…`` after an event, or after another library's callback.
    """
    for name in (*NAMES, *_FOREIGN):
        value = getattr(handler, f"on_{name}", None)
        inherited = getattr(type(handler), f"on_{name}", None)
        if getattr(value, "__func__", value) is not inherited:
            event = _FOREIGN.get(name, name)
            raise AttributeError(
                f"on_{name} was assigned, and would not be called: override on_{event} in a subclass, or use "
                f"app.on({event!r})"
            )


def methods_of(handler: object) -> list[tuple[str, HandlerFunction]]:
    """Return an object's handler methods: those named after events, then the marked ones in definition order.

    Raises:
        TypeError: a method is misspelt, or cannot be called with one argument.
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
    """Return the methods of a class that `on` has marked, with their events, and check the class.

    The result is cached until the class changes, which makes creating an app five times as fast.
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


def event_names(names: tuple[EventName, ...], caller: str = "on") -> tuple[Name, ...]:
    """Return the names of events that were passed by name or by class, each once.

    Args:
        names: the names and classes.
        caller: the name of the function that they were passed to, for error messages.

    Raises:
        TypeError: an argument is neither a name nor an event class, or there are no arguments.
        ValueError: no event has that name; the message suggests the closest one.
    """
    if not names:
        raise TypeError(f"{caller}() needs an event: write {caller}('text') or {caller}(events.Text)")
    return tuple(dict.fromkeys(_event_name(name, caller) for name in names))


def _event_name(name: object, caller: str) -> Name:
    if isinstance(name, type) and issubclass(name, events.Event):
        if name is events.Event:
            return ANY
        name = name.name
    if not isinstance(name, str):
        if isinstance(name, (FunctionType, MethodType)):  # a decorator without its parentheses
            called = name.__name__.removeprefix("on_")
            example = called if called in NAMES else "text"
            raise TypeError(f"write {caller}({example!r}): the event goes in parentheses")
        raise TypeError(f"expected an event name such as 'text' or a class in lochws.events, got {name!r}")
    if name not in NAMES:
        wanted = name.removeprefix("on_")
        nearest = _nearest(wanted, 0.5)
        hint = f"did you mean {nearest!r}?" if nearest else f"expected one of {', '.join(NAMES)}"
        raise ValueError(f"there is no event {name!r}: {hint}{_remark(wanted, '')}")
    return cast(Name, name)


def _check_spelling(name: str, where: str) -> None:
    # A class may have other methods whose names begin with on_: only near misses are refused.
    if name not in NAMES and (nearest := _nearest(name, 0.8)):
        raise TypeError(
            f"{where} would never be called: there is no event {name!r}; did you mean on_{nearest}?"
            f"{_remark(name, 'on_')}"
        )


def _nearest(name: str, cutoff: float) -> str | None:
    name = name.lower()
    if name in _FOREIGN:
        return _FOREIGN[name]
    from difflib import get_close_matches  # noqa: PLC0415  for mistakes alone

    swapped = [known for known in NAMES if sorted(known) == sorted(name)]
    return next(iter(swapped or get_close_matches(name, NAMES, n=1, cutoff=cutoff)), None)


def _remark(name: str, prefix: str) -> str:
    return f" ({prefix}connected comes before the upgrade)" if name.lower() == "connect" else ""
