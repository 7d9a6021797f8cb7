"""What a WebSocket has moved, counted over all its connections."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import ClassVar, Protocol

from ..connection.sending import SendingHalf
from ..system import forks


class _Connection(Protocol):
    is_counted: bool

    @property
    def messages_received(self) -> int:
        """Text and binary messages so far."""

    @property
    def bytes_received(self) -> int:
        """Bytes of the stream so far."""

    @property
    def sending(self) -> SendingHalf:
        """What leaves."""


@dataclass(frozen=True)
class Counters:
    """Totals since the WebSocket was made.

    Attributes:
        connections: connections that were opened.
        messages_received, messages_sent: text and binary messages; sent means handed to the kernel whole.
        messages_dropped: messages discarded because the send queue was full (``when_full="drop"``).
        bytes_received, bytes_sent: bytes of the stream, frame heads and control frames included, TLS
            and the opening handshake not.
    """

    connections: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    messages_dropped: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0


_NOTHING = Counters()


class Traffic:
    """The totals of connections that have ended. Written by the baton holder, read by anyone."""

    # One for all: it is held for moments, at the end of a connection and where somebody asks.
    _lock: ClassVar = threading.RLock()

    def __init__(self) -> None:
        self._ended = _NOTHING  # guarded by _lock, as is `is_counted` of connections

    def add(self, connection: _Connection) -> None:
        """A connection has ended."""
        with self._lock:
            self._ended = self.with_open(connection)
            connection.is_counted = True

    def with_open(self, connection: _Connection | None) -> Counters:
        """The totals, those of the open connection included, unless it has been counted meanwhile."""
        with self._lock:
            ended = self._ended
            if connection is None or connection.is_counted:
                return ended
            return self._sum(ended, connection)

    @classmethod
    def reset_after_fork(cls) -> None:
        """In the child of a fork: what was moved until then is known, and nobody counts on."""
        cls._lock = threading.RLock()

    @staticmethod
    def _sum(ended: Counters, connection: _Connection) -> Counters:
        return Counters(
            connections=ended.connections + 1,
            messages_received=ended.messages_received + connection.messages_received,
            messages_sent=ended.messages_sent + connection.sending.queue.messages_sent,
            messages_dropped=ended.messages_dropped + connection.sending.queue.dropped,
            bytes_received=ended.bytes_received + connection.bytes_received,
            bytes_sent=ended.bytes_sent + connection.sending.queue.bytes_sent,
        )


forks.register(Traffic)
