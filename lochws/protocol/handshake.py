"""The opening handshake: building the request, parsing and checking the response (RFC 6455 section 4)."""

from __future__ import annotations

import os
import re
from binascii import b2a_base64
from collections.abc import Callable, Sequence

from lochws.errors import HandshakeError
from lochws.options import Deflate
from lochws.response import HEAD_END, Response
from lochws.url import Endpoint

from ..base.records import record
from . import deflate as permessage_deflate
from .deflate import DeflateParameters

try:
    from _sha1 import sha1  # type: ignore[import-not-found]  # it saves loading all hashes, as in `random`
except ImportError:  # not every implementation of Python has it
    from hashlib import sha1

#: The server appends this to the key before hashing it (RFC 6455 section 1.3).
WS_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
WS_VERSION = 13
#: The largest response head in bytes, interim responses included.
MAX_HEAD = 16 * 1024

_HTTP = b"HTTP/1."
_INTERIM = rb"HTTP/1\.\d 1(?!01)\d\d[ \r\n]"


@record(frozen=True)
class Agreement:
    """The result of an opening handshake.

    Attributes:
        protocol: the subprotocol that the server chose, or None.
        deflate: the parameters of permessage-deflate, or None if messages are not compressed.
    """

    protocol: str | None
    deflate: DeflateParameters | None


def _in_base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def make_key(random: Callable[[int], bytes] = os.urandom) -> str:
    """Make a new Sec-WebSocket-Key: 16 random bytes in base64."""
    return _in_base64(random(16))


def accept_key(key: str) -> str:
    """Return the Sec-WebSocket-Accept that answers a key (RFC 6455 section 4.2.2 item 5.4)."""
    return _in_base64(sha1(key.encode() + WS_KEY, usedforsecurity=False).digest())


def build_request(
    endpoint: Endpoint,
    key: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    agent: str,
    origin: str | None = None,
    protocols: Sequence[str] = (),
    extensions: str | None = None,
    auth: tuple[str, str] | None = None,
) -> bytes:
    """Build the upgrade request (RFC 6455 section 4.1).

    Args:
        endpoint: the server and the resource to ask for.
        key: the Sec-WebSocket-Key, from `make_key`.
        headers: the user's headers, already checked. They replace built-in headers of the same name.
        agent: the User-Agent, or ``""`` to send none.
        origin: the Origin, or None to send none.
        protocols: the subprotocols to offer, best first.
        extensions: the value of Sec-WebSocket-Extensions, or None to send none.
        auth: user name and password for Basic authentication, or None.

    Raises:
        ValueError: a value contains a line break, or the user name a colon.
    """
    fields = [
        ("Host", endpoint.host_header),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", str(WS_VERSION)),
    ]
    if agent:
        fields.append(("User-Agent", agent))
    if origin is not None:
        fields.append(("Origin", origin))
    if protocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(protocols)))
    if extensions:
        fields.append(("Sec-WebSocket-Extensions", extensions))
    given = {name.lower() for name, _ in headers}
    if auth is not None and "authorization" not in given:
        fields.append(("Authorization", _basic(*auth)))
    if headers:
        fields = [field for field in fields if field[0].lower() not in given] + list(headers)
        # Host comes first, even if the user gave it (RFC 9110 section 7.2).
        fields.sort(key=lambda field: field[0].lower() != "host")
    lines = [f"GET {endpoint.resource} HTTP/1.1", *[f"{name}: {value}" for name, value in fields]]
    for line in lines:
        # Everything was checked where it was given; this is the last guard against header injection.
        if "\r" in line or "\n" in line:
            raise ValueError(f"line break in {_encoded(line.split(':')[0][:40])!r} of the upgrade request")
    return b"\r\n".join([*map(_encoded, lines), b"", b""])


def _basic(user: str, password: str) -> str:
    """Return the credentials of RFC 7617, in UTF-8."""
    if ":" in user:
        raise ValueError("the user name contains a colon, which Basic authentication cannot express")
    return "Basic " + _in_base64(f"{user}:{password}".encode())


def _encoded(value: str) -> bytes:
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()


