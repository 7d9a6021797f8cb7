"""Whole frames as a client sends them: head, masking key and masked payload in one buffer.

`build_frame` makes one, `pack` as many as fit into a batch, and `measure` says how long they are. They are
the compiled twins if there are any, else those of this file, which mask with what
`lochws.protocol.masking` has. ``LOCHWS_PURE_PYTHON=1`` leaves the compiled ones out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeAlias

from .frames import FIN, Opcode, encode_head
from .masking import best, mask
from .scanning import compiled


def build_frame_python(first: int, payload: bytes | bytearray | memoryview, key: bytes) -> bytes:
    """A final frame.

    Args:
        first: its first byte: FIN, RSV1 if it is compressed, and the opcode.
        payload: any bytes-like object.
        key: the masking key, 4 bytes.
    """
    return encode_head(first, len(payload), key) + mask(payload, key)


#: What `pack` packs: a text message, which must be ASCII; a binary message; or a frame that is ready, with
#: whatever its owner wants to know of it.
Item: TypeAlias = "str | bytes | tuple[bytes, object]"

_TEXT = FIN | Opcode.TEXT
_BINARY = FIN | Opcode.BINARY


def frame_length(item: Item) -> int:
    """How long the item's frame is."""
    if isinstance(item, tuple):
        return len(item[0])
    size = len(item)
    return size + (6 if size < 126 else 8 if size < 65536 else 14)


def measure_python(items: list[Any], start: int) -> int:
    """How many bytes the frames of the items from `start` on have; -1 if a tuple among them is no item yet.

    Raises:
        ValueError: there is a text that is not ASCII, or `start` is negative.
        TypeError: something else is no item.
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
    """The frames of some items, one behind the other.

    Args:
        items: the items.
        start: the first one that is packed.
        limit: the most bytes; but one item is always packed.
        keys: masking keys, 4 bytes for each item; no more items are packed than there are keys.
        position: where the first item's key is.

    Returns:
        The frames, and the index of the first item that was not packed.

    Raises:
        ValueError: there is no such item or no key, or a text is not ASCII.
        TypeError: an item is something else.
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
    """The length of an item's frame, if it is one that `pack` takes."""
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


def _best() -> tuple[
    Callable[[int, bytes | bytearray | memoryview, bytes], bytes],
    Callable[[list[Any], int], int],
    Callable[[list[Item], int, int, bytes, int], tuple[bytes, int]],
]:
    if compiled is None or os.environ.get("LOCHWS_PURE_PYTHON") == "1":
        return build_frame_python, measure_python, pack_python
    return compiled.build_frame, compiled.measure, compiled.pack


build_frame, measure, pack = _best()


def prepare() -> None:
    """Load what masks, if these frames are built in Python: where frames are built a lock is held."""
    if build_frame is build_frame_python:
        best()
