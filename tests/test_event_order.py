"""Which events come, in which order, in each situation that Lomond's contract has a row for (section 5).

Every row is run both ways, iterated and as an app; where lochws differs on purpose, the row says by
which number of section 17.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from lochws import WebSocket, WebSocketApp, errors, events
from lochws.protocol.receiver import Receiver
from lochws.transport import tcp

from .peer import CLOSE, PING, TEXT, Link, StartPeer
from .scripts import answer_close, polite, refusing, silent
from .seen import PATIENCE, Noting, names

#: What a test does with the WebSocket at the first event of a name.
Doing: TypeAlias = dict[str, Callable[[WebSocket], object]]

GOODBYE = b"\x03\xe8goodbye"
OPENING = ["connecting", "connected", "ready"]


class Situation:
    """A way to live through one connection: iterated, or as an app."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.events: list[Any] = []

    def live(
        self, url: str | Callable[[], str], doing: Doing | None = None, *,
        timing: dict[str, Any] | None = None, **options: Any,
    ) -> list[str]:
        """Live through a connection, and return the names of its events without polls and pongs.

        Args:
            doing: what to do at the first event of a name.
            timing: for `connect` or `start`.
            options: for the WebSocket.
        """
        live = self._iterated if self.way == "iterated" else self._as_app
        live(url, dict(doing or {}), timing or {}, options)
        self._check_rules()
        return names(self.events, "poll", "pong")

    @property
    def last(self) -> Any:
        """The final event."""
        return self.events[-1]

    def the(self, name: str) -> Any:
        """The first event of that name."""
        return next(event for event in self.events if event.name == name)

    def _iterated(self, url: Any, doing: Doing, timing: dict[str, Any], options: dict[str, Any]) -> None:
        ws = WebSocket(url, **options)
        for event in ws.connect(**timing):
            self.events.append(event)
            doing.pop(event.name, lambda ws: None)(ws)

    def _as_app(self, url: Any, doing: Doing, timing: dict[str, Any], options: dict[str, Any]) -> None:
        failures: list[BaseException] = []

        class App(Noting):
            def on_event(self, event: events.Event) -> None:
                super().on_event(event)
                doing.pop(event.name, lambda ws: None)(self)

            def on_error(self, error: BaseException) -> None:
                failures.append(error)

        app = App(url, **options)
        assert app.run_forever(**timing, persist=False) is app.events[-1]
        self.events = app.events
        if failures:
            raise failures[0]

    def _check_rules(self) -> None:
        """The rules that hold in every situation."""
        seen = names(self.events)
        assert seen.count("connect_fail") + seen.count("disconnected") == 1
        assert seen[-1] in {"connect_fail", "disconnected"}
        assert seen.count("closing") + seen.count("closed") <= 1
        if "rejected" in seen:
            assert seen[-2:] == ["rejected", "disconnected"]
        if "ready" in seen:
            assert seen[seen.index("ready") + 1] == "poll"


@pytest.fixture(params=["iterated", "app"])
def situation(request: pytest.FixtureRequest) -> Situation:
    """Both ways to live through a connection."""
    return Situation(request.param)


def close(ws: WebSocket) -> None:
    ws.close()


def send_last(ws: WebSocket) -> None:
    ws.send_text("last")


