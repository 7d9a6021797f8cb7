"""A virtual clock, which stands still until a test advances it, so that a back-off of 30 s takes no time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import ReferenceType, ref

from ..clock import Timed
from ..system.interpreters import new_thread
from .stacks import stacks

#: Seconds between two checks of what the threads are doing.
_LOOK = 0.0003


class VirtualClock:
    """The time of apps and scripted servers under test: keepalive, Poll, closing, back-off, scripted pauses.

    It replaces the machine's clock through ``with lochws.clock.using(clock)``, ``Threads(clock=clock)`` or
    the fixture ``ws_clock``. Call its methods only on the test's thread.

    Opening a connection, the user's own threads and the network still take real time. `advance` and `settle`
    return once all threads of lochws and of the scripted servers that use this clock are waiting; by then,
    everything that was due has been done. They cannot see data in transit to or from any other server.

    Args:
        patience: seconds, by the machine's clock, within which those threads must become idle.

    Attributes:
        patience: the argument; it may be changed.
    """

    def __init__(self, patience: float = 10.0) -> None:
        self.patience = patience
        self._now = 1000.0  # leaves room for times before it; written by the test's thread
        self._ahead = time.time() - self._now  # wall clock minus monotonic clock; likewise
        self._released: float | None = None
        # Without a lock, because a signal handler or a finalizer may start an app while its thread holds it.
        # Every access is a single operation of the dict, which nothing interrupts.
        self._attended: dict[ReferenceType[Timed], None] = {}

    # Called by lochws, on any thread.

    @property
    def passes(self) -> bool:
        """True if time passes by itself: only after `release`."""
        return self._released is not None

    def monotonic(self) -> float:
        """Return the time in seconds; it is never set back."""
        return self._now if self._released is None else self._now + time.monotonic() - self._released

    def wall(self) -> float:
        """Return the time of the wall clock, which starts at the current date."""
        return self.monotonic() + self._ahead

    def attend(self, timed: Timed) -> None:
        """Wake `timed` whenever the clock is moved."""
        self._attended[ref(timed, self._forget)] = None

    # Called by tests.

    def advance(self, seconds: float, *, handlers: bool = True) -> None:
        """Let time pass, stopping at each moment at which something is due.

        Args:
            seconds: how much time passes.
            handlers: whether to wait, at each of those moments, until no handler is running. False lets time
                pass while a handler blocks.

        Raises:
            ValueError: `seconds` is negative.
            AssertionError: the threads did not become idle; the message shows their stacks.
        """
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds!r}: expected a number of at least 0")
        self.advance_to(self._now + seconds, handlers=handlers)

    def advance_to(self, end: float, *, handlers: bool = True) -> None:
        """Let time pass until `monotonic` returns `end`, stopping at each moment at which something is due.

        Args:
            end: the time; if it is already past, only the work that is due now is done.
            handlers: whether to wait, at each of those moments, until no handler is running.

        Raises:
            AssertionError: the threads did not become idle; the message shows their stacks.
        """
        while (due := self.settle(handlers=handlers)) is not None and due <= end:
            self._move(due)
        self._move(end)
        self.settle(handlers=handlers)

    def advance_to_next(self, *, handlers: bool = True) -> float:
        """Let time pass until the next moment at which something is due, and wait until it has been done.

        Args:
            handlers: whether to wait until no handler is running.

        Returns:
            The number of seconds that passed; 0.0 if no thread is waiting for a point in time.

        Raises:
            AssertionError: the threads did not become idle; the message shows their stacks.
        """
        before = self._now
        due = self.settle(handlers=handlers)
        if due is not None:
            self._move(due)
            self.settle(handlers=handlers)
        return self._now - before

    def suspend(self, seconds: float) -> None:
        """Simulate that the machine sleeps: only the wall clock advances, by this many seconds.

        Raises:
            ValueError: `seconds` is negative.
            AssertionError: the threads did not become idle; the message shows their stacks.
        """
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds!r}: expected a number of at least 0")
        self.settle()
        self._ahead += seconds
        self._move(self._now)
        self.settle()

    def settle(self, *, handlers: bool = True) -> float | None:
        """Wait until all threads are idle.

        Args:
            handlers: whether to wait until no handler is running, too.

        Returns:
            The next time, by `monotonic`, at which something is due, or None.

        Raises:
            AssertionError: the threads did not become idle; the message shows their stacks.
        """
        __tracebackhide__ = True
        pause = threading.Event()
        end = time.monotonic() + self.patience
        before: list[tuple[int, float | None]] | None = None
        while True:
            now = self._look(handlers)
            # The number of a thread changes whenever it does something. If all are unchanged at the second
            # check, nothing was in transit to any of them.
            if now is not None and now == before:
                return min((until for _, until in now if until is not None), default=None)
            if time.monotonic() > end:
                busy = stacks("lochws-", "scripted-server-")
                raise AssertionError(f"the threads did not become idle within {self.patience:g} s:\n{busy}")
            before = now
            pause.wait(_LOOK)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Let time pass during the ``with`` block, as fast as the threads can follow.

        For calls that block until time has passed: ``with ws_clock.passing(): app.stop()``.
        """
        over = threading.Event()
        thread = new_thread(self._pass_until, "ws-clock", over)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def release(self) -> None:
        """Let time pass by itself from now on, at the pace of the machine's clock. This cannot be undone."""
        self._released = time.monotonic()
        self._wake()

    def _pass_until(self, over: threading.Event) -> None:
        while not over.wait(_LOOK):
            rests = self._look(handlers=True)
            if rests is not None and not over.wait(_LOOK) and rests == self._look(handlers=True):
                due = min((until for _, until in rests if until is not None), default=None)
                if due is not None:
                    self._move(due)

    def _look(self, handlers: bool) -> list[tuple[int, float | None]] | None:
        """Return what each attended object is waiting for; None if one of them is not waiting."""
        found = []
        for timed in sorted(self._timed(), key=id):
            rest = timed.rest(handlers=handlers)
            if rest is None or (rest.until is not None and rest.until <= self._now):
                return None
            found.append((rest.number, rest.until))
        return found

    def _move(self, now: float) -> None:
        self._now = max(self._now, now)
        self._wake()

    def _wake(self) -> None:
        for timed in self._timed():
            timed.wake()

    def _timed(self) -> list[Timed]:
        return [timed for reference in list(self._attended) if (timed := reference()) is not None]

    def _forget(self, reference: ReferenceType[Timed]) -> None:
        self._attended.pop(reference, None)
