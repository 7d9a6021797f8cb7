"""Event names: the mapping of methods to events, and suggestions for misspelt names."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from functools import cache, partial
from operator import attrgetter, is_
from types import FunctionType, MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, cast
from weakref import WeakKeyDictionary

from .. import events
from ..system.lazy import ensure_whole
from .callables import MARK, check_callable
from .handler import Handler
from .routes import Match

if TYPE_CHECKING:
    from . import typed

    as_marking, as_registering = typed.as_marking, typed.as_registering
else:
    def as_marking(function):
        """Return the function unchanged; type checkers see an overload for each event."""
        return function

    as_registering = as_marking

HandlerFunction: TypeAlias = Callable[[Any], object]
#: What a method is marked as a handler of: the event with a name, or messages that match.
Mark: TypeAlias = str | Match
Function = TypeVar("Function", bound=Callable[..., object])
#: The names that `on` accepts.
Name: TypeAlias = Literal[
    "connecting", "connect_fail", "connected", "rejected", "ready", "poll", "text", "binary", "stream",
    "ping", "pong", "protocol_error", "unresponsive", "stale", "closing", "closed", "disconnected",
    "back_off", "event", "error", "batch", "sent",
]
if TYPE_CHECKING:
    EventName: TypeAlias = Name | type[events.Event]
else:
    # The module typing remembers unions with a Literal, and with them a copy of lochws that nobody uses.
    EventName = str | type[events.Event]

#: Names that handlers can be registered for although they are not names of events.
ANY: Final = "event"
ERROR: Final = "error"
BATCH: Final = "batch"
SENT: Final = "sent"

#: Event classes by name, except UnknownMessage, which is never created.
CLASSES: Final = MappingProxyType({
    kind.name: kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and "name" in vars(kind)
    and kind is not events.UnknownMessage
})
NAMES: Final = (*CLASSES, ANY, ERROR, BATCH, SENT)
_METHODS: Final = frozenset(f"on_{name}" for name in NAMES)
_INHERITED: Final = tuple((name, f"on_{name}", getattr(Handler, f"on_{name}")) for name in NAMES)
_take_handlers: Final = attrgetter(*(attribute for _, attribute, _ in _INHERITED))
_classes: WeakKeyDictionary[type, _Checked] = WeakKeyDictionary()
# The attribute of functions that `not_a_handler` has marked.
_NO_HANDLER: Final = "__lochws_not_a_handler__"


class _Checked:
    """The results of checking a class of handlers.

    Attributes:
        size: the number of names in the class and its bases; if it differs, the class has changed since.
        marked: the methods that `on` and `route` have marked, with their marks.
        is_plain: whether its objects get handlers only from functions of the class and its bases and from
            their own attributes; None if that is not known yet.
    """

    __slots__ = ("is_plain", "marked", "size")

    def __init__(self, size: int, marked: Mapping[str, tuple[Mark, ...]]) -> None:
        self.size = size
        self.marked = marked
        self.is_plain: bool | None = None


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
        try:
            setattr(function, MARK, (*getattr(function, MARK, ()), *wanted))
        except AttributeError:  # a number, a built-in function or a property, for example
            raise TypeError(f"@on: expected a method, got {function!r}") from None
        return function

    return mark


def not_a_handler(function: Function) -> Function:
    """Decorate a method of your own whose name looks like a handler's, such as ``on_message``.

    lochws refuses a method that looks like a misspelt handler, or like a callback of another library, since
    it would never be called. With this mark the method is yours, and so are its overrides in subclasses. A
    method that is named exactly after an event, such as ``on_text``, is then not registered either. The
    decorator returns the method unchanged.

    Raises:
        TypeError: what was passed is not a function.
    """
    inner = function.__func__ if isinstance(function, (staticmethod, classmethod)) else function
    if not isinstance(inner, FunctionType):
        raise TypeError(f"@not_a_handler: expected a method, got {function!r}")
    setattr(inner, _NO_HANDLER, True)
    return function


def check_class(cls: type) -> None:
    """Refuse a class with a method that looks like a handler and would never be called.

    Raises:
        TypeError: a method's name nearly matches an event, or is a callback of another library; or a base
            class with handlers is listed after lochws's class, whose empty methods hide them.
    """
    is_ours = issubclass(cls, Handler)
    for name in dir(cls):
        if name.startswith("on") and name not in _METHODS and callable(getattr(cls, name)):
            if name.startswith("on_"):
                _check_spelling(name[3:], cls, name)
            elif is_ours and name != "on":
                _check_case(cls, name)
    if is_ours:
        _check_order(cls)


def check_attributes(handler: object) -> None:
    """Refuse an object to which a handler was assigned as an attribute, as is common with other libraries.

    Such a handler would not be called. Assignments themselves are not checked, because that would slow down
    every assignment in the user's handlers.

    Raises:
        AttributeError: an attribute is named ``on_…`` after an event, or after another library's callback.
    """
    if _has_none_assigned(handler):
        return
    ensure_whole("lochws.dispatch.foreign")
    from .foreign import assignable, nearest_events  # noqa: PLC0415  `import lochws` does not pay for it

    for attribute in assignable():
        value = getattr(handler, attribute, None)
        if value is None and attribute not in _METHODS:
            continue
        inherited = getattr(type(handler), attribute, None)
        if _is_own(type(handler), attribute):
            continue
        if getattr(value, "__func__", value) is not inherited and (attribute in _METHODS or callable(value)):
            name = attribute[2:].lstrip("_").lower()
            event = name if name in NAMES else nearest_events(name, 0.0)[0][0]
            raise AttributeError(
                f"{attribute} was assigned but would never be called: override on_{event} in a subclass, or "
                f"use app.on({event!r})"
            )


def _has_none_assigned(handler: object) -> bool:
    """Return whether no handler can have been assigned to an object as an attribute: a fast check.

    This does not access the object's ``__dict__``, for the reason in `lochws.dispatch.hiding`. It looks at
    the values instead, which the garbage collector lists without their names.
    """
    cls = type(handler)
    checked = _checked(cls)
    if checked.is_plain is None:
        checked.is_plain = _is_plain(cls)
    if not checked.is_plain:
        return False
    try:
        if not all(map(is_, [method.__func__ for method in _take_handlers(handler)], _take_handlers(cls))):
            return False
    except AttributeError:  # one of them is not a method
        return False
    for value in gc.get_referents(handler):
        if callable(value) and value is not cls:
            return False
        # Perhaps its `__dict__`. Another one may have methods and keys of the user's, which are not called.
        if issubclass(type(value), dict) and any(map(partial(dict.__contains__, value), _assignable())):
            return False
    return True


def _is_plain(cls: type) -> bool:
    if any(vars(base).keys() & {"__getattr__", "__getattribute__"} for base in cls.__mro__[:-1]):
        return False
    found = (vars(base).get(attribute) for base in cls.__mro__ for attribute in _assignable())
    return all(each is None or type(each) is FunctionType for each in found)


@cache
def _assignable() -> frozenset[str]:
    ensure_whole("lochws.dispatch.foreign")
    from .foreign import assignable  # noqa: PLC0415  `import lochws` does not pay for it

    return frozenset(assignable())


def methods_of(handler: object) -> list[tuple[Mark, HandlerFunction]]:
    """Return an object's handler methods: those named after events, then the marked ones in definition order.

    Raises:
        TypeError: a method is misspelt, or cannot be called with one argument.
    """
    marked = _checked(type(handler)).marked
    found: list[tuple[Mark, HandlerFunction]] = []
    methods: tuple[Any, ...]
    try:
        methods = _take_handlers(handler)
    except AttributeError:  # it has only some of them
        methods = tuple(getattr(handler, attribute, None) for _, attribute, _ in _INHERITED)
    for (name, attribute, inherited), method in zip(_INHERITED, methods, strict=True):
        if method is None or getattr(method, "__func__", method) is inherited:
            continue
        if not _is_own(type(handler), attribute):
            check_callable(method, f"{type(handler).__name__}.{attribute}")
            found.append((name, method))
    for attribute, wanted in marked.items():
        method = getattr(handler, attribute)
        check_callable(method)
        # A mark that repeats the method's name must not make it run twice.
        found.extend((name, method) for name in wanted if (name, method) not in found)
    return found


def check_assigned(handler: object) -> None:
    """Refuse an object, such as a SimpleNamespace, with a function in an attribute that looks like a handler.

    Raises:
        TypeError: it has one, which would never be called.
    """
    for attribute, value in getattr(handler, "__dict__", {}).items():
        is_own = hasattr(value, _NO_HANDLER)
        if attribute.startswith("on_") and attribute not in _METHODS and callable(value) and not is_own:
            _check_spelling(attribute[3:], type(handler), attribute)


def _checked(cls: type) -> _Checked:
    """Check a class, and return what was found.

    The result is cached until the class changes, which makes creating an app five times as fast.
    """
    size = sum(map(len, map(vars, cls.__mro__)))
    known = _classes.get(cls)
    if known is None or known.size != size:
        check_class(cls)
        marked: dict[str, tuple[Mark, ...]] = {}
        for base in reversed(cls.__mro__):
            for attribute, value in vars(base).items():
                wanted = getattr(value, MARK, None)
                if wanted:
                    marked[attribute] = wanted
        known = _classes[cls] = _Checked(size, marked)
    return known


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
    _refuse_function(names, caller)
    return tuple(dict.fromkeys(_event_name(name, caller) for name in names))


def _refuse_function(names: tuple[object, ...], caller: str) -> None:
    """Refuse a function passed after the events, where some libraries expect it."""
    *wanted, last = names
    if wanted and callable(last) and not isinstance(last, type):
        shown = ", ".join(repr(_event_name(name, caller)) for name in wanted)
        call = f"{caller.removeprefix('@')}({shown})"
        function = getattr(last, "__name__", "function")
        raise TypeError(
            f"{caller} takes only events: write {call}({function}), or decorate the function with @{call}"
        )


def _event_name(name: object, caller: str) -> Name:
    if isinstance(name, type) and issubclass(name, events.Event):
        if name is events.Event:
            return ANY
        if name.__module__ != events.__name__:
            ours = next(each for each in name.__mro__ if each.__module__ == events.__name__)
            raise TypeError(
                f"lochws never creates a {name.__qualname__} event: write {caller}(events.{ours.__name__})"
            )
        name = name.name
    if not isinstance(name, str):
        if isinstance(name, (FunctionType, MethodType)):  # a decorator without its parentheses
            called = name.__name__.removeprefix("on_")
            example = called if called in NAMES else "text"
            raise TypeError(f"write {caller}({example!r}): the event goes in parentheses")
        if isinstance(name, (list, tuple, set, frozenset)) and name:
            shown = ", ".join(map(repr, name))
            raise TypeError(f"write {caller}({shown}): events are separate arguments, got {name!r}")
        if isinstance(name, events.Event):
            raise TypeError(f"write {caller}({name.name!r}): expected the name or the class, got {name!r}")
        raise TypeError(f"expected an event name such as 'text' or a class in lochws.events, got {name!r}")
    if name not in NAMES:
        wanted = name.removeprefix("on_")
        hint = _suggestion(wanted, 0.5, "{!r}", "") or f"expected one of {', '.join(NAMES)}"
        raise ValueError(f"there is no event {name!r}: {hint}")
    return cast(Name, name)


def _check_spelling(name: str, cls: type, attribute: str) -> None:
    # A class may have other methods whose names begin with on_: only near misses are refused.
    hint = _suggestion(name, 0.8, "on_{}", "on_")
    if hint and not _is_own(cls, attribute) and not _has_mark(cls, attribute, MARK):
        raise TypeError(
            f"{cls.__name__}.{attribute} would never be called: there is no event {name!r}; {hint} "
            "For a method of your own, use @lochws.not_a_handler"
        )


def _check_case(cls: type, attribute: str) -> None:
    """Refuse a method such as ``onMessage``."""
    ensure_whole("lochws.dispatch.foreign")
    from .foreign import written_together  # noqa: PLC0415  for mistakes alone

    name = written_together(attribute)
    if name is not None and not _is_own(cls, attribute) and not _has_mark(cls, attribute, MARK):
        hint = _suggestion(name, 0.8, "on_{}", "on_") or f"did you mean on_{name}?"
        raise TypeError(
            f"{cls.__name__}.{attribute} would never be called: {hint} "
            "For a method of your own, use @lochws.not_a_handler"
        )


def _check_order(cls: type) -> None:
    """Refuse a base class whose handlers are hidden by those of `Handler`, which do nothing."""
    for base in cls.__mro__[cls.__mro__.index(Handler) + 1:]:
        for attribute in _METHODS.intersection(vars(base)):
            if getattr(cls, attribute) is getattr(Handler, attribute):
                ours = next(each for each in cls.__mro__ if each.__module__.partition(".")[0] == "lochws")
                raise TypeError(
                    f"{base.__name__}.{attribute} would never be called, because {ours.__name__}.{attribute} "
                    f"comes first: write class {cls.__name__}({base.__name__}, {ours.__name__})"
                )


def _is_own(cls: type, attribute: str) -> bool:
    """Return whether a method, or one that it overrides, is marked with `not_a_handler`."""
    return _has_mark(cls, attribute, _NO_HANDLER)


def _has_mark(cls: type, attribute: str, mark: str) -> bool:
    for base in cls.__mro__:
        each = base.__dict__.get(attribute)
        if each is not None and hasattr(getattr(each, "__func__", each), mark):
            return True
    return False


def _suggestion(name: str, cutoff: float, form: str, prefix: str) -> str:
    """Say which event was probably meant; return "" if the name resembles none.

    Args:
        name: the name, without ``on_``.
        cutoff: how similar a name must be, from 0 to 1.
        form: the format of a name.
        prefix: what stands before the names of events in remarks.
    """
    ensure_whole("lochws.dispatch.foreign")
    from .foreign import nearest_events  # noqa: PLC0415  for mistakes alone

    events_meant, remark = nearest_events(name, cutoff)
    if not events_meant:
        return ""
    remark = f" ({remark.format(prefix=prefix)})" if remark else ""
    return f"did you mean {' or '.join(map(form.format, events_meant))}?{remark}"
