"""Sent items: the types that `on_sent` handlers receive, in the order of sending."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias


class ControlFrame(NamedTuple):
    """A control frame sent by the user or by lochws itself (RFC 6455 section 5.5).

    Attributes:
        name: ``"ping"``, ``"pong"`` or ``"close"``.
        data: its payload, at most 125 bytes.
    """

    name: str
    """``"ping"``, ``"pong"`` or ``"close"``."""
    data: bytes
    """Its payload, at most 125 bytes."""

    @property
    def code(self) -> int | None:
        """The code of a Close frame; None without a code, and for other frames."""
        return int.from_bytes(self.data[:2], "big") if self.name == "close" and self.data else None

    @property
    def reason(self) -> str:
        """The reason of a Close frame; empty without a reason, and for other frames."""
        return self.data[2:].decode() if self.name == "close" else ""


class Streamed(NamedTuple):
    """A message sent by `lochws.WebSocket.send_stream`, which is never in memory as a whole.

    Attributes:
        name: ``"text"`` or ``"binary"``.
        size: its length in bytes, before compression.
    """

    name: str
    """``"text"`` or ``"binary"``."""
    size: int
    """Its length in bytes, before compression."""


#: A text message, a binary message, a control frame, or a message that was sent as a stream.
Sent: TypeAlias = "str | bytes | ControlFrame | Streamed"
#: A function that receives the items that are about to be written.
Tap: TypeAlias = "Callable[[tuple[Sent, ...]], object]"
