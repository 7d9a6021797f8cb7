"""Which handler gets which event, in which order."""

from __future__ import annotations

import inspect
import logging
import operator
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import ClassVar, TypeAlias

from .. import events
from ..system import forks
from ..system.rate_limit import RateLimit
from ..system.report import report, safe_name
from .callables import check_callable
from .naming import ANY, BATCH, CLASSES, ERROR, SENT, HandlerFunction, methods_of

#: Gets what a handler is registered for and the handler, and returns what is to be called in its place.
Wrapper: TypeAlias = Callable[[str, HandlerFunction], HandlerFunction]

#: What a handler is registered for, what is called, and what it was registered as.
_Entry: TypeAlias = tuple[str, HandlerFunction, object]
_Entries: TypeAlias = tuple[_Entry, ...]
_Setup: TypeAlias = tuple[_Entries, tuple[Wrapper, ...]]

#: Handlers whose failures are counted for the limit of reports; beyond that counting begins anew.
MAX_LIMITS = 256

_MESSAGES = frozenset({events.Text, events.Binary})


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
        self._limits: dict[str, RateLimit] = {}  # by the handler's name; the reader's

    @classmethod
    def reset_after_fork(cls) -> None:
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

    def unwrap(self, wrapper: Wrapper) -> None:
        """Have handlers no longer called through a wrapper: the last that is this one, or else equals it.

        Raises:
            ValueError: they are not.
        """
        def without(entries: _Entries, wrappers: tuple[Wrapper, ...]) -> _Setup:
            for is_meant in (operator.is_, operator.eq):  # methods are equal, not identical
                for index in reversed(range(len(wrappers))):
                    if is_meant(wrappers[index], wrapper):
                        return entries, (*wrappers[:index], *wrappers[index + 1:])
            raise ValueError(f"{wrapper!r} wraps no handlers")

        self._change(without)

    def call(self, function: Callable[[], object]) -> None:
        """Call a function as handlers are called: what it raises is treated likewise. The reader's thread."""
        try:
            function()
        except BaseException as error:  # noqa: BLE001  SystemExit too must not end the reader
            self._on_failure(function, None, error)

    def has_handler_for(self, kind: type[events.Event]) -> bool:
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
        name = safe_name(handler)
        if event is None:
            report(logging.ERROR, "handler %s failed", name, error=error, limit=self._limit_for(name))
        else:
            limit = self._limit_for(name)
            report(logging.ERROR, "handler %s failed on %r", name, event, error=error, limit=limit)
        for on_error in self._errors:
            try:
                on_error(error)
            except BaseException as another:  # noqa: BLE001  it is reported
                name = safe_name(on_error)
                limit = self._limit_for(name)
                report(logging.ERROR, "on_error handler %s failed", name, error=another, limit=limit)
        try:
            self._failed(error)
        except Exception as unexpected:  # noqa: BLE001  it is reported
            report(logging.ERROR, "unexpected error after a handler failed", error=unexpected)

    def _limit_for(self, name: str) -> RateLimit:
        """Return what limits the reports about one handler. The reader's thread."""
        limits = self._limits
        if name not in limits and len(limits) >= MAX_LIMITS:
            limits.clear()
        return limits.setdefault(name, RateLimit())

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
        self._errors = by_name.pop(ERROR, ())
        self._batch = by_name.pop(BATCH, ())
        self.taps[:] = by_name.pop(SENT, ())
        self._any = by_name.pop(ANY, ())
        table = {CLASSES[name]: (*self._any, *functions) for name, functions in by_name.items()}
        if not self._any:
            for kind in (events.ConnectFail, events.Disconnected):
                table.setdefault(kind, (self._unhandled,))
        self._table = table


forks.register(Registry)


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
