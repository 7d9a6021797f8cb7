"""Suspension detector: notices that this machine or this process stood still for seconds.

While a machine is suspended, the monotonic clock stands still on most systems, and the wall clock does not:
the two diverge. Where both go on, or only this process was paused, a wait ends long after it should have.
Either way the servers may have dropped their connections meanwhile.
"""

from __future__ import annotations

#: A gap longer than this, in seconds, counts as a suspension. A loaded machine is late by less than that, and
#: a clock that is corrected moves by less.
GAP_SECONDS = 5.0


class SuspensionDetector:
    """Compares the two clocks, again and again. The times are passed in. For one thread at a time.

    A wall clock that is set forward looks like a suspension; one that is set back does not.

    Args:
        now: the time, in monotonic seconds.
        wall: the time by the wall clock, in seconds.

    Attributes:
        ahead: by how many seconds the wall clock was ahead of the other when they were last compared.
    """

    def __init__(self, now: float, wall: float) -> None:
        self.ahead = wall - now

    def was_suspended(self, now: float, wall: float, due: float | None = None) -> bool:
        """Return whether there was a suspension since the last call.

        Args:
            now: the time, in monotonic seconds.
            wall: the time by the wall clock, in seconds.
            due: when the wait that has just ended should have ended at the latest, in monotonic seconds; None
                if it had no end.
        """
        before, self.ahead = self.ahead, wall - now
        return self.ahead - before > GAP_SECONDS or (due is not None and now - due > GAP_SECONDS)
