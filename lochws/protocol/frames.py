"""The frame head of RFC 6455 section 5.2, as a client writes it."""

from __future__ import annotations

import struct

from lochws.errors import FrameBuildError

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


class Opcode:
    """What a frame is (RFC 6455 section 5.2); plain integers. From CLOSE up they are control frames."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    RESERVED1 = 3
    RESERVED2 = 4
    RESERVED3 = 5
    RESERVED4 = 6
    RESERVED5 = 7
    CLOSE = 8
    PING = 9
    PONG = 10
    RESERVED6 = 11
    RESERVED7 = 12
    RESERVED8 = 13
    RESERVED9 = 14
    RESERVED10 = 15

    @classmethod
    def to_str(cls, opcode: int) -> str:
        """The name of an opcode, or ``"?"`` for a number that is none."""
        return _NAMES.get(opcode, "?")


_NAMES = {number: name for name, number in vars(Opcode).items() if name.isupper()}


def encode_head(opcode: int, length: int, key: bytes, rsv1: bool = False) -> bytes:
    """The head of a frame that is final and masked, as a client sends it.

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
        opcode: one of `Opcode`.
        length: the payload's length in bytes.
        key: the masking key, 4 bytes.
        rsv1: whether the message is compressed (RFC 7692 section 7.2).

    Raises:
        FrameBuildError: the length does not fit into 63 bits.
    """
    first = FIN | RSV1 | opcode if rsv1 else FIN | opcode
    if length < 126:
        return _HEAD_7.pack(first, MASKED | length, key)
    if length < 65536:
        return _HEAD_16.pack(first, MASKED | 126, length, key)
    if length < LENGTH_LIMIT:
        return _HEAD_64.pack(first, MASKED | 127, length, key)
    raise FrameBuildError(f"a frame cannot hold {length} bytes: its length has 63 bits")
