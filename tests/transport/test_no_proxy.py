"""The endpoints that a list such as the environment's `no_proxy` exempts."""

from __future__ import annotations

import pytest

from lochws.transport.proxies.no_proxy import is_exempt
from lochws.url import parse_url


@pytest.mark.parametrize(
    ("no_proxy", "authority"),
    [
        ("*", "target.example"),
        ("target.example", "target.example"),
        ("TARGET.example", "target.EXAMPLE"),
        ("target.example.", "target.example"),
        ("target.example", "target.example."),
        ("example", "target.example"),
        (".example", "target.example"),
        ("*.example", "target.example"),
        (".target.example", "target.example"),
        ("one,two , target.example", "target.example"),
        ("one two\ttarget.example", "target.example"),
        (",,target.example,", "target.example"),
        ("target.example:8080", "target.example:8080"),
        (".example:8080", "target.example:8080"),
        ("target.example:80", "target.example"),
        ("b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "xn--bcher-kva.example"),
        ("localhost", "localhost:3000"),
        ("127.0.0.1", "127.0.0.1:3000"),
        ("127.0.0.1:3000", "127.0.0.1:3000"),
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.9.9.9/8", "10.1.2.3"),
        ("10.0.0.0/8:80", "10.1.2.3"),
        ("0.0.0.0/0", "10.1.2.3"),
        ("::1", "[::1]:3000"),
        ("[::1]", "[::1]:3000"),
        ("[::1]:3000", "[::1]:3000"),
        ("0:0:0:0:0:0:0:1", "[::1]"),
        ("fd00::/8", "[fd12::3]"),
        ("[fd00::]/8", "[fd12::3]"),
        ("10.0.0.0/8", "[::ffff:10.1.2.3]"),
        ("::ffff:10.1.2.3", "[::ffff:10.1.2.3]"),
        ("::ffff:0:0/96", "[::ffff:10.1.2.3]"),
    ],
)
def test_it_exempts(no_proxy: str, authority: str) -> None:
    assert is_exempt(parse_url(f"ws://{authority}/"), no_proxy)


@pytest.mark.parametrize(
    ("no_proxy", "authority"),
    [
        ("", "target.example"),
        (" , ", "target.example"),
        (".", "target.example"),
        ("other.example", "target.example"),
        ("get.example", "target.example"),
        ("a.target.example", "target.example"),
        ("target.example.org", "target.example"),
        ("target.example:8080", "target.example"),
        ("*:8080", "target.example"),
        ("10.0.0.0/8", "target.example"),
        ("10.0.0.0/8", "11.1.2.3"),
        ("10.0.0.0/8", "10.example"),
        ("10.0.0.0/8", "[fd12::3]"),
        ("fd00::/8", "10.1.2.3"),
        ("0.0.1", "127.0.0.1"),
        ("127.0.0", "127.0.0.1"),
        ("1", "127.0.0.1"),
        ("10.0.0.0/33", "10.1.2.3"),
        ("::1/200", "[::1]"),
        ("[::1]:3001", "[::1]:3000"),
        ("::2", "[::1]"),
        ("\N{LATIN SMALL LETTER U WITH DIAERESIS}" * 70, "target.example"),
    ],
)
def test_it_does_not_exempt(no_proxy: str, authority: str) -> None:
    assert not is_exempt(parse_url(f"ws://{authority}/"), no_proxy)
