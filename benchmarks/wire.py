"""The server's side of the wire: the upgrade response, frames, and prepared floods.

Written apart from lochws, so that an error of its framing cannot hide itself.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha1

from .works import Message, Work

#: RFC 6455 section 1.3.
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CLOSE = b"\x88\x02\x03\xe8"
#: How much of a flood is made beforehand, and sent again and again.
BLOB_BYTES = 256 * 1024


def upgrade_answer(request: bytes, deflate: bool) -> bytes:
    """Return the response to an upgrade request (RFC 6455 section 4.2.2).

    Raises:
        ValueError: the request is not one, or lacks permessage-deflate where the work needs it.
    """
    lines = (line.partition(b":") for line in request.split(b"\r\n"))
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    key = headers.get(b"sec-websocket-key")
    if key is None:
        raise ValueError("no upgrade request")
    if deflate and b"permessage-deflate" not in headers.get(b"sec-websocket-extensions", b""):
        raise ValueError("the client offers no permessage-deflate")
    return b"\r\n".join([
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + b64encode(sha1(key + _ACCEPT).digest()),
        *([b"Sec-WebSocket-Extensions: permessage-deflate"] if deflate else []),
        b"\r\n",
    ])


def frame(first: int, payload: bytes) -> bytes:
    """Return an unmasked frame (RFC 6455 section 5.2) that begins with the byte `first`."""
    return bytes([first]) + _length(len(payload), 0) + payload


def masked_frame(first: int, payload: bytes) -> bytes:
    """Return a client's frame, masked with zeros: the cheapest that the protocol allows."""
    return bytes([first]) + _length(len(payload), 0x80) + bytes(4) + payload


def _length(length: int, mask_bit: int) -> bytes:
    if length < 126:
        return bytes([mask_bit | length])
    if length < 65536:
        return bytes([mask_bit | 126]) + length.to_bytes(2, "big")
    return bytes([mask_bit | 127]) + length.to_bytes(8, "big")


def first_byte(message: Message) -> int:
    """Return the first byte of an uncompressed message in a single frame."""
    return 0x81 if isinstance(message, str) else 0x82


def encoded(message: Message) -> bytes:
    """Return a message's payload."""
    return message.encode() if isinstance(message, str) else message


def flood_frames(work: Work) -> Sequence[bytes]:
    """Return the frames of a part of a flood that can be sent repeatedly.

    Deflated messages share one context (RFC 7692 section 7.2.3.2), which begins afresh with the first
    of them: nothing refers to what came before, whatever that was.
    """
    messages = work.messages()
    if work.deflate:
        stream = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -15)
        return [
            frame(0x40 | first_byte(message),
                  (stream.compress(encoded(message)) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4])
            for message in messages
        ]
    frames = [frame(first_byte(message), encoded(message)) for message in messages]
    return frames * max(1, BLOB_BYTES // sum(map(len, frames)))
