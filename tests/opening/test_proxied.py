"""Attempts through proxies of every kind: in time, never around them, and with secrets kept."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from lochws import WebSocket, WebSocketApp
from lochws.options import Options
from lochws.system.deadline import Deadline

from ..support.attempts import Dial
from ..support.awake import Awake
from ..support.peer import Link, Peer, StartPeer
from ..support.seen import PATIENCE

#: The limit for what should not wait, in seconds.
SOON = 3.0

SECRET = "hush:hush"
ENCODED = "hush%3Ahush"

OPEN5, GRANTED5 = b"\x05\x00", b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"
CONNECTED = b"HTTP/1.1 200 OK\r\n\r\n"
REFUSED = b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"


def socks(then: Callable[[Link], object], *, host: str) -> Callable[[Link], object]:
    """A script: a SOCKS 5 proxy that allows everything, and also acts as the host."""

    def script(link: Link) -> None:
        link.read(3)
        link.send(OPEN5)
        assert link.read(7 + len(host))[4:-2] == bytes([len(host)]) + host.encode()
        link.send(GRANTED5)
        then(link)

    return script


def connect(then: Callable[[Link], object]) -> Callable[[Link], object]:
    """A script: an HTTP proxy that does the same."""
    return lambda link: (link.read_request(), link.send(CONNECTED), then(link))


class TestOpening:
    """Attempts that succeed."""

    @pytest.mark.parametrize("scheme", ["ws", "wss"])
    def test_socks_leads_there(
        self, dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str, scheme: str
    ) -> None:
        def target(link: Link) -> None:
            if scheme == "wss":
                link.start_tls(server_tls)
            link.accept()

        proxy = start_peer(socks(target, host="localhost"))
        attempt = dial(f"{scheme}://localhost/", proxies=f"socks5h://{proxy.authority}", ssl_cafile=ca_file)
        assert attempt.opened
        assert attempt.last.proxy == f"socks5h://{proxy.authority}"

    def test_ws_goes_through_an_https_proxy(
        self, dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
    ) -> None:
        proxy = start_peer(connect(Link.accept), tls=server_tls)
        attempt = dial("ws://target.invalid/", proxies=f"https://{proxy.authority}", ssl_cafile=ca_file)
        assert attempt.opened
        assert attempt.last.proxy == f"https://{proxy.authority}"

    def test_own_headers_go_to_the_proxy_alone(self, dial: Dial, start_peer: StartPeer) -> None:
        asked: list[dict[str, str]] = []

        def script(link: Link) -> None:
            asked.append(link.read_request().headers)
            link.send(b"HTTP/1.1 200 OK\r\n\r\n")
            link.accept()

        proxy = start_peer(script)
        tokens = iter(["one", "two"])
        options = {"proxies": proxy.authority, "proxy_headers": lambda: {"X-Token": next(tokens)}}
        assert dial("ws://target.invalid/", **options).opened
        assert asked[0]["x-token"] == "one"
        assert "sec-websocket-key" in proxy.links[0].request.headers
        assert "x-token" not in proxy.links[0].request.headers

    def test_a_function_is_asked_at_each_attempt(self, dial: Dial, start_peer: StartPeer) -> None:
        proxy = start_peer(connect(Link.accept))
        asked: list[str] = []

        def choose(url: str) -> str | None:
            asked.append(url)
            return proxy.authority if "target" in url else None

        assert dial("ws://me:secret@target.invalid/path", proxies=choose).opened
        assert asked == ["ws://target.invalid/path"]

    @pytest.mark.parametrize("headers", [{"X": "a\r\nb"}, {"a b": "c"}, {"X": 3}])
    def test_wrong_headers_for_the_proxy_are_refused_at_once(self, headers: Any) -> None:
        with pytest.raises((TypeError, ValueError)):
            WebSocket("ws://target.invalid/", proxy_headers=headers)

    def test_a_wrong_proxy_auth_is_refused_at_once(self) -> None:
        with pytest.raises(ValueError, match="proxy_auth='ntlm': expected one of 'auto', 'basic', 'digest'"):
            WebSocket("ws://target.invalid/", proxy_auth="ntlm")  # type: ignore[arg-type]


class TestFailing:
    """Attempts that fail: none goes around the proxy."""

    @pytest.mark.parametrize("scheme", ["http", "https", "socks4", "socks4a", "socks5", "socks5h"])
    def test_a_proxy_that_is_not_there_is_no_direct_connection(
        self, dial: Dial, start_peer: StartPeer, scheme: str
    ) -> None:
        target = start_peer(Link.accept)
        gone = Peer(Link.accept)
        gone.close()
        last = dial(target.url, proxies=f"{scheme}://{gone.authority}").last
        assert (last.name, last.phase) == ("connect_fail", "proxy")
        assert last.reason.startswith("unable to connect to proxy; 127.0.0.1:")
        assert not target.links

    def test_a_function_that_fails_is_no_direct_connection(self, dial: Dial, start_peer: StartPeer) -> None:
        target = start_peer(Link.accept)

        def choose(_: str) -> str | None:
            raise LookupError("no file of proxies")

        last = dial(target.url, proxies=choose).last
        assert last.name == "connect_fail"
        assert "no file of proxies" in last.reason
        assert not target.links

    def test_a_name_that_this_machine_cannot_look_up_for_socks_is_named(
        self, dial: Dial, start_peer: StartPeer
    ) -> None:
        proxy = start_peer(Link.wait_for_end)
        last = dial("ws://target.invalid/", proxies=f"socks5://{proxy.authority}").last
        assert last.phase == "proxy"
        assert "cannot resolve 'target.invalid'" in last.reason

    def test_an_https_proxy_with_a_wrong_certificate_is_refused(
        self, dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext
    ) -> None:
        proxy = start_peer(Link.wait_for_end, tls=server_tls)
        last = dial("ws://target.invalid/", proxies=f"https://{proxy.authority}").last
        assert last.phase == "proxy"
        assert last.reason.startswith("unable to connect to proxy; the certificate of '127.0.0.1' was not")
        assert last.advice

    def test_an_https_proxy_that_is_an_http_one_is_named(self, dial: Dial, start_peer: StartPeer) -> None:
        proxy = start_peer(lambda link: (link.read(1), link.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")))
        last = dial("ws://target.invalid/", proxies=f"https://{proxy.authority}").last
        assert last.phase == "proxy"
        assert "does not speak TLS" in last.reason

    def test_the_body_of_a_refusal_is_in_the_event(self, dial: Dial, start_peer: StartPeer) -> None:
        answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\n\r\nnot you!"
        proxy = start_peer(lambda link: (link.read_request(), link.send(answer), link.wait_for_end()))
        last = dial("ws://target.invalid/", proxies=proxy.authority).last
        assert last.reason == "proxy fail; 403 Forbidden"
        assert last.response.body == b"not you!"


class TestEndingInTime:
    """Wherever a proxy falls silent, the attempt ends in time."""

    # The proxy's scheme, the beginning of its script, and whether TLS follows.
    PLACES = (
        ("https", lambda link: link.read(1)),
        ("https+tls", lambda link: link.read_request()),
        ("https+tls", lambda link: (link.read_request(), link.send(CONNECTED), link.read(1))),
        ("socks4a", lambda link: link.read(1)),
        ("socks5h", lambda link: link.read(1)),
        ("socks5h", lambda link: (link.read(3), link.send(OPEN5), link.read(1))),
    )

    def place(
        self, scheme: str, begin: Callable[[Link], object], start_peer: StartPeer, server_tls: ssl.SSLContext,
        reached: Callable[[], object],
    ) -> str:
        """Start a proxy that falls silent at that point; return its URL."""
        tls = server_tls if scheme.endswith("+tls") else None
        peer = start_peer(lambda link: (begin(link), reached(), link.wait_for_end()), tls=tls)
        return f"{scheme.removesuffix('+tls')}://{peer.authority}"

    @pytest.mark.parametrize(("scheme", "begin"), PLACES)
    def test_silence_ends_with_open_timeout(
        self, dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str, scheme: str,
        begin: Callable[[Link], object],
    ) -> None:
        proxy = self.place(scheme, begin, start_peer, server_tls, lambda: None)
        attempt = dial("wss://localhost/", proxies=proxy, ssl_cafile=ca_file, open_timeout=0.1)
        assert attempt.seconds > 0.05
        assert attempt.awake_seconds < 0.1 + SOON
        assert "timed out after 0.1 s" in attempt.last.reason

    @pytest.mark.parametrize(("scheme", "begin"), PLACES)
    def test_cancelling_ends_it_at_once(
        self, dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str, scheme: str,
        begin: Callable[[Link], object], awake: Awake
    ) -> None:
        deadline = Deadline(None)
        at: list[float] = []
        reached = lambda: (at.append(awake()), deadline.cancel())  # noqa: E731
        proxy = self.place(scheme, begin, start_peer, server_tls, reached)
        attempt = dial("wss://localhost/", deadline=deadline, proxies=proxy, ssl_cafile=ca_file)
        assert awake() - at[0] < SOON
        assert attempt.last.reason == "closed while connecting"

    @pytest.mark.parametrize("scheme", ["socks4a", "socks5h"])
    def test_closing_the_app_ends_it_at_once(self, start_peer: StartPeer, scheme: str, awake: Awake) -> None:
        at: list[float] = []
        app: WebSocketApp

        def script(link: Link) -> None:
            link.read(3)
            at.append(awake())
            app.close()
            link.wait_for_end()

        proxy = start_peer(script)
        app = WebSocketApp("ws://target.invalid/", proxies=f"{scheme}://{proxy.authority}")
        app.start()
        assert app.join(PATIENCE)
        assert awake() - at[0] < SOON

    def test_the_proxy_can_have_a_limit_of_its_own(self, dial: Dial, start_peer: StartPeer) -> None:
        proxy = start_peer(Link.wait_for_end)
        attempt = dial(
            "ws://target.invalid/", proxies=f"socks5h://{proxy.authority}", phase_timeouts={"proxy": 0.05}
        )
        assert attempt.awake_seconds < SOON
        assert "the limit of the phase proxy" in attempt.last.reason
        assert attempt.last.timings["proxy"] >= 0.05


class TestSecrets:
    """A proxy's password is sent to the proxy alone."""

    SCRIPTS = (
        ("http", lambda link: (link.read_request(), link.send(REFUSED))),
        ("http", connect(Link.accept)),
        ("http", lambda link: link.send(b"SSH-2.0-OpenSSH\r\n")),
        ("socks5h", lambda link: (link.read(4), link.send(b"\x05\x02\x01\x01"))),
        ("socks5h", lambda link: link.reset()),
        ("socks4a", lambda link: (link.read(9), link.send(b"\x00\x5b" + bytes(6)))),
        ("https", lambda link: link.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
    )

    @pytest.mark.parametrize("by_environment", [False, True])
    @pytest.mark.parametrize(("scheme", "script"), SCRIPTS)
    def test_it_is_in_no_event_trace_log_line_or_repr(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
        scheme: str, script: Callable[[Link], object], by_environment: bool,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        url = f"{scheme}://me:{ENCODED}@{start_peer(script).authority}"
        if by_environment:
            monkeypatch.setenv("all_proxy", url)
        traced: list[dict[str, Any]] = []
        websocket = WebSocket(
            "ws://target.invalid/", proxies=None if by_environment else url, open_timeout=5,
            trace=traced.append,
        )
        shown = [websocket]
        for event in websocket:
            shown += [event, *(getattr(event, name) for name in dir(event) if not name.startswith("_"))]
            websocket.force_disconnect()
        error = getattr(event, "error", None)
        while error is not None:
            shown += [error, vars(error)]
            error = error.__cause__ or error.__context__
        text = f"{shown!r} {list(map(str, shown))} {traced!r} {caplog.text}"
        for secret in (SECRET, ENCODED, "bWU6aHVzaDpodXNo"):
            assert secret not in text

    def test_it_is_not_in_the_repr_of_options(self) -> None:
        options = Options(proxies=f"http://me:{ENCODED}@proxy", proxy_headers=(("X-Token", SECRET),))
        assert "hush" not in repr(options)

    def test_it_is_not_told_to_the_endpoint(self, dial: Dial, start_peer: StartPeer) -> None:
        proxy = start_peer(connect(Link.accept))
        assert dial("ws://target.invalid/", proxies=f"http://me:{ENCODED}@{proxy.authority}").opened
        assert not {name for name in proxy.links[0].request.headers if "auth" in name}
