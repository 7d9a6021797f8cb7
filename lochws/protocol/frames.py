"""Frames sent by a client: opcodes, heads, and complete frames of single messages and batches.

`build_frame` makes one frame, `pack` joins as many as fit into a batch, and `measure` tells their length in
advance. Each is the compiled twin where there is one; the Python twins mask with the fastest function of
`lochws.protocol.masking`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from itertools import islice
from typing import Any, TypeAlias

from lochws.errors import FrameBuildError

from .compiled import compiled_or
from .masking import best, mask

FIN = 0x80
RSV1 = 0x40
MASKED = 0x80

#: The longest payload of a control frame, in bytes (RFC 6455 section 5.5).
MAX_CONTROL_PAYLOAD = 125
#: The longest payload of any frame is one byte less: the top bit of a 64-bit length is zero.
LENGTH_LIMIT = 2**63

_HEAD_7 = struct.Struct("!BB4s")
_HEAD_16 = struct.Struct("!BBH4s")
_HEAD_64 = struct.Struct("!BBQ4s")

BytesLike: TypeAlias = bytes | bytearray | memoryview

#: What `pack` takes: a text message, which must be ASCII; a binary message; or a finished frame together with
#: whatever its owner wants to remember about it.
Item: TypeAlias = "str | bytes | tuple[bytes, object]"


class Opcode:
    """The kinds of frames (RFC 6455 section 5.2) as plain integers. From CLOSE up they are control frames."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10

    @classmethod
    def to_str(cls, opcode: int) -> str:
        """Return the name of an opcode, or ``"?"`` for a number that is not in use."""
        return _NAMES.get(opcode, "?")


_NAMES = {number: name for name, number in vars(Opcode).items() if name.isupper()}

_TEXT = FIN | Opcode.TEXT
_BINARY = FIN | Opcode.BINARY


def encode_head(first: int, length: int, key: bytes) -> bytes:
    """Build the head of a masked frame.

    ::

         0               1               2               3
         7 6 5 4 3 2 1 0 7 6 5 4 3 2 1 0 7 6 5 4 3 2 1 0 7 6 5 4 3 2 1 0
        +-+-+-+-+-------+-+-------------+-------------------------------+
        |F|R|R|R|opcode |M| length, or  | length in 16 bits if 126,     |
        |I|S|S|S|       |A| 126, or 127 | in 64 bits if 127             |
        |N|V|V|V|       |S|             | (absent if shorter than 126)  |
        | |1|2|3|       |K|             |                               |
        +-+-+-+-+-------+-+-------------+-------------------------------+
        | masking key, 4 bytes          | masked payload ...            |
        +-------------------------------+-------------------------------+

    Args:
        first: the first byte: FIN, RSV1 if the message is compressed (RFC 7692 section 7.2), and the opcode.
        length: the length of the payload in bytes.
        key: the masking key, 4 bytes.

    Raises:
        FrameBuildError: the length does not fit into 63 bits.
    """
    if length < 126:
        return _HEAD_7.pack(first, MASKED | length, key)
    if length < 65536:
        return _HEAD_16.pack(first, MASKED | 126, length, key)
    if length < LENGTH_LIMIT:
        return _HEAD_64.pack(first, MASKED | 127, length, key)
    raise FrameBuildError(f"a frame cannot hold {length} bytes: its length has 63 bits")


def build_frame_python(first: int, payload: BytesLike, key: bytes) -> bytes:
    """Build a masked frame.

    Args:
        first: the first byte: FIN, RSV1 if the message is compressed, and the opcode.
        payload: any bytes-like object.
        key: the masking key, 4 bytes.
    """
    return encode_head(first, len(payload), key) + mask(payload, key)


def frame_length(item: Item) -> int:
    """Return the length of an item's frame in bytes."""
    if isinstance(item, tuple):
        return len(item[0])
    size = len(item)
    return size + (6 if size < 126 else 8 if size < 65536 else 14)


