"""The order of events when an attempt to connect fails or is cancelled; see `life.test_event_order`."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from lochws import WebSocket, errors
from lochws.transport import tcp

from ..support.peer import Link, StartPeer
from ..support.scripts import answer_close, polite, refusing
from ..support.seen import PATIENCE
from ..support.situation import OPENING, Situation, close


class TestConnecting:
    """Failed attempts. Lomond wrote the cause to the debug log alone; here it is in the event (Q3)."""

    def test_name_resolution_fails(self, situation: Situation, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> list[tcp.AddressInfo]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        assert situation.live("ws://no.such.host/") == ["connecting", "connect_fail"]
        last = situation.last
        assert last.reason == "unable to connect; cannot resolve 'no.such.host': Name or service not known"
        assert last.phase == "resolve"

    def test_no_address_accepts(self, situation: Situation) -> None:
        assert situation.live("ws://127.0.0.1:1/") == ["connecting", "connect_fail"]
        assert situation.last.reason == "unable to connect; 127.0.0.1:1: Connection refused"
        assert (situation.last.phase, situation.last.address) == ("tcp", "127.0.0.1:1")

    def test_tls_fails_on_a_direct_connection(
        self, situation: Situation, start_peer: StartPeer, server_tls: ssl.SSLContext
    ) -> None:
        peer = start_peer(polite, tls=server_tls)
        assert situation.live(peer.url) == ["connecting", "connect_fail"]
        assert situation.last.reason.startswith("unable to connect; the certificate of '127.0.0.1' was not")
        assert (situation.last.phase, situation.last.address) == ("tls", peer.authority)

    def test_the_proxy_refuses(self, situation: Situation, start_peer: StartPeer) -> None:
        """Lomond's reason was the repr of a tuple here (Q38)."""
        proxy = start_peer(refusing("403 Forbidden"))
        proxies = {"http": f"http://{proxy.authority}"}
        assert situation.live("ws://no.such.host/", proxies=proxies) == ["connecting", "connect_fail"]
        assert situation.last.reason == "proxy fail; 403 Forbidden"
        assert situation.last.phase == "proxy"

    def test_the_proxy_cannot_be_reached(self, situation: Situation) -> None:
        proxies = {"http": "http://127.0.0.1:1"}
        assert situation.live("ws://no.such.host/", proxies=proxies) == ["connecting", "connect_fail"]
        assert situation.last.reason.startswith("unable to connect to proxy; 127.0.0.1:1: Connection refused")
        assert situation.last.phase == "proxy"

    def test_any_other_exception_while_connecting(self, situation: Situation) -> None:
        def broken() -> dict[str, str]:
            raise LookupError("no token")

        assert situation.live("ws://127.0.0.1:1/", headers=broken) == ["connecting", "connect_fail"]
        assert situation.last.reason == "unable to prepare the request; LookupError: no token"
        assert situation.last.phase == "prepare"

    def test_the_request_cannot_be_written(self, situation: Situation, start_peer: StartPeer) -> None:
        peer = start_peer(lambda link: (link.read(1), link.reset()))
        seen = situation.live(peer.url, headers={"X-Large": "x" * 16_000_000})
        assert seen == ["connecting", "connect_fail"]
        assert situation.last.reason.startswith("request failed; ")
        assert situation.last.phase == "upgrade"

    def test_the_upgrade_is_refused(self, situation: Situation, start_peer: StartPeer) -> None:
        """Not graceful (Q9)."""
        seen = situation.live(start_peer(refusing("404 Not Found")).url)
        assert seen == ["connecting", "connected", "rejected", "disconnected"]
        rejected, last = situation.events[-2:]
        assert rejected.reason == "upgrade refused: 404 Not Found"
        assert rejected.response.status_code == 404
        assert last.reason == "upgrade refused: 404 Not Found"
        assert (last.graceful, last.phase, last.ended_by) == (False, "upgrade", "server")

    def test_tcp_ends_before_the_response_is_complete(
        self, situation: Situation, start_peer: StartPeer
    ) -> None:
        peer = start_peer(lambda link: (link.read_request(), link.send(b"HTTP/1.1 101 Swit"), link.finish()))
        assert situation.live(peer.url) == ["connecting", "connected", "disconnected"]
        shown = "unfinished answer, beginning with b'HTTP/1.1 101 Swit'"
        assert situation.last.reason == f"{shown}: connection lost: ended by the server"
        assert not situation.last.graceful

    def test_response_headers_over_16_kib(self, situation: Situation, start_peer: StartPeer) -> None:
        answer = b"HTTP/1.1 101 OK\r\n" + b"X-Endless: 1\r\n" * 2000
        peer = start_peer(lambda link: (link.read_request(), link.send(answer), link.wait_for_end()))
        assert situation.live(peer.url) == ["connecting", "connected", "protocol_error", "disconnected"]
        assert situation.events[-2].critical
        assert situation.last.reason == "response head is over 16 KiB"

    def test_server_accepts_tcp_and_says_nothing(
        self, situation: Situation, start_peer: StartPeer
    ) -> None:
        """Lomond waited forever (Q1)."""
        for limit in (0.1, 1, 10):  # the machine may stall before the request is sent
            situation.events.clear()
            seen = situation.live(start_peer(Link.wait_for_end).url, open_timeout=limit)
            if "connect_fail" not in seen:
                break
        assert seen == ["connecting", "connected", "disconnected"]
        assert situation.last.reason.endswith(f"no answer to the upgrade request: timed out after {limit} s")
        assert isinstance(situation.last.error, TimeoutError)


class TestWhileOpening:
    """Calls by the user before the WebSocket is open."""

    @pytest.mark.parametrize("moment", ["connecting", "connected"])
    def test_close_calls_the_attempt_off(
        self, situation: Situation, start_peer: StartPeer, moment: str
    ) -> None:
        """Lomond kept dialling (Q11), and sent a Close frame before the answer to the upgrade (Q12)."""
        received = []

        def script(link: Link) -> None:
            received.append(link.read_request())
            link.wait_for_end()

        seen = situation.live(start_peer(script).url, {moment: close})
        assert seen[-1] == "connect_fail" or situation.last.ended_by == "client"
        if moment == "connecting" and situation.way == "iterated":
            # An app dials while its handler runs, so how far it has come is a matter of timing.
            assert seen == ["connecting", "connect_fail"]
            assert situation.last.reason == "closed while connecting"
            assert received == []
        if moment == "connected":
            assert seen == ["connecting", "connected", "disconnected"]
            assert situation.last.reason == "closed during the upgrade"

    @pytest.mark.parametrize("moment", ["connecting", "connected"])
    def test_a_send_is_refused(self, situation: Situation, start_peer: StartPeer, moment: str) -> None:
        """Nothing is sent before the 101 (Q12)."""
        frames = []

        def script(link: Link) -> None:
            request = link.read_request()
            assert refused.wait(PATIENCE)
            link.accept(request=request)
            frames.extend(answer_close(link))

        def send(ws: WebSocket) -> None:
            try:
                with pytest.raises(errors.WebSocketUnavailable, match="the connection is not open yet"):
                    ws.send_text("too early")
            finally:
                refused.set()

        refused = threading.Event()
        seen = situation.live(start_peer(script).url, {moment: send, "ready": close})
        assert seen == [*OPENING, "closed", "disconnected"]
        assert frames == []
