"""Keepalive: the times of automatic pings, the latency of pongs, and the detection of dead connections.

It never reads a clock: all times are seconds of the caller's monotonic clock.
"""

from __future__ import annotations

import os
from collections.abc import Callable

#: The number of pings that are remembered until their pongs arrive.
MAX_OUTSTANDING = 16


class Keepalive:
    """The pings of one connection. Not thread-safe: one thread at a time.

    The connection counts as dead once no bytes have been received for `ping_limit` seconds after a ping.

    Args:
        ping_rate: seconds between automatic pings; 0 for none.
        ping_limit: seconds to wait for a sign of life after a ping; 0 for no limit.
        random: a function that returns the given number of random bytes.

    Attributes:
        latency: seconds between the last answered ping and its pong, or None.
        waiting_since: when the first ping was sent since the last byte arrived, or None.
    """

    __slots__ = (
        "_count", "_limit", "_next_ping", "_outstanding", "_paused", "_rate", "_salt", "_start", "latency",
        "waiting_since",
    )

    def __init__(
        self, ping_rate: float, ping_limit: float, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self.latency: float | None = None
        self._rate = ping_rate
        self._limit = ping_limit
        # Unpredictable, so that a server cannot answer pings in advance.
        self._salt = random(4).hex()
        self._count = 0
        self._start: float | None = None
        self._next_ping: float | None = None
        self._outstanding: list[tuple[bytes, float]] = []  # payloads and times of sending, oldest first
        self.waiting_since: float | None = None  # the first ping since the last received byte
        self._paused = False

    def start(self, now: float) -> None:
        """Record that the connection is open. The first ping is due at once, as in Lomond."""
        self._start = now
        self._next_ping = now if self._rate else None

    def ping_due(self, now: float) -> bytes | None:
        """Return the payload of the automatic ping to send now, at most 125 bytes, or None."""
        if self._start is None or self._next_ping is None or now < self._next_ping:
            return None
        # The next multiple of the rate: missed pings are not sent later.
        periods = (now - self._start) // self._rate + 1
        self._next_ping = self._start + periods * self._rate
        if self._next_ping <= now:  # possible by rounding
            self._next_ping += self._rate
        self._count += 1
        payload = f"{self._salt}-{self._count}".encode()
        self.sent(payload, now)
        return payload

    def probe(self, now: float) -> None:
        """Record that the client may have been suspended: the next ping is due at once.

        The server may have disappeared in the meantime. The time limit of unanswered pings starts again,
        since no answer could be read.
        """
        if self._next_ping is not None:
            self._next_ping = now
        if self.waiting_since is not None:
            self.waiting_since = now

    def sent(self, payload: bytes, now: float) -> None:
        """Record that a ping was sent, by the user or automatically. The newest one with a payload counts."""
        others = [ping for ping in self._outstanding if ping[0] != payload]
        self._outstanding = [*others[-MAX_OUTSTANDING + 1 :], (payload, now)]
        if self.waiting_since is None:
            self.waiting_since = now

    def received(self, now: float) -> None:
        """Record that bytes were received at `now`, so the server is alive.

        They do not answer a ping that was sent after `now`.
        """
        if self.waiting_since is not None and self.waiting_since <= now:
            self.waiting_since = None

    def postpone(self, now: float) -> None:
        """Restart the wait for a sign of life, because data ahead of the ping is still arriving."""
        if self.waiting_since is not None:
            self.waiting_since = now

    def pong(self, payload: bytes, now: float) -> float | None:
        """Record that a pong was received. It also answers all older pings (RFC 6455 section 5.5.3).

        Returns:
            The seconds since its ping, or None if no remembered ping has that payload.
        """
        for index, (sent, when) in enumerate(self._outstanding):
            if sent == payload:
                self._outstanding = self._outstanding[index + 1 :]
                self.latency = now - when
                return self.latency
        return None

    def timed_out(self, now: float) -> bool:
        """Return whether the connection counts as dead."""
        timeout = self._timeout()
        return timeout is not None and now >= timeout

    def next_deadline(self) -> float | None:
        """Return when `ping_due` or `timed_out` must be called next, or None for never."""
        return earliest(self._next_ping, self._timeout())

    def pause(self) -> None:
        """Record that receiving stops because the inbox is full: silence is ignored until `resume`."""
        self._paused = True

    def resume(self, now: float) -> None:
        """Record that receiving continues. The time limit of unanswered pings starts again."""
        self._paused = False
        if self.waiting_since is not None:
            self.waiting_since = now

    def _timeout(self) -> float | None:
        if not self._limit or self._paused or self.waiting_since is None:
            return None
        return self.waiting_since + self._limit


def earliest(one: float | None, other: float | None) -> float | None:
    """Return the earlier of two times, where None means never."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
