"""Which handler gets which event, in which order."""

from __future__ import annotations

import gc
import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from .. import events, forks
from .base import Handler
from .callables import MARK, check_callable

logger = logging.getLogger("lochws")

HandlerFunction: TypeAlias = Callable[[Any], object]
Function = TypeVar("Function", bound=Callable[..., object])
EventName: TypeAlias = str | type[events.Event]
#: Gets what a handler is registered for and the handler, and returns what is to be called in its place.
Wrapper: TypeAlias = Callable[[str, HandlerFunction], HandlerFunction]

#: What a handler is registered for, what is called, and what it was registered as.
_Entry: TypeAlias = tuple[str, HandlerFunction, object]
_Entries: TypeAlias = tuple[_Entry, ...]
_Setup: TypeAlias = tuple[_Entries, tuple[Wrapper, ...]]

_ANY = "event"
_ERROR = "error"
_BATCH = "batch"
_SENT = "sent"

#: Event classes by name. UnknownMessage is never made.
CLASSES: Final = MappingProxyType({
    kind.name: kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and hasattr(kind, "name")
    and kind is not events.UnknownMessage
})
_MESSAGES = frozenset({events.Text, events.Binary})
NAMES: Final = (*CLASSES, _ANY, _ERROR, _BATCH, _SENT)
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


