"""Staleness: the detection of a server that sends no messages, although it may answer pings.

It never reads a clock: all times are seconds of the caller's monotonic clock. Messages set no timer: the
receiver only stores when it last received part of one, and that time is checked when the deadline passes.
"""

from __future__ import annotations


class Staleness:
    """The silences of one connection's server. Not thread-safe: one thread at a time.

    Args:
        limit: seconds without any part of a message after which the server is considered silent; 0 for never.

    Attributes:
        deadline: when `silence` must be called next, or None for never.
    """

    __slots__ = ("_limit", "_reported", "_since", "deadline")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._since = 0.0  # silence counts from here at the earliest
        self._reported: float | None = None  # the beginning of the silence reported last
        self.deadline: float | None = None

    def start(self, now: float) -> None:
        """Count from now on: the connection is open."""
        self._since = now
        self.deadline = now + self._limit if self._limit else None

    def pause(self) -> None:
        """Record that receiving stops because the inbox is full: silence is ignored until `restart`."""
        self.deadline = None

    def restart(self, now: float) -> None:
        """Count anew: receiving continues, or the machine was suspended, so the silence was ours."""
        self.start(now)

    def silence(self, heard: float, now: float) -> float | None:
        """Return for how long the server has been silent, in seconds, if that must be reported now.

        Each silence is reported once.

        Args:
            heard: when part of a message was last received; any earlier time if there was none.
            now: the time.
        """
        if self.deadline is None or now < self.deadline:
            return None
        since = max(heard, self._since)
        self.deadline = since + self._limit
        if now < self.deadline:
            return None
        self.deadline = now + self._limit  # another silence cannot be reported earlier
        if self._reported is not None and heard <= self._reported:
            return None
        self._reported = since
        return now - since
