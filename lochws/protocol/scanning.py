"""The fast path of receiving: whole messages in one look over the buffer.

Most of what a client receives are unfragmented messages that lie whole in the buffer.
`scan` takes those off its front, and stops at the first frame that needs more than that. It is the
compiled twin if there is one, else `scan_python`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from lochws.events import Binary, Event, Text

from .compiled import compiled_or
from .frames import FIN, LENGTH_LIMIT, RSV1, Opcode

#: Gets the payload of a deflated message and the limit; gives what it holds.
Inflate: TypeAlias = Callable[[bytes, int], bytes]

_TEXT = FIN | Opcode.TEXT
_BINARY = FIN | Opcode.BINARY
_DEFLATED_TEXT = _TEXT | RSV1
_DEFLATED_BINARY = _BINARY | RSV1


def scan_python(
    data: bytes | bytearray | memoryview,
    position: int,
    limit: int,
    events: list[Event],
    inflate: Inflate | None = None,
) -> int:
    """Append the events of the messages at `position` and after it.

    A frame is left to the caller, and so is all behind it, if it is no final, unmasked text or binary
    frame without reserved bits (but for RSV1 where there is `inflate`), is incomplete, larger than the
    limit, or a text that is not valid UTF-8.

    Args:
        data: what was received.
        position: where a frame begins.
        limit: the largest message in bytes; that of a deflated one is left to `inflate`.
        events: gets the events.
        inflate: what to do with a deflated message, or None to leave it. What it raises gets out.

    Returns:
        Where the first frame begins that was not taken; the length of the data if there is none.

    Raises:
        UnicodeDecodeError: a deflated text is no UTF-8, and cannot be left any more.
    """
    if type(data) is not bytes:
        data = bytes(data)  # slices of bytes are cheaper than those of views
    # The most common first: each step here is taken for each message.
    end, append, text = len(data), events.append, Text
    while (start := position + 2) <= end:
        first, length = data[position], data[position + 1]
        if length > 125:
            if length == 126 and start + 2 <= end:
                length = data[start] << 8 | data[start + 1]
                start += 2
            else:
                start, length = _long_payload(data, start, end)
        stop = start + length
        if stop > end:
            break
        if first == _TEXT and length <= limit:
            try:
                append(text(data[start:stop].decode()))
            except UnicodeDecodeError:
                break
        elif first == _BINARY and length <= limit:
            append(Binary(data[start:stop]))
        elif inflate is not None and first in (_DEFLATED_TEXT, _DEFLATED_BINARY):
            append(_inflated(first, inflate(data[start:stop], limit)))
        else:
            break
        position = stop
    return position


def _long_payload(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Where a payload begins whose length has 64 bits, and its length; behind the end if it is to be left."""
    length = int.from_bytes(data[start : start + 8], "big")
    is_taken = data[start - 1] == 127 and start + 8 <= end and length < LENGTH_LIMIT
    return start + 8 if is_taken else end + 1, length


def _inflated(first: int, content: bytes) -> Event:
    return Text(content.decode()) if first == _DEFLATED_TEXT else Binary(content)


scan = compiled_or("scan", scan_python)
