"""FeedLife: the life of one feed, through all its starts; the counterpart of an app's `Lifecycle`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from time import monotonic
from typing import Any, TypeAlias
from weakref import WeakSet

from .. import events
from ..app import WebSocketApp
from ..dispatch.registry import Registry
from ..engine.threads import Crew, Threads
from ..errors import WaitFailed, WebSocketError
from ..life.backoff import Backoff
from ..life.calls import ScheduledCall
from ..life.interruption import INTERRUPT_SECONDS
from ..system import forks
from ..system.control import control_lock, may_wait
from ..system.interpreters import at_end, is_sub
from ..system.waits import Waiters, wait_for
from .conductor import Conductor
from .plan import Plan

FinalEvent: TypeAlias = events.ConnectFail | events.Disconnected


class FeedLife:
    """The life of one feed. Any thread may call the methods.

    Args:
        plan: the options.
        threads: the threads of the feed.
        is_shared: whether these threads also serve others.
        registry: the feed's handlers.

    Attributes:
        conductor: the conductor of the current or last start, or None.
    """

    def __init__(self, plan: Plan, threads: Threads, is_shared: bool, registry: Registry) -> None:
        self._plan = plan
        self.threads = threads
        self._is_shared = is_shared
        self._registry = registry
        self._lock = control_lock()
        self._waiters = Waiters(self._lock)
        self.conductor: Conductor | None = None  # replaced under the lock
        self._was_closed = False  # before the first start
        self._watchers: tuple[Callable[[], object], ...] = ()  # read without the lock
        forks.register(self)

    @property
    def is_running(self) -> bool:
        """True from `start` until the end. Takes no lock."""
        return self.conductor is not None and not self.conductor.is_over

    @property
    def is_ready(self) -> bool:
        """True if the feed can send. Takes no lock."""
        return self.conductor is not None and self.conductor.outlet.sender is not None

    @property
    def has_stopped(self) -> bool:
        """True if the feed has stopped, and so passes on no more events. Takes no lock."""
        return self.conductor is not None and self.conductor.is_over

    @property
    def is_stopping(self) -> bool:
        """True if `close` was called, so that no further connection follows. Takes no lock."""
        return self._was_closed if self.conductor is None else self.conductor.stop is not None

    @property
    def in_handler(self) -> bool:
        """True if the calling thread is the one that runs the handlers."""
        return self.conductor is not None and self.conductor.crew.reader.is_current

    @property
    def final_event(self) -> FinalEvent | None:
        """The final event of the last connection or attempt that has ended since `start`, or None."""
        return None if self.conductor is None else self.conductor.last_end

    def start(self, first: WebSocketApp, timing: dict[str, Any], backoff: Backoff | None) -> None:
        """Start the feed with the app of its first connection, and return immediately.

        Raises:
            WebSocketError: the feed is running.
            RuntimeError: no thread can be started.
        """
        with self._lock:
            if self.is_running:
                raise WebSocketError("already started")
            _prepare_end(self)
            conductor: Conductor | None = None
            crew = self.threads.attach(self)
            try:
                conductor = Conductor(
                    self._plan, timing, backoff, self.threads, crew,
                    partial(self.threads.detach, crew, self), self._registry, self._lock, self._changed,
                )
                if self._was_closed:
                    conductor.close(1000, "goodbye")  # not begun: it might fail before it is closed
                else:
                    conductor.call_later(0, partial(conductor.begin, first))
                if self.is_running:
                    raise WebSocketError("already started")  # by a signal handler
            except BaseException:
                if conductor is None:
                    self.threads.detach(crew, self)
                else:
                    conductor.finish()
                raise
            # No call from here on, so Ctrl-C strikes either before all of it or after.
            self.conductor, self._was_closed = conductor, False

    def threads_failed(self, crew: Crew, error: BaseException) -> None:
        """End the feed after a fatal error in one of the crew's threads."""
        with self._lock:  # which `start` holds until its end
            conductor = self.conductor
        if conductor is not None and conductor.crew is crew:
            conductor.threads_failed()

    def close(self, code: int | None, reason: str | bytes) -> None:
        """Stop the feed, with closing handshakes. Code and reason must be valid."""
        if self.conductor is None:
            self._was_closed = True
        else:
            self.conductor.close(code, reason)
        self._tell_watchers()

    def wait_ready(self, timeout: float | None) -> bool:
        """Wait until the feed can send. Return False if the timeout expires or the feed stops before that."""
        return self._wait(lambda: self.is_ready or self.has_stopped, timeout) and self.is_ready

    def wait_stopped(self, timeout: float | None) -> bool:
        """Wait until the feed has stopped or was never started. Return False if the timeout expires first."""
        return self._wait(lambda: not self.is_running, timeout)

    def join(self, timeout: float | None) -> bool:
        """Wait until the feed has stopped and its private threads have ended. Return False on timeout."""
        began = monotonic()
        if not self.wait_stopped(timeout):
            return False
        if self.conductor is None or self._is_shared:
            return True
        left = None if timeout is None else max(0.0, timeout - (monotonic() - began))
        return self.conductor.crew.join(left)

    def watch(self, function: Callable[[], object]) -> None:
        """Have a function called when the feed becomes ready, is closed, or has stopped.

        It is called without a lock, by the thread that causes the change. It must neither wait nor raise.
        """
        with self._lock:
            self._watchers += (function,)

    def unwatch(self, function: Callable[[], object]) -> None:
        """Stop calling a function that was passed to `watch`."""
        with self._lock:
            self._watchers = tuple(one for one in self._watchers if one != function)

    def not_ready(self, method: str) -> WaitFailed:
        """Return the error of a wait until the feed can send that has failed."""
        end, has_stopped = self.final_event, self.has_stopped
        why = "the feed has stopped" if has_stopped else "no connection is open yet"
        words = f"{method}(): {why}{'' if end is None else f': {end}'}"
        return WaitFailed(words, event=end, timed_out=not has_stopped)

    def running(self, method: str) -> Conductor:
        """Return the conductor for a method that needs a running feed.

        Raises:
            WebSocketError: the feed is not running.
        """
        conductor = self.conductor
        if conductor is None or conductor.is_over:
            raise WebSocketError(f"{method}(): the feed is not running")
        return conductor

    def call_later(self, seconds: float, function: Callable[[], object]) -> ScheduledCall:
        """Have the handlers' thread call a function, unless the feed has ended by then.

        Raises:
            WebSocketError: the feed is not running.
        """
        return self.running("call_later").call_later(seconds, function)

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Mark the reader, during a block, as waiting for a consumer rather than stuck in a handler."""
        assert self.conductor is not None
        reader = self.conductor.crew.reader
        reader.is_pausing = True
        try:
            yield
        finally:
            reader.is_pausing = False

    def reset_after_fork(self) -> None:
        """Become stopped in the child of a fork. The feed keeps running in the parent."""
        self._lock = control_lock()
        self._waiters = Waiters(self._lock)
        self._watchers = ()
        self.conductor = None

    def _changed(self) -> None:
        """Wake everything that waits for the feed to become ready or to stop. Without the lock."""
        with self._lock:
            self._waiters.notify_all()
        self._tell_watchers()

    def _tell_watchers(self) -> None:
        for function in self._watchers:
            function()

    def _wait(self, predicate: Callable[[], bool], timeout: float | None) -> bool:
        timeout = timeout if may_wait() else 0.0
        with self._lock:
            return wait_for(self._waiters, predicate, timeout)


def _prepare_end(life: FeedLife) -> None:
    """Have the feed closed before its sub-interpreter ends, which waits for its threads."""
    if is_sub():
        _end_with_interpreter().add(life)


@cache
def _end_with_interpreter() -> WeakSet[FeedLife]:
    lives: WeakSet[FeedLife] = WeakSet()

    def close_all() -> None:
        until = monotonic() + INTERRUPT_SECONDS
        for life in (running := [life for life in lives if life.is_running]):
            life.close(1001, "the interpreter ends")
        for life in running:
            life.join(max(0.0, until - monotonic()))

    at_end(close_all)
    return lives