class TestClosing:
    """How closing goes."""

    def test_normal_life(self, situation: Situation, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            for opcode in (TEXT, 2, PING):
                link.send_frame(opcode, b"x")
            answer_close(link)

        seen = situation.live(start_peer(script).url, {"ping": close})
        assert seen == [*OPENING, "text", "binary", "ping", "closed", "disconnected"]
        assert names(situation.events)[:4] == [*OPENING, "poll"]

    def test_client_calls_close_and_the_server_answers(
        self, situation: Situation, start_peer: StartPeer
    ) -> None:
        def script(link: Link) -> None:
            link.accept()
            while (frame := link.read_frame())[0] != CLOSE:
                pass
            assert frame == (CLOSE, GOODBYE)
            link.send_frame(TEXT, b"still here")
            link.send_frame(CLOSE, b"\x0b\xb8see you")

        seen = situation.live(start_peer(script).url, {"ready": close})
        assert seen == [*OPENING, "text", "closed", "disconnected"]
        closed = situation.events[-2]
        assert (closed.code, closed.reason) == (3000, "see you")
        last = situation.last
        assert (last.reason, last.graceful, last.ended_by) == ("closed", True, "client")
        assert (last.sent_code, last.received_code) == (1000, 3000)

    def test_server_closes_first(self, situation: Situation, start_peer: StartPeer) -> None:
        """The handler of Closing may still send; then the echo goes out. There is no Closed."""
        received = []

        def script(link: Link) -> None:
            link.accept()
            link.send_frame(CLOSE, b"\x03\xe9away")
            received.extend([frame for frame in (link.read_frame() for _ in range(3)) if frame[0] != PING])

        seen = situation.live(start_peer(script).url, {"closing": send_last})
        assert seen == [*OPENING, "closing", "disconnected"]
        assert received == [(TEXT, b"last"), (CLOSE, b"\x03\xe9away")]
        closing, last = situation.the("closing"), situation.last
        assert (closing.code, closing.reason) == (1001, "away")
        assert (last.reason, last.graceful, last.ended_by) == ("closed", True, "server")
        assert (last.sent_code, last.received_code) == (1001, 1001)

    def test_server_closes_first_and_never_drops_tcp(
        self, situation: Situation, start_peer: StartPeer
    ) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(CLOSE, b"")
            link.wait_for_end()

        seen = situation.live(start_peer(script).url, timing={"close_timeout": 0.1, "poll": 0.02})
        assert seen == [*OPENING, "closing", "disconnected"]
        last = situation.last
        assert last.reason == "disconnected; server didn't respond to close packet within 0.1s"
        assert not last.graceful
        after = names(situation.events[names(situation.events).index("closing") + 1:])
        assert after[0] == "poll"

    def test_both_close_at_once(self, situation: Situation, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"now")
            while link.read_frame()[0] != CLOSE:
                pass
            link.send_frame(CLOSE, b"\x03\xe9me too")  # its own, not an echo

        seen = situation.live(start_peer(script).url, {"text": close})
        assert seen == [*OPENING, "text", "closed", "disconnected"]
        assert situation.last.graceful
        assert (situation.last.sent_code, situation.last.received_code) == (1000, 1001)

    def test_client_closes_while_the_servers_close_frame_waits_to_be_handled(
        self, situation: Situation, start_peer: StartPeer
    ) -> None:
        """Decided by who was first here: the server's frame had come, so there is Closing, and one answer."""
        received = []

        def script(link: Link) -> None:
            link.accept()
            link.send(b"\x81\x03now\x88\x02\x03\xe9")  # both in one piece
            received.extend([frame for frame in (link.read_frame() for _ in range(2)) if frame[0] != PING])

        seen = situation.live(start_peer(script).url, {"text": close})
        assert seen == [*OPENING, "text", "closing", "disconnected"]
        assert received == [(CLOSE, GOODBYE)]
        assert situation.last.graceful

    def test_client_closes_and_the_server_is_silent(
        self, situation: Situation, start_peer: StartPeer
    ) -> None:
        seen = situation.live(start_peer(silent).url, {"ready": close}, timing={"close_timeout": 0.1})
        assert seen == [*OPENING, "disconnected"]
        last = situation.last
        assert last.reason == "disconnected; server didn't respond to close packet within 0.1s"
        assert (last.graceful, last.sent_code, last.received_code) == (False, 1000, None)

    def test_client_closes_and_the_server_drops_tcp_without_echo_is_not_graceful(
        self, situation: Situation, start_peer: StartPeer
    ) -> None:
        """Q15."""
        def script(link: Link) -> None:
            link.accept()
            while link.read_frame()[0] != CLOSE:
                pass

        seen = situation.live(start_peer(script).url, {"ready": close})
        assert seen == [*OPENING, "disconnected"]
        last = situation.last
        assert last.reason == "closed by the server without answering our Close frame"
        assert (last.graceful, last.ended_by) == (False, "server")

    def test_client_closes_and_the_connection_is_reset(
        self, situation: Situation, start_peer: StartPeer
    ) -> None:
        def script(link: Link) -> None:
            link.accept()
            while link.read_frame()[0] != CLOSE:
                pass
            link.reset()

        seen = situation.live(start_peer(script).url, {"ready": close})
        assert seen == [*OPENING, "disconnected"]
        last = situation.last
        assert last.reason == "socket fail; recv fail; Connection reset by peer"
        assert (last.graceful, last.ended_by) == (False, "network")
        assert isinstance(last.error, ConnectionResetError)


class TestConnecting:
    """How an attempt fails. Lomond's cause was in the debug log alone; here it is in the event (Q3)."""

    def test_name_resolution_fails(self, situation: Situation, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> list[tcp.AddressInfo]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(tcp, "getaddrinfo", fail)
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
        assert rejected.reason == "Websocket upgrade failed (code=404)"
        assert rejected.response.status_code == 404
        assert last.reason == "disconnected; Websocket upgrade failed (code=404)"
        assert (last.graceful, last.phase, last.ended_by) == (False, "upgrade", "server")

    def test_tcp_ends_before_the_response_is_complete(
        self, situation: Situation, start_peer: StartPeer
    ) -> None:
        peer = start_peer(lambda link: (link.read_request(), link.send(b"HTTP/1.1 101 Swit"), link.finish()))
        assert situation.live(peer.url) == ["connecting", "connected", "disconnected"]
        assert situation.last.reason == "socket fail; connection lost"
        assert not situation.last.graceful

    def test_response_headers_over_16_kib(self, situation: Situation, start_peer: StartPeer) -> None:
        answer = b"HTTP/1.1 101 OK\r\n" + b"X-Endless: 1\r\n" * 2000
        peer = start_peer(lambda link: (link.read_request(), link.send(answer), link.wait_for_end()))
        assert situation.live(peer.url) == ["connecting", "connected", "protocol_error", "disconnected"]
        assert situation.events[-2].critical
        assert situation.last.reason == "disconnected; response head is over 16 KiB"

    def test_server_accepts_tcp_and_says_nothing(
        self, situation: Situation, start_peer: StartPeer
    ) -> None:
        """Lomond waited for ever (Q1)."""
        seen = situation.live(start_peer(Link.wait_for_end).url, open_timeout=0.1)
        assert seen == ["connecting", "connected", "disconnected"]
        assert situation.last.reason.endswith("no answer to the upgrade request: timed out after 0.1 s")
        assert isinstance(situation.last.error, TimeoutError)


class TestWhileOpen:
    """How an open connection ends that nobody closes."""

    def test_a_protocol_error_that_is_not_critical(
        self, situation: Situation, start_peer: StartPeer
    ) -> None:
        """The server gets the code, and a moment to read it (Q16)."""
        received = []

        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"x", rsv=1)
            received.extend([frame for frame in (link.read_frame() for _ in range(2)) if frame[0] != PING])

        seen = situation.live(start_peer(script).url)
        assert seen == [*OPENING, "protocol_error", "disconnected"]
        error = situation.the("protocol_error")
        assert not error.critical
        assert received == [(CLOSE, b"\x03\xea" + error.error.encode())]
        last = situation.last
        assert last.reason == f"disconnected; {error.error}"
        assert (last.graceful, last.sent_code, last.ended_by) == (False, 1002, "server")
        assert isinstance(last.error, errors.ProtocolError)

    def test_a_protocol_error_that_is_critical(self, situation: Situation, start_peer: StartPeer) -> None:
        """Here too our Close frame says why (Q17)."""
        received = []

        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"\xff")
            received.extend([frame for frame in (link.read_frame() for _ in range(2)) if frame[0] != PING])

        seen = situation.live(start_peer(script).url)
        assert seen == [*OPENING, "protocol_error", "disconnected"]
        error = situation.the("protocol_error")
        assert error.critical
        assert received == [(CLOSE, b"\x03\xef" + error.error.encode())]
        assert situation.last.reason == f"disconnected; {error.error}"
        assert situation.last.sent_code == 1007

    def test_no_pong_in_time(self, situation: Situation, start_peer: StartPeer) -> None:
        seen = situation.live(start_peer(silent).url, timing={"ping_rate": 0.05, "ping_timeout": 0.1})
        assert seen == [*OPENING, "unresponsive", "disconnected"]
        assert situation.last.reason == "disconnected; exceeded 0.1s ping timeout"
        assert (situation.last.graceful, situation.last.ended_by) == (False, "network")

    def test_tcp_fin(self, situation: Situation, start_peer: StartPeer) -> None:
        peer = start_peer(lambda link: (link.accept(), link.send_frame(TEXT, b"x"), link.finish()))
        assert situation.live(peer.url) == [*OPENING, "text", "disconnected"]
        assert situation.last.reason == "socket fail; connection lost"
        assert (situation.last.graceful, situation.last.ended_by) == (False, "network")

    def test_tcp_reset(self, situation: Situation, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            while link.read_frame()[0] != TEXT:
                pass
            link.reset()

        assert situation.live(start_peer(script).url, {"ready": send_last}) == [*OPENING, "disconnected"]
        assert situation.last.reason == "socket fail; recv fail; Connection reset by peer"
        assert isinstance(situation.last.error, ConnectionResetError)

    def test_an_unexpected_exception_inside_the_loop(
        self, situation: Situation, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def defect(self: Receiver, data: bytes) -> None:
            raise ZeroDivisionError("a defect of {ours}")

        peer = start_peer(lambda link: (link.accept(), link.send_frame(TEXT, b"x"), link.wait_for_end()))
        monkeypatch.setattr(Receiver, "receive", defect)
        assert situation.live(peer.url) == [*OPENING, "disconnected"]
        assert situation.last.reason == "error; a defect of {ours}"
        assert isinstance(situation.last.error, ZeroDivisionError)
        assert "Traceback" in caplog.text


class TestWhileOpening:
    """What users do before there is a WebSocket."""

    @pytest.mark.parametrize("moment", ["connecting", "connected"])
    def test_close_calls_the_attempt_off(
        self, situation: Situation, start_peer: StartPeer, moment: str
    ) -> None:
        """Lomond dialled on (Q11) and wrote a Close frame before the upgrade was answered (Q12)."""
        received = []

        def script(link: Link) -> None:
            received.append(link.read_request())
            link.wait_for_end()

        seen = situation.live(start_peer(script).url, {moment: close})
        assert seen[-1] == "connect_fail" or situation.last.ended_by == "client"
        if moment == "connecting" and situation.way == "iterated":
            # An app dials while its handler runs: how far it came by then is a matter of timing.
            assert seen == ["connecting", "connect_fail"]
            assert situation.last.reason == "closed while connecting"
            assert received == []
        if moment == "connected":
            assert seen == ["connecting", "connected", "disconnected"]
            assert situation.last.reason == "closed while the upgrade was under way"

    @pytest.mark.parametrize("moment", ["connecting", "connected"])
    def test_a_send_is_refused(self, situation: Situation, start_peer: StartPeer, moment: str) -> None:
        """Nothing goes out before the 101 (Q12)."""
        frames = []

        def script(link: Link) -> None:
            request = link.read_request()
            assert refused.wait(PATIENCE)
            link.accept(request=request)
            frames.extend(answer_close(link))

        def send(ws: WebSocket) -> None:
            try:
                with pytest.raises(errors.WebSocketUnavailable, match="is connecting"):
                    ws.send_text("too early")
            finally:
                refused.set()

        refused = threading.Event()
        seen = situation.live(start_peer(script).url, {moment: send, "ready": close})
        assert seen == [*OPENING, "closed", "disconnected"]
        assert frames == []


class TestLeftByItsUser:
    """A handler that raises or a loop that is left."""

    def test_an_iteration_that_is_left_yields_no_more_and_closes(self, start_peer: StartPeer) -> None:
        ended = []
        peer = start_peer(lambda link: (link.accept(), link.wait_for_end(), ended.append(True)))
        ws = WebSocket(peer.url)

        def loop() -> None:
            for event in ws:
                if event.name == "poll":
                    raise LookupError

        with pytest.raises(LookupError):
            loop()
        assert ws.is_closed
        peer.close()
        assert ended == [True]

    def test_an_app_goes_on_with_the_next_event(self, start_peer: StartPeer) -> None:
        """Lomond had no handlers: this is new. What a handler raises is logged, and told to on_error."""
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"one")
            link.send_frame(TEXT, b"two")
            answer_close(link)

        class App(WebSocketApp):
            texts: list[str]

            def on_text(self, event: events.Text) -> None:
                self.texts.append(event.text)
                if event.text == "two":
                    self.close()
                raise LookupError(event.text)

        app = App(start_peer(script).url)
        app.texts = []
        last = app.run_forever(persist=False)
        assert app.texts == ["one", "two"]
        assert isinstance(last, events.Disconnected)
        assert last.graceful
