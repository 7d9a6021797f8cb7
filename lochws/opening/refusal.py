"""Refusals: the body of an answer that does not upgrade, and an excerpt of its text."""

from __future__ import annotations

import re
import zlib
from time import monotonic

from ..response import Response
from ..system.deadline import Cancelled, Deadline
from ..system.steps import Steps
from ..text import cut, escaped
from ..transport.stream import Stream
from ..transport.waiting import receive

#: How much of the body of a refusal is kept, in bytes, and how long to wait for it, in seconds.
MAX_BODY = 64 * 1024
BODY_SECONDS = 2.0

#: The maximum length of the excerpt in an event's reason, in characters.
MAX_WORDS = 120

# The window size for zlib that accepts either format.
_ZLIB_OR_GZIP = 47
# How much of a body is searched for text, in characters.
_MAX_TEXT = 4096
_RECEIVE = 16 * 1024
# Responses without a body, whatever their headers say (RFC 9110 section 6.4.1); frames follow a 101.
_BODILESS = {101, 204, 304}
_LAST_CHUNK = b"0\r\n\r\n"
_CHUNK_HEAD = rb"([0-9A-Fa-f]{1,8})[^\r\n]*\r\n"


def read_body(stream: Stream, response: Response, rest: bytes, deadline: Deadline) -> Steps[bytes]:
    """Receive the beginning of a refusal's body: at most `MAX_BODY` bytes, in at most `BODY_SECONDS`.

    A chunked body is reassembled (RFC 9112 section 7.1) as far as its format is valid; the rest is kept as it
    arrived. A compressed body is decompressed, up to `MAX_BODY` bytes.
    """
    if response.status_code in _BODILESS:
        return b""
    chunked = "chunked" in (response.get("transfer-encoding") or "").lower()
    length = response.get("content-length") or ""
    known = not chunked and length.isdecimal() and len(length) < 10
    size = min(int(length), MAX_BODY) if known else MAX_BODY
    end = monotonic() + BODY_SECONDS
    body = bytearray(rest)
    try:
        while len(body) < size and (left := end - monotonic()) > 0:
            if chunked and body.endswith(_LAST_CHUNK):
                break
            data = yield from receive(stream, _RECEIVE, deadline, left)
            if not data:
                break
            body += data
    except (OSError, Cancelled):
        pass  # the part that has arrived matters more than the reason why it is incomplete
    received = (_dechunked(body) if chunked else bytes(body))[:size]
    return _decompressed(received, response.get("content-encoding") or "")


def excerpt(response: Response) -> str:
    """Return the server's explanation from the body of a refusal, as one short line; it may be empty."""
    text = response.text.lstrip()
    if text.startswith("<"):
        title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
        text = _unescaped(title[1] if title else re.sub(r"<[^>]*>", " ", text))
    words = escaped(" ".join(text[:_MAX_TEXT].split()))
    # Most bodies only repeat the status line.
    said = {response.status, f"{response.status_code} {response.status}", str(response.status_code)}
    if not words or words.rstrip(".").lower() in {text.lower() for text in said}:
        return ""
    return cut(words, MAX_WORDS)


def _unescaped(text: str) -> str:
    """Replace HTML's character references."""
    try:
        from html import unescape  # noqa: PLC0415  it brings a large table, and few refusals are HTML
    except (ImportError, OSError):  # no descriptor is left to read the module with
        return text
    return unescape(text)


def _decompressed(body: bytes, encoding: str) -> bytes:
    if encoding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
        return body
    try:
        return zlib.decompressobj(_ZLIB_OR_GZIP).decompress(body, MAX_BODY)
    except zlib.error:
        return body


def _dechunked(body: bytearray) -> bytes:
    content = bytearray()
    position = 0
    chunk_at = re.compile(_CHUNK_HEAD).match
    while match := chunk_at(body, position):
        size = int(match[1], 16)
        if size == 0:
            return bytes(content)
        content += body[match.end():match.end() + size]
        position = match.end() + size + len(b"\r\n")
    return bytes(content + body[position:])
