"""When to ping, what a pong says, and when a connection counts as dead; told the time, never asking.

Every time is in seconds of one monotonic clock, the caller's.
"""

from __future__ import annotations

import os
from collections.abc import Callable

#: So many pings are remembered until their pong comes.
MAX_OUTSTANDING = 16


class Keepalive:
    """The pings of one connection.

    A ping that no received byte follows for `ping_limit` seconds means that the connection is dead.
    One thread at a time.

    Args:
        ping_rate: seconds between automatic pings; 0 for none.
        ping_limit: seconds that a ping may go without a sign of life; 0 for no limit.
        random: gives as many random bytes as it is asked for.

    Attributes:
        latency: seconds between the last answered ping and its pong, or None.
        waiting_since: when the first ping was sent since the last byte arrived, or None.
    """

    def __init__(
        self, ping_rate: float, ping_limit: float, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        self.latency: float | None = None
        self._rate = ping_rate
        self._limit = ping_limit
        # Nobody who cannot see our pings can answer them in advance.
        self._salt = random(4).hex()
        self._count = 0
        self._start: float | None = None
        self._next_ping: float | None = None
        self._outstanding: list[tuple[bytes, float]] = []  # with when each was sent, oldest first
        self.waiting_since: float | None = None  # the first ping since the last received byte
        self._paused = False

    def start(self, now: float) -> None:
        """Begin: the connection is open. The first ping is due at once, as Lomond's is."""
        self._start = now
        self._next_ping = now if self._rate else None

    def ping_due(self, now: float) -> bytes | None:
        """The payload of the automatic ping that must go out now, or None; at most 125 bytes."""
        if self._start is None or self._next_ping is None or now < self._next_ping:
            return None
        # To the next whole multiple of the rate: pings missed meanwhile are not made up for.
        periods = (now - self._start) // self._rate + 1
        self._next_ping = self._start + periods * self._rate
        if self._next_ping <= now:  # by rounding
            self._next_ping += self._rate
        self._count += 1
        payload = f"{self._salt}-{self._count}".encode()
        self.sent(payload, now)
        return payload

    def probe(self, now: float) -> None:
        """The client may have been suspended, and the server gone meanwhile: the next ping is due at once.

        Pings without an answer get their whole time again, for nobody was there to read one.
        """
        if self._next_ping is not None:
            self._next_ping = now
        if self.waiting_since is not None:
            self.waiting_since = now

    def sent(self, payload: bytes, now: float) -> None:
        """A ping went out; a user's too. Of several with one payload the newest counts."""
        others = [ping for ping in self._outstanding if ping[0] != payload]
        self._outstanding = [*others[-MAX_OUTSTANDING + 1 :], (payload, now)]
        if self.waiting_since is None:
            self.waiting_since = now

    def received(self, now: float) -> None:
        """Bytes came from the server, whatever they are: it is alive.

        They are no answer to a ping that was sent after `now`.
        """
        if self.waiting_since is not None and self.waiting_since <= now:
            self.waiting_since = None

    def postpone(self, now: float) -> None:
        """Wait for a sign of life for the whole time again: what is ahead of the ping is still arriving."""
        if self.waiting_since is not None:
            self.waiting_since = now

    def pong(self, payload: bytes, now: float) -> float | None:
        """A pong came: the seconds since its ping, or None if it answers none that is remembered.

        Older pings are forgotten with it: a pong may answer several (RFC 6455 section 5.5.3).
        """
        for index, (sent, when) in enumerate(self._outstanding):
            if sent == payload:
                self._outstanding = self._outstanding[index + 1 :]
                self.latency = now - when
                return self.latency
        return None

    def timed_out(self, now: float) -> bool:
        """Whether the connection counts as dead."""
        timeout = self._timeout()
        return timeout is not None and now >= timeout

    def next_deadline(self) -> float | None:
        """When `ping_due` or `timed_out` must be asked next, or None for never."""
        return earliest(self._next_ping, self._timeout())

    def pause(self) -> None:
        """Receiving stops on purpose, since the inbox is full: silence says nothing until `resume`."""
        self._paused = True

    def resume(self, now: float) -> None:
        """Receiving goes on; pings without an answer get their whole time again."""
        self._paused = False
        if self.waiting_since is not None:
            self.waiting_since = now

    def _timeout(self) -> float | None:
        if not self._limit or self._paused or self.waiting_since is None:
            return None
        return self.waiting_since + self._limit


def earliest(one: float | None, other: float | None) -> float | None:
    """The earlier of two times, where None stands for never."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
