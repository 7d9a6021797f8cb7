"""Payloads of large messages: received into their own memory, and decoded with little extra memory.

Copying a large message out of the shared receive buffer costs as much as receiving it. So once a frame's head
has announced a large payload, the receiver hands out memory for it, and the stream fills that. The compiled
twin is the `bytes` object that the user will get, and is never copied; the Python twin is copied once, at the
end.
"""

from __future__ import annotations

from codecs import utf_8_decode
from io import BytesIO
from typing import Protocol

from .compiled import compiled_or
from .frames import BytesLike

#: How much of a declared length is reserved at once, in bytes. Beyond that, memory doubles as bytes arrive,
#: so that a server cannot buy memory with a length alone.
RESERVED_BYTES = 1 << 20


class Payload(Protocol):
    """The payload of one frame while it arrives. Not thread-safe: one thread at a time."""

    def room(self, most: int) -> memoryview:
        """Return a writable view of memory for the next bytes, from 1 to `most` bytes long.

        The caller releases it before it calls anything else.
        """

    def received(self, count: int) -> None:
        """Take note that the first `count` bytes of the last `room` have been filled."""

    def write(self, part: BytesLike) -> None:
        """Add bytes that were received elsewhere.

        Raises:
            ValueError: the payload has no room for that many bytes.
        """

    def getvalue(self) -> bytes:
        """Return the whole payload. No other method may be called after this one.

        Raises:
            ValueError: the payload is not complete.
        """


class PayloadPython:
    """The Python twin of `Payload`: a bytearray that grows.

    Args:
        length: the length of the payload in bytes.
        reserved: how many of these bytes to reserve at once.
    """

    __slots__ = ("_buffer", "_filled", "_length")

    def __init__(self, length: int, reserved: int) -> None:
        self._length = length
        self._filled = 0
        self._buffer = bytearray(min(length, reserved))

    def room(self, most: int) -> memoryview:
        """Return a writable view of memory for the next bytes, from 1 to `most` bytes long."""
        self._make_room(1)
        return memoryview(self._buffer)[self._filled : self._filled + most]

    def received(self, count: int) -> None:
        """Take note that the first `count` bytes of the last `room` have been filled."""
        self._filled += count

    def write(self, part: BytesLike) -> None:
        """Add bytes that were received elsewhere.

        Raises:
            ValueError: the payload has no room for that many bytes.
        """
        if len(part) > self._length - self._filled:
            raise ValueError("write: more than the payload holds")
        self._make_room(len(part))
        self._buffer[self._filled : self._filled + len(part)] = part
        self._filled += len(part)

    def getvalue(self) -> bytes:
        """Return a copy of the whole payload.

        Raises:
            ValueError: the payload is not complete.
        """
        if self._filled != self._length:
            raise ValueError("the payload is not complete")
        return bytes(self._buffer)

    def _make_room(self, wanted: int) -> None:
        size, needed = len(self._buffer), min(self._filled + wanted, self._length)
        if needed > size:
            self._buffer.extend(bytes(max(needed, min(2 * size, self._length)) - size))


def new_payload(length: int, reserved: int) -> Payload:
    """Return an empty payload. The arguments are those of `PayloadPython`."""
    payload: Payload = _Payload(length, reserved)
    return payload


def as_bytes(method: str, data: BytesLike, expected: str = "a bytes-like object") -> bytes:
    """Return the data as bytes, copied unless it is bytes already.

    Args:
        method: the name of the method that was called, for the error.
        data: any bytes-like object.
        expected: what the method accepts, for the error.

    Raises:
        TypeError: the data is not bytes-like.
    """
    if type(data) is bytes:
        return data
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(f"{method}: expected {expected}, not {type(data).__name__}") from None


def decode_payload_python(buffer: BytesIO) -> str:
    """Decode the text in a buffer that is no longer needed.

    The compiled twin gives back the buffer's memory while the str grows, which can take four times as much.

    Args:
        buffer: holds UTF-8. It is closed.

    Raises:
        UnicodeDecodeError: the content is not valid UTF-8.
    """
    data = buffer.getvalue()
    buffer.close()
    return data.decode()


def is_utf8_python(data: bytes) -> bool:
    """Return whether `data` is valid UTF-8 (RFC 3629). The compiled twin decodes nothing."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def begins_utf8(data: BytesLike) -> bool:
    """Return whether the data is valid UTF-8 (RFC 3629), except that its last character may be incomplete."""
    try:
        whole = utf_8_decode(data, "strict", False)[1]
    except UnicodeDecodeError:
        return False
    # Python waits for the third byte of a surrogate, although the second byte is already invalid (RFC 3629
    # section 4).
    return not (len(data) - whole == 2 and data[whole] == 0xED and data[whole + 1] >= 0xA0)


_Payload = compiled_or("Payload", PayloadPython)
decode_payload = compiled_or("decode_payload", decode_payload_python)
is_utf8 = compiled_or("is_utf8", is_utf8_python)