def check_response(
    response: Response, key: str, protocols: Sequence[str], deflate: Deflate | None
) -> Agreement:
    """Check the server's response by RFC 6455 section 4.1.

    Args:
        response: the response.
        key: the key that was sent.
        protocols: the subprotocols that were offered.
        deflate: the permessage-deflate that was offered, or None.

    Raises:
        HandshakeError: the server did not upgrade the connection to WebSocket; the text says why.
    """
    if response.status_code is None:
        line = response.raw.split(b"\n", 1)[0].rstrip(b"\r")
        raise HandshakeError(f"not a valid HTTP status line: {line[:80]!r}")
    if response.status_code != 101:
        raise HandshakeError(f"upgrade refused: {response.status_code} {response.status}".rstrip())
    if response.http_ver < "HTTP/1.1":
        raise HandshakeError(f"{response.http_ver} cannot upgrade")
    if not _has_token(response, "upgrade", "websocket"):
        raise HandshakeError(f"Can't upgrade to {response.get('upgrade', '<header missing>')}")
    if not _has_token(response, "connection", "upgrade"):
        raise HandshakeError("Connection header without the token Upgrade")
    accepts = _values(response, "sec-websocket-accept")
    if not accepts:
        raise HandshakeError("No Sec-WebSocket-Accept header")
    if accepts != [accept_key(key)]:
        raise HandshakeError("Sec-WebSocket-Accept challenge failed")
    return Agreement(
        _chosen_protocol(_values(response, "sec-websocket-protocol"), protocols),
        permessage_deflate.accept(_values(response, "sec-websocket-extensions"), deflate),
    )


def _values(response: Response, name: str) -> list[str]:
    return [value for given, value in response.header_list if given == name]


def _has_token(response: Response, name: str, token: str) -> bool:
    if response.headers.get(name, "").lower() == token:
        return True
    return token in (part.lower() for part in response.get_list(name))


def _chosen_protocol(values: list[str], offered: Sequence[str]) -> str | None:
    if not values:
        return None
    if len(values) > 1:
        raise HandshakeError("More than one Sec-WebSocket-Protocol header")
    if values[0] not in offered:
        raise HandshakeError(f"Subprotocol {values[0][:100]!r} was not offered")
    return values[0]


def _not_http(data: bytes) -> HandshakeError:
    """Return the error for a server that does not speak HTTP, naming the protocol that it seems to speak."""
    if data[:2] in {b"\x15\x03", b"\x16\x03"}:  # an alert, as plain text deserves, or a handshake record
        advice = "Try wss:// instead of ws://: this port expects TLS."
        return HandshakeError("the server speaks TLS on this port", advice=advice)
    if data[3:9] == b"\x04\0\0\0\0\0":  # a SETTINGS frame (RFC 9113 section 3.4)
        advice = "Ask for another port or path: WebSocket needs HTTP/1.1 here."
        return HandshakeError("the server speaks HTTP/2 on this port", advice=advice)
    return HandshakeError(f"not an HTTP response: it begins with {data[:40]!r}")


class HeadParser:
    """Collects the server's bytes until the head of its response is complete.

    Interim responses (1xx without 101, RFC 9110 section 15.2) are skipped.

    Attributes:
        head: the head including the blank line at its end, or None while it is not complete.
        surplus: the bytes that the server sent after the head.
    """

    def __init__(self) -> None:
        self.head: bytes | None = None
        self.surplus = b""
        self._buffer = bytearray()
        self._skipped = 0  # bytes of interim responses

    @property
    def unfinished(self) -> bytes:
        """Return the beginning of the head while it is not complete; empty afterwards."""
        return bytes(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes.

        Raises:
            HandshakeError: they are not an HTTP response, or its head is over 16 KiB.
        """
        if self.head is not None:
            self.surplus += data
            return
        searched = max(0, len(self._buffer) - 2)
        self._buffer += data
        while self.head is None:
            beginning = self._buffer[: len(_HTTP)]
            if beginning != _HTTP[: len(beginning)]:
                raise _not_http(bytes(self._buffer))
            end = re.compile(HEAD_END).search(self._buffer, searched)
            size = len(self._buffer) if end is None else end.end()
            if self._skipped + size > MAX_HEAD:
                raise HandshakeError("response head is over 16 KiB")
            if end is None:
                return
            self._take(size)
            searched = 0

    def _take(self, size: int) -> None:
        head = bytes(self._buffer[:size])
        del self._buffer[:size]
        if re.match(_INTERIM, head):
            self._skipped += size
        else:
            self.head = head
            self.surplus = bytes(self._buffer)
            self._buffer.clear()
