"""Raw frames, valid or not (wsproto builds only valid ones)."""

from __future__ import annotations


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, key: bytes | None = None) -> bytes:
    """Build a frame (RFC 6455 section 5.2), valid or not.

    Args:
        opcode: 0 continuation, 1 text, 2 binary, 8 Close, 9 ping, 10 pong; the others are reserved.
        payload: the payload, before masking.
        fin: whether it is the last frame of its message.
        rsv: the three reserved bits as a number; 4 is RSV1.
        key: the four bytes to mask with, or None for an unmasked frame, as servers send them.
    """
    head = bytearray([fin << 7 | rsv << 4 | opcode])
    mask_bit = 0 if key is None else 0x80
    if len(payload) < 126:
        head.append(mask_bit | len(payload))
    elif len(payload) < 1 << 16:
        head.append(mask_bit | 126)
        head += len(payload).to_bytes(2, "big")
    else:
        head.append(mask_bit | 127)
        head += len(payload).to_bytes(8, "big")
    if key is None:
        return bytes(head) + payload
    return bytes(head) + key + masked(payload, key)


def masked(payload: bytes, key: bytes) -> bytes:
    """Mask a payload with a key, or unmask it (RFC 6455 section 5.3)."""
    size = len(payload)
    repeated = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