class Registry:
    """The handlers of one app.

    Handlers may be added and removed by any thread at any time. An event goes to those that were
    registered when its turn came: first to `on_event` of all, then to its own handlers, each group in
    the order of registration. `dispatch` is for one thread at a time: the reader.

    Args:
        failed: called on the reader's thread after a handler raised and `on_error` has run.
        unhandled: gets the final event of an attempt if nobody else does: a failure must show somewhere.

    Attributes:
        taps: the handlers of what leaves, for the send queue to call. Changed in place.
    """

    _lock: ClassVar = threading.Lock()  # one for all: it is held for moments, where handlers are registered

    def __init__(self, failed: Callable[[BaseException], object], unhandled: HandlerFunction) -> None:
        self._failed = failed
        self._unhandled = unhandled
        self._setup: _Setup = (), ()  # entries and wrappers; replaced whole, under _lock
        # Replaced whole; dispatch reads it without the lock. Events without handlers of their own are absent.
        self._table: dict[type[events.Event], tuple[HandlerFunction, ...]] = {}
        self._any: tuple[HandlerFunction, ...] = ()
        self._errors: tuple[HandlerFunction, ...] = ()
        self._batch: tuple[HandlerFunction, ...] = ()
        self.taps: list[HandlerFunction] = []

    @classmethod
    def forget(cls) -> None:
        """In the child of a fork: handlers may be registered there too."""
        cls._lock = threading.Lock()

    def add_function(self, function: Callable[..., object], names: Iterable[str]) -> None:
        """Register a function for one or more events, named as by `event_names`.

        Raises:
            TypeError: it cannot be called with one argument, or is a coroutine or generator function.
        """
        check_callable(function)
        self._add([(name, function, function) for name in names])

    def add_object(self, handler: object) -> None:
        """Register every ``on_…`` method and every method marked with `on` of an object.

        Raises:
            TypeError: it has none, one of them cannot be called with one argument, or one is misspelt.
        """
        entries = [(name, method, handler) for name, method in methods_of(handler)]
        if not entries:
            raise TypeError(f"{handler!r} handles nothing: it has no method on_<event>, such as on_text")
        self._add(entries)

    def add_methods(self, handler: object) -> None:
        """Register an object as `add_object` does; one without methods is fine."""
        self._add([(name, method, handler) for name, method in methods_of(handler)])

    def remove(self, handler: object) -> None:
        """Remove a function or an object, from all events it was registered for.

        Raises:
            ValueError: it is not registered.
        """
        def without(entries: _Entries, wrappers: tuple[Wrapper, ...]) -> _Setup:
            # By identity for objects; bound methods are equal, not identical.
            kept = tuple(
                entry for entry in entries
                if not (entry[2] is handler or (inspect.isroutine(handler) and entry[2] == handler))
            )
            if len(kept) == len(entries):
                raise ValueError(f"{handler!r} is not registered")
            return kept, wrappers

        self._change(without)

    def wrap(self, wrapper: Wrapper) -> None:
        """Have every handler called through what the wrapper makes of it.

        Raises:
            TypeError: the wrapper, or what it makes of a handler, cannot be called; nothing has changed then.
        """
        if not callable(wrapper):
            raise TypeError(f"{wrapper!r} is no wrapper of handlers: it cannot be called")
        self._change(lambda entries, wrappers: (entries, (*wrappers, wrapper)))

    def call(self, function: Callable[[], object]) -> None:
        """Call a function as handlers are called: what it raises is treated likewise. The reader's thread."""
        try:
            function()
        except BaseException as error:  # noqa: BLE001  SystemExit too must not end the reader
            self._on_failure(function, None, error)

    def sees(self, kind: type[events.Event]) -> bool:
        """Whether an event of this class would be given to anyone now. Any thread."""
        return bool(self._table.get(kind, self._any))

    def has(self, names: Iterable[str]) -> bool:
        """Whether anything is registered under one of these names. Any thread."""
        return any(name in names for name, _, _ in self._setup[0])

    def dispatch(self, event: events.Event) -> None:
        """Call the handlers of an event. No exception of theirs gets out."""
        self._dispatch_each((event,))

    def dispatch_all(self, received: Sequence[events.Event]) -> None:
        """Call the handlers of each event in turn. No exception of theirs gets out.

        Handlers of batches get the messages that stand next to each other as one list, and nobody else
        does but `on_event`.
        """
        if not self._batch:
            self._dispatch_each(received)
        elif type(received) is list and _MESSAGES.issuperset(map(type, received)):
            self._dispatch_batch(list(received))
        else:
            for is_message, run in groupby(received, lambda event: type(event) in _MESSAGES):
                if is_message:
                    self._dispatch_batch(list(run))
                else:
                    self._dispatch_each(tuple(run))

    def _dispatch_batch(self, messages: list[events.Event]) -> None:
        if self._any:
            for message in messages:
                self._call(self._any, message, message)
        self._call(self._batch, messages, messages[0])

    def _call(self, handlers: tuple[HandlerFunction, ...], argument: object, event: events.Event) -> None:
        for handler in handlers:
            try:
                handler(argument)
            except BaseException as error:  # noqa: BLE001  likewise
                self._on_failure(handler, event, error)

    def _dispatch_each(self, received: Sequence[events.Event]) -> None:
        # Most events are of the same kind as the one before, and most kinds have one handler.
        kind = table = only = None
        handlers: tuple[HandlerFunction, ...] = ()
        for event in received:
            if type(event) is not kind or table is not self._table:
                kind, table = type(event), self._table
                handlers = table.get(kind, self._any)
                only = handlers[0] if len(handlers) == 1 else None
            if only is None:
                self._call(handlers, event, event)
                continue
            try:
                only(event)
            except BaseException as error:  # noqa: BLE001  SystemExit too must not end the reader
                self._on_failure(only, event, error)

    def _on_failure(
        self, handler: Callable[..., object], event: events.Event | None, error: BaseException
    ) -> None:
        where = f"{getattr(handler, '__qualname__', handler)} failed"
        logger.error("handler %s", where if event is None else f"{where} on {event!r}", exc_info=error)
        for on_error in self._errors:
            try:
                on_error(error)
            except BaseException:
                logger.exception("on_error handler %s failed", getattr(on_error, "__qualname__", on_error))
        self._failed(error)

    def _add(self, added: list[_Entry]) -> None:
        self._change(lambda entries, wrappers: ((*entries, *added), wrappers))

    def _change(self, change: Callable[[_Entries, tuple[Wrapper, ...]], _Setup]) -> None:
        """Bring a change about, again if another thread was faster: wrappers are called without the lock."""
        while True:
            before = self._setup
            setup = change(*before)
            by_name = _wrapped(*setup)
            with self._lock:
                if self._setup is before:
                    self._setup = setup
                    self._rebuild(by_name)
                    return

    def _rebuild(self, by_name: dict[str, tuple[HandlerFunction, ...]]) -> None:
        self._errors = by_name.pop(_ERROR, ())
        self._batch = by_name.pop(_BATCH, ())
        self.taps[:] = by_name.pop(_SENT, ())
        self._any = by_name.pop(_ANY, ())
        table = {CLASSES[name]: (*self._any, *functions) for name, functions in by_name.items()}
        if not self._any:
            for kind in (events.ConnectFail, events.Disconnected):
                table.setdefault(kind, (self._unhandled,))
        self._table = table


forks.make_known(Registry)


def _wrapped(entries: _Entries, wrappers: tuple[Wrapper, ...]) -> dict[str, tuple[HandlerFunction, ...]]:
    """What is to be called for each name."""
    by_name: dict[str, tuple[HandlerFunction, ...]] = {}
    for name, function, _ in entries:
        called = function
        for wrapper in wrappers:
            called = wrapper(name, called)
            if not callable(called):
                raise TypeError(f"{wrapper!r} made {called!r} of a handler, which cannot be called")
        by_name[name] = (*by_name.get(name, ()), called)
    return by_name


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
            return _ANY
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