def build_frames(first: int, payload: BytesLike, fragment: int | None, keys: Callable[[], bytes]) -> bytes:
    """Build the frames of one message: a single frame, or fragments (RFC 6455 section 5.4).

    Args:
        first: the first byte of the message's only frame: FIN, RSV1 if it is compressed, and the opcode.
        payload: any bytes-like object.
        fragment: the largest payload of a frame in bytes, or None for a single frame.
        keys: returns the next masking key.
    """
    length = len(payload)
    if fragment is None or length <= fragment:
        return build_frame(first, payload, keys())
    frames = BytesIO()  # unlike a list to be joined, it holds only one copy
    first &= ~FIN
    with memoryview(payload) as view:
        for start in range(0, length, fragment):
            is_last = start + fragment >= length
            with view[start : start + fragment] as part:
                frames.write(build_frame(first | FIN if is_last else first, part, keys()))
            first = Opcode.CONTINUATION
    return frames.getvalue()


def frame_end(frames: bytes, start: int) -> int:
    """Return the position after the frame that begins at `start`, in frames that `build_frames` made."""
    length = frames[start + 1] & 0x7F
    if length < 126:
        return start + 6 + length
    if length == 126:
        return start + 8 + int.from_bytes(frames[start + 2 : start + 4], "big")
    return start + 14 + int.from_bytes(frames[start + 2 : start + 10], "big")


def count_frames(frames: bytes) -> int:
    """Return how many frames there are."""
    count = end = 0
    while end < len(frames):
        count, end = count + 1, frame_end(frames, end)
    return count


def payload_of(frames: bytes) -> bytes:
    """Return the unmasked payload of the message whose frames `build_frames` made."""
    view, parts, end = memoryview(frames), [], 0
    while end < len(frames):
        length = frames[end + 1] & 0x7F
        start, end = end + (6 if length < 126 else 8 if length == 126 else 14), frame_end(frames, end)
        parts.append(mask(view[start:end], frames[start - 4 : start]))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def measure_python(items: list[Any], start: int) -> int:
    """Return the total length of the frames of all items from `start` on.

    Returns:
        Their length in bytes, or -1 if there is a tuple among them that is not an item yet.

    Raises:
        ValueError: a text is not ASCII, or `start` is negative.
        TypeError: something else is not a valid item.
    """
    if start < 0:
        raise ValueError("measure: no item there")
    total = 0
    for item in islice(items, start, None):
        if type(item) is tuple and len(item) != 2:
            return -1
        total += _check(item)
    return total


def pack_python(items: list[Item], start: int, limit: int, keys: bytes, position: int) -> tuple[bytes, int]:
    """Join the frames of some items.

    Args:
        items: the items.
        start: the index of the first item to pack.
        limit: the largest result in bytes. One item is packed whatever its size.
        keys: masking keys, 4 bytes for each item; packing ends when they are used up.
        position: where in `keys` the first item's key begins.

    Returns:
        The frames, and the index of the first item that was not packed.

    Raises:
        ValueError: there is no such item or no key, or a text is not ASCII.
        TypeError: something else is not a valid item.
    """
    if not 0 <= start < len(items) or position < 0 or position % 4 or position + 4 > len(keys):
        raise ValueError("pack: no item there, or no key")
    frames: list[bytes] = []
    size, end = 0, start
    while end < len(items) and position + 4 <= len(keys):
        item = items[end]
        length = _check(item)
        if frames and size + length > limit:
            break
        frames.append(_frame_of(item, keys[position : position + 4]))
        size += length
        position += 4
        end += 1
    return frames[0] if len(frames) == 1 else b"".join(frames), end


def _check(item: Item) -> int:
    """Return the length of an item's frame, or raise if `pack` would not take it."""
    if type(item) is str:
        if not item.isascii():
            raise ValueError("pack: a text that is not ASCII")
    elif type(item) is not bytes and (
        type(item) is not tuple or len(item) != 2 or not isinstance(item[0], bytes)
    ):
        raise TypeError(f"pack: an item of type {type(item).__name__}")
    return frame_length(item)


def _frame_of(item: Item, key: bytes) -> bytes:
    if isinstance(item, tuple):
        return item[0]
    if isinstance(item, str):
        return build_frame(_TEXT, item.encode(), key)
    return build_frame(_BINARY, item, key)


build_frame = compiled_or("build_frame", build_frame_python)
measure = compiled_or("measure", measure_python)
pack = compiled_or("pack", pack_python)


def prepare() -> None:
    """Import the masking function now if frames are built in Python, not later under a lock."""
    if build_frame is build_frame_python:
        best()
