"""WebSocket URLs, parsed and checked by the constructor (RFC 6455 section 3; contract Q4 to Q7)."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lochws import WebSocket, WebSocketApp
from lochws.url import Endpoint, parse_url, redacted, without_secrets


@pytest.mark.parametrize(
    ("url", "host", "port", "resource", "host_header"),
    [
        ("ws://example.org", "example.org", 80, "/", "example.org"),
        ("wss://example.org", "example.org", 443, "/", "example.org"),
        ("ws://example.org:80/", "example.org", 80, "/", "example.org"),
        ("wss://example.org:80/", "example.org", 80, "/", "example.org:80"),
        ("ws://example.org:0/", "example.org", 80, "/", "example.org"),
        ("ws://EXAMPLE.org/Path?Query", "example.org", 80, "/Path?Query", "example.org"),
        ("ws://example.org?q", "example.org", 80, "/?q", "example.org"),
        ("ws://example.org/?", "example.org", 80, "/", "example.org"),
        ("ws://example.org/a#fragment", "example.org", 80, "/a", "example.org"),
        ("ws://[2001:DB8::1]:8080/", "2001:db8::1", 8080, "/", "[2001:db8::1]:8080"),
        ("wss://[::1]/", "::1", 443, "/", "[::1]"),
        ("ws://example.org/caf\xe9?\xe4=\N{EURO SIGN}", "example.org", 80, "/caf%C3%A9?%C3%A4=%E2%82%AC",
         "example.org"),
        ("ws://example.org/a%20b?c=%2F", "example.org", 80, "/a%20b?c=%2F", "example.org"),
        ("ws://b\xfccher.example/", "xn--bcher-kva.example", 80, "/", "xn--bcher-kva.example"),
    ],
)
def test_a_url_is_parsed(url: str, host: str, port: int, resource: str, host_header: str) -> None:
    endpoint = parse_url(url)
    assert (endpoint.host, endpoint.port, endpoint.resource) == (host, port, resource)
    assert endpoint.host_header == host_header
    assert endpoint.is_secure is url.startswith("wss")


@pytest.mark.parametrize(("url", "scheme"), [("http://a", "ws"), ("https://a", "wss"), ("WSS://a", "wss")])
def test_http_and_https_stand_for_ws_and_wss(url: str, scheme: str) -> None:
    assert parse_url(url).scheme == scheme


@pytest.mark.parametrize("kind", [WebSocket, WebSocketApp])
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("example.org", "no scheme"),
        ("example.org:80/", "scheme"),
        ("ftp://example.org", "scheme 'ftp': expected ws:// or wss://"),
        ("wss//example.org", "no scheme"),
        ("ws://", "no host"),
        ("ws:///path", "no host"),
        ("wss://:443/", "no host"),
        ("ws://example.org:port/", "no valid port"),
        ("ws://example.org:65536/", "no valid port"),
        ("ws://example.org/a b", "space or control character"),
        ("ws://example.org/\r\nX: y", "space or control character"),
        ("ws://exa\tmple.org/", "space or control character"),
        ("ws://[::1", "no valid host"),
        ("ws://[::]@[::1", "no valid host"),
        ("ws://x[::1]/", "no valid host"),
        ("ws://[::1]x/", "no valid host"),
        ("ws://[example.org]/", "no valid host"),
        ("ws://[::~4]/", "no valid host"),
        ("ws://[::1%25]/", "no valid host"),
        ("ws://[::1%25a%25b]/", "no valid host"),
        ("ws://" + "\xe9" * 64 + "/", "no valid host"),
        ("ws://us%3Aer:password@example.org/", "user name"),
        ("ws://us\ud800er:password@example.org/", "lone surrogates"),
        ("ws://user:pass\udcffword@example.org/", "lone surrogates"),
        ("ws://example%2eorg/", "a character that host names cannot have"),
        ("ws://example.org%25eth0/", "a character that host names cannot have"),
        ("ws+unix:run/socket:/x", "names no socket"),
        ("ws+unix:///run/\ud800:/x", "cannot be encoded"),
        ("", "no scheme"),
    ],
)
def test_a_wrong_url_is_refused_at_construction(kind: type[WebSocket], url: str, problem: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        kind(url)
    assert problem in str(caught.value)


@pytest.mark.parametrize("url", [b"ws://example.org", None, 80, ["ws://example.org"]])
def test_what_is_no_str_is_refused(url: object) -> None:
    with pytest.raises(TypeError, match=f"url: expected a str, not {type(url).__name__}"):
        WebSocket(url)  # type: ignore[arg-type]


def test_a_method_of_the_app_itself_can_be_its_url() -> None:
    class Feed(WebSocketApp):
        def __init__(self) -> None:
            super().__init__(self.find)

        def find(self) -> str:
            return "ws://example.org"

    assert repr(Feed()) == "Feed('find')"


class TestCredentials:
    """User and password in the URL are used and never shown."""

    def test_they_are_percent_decoded(self) -> None:
        assert parse_url("ws://us%40er:p%3Aa%2Fss@host").credentials == ("us@er", "p:a/ss")
        assert parse_url("ws://user@host").credentials == ("user", "")
        assert parse_url("ws://host").credentials is None

    @pytest.mark.parametrize("url", ["ws://me:secret@host/p", "ws://secret@host/p", "ws://a@secret@host/p"])
    def test_no_text_has_them(self, url: str) -> None:
        endpoint = parse_url(url)
        assert "secret" not in f"{endpoint} {endpoint!r} {endpoint.authority} {endpoint.host_header}"
        for ws in (WebSocket(url), WebSocketApp(url)):
            assert ws.url == "ws://host/p"
            assert repr(ws) == f"{type(ws).__name__}('ws://host/p')"

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://me:secret@host",
            "ws://me:secret@",
            "ws://me:secret@host:port",
            "ws://me:secret@host/a b",
            "ws://me:secret@[::1",
            "ws://me:sec/secret@host/",
            "ws://me:[sec/secret@host/",
            "ws://me:secret://x@host/",
            "ws+unix://me:secret://x@host/",
            "//me:secret://x@host/",
            "ws:/me:secret://x@host/",
            "ws://me:\N{FULLWIDTH SOLIDUS}sec/secret@host/",
            "ws://me:secret@" + "\xe9" * 64,
            "ws://m%3Ae:secret@host/",
        ],
    )
    def test_no_refusal_has_them(self, url: str) -> None:
        with pytest.raises(ValueError) as caught:
            WebSocket(url)
        assert "secret" not in str(caught.value)

    def test_at_signs_after_the_host_are_not_credentials(self) -> None:
        assert parse_url("ws://host/@me?to=you@there").credentials is None
        assert redacted("ws://host/@me?to=you@there") == "ws://host/@me?to=you@there"

    def test_those_of_urls_in_it_are_hidden_too(self) -> None:
        assert redacted("ws://me:secret@host/?to=ws://me:secret@x/") == "ws://host/?to=ws://x/"

    def test_values_of_a_query_may_be_secrets_too(self) -> None:
        assert without_secrets("ws://me:secret@host/a?token=secret&b=;c=d") == "ws://host/a?token=…&b=;c=…"

    def test_a_question_mark_within_a_query_hides_no_value(self) -> None:
        assert without_secrets("ws://h/?a?token=secret?b=c") == "ws://h/?a?token=…"

    @pytest.mark.parametrize("repeated", ["?", "&", ";", "=", "?a", "://", "://@", "@", "a=b&", " ?", "?a=?"])
    def test_hiding_them_takes_time_in_proportion_to_the_text(self, repeated: str) -> None:
        text = "ws://h/?" + repeated * (400_000 // len(repeated))
        began = time.process_time()
        without_secrets(text)
        assert time.process_time() - began < 1.0  # it took minutes where it was quadratic


def test_the_endpoint_as_text_is_a_url_for_itself() -> None:
    for url in ("ws://host/", "wss://host:80/a?b", "ws://[::1]:8080/"):
        endpoint = parse_url(url)
        assert str(endpoint) == url
        assert parse_url(str(endpoint)) == endpoint


def test_urls_of_a_subclass_that_finds_all_equal_are_distinguished() -> None:
    class Equal(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 1

    assert [parse_url(Equal(f"ws://{host}/")).host for host in "ab"] == ["a", "b"]


def test_the_path_of_a_socket_may_be_any_bytes() -> None:
    for url in ("ws+unix:///run/caf%E9:/x", "ws+unix:///run/caf%C3%A9:/", "ws+unix:///a%20b:/?q"):
        endpoint = parse_url(url)
        assert str(endpoint) == url
        assert parse_url(str(endpoint)) == endpoint
    assert os.fsencode(parse_url("ws+unix:///run/caf%E9:/x").unix or "") == b"/run/caf\xe9"


@given(st.text(max_size=60))
@example("ws://\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}.example/")
@example("ws://host\N{FULLWIDTH SOLIDUS}path")
@example("ws://a\u3002b/")
@example("ws://[::1%25eth0]/")
@example("ws://[v1.x]/")
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    for url in (text, f"ws://{text}", f"wss://host/{text}"):
        try:
            endpoint = parse_url(url)
        except ValueError:
            continue
        assert isinstance(endpoint, Endpoint)
        for part in (endpoint.host_header, endpoint.resource, endpoint.authority):
            assert part.isascii()
            assert not set(part) & set("\r\n \0")
        assert 0 < endpoint.port < 65536
