"""The response of the opening handshake: heads in any pieces, and everything read from them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http.cookiejar import CookieJar
from math import isnan

from lochws.errors import HandshakeError
from lochws.life.backoff import retry_after
from lochws.opening.cookies import MAX_COOKIES, cookie_header, keep_cookies
from lochws.opening.redirect import is_redirect, target
from lochws.options import Deflate
from lochws.protocol.handshake import MAX_HEAD, HeadParser, accept_key, check_response
from lochws.response import HEAD_END, Response
from lochws.url import parse_url

from ..inputs import Choices, cuts

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
PROTOCOLS = ("chat", "v12.stomp")
ENDPOINTS = [parse_url("wss://user:secret@feed.example.org/a?b"), parse_url("ws://[::1]:8080/")]

TOKENS = [
    b"HTTP/1.1 101 Switching Protocols\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 302 Found\r\n",
    b"\r\n\r\n", b"\n\n", b"HTTP/1.1 101 X\nUpgrade: websocket\nConnection: Upgrade\n",
    b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n", b"Sec-WebSocket-Protocol: chat\r\n",
    b"Sec-WebSocket-Accept: " + accept_key(KEY).encode() + b"\r\n",
    b"Sec-WebSocket-Extensions: permessage-deflate", b"; server_max_window_bits=10", b"Location: wss://",
    b"Location: /x\r\n",
    b"Set-Cookie: a=b; Path=/; Max-Age=1", b"Retry-After: ", b"Fri, 31 Dec 1999 23:59:59 GMT",
    b"Content-Type: text/html; charset=",
]


def TestOneInput(data: bytes) -> None:  # noqa: N802  the name that fuzzers look for
    """Parse the input as a server's answer, and read all out of it that lochws reads."""
    choices = Choices(data)
    offered = choices.one_of((Deflate(), None, Deflate(server_max_window_bits=10)))
    endpoint = choices.one_of(ENDPOINTS)
    results = [parsed(pieces) for pieces in cuts(choices.rest[1:], choices.number())]
    assert all(result == results[0] for result in results), results
    if results[0] is None:
        return
    response = Response(*results[0])
    check_agreement(response, offered)
    check_text(response)
    check_redirect(response)
    check_cookies(response)
    seconds = retry_after(response.get("retry-after"), 1e9)
    assert seconds is None or (seconds >= 0 and not isnan(seconds))
    assert "secret" not in repr(endpoint)


def parsed(pieces: Iterable[bytes]) -> tuple[bytes, bytes] | None:
    """Return the head and what follows it; empty if the head is incomplete; None if it was refused."""
    parser = HeadParser()
    try:
        for piece in pieces:
            parser.feed(piece)
            assert parser.head is not None or len(parser._buffer) <= MAX_HEAD
    except HandshakeError:
        return None
    if parser.head is None:
        return b"", b""
    assert len(parser.head) <= MAX_HEAD
    end = re.search(HEAD_END, parser.head)
    assert end is not None
    assert end.end() == len(parser.head)
    return parser.head, parser.surplus


def check_agreement(response: Response, offered: Deflate | None) -> None:
    """Check that a response is refused, or agrees to nothing that was not offered."""
    try:
        agreement = check_response(response, KEY, PROTOCOLS, offered)
    except HandshakeError as error:
        assert str(error)
        return
    assert response.status_code == 101
    assert response.get("Sec-WebSocket-Accept") == accept_key(KEY)
    assert agreement.protocol is None or agreement.protocol in PROTOCOLS
    if agreement.deflate is not None:
        assert offered is not None
        assert 8 <= agreement.deflate.server_max_window_bits <= (offered.server_max_window_bits or 15)
        assert 8 <= agreement.deflate.client_max_window_bits <= 15


def check_text(response: Response) -> None:
    """Whatever a server says, there is something to show."""
    assert isinstance(response.text, str)
    assert "\n" not in repr(response)
    for name, value in response.header_list:
        assert name == name.lower().strip()
        assert "\r\n" not in value
        assert response.get(name) is not None
        response.get_list(name)


def check_redirect(response: Response) -> None:
    """Check that a redirect is refused with a reason, or carries no credentials of another origin."""
    if not is_redirect(response):
        return
    for endpoint in ENDPOINTS:
        try:
            found = target(endpoint, response)
        except ValueError as error:
            assert "secret" not in str(error)
            continue
        assert found.origin == endpoint.origin or found.credentials is None
        assert found.is_secure or not endpoint.is_secure
        assert found.unix is None
        assert found.resource.isascii()
        assert not set(found.resource + found.host_header) & set("\r\n \t")


def check_cookies(response: Response) -> None:
    """Cookies are kept or left out; what is kept fits into a request."""
    jar = CookieJar()
    keep_cookies(jar, response, ENDPOINTS[0])
    # All that one head has room for may come at once.
    assert len(jar) <= MAX_COOKIES + MAX_HEAD
    header = cookie_header(jar, ENDPOINTS[0])
    assert header is None or not set(header) & set("\r\n\0")
