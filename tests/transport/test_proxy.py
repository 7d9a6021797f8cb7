"""HTTP proxies: which one is chosen, what is asked of it, and how its refusals read."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from lochws.deadline import Cancelled, Deadline
from lochws.errors import ConnectFail
from lochws.transport.proxy import ProxyURL, check_proxies, choose_proxy, parse_proxy, tunnel
from lochws.transport.stream import Stream
from lochws.url import parse_url

from ..peer import Link, Request, StartPeer

WS = parse_url("ws://target.example/")
WSS = parse_url("wss://target.example/")


class TestChoice:
    """`choose_proxy`."""

    def test_the_key_is_http_for_ws_and_https_for_wss(self) -> None:
        proxies = {"http": "http://one:1", "https": "http://two:2"}
        assert str(choose_proxy(WS, proxies)) == "http://one:1"
        assert str(choose_proxy(WSS, proxies)) == "http://two:2"

    @pytest.mark.parametrize("proxies", [{}, {"https": "http://two:2"}, {"http": None}, {"http": ""}])
    def test_a_missing_key_or_none_is_a_direct_connection(self, proxies: dict[str, str | None]) -> None:
        assert choose_proxy(WS, proxies) is None

    def test_none_is_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert choose_proxy(WS, None) is None
        monkeypatch.setenv("http_proxy", "http://one:1")
        monkeypatch.setenv("HTTPS_PROXY", "two:2")
        assert str(choose_proxy(WS, None)) == "http://one:1"
        assert str(choose_proxy(WSS, None)) == "http://two:2"
        assert choose_proxy(WS, {}) is None

    @pytest.mark.parametrize(
        ("no_proxy", "url"),
        [
            ("target.example", "ws://target.example/"),
            ("other.example,example", "ws://target.example/"),
            ("target.example:8080", "ws://target.example:8080/"),
            ("::1", "ws://[::1]:8080/"),
            ("*", "ws://target.example/"),
        ],
    )
    def test_no_proxy_exempts(self, monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str) -> None:
        monkeypatch.setenv("http_proxy", "http://one:1")
        assert choose_proxy(parse_url(url), None) is not None
        monkeypatch.setenv("no_proxy", no_proxy)
        assert choose_proxy(parse_url(url), None) is None

    def test_no_proxy_does_not_exempt_other_hosts_and_ports(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://one:1")
        monkeypatch.setenv("no_proxy", "other.example,target.example:8080")
        assert choose_proxy(WS, None) is not None

    def test_no_proxy_says_nothing_about_given_proxies(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("no_proxy", "*")
        assert choose_proxy(WS, {"http": "http://one:1"}) is not None


class TestURL:
    """`parse_proxy` and `check_proxies`."""

    @pytest.mark.parametrize(
        ("url", "proxy"),
        [
            ("http://proxy:8080", ProxyURL("http", "proxy", 8080)),
            ("http://PROXY", ProxyURL("http", "proxy", 80)),
            ("proxy:8080", ProxyURL("http", "proxy", 8080)),
            ("http://[::1]:8080/", ProxyURL("http", "::1", 8080)),
            ("http://me:p%40ss@proxy:1", ProxyURL("http", "proxy", 1, ("me", "p@ss"))),
            ("me:secret@proxy:1", ProxyURL("http", "proxy", 1, ("me", "secret"))),
            ("http://me@proxy:1", ProxyURL("http", "proxy", 1, ("me", ""))),
        ],
    )
    def test_it_is_taken_apart(self, url: str, proxy: ProxyURL) -> None:
        assert parse_proxy(url) == proxy

    def test_credentials_show_in_no_text(self) -> None:
        proxy = parse_proxy("http://me:secret@[::1]:8080")
        assert str(proxy) == "http://[::1]:8080"
        assert "secret" not in repr(proxy)
        assert "'me'" not in repr(proxy)

    @pytest.mark.parametrize(
        ("url", "text"),
        [
            ("https://me:secret@proxy", "of the kind https:// are not supported yet: http:// is"),
            ("socks5://me:secret@proxy", "of the kind socks5:// are not supported yet: http:// is"),
            ("http://me:secret@proxy:port", "no valid host and port"),
            ("http://me:sec/ret@proxy", "no valid host and port"),
            ("http://me:secret@proxy:70000", "no valid host and port"),
            ("http://me:secret@", "no host"),
            ("http://", "no host"),
            ("http://me:secret@[::1", "no valid host and port"),
            ("http://me:secret@pro\u2100xy", "no valid host and port"),
            ("http://me:secret@pro xy", "space or control character"),
            ("http://me:secret@proxy\r\nX: y", "space or control character"),
        ],
    )
    def test_a_wrong_one_is_refused_without_its_credentials(self, url: str, text: str) -> None:
        for refuse in (lambda: parse_proxy(url), lambda: check_proxies({"https": url})):
            with pytest.raises(ValueError, match=text) as caught:
                refuse()
            assert "sec" not in str(caught.value)
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__ or caught.value.__context__ is None

    def test_what_is_no_str_is_refused(self) -> None:
        with pytest.raises(TypeError, match="a proxy URL is a str, not int"):
            check_proxies({"http": 3128})  # type: ignore[dict-item]
        with pytest.raises(TypeError, match="expected a mapping"):
            check_proxies("http://proxy")  # type: ignore[arg-type]

    def test_none_and_unused_keys_are_fine(self) -> None:
        check_proxies(None)
        check_proxies({"http": None, "ftp": "ftp://proxy"})


class TestTunnel:
    """`tunnel`."""

    @pytest.fixture
    def ask(self, start_peer: StartPeer) -> Iterator[Callable[..., Stream]]:
        """Asks a scripted proxy for a tunnel; the stream, if it was granted."""
        streams: list[Stream] = []

        def ask_proxy(
            script: Callable[[Link], object],
            *,
            url: str = "ws://target.example/",
            proxy: str = "http://proxy",
            deadline: Deadline | None = None,
        ) -> Stream:
            peer = start_peer(script)
            sock = socket.create_connection((peer.host, peer.port))
            sock.setblocking(False)
            streams.append(Stream(sock))
            limit = deadline or Deadline(5)
            try:
                tunnel(streams[-1], parse_proxy(proxy), parse_url(url), limit)
            finally:
                limit.close()
            return streams[-1]

        yield ask_proxy
        for stream in streams:
            stream.close()

    def answering(self, answer: bytes) -> Callable[[Link], object]:
        return lambda link: (link.read_request(), link.send(answer), link.wait_for_end())

    @pytest.mark.parametrize(
        ("url", "target"),
        [
            ("ws://target.example/", "target.example:80"),
            ("wss://target.example/", "target.example:443"),
            ("ws://target.example:8080/", "target.example:8080"),
            ("ws://[::1]:8080/", "[::1]:8080"),
        ],
    )
    def test_host_and_port_are_asked_for(self, ask: Callable[..., Stream], url: str, target: str) -> None:
        requests: list[Request] = []

        def script(link: Link) -> None:
            requests.append(link.read_request())
            link.send(b"HTTP/1.1 200 OK\r\n\r\n")

        ask(script, url=url)
        assert requests == [Request(f"CONNECT {target} HTTP/1.1", {"host": target})]

    @pytest.mark.parametrize(
        ("proxy", "token"),
        [
            ("http://Aladdin:open%20sesame@proxy", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("http://Aladdin@proxy", "QWxhZGRpbjo="),
        ],
    )
    def test_credentials_go_as_basic_authentication(
        self, ask: Callable[..., Stream], proxy: str, token: str
    ) -> None:
        given: list[str] = []

        def script(link: Link) -> None:
            given.append(link.read_request().headers["proxy-authorization"])
            link.send(b"HTTP/1.1 200 OK\r\n\r\n")

        ask(script, proxy=proxy)
        assert given == [f"Basic {token}"]

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 Connection established\r\n\r\n",
            b"HTTP/1.0 200\r\nVia: somebody\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ],
    )
    def test_any_2xx_grants_it(self, ask: Callable[..., Stream], answer: bytes) -> None:
        ask(self.answering(answer))

    def test_an_answer_in_single_bytes_is_understood(self, ask: Callable[..., Stream]) -> None:
        ask(lambda link: (link.read_request(), link.send_bytewise(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n")))

    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "^407 Proxy Authentication Required$"),
            (b"HTTP/1.1 502\r\n\r\n", "^502$"),
            (b"HTTP/1.1 301 Moved\r\n\r\n", "^301 Moved$"),
            (b"HTTP/1.1 maybe\r\n\r\n", "is not HTTP"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "is not HTTP"),
            (b"\x05\xff", "is not HTTP"),
            (b"HTTP/1.1 200 OK\r\n\r\nsurprise", "8 unexpected bytes after the answer"),
            (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 4000, "more than 16 KiB of headers"),
        ],
    )
    def test_anything_else_is_a_refusal(self, ask: Callable[..., Stream], answer: bytes, text: str) -> None:
        with pytest.raises(ConnectFail, match=text) as caught:
            ask(self.answering(answer), proxy="http://me:secret@proxy")
        assert caught.value.phase == "proxy"
        assert caught.value.address is not None
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("end", "text"), [(Link.finish, "the connection ended before"), (Link.reset, "reset by peer")]
    )
    def test_hanging_up_is_a_refusal(
        self, ask: Callable[..., Stream], end: Callable[[Link], None], text: str
    ) -> None:
        with pytest.raises(ConnectFail, match=text):
            ask(lambda link: (link.read_request(), end(link), link.wait_for_end()))

    def test_silence_ends_with_the_deadline(self, ask: Callable[..., Stream]) -> None:
        with pytest.raises(ConnectFail, match=r"^no answer to CONNECT: timed out after 0\.05 s$"):
            ask(Link.wait_for_end, deadline=Deadline(0.05))

    def test_cancelling_ends_it(self, ask: Callable[..., Stream]) -> None:
        deadline = Deadline(None)
        with pytest.raises(Cancelled):
            ask(lambda link: (link.read_request(), deadline.cancel(), link.wait_for_end()), deadline=deadline)
