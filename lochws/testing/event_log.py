"""The event log of an app: its events in order, which a test can wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TypeVar, get_args

from .. import clock, events
from ..app import WebSocketApp
from ..life.state import State
from ..options import check_number
from .clock import VirtualClock
from .server import ScriptedServer
from .stacks import stacks

SomeEvent = TypeVar("SomeEvent", bound=events.Event)
SomeError = TypeVar("SomeError", bound=BaseException)

#: All event classes.
KINDS: tuple[type[events.Event], ...] = get_args(events.AnyEvent)
#: Events whose count depends on timing.
PASSING = (events.Ping, events.Poll, events.Pong)
#: The number of events shown in an error message.
_SHOWN = 40
#: The interval at which the log checks on the app and the servers, in seconds.
_LOOK = 0.05
#: The prefixes of the names of threads that never start an app.
_NOT_STARTING = ("lochws-", "scripted-server", "ws-clock", "pytest_timeout")


class EventLog:
    """A log of an app's events, in order. Any thread may wait for events; usually the test's does.

    An event is added after the app's own handlers (those registered before the log was created) have run. So
    when `wait_for` returns, they have done their work. (Messages for an ``on_batch`` handler are added just
    before it runs.)

    Args:
        app: the app; it may already be running.
        patience: the time limit for every wait, in seconds of the machine's clock.
        servers: the scripted servers that the app connects to. If one of their scripts fails, a wait ends
            early, and the error message says what the app has sent. The fixture ``ws_events`` passes those of
            ``ws_server``.

    Raises:
        TypeError: `app` is not a `lochws.WebSocketApp`.

    Attributes:
        app: the app.
        servers: the argument.
        reported: the exception of a script that has ended a wait, or None.
        events: the events so far; the list only grows.
        errors: the exceptions raised by handlers, in order, without those that `wait_for_error` returned.
    """

    def __init__(
        self, app: WebSocketApp, *, patience: float = 10.0, servers: Sequence[ScriptedServer] = ()
    ) -> None:
        if not isinstance(app, WebSocketApp):
            raise TypeError(f"app={app!r}: expected a lochws.WebSocketApp")
        check_number("patience", patience, 0)
        self.app = app
        self.servers = servers
        self.reported: BaseException | None = None
        self.events: list[events.Event] = []
        self.errors: list[BaseException] = []
        self._patience = patience
        self._times: list[float] = []  # of the events
        self._position = 0  # all events before it have been returned or skipped
        self._changed = threading.Condition()  # guards all of these
        app.on(events.Event)(self._add_of_batch)
        app.on(*KINDS)(self._add)
        app.on("error")(self._add_error)

    def __repr__(self) -> str:
        return f"<EventLog of {self.app!r}, {len(self.events)} events>"

    def wait_for(
        self, kind: type[SomeEvent], *, count: int = 1, where: Callable[[SomeEvent], object] | None = None,
        timeout: float | None = None,
    ) -> SomeEvent:
        """Wait for an event after the last one returned, and return it; skip other events before it.

        Args:
            kind: the class of the event; `lochws.events.Event` for any event.
            count: wait for this many such events, and return the last.
            where: a function that returns whether an event is a match; None for all.
            timeout: seconds to wait. While the fixture ``ws_clock`` is in use these are virtual seconds,
                which pass as fast as the threads can follow. None for the log's patience, during which the
                time of ``ws_clock`` stands still.

        Raises:
            AssertionError: no such event arrived in time, or none can arrive because the app has stopped, was
                never started, or a server's script has failed. The message lists the events and what the app
                has sent.
            TypeError: `kind` is not an event class.
        """
        __tracebackhide__ = True
        if not (isinstance(kind, type) and issubclass(kind, events.Event)):
            raise TypeError(f"kind={kind!r}: expected a class of lochws.events, such as events.Ready")
        name = f"{'matching ' * bool(where)}{kind.__name__} event"
        missing = f"fewer than {count} {name}s" if count > 1 else f"no {name}"

        def find() -> int | None:
            left = count
            for number in range(self._position, len(self.events)):
                event = self.events[number]
                if isinstance(event, kind) and (where is None or where(event)):
                    left -= 1
                    if not left:
                        return number
            return None

        number = self._wait(find, missing, timeout)
        with self._changed:
            self._position = number + 1
        event = self.events[number]
        assert isinstance(event, kind)
        return event

    def wait_for_error(self, kind: type[SomeError], *, timeout: float | None = None) -> SomeError:
        """Wait until a handler raises an exception of this class, and return it; it no longer fails the test.

        Args:
            kind: the class of the exception.
            timeout: seconds to wait, virtual ones while ``ws_clock`` is in use; None for the log's patience.

        Raises:
            AssertionError: no handler raised one in time, or none can because the app has stopped, was never
                started, or a server's script has failed.
        """
        __tracebackhide__ = True

        def find() -> int | None:
            return next((number for number, error in enumerate(self.errors) if isinstance(error, kind)), None)

        number = self._wait(find, f"no handler raised {kind.__name__}", timeout)
        with self._changed:
            error = self.errors.pop(number)
        assert isinstance(error, kind)
        return error

    def assert_exhausted(self) -> None:
        """Check that no event has followed the last one returned, and no handler has raised an exception.

        Poll, Ping and Pong do not count, since their number depends on timing. While the fixture ``ws_clock``
        is in use, this waits for events in transit; otherwise it sees only those that have already arrived.

        Raises:
            AssertionError: an event has followed, or a handler has raised an exception.
        """
        __tracebackhide__ = True
        if isinstance(virtual := clock.current(), VirtualClock):
            virtual.settle()
        with self._changed:
            left = [event for event in self.events[self._position:] if not isinstance(event, PASSING)]
            if left:
                raise AssertionError(f"unexpected: {left[0]!r}. {self._describe()}")
        self.check()

    def check(self) -> None:
        """Raise AssertionError if a handler raised an exception that `wait_for_error` has not returned."""
        with self._changed:
            for error in self.errors:
                raise AssertionError(f"a handler of {self.app!r} raised {error!r}") from error

    def finish(self) -> None:
        """Stop the app if it is running, and add no more events. Exceptions of handlers are kept for `check`.

        Raises:
            AssertionError: the app, or one of its own threads, did not stop. The message shows their stacks.
        """
        try:
            if self.app.state in (State.NEW, State.STOPPED):
                return
            if isinstance(virtual := clock.current(), VirtualClock):
                with virtual.passing():
                    has_stopped = self.app.stop(self._patience)
            else:
                has_stopped = self.app.stop(self._patience)
            if not has_stopped:
                at = stacks("lochws-")
                raise AssertionError(f"{self.app!r} did not stop within {self._patience:g} s:\n{at}")
        finally:
            for handler in (self._add_of_batch, self._add, self._add_error):
                self.app.remove_handler(handler)

    # Called on the reader thread.

    def _add_of_batch(self, event: events.Event) -> None:
        if isinstance(event, (events.Text, events.Binary)) and self.app.hooks.handles("batch"):
            self._add(event)

    def _add(self, event: events.Event) -> None:
        with self._changed:
            self.events.append(event)
            self._times.append(clock.current().monotonic())
            self._changed.notify_all()

    def _add_error(self, error: BaseException) -> None:
        with self._changed:
            self.errors.append(error)
            self._changed.notify_all()

    # Waiting.

    def _wait(self, find: Callable[[], int | None], missing: str, timeout: float | None) -> int:
        """Wait until `find` returns a number, and return it; `missing` is the start of the error message."""
        __tracebackhide__ = True
        virtual = clock.current()
        if timeout is not None and isinstance(virtual, VirtualClock):
            try:
                self._pass(virtual, find, virtual.monotonic() + timeout)
            except AssertionError as error:
                raise AssertionError(f"{missing}: {error}\n{self._describe()}") from None
            limit = 0.0
        else:
            limit = self._patience if timeout is None else timeout
        end = monotonic() + limit
        with self._changed:
            while (number := find()) is None:
                why, failure = self._hopeless()  # asked before the last look at the events
                left = end - monotonic()
                if not why and left <= 0:
                    why = f" within {timeout or limit:g} s"
                if why and (number := find()) is None:
                    self.reported = failure or self.reported
                    raise AssertionError(f"{missing}{why}. {self._describe()}") from failure
                self._changed.wait(min(max(left, 0.0), _LOOK))
            return number

    def _hopeless(self) -> tuple[str, BaseException | None]:
        """Return why no further event will arrive, and the exception that is the cause; or an empty text."""
        for server in self.servers:
            if (failure := server.failure) is not None:
                return ": the server's script has failed", failure
        if self.app.is_closed:
            return " before the app stopped", None
        if self.app.state is State.NEW and not _may_be_started_by_another_thread():
            return ": the app was never started; call its start() before waiting", None
        return "", None

    def _pass(self, virtual: VirtualClock, find: Callable[[], int | None], until: float) -> None:
        """Let virtual time pass until `find` returns a number."""
        while True:
            due = virtual.settle()
            with self._changed:
                if find() is not None or self._hopeless()[0]:
                    return
            if due is None or due > until:
                virtual.advance_to(until)
                return
            virtual.advance_to(due)

    def _describe(self) -> str:
        """Return a description of the app and its events."""
        hidden = max(0, len(self.events) - _SHOWN)
        lines = [f"{self.app!r} is {self.app.state.value}. Events so far:"]
        if not self.events:
            lines.append("  none")
        if hidden:
            lines.append(f"  ({hidden} earlier ones)")
        for number in range(hidden, len(self.events)):
            mark = "->" if number == self._position else "  "
            lines.append(f"{mark} {self._times[number] - self._times[0]:8.3f} s  {self.events[number]!r}")
        lines += [f"   a handler raised {error!r}" for error in self.errors]
        lines += [server.describe() for server in self.servers]
        return "\n".join(lines)


def _may_be_started_by_another_thread() -> bool:
    """Return whether a thread of the user's is running, such as one that calls `run_forever`."""
    return any(
        thread is not threading.current_thread() and not thread.name.startswith(_NOT_STARTING)
        for thread in threading.enumerate()
    )
