"""Registry: the handlers of an app, and the order in which they receive events."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeAlias, cast

from .. import events
from ..base.records import record
from ..codec import JSON, Codec
from ..system import forks
from ..system.compiled import choose
from ..system.control import control_lock
from ..system.rate_limit import RateLimit
from ..system.report import logger, report, safe_name
from ..system.syscalls import twins
from ..system.usercode import marked, named_like
from .callables import ROUTINES, check_callable, not_run
from .naming import ANY, BATCH, CLASSES, ERROR, SENT, HandlerFunction, Mark, check_assigned, methods_of
from .routes import Match, Route, Router

#: A function of a name and the handler registered for it; returns the function to call instead.
Wrapper: TypeAlias = Callable[[str, HandlerFunction], HandlerFunction]

_Functions: TypeAlias = tuple[HandlerFunction, ...]
#: The name that a handler is registered under, the function or the route, and what the user registered.
_Entry: TypeAlias = tuple[str, HandlerFunction | Route, object]
_Entries: TypeAlias = tuple[_Entry, ...]
_Wrappers: TypeAlias = tuple[Wrapper, ...]

#: The maximum number of handlers with a rate limit for reports; when it is exceeded, all limits are reset.
MAX_LIMITS = 256

#: The attribute of a handler's class that is True if its own lines replace the default ones.
REPLACES_LINES = "replaces_default_lines"

_MESSAGES = frozenset({events.Text, events._EncodedText, events.Binary})
#: The name under which intakes are registered; users cannot register anything under it.
_MAIL = "mail"
_ROOT = logging.root
_NOBODY: frozenset[str] = frozenset()  # Python makes a new one each time
_NOTHING: Iterator[events.Event] = iter(())


class Lines(Protocol):
    """The default log lines of an app, as the registry sees them. Neither method raises."""

    def note(self, event: events.Event) -> None:
        """Log the line of an event that belongs to one of the agreed kinds. On the reader's thread."""

    def debug(self, received: Sequence[events.Event]) -> None:
        """Log a line at level DEBUG for each event. On the reader's thread."""


class Intake(Protocol):
    """The entrance of a mailbox, as the registry sees it.

    Attributes:
        kinds: the classes of the events that it wants.
        key: a function of the user's that it calls with each event, or None.
    """

    kinds: frozenset[type[events.Event]]
    key: HandlerFunction | None

    def take(self, received: Sequence[events.Event]) -> None:
        """Take the wanted ones of some events, in order, and wait for room if necessary."""


@record(frozen=True, slots=True)
class _Setup:
    """All handlers at one moment. Immutable, and replaced as a whole.

    Attributes:
        entries, wrappers: what was registered, in order.
        table: the functions to call for each event that has handlers of its own.
        every: the functions to call for all other events.
        errors, batch, sent: the functions for ``"error"``, ``"batch"`` and ``"sent"``.
        router: the function that calls the handlers of routes, or None. It is in the table too.
        note, debug: the functions that log the default lines, or None if a handler replaces them.
        mail: the intakes.
    """

    entries: _Entries = ()
    wrappers: _Wrappers = ()
    table: Mapping[type[events.Event], _Functions] = MappingProxyType({})
    every: _Functions = ()
    errors: _Functions = ()
    batch: _Functions = ()
    sent: _Functions = ()
    router: Router | None = None
    note: HandlerFunction | None = None
    debug: Callable[[Sequence[events.Event]], object] | None = None
    mail: tuple[Intake, ...] = ()


_EMPTY = _Setup()


