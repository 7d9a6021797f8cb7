"""URLs: refused with a ValueError that shows no secrets, or parsed into something that fits a request."""

from __future__ import annotations

from dataclasses import replace

from lochws.protocol.handshake import build_request
from lochws.url import Endpoint, parse_url, redacted

TOKENS = [
    b"ws://", b"wss://", b"http://", b"https://", b"ws+unix:///", b"wss+unix:///", b"user:secret@", b"[::1]",
    b"%25eth0",
    b":8080", b":65535", b"/a%20b", b"?q=1", b"#frag", b"xn--", "ß".encode(), "。".encode(), b"127.0.0.1",
    b"\\", b"@",
]


def TestOneInput(data: bytes) -> None:  # noqa: N802  the name that fuzzers look for
    """Parse the input as a URL; lone surrogates may be in it."""
    url = data.decode("utf-8", "surrogateescape")
    redacted(url)
    try:
        endpoint = parse_url(url)
    except ValueError as error:
        assert str(error)
        return
    check_parts(endpoint)
    check_once_more(endpoint)


def check_parts(endpoint: Endpoint) -> None:
    """Check that an endpoint can be looked up and sent, and shows no secret."""
    assert endpoint.scheme in ("ws", "wss")
    assert 0 < endpoint.port < 65536
    assert endpoint.host
    name = endpoint.host.partition("%")[0]  # the zone behind it keeps its case
    assert name == name.lower()
    for text in (endpoint.host, endpoint.host_header, endpoint.authority, endpoint.resource):
        assert text.isascii()
        assert not [char for char in text if ord(char) <= 32 or ord(char) == 127], text
    assert endpoint.resource.startswith("/")
    assert "credentials" not in repr(endpoint)
    request = build_request(endpoint, "key", agent="fuzz", auth=endpoint.credentials)
    lines = request.split(b"\r\n")
    assert lines[0].count(b" ") == 2
    assert b"\n" not in b"".join(lines)
    assert lines[1].startswith(b"Host: ")
    assert [line.partition(b":")[0] for line in lines].count(b"Host") == 1


def check_once_more(endpoint: Endpoint) -> None:
    """Check that the URL that is shown leads to the same endpoint."""
    zoneless = replace(endpoint, host=endpoint.host.partition("%")[0], credentials=None)
    again = parse_url(str(endpoint))
    assert again == (zoneless if ":" in endpoint.host else replace(endpoint, credentials=None)), again
