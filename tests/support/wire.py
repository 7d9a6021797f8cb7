"""Frames of a server as bytes, and how a test feeds them to a receiver and compares the events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle
from typing import Any

from lochws.events import Event
from lochws.protocol.deflate import DeflateParameters, Deflater
from lochws.protocol.frames import Opcode
from lochws.protocol.receiver import Receiver

#: Sizes around the boundaries of the three forms of a length.
SIZES = (0, 1, 125, 126, 127, 65535, 65536)

#: Ways in which the network may cut a stream into pieces.
CHUNKINGS: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "whole": lambda stream: [stream],
    "one byte at a time": lambda stream: (stream[i : i + 1] for i in range(len(stream))),
    "halves": lambda stream: [stream[: len(stream) // 2], stream[len(stream) // 2 :]],
}


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = False) -> bytes:
    """Build a frame; `rsv` has three bits, of which RSV1 is 4."""
    length = len(payload)
    first = bytes([fin << 7 | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if length < 126:
        head = first + bytes([bit | length])
    elif length < 65536:
        head = first + bytes([bit | 126]) + length.to_bytes(2, "big")
    else:
        head = first + bytes([bit | 127]) + length.to_bytes(8, "big")
    return head + (b"\0\0\0\0" if mask else b"") + payload


def deflated(opcode: int, payload: bytes, deflater: Deflater) -> bytes:
    """Compress a message into one frame."""
    return frame(opcode, deflater.compress(payload), rsv=4)


def fragments(opcode: int, parts: Iterable[bytes], *, rsv: int = 0) -> Iterator[bytes]:
    """Build a message with one frame per part."""
    parts = list(parts)
    for index, part in enumerate(parts):
        first = index == 0
        yield frame(
            opcode if first else Opcode.CONTINUATION, part,
            fin=index == len(parts) - 1, rsv=rsv if first else 0,
        )


def mirrored(parameters: DeflateParameters) -> DeflateParameters:
    """Return the same agreement from the server's side, so that a Deflater can play the server."""
    return DeflateParameters(
        server_no_context_takeover=parameters.client_no_context_takeover,
        client_no_context_takeover=parameters.server_no_context_takeover,
        server_max_window_bits=parameters.client_max_window_bits,
        client_max_window_bits=parameters.server_max_window_bits,
    )


def seen(events: Iterable[Any]) -> list[tuple[str, str | bytes]]:
    """Return events as pairs of name and content, which can be compared."""
    return [(event.name, event.text if event.name == "text" else event.data) for event in events]


def feed(receiver: Receiver, chunks: Iterable[bytes]) -> list[tuple[str, str | bytes]]:
    """Feed chunks to a receiver; return its events as `seen` does."""
    return seen(event for chunk in chunks for event in receiver.receive(chunk))


class Inflating:
    """A function in place of an `Inflater`, without a stream."""

    stream = None

    def __init__(self, message: Callable[[bytes, int], bytes | None]) -> None:
        self.message = message

    def go_on(self, inflated: bytes, limit: int) -> bytes:
        raise AssertionError("go_on was called without a stream")


class Arriving:
    """Bytes that arrive from memory: called in place of a stream's `receive_into`.

    Args:
        data: the bytes.
        limits: how many bytes each call receives at most, in turn.
        uses_more: whether a second buffer is filled, too.

    Attributes:
        rooms: the sizes of the buffers of each call.
    """

    def __init__(self, data: bytes, limits: Sequence[int] = (1 << 40,), *, uses_more: bool = True) -> None:
        self._data, self._position = memoryview(data), 0
        self._limits = cycle(limits)
        self._uses_more = uses_more
        self.rooms: list[tuple[int, ...]] = []

    @property
    def is_left(self) -> bool:
        """Whether anything has not arrived yet."""
        return self._position < len(self._data)

    def __call__(self, *buffers: Any) -> int | None:
        views = [memoryview(buffer) for buffer in buffers]
        self.rooms.append(tuple(map(len, views)))
        left = next(self._limits)
        count = 0
        for view in views if self._uses_more else views[:1]:
            part = self._data[self._position : self._position + min(left, len(view))]
            view[: len(part)] = part
            self._position += len(part)
            left -= len(part)
            count += len(part)
        return count or None


def pumped(receiver: Receiver, arriving: Arriving, buffer: memoryview) -> Iterator[list[Event]]:
    """Receive all bytes by the receiver's pump. Yields the events of each read."""
    pump = receiver.pump
    while arriving.is_left:
        events: list[Event] = []
        pump.receive(arriving, buffer, events, True)
        yield receiver.receive(buffer[pump.start : pump.stop], events)
