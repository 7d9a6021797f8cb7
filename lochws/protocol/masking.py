"""Masking of what a client sends (RFC 6455 section 5.3).

`mask` is the fastest of its twins that can be had, chosen once at import. The environment variable
``LOCHWS_PURE_PYTHON=1`` leaves compiled ones out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

_KEYS_AT_ONCE = 1024
# Integers of this many bytes are still XORed in cache, and the memory needed beside the result stays small.
_PIECE = 64 * 1024


class MaskKeys:
    """Gives masking keys: 4 bytes at each call, unpredictable as RFC 6455 section 10.3 wants them.

    The system is asked for 4 KiB at a time, since a system call per message would cost more than the
    rest of its frame. Not thread-safe: the caller holds a lock.

    Args:
        source: gives as many random bytes as it is asked for.
    """

    def __init__(self, source: Callable[[int], bytes] = os.urandom) -> None:
        self._source = source
        self._keys = _keys(source)

    def __iter__(self) -> Iterator[bytes]:
        return self._keys

    def __call__(self) -> bytes:
        return next(self._keys)

    def block(self) -> bytes:
        """Many keys at once, one behind the other; none of them is given otherwise."""
        return self._source(4 * _KEYS_AT_ONCE)


def _keys(source: Callable[[int], bytes]) -> Iterator[bytes]:
    while True:
        block = source(4 * _KEYS_AT_ONCE)
        for position in range(0, len(block), 4):
            yield block[position : position + 4]


def mask_python(data: bytes | bytearray | memoryview, key: bytes) -> bytes:
    """Mask, or unmask, with Python alone: pieces of the data are XORed as one large integer each.

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


try:
    from wsaccel.xormask import XorMaskerSimple
except ImportError:
    XorMaskerSimple = None


def mask_wsaccel(data: bytes | bytearray | memoryview, key: bytes) -> bytes:
    """Mask, or unmask, with wsaccel, which must be installed.

    Args:
        data: any number of bytes.
        key: 4 bytes.
    """
    masked: bytes = XorMaskerSimple(key).process(data)
    return masked


def _best() -> Callable[[bytes | bytearray | memoryview, bytes], bytes]:
    if XorMaskerSimple is None or os.environ.get("LOCHWS_PURE_PYTHON") == "1":
        return mask_python
    return mask_wsaccel


mask = _best()
