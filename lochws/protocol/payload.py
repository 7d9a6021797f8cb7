"""What callers hand over to be sent, as bytes."""

from __future__ import annotations

from typing import TypeAlias

from .frames import MAX_CONTROL_PAYLOAD

BytesLike: TypeAlias = bytes | bytearray | memoryview


def as_bytes(method: str, data: BytesLike) -> bytes:
    """The data as bytes, copied unless it is bytes already; `method` is named in the error.

    Raises:
        TypeError: it is not bytes-like.
    """
    if type(data) is bytes:
        return data
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(f"{method}: expected a bytes-like object, not {type(data).__name__}") from None


def as_control_payload(method: str, data: BytesLike) -> bytes:
    """The payload of a control frame. Else as `as_bytes`.

    Raises:
        ValueError: it has more than 125 bytes.
    """
    payload = as_bytes(method, data)
    if len(payload) > MAX_CONTROL_PAYLOAD:
        raise ValueError(f"{method}: {len(payload)} bytes are too many, a control frame has at most 125")
    return payload
