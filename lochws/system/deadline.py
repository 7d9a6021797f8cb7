"""Deadlines: one time limit over several phases, which another thread can cancel."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

from .wakeup import WakePipe


class Cancelled(Exception):
    """Raised when a deadline was cancelled. Never leaves lochws."""


class Deadline:
    """A limit in seconds from now, for all phases of opening one connection.

    One thread waits under the deadline and announces each phase. Any thread may call `cancel`, which ends
    that wait immediately.

    Args:
        seconds: the limit, or None for no limit.

    Attributes:
        phase: the phase that was entered last; empty before the first.

    Raises:
        OSError: there are no descriptors left.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else monotonic() + seconds
        self._cancelled = False  # written once; a plain flag, because `cancel` may interrupt itself
        self._pipe = WakePipe()
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
        self._times = self.timings
        self.phase = phase
        self._entered = monotonic()
        limit = self._limits.get(phase)
        self._phase_end = None if limit is None else self._entered + limit
        self._times.setdefault(phase, 0.0)

    @property
    def timings(self) -> dict[str, float]:
        """Seconds spent in each phase so far, summed for a phase that was entered more than once."""
        times = dict(self._times)
        if self.phase:
            times[self.phase] += monotonic() - self._entered
        return times

    def remaining(self) -> float | None:
        """Return the seconds left, or None if there is no limit.

        Raises:
            TimeoutError: no time is left, for the phase or for the whole.
            Cancelled: `cancel` was called.
        """
        if self._cancelled:
            raise Cancelled
        now = monotonic()
        ends = [end for end in (self._end, self._phase_end) if end is not None]
        if self._end is not None and self._end <= now:
            raise TimeoutError(f"timed out after {self.seconds:g} s")
        if self._phase_end is not None and self._phase_end <= now:
            limit = self._limits[self.phase]
            raise TimeoutError(f"timed out after {limit:g} s, the limit of the phase {self.phase}")
        return min(ends) - now if ends else None

    def cancel(self) -> None:
        """End the wait under this deadline. May be called from any thread; never blocks."""
        self._cancelled = True
        self._pipe.wake()

    @property
    def is_cancelled(self) -> bool:
        """True if `cancel` was called."""
        return self._cancelled

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the deadline is cancelled.

        Raises:
            Cancelled: this is the child of a fork, where the descriptor is closed.
        """
        descriptor = self._pipe.fileno()
        if descriptor < 0:
            raise Cancelled
        return descriptor

    def close(self) -> None:
        """Close the descriptors. `cancel` may still be called."""
        self._pipe.close()
