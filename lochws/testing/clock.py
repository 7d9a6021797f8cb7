"""A clock that stands still until a test moves it on, so that a back-off of 30 s takes no time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from ..clock import Timed
from .stacks import stacks

#: Seconds between two looks at what the threads do.
_LOOK = 0.0003


class VirtualClock:
    """The time of apps and scripted servers under test: keepalive, Poll, closing, back-off, scripted pauses.

    It is put in the place of the machine's by ``with lochws.clock.using(clock)``, by
    ``Threads(clock=clock)``, or by the fixture ``ws_clock``. For the thread of the test: one at a time.

    What takes its time in fact does so still: opening a connection, a thread of the user's, a network.
    `advance` and `settle` wait until all threads of lochws and of the scripted servers that go by this
    clock wait too, so that what was due has been done when they return. What is under way to or from a
    server of another kind they cannot see.

    Args:
        patience: seconds, of the machine's clock, that those threads may take to come to rest.

    Attributes:
        patience: the same; it may be changed.
    """

    def __init__(self, patience: float = 10.0) -> None:
        self.patience = patience
        self._now = 1000.0  # with room before it; written by the test's thread
        self._ahead = time.time() - self._now  # the wall clock is so much ahead; likewise
        self._released: float | None = None
        self._attended: WeakSet[Timed] = WeakSet()  # guarded by _lock
        self._lock = threading.Lock()

    # What lochws asks for. Any thread.

    @property
    def passes(self) -> bool:
        """Whether the time passes by itself: once it was released."""
        return self._released is not None

    def monotonic(self) -> float:
        """The time, in seconds."""
        return self._now if self._released is None else self._now + time.monotonic() - self._released

    def wall(self) -> float:
        """What the wall clock shows: today's date at first."""
        return self.monotonic() + self._ahead

    def attend(self, timed: Timed) -> None:
        """Wake something whenever the clock is moved on."""
        with self._lock:
            self._attended.add(timed)

    # What tests do.

    def advance(self, seconds: float, *, handlers: bool = True) -> None:
        """Let so many seconds pass, from one moment at which something is due to the next.

        Args:
            seconds: how many.
            handlers: whether to wait, at each of those moments, until no handler runs. False lets the time
                pass for a handler that blocks.

        Raises:
            ValueError: less than nothing.
            AssertionError: the threads did not come to rest; the message says what they were at.
        """
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds!r}: expected a number from 0 up")
        self.advance_to(self._now + seconds, handlers=handlers)

    def advance_to(self, end: float, *, handlers: bool = True) -> None:
        """As `advance`, to a moment of `monotonic`. One that has passed is no error."""
        while (due := self.settle(handlers=handlers)) is not None and due <= end:
            self._move(due)
        self._move(end)
        self.settle(handlers=handlers)

    def advance_to_next(self, *, handlers: bool = True) -> float:
        """Let the time pass until the next moment at which something is due, and have it done.

        Returns:
            How many seconds that were; 0.0 if nothing waits for a time.

        Raises:
            AssertionError: as for `advance`.
        """
        before = self._now
        due = self.settle(handlers=handlers)
        if due is not None:
            self._move(due)
            self.settle(handlers=handlers)
        return self._now - before

    def suspend(self, seconds: float) -> None:
        """Have the machine sleep: the wall clock goes on by so many seconds, and nothing else does.

        Raises:
            ValueError: less than nothing.
            AssertionError: as for `advance`.
        """
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds!r}: expected a number from 0 up")
        self.settle()
        self._ahead += seconds
        self._move(self._now)
        self.settle()

    def settle(self, *, handlers: bool = True) -> float | None:
        """Wait until there is nothing to do but to wait.

        Returns:
            The next moment at which something is due, by `monotonic`, or None.

        Raises:
            AssertionError: the threads did not come to rest; the message says what they were at.
        """
        __tracebackhide__ = True
        pause = threading.Event()
        end = time.monotonic() + self.patience
        before: list[tuple[int, float | None]] | None = None
        while True:
            now = self._look(handlers)
            # Whoever did something between the two looks has another number. So nobody has, and in the
            # moment of the second there was nothing on its way to anybody.
            if now is not None and now == before:
                return min((until for _, until in now if until is not None), default=None)
            if time.monotonic() > end:
                busy = stacks("lochws-", "scripted-server-")
                raise AssertionError(f"no rest within {self.patience:g} s:\n{busy}")
            before = now
            pause.wait(_LOOK)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """While the ``with`` block runs the time passes, as fast as the threads can follow.

        For a block that waits for something that takes its time: ``with ws_clock.passing(): app.stop()``.
        """
        over = threading.Event()
        thread = threading.Thread(target=self._pass_until, args=(over,), name="ws-clock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def release(self) -> None:
        """Let the time pass by itself from now on, as fast as everywhere. For good."""
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
        """What each waits for; None if one does not wait."""
        with self._lock:
            attended = list(self._attended)
        found = []
        for timed in sorted(attended, key=id):
            rest = timed.rest(handlers=handlers)
            if rest is None or (rest.until is not None and rest.until <= self._now):
                return None
            found.append((rest.number, rest.until))
        return found

    def _move(self, now: float) -> None:
        self._now = max(self._now, now)
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            attended = list(self._attended)
        for timed in attended:
            timed.wake()
