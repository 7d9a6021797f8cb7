"""Masking of the frames sent by a client (RFC 6455 section 5.3), and masking keys.

`mask` uses the fastest twin available, which is looked for once, when the first connection opens.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

from ..system.compiled import is_pure_python

# Keys in the first block and, as blocks double, in the largest.
_FEW_KEYS = 8
_MANY_KEYS = 1024
# Keys that are kept as objects of their own, at most.
_SINGLE_KEYS = 4
# Integers of this size are still XORed in cache, and need little memory besides the result.
_PIECE = 64 * 1024


class MaskKeys:
    """Masking keys, as unpredictable as RFC 6455 section 10.3 wants them, in two supplies.

    Calling the object gives one key of 4 bytes. Any thread may do that at any time, a signal handler in the
    middle of another call included: no key is given twice. `block` and `position` are for the one thread that
    packs a batch, which uses keys in place.

    The system is asked for many keys at once, since a system call per message would cost more than the rest
    of its frame: for few at first, which is all that an idle connection ever needs, then for twice as many
    each time, up to 4 KiB.

    Args:
        source: returns as many random bytes as it is asked for.

    Attributes:
        block: keys, one after the other.
        position: where in it the next key begins. Code that takes keys from there advances it.
    """

    __slots__ = ("_count", "_single", "_source", "block", "position")

    def __init__(self, source: Callable[[int], bytes] = os.urandom) -> None:
        self._source = source
        self._count = _FEW_KEYS
        self.block = b""
        self.position = 0
        self._single: list[bytes] = []

    def __call__(self) -> bytes:
        try:
            return self._single.pop()  # one step, so that nobody else gets the same
        except IndexError:
            block = self._source(4 * _SINGLE_KEYS)
            *others, first = [block[start : start + 4] for start in reversed(range(0, len(block), 4))]
            self._single += others
            return first

    def fill(self) -> None:
        """Make sure that there is a key at `position`."""
        if self.position >= len(self.block):
            self.block, self.position = self._source(4 * self._count), 0
            self._count = min(2 * self._count, _MANY_KEYS)


def mask_python(data: bytes | bytearray | memoryview, key: bytes) -> bytes:
    """Mask or unmask in Python alone: pieces of the data are XORed as large integers.

    Args:
        data: any number of bytes.
        key: 4 bytes.
    """
    length = len(data)
    if length <= _PIECE:
        return _xor(data, (key * (length // 4 + 1))[:length])
    pattern = key * (_PIECE // 4)
    pieces = (data[start : start + _PIECE] for start in range(0, length, _PIECE))
    return b"".join(_xor(piece, pattern[: len(piece)]) for piece in pieces)


def _xor(data: bytes | bytearray | memoryview, pattern: bytes) -> bytes:
    both = int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")
    return both.to_bytes(len(pattern), "little")


def mask_wsaccel(data: bytes | bytearray | memoryview, key: bytes) -> bytes:
    """Mask or unmask with wsaccel.

    Args:
        data: any number of bytes.
        key: 4 bytes.

    Raises:
        ImportError: wsaccel is not installed.
    """
    masked: bytes = _wsaccel()(key).process(data)
    return masked


@cache
def _wsaccel() -> Callable[[bytes], Any]:
    from wsaccel.xormask import XorMaskerSimple  # noqa: PLC0415  optional

    masker: Callable[[bytes], Any] = XorMaskerSimple
    return masker


@cache
def best() -> Callable[[bytes | bytearray | memoryview, bytes], bytes]:
    """Return the fastest twin available."""
    if not is_pure_python():
        try:
            _wsaccel()
        except (ImportError, OSError):  # or out of descriptors, when nothing can be loaded
            pass
        else:
            return mask_wsaccel
    return mask_python


def mask(data: bytes | bytearray | memoryview, key: bytes) -> bytes:
    """Mask or unmask with the fastest twin available."""
    return best()(data, key)
