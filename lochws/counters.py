"""Counters: the messages and bytes that a WebSocket, or one of its connections, has sent and received."""

from __future__ import annotations

from .base.records import record


@record(frozen=True)
class Counters:
    """The messages and bytes of all connections since a WebSocket was created, or of one connection.

    Attributes:
        connections: connections that were opened.
        messages_received: text and binary messages received.
        messages_sent: text and binary messages sent, that is, completely taken by the kernel.
        messages_dropped: messages discarded because the send queue was full (``when_full="drop"``).
        bytes_received: bytes received, including frame headers and control frames, but excluding TLS overhead
            and the opening handshake.
        bytes_sent: bytes sent, including frame headers and control frames, but excluding TLS overhead and the
            opening handshake.
    """

    connections: int = 0
    """Connections that were opened."""
    messages_received: int = 0
    """Text and binary messages received."""
    messages_sent: int = 0
    """Text and binary messages sent, that is, completely taken by the kernel."""
    messages_dropped: int = 0
    """Messages discarded because the send queue was full (``when_full="drop"``)."""
    bytes_received: int = 0
    """Bytes received, including frame headers and control frames, but excluding TLS overhead and the
    opening handshake."""
    bytes_sent: int = 0
    """Bytes sent, including frame headers and control frames, but excluding TLS overhead and the opening
    handshake."""
