"""The payload of Close frames (RFC 6455 sections 5.5.1 and 7.4)."""

from __future__ import annotations

from typing import NamedTuple

from lochws.errors import CriticalProtocolError, ProtocolError
from lochws.status import Status

#: The longest reason, in bytes: a control frame's 125 without the code.
MAX_REASON = 123


class CloseFrame(NamedTuple):
    """A Close frame, sent or received.

    Attributes:
        code: the close code, or None if the frame has no payload.
        reason: the reason, empty if there is none.
    """

    code: int | None
    reason: str


def encode_close(code: int | None, reason: str | bytes = "") -> bytes:
    """The payload of a Close frame. A reason over 123 bytes is cut at the end of a character.

    Args:
        code: the close code, or None for an empty payload; the reason is then dropped.
        reason: text, or its bytes in UTF-8.

    Raises:
        TypeError: the code is no int or the reason is neither str nor bytes.
        ValueError: the code may not be sent, or the reason is no text.
    """
    text = as_reason(reason)
    if code is None:
        return b""
    if isinstance(code, bool) or not isinstance(code, int):
        raise TypeError(f"close code {code!r}: expected a whole number, or None")
    if not Status.is_valid(code):
        raise ValueError(
            f"close code {code} may not be sent: expected 1000 to 1003, 1007 to 1014 or 3000 to 4999"
        )
    return code.to_bytes(2, "big") + text.encode()


def as_reason(reason: str | bytes) -> str:
    """The reason as it goes into a Close frame: text of at most 123 bytes.

    Raises:
        TypeError: it is neither str nor bytes.
        ValueError: it is no text: bytes that are no UTF-8, or a str with lone surrogates.
    """
    if isinstance(reason, str):
        try:
            encoded = reason.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"close reason {reason!r} cannot be encoded as UTF-8") from error
    elif isinstance(reason, (bytes, bytearray)):
        encoded = bytes(reason)
        try:
            reason = encoded.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"close reason {reason!r} is no UTF-8") from error
    else:
        raise TypeError(f"close reason {reason!r}: expected str or bytes")
    if len(encoded) <= MAX_REASON:
        return reason
    return encoded[:MAX_REASON].decode(errors="ignore")


def parse_close(payload: bytes) -> CloseFrame:
    """Read the payload of a Close frame.

    Raises:
        ProtocolError: it is 1 byte, or its code may not be sent (1002).
        CriticalProtocolError: the reason is no UTF-8 (1007).
    """
    if not payload:
        return CloseFrame(None, "")
    if len(payload) == 1:
        raise ProtocolError("Close frame with a payload of 1 byte")
    code = int.from_bytes(payload[:2], "big")
    if not Status.is_valid(code):
        raise ProtocolError(f"Close frame with the invalid code {code}")
    try:
        return CloseFrame(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise CriticalProtocolError("Close frame with a reason that is no UTF-8") from None
