"""Sliding window: a limit on the number of frames sent within any span of some seconds.

It never reads a clock: all times are seconds of the caller's monotonic clock.
"""

from __future__ import annotations

from collections import deque

from ..options import Rate


class SlidingWindow:
    """Counts the frames sent within the last `seconds`, and tells how many more may be sent.

    `spend` is for one thread at a time, and no other method may run meanwhile; the others change nothing.

    Args:
        limit: how many may be sent within any span of that length.
        seconds: the length of the span. Something sent at `t` no longer counts at ``t + seconds``.
    """

    __slots__ = ("_count", "_spent", "limit", "seconds")

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self._spent: deque[tuple[float, int]] = deque()  # when and how many, oldest first
        self._count = 0  # the sum of these numbers

    def free(self, now: float) -> int:
        """Return how many may be sent now."""
        return self.limit - self._count + sum(count for _, count in self._spent_before(now))

    def spend(self, count: int, now: float) -> None:
        """Record that this many were sent; at most as many as are free. `now` never decreases."""
        expired = len(self._spent_before(now))
        self._count += count - sum(self._spent.popleft()[1] for _ in range(expired))
        self._spent.append((now, count))

    def opens_at(self, now: float) -> float:
        """Return when at least one may be sent: now, or when the oldest that still counts stops counting."""
        if self.free(now):
            return now
        return self._spent[len(self._spent_before(now))][0] + self.seconds

    def wait(self, ahead: int, now: float) -> float:
        """Return how long a frame must wait if `ahead` others go first, each as early as possible.

        Args:
            ahead: how many go first.
            now: the time.
        """
        used = self.limit - self.free(now)
        # Each goes `seconds` after the one `limit` places before it, or now if that time has passed.
        rounds, place = divmod(used + ahead, self.limit)
        return max(0.0, self._sent_at(place, now) + rounds * self.seconds - now)

    def _sent_at(self, place: int, now: float) -> float:
        """Return when the frame at this place was sent, among those that still count, or `now`."""
        for when, count in list(self._spent)[len(self._spent_before(now)) :]:
            place -= count
            if place < 0:
                return when
        return now

    def _spent_before(self, now: float) -> list[tuple[float, int]]:
        """Return the entries that no longer count."""
        expired = []
        for entry in self._spent:
            if entry[0] + self.seconds > now:
                break
            expired.append(entry)
        return expired


def make_window(rate: Rate) -> SlidingWindow:
    """Return a new window for a rate."""
    return SlidingWindow(rate.limit, rate.seconds)


def kept_window(rate: Rate | None) -> SlidingWindow | None:
    """Return a new window for all connections of a client; None if each connection begins a new one."""
    return make_window(rate) if rate is not None and rate.scope == "client" else None
