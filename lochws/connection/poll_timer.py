"""Poll timer: a periodic timer for Poll events, suspended while no handler wants them."""

from __future__ import annotations


class PollTimer:
    """The deadlines of Poll events, in monotonic seconds. The time is passed in. For one thread at a time.

    Args:
        period: seconds between two Polls; 0 for none.

    Attributes:
        deadline: when `is_due` should be called next, or None for never.
    """

    __slots__ = ("_next", "_period", "deadline")

    def __init__(self, period: float) -> None:
        self._period = period
        self._next = 0.0
        self.deadline: float | None = None

    def start(self, now: float) -> bool:
        """Start the timer. Return whether a Poll is due immediately."""
        if self._period:
            self.deadline = self._next = now + self._period
        return bool(self._period)

    def is_due(self, now: float) -> bool:
        """Return whether a Poll is due; if so, schedule the next one a period later."""
        if self.deadline is None or now < self.deadline:
            return False
        self.deadline = self._next = max(self.deadline + self._period, now)
        return True

    def rest(self) -> None:
        """Suspend the timer, since no handler wants Polls."""
        self.deadline = None

    def go_on(self, now: float) -> None:
        """Resume a suspended timer in the same rhythm, since a handler wants Polls."""
        if self._period and self.deadline is None:
            missed = max(0.0, (now - self._next) // self._period + 1)
            self.deadline = self._next + missed * self._period
