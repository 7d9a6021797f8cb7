"""Suspension detector: detects that this machine or this process was suspended for seconds.

While a machine is suspended, the monotonic clock stops on most systems, but the wall clock does not: the two
diverge. If both clocks keep running, or only this process was paused, a wait ends much later than it should.
In either case servers may have dropped their connections in the meantime.
"""

from __future__ import annotations

#: A gap longer than this, in seconds, counts as a suspension. Delays on a loaded machine are shorter, and so
#: are ordinary corrections of a clock.
GAP_SECONDS = 5.0


class SuspensionDetector:
    """A detector that compares the two clocks repeatedly. Times are passed in. For one thread at a time.

    A wall clock that is set forward looks like a suspension; one that is set back does not.

    Args:
        now: the time, in monotonic seconds.
        wall: the time by the wall clock, in seconds.

    Attributes:
        ahead: how many seconds the wall clock was ahead of the monotonic clock at the last comparison.
    """

    def __init__(self, now: float, wall: float) -> None:
        self.ahead = wall - now

    def was_suspended(self, now: float, wall: float, due: float | None = None) -> bool:
        """Return whether there was a suspension since the last call.

        Args:
            now: the time, in monotonic seconds.
            wall: the time by the wall clock, in seconds.
            due: the latest time at which the wait that has just ended should have ended, in monotonic
                seconds; None if it had no limit.
        """
        before, self.ahead = self.ahead, wall - now
        return self.ahead - before > GAP_SECONDS or (due is not None and now - due > GAP_SECONDS)
