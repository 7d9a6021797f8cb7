"""Gate: refuses ordinary sends on each new connection until session setup is complete."""

from __future__ import annotations

import threading
from typing import Protocol

from ..connection.connection import Connection
from ..connection.sending import SendingHalf
from ..errors import WebSocketUnavailable
from ..protocol.frames import BytesLike
from ..protocol.sender import as_bytes


class Gate:
    """Refuses ordinary sends on each new connection until it is opened. Made by `WebSocketApp.gate`.

    While a gate is closed, `WebSocketApp.send_text` and the other methods that send messages raise
    `WebSocketUnavailable` in every thread and every handler, `WebSocketApp.is_active` is False, and
    `WebSocketApp.wait_ready` waits. Received messages reach their handlers, and pings can be sent. A
    connection that ends while a gate is closed counts as a failure for the `Backoff`, however long it was
    open.

    Any thread and any handler may call the methods; none of them blocks.
    """

    def __init__(self, gates: Gates) -> None:
        self._gates = gates

    def send(self, message: str | BytesLike) -> bool:
        """Send a message, whatever gates are closed.

        Args:
            message: a str to send as text, or a bytes-like object to send as binary.

        Returns:
            True; False if the message was dropped because the queue is full (``when_full="drop"``).

        Raises:
            TypeError: the message is neither a str nor a bytes-like object.
            ValueError: the text has lone surrogates and cannot be encoded as UTF-8.
            WebSocketUnavailable: there is no connection, or it is closing.
            QueueFull: there is no room in the queue.
            TransportFail: the network failed, and the message was not sent whole.
        """
        data = message if isinstance(message, str) else as_bytes("Gate.send", message)
        sending = self._gates.sending()
        if sending is None:
            raise WebSocketUnavailable("not sent: there is no connection")
        return sending.send_text(data, True) if isinstance(data, str) else sending.send_binary(data, True)

    def open(self) -> None:
        """Open the gate for as long as the connection lasts. On the next connection it is closed again.

        Called from a handler, this opens the gate of the connection whose event is handled. Another thread
        may come too late, and open the gate of the connection after that.
        """
        self._gates.open(self, for_good=False)

    def remove(self) -> None:
        """Remove the gate from this connection and from those to come."""
        self._gates.open(self, for_good=True)


class Guarded(Protocol):
    """The life of an app, as its gates see it."""

    lock: threading.RLock

    @property
    def connection(self) -> Connection | None:
        """The open connection, or None."""

    def gates_changed(self) -> None:
        """Let everybody send if all gates are open. Under the lock."""


class Gates:
    """All gates of one app. Their state is guarded by the lock of the app's life."""

    def __init__(self, life: Guarded) -> None:
        self._life = life
        self._all: frozenset[Gate] = frozenset()
        self._closed: frozenset[Gate] = frozenset()  # on the present connection

    def make(self) -> Gate:
        """Make a gate, closed on each connection to come. Any thread."""
        gate = Gate(self)
        with self._life.lock:
            self._all |= {gate}
        return gate

    def close_all(self) -> None:
        """Close every gate: there is a new connection. Under the lock."""
        self._closed = self._all

    @property
    def are_open(self) -> bool:
        """True if all gates are open on the present connection. Under the lock."""
        return not self._closed

    def open(self, gate: Gate, *, for_good: bool) -> None:
        """Open a gate on the present connection, or remove it. Any thread."""
        with self._life.lock:
            self._closed -= {gate}
            if for_good:
                self._all -= {gate}
            self._life.gates_changed()

    def sending(self) -> SendingHalf | None:
        """Return what sends over the open connection whatever gates are closed, or None. Any thread."""
        connection = self._life.connection
        return None if connection is None else connection.sending
