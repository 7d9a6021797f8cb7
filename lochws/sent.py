"""What leaves a connection, as `on_sent` handlers are told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias


class ControlFrame(NamedTuple):
    """A control frame that leaves, the user's or one of the protocol's own (RFC 6455 section 5.5).

    Attributes:
        name: ``"ping"``, ``"pong"`` or ``"close"``.
        data: its payload, at most 125 bytes.
    """

    name: str
    data: bytes

    @property
    def code(self) -> int | None:
        """The code of a Close frame, or None if it has none."""
        return int.from_bytes(self.data[:2], "big") if self.name == "close" and self.data else None

    @property
    def reason(self) -> str:
        """The reason of a Close frame, empty if it has none."""
        return self.data[2:].decode() if self.name == "close" else ""


#: What leaves: a text message, a binary one, or a control frame.
Sent: TypeAlias = "str | bytes | ControlFrame"
#: Is told of what leaves.
Tap: TypeAlias = "Callable[[tuple[Sent, ...]], object]"
