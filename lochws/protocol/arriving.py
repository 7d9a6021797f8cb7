"""Large payloads, received straight into memory of their own.

Copying a large message from the buffer that all messages come in costs as much as receiving it. So once a
frame's head says that much is to come, the receiver hands out room for it, and the stream fills that.
`Payload` is the compiled twin if there is one, which copies nothing at all, else `PayloadPython`.
"""

from __future__ import annotations

from typing import Protocol

from .scanning import compiled_or

#: What a declared length reserves at once, in bytes, untouched; beyond it twice of what has come.
RESERVED_BYTES = 1 << 20


class Arriving(Protocol):
    """The payload of one frame, `length` bytes, while it comes in. For one thread at a time."""

    def room(self, most: int) -> memoryview:
        """A writable view of memory for the next bytes: one byte at least, at most `most`.

        It must be released before anything else is called.
        """

    def received(self, count: int) -> None:
        """The first `count` bytes of the last room have been filled."""

    def write(self, part: bytes | bytearray | memoryview) -> None:
        """Add bytes that were received elsewhere."""

    def getvalue(self) -> bytes:
        """The whole payload. The last call."""


class PayloadPython:
    """The Python twin: a bytearray that grows, copied once in the end.

    Args:
        length: of the payload, in bytes.
        reserved: how much of it is reserved at once.
    """

    __slots__ = ("_buffer", "_filled", "_length")

    def __init__(self, length: int, reserved: int) -> None:
        self._length = length
        self._filled = 0
        self._buffer = bytearray(min(length, reserved))

    def room(self, most: int) -> memoryview:
        """As `Arriving.room`."""
        self._make_room(1)
        return memoryview(self._buffer)[self._filled : self._filled + most]

    def received(self, count: int) -> None:
        """As `Arriving.received`."""
        self._filled += count

    def write(self, part: bytes | bytearray | memoryview) -> None:
        """As `Arriving.write`.

        Raises:
            ValueError: there is more of it than the payload holds.
        """
        if len(part) > self._length - self._filled:
            raise ValueError("write: more than the payload holds")
        self._make_room(len(part))
        self._buffer[self._filled : self._filled + len(part)] = part
        self._filled += len(part)

    def getvalue(self) -> bytes:
        """As `Arriving.getvalue`.

        Raises:
            ValueError: it is not all there.
        """
        if self._filled != self._length:
            raise ValueError("the payload is not there")
        return bytes(self._buffer)

    def _make_room(self, wanted: int) -> None:
        size, needed = len(self._buffer), min(self._filled + wanted, self._length)
        if needed > size:
            self._buffer.extend(bytes(max(needed, min(2 * size, self._length)) - size))


def arriving(length: int) -> Arriving:
    """A payload of that length, of which nothing has come yet."""
    payload: Arriving = Payload(length, RESERVED_BYTES)
    return payload


Payload = compiled_or("Payload", PayloadPython)
