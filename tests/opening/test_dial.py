"""Single attempts to connect: their events, and the final one, which says what happened."""

from __future__ import annotations

import datetime as dt
import logging
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection
from websockets.typing import Subprotocol

from lochws import errors
from lochws.opening import refusal
from lochws.opening.dial import Dialler
from lochws.options import Deflate, Options
from lochws.system.deadline import Deadline
from lochws.transport import contexts, tcp, tls

from ..faults.registry import fault
from ..support.attempts import Attempt, Dial
from ..support.peer import TEXT, Link, StartPeer, frame, upgrade
from ..support.ports import free_port
from ..support.seen import PATIENCE
from ..support.threaded_websockets import serve

#: The limit for what should not wait, in seconds.
SOON = 3.0


def answering(answer: bytes) -> Callable[[Link], object]:
    """A script: read the request, send the answer, wait for the end."""
    return lambda link: (link.read_request(), link.send(answer), link.wait_for_end())


def ending_after(answer: bytes) -> Callable[[Link], object]:
    """A script: read the request, send the answer and FIN, wait for the end."""
    return lambda link: (link.read_request(), link.send(answer), link.finish(), link.wait_for_end())


class TestOpening:
    """Attempts that succeed."""

    def test_the_events_are_connecting_and_connected(self, dial: Dial, start_peer: StartPeer) -> None:
        peer = start_peer(Link.accept)
        attempt = dial(peer.url)
        assert attempt.names == ["connecting", "connected"]
        assert [event.url for event in attempt.events] == [peer.url, peer.url]
        assert attempt.last.proxy is None
        assert attempt.opened.response.status_code == 101
        assert attempt.opened.agreement.protocol is None
        assert attempt.opened.rest == b""
        assert attempt.opened.stream.address == peer.authority

    def test_an_answer_in_single_bytes_is_understood(self, dial: Dial, start_peer: StartPeer) -> None:
        peer = start_peer(lambda link: link.send_bytewise(upgrade(link.read_request())))
        assert dial(peer.url).opened

    def test_frames_right_behind_the_answer_are_kept(self, dial: Dial, start_peer: StartPeer) -> None:
        first = frame(TEXT, b"hello")
        peer = start_peer(lambda link: link.send(upgrade(link.read_request()) + first))
        assert dial(peer.url).opened.rest == first

    def test_the_connection_goes_through_tls_for_wss(
        self, dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
    ) -> None:
        peer = start_peer(Link.accept, tls=server_tls)
        assert dial(peer.url, ssl_cafile=ca_file).opened

    def test_an_ipv6_literal_connects(
        self, dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
    ) -> None:
        for context in (None, server_tls):
            peer = start_peer(Link.accept, host="::1", tls=context)
            assert dial(peer.url, ssl_cafile=ca_file).opened.stream.address == f"[::1]:{peer.port}"

    def test_options_reach_the_request(self, dial: Dial, start_peer: StartPeer) -> None:
        peer = start_peer(lambda link: link.accept("Sec-WebSocket-Protocol: b"))
        attempt = dial(
            peer.url + "path?query",
            headers=(("X-Token", "1"),),
            protocols=("a", "b"),
            origin="https://here",
            agent="tester",
            auth=("me", "secret"),
            deflate=Deflate(),
        )
        line, headers = peer.links[0].request
        assert line == "GET /path?query HTTP/1.1"
        assert headers["host"] == peer.authority
        assert headers["x-token"] == "1"
        assert headers["sec-websocket-protocol"] == "a, b"
        assert headers["origin"] == "https://here"
        assert headers["user-agent"] == "tester"
        assert headers["authorization"] == "Basic bWU6c2VjcmV0"
        assert headers["sec-websocket-extensions"].startswith("permessage-deflate")
        assert attempt.opened.agreement.protocol == "b"
        assert attempt.opened.agreement.deflate is None

    def test_credentials_of_the_url_authenticate_and_show_nowhere(
        self, dial: Dial, start_peer: StartPeer
    ) -> None:
        peer = start_peer(Link.accept)
        attempt = dial(f"ws://me:secret@{peer.authority}/")
        assert peer.links[0].request.headers["authorization"] == "Basic bWU6c2VjcmV0"
        assert "secret" not in repr(attempt.events)
        assert attempt.events[0].url == peer.url

    def test_callables_are_evaluated_for_each_attempt(self, start_peer: StartPeer) -> None:
        peer = start_peer(Link.accept)
        count = iter(range(100))
        dialler = Dialler(
            Options(headers=lambda: {"X-Count": str(next(count))}, protocols=lambda: [f"p{next(count)}"]),
            lambda: f"{peer.url}{next(count)}",
        )
        for _ in range(2):
            with closing(Deadline(PATIENCE)) as deadline:
                opened = Attempt(dialler, deadline).opened
            if opened is not None:
                opened.stream.close()
        requests = [link.request for link in peer.links]
        seen = [(line, headers["x-count"], headers["sec-websocket-protocol"]) for line, headers in requests]
        assert seen == [("GET /0 HTTP/1.1", "1", "p2"), ("GET /3 HTTP/1.1", "4", "p5")]

    def test_the_tls_context_is_made_once(
        self, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # Of a file of its own: the context of another test may still be there.
        own_file = shutil.copy(ca_file, tmp_path / "ca.pem")
        made = []

        def make_context(options: Options) -> ssl.SSLContext:
            made.append(original(options))
            return made[-1]

        original = contexts.make_context
        monkeypatch.setattr(contexts, "make_context", make_context)
        peer = start_peer(Link.accept, tls=server_tls)
        dialler = Dialler(Options(ssl_cafile=str(own_file)), peer.url)
        assert made == []  # nothing is read before it is needed
        for _ in range(3):
            with closing(Deadline(PATIENCE)) as deadline:
                Attempt(dialler, deadline).opened.stream.close()
        assert len(made) == 1


class TestConstruction:
    """Options that could only fail are refused before any attempt."""

    @pytest.mark.parametrize(
        ("url", "options", "error"),
        [
            ("gopher://host", {}, ValueError),
            ("ws://", {}, ValueError),
            (b"ws://host", {}, TypeError),
            ("ws://host", {"ssl_cafile": "no/such.pem"}, FileNotFoundError),
            ("ws://host", {"proxies": {"http": "gopher://proxy"}}, ValueError),
        ],
    )
    def test_it_is_refused(self, url: str, options: dict[str, object], error: type[Exception]) -> None:
        with pytest.raises(error):
            Dialler(Options(**options), url)  # type: ignore[arg-type]


    @pytest.mark.parametrize(
        "url", ["ws://me:secret@host:x/", "ws://me:sec/ret@host/", "ws://me:secret@ho\u2100st/", "ws://me:secret@[/"]
    )
    def test_a_refused_url_keeps_its_credentials_secret(self, url: str) -> None:
        with pytest.raises(ValueError) as caught:
            Dialler(Options(), url)
        assert "sec" not in str(caught.value)


class TestPreparing:
    """Exceptions of the user's functions end the attempt, not the thread."""

    @staticmethod
    def broken() -> str:
        raise LookupError("no token today")

    @pytest.mark.parametrize("option", ["headers", "protocols"])
    def test_an_exception_of_theirs_is_the_cause(self, dial: Dial, option: str) -> None:
        attempt = dial("ws://127.0.0.1:1/", **{option: self.broken})
        assert attempt.names == ["connecting", "connect_fail"]
        assert attempt.last.phase == "prepare"
        assert attempt.last.reason == "unable to prepare the request; LookupError: no token today"
        assert isinstance(attempt.last.error, LookupError)

    @pytest.mark.parametrize("url", [broken, lambda: "http:", lambda: None, lambda: "ws://me:secret@h:x/"])
    def test_without_a_url_connecting_has_none(self, dial: Dial, url: Callable[[], str]) -> None:
        attempt = dial(url)
        assert attempt.names == ["connecting", "connect_fail"]
        assert attempt.events[0].url == ""
        assert attempt.last.phase == "prepare"
        assert "secret" not in attempt.last.reason

    def test_invalid_values_are_causes_too(self, dial: Dial) -> None:
        for options in (
            {"headers": lambda: {"X": "a\r\nb"}},
            {"headers": lambda: {"Upgrade": "h2c"}},
            {"protocols": lambda: ["a b"]},
        ):
            assert dial("ws://127.0.0.1:1/", **options).last.phase == "prepare"


class TestConnectFail:
    """Attempts that fail without a connection name the phase, the address and the cause."""

    def test_a_refused_port(self, dial: Dial) -> None:
        port = free_port()
        last = dial(f"ws://127.0.0.1:{port}/").last
        assert (last.phase, last.address) == ("tcp", f"127.0.0.1:{port}")
        assert last.reason == f"unable to connect; 127.0.0.1:{port}: Connection refused"
        assert isinstance(last.error, errors.ConnectFail)
        assert isinstance(last.error.__cause__, ConnectionRefusedError)

    def test_an_unknown_host(self, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> list[tcp.AddressInfo]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        last = dial("ws://no.such.host/").last
        assert (last.phase, last.address) == ("resolve", None)
        assert last.reason == "unable to connect; cannot resolve 'no.such.host': Name or service not known"

    def test_a_certificate_that_does_not_verify(
        self, dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext
    ) -> None:
        peer = start_peer(Link.accept, tls=server_tls)
        attempt = dial(peer.url)
        assert attempt.names == ["connecting", "connect_fail"]
        assert (attempt.last.phase, attempt.last.address) == ("tls", peer.authority)
        assert attempt.last.reason.startswith("unable to connect; the certificate of '127.0.0.1'")
        assert isinstance(attempt.last.error.__cause__, ssl.SSLCertVerificationError)
        assert dial(peer.url, ssl_verify=False).opened

    def test_an_expired_certificate(
        self, dial: Dial, start_peer: StartPeer, authority: trustme.CA, ca_file: str
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        now = dt.datetime.now(dt.timezone.utc)
        day = dt.timedelta(days=1)
        expired = authority.issue_cert("127.0.0.1", not_before=now - 2 * day, not_after=now - day)
        expired.configure_cert(context)
        last = dial(start_peer(Link.accept, tls=context).url, ssl_cafile=ca_file).last
        assert last.reason.endswith("the certificate of '127.0.0.1' was not accepted: it has expired")

    def test_a_cafile_that_has_gone_since(self, dial: Dial, start_peer: StartPeer, monkeypatch) -> None:
        monkeypatch.setattr(tls, "check_tls", lambda options: None)
        peer = start_peer(Link.wait_for_end)
        last = dial(f"wss://{peer.authority}/", ssl_cafile="no/such.pem").last
        assert (last.phase, last.reason) == ("tls", "unable to connect; No such file or directory")

    def test_a_request_that_cannot_be_written(self, dial: Dial, start_peer: StartPeer) -> None:
        """The header is too large for the kernel to take at once, and the peer goes away meanwhile."""
        peer = start_peer(lambda link: (link.read(1), link.reset()))
        attempt = dial(peer.url, headers=(("X-Large", "x" * 16_000_000),))
        assert attempt.names == ["connecting", "connect_fail"]
        assert attempt.last.phase == "upgrade"
        assert attempt.last.reason.startswith("request failed; ")


class TestDisconnected:
    """Attempts that fail after the request was sent."""

    @fault("opening", "The response head stops half-way")
    def test_an_end_before_the_answer(self, dial: Dial, start_peer: StartPeer) -> None:
        for part, shown in (
            (b"", ""),
            (b"HTTP/1.1 101 Swi", "unfinished answer, beginning with b'HTTP/1.1 101 Swi': "),
            (b"HTTP/1.1 200 OK\r\nSet-Cookie : a=S3\r\n CRET\r\nX",
             r"unfinished answer, beginning with b'HTTP/1.1 200 OK\r\nSet-Cookie : ***\r\nX': "),
        ):
            attempt = dial(start_peer(ending_after(part)).url)
            assert attempt.names == ["connecting", "connected", "disconnected"]
            assert attempt.last.reason == f"{shown}connection lost: ended by the server"
            assert attempt.last.ended_by == "network"

    def test_a_reset_before_the_answer(self, dial: Dial, start_peer: StartPeer) -> None:
        peer = start_peer(lambda link: (link.read_request(), link.reset()))
        attempt = dial(peer.url)
        assert attempt.names == ["connecting", "connected", "disconnected"]
        assert attempt.last.reason == "connection lost: reset by the server"
        assert isinstance(attempt.last.error, ConnectionResetError)

    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            (b"HTTP/1.1 200 OK\r\n" + b"X-Endless: 1\r\n" * 2000, "response head is over 16 KiB"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "not an HTTP response: it begins with b'SSH-2.0-OpenSSH_9.6"),
        ],
    )
    def test_an_answer_that_is_not_http_is_a_protocol_error(
        self, dial: Dial, start_peer: StartPeer, answer: bytes, text: str
    ) -> None:
        attempt = dial(start_peer(answering(answer)).url)
        assert attempt.names == ["connecting", "connected", "protocol_error", "disconnected"]
        assert attempt.events[2].critical
        assert attempt.events[2].error.startswith(text)
        assert attempt.last.reason.startswith(text)


class TestRejected:
    """Answers that do not upgrade."""

    def test_a_refusal_has_its_body(self, dial: Dial, start_peer: StartPeer) -> None:
        answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\nX-Why: no\r\n\r\nnot today"
        attempt = dial(start_peer(answering(answer)).url)
        assert attempt.names == ["connecting", "connected", "rejected", "disconnected"]
        rejected = attempt.events[2]
        assert rejected.reason == "upgrade refused: 403 Forbidden: not today"
        assert rejected.response.status_code == 403
        assert rejected.response.get("x-why") == "no"
        assert rejected.response.body == b"not today"
        assert attempt.last.reason == "upgrade refused: 403 Forbidden: not today"
        assert attempt.last.ended_by == "server"
        assert attempt.awake_seconds < SOON  # the length is known: it does not wait for the end

    def body(self, dial: Dial, start_peer: StartPeer, answer: bytes, *, end: bool = True) -> bytes:
        attempt = dial(start_peer((ending_after if end else answering)(answer)).url)
        return attempt.events[2].response.body

    def test_a_body_without_length_goes_to_the_end(self, dial: Dial, start_peer: StartPeer) -> None:
        assert self.body(dial, start_peer, b"HTTP/1.1 500 No\r\n\r\none two") == b"one two"

    def test_a_body_cut_short_is_kept(self, dial: Dial, start_peer: StartPeer) -> None:
        assert self.body(dial, start_peer, b"HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\none") == b"one"

    @pytest.mark.parametrize("length", [b"9" * 5000, b"many", b"-1"])
    def test_a_senseless_length_is_ignored(self, dial: Dial, start_peer: StartPeer, length: bytes) -> None:
        head = b"HTTP/1.1 500 No\r\nContent-Length: " + length + b"\r\n\r\n"
        assert self.body(dial, start_peer, head + b"one") == b"one"

    def test_a_large_body_is_cut(self, dial: Dial, start_peer: StartPeer) -> None:
        for header in (b"", b"Content-Length: 1000000\r\n"):
            head = b"HTTP/1.1 500 No\r\n" + header + b"\r\n"
            assert self.body(dial, start_peer, head + b"x" * 1_000_000) == b"x" * 64 * 1024

    @pytest.mark.parametrize(
        ("sent", "body"),
        [
            (b"4\r\nWiki\r\n5;x=y\r\npedia\r\n0\r\n\r\n", b"Wikipedia"),
            (b"4\r\nWiki\r\n5\r\nped", b"Wikiped"),
            (b"4\r\nWiki\r\nnonsense", b"Wikinonsense"),
            (b"no chunks", b"no chunks"),
        ],
    )
    def test_a_body_in_chunks_is_put_together_as_far_as_it_goes(
        self, dial: Dial, start_peer: StartPeer, sent: bytes, body: bytes
    ) -> None:
        head = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n"
        ended = sent.endswith(b"0\r\n\r\n")
        assert self.body(dial, start_peer, head + sent, end=not ended) == body

    def test_a_body_that_never_ends_is_not_waited_for(
        self, dial: Dial, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(refusal, "BODY_SECONDS", 0.05)
        head = b"HTTP/1.1 500 No\r\n\r\n"
        assert self.body(dial, start_peer, head + b"the beginning", end=False) == b"the beginning"

    def test_a_body_is_not_awaited_beyond_the_deadline(
        self, dial: Dial, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(refusal, "BODY_SECONDS", PATIENCE)
        peer = start_peer(answering(b"HTTP/1.1 500 No\r\n\r\nthe beginning"))
        for limit in (0.2, 1, 5):  # the machine may stall before the answer
            attempt = dial(peer.url, open_timeout=limit)
            assert attempt.awake_seconds < limit + SOON
            if "rejected" in attempt.names:
                break
        assert attempt.events[2].response.body == b"the beginning"

    def test_a_101_that_does_not_prove_the_key_is_rejected_without_body(
        self, dial: Dial, start_peer: StartPeer
    ) -> None:
        answer = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: bm90IHRoaXMgb25lIGF0IGFsbA==\r\n\r\n\x81\x02hi"
        )
        attempt = dial(start_peer(answering(answer)).url)
        assert attempt.names[2:] == ["rejected", "disconnected"]
        assert attempt.events[2].reason == "Sec-WebSocket-Accept challenge failed"
        assert attempt.events[2].response.body == b""

    def test_a_subprotocol_that_was_not_offered_is_rejected(self, dial: Dial, start_peer: StartPeer) -> None:
        peer = start_peer(lambda link: (link.accept("Sec-WebSocket-Protocol: b"), link.wait_for_end()))
        assert dial(peer.url, protocols=("a",)).names[2:] == ["rejected", "disconnected"]


class TestProxy:
    """Attempts through an HTTP proxy."""

    def proxy(
        self, answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n", then: Callable[[Link], object] = Link.wait_for_end
    ) -> Callable[[Link], object]:
        """A script: a proxy that also acts as the target, with `then`."""
        return lambda link: (link.read_request(), link.send(answer), then(link))

    def through(self, authority: str) -> Callable[[Link], object]:
        """A script: a proxy that checks the target and then upgrades."""

        def script(link: Link) -> None:
            assert link.read_request().line == f"CONNECT {authority} HTTP/1.1"
            link.send(b"HTTP/1.1 200 OK\r\n\r\n")
            link.accept()

        return script

    def test_ws_goes_through_the_tunnel(self, dial: Dial, start_peer: StartPeer) -> None:
        proxy = start_peer(self.through("target.invalid:80"))
        attempt = dial("ws://target.invalid/", proxies={"http": f"http://me:secret@{proxy.authority}"})
        assert attempt.opened
        assert attempt.last.proxy == f"http://{proxy.authority}"
        assert "secret" not in repr(attempt.events)

    def test_wss_goes_through_tls_in_the_tunnel(
        self, dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
    ) -> None:
        proxy = start_peer(self.proxy(then=lambda link: (link.start_tls(server_tls), link.accept())))
        attempt = dial("wss://localhost/", proxies={"https": proxy.authority}, ssl_cafile=ca_file)
        assert attempt.opened

    def test_the_environment_is_asked_unless_told_otherwise(
        self, dial: Dial, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        peer = start_peer(Link.accept)
        proxy = start_peer(self.through(peer.authority))
        monkeypatch.setenv("http_proxy", f"http://{proxy.authority}")
        assert dial(peer.url).last.proxy == f"http://{proxy.authority}"
        assert dial(peer.url, proxies={}).last.proxy is None
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert dial(peer.url).last.proxy is None

    def test_a_wrong_url_in_the_environment_is_no_direct_connection(
        self, dial: Dial, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "gopher://me:secret@proxy")
        last = dial(start_peer(Link.accept).url).last
        assert last.phase == "proxy"
        assert last.reason.startswith("unable to connect to proxy; ")

    def test_a_proxy_that_refuses_is_named_so(self, dial: Dial, start_peer: StartPeer) -> None:
        refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        proxy = start_peer(self.proxy(refusal))
        last = dial("ws://target.invalid/", proxies={"http": f"http://me:secret@{proxy.authority}"}).last
        assert (last.phase, last.address) == ("proxy", proxy.authority)
        assert last.reason == "proxy fail; 407 Proxy Authentication Required"
        assert "secret" not in repr(last.error)

    def test_a_proxy_that_cannot_be_reached_is_named_so(self, dial: Dial) -> None:
        port = free_port()
        last = dial("ws://target.invalid/", proxies={"http": f"127.0.0.1:{port}"}).last
        assert last.phase == "proxy"
        assert last.reason == f"unable to connect to proxy; 127.0.0.1:{port}: Connection refused"

    def test_tls_that_fails_in_the_tunnel_is_not_the_proxys_fault(
        self, dial: Dial, start_peer: StartPeer, server_tls: ssl.SSLContext
    ) -> None:
        proxy = start_peer(self.proxy(then=lambda link: link.start_tls(server_tls)))
        last = dial("wss://localhost/", proxies={"https": proxy.authority}).last
        assert last.phase == "tls"
        assert last.reason.startswith("unable to connect; the certificate of 'localhost' was not accepted")


class TestRealServer:
    """The threaded server of websockets, as an independent peer."""

    @pytest.fixture(params=["ws", "wss"])
    def server(self, request: pytest.FixtureRequest, server_tls: ssl.SSLContext) -> Iterator[str]:
        def echo(connection: ServerConnection) -> None:
            for message in connection:
                connection.send(message)

        def guard(connection: ServerConnection, request: Request) -> Response | None:
            return connection.respond(403, "not today") if request.path == "/closed" else None

        quiet = logging.getLogger("tests.websockets")
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False
        tls = server_tls if request.param == "wss" else None
        chat = [Subprotocol("chat")]
        with serve(
            echo, "127.0.0.1", 0, ssl=tls, logger=quiet, process_request=guard, subprotocols=chat
        ) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"{request.param}://127.0.0.1:{server.socket.getsockname()[1]}/"
            server.shutdown()
            thread.join()

    # `server` comes first, so that it ends last and need not wait for the streams.

    def test_it_upgrades(self, server: str, dial: Dial, ca_file: str) -> None:
        attempt = dial(server, ssl_cafile=ca_file, protocols=("chat",), deflate=Deflate())
        assert attempt.names == ["connecting", "connected"]
        assert attempt.opened.agreement.protocol == "chat"
        assert attempt.opened.agreement.deflate is not None

    def test_it_refuses(self, server: str, dial: Dial, ca_file: str) -> None:
        attempt = dial(server + "closed", ssl_cafile=ca_file)
        assert attempt.names == ["connecting", "connected", "rejected", "disconnected"]
        assert attempt.events[2].response.status_code == 403
        assert attempt.events[2].response.body == b"not today"
