"""Counters: the messages and bytes that a WebSocket, or one of its connections, has sent and received."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counters:
    """The messages and bytes of all connections since a WebSocket was created, or of one connection.

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
