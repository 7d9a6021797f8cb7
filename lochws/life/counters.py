"""Counters: the messages and bytes that a WebSocket has sent and received over all its connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ..connection.sending import SendingHalf


class CountedConnection(Protocol):
    """A connection, as the counters see it."""

    is_counted: bool

    @property
    def messages_received(self) -> int:
        """The number of text and binary messages received."""

    @property
    def bytes_received(self) -> int:
        """The number of bytes received from the stream."""

    @property
    def sending(self) -> SendingHalf:
        """The sending half of the connection."""


@dataclass(frozen=True)
class Counters:
    """Totals since the WebSocket object was created.

    Attributes:
        connections: connections that were opened.
        messages_received, messages_sent: text and binary messages; sent means completely taken by the kernel.
        messages_dropped: messages discarded because the send queue was full (``when_full="drop"``).
        bytes_received, bytes_sent: bytes of the stream, including frame headers and control frames, but
            excluding TLS overhead and the opening handshake.
    """

    connections: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    messages_dropped: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0


class _Ended(NamedTuple):
    """The totals of all connections that have ended, and the connection that is being added."""

    totals: Counters
    added: CountedConnection | None


class Traffic:
    """The totals of a WebSocket's connections, at most one of which is open at a time.

    There is no lock: `add` replaces the totals in one assignment, and readers retry if that happened while
    they were reading. So signal handlers and finalizers may read them at any moment.
    """

    def __init__(self) -> None:
        self._ended = _Ended(Counters(), None)

    def add(self, connection: CountedConnection) -> None:
        """Add the totals of a connection that has ended. For the baton holder, once per connection."""
        totals = _sum(self._ended.totals, connection)
        self._ended = _Ended(totals, connection)
        connection.is_counted = True
        self._ended = _Ended(totals, None)

    def with_open(self, connection: CountedConnection | None) -> Counters:
        """Return the totals, including those of the open connection. Any thread."""
        while True:
            is_counted = connection is None or connection.is_counted  # must be read before the totals
            ended = self._ended
            if connection is None or is_counted or ended.added is connection:
                return ended.totals
            totals = _sum(ended.totals, connection)
            if self._ended is ended and not connection.is_counted:
                return totals


def _sum(ended: Counters, connection: CountedConnection) -> Counters:
    queue = connection.sending.queue
    return Counters(
        connections=ended.connections + 1,
        messages_received=ended.messages_received + connection.messages_received,
        messages_sent=ended.messages_sent + queue.messages_sent,
        messages_dropped=ended.messages_dropped + queue.dropped,
        bytes_received=ended.bytes_received + connection.bytes_received,
        bytes_sent=ended.bytes_sent + queue.bytes_sent,
    )
