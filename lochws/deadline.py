"""One time limit over many steps, and the way to end it early from another thread."""

from __future__ import annotations

import threading
from time import monotonic

from .wakeup import WakePipe


class Cancelled(Exception):
    """The user asked to stop while something was under way. Never leaves lochws."""


class Deadline:
    """A limit in seconds from now, shared by the steps of one opening; it can be cancelled.

    One thread waits under it; `cancel` may be called from any thread and ends the wait at once.

    Args:
        seconds: the limit, or None for none.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else monotonic() + seconds
        self._cancelled = threading.Event()
        self._pipe = WakePipe()

    def remaining(self) -> float | None:
        """Seconds left, or None if there is no limit.

        Raises:
            TimeoutError: none are left.
            Cancelled: `cancel` was called.
        """
        if self._cancelled.is_set():
            raise Cancelled
        if self._end is None:
            return None
        left = self._end - monotonic()
        if left <= 0:
            raise TimeoutError(f"timed out after {self.seconds:g} s")
        return left

    def cancel(self) -> None:
        """End whatever waits under this deadline. May be called from any thread; never blocks."""
        self._cancelled.set()
        self._pipe.wake()

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    def fileno(self) -> int:
        """A descriptor that becomes readable when the deadline is cancelled."""
        return self._pipe.fileno()

    def close(self) -> None:
        """Release the descriptors. `cancel` stays legal."""
        self._pipe.close()
