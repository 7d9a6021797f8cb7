"""ABNF: one frame, as the drop-in for websocket-client takes and returns it, and the close codes."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from ._exceptions import WebSocketProtocolException

STATUS_NORMAL = 1000
STATUS_GOING_AWAY = 1001
STATUS_PROTOCOL_ERROR = 1002
STATUS_UNSUPPORTED_DATA_TYPE = 1003
STATUS_STATUS_NOT_AVAILABLE = 1005
STATUS_ABNORMAL_CLOSED = 1006
STATUS_INVALID_PAYLOAD = 1007
STATUS_POLICY_VIOLATION = 1008
STATUS_MESSAGE_TOO_BIG = 1009
STATUS_INVALID_EXTENSION = 1010
STATUS_UNEXPECTED_CONDITION = 1011
STATUS_SERVICE_RESTART = 1012
STATUS_TRY_AGAIN_LATER = 1013
STATUS_BAD_GATEWAY = 1014
STATUS_TLS_HANDSHAKE_ERROR = 1015

#: The codes below 3000 that a Close frame may have (RFC 6455 section 7.4): never 1005, 1006 or 1015.
VALID_CLOSE_STATUS = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014)

Data = str | bytes | bytearray | memoryview


class ABNF:
    """A frame (RFC 6455 section 5.2).

    Frames that `WebSocket.recv_frame` and `recv_data_frame` return hold whole messages: `fin` is 1, and
    `data` is bytes.

    Attributes:
        fin: 1 for the last frame of a message, 0 for the others.
        rsv1, rsv2, rsv3: the reserved bits.
        opcode: one of the ``OPCODE_`` constants.
        mask_value: 1 if the frame is masked, as all frames of clients are.
        data: the payload.
        get_mask_key: a function that returns that many bytes, for `format`.
    """

    OPCODE_CONT = 0x0
    OPCODE_TEXT = 0x1
    OPCODE_BINARY = 0x2
    OPCODE_CLOSE = 0x8
    OPCODE_PING = 0x9
    OPCODE_PONG = 0xA
    OPCODES = (OPCODE_CONT, OPCODE_TEXT, OPCODE_BINARY, OPCODE_CLOSE, OPCODE_PING, OPCODE_PONG)
    OPCODE_MAP = {  # noqa: RUF012  a constant, as in the original
        OPCODE_CONT: "cont", OPCODE_TEXT: "text", OPCODE_BINARY: "binary",
        OPCODE_CLOSE: "close", OPCODE_PING: "ping", OPCODE_PONG: "pong",
    }
    LENGTH_7 = 0x7E
    LENGTH_16 = 1 << 16
    LENGTH_63 = 1 << 63

    def __init__(
        self,
        fin: int = 0,
        rsv1: int = 0,
        rsv2: int = 0,
        rsv3: int = 0,
        opcode: int = OPCODE_TEXT,
        mask_value: int = 1,
        data: Data | None = "",
    ) -> None:
        self.fin, self.rsv1, self.rsv2, self.rsv3 = fin, rsv1, rsv2, rsv3
        self.opcode = opcode
        self.mask_value = mask_value
        self.data: Data = "" if data is None else data
        self.get_mask_key: Callable[[int], str | bytes] = os.urandom

    def __str__(self) -> str:
        data = self.data if isinstance(self.data, str) else repr(self.data)
        return f"fin={self.fin} opcode={self.opcode} data={data}"

    def validate(self, skip_utf8_validation: bool = False) -> None:
        """Check the frame by RFC 6455.

        Args:
            skip_utf8_validation: whether to accept a Close frame whose reason is not valid UTF-8.

        Raises:
            WebSocketProtocolException: the frame is not valid.
        """
        if self.rsv1 or self.rsv2 or self.rsv3:
            raise WebSocketProtocolException("a reserved bit is set, and no extension uses it")
        if self.opcode not in ABNF.OPCODES:
            raise WebSocketProtocolException(f"{self.opcode!r} is not a valid opcode")
        if self.opcode == ABNF.OPCODE_PING and not self.fin:
            raise WebSocketProtocolException("a ping is fragmented")
        if self.opcode == ABNF.OPCODE_CLOSE:
            self._validate_close(skip_utf8_validation)

    def _validate_close(self, skip_utf8_validation: bool) -> None:
        data = self.data.encode() if isinstance(self.data, str) else bytes(self.data)
        if not data:
            return
        if len(data) == 1 or len(data) > 125:
            raise WebSocketProtocolException(f"a Close frame has {len(data)} bytes")
        try:
            data[2:].decode()
        except UnicodeDecodeError:
            if not skip_utf8_validation:
                raise WebSocketProtocolException("the reason of a Close frame is not valid UTF-8") from None
        (code,) = struct.unpack("!H", data[:2])
        if code not in VALID_CLOSE_STATUS and not 3000 <= code < 5000:
            raise WebSocketProtocolException(f"{code} is not a valid close code")

    @staticmethod
    def create_frame(data: Data, opcode: int, fin: int = 1) -> ABNF:
        """Create a frame for `WebSocket.send_frame`.

        Args:
            data: the payload. A str for a text frame is encoded as UTF-8.
            opcode: one of the ``OPCODE_`` constants.
            fin: 0 for the first frames of a message, 1 for its last one.
        """
        if opcode == ABNF.OPCODE_TEXT and isinstance(data, str):
            data = data.encode()
        return ABNF(fin, 0, 0, 0, opcode, 1, data)

    def format(self) -> bytes:
        """Return the frame as bytes.

        Raises:
            ValueError: a bit is neither 0 nor 1, the opcode is not valid, or the payload is too long.
        """
        for name in ("fin", "rsv1", "rsv2", "rsv3"):
            if getattr(self, name) not in {0, 1}:
                raise ValueError(f"{name}={getattr(self, name)!r}: expected 0 or 1")
        if self.opcode not in ABNF.OPCODES:
            raise ValueError(f"opcode={self.opcode!r}: expected one of ABNF.OPCODES")
        data = as_payload(self.data, "utf-8" if not self.mask_value else "latin-1")
        first = self.fin << 7 | self.rsv1 << 6 | self.rsv2 << 5 | self.rsv3 << 4 | self.opcode
        mask, size = (0x80 if self.mask_value else 0), len(data)
        if size < ABNF.LENGTH_7:
            head = struct.pack("!BB", first, mask | size)
        elif size < ABNF.LENGTH_16:
            head = struct.pack("!BBH", first, mask | 126, size)
        else:
            head = struct.pack("!BBQ", first, mask | 127, size)
        if not self.mask_value:
            return head + data
        key = as_payload(self.get_mask_key(4), "latin-1")
        return head + key + ABNF.mask(key, data)

    @staticmethod
    def mask(mask_key: str | bytes, data: Data | None) -> bytes:
        """Mask or unmask a payload with a key of four bytes (RFC 6455 section 5.3)."""
        key, payload = as_payload(mask_key, "latin-1"), as_payload(data or b"", "latin-1")
        size = len(payload)
        repeated = (key * (size // 4 + 1))[:size]
        both = int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")
        return both.to_bytes(size, "little")


def as_payload(data: Data, encoding: str) -> bytes:
    """Return data as bytes; a str is encoded."""
    return data.encode(encoding) if isinstance(data, str) else bytes(data)


def wire_size(size: int) -> int:
    """Return how many bytes a masked frame with a payload of `size` bytes has."""
    return size + (6 if size < ABNF.LENGTH_7 else 8 if size < ABNF.LENGTH_16 else 14)
