"""Deadlines: one time limit over several phases, which another thread can cancel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic

from .wakeup import WakePipe


class Cancelled(Exception):
    """Raised when a deadline was cancelled. Never leaves lochws."""


class Deadline:
    """A limit in seconds from now, for all phases of opening one connection.

    One thread at a time waits under the deadline and announces each phase. Any thread may call `cancel`,
    which ends that wait immediately. A thread learns of it through the descriptor, a loop through `attend`.

    Args:
        seconds: the limit, or None for no limit.

    Attributes:
        phase: the phase that was entered last; empty before the first.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else monotonic() + seconds
        self._cancelled = False  # written once; a plain flag, because `cancel` may interrupt itself
        self._pipe: WakePipe | None = None  # made when first waited on
        self._notify: Callable[[], object] | None = None
        self._was_woken = False  # written once, before _notify is read
        self.phase = ""
        self._entered = monotonic()
        self._limits: Mapping[str, float] = {}
        self._phase_end: float | None = None
        self._times: dict[str, float] = {}

    def limit_phases(self, limits: Mapping[str, float]) -> None:
        """Limit phases, by name, to a number of seconds each, within the limit of the whole."""
        self._limits = limits

    def enter(self, phase: str) -> None:
        """Begin a phase, which ends the previous one."""
        now = monotonic()
        if self.phase:
            self._times[self.phase] += now - self._entered
        self._times.setdefault(phase, 0.0)
        self.phase = phase
        self._entered = now
        limit = self._limits.get(phase)
        self._phase_end = None if limit is None else now + limit

    @property
    def timings(self) -> dict[str, float]:
        """Seconds spent in each phase so far, summed for a phase that was entered more than once."""
        times = dict(self._times)
        if self.phase:
            times[self.phase] += monotonic() - self._entered
        return times

    def until(self) -> float | None:
        """Return the time of the deadline in monotonic seconds, or None if it is unlimited.

        Raises:
            TimeoutError: no time is left, for the phase or for the whole.
            Cancelled: `cancel` was called.
        """
        if self._cancelled:
            raise Cancelled
        now = monotonic()
        if self._end is not None and self._end <= now:
            raise TimeoutError(f"timed out after {self.seconds:g} s")
        if self._phase_end is None:
            return self._end
        if self._phase_end <= now:
            limit = self._limits[self.phase]
            raise TimeoutError(f"timed out after {limit:g} s, the limit of the phase {self.phase}")
        return self._phase_end if self._end is None else min(self._end, self._phase_end)

    def cancel(self) -> None:
        """End the wait under this deadline. May be called from any thread; never blocks."""
        self._cancelled = True
        self.wake()

    def wake(self) -> None:
        """Have the waiting thread check what it waits for. May be called from any thread; never blocks."""
        self._was_woken = True
        notify = self._notify
        if notify is not None:
            notify()

    def reset_after_fork(self) -> None:
        """Count as cancelled in the child of a fork: the parent goes on. For the thread that waits."""
        self._cancelled = True

    def attend(self, notify: Callable[[], object]) -> None:
        """Have a function called by `wake`, and immediately if `wake` was called before."""
        self._notify = notify
        if self._was_woken:
            notify()

    @property
    def is_cancelled(self) -> bool:
        """True if `cancel` was called."""
        return self._cancelled

    def fileno(self) -> int:
        """Return a descriptor that `wake` makes readable. For the thread that waits.

        Raises:
            OSError: there are no descriptors left.
            Cancelled: this is the child of a fork, where the descriptor is closed.
        """
        if self._pipe is None:
            self._pipe = WakePipe()
            self.attend(self._pipe.wake)
        descriptor = self._pipe.fileno()
        if descriptor < 0:
            raise Cancelled
        return descriptor

    def drain(self) -> None:
        """Make the descriptor unreadable again. For the thread that waits."""
        if self._pipe is not None:
            self._pipe.drain()

    def close(self) -> None:
        """Close the descriptor, if there is one. `cancel` may still be called."""
        if self._pipe is not None:
            self._pipe.close()
