"""Lifecycle: the whole life of one app, from start() through attempts, connections and back-offs to its end.

Two threads take turns, which are often the same. The holder of the loop's baton opens the connection, and
reports when it has ended. The reader runs the handlers and, right after those of the final event, decides
what comes next. So each step happens at a definite point in the sequence of events, and steps are scheduled,
never nested. Any thread may call `close` and `reconnect`, which set a flag and wake the thread at work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from types import MethodType
from typing import TYPE_CHECKING, TypeVar

from .. import events
from ..clock import SYSTEM, Clock
from ..connection.connection import Connection
from ..connection.incoming import IncomingStream
from ..connection.past import Past
from ..connection.trace import as_trace
from ..connection.window import kept_window
from ..dispatch.registry import Registry, dispatch
from ..engine.inbox import Inbox
from ..engine.supervisor import Job
from ..engine.threads import Crew, Threads
from ..errors import WebSocketError
from ..opening.dial import Dialler, Opened
from ..options import Options, Timing
from ..system import forks, usercode
from ..system.control import control_lock, may_wait
from ..system.deadline import Cancelled, Deadline
from ..system.report import report_aside
from ..system.steps import Steps
from ..system.waits import Waiters, wait_for
from ..url import without_secrets
from . import unattended
from .attempt import Ask, Attempt, UserFunctions
from .backoff import AttemptEnd, Backoff, Retries
from .calls import ScheduledCall, call_later
from .counters import Traffic
from .gate import Gates
from .lines import LIFE_KINDS, LifeLines
from .state import State, Step, after, describe, public_state

if TYPE_CHECKING:
    from ..engine.governor import Governor

T = TypeVar("T")
_DEFAULT_TIMING = Timing()


class Lifecycle:
    """The life of one app. Every method may be called from any thread unless stated otherwise.

    Args:
        url: the URL without credentials, for messages.
        dialler: opens connections.
        options: the WebSocket's options.
        threads: shared threads, or None for a private pair.
        handlers: the registry that receives the events in order, on the reader's thread. While one of the
            user's functions runs, this registry is its owner in `lochws.system.usercode`.
        traffic: the totals of the connections that have ended.
        governor: limits the attempts of all apps that share it, or None.
    """

    __slots__ = (
        "__weakref__",
        "_again",
        "_asking",
        "_changed",
        "_clock",
        "_crew",
        "_deadline",
        "_dialler",
        "_failed_at",
        "_gates",
        "_handlers",
        "_host",
        "_inbox",
        "_is_ready",
        "_job",
        "_lines",
        "_options",
        "_past",
        "_pool",
        "_queued",
        "_rejected",
        "_retries",
        "_state",
        "_stop",
        "_timing",
        "_traffic",
        "_user_functions",
        "_wait",
        "_watchers",
        "_window",
        "connection",
        "final_event",
        "governor",
        "is_forked_copy",
        "lock",
        "sendable",
        "threads",
        "url",
    )

    def __init__(
        self,
        url: str,
        dialler: Dialler,
        options: Options,
        threads: Threads | None,
        handlers: Registry,
        traffic: Traffic,
        governor: Governor | None = None,
    ) -> None:
        self.url = url
        self.governor = governor
        self._dialler = dialler
        self._options = options
        self.threads = threads
        self._handlers = handlers
        self._traffic = traffic
        self._window = kept_window(options.rate)
        self._host = dialler.endpoint.origin if dialler.endpoint is not None else self
        self._user_functions: UserFunctions = {}  # for the task that makes the attempt
        self._timing = _DEFAULT_TIMING
        self._pool: Threads | None = None  # with _crew and _inbox: written by start, while nothing runs
        self._crew: Crew | None = None
        self._inbox: Inbox | None = None
        self._clock: Clock = SYSTEM
        self._past = Past()  # likewise; then the baton holder's

        # Reentrant, because a signal handler may call close() while its own thread is in here.
        self.lock = control_lock()
        self._changed = Waiters(self.lock)
        # All below is guarded by lock. The two connections are also read without it, by senders.
        self._state = State.NEW
        self.connection: Connection | None = None
        self.sendable: Connection | None = None  # the same connection, once all gates are open
        self._gates: Gates | None = None  # created when first needed
        self._is_ready = False  # the handlers of Ready have run
        self._retries: Retries | None = None  # except `next_wait`, which runs while nothing else can
        self.is_forked_copy = False  # the app runs in the parent; this is the child of a fork
        self._deadline: Deadline | None = None  # of the attempt under way, or of the retry hook's call
        self._wait: object | None = None  # identifies the wait before the next attempt
        self._job: Job | None = None  # ends that wait on time; other jobs may end it earlier
        self._stop: tuple[int | None, str | bytes] | None = None  # the arguments of close, if it was called
        self._asking: object | None = None  # identifies the pending call of the retry hook
        self._again = False  # reconnect was called
        self._queued: object | None = None  # the wait whose task waits for its turn
        self._failed_at: float | None = None  # when the last attempt failed before a connection was open
        self._rejected: events.Rejected | None = None
        self.final_event: events.ConnectFail | events.Disconnected | None = None
        self._watchers: tuple[Callable[[], object], ...] = ()  # read without the lock
        self._lines = LifeLines(self)  # for the reader's thread, like the handlers
        handlers.set_lines(self._lines, LIFE_KINDS)
        forks.register(self)

    def __repr__(self) -> str:
        return f"<life of the app for {self.url}>"

    # State, readable by any thread.

    @property
    def state(self) -> State:
        """The state of the app."""
        with self.lock:
            return public_state(self._state, self.connection)

    @property
    def is_stopping(self) -> bool:
        """True if `close` was called, so that no further attempt follows."""
        return self._stop is not None

    @property
    def is_ready(self) -> bool:
        """True if the handlers of Ready have run and all gates are open. Takes no lock."""
        return self._is_ready and self.sendable is not None

    @property
    def has_stopped(self) -> bool:
        """True if the app has stopped, and so delivers no more events. Takes no lock."""
        return self._state is State.STOPPED

    @property
    def is_unattended(self) -> bool:
        """True if the app is running and has not been closed."""
        return self._stop is None and self._state not in (State.NEW, State.STOPPED)

    @property
    def waiting_bytes(self) -> int:
        """The approximate number of bytes of events waiting for handlers."""
        return 0 if self._inbox is None else self._inbox.backlog

    @property
    def in_handler(self) -> bool:
        """True if the calling thread runs a handler of this app, or another function it waits for."""
        crew = self._crew
        return (crew is not None and crew.reader.is_current) or usercode.is_running(self._handlers)

    def wait_started(self, timeout: float) -> bool:
        """Wait until the app has been started. Return False if the timeout expires first."""
        timeout = self._time_for_waiting(timeout)
        with self.lock:
            return wait_for(self._changed, lambda: self._state is not State.NEW, timeout)

    def wait_ready(self, timeout: float | None) -> bool:
        """Wait until the handlers of Ready have run and all gates are open.

        Return False if the timeout expires or the app stops before that.
        """
        timeout = self._time_for_waiting(timeout)
        with self.lock:
            wait_for(self._changed, lambda: self.is_ready or self._state is State.STOPPED, timeout)
            return self.is_ready

    def wait_stopped(self, timeout: float | None) -> bool:
        """Wait until the app has stopped or was never started. Return False if the timeout expires first."""
        timeout = self._time_for_waiting(timeout)
        with self.lock:
            return wait_for(self._changed, lambda: self._state in (State.NEW, State.STOPPED), timeout)

    def join(self, timeout: float | None) -> bool:
        """Wait until the app has stopped and its private threads have ended. Return False on timeout."""
        began = monotonic()
        if not self.wait_stopped(timeout):
            return False
        if self._crew is None or self._pool is self.threads:
            return True
        return self._crew.join(None if timeout is None else max(0.0, timeout - (monotonic() - began)))

    def watch(self, function: Callable[[], object]) -> None:
        """Have a function called when the app becomes ready, is closed, or has stopped.

        It is called without a lock, by the thread that causes the change. It must neither wait nor raise.
        """
        with self.lock:
            self._watchers += (function,)

    def unwatch(self, function: Callable[[], object]) -> None:
        """Stop calling a function that was passed to `watch`."""
        with self.lock:
            self._watchers = tuple(one for one in self._watchers if one != function)

    def tell_watchers(self) -> None:
        """Call the functions passed to `watch`. Without the lock."""
        for function in self._watchers:
            function()

    def _time_for_waiting(self, timeout: T) -> T | float:
        """Return the timeout, or 0 in a signal handler or finalizer that has interrupted code with a lock.

        Waiting would release the control lock, and other threads would see the life in the middle of a step;
        any other lock would keep the app from stopping.
        """
        return timeout if may_wait() else 0.0

    # Operations of users.

    def start(self, timing: Timing, backoff: Backoff | None, name: str) -> None:
        """Start the app, and return immediately.

        Raises:
            WebSocketError: the app has been started and has not stopped.
            RuntimeError: no thread can be started.
        """
        with self.lock:
            state = after(self._state, Step.START)
            pool = self.threads or Threads.private(name)
            crew = pool.attach(self)
            try:
                inbox = Inbox(MethodType(dispatch, self._handlers), crew.reader.loop.notify)
                is_shared = self.threads is not None
                retries = Retries(backoff, is_shared=is_shared) if backoff is not None else None
                clock, past = crew.clock, Past()
                self._lines.started()
                wait = object()  # for the loop, and perhaps for a slot
                crew.supervisor.start()
                crew.tasks.add(partial(self._attempt, wait), self._handlers)
                unattended.began(self)
                after(self._state, Step.START)  # a signal handler may have started it meanwhile
            except BaseException:
                pool.detach(crew, self)
                raise
            # There are no calls from here on, so Ctrl-C strikes either before all of it or after.
            if self._state is State.STOPPED:
                self._stop = None
            self._state = state
            self._timing, self._retries, self._past = timing, retries, past
            self._pool, self._crew, self._inbox, self._clock = pool, crew, inbox, clock
            self._again = self._is_ready = self.is_forked_copy = False
            self._failed_at = None
            self.final_event, self._wait = None, wait
            self._changed.notify_all()

    def close(self, code: int | None, reason: str | bytes) -> None:
        """Stop the app, with a closing handshake if there is a connection. Code and reason must be valid."""
        with self.lock:
            if self._state is State.STOPPED:
                return
            self._stop = self._stop or (code, reason)
            connection = self.connection
            if self._deadline is not None:
                self._deadline.cancel()
            self._end_wait()
            self._end_asking()
        if connection is not None:
            connection.close(code, reason)
        self.tell_watchers()

    def reconnect(self) -> None:
        """Drop the connection and open a new one immediately; during a back-off, end the wait.

        Raises:
            WebSocketError: the app is not running.
        """
        with self.lock:
            if self._state in (State.NEW, State.STOPPED):
                raise WebSocketError(f"cannot reconnect: {describe(self._state, self.is_forked_copy)}")
            if self._stop is not None or self._state is State.CONNECTING:
                return
            connection = self.connection
            self._is_ready = False
            if not self._end_wait():
                self._again = True
                self._end_asking()
        if connection is not None:
            connection.drop("reconnect requested")

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Mark the reader as waiting for a consumer during a block, which is not a handler that is stuck."""
        crew = self._crew
        if crew is None:
            yield
            return
        crew.reader.is_pausing = True
        try:
            yield
        finally:
            crew.reader.is_pausing = False

    def drop(self, reason: str) -> None:
        """Drop the connection, if there is one; the back-off decides what follows."""
        if (connection := self.connection) is not None:
            connection.drop(reason)

    @property
    def gates(self) -> Gates:
        """The gates of the app."""
        with self.lock:
            if self._gates is None:
                self._gates = Gates(self)
            return self._gates

    def call_later(self, seconds: float, function: Callable[[], object]) -> ScheduledCall:
        """Have the handlers' thread call a function, unless the app has stopped by then.

        Raises:
            WebSocketError: the app is not running.
        """
        with self.lock:
            crew, inbox = self._crew, self._inbox
            if crew is None or self._state in (State.NEW, State.STOPPED):
                raise WebSocketError(f"cannot call later: {describe(self._state, self.is_forked_copy)}")

        def make(function: Callable[[], object]) -> None:
            if self._inbox is inbox and self._state is not State.STOPPED:  # or that run has ended
                self._handlers.call(function)

        return call_later(crew, seconds, function, make)

    def reset_after_fork(self) -> None:
        """Become stopped in the child of a fork. The app keeps running in the parent."""
        self.lock = control_lock()
        self._changed = Waiters(self.lock)
        if self._state not in (State.NEW, State.STOPPED):
            self._state, self.is_forked_copy = State.STOPPED, True
        unattended.ended(self)
        for held in (self._inbox, self._crew):
            if held is not None:
                held.reset_after_fork()
        self._user_functions = {}
        self._is_ready = False
        self._watchers = ()
        self.connection = self.sendable = self._crew = self._deadline = None
        self._wait = self._job = self._asking = self._queued = None

    # The holder of the loop's baton, in the loop's tasks.

    def _attempt(self, wait: object, wake: Callable[[], object]) -> Steps[None]:
        """Make one attempt when it may begin, unless another task for this wait does so."""
        governor, deadline = self.governor, Deadline(None)
        deadline.attend(wake)
        with self.lock:  # which `start` holds until all is set
            crew = self._crew
            if self._wait is not wait or crew is None:
                return  # or Ctrl-C struck in the middle of `start`
            if self._stop is not None:
                self._post([], partial(self._called_off, wait))
                return
            if self._queued is wait:
                return
            self._queued, self._deadline = wait, deadline
        try:
            task = crew.tasks.current
            assert task is not None
            slot = yield from crew.slots.enter(self._host, self._failed_at, deadline, task.waiting)
            try:
                yield from () if governor is None else governor.enter(self._host, deadline)
                try:
                    with self.lock:
                        if self._wait is not wait or self._stop is not None:
                            raise Cancelled
                        self._wait = self._job = self._deadline = None
                        if self._state is State.BACKING_OFF:
                            self._state = after(self._state, Step.DUE)
                        self._rejected = None
                        self._again = False  # a reconnect() during the last pause gets this attempt
                        self._past.tried()
                    attempt = Attempt(self, self._dialler, self._user_functions)
                    yield from attempt.steps(self._options.open_timeout, wake)
                finally:
                    if governor is not None:
                        governor.leave(self._host)
            finally:
                crew.slots.leave(slot)
        except Cancelled:
            with self.lock:
                if self._wait is wait:  # the app was closed
                    self._post([], partial(self._called_off, wait))
        finally:
            with self.lock:
                if self._deadline is deadline:
                    self._deadline = None

    def hold(self, deadline: Deadline | None) -> None:
        """Keep the deadline of the attempt, so that `close` can cancel it."""
        with self.lock:
            self._deadline = deadline
            if deadline is not None and self._stop is not None:
                deadline.cancel()

    def opened(self, opened: Opened) -> None:
        """Create a connection for the open WebSocket, and add it to the loop."""
        assert self._crew is not None and self._inbox is not None
        trace = self._options.trace
        if callable(trace):
            trace = usercode.marked(self._handlers, trace)
        try:
            connection = Connection(
                opened, self._options, self._timing, listener=self, loop=self._crew.reader.loop,
                ask_flush=self._crew.ask_flush, inbox=self._inbox, past=self._past,
                trace=as_trace(trace, self.url),
                taps=self._handlers.taps, window=self._window,
            )
        except BaseException:  # no memory for a deflate context, say
            opened.stream.close()
            raise
        with self.lock:
            self._state = after(self._state, Step.OPENED)
            self._failed_at = None
            self.connection = connection
            if self._gates is not None:
                self._gates.close_all()
            self.gates_changed()
            stop = self._stop
        connection.loop.add(connection)
        if stop is not None:
            connection.close(*stop)

    def attempt_event(self, event: events.Event) -> None:
        """Post an event of the attempt. After the handlers of its final event, decide what comes next."""
        if self.is_forked_copy:
            return
        if isinstance(event, events.Rejected):
            self._rejected = event
            event.fatal = self._retries is not None and self._retries.ends_with(event)
        if not isinstance(event, (events.ConnectFail, events.Disconnected)):
            self._post([event])
            return
        self._end(event)
        self._post([event], self.end_handled)

    def _end(self, event: events.ConnectFail | events.Disconnected) -> None:
        with self.lock:
            self._failed_at = monotonic() if self._state is State.CONNECTING else None
            self._state = after(self._state, Step.ENDED)
            self.final_event = event
            self.connection = self.sendable = None
            self._is_ready = False
            if self._retries is not None:
                self._retries.ended(self._clock.monotonic(), wanted=self._again)
                event.fatal = not self._again and self._retries.ends_with(self._rejected or event)
            self._changed.notify_all()

    # Notifications from the connection, by the holder of the loop's baton.

    def connection_ended(self, connection: Connection, event: events.Disconnected) -> None:
        """Record the end of the connection; what comes next is decided after the handlers have run."""
        self._traffic.add(connection)
        self._end(event)

    def may_block(self) -> bool:
        """Return whether the calling thread may wait for this app. Any thread."""
        return not self.in_handler

    def has_handler_for(self, kind: type[events.Event]) -> bool:
        """Return whether any handler would get such an event now. Any thread."""
        return self._handlers.has_handler_for(kind)

    def turn_for_handler(self, until: Callable[[], bool], limit: float | None) -> bool:
        """Turn the loop once if the calling thread runs handlers; otherwise return False. Any thread."""
        crew = self._crew
        if crew is None or not crew.reader.is_current:
            return False
        crew.reader.turn_for_handler(until, limit)
        return True

    def stream_handled(self, stream: IncomingStream) -> None:
        """Do nothing: a stream that no handler has kept is skipped when it is freed."""

    # The reader's thread, after handlers.

    def ready_handled(self) -> None:
        """Wake the threads that wait for the connection to be ready."""
        with self.lock:
            if self._state is State.OPEN and not self._again:
                self._is_ready = True
                self._changed.notify_all()
        self.tell_watchers()

    def end_handled(self) -> None:
        """Decide what comes next, after the handlers of a final event have run."""
        if self.is_forked_copy:
            return  # one of the handlers has forked
        with self.lock:
            outcome: AttemptEnd | None = self._rejected or self.final_event
            stopping = self._stop is not None or (outcome is not None and outcome.fatal)
            again, self._again = self._again, False
            retries, crew = self._retries, self._crew
            asking = None
            if not (stopping or again or retries is None or crew is None) and retries.calls_hook:
                # Under the same lock: from here on, `close` and `reconnect` see that there is a question.
                self._asking = asking = object()
        assert outcome is not None
        if retries is None or stopping or again:
            self._decided(again, None)
        elif asking is not None and crew is not None:
            # It may never return, and so must not run on the reader's thread.
            crew.tasks.add(partial(self._ask_hook, asking, retries, outcome), self._handlers)
        else:
            now, wall = self._clock.monotonic(), self._clock.wall()
            self._decided(False, retries.next_wait(outcome, now, wall))

    def _ask_hook(
        self, asking: object, retries: Retries, outcome: AttemptEnd, wake: Callable[[], object]
    ) -> Steps[None]:
        """Call the user's retry hook, and pass its result to the reader. In a task of the loop."""
        deadline = Deadline(None)
        deadline.attend(wake)
        with self.lock:
            if self._asking is not asking:
                return  # the app went on: the deadline there may be is the next attempt's
            self._deadline = deadline
            if self._stop is not None or self._again:
                deadline.cancel()
        wait = None
        try:
            ask = partial(Ask(deadline, self._user_functions, key=outcome), "retry")
            wait = yield from retries.find_wait(outcome, self._clock.monotonic(), self._clock.wall(), ask)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  a hook can mean only one thing by SystemExit
            url = without_secrets(self.url)
            report_aside(logging.ERROR, "the retry hook ends the app for %s", url, error=error)
        with self.lock:
            if self._deadline is deadline:
                self._deadline = None
            if self._asking is asking:  # or the app went on without the answer, or the hook has forked
                self._post([], partial(self._hook_answered, asking, wait))

    def _called_off(self, wait: object) -> None:
        """End the app, which was closed before its attempt began. On the reader's thread."""
        with self.lock:
            if self._wait is not wait:
                return
            if self._job is not None and self._crew is not None:
                self._crew.supervisor.cancel(self._job)
            self._wait = self._job = None
        self._finish()

    def _hook_answered(self, asking: object, wait: float | None) -> None:
        """Use the hook's result, unless close or reconnect came first. On the reader's thread."""
        with self.lock:
            if self._asking is not asking:
                return
            self._asking = None
        self._decided(False, wait)

    def _decided(self, again: bool, wait: float | None) -> None:
        """Take the next step. On the reader's thread."""
        with self.lock:
            again = again or self._again
            if self._stop is None and (again or wait is not None):
                self._state = after(self._state, Step.AGAIN if again else Step.WAIT)
                if not again and wait is not None:
                    self._post([events.BackOff(wait)])
                self._schedule(0.0 if again or wait is None else wait)
                return
            why = None if self._stop is not None or self._retries is None else self._retries.end
        if why is not None:
            self._lines.gave_up(why)
        self._finish()

    def threads_failed(self, crew: Crew, error: BaseException) -> None:
        """End the app after a fatal error in one of its threads. The loop itself ends the connection."""
        with self.lock:
            if self._crew is not crew or self._state in (State.NEW, State.STOPPED):
                return
            self._stop = self._stop or (1001, "")
            self._end_asking()
            if self._deadline is not None:
                self._deadline.cancel()
            if self._wait is not None:  # perhaps no task is left to end it
                self._post([], partial(self._called_off, self._wait))
        self.tell_watchers()

    def _finish(self) -> None:
        if self._stop is not None and self._handlers.has_default_lines:
            self._lines.stopped()
        with self.lock:
            self._state = after(self._state, Step.FINISH)
            unattended.ended(self)
            self._changed.notify_all()
            pool, crew = self._pool, self._crew
        self.tell_watchers()
        assert pool is not None and crew is not None
        pool.detach(crew, self)

    # Under the lock.

    def gates_changed(self) -> None:
        """Allow ordinary sends once all gates are open; only then does the back-off count the connection."""
        if self.sendable is self.connection or not (self._gates is None or self._gates.are_open):
            return
        self.sendable = connection = self.connection
        if self._retries is not None and connection is not None:
            self._retries.opened(connection.loop.clock.monotonic())
        self._changed.notify_all()

    def _schedule(self, seconds: float) -> None:
        assert self._crew is not None
        self._wait = wait = object()
        connect = partial(self._crew.tasks.add, partial(self._attempt, wait), self._handlers)
        if seconds:
            self._job = self._crew.supervisor.call_at(self._clock.monotonic() + seconds, connect)
        else:
            connect()

    def _end_wait(self) -> bool:
        """Connect immediately, or end the app if it was closed; return whether there is a wait.

        Another task is added before the job is cancelled: wherever Ctrl-C strikes, one of them remains, or
        this can be called again.
        """
        wait, crew = self._wait, self._crew
        if wait is None or crew is None:
            return False
        if self._queued is not wait or self._stop is not None:
            crew.tasks.add(partial(self._attempt, wait), self._handlers)
        if self._job is not None:
            crew.supervisor.cancel(self._job)
        return True

    def _end_asking(self) -> None:
        """Stop waiting for the retry hook's result, if the app is waiting for it."""
        if self._asking is not None:
            if self._deadline is not None:
                self._deadline.cancel()
            self._post([], partial(self._hook_answered, self._asking, None))

    def _post(self, items: list[events.Event], then: Callable[[], object] | None = None) -> None:
        assert self._inbox is not None
        self._inbox.post(items, after=then)
