"""Notices that this machine or this process stood still: suspended, paused, or starved.

While a machine is suspended the monotonic clock stands still on most systems and the wall clock does
not, so the two come apart. Where both go on, or only this process stood still, a wait ends long after
it should have. Either way whoever was connected may have gone meanwhile.
"""

from __future__ import annotations

#: Seconds from which on it is a gap. A loaded machine is late by less, and so is a corrected clock.
GAP_SECONDS = 5.0


class SuspensionDetector:
    """Looks at the clocks now and then; told the times, never asking. One thread at a time.

    A wall clock that is set forward looks like a gap, one that is set back does not.

    Args:
        now: monotonic seconds.
        wall: seconds of the wall clock.
    """

    def __init__(self, now: float, wall: float) -> None:
        self._apart = wall - now

    def passed(self, now: float, wall: float, due: float | None = None) -> bool:
        """Whether there was a gap since the last look.

        Args:
            now: monotonic seconds.
            wall: seconds of the wall clock.
            due: when the wait that is now over should have ended at the latest, in monotonic seconds;
                None if it had no end.
        """
        before, self._apart = self._apart, wall - now
        return self._apart - before > GAP_SECONDS or (due is not None and now - due > GAP_SECONDS)
