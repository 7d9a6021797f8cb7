"""Routes: handlers of the messages whose decoded fields match; a message is decoded once for all of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from json import JSONDecodeError
from types import FrameType, FunctionType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from .. import events
from ..base.callables import check_takes
from ..base.records import record
from .callables import MARK

if TYPE_CHECKING:
    from .typed import RoutedMethod
else:
    RoutedMethod = TypeVar("RoutedMethod", bound=Callable[..., object])

_Handler: TypeAlias = Callable[[Any], object]

_MISSING = object()
#: Types whose values are equal only to values with the same hash, so that a dict finds what `==` would.
_PLAIN = frozenset({str, int, float, bool, type(None), bytes})
#: Types of decoded messages that have no fields.
NO_FIELDS = (str, int, float, bytes, list, tuple, type(None))


class Match:
    """A description of decoded messages: their class, fields that they have, and a predicate; all must hold.

    Attributes:
        kind: the class, or None.
        fields: the fields, by name; a mapping describes the fields of a nested object.
        predicate: a function of the decoded message, or None.
    """

    __slots__ = ("fields", "kind", "predicate")

    def __init__(self, wanted: object, fields: Mapping[Any, Any]) -> None:
        self.kind: type | None = None
        self.predicate: Callable[[Any], object] | None = None
        if isinstance(wanted, Mapping):
            if both := wanted.keys() & fields.keys():
                raise ValueError(f"route: the field {next(iter(both))!r} is given twice")
            fields = {**wanted, **fields}
        elif isinstance(wanted, type):
            if issubclass(wanted, events.Event):
                raise TypeError(f"route: a message is not decoded as an event: write on({wanted.name!r})")
            self.kind = wanted
        elif callable(wanted):
            check_takes("route: the predicate", wanted, 1)
            self.predicate = wanted
        elif wanted is not None:
            raise TypeError(
                "route: expected fields such as type='ticker', a mapping of them, a class, or a function of "
                f"the decoded message, got {wanted!r}"
            )
        if (wanted is None or isinstance(wanted, Mapping)) and not fields:
            raise TypeError("route() needs a field, a class or a predicate: write route(type='ticker')")
        self.fields: dict[Any, Any] = dict(fields)

    def __repr__(self) -> str:
        named = all(isinstance(name, str) and name.isidentifier() for name in self.fields)
        shown = [repr(self.fields)] if self.fields and not named else []
        shown += [getattr(each, "__qualname__", repr(each)) for each in (self.kind, self.predicate) if each]
        shown += [f"{name}={value!r}" for name, value in self.fields.items() if named]
        return f"route({', '.join(shown)})"

    def fits(self, message: object) -> bool:
        """Return whether a decoded message is one of these. What the predicate raises propagates."""
        if self.kind is not None and not isinstance(message, self.kind):
            return False
        if self.fields and not has_fields(message, self.fields):
            return False
        return self.predicate is None or bool(self.predicate(message))


def has_fields(message: object, wanted: Mapping[Any, Any]) -> bool:
    """Return whether a decoded message has at least these fields: items of a mapping, otherwise attributes.

    Args:
        message: the message.
        wanted: the fields; where the value is a mapping, it describes a nested object in the same way.
    """
    if type(message) is dict or isinstance(message, Mapping):
        return all(name in message and is_like(message[name], value) for name, value in wanted.items())
    if isinstance(message, NO_FIELDS):
        return False
    return all(
        isinstance(name, str) and is_like(getattr(message, name, _MISSING), value)
        for name, value in wanted.items()
    )


def is_like(found: object, wanted: object) -> bool:
    """Return whether a value is equal to another, or an object with the fields in a mapping."""
    return has_fields(found, wanted) if isinstance(wanted, Mapping) else bool(found == wanted)


def check_not_bare(match: object, caller: FrameType, decorator: str) -> None:
    """Refuse a function that ``@route`` without parentheses decorates, which looks like a predicate.

    Such a function is recognized by the call: it is on one of the function's lines, and before it has a name.

    Args:
        match: the argument of the decorator.
        caller: the frame that called the decorator.
        decorator: the name of the decorator, for the error.

    Raises:
        TypeError: the argument is the decorated function.
    """
    if type(match) is not FunctionType or match.__name__ == "<lambda>":
        return
    code, name = match.__code__, match.__name__
    if code.co_filename != caller.f_code.co_filename or caller.f_locals.get(name) is match:
        return
    first = code.co_firstlineno
    # Python 3.10 calls a decorator on the line of the def, which may be all that the body has.
    last = max(first + 1, *(line or 0 for _, _, line in code.co_lines()))
    if first <= caller.f_lineno <= last and caller.f_globals.get(name) is not match:
        raise TypeError(
            f"@{decorator} without parentheses takes {name} for a predicate: write "
            f"@{decorator}(type='ticker')"
        )


@record(frozen=True)
class Route:
    """A handler of the messages that match."""

    match: Match
    handler: _Handler


_Candidate: TypeAlias = tuple[Match, tuple[_Handler, ...]]


class Router:
    """The handler that decodes a message and calls the handlers whose routes match. For the reader thread.

    Routes that differ in the value of the same field are not tried one after the other: the value is looked
    up. So the cost of a message hardly depends on their number.

    Args:
        routes: the routes, in the order of registration.
        loads: the function that decodes messages; errors name it.
        call: calls a handler with an event, and reports its exceptions.
        failed: reports an exception: takes the function that raised it, the event, and the exception.
    """

    __slots__ = ("_all", "_by_value", "_call", "_failed", "_field", "_loads", "_others")

    def __init__(
        self,
        routes: Sequence[Route],
        loads: Callable[[Any], object],
        call: Callable[[tuple[_Handler, ...], object, events.Event], None],
        failed: Callable[[Callable[..., object], events.Event, BaseException], None],
    ) -> None:
        self._loads = loads
        self._call = call
        self._failed = failed
        self._all: list[_Candidate] = [(route.match, (route.handler,)) for route in routes]
        self._field = _most_common_field(routes)
        by_value: dict[object, list[int]] = {}
        others: list[int] = []
        for index, route in enumerate(routes):
            value = route.match.fields.get(self._field, _MISSING)
            (by_value.setdefault(value, []) if type(value) in _PLAIN else others).append(index)
        #: The routes to try, in order, by the value of the field; those for any other value.
        self._by_value = {
            value: [self._all[index] for index in sorted([*indices, *others])]
            for value, indices in by_value.items()
        }
        self._others = [self._all[index] for index in others]

    def __call__(self, event: Any) -> None:
        try:
            message = event.json
        except JSONDecodeError:
            return  # not JSON: a message for other handlers
        except BaseException as error:  # noqa: BLE001  SystemExit too must not end the reader
            self._failed(self._loads, event, error)
            return
        for match, handlers in self._candidates(message):
            try:
                fits = match.fits(message)
            except BaseException as error:  # noqa: BLE001  SystemExit too must not end the reader
                self._failed(match.predicate or match.__repr__, event, error)
                continue
            if fits:
                self._call(handlers, event, event)

    def _candidates(self, message: object) -> list[_Candidate]:
        if type(message) is not dict:
            return self._all
        value = message.get(self._field, _MISSING)
        if value is _MISSING:
            return self._others
        return self._by_value.get(value, self._others) if type(value) in _PLAIN else self._all


def _most_common_field(routes: Sequence[Route]) -> object:
    """Return the name of the field that most routes want a plain value of."""
    count = Counter(
        name for route in routes for name, value in route.match.fields.items() if type(value) in _PLAIN
    )
    return count.most_common(1)[0][0] if count else None


def route(
    match: Mapping[Any, Any] | Callable[[Any], object] | type[object] | None = None, /, **fields: Any
) -> Callable[[RoutedMethod], RoutedMethod]:
    """Mark a method of a class as a handler of the messages whose decoded fields match: a decorator.

    ``@lochws.route(type="ticker")`` in a class does what `WebSocketApp.route` does for a function. The method
    may have any name, and several marks. The decorator returns it unchanged.

    Args:
        match: a predicate, a class, or a mapping of fields; see `WebSocketApp.route`.
        fields: the fields that the decoded message has.

    Raises:
        TypeError, ValueError: the arguments do not describe messages, or the decorated object is not a
            method.
    """
    check_not_bare(match, sys._getframe(1), "lochws.route")
    wanted = Match(match, fields)

    def mark(function: RoutedMethod) -> RoutedMethod:
        try:
            setattr(function, MARK, (*getattr(function, MARK, ()), wanted))
        except AttributeError:  # a number, a built-in function or a property, for example
            raise TypeError(f"@route: expected a method, got {function!r}") from None
        return function

    return mark
