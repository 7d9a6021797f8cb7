"""Whole frames as a client sends them: head, masking key and masked payload in one buffer.

`build_frame` is the compiled twin if there is one, else `build_frame_python`, which masks with what
`lochws.protocol.masking` has. ``LOCHWS_PURE_PYTHON=1`` leaves the compiled one out.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .frames import encode_head
from .masking import mask
from .scanning import compiled


def build_frame_python(first: int, payload: bytes | bytearray | memoryview, key: bytes) -> bytes:
    """A final frame.

    Args:
        first: its first byte: FIN, RSV1 if it is compressed, and the opcode.
        payload: any bytes-like object.
        key: the masking key, 4 bytes.
    """
    return encode_head(first, len(payload), key) + mask(payload, key)


def _best() -> Callable[[int, bytes | bytearray | memoryview, bytes], bytes]:
    if compiled is None or os.environ.get("LOCHWS_PURE_PYTHON") == "1":
        return build_frame_python
    build_frame_compiled: Callable[[int, bytes | bytearray | memoryview, bytes], bytes] = compiled.build_frame
    return build_frame_compiled


build_frame = _best()