class Registry:
    """The handlers of one app.

    Any thread, handler or signal handler may add and remove handlers at any time. An event is passed to the
    handlers that are registered when it is delivered: first to every `on_event`, then to the handlers of its
    own kind, then to those of routes, each group in the order of registration; mailboxes come last.
    `dispatch_all` is for one thread at a time: the reader.

    Args:
        failed: called on the reader thread after a handler raised and `on_error` has run.
        codec: decodes the messages for routes.

    Attributes:
        taps: the handlers of ``"sent"``, for the send queue to call. The list is changed in place. While they
            run, this registry is their owner in `lochws.system.usercode`.
        coroutines: the coroutine handlers, by event loop: see `lochws.aio.coroutines`. Replaced whole, under
            the control lock.
    """

    __slots__ = (
        "_codec", "_failed", "_limits", "_lines", "_misled", "_new", "_pending", "_setup", "coroutines",
        "taps",
    )

    # One lock for all registries: it is held for moments. Reentrant, because a signal handler may register
    # while the thread that it interrupts is doing so.
    _lock: ClassVar = control_lock()

    def __init__(self, failed: Callable[[BaseException], object], codec: Codec = JSON) -> None:
        self._failed = failed
        self._codec = codec
        self._lines: tuple[Lines, frozenset[type[events.Event]]] | None = None  # set before any handler
        self._setup = _EMPTY  # written under _lock, read without it
        self.taps: list[HandlerFunction] = []
        self.coroutines: tuple[tuple[object, Any], ...] = ()
        self._limits: dict[str, RateLimit] = {}  # by the handler's name; the reader's
        self._misled = _NOBODY  # handlers whose coroutines have been reported
        self._pending = _NOTHING  # the events that are being dispatched; set by the reader
        self._new: dict[Intake, int] = {}  # intakes that were added meanwhile, and how many events they get

    @classmethod
    def reset_after_fork(cls) -> None:
        """Make the registry usable in the child of a fork."""
        cls._lock = control_lock()

    def set_lines(self, lines: Lines, kinds: frozenset[type[events.Event]]) -> None:
        """Have events logged before any handler gets them, unless a handler replaces these lines.

        Args:
            lines: the lines.
            kinds: the classes of events that are noted one by one. They are rare; messages are not among
                them, so that messages cost nothing extra.
        """
        self._lines = lines, kinds
        self._change(lambda entries, wrappers: (entries, wrappers))

    @property
    def has_default_lines(self) -> bool:
        """True unless a handler replaces the default log lines. Any thread."""
        return self._setup.note is not None

    def add_function(self, function: Callable[..., object], names: Iterable[str]) -> None:
        """Register a function for one or more events, by their names.

        Raises:
            TypeError: the function cannot be called with one argument, or is a coroutine or generator
                function.
        """
        check_callable(function)
        self._add([(name, function, function) for name in names])

    def add_route(self, function: Callable[..., object], match: Match) -> None:
        """Register a function for the messages that match.

        Raises:
            TypeError: the function cannot be called with one argument, or is a coroutine or generator
                function.
        """
        check_callable(function)
        self._add([self._entry(match, function, function)])

    def add_object(self, handler: object) -> None:
        """Register every ``on_…`` method and every method marked with `on` of an object.

        Raises:
            TypeError: the object has no such method, or one of them is misspelt or cannot be called with one
                argument; or it is a class or a function.
        """
        if isinstance(handler, type):
            name = handler.__name__
            raise TypeError(f"add_handler({name}) got a class, not an object: write add_handler({name}())")
        entries = [self._entry(mark, method, handler) for mark, method in methods_of(handler)]
        if not entries:
            if isinstance(handler, ROUTINES):
                raise TypeError(
                    f"add_handler({safe_name(handler)}): expected an object with methods on_<event>; "
                    "register a function with @app.on('text')"
                )
            check_assigned(handler)
            raise TypeError(f"{handler!r} has no handlers: expected methods on_<event>, such as on_text")
        self._add(entries)

    def add_methods(self, handler: object) -> None:
        """Register every ``on_…`` method and every marked method of an object, which may have none.

        Raises:
            TypeError: a method is misspelt, or cannot be called with one argument.
        """
        self._add([self._entry(mark, method, handler) for mark, method in methods_of(handler)])

    def add_intake(self, intake: Intake) -> None:
        """Register an intake, which gets the events that are dispatched from now on."""
        self._new[intake] = operator.length_hint(self._pending)
        self._add([(_MAIL, intake.take, intake)])

    def remove(self, handler: object) -> None:
        """Remove a function or object from all events that it is registered for.

        Raises:
            ValueError: the handler is not registered.
        """
        def without(entries: _Entries, wrappers: _Wrappers) -> tuple[_Entries, _Wrappers]:
            # Objects are compared by identity; bound methods by equality, since they are never identical.
            kept = tuple(
                entry for entry in entries
                if not (entry[2] is handler or (isinstance(handler, ROUTINES) and entry[2] == handler))
            )
            if len(kept) == len(entries):
                raise ValueError(f"{handler!r} is not registered")
            return kept, wrappers

        self._change(without)

    def wrap(self, wrapper: Wrapper) -> None:
        """Call every handler through the function that the wrapper returns for it.

        Raises:
            TypeError: the wrapper, or what it returns for a handler, is not callable. In that case nothing
                changes.
        """
        if not callable(wrapper):
            raise TypeError(f"wrapper={wrapper!r}: expected a function of a name and a handler")
        self._change(lambda entries, wrappers: (entries, (*wrappers, wrapper)))

    def unwrap(self, wrapper: Wrapper) -> None:
        """Remove a wrapper: the latest identical one, or the latest equal one if none is identical.

        Raises:
            ValueError: no such wrapper is in use.
        """
        def without(entries: _Entries, wrappers: _Wrappers) -> tuple[_Entries, _Wrappers]:
            for is_meant in (operator.is_, operator.eq):  # methods are equal, not identical
                for index in reversed(range(len(wrappers))):
                    if is_meant(wrappers[index], wrapper):
                        return entries, (*wrappers[:index], *wrappers[index + 1:])
            raise ValueError(f"{wrapper!r} is not a wrapper of these handlers")

        self._change(without)

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the reader thread, and treat its exceptions like those of a handler."""
        try:
            if (result := function()) is not None:
                self._returned(function, result)
        except BaseException as error:  # noqa: BLE001  SystemExit too must not end the reader
            self._on_failure(function, None, error)

    def has_handler_for(self, kind: type[events.Event]) -> bool:
        """Return whether any handler would get an event of this class now. Any thread."""
        setup = self._setup
        return any(handler is not setup.note for handler in setup.table.get(kind, setup.every)) or (
            any(kind in intake.kinds for intake in setup.mail)
        )

    def has(self, names: Sequence[str]) -> bool:
        """Return whether anything is registered under one of these names. Any thread."""
        setup = self._setup
        if any(name in names for name, _, _ in setup.entries):
            return True
        return any(CLASSES.get(name) in intake.kinds for name in names for intake in setup.mail)

    def dispatch_all(self, received: Sequence[events.Event]) -> None:
        """Call the handlers of each event in turn, on the reader thread. Their exceptions do not propagate.

        If there are handlers of batches, consecutive messages are passed to them as one list, and otherwise
        only to `on_event`.
        """
        setup = self._setup
        # The effective level, without a call. `debug` looks again, whatever the loggers are.
        if (logger.level or _ROOT.level) <= logging.DEBUG and setup.debug is not None:
            setup.debug(received)
        before = setup.mail
        if setup.batch:
            self._dispatch_runs(received)
        else:
            # Most events are of the same kind as the previous one, and most kinds have a single handler.
            kind = only = None
            handlers: _Functions = ()
            self._pending = pending = iter(received)
            for event in pending:
                if type(event) is not kind or setup is not self._setup:
                    kind, setup = type(event), self._setup
                    handlers = setup.table.get(kind, setup.every)
                    only = handlers[0] if len(handlers) == 1 else None
                if only is None:
                    self._call(handlers, event, event)
                    continue
                try:
                    result = only(event)
                    if result is not None:  # half as expensive as `:=`, and this is done for every message
                        self._returned(only, result)
                except BaseException as error:  # noqa: BLE001  SystemExit too must not end the reader
                    self._on_failure(only, event, error)
        self._pending = _NOTHING  # without a GIL, an iterator keeps its list after the last item
        if before or self._new:
            self._fill_mailboxes(received, before)

    def _dispatch_runs(self, received: Sequence[events.Event]) -> None:
        """Pass each run of consecutive messages to the handlers of batches, and other events to their own."""
        if type(received) is list and {*map(type, received)} <= _MESSAGES:
            self._dispatch_batch(list(received))
            return
        for is_message, run in groupby(received, lambda event: type(event) in _MESSAGES):
            if is_message:
                self._dispatch_batch(list(run))
                continue
            self._pending = pending = iter(tuple(run))
            for event in pending:
                setup = self._setup
                self._call(setup.table.get(type(event), setup.every), event, event)

    def _fill_mailboxes(self, received: Sequence[events.Event], before: tuple[Intake, ...]) -> None:
        """Pass events to the intakes; to those that a handler has just added, only the later events."""
        for intake in self._setup.mail:
            left = self._new.pop(intake, None) if self._new else None
            wanted = received if left is None or intake in before else received[len(received) - left:]
            # The user's function may fail for any of the events, and the others are to be taken all the same.
            for part in (wanted,) if intake.key is None else ([event] for event in wanted):
                try:
                    intake.take(part)
                except BaseException as error:  # noqa: BLE001  SystemExit too must not end the reader
                    self._on_failure(intake.key or intake.take, part[0], error)

    def handler_failed(
        self, handler: Callable[..., object], event: events.Event, error: BaseException
    ) -> None:
        """Report the exception of a handler that ran on another thread. On the reader thread."""
        self._on_failure(handler, event, error)

    def _dispatch_batch(self, messages: list[events.Event]) -> None:
        if self._setup.every:
            for message in messages:
                self._call(self._setup.every, message, message)
        self._call(self._setup.batch, messages, messages[0])
        if (router := self._setup.router) is not None:
            for message in messages:
                if isinstance(message, self._routed):
                    router(message)

    def _call(self, handlers: _Functions, argument: object, event: events.Event) -> None:
        for handler in handlers:
            try:
                if (result := handler(argument)) is not None:
                    self._returned(handler, result)
            except BaseException as error:  # noqa: BLE001  SystemExit too must not end the reader
                self._on_failure(handler, event, error)

    def _returned(self, handler: Callable[..., object], result: object) -> None:
        """Refuse the result of a handler whose body did not run: a coroutine or a generator.

        Raises:
            TypeError: the handler returned one for the first time.
        """
        reason = not_run(result)
        name = safe_name(handler) if reason else ""
        if reason and name not in self._misled:
            known = self._misled if len(self._misled) < MAX_LIMITS else _NOBODY
            self._misled = known | {name}
            raise TypeError(f"{name} {reason}")

    def _tap(self, handler: HandlerFunction) -> HandlerFunction:
        """Return a handler of ``"sent"`` as the send queue calls it."""
        def call(sent: object) -> None:
            if (result := handler(sent)) is not None:
                self._returned(handler, result)

        return marked(self, named_like(handler, call))

    def _on_failure(
        self, handler: Callable[..., object], event: events.Event | None, error: BaseException
    ) -> None:
        name = safe_name(handler)
        if isinstance(event, events.Stream):
            event.close()  # the exception may keep it, and it would never be read
        if event is None:
            report(logging.ERROR, "handler %s failed", name, error=error, limit=self._limit_for(name))
        else:
            limit = self._limit_for(name)
            report(logging.ERROR, "handler %s failed on %r", name, event, error=error, limit=limit)
        for on_error in self._setup.errors:
            try:
                if (result := on_error(error)) is not None:
                    self._returned(on_error, result)
            except BaseException as another:  # noqa: BLE001  it is reported
                name = safe_name(on_error)
                limit = self._limit_for(name)
                report(logging.ERROR, "on_error handler %s failed", name, error=another, limit=limit)
        try:
            self._failed(error)
        except Exception as unexpected:  # noqa: BLE001  it is reported
            words = "unexpected error after a handler failed"
            report(logging.ERROR, words, error=unexpected, limit=self._limit_for(words))

    def _limit_for(self, name: str) -> RateLimit:
        """Return the rate limit for reports about one handler. On the reader thread."""
        limits = self._limits
        if name not in limits and len(limits) >= MAX_LIMITS:
            limits.clear()
        return limits.setdefault(name, RateLimit())

    @property
    def _routed(self) -> type[events.Text | events.Binary]:
        """The class of the messages that the codec decodes."""
        return events.Binary if self._codec.binary else events.Text

    def _entry(self, mark: Mark, function: HandlerFunction, owner: object) -> _Entry:
        if isinstance(mark, Match):
            return self._routed.name, Route(mark, function), owner
        return mark, function, owner

    def _add(self, added: list[_Entry]) -> None:
        self._change(lambda entries, wrappers: ((*entries, *added), wrappers))

    def _change(self, change: Callable[[_Entries, _Wrappers], tuple[_Entries, _Wrappers]]) -> None:
        """Apply a change, and retry it if another one came first. Wrappers are called without the lock."""
        done = False
        while not done:
            before = self._setup
            after = self._set_up(*change(before.entries, before.wrappers))
            with self._lock:
                # One statement, in which no signal handler and no finalizer can run and register something.
                self._setup = after if (done := self._setup is before) else self._setup
                self.taps[:] = self._setup.sent

    def _set_up(self, entries: _Entries, wrappers: _Wrappers) -> _Setup:
        by_name, routes = _wrapped(entries, wrappers)
        by_name.pop(_MAIL, None)
        mail = tuple(cast(Intake, owner) for name, _, owner in entries if name == _MAIL)
        errors, batch = by_name.pop(ERROR, ()), by_name.pop(BATCH, ())
        sent, every = tuple(map(self._tap, by_name.pop(SENT, ()))), by_name.pop(ANY, ())
        table: dict[type[events.Event], _Functions]
        table = {CLASSES[name]: (*every, *functions) for name, functions in by_name.items()}
        router = None
        if routes:
            router = Router(routes, self._codec.loads, self._call, self._on_failure)
            table[self._routed] = (*table.get(self._routed, every), router)
        if events.Text in table:
            table[events._EncodedText] = table[events.Text]
        lines, kinds = self._lines or (None, frozenset())
        if lines is None or any(getattr(type(owner), REPLACES_LINES, False) for _, _, owner in entries):
            return _Setup(entries, wrappers, table, every, errors, batch, sent, router, mail=mail)
        note = lines.note
        usual = (note, *every)  # one for all, because there may be many apps
        for kind in kinds:
            table[kind] = (note, *table[kind]) if kind in table else usual
        return _Setup(entries, wrappers, table, every, errors, batch, sent, router, note, lines.debug, mail)


forks.register(Registry)


def _caught(registry: Registry, handler: HandlerFunction, event: events.Event, error: BaseException) -> None:
    """Handle an exception caught by the compiled twin in the same way as `Registry.dispatch_all` would."""
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001  SystemExit too must not end the reader
        registry._on_failure(handler, event, raised)


if twins is not None and hasattr(twins, "configure_dispatch"):
    twins.configure_dispatch(Registry, _Setup, logger, _ROOT, _caught)

#: Does the same as `Registry.dispatch_all`.
dispatch: Callable[[Registry, Sequence[events.Event]], object]
dispatch = choose(twins, "dispatch", Registry.dispatch_all)


def _wrapped(entries: _Entries, wrappers: _Wrappers) -> tuple[dict[str, _Functions], list[Route]]:
    """Return the functions to call, by the names that they are registered for; and the routes."""
    by_name: dict[str, _Functions] = {}
    routes: list[Route] = []
    for name, function, _ in entries:
        called = function.handler if isinstance(function, Route) else function
        for wrapper in wrappers if name != _MAIL else ():
            called = wrapper(name, called)
            if not callable(called):
                raise TypeError(f"{wrapper!r} returned {called!r} for a handler, which cannot be called")
        if isinstance(function, Route):
            routes.append(Route(function.match, called))
        else:
            by_name[name] = (*by_name.get(name, ()), called)
    return by_name, routes
