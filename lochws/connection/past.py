"""Past: what a WebSocket remembers of its earlier attempts and connections, for its next Ready event."""

from __future__ import annotations

from ..base.records import record


@record(frozen=True)
class Opening:
    """The origin of a connection: the attributes of `lochws.events.Ready` with these names."""

    attempt: int
    is_reconnect: bool
    outage: float | None
    last_message_at: float | None


class Past:
    """The attempts since the last connection, and how that ended. The time is passed in.

    One thread at a time: an attempt, its connection and the next attempt follow one another.
    """

    __slots__ = ("_attempts", "_ended_at", "_last_message_at")

    def __init__(self) -> None:
        self._attempts = 0
        self._ended_at: float | None = None
        self._last_message_at: float | None = None

    def tried(self) -> None:
        """Record that an attempt to connect begins."""
        self._attempts += 1

    def opened(self, now: float) -> Opening:
        """Record that a WebSocket has opened, and return its origin."""
        ended_at = self._ended_at
        outage = None if ended_at is None else now - ended_at
        opening = Opening(self._attempts, ended_at is not None, outage, self._last_message_at)
        self._attempts = 0
        return opening

    def ended(self, now: float, last_message_at: float | None) -> None:
        """Record that an open WebSocket has ended.

        Args:
            now: the time, in monotonic seconds.
            last_message_at: the `received_time` of the last message that it received, or None.
        """
        self._ended_at = now
        if last_message_at is not None:
            self._last_message_at = last_message_at
