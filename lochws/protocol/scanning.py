"""The fast path of receiving, which reads all complete messages of a buffer in one pass.

Most messages that a client receives are not fragmented and lie whole in the receive buffer. `scan` takes
those from the front of the buffer and stops at the first frame that needs more care. It is the compiled twin
where there is one, else `scan_python`.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Protocol

from lochws.events import Binary, Event, Text, text_of

from .compiled import compiled_or
from .frames import FIN, LENGTH_LIMIT, RSV1, Opcode
from .payload import is_utf8

_TEXT = FIN | Opcode.TEXT
_BINARY = FIN | Opcode.BINARY
_DEFLATED_TEXT = _TEXT | RSV1
_DEFLATED_BINARY = _BINARY | RSV1

#: Below this size, bytes objects are copied, too.
_COPIED = 64 * 1024
#: The two bytes that every frame has, and the 16 bits that may follow as its length.
_head_at = Struct("!BBH").unpack_from


class WholeInflater(Protocol):
    """The part of an `Inflater` that scanning uses.

    Attributes:
        stream: the stream that decompresses the next message, or None. In the usual case, the compiled twin
            calls its methods directly, exactly as `message` does.
    """

    stream: Any

    def message(self, data: bytes, limit: int, /) -> bytes | None:
        """Decompress a message of at most `limit` bytes. Return None to leave it to the caller."""

    def go_on(self, inflated: bytes, limit: int, /) -> bytes:
        """Return a whole message in which, or in whose tail, its stream has ended: see `Inflater.go_on`."""


def scan_python(
    data: bytes | bytearray | memoryview,
    position: int,
    limit: int,
    events: list[Event],
    inflater: WholeInflater | None = None,
    as_bytes: bool = False,
) -> int:
    """Append the events of all messages from `position` up to the first frame that needs more care.

    That is a frame that is incomplete, fragmented, masked, a control frame, larger than the limit, a text
    that is not valid UTF-8, or one with reserved bits (RSV1 is allowed if there is an `inflater`). It is left
    to the caller, together with everything after it.

    Args:
        data: the received bytes.
        position: where in them a frame begins.
        limit: the largest message in bytes. The `inflater` applies it to compressed messages.
        events: the list to append to.
        inflater: decompresses messages, or None if compression was not agreed on. Its exceptions propagate.
        as_bytes: whether the events of texts keep the UTF-8, validated, in place of a str.

    Returns:
        The position of the first frame that was not taken, or the length of the data.

    Raises:
        UnicodeDecodeError: a compressed text is not valid UTF-8. It cannot be left to the caller: the
            decompressor has consumed it.
    """
    # The most common case comes first, since every message takes these steps. Most events are made without
    # calling Python code. All have the time of the scan, so that no event is older than the one before it.
    event: Text | Binary
    end, append, new, head_at = len(data), events.append, object.__new__, _head_at
    received = Event().received_time
    data = _padded(data)
    last = len(data) - 4  # the last place for a head
    while position <= last:
        first, length, extended = head_at(data, position)
        start = position + 2
        if length > 125:
            if length == 126 and start + 2 <= end:
                length = extended
                start += 2
            else:
                start, length = _long_payload(data, start, end)
        stop = start + length
        if stop > end:
            break
        if first == _TEXT and length <= limit:
            try:
                if as_bytes:
                    event = _validated(data[start:stop])
                else:
                    content = data[start:stop].decode()
                    event = new(Text)
                    event.text = content
            except UnicodeDecodeError:
                break
        elif first == _BINARY and length <= limit:
            event = new(Binary)
            event.data = data[start:stop]
        elif (
            inflater is not None and first in (_DEFLATED_TEXT, _DEFLATED_BINARY)
            and (inflated := inflater.message(data[start:stop], limit)) is not None
        ):
            event = _text(inflated, as_bytes) if first == _DEFLATED_TEXT else Binary(inflated)
        else:
            break
        event.received_time = received
        append(event)
        position = stop
    return position


def _padded(data: bytes | bytearray | memoryview) -> bytes:
    """Return a copy with two more bytes, so that 16 bits follow every head: its slices are cheap.

    A large bytes object is returned as it is, and a frame of 2 or 3 bytes at its end is left to the caller.
    """
    return data if type(data) is bytes and len(data) >= _COPIED else b"".join((data, b"\0\0"))


def _long_payload(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Return where a payload with a 64-bit length begins, and that length; a position past the end to leave
    it."""
    length = int.from_bytes(data[start : start + 8], "big")
    is_taken = data[start - 1] == 127 and start + 8 <= end and length < LENGTH_LIMIT
    return start + 8 if is_taken else end + 1, length


def _text(content: bytes, as_bytes: bool) -> Text:
    return _validated(content) if as_bytes else Text(content.decode())


def _validated(data: bytes) -> Text:
    if not is_utf8(data):
        data.decode()  # raises the error that says where
    return text_of(data)


scan = compiled_or("scan", scan_python)
