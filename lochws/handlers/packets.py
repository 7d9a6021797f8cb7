"""Packets: the parts of a stream of bytes that is spread over WebSocket messages, as in MQTT.

::

    def length(data: bytes) -> int | None:              # two bytes with the size, then the content
        return None if len(data) < 2 else 2 + int.from_bytes(data[:2], "big")

    packets = Packets(length)
    for packet in packets.feed(event.data):
        ...

In such protocols a packet may be split across messages, and a message may contain several packets.
`Subscriptions`, `Every`, `Answer` and `Replies` take the same function as `split`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from ..base.callables import check_takes
from ..options import MIB, check_range

#: A function that is given the beginning of a stream and returns the length of its first packet in bytes, or
#: None to ask for more bytes.
Split: TypeAlias = "Callable[[bytes], int | None]"

#: How many bytes the function gets at first, and how many at most.
_FIRST_LOOK = 256
_LONGEST_LOOK = 64 * 1024


class Packets:
    """Cuts a stream of bytes into packets. For one thread at a time.

    Args:
        split: a function that is given bytes, the first of which is the first of a packet, and returns the
            length of that packet: the number of its bytes, at least 1. It may be more than it was given. None
            asks for more bytes; 64 KiB must be enough. If it raises an exception, the stream is invalid.
        max_bytes: the maximum length of a packet.

    Raises:
        TypeError, ValueError: `split` is not callable, or `max_bytes` is less than 1.
    """

    def __init__(self, split: Split, *, max_bytes: int = 16 * MIB) -> None:
        if not callable(split):
            raise TypeError(f"split={split!r}: expected a function of bytes")
        check_takes("split", split, 1)
        check_range("max_bytes", max_bytes, 1)
        self._split = split
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._size: int | None = None  # of the packet at the beginning of the buffer, once it is known

    def feed(self, data: bytes | str) -> Iterator[bytes]:
        """Add bytes to the stream, and iterate over the packets that are complete.

        Args:
            data: the content of the next message; a text counts as its UTF-8 bytes.

        Returns:
            An iterator. Packets that were not taken from it are returned by the iterator of the next call.

        Raises:
            TypeError, ValueError: raised by the iterator: the function returned something other than a length
                or None, the packet is longer than `max_bytes`, or 64 KiB do not tell its length.
            Exception: raised by the iterator: whatever the function raised.
        """
        self._buffer += data.encode() if isinstance(data, str) else data
        return self._complete()

    def clear(self) -> None:
        """Begin a new stream. Call it when a connection is ready."""
        self._buffer.clear()
        self._size = None

    def _complete(self) -> Iterator[bytes]:
        while self._buffer:
            if self._size is None:
                self._size = self._first_size()
            size = self._size
            if size is None or len(self._buffer) < size:
                return
            packet = bytes(memoryview(self._buffer)[:size])
            del self._buffer[:size]
            self._size = None
            yield packet

    def _first_size(self) -> int | None:
        """Return the length of the first packet, or None if more bytes are needed to tell."""
        look = _FIRST_LOOK
        while True:
            size = self._split(bytes(memoryview(self._buffer)[:look]))
            if size is not None:
                break
            if len(self._buffer) <= look and len(self._buffer) < _LONGEST_LOOK:
                return None
            if look >= _LONGEST_LOOK:
                raise ValueError(f"split: the length of a packet cannot be told from its first {look} bytes")
            look *= 4
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"split returned {size!r}: expected the length of a packet, or None")
        if not 0 < size <= self._max_bytes:
            raise ValueError(f"split returned {size}: expected 1 to {self._max_bytes}, or None")
        return size
