"""The order of events in each situation that has a row in Lomond's contract (section 5).

Every row is run in an iteration and in an app. Where lochws differs on purpose, the row gives the number in
section 17.
"""

from __future__ import annotations

import pytest

from lochws import WebSocket, WebSocketApp, errors, events
from lochws.protocol.receiver import Receiver

from ..support.peer import CLOSE, PING, TEXT, Link, StartPeer
from ..support.scripts import answer_close, silent
from ..support.seen import await_reports, names
from ..support.situation import OPENING, Situation, close, send_last

GOODBYE = b"\x03\xe8goodbye"


class TestClosing:
    """Closing, by either side."""

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
        """The handler of Closing may still send; then our Close frame is sent. There is no Closed event."""
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

        for limit in (0.1, 1, 10):  # the machine may stall for the whole time
            situation.events.clear()
            seen = situation.live(start_peer(script).url, timing={"close_timeout": limit, "poll": 0.02})
            assert seen == [*OPENING, "closing", "disconnected"]
            last = situation.last
            after = names(situation.events[names(situation.events).index("closing") + 1:])
            if last.graceful and after[0] == "poll":
                break
        assert (last.reason, last.graceful, last.ended_by) == ("closed", True, "server")
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
        """The server's frame had arrived before we closed, so there is a Closing event and one answer."""
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
        assert last.reason == "the server did not answer our Close frame within 0.1 s"
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
        assert last.reason == "connection lost: reset by the server"
        assert (last.graceful, last.ended_by) == (False, "network")
        assert isinstance(last.error, ConnectionResetError)


class TestWhileOpen:
    """Open connections that end without being closed."""

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
        assert last.reason == f"protocol error: {error.error}"
        assert (last.graceful, last.sent_code, last.ended_by) == (False, 1002, "server")
        assert isinstance(last.error, errors.ProtocolError)

    def test_a_protocol_error_that_is_critical(self, situation: Situation, start_peer: StartPeer) -> None:
        """Our Close frame gives the reason here too (Q17)."""
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
        assert situation.last.reason == f"protocol error: {error.error}"
        assert situation.last.sent_code == 1007

    def test_no_pong_in_time(self, situation: Situation, start_peer: StartPeer) -> None:
        seen = situation.live(start_peer(silent).url, timing={"ping_rate": 0.05, "ping_timeout": 0.1})
        assert seen == [*OPENING, "unresponsive", "disconnected"]
        assert situation.last.reason == "ping timeout: nothing from the server for 0.1 s"
        assert (situation.last.graceful, situation.last.ended_by) == (False, "network")

    def test_tcp_fin(self, situation: Situation, start_peer: StartPeer) -> None:
        peer = start_peer(lambda link: (link.accept(), link.send_frame(TEXT, b"x"), link.finish()))
        assert situation.live(peer.url) == [*OPENING, "text", "disconnected"]
        assert situation.last.reason == "connection lost: ended by the server"
        assert (situation.last.graceful, situation.last.ended_by) == (False, "network")

    def test_tcp_reset(self, situation: Situation, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            while link.read_frame()[0] != TEXT:
                pass
            link.reset()

        assert situation.live(start_peer(script).url, {"ready": send_last}) == [*OPENING, "disconnected"]
        assert situation.last.reason == "connection lost: reset by the server"
        assert isinstance(situation.last.error, ConnectionResetError)

    def test_an_unexpected_exception_inside_the_loop(
        self, situation: Situation, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def defect(self: Receiver, *_: object) -> None:
            raise ZeroDivisionError("a defect of {ours}")

        peer = start_peer(lambda link: (link.accept(), link.send_frame(TEXT, b"x"), link.wait_for_end()))
        monkeypatch.setattr(Receiver, "receive", defect)
        assert situation.live(peer.url) == [*OPENING, "disconnected"]
        assert situation.last.reason == "error; a defect of {ours}"
        assert isinstance(situation.last.error, ZeroDivisionError)
        await_reports()
        assert "Traceback" in caplog.text


class TestLeftByItsUser:
    """Handlers that raise, and loops that are left early."""

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
        """New in lochws: an exception of a handler is logged and passed to on_error."""
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
