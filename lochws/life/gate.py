"""Gate: refuses ordinary sends on each new connection until session setup is complete."""

from __future__ import annotations

from typing import Protocol

from ..connection.sending import SendingHalf
from ..errors import WebSocketUnavailable
from ..protocol.frames import BytesLike
from ..protocol.sender import as_bytes


class GateKeeper(Protocol):
    """What a gate asks of the life of its app."""

    def past_gates(self) -> SendingHalf | None:
        """Return what sends over the open connection whatever gates are closed, or None."""

    def gate_opened(self, gate: Gate, *, for_good: bool) -> None:
        """Note that a gate is open to the present connection, or to all connections."""


class Gate:
    """Keeps everybody else from sending over each new connection until it is opened.

    Made by `WebSocketApp.gate`. While a gate is shut, `WebSocketApp.send_text` and the like raise
    `WebSocketUnavailable` in every thread and every handler, `WebSocketApp.is_active` is False, and
    `WebSocketApp.wait_ready` waits; received messages reach their handlers, and pings can be sent. A
    connection that ends behind a shut gate counts as a failure to the `Backoff`, however long it was open.

    Any thread may call the methods; none blocks.
    """

    def __init__(self, life: GateKeeper) -> None:
        self._life = life

    def send(self, message: str | BytesLike) -> bool:
        """Send a message past all gates: text if it is a str, else binary.

        Returns:
            Whether it was accepted, as for `WebSocketApp.send_text`.

        Raises:
            TypeError: it is neither a str nor a bytes-like object.
            ValueError, WebSocketUnavailable, QueueFull, TransportFail: as for `WebSocketApp.send_text`.
        """
        data = message if isinstance(message, str) else as_bytes("Gate.send", message)
        sending = self._life.past_gates()
        if sending is None:
            raise WebSocketUnavailable("data not sent: there is no connection")
        return sending.send_text(data, True) if isinstance(data, str) else sending.send_binary(data, True)

    def open(self) -> None:
        """Let the others send, for as long as the connection lasts; the next one begins with the gate shut.

        In a handler that is the connection whose event it handles. Another thread may come too late, and
        open the gate to the connection that came next.
        """
        self._life.gate_opened(self, for_good=False)

    def remove(self) -> None:
        """Do away with the gate."""
        self._life.gate_opened(self, for_good=True)
