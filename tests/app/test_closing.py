"""Closing an app in any state, from any thread and handler, and what the server sees."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pytest

from lochws import WebSocketApp, events
from lochws import testing as t
from lochws.testing import LogEvents, StartServer, VirtualClock

from ..faults.registry import fault
from ..support.apps import AT_ONCE, NEVER, opened, running
from ..support.awake import Awake
from ..support.peer import CLOSE, TEXT, Link, StartPeer
from ..support.scripts import EVENTS, Ends, bringing, polite, silent
from ..support.seen import PATIENCE, Noting, in_thread

#: Seconds within which an app is over when the server does not hold it up.
SOON = 1.0


def close_and_check(app: Noting) -> events.Event:
    """Close the app, check that it stops soon, and return its final event."""
    with closing(Awake()) as awake:
        began = awake()
        app.close()
        assert app.wait_closed(PATIENCE)
        assert awake() - began < SOON
    assert app.is_closed
    return app.events[-1]


class TestInAnyState:
    @fault("stopping", "close before start")
    def test_closing_before_the_start_is_remembered(self, start_peer: StartPeer) -> None:
        peer = start_peer(polite)
        app = Noting(peer.url)
        app.close()
        assert app.run_forever() is None
        assert app.is_closed
        assert app.events == []
        assert peer.links == []

    @fault("stopping", "close before start")
    def test_an_app_closed_before_its_start_can_be_started_again(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(polite).url)
        app.close()
        app.run_forever()
        with opened(app):
            assert app.is_active

    @pytest.mark.parametrize("delay", [0, 1e-4, 3e-4, 1e-3, 3e-3])
    def test_closing_right_after_the_start(self, delay: float, start_peer: StartPeer, awake: Awake) -> None:
        url = start_peer(polite).url
        for _ in range(10):
            app = Noting(url)
            with running(app, persist=AT_ONCE):
                threading.Event().wait(delay)
                began = awake()
                app.close()
                assert app.wait_closed(PATIENCE)
                assert awake() - began < SOON

    def test_closing_while_the_server_keeps_the_upgrade_waiting(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(Link.wait_for_end).url)
        with running(app, persist=AT_ONCE):
            app.wait_for("connected")
            last = close_and_check(app)
        assert app.names() == ["connecting", "connected", "disconnected"]
        assert isinstance(last, events.Disconnected)
        assert (last.ended_by, last.phase, last.graceful) == ("client", "upgrade", False)

    def test_closing_while_the_server_keeps_tls_waiting(self, start_peer: StartPeer) -> None:
        peer = start_peer(Link.wait_for_end)
        app = Noting(peer.url.replace("ws:", "wss:"))
        with running(app, persist=AT_ONCE):
            app.wait_for("connecting")
            last = close_and_check(app)
        assert app.names() == ["connecting", "connect_fail"]
        assert isinstance(last, events.ConnectFail)

    def test_closing_an_open_connection(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(polite).url)
        with opened(app, persist=AT_ONCE):
            last = close_and_check(app)
        assert app.names("poll", "pong") == ["connecting", "connected", "ready", "closed", "disconnected"]
        assert isinstance(last, events.Disconnected)
        assert (last.reason, last.ended_by, last.graceful) == ("closed", "client", True)
        assert (last.sent_code, last.received_code) == (1000, 1000)

    @fault("stopping", "close during DNS, TCP, TLS, the upgrade or the back-off")
    def test_closing_during_a_back_off(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(Link.accept).url)
        with running(app, persist=NEVER):
            app.wait_for("back_off")
            last = close_and_check(app)
        assert last.name == "back_off"
        assert app.names("poll")[-2:] == ["disconnected", "back_off"]

    def test_is_stopping_tells_whether_it_was_called_since_the_start(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(polite).url)
        for _ in range(2):
            with opened(app):
                assert not app.is_stopping
                app.close()
                assert app.is_stopping
            assert app.is_stopping

    def test_closing_again_changes_nothing(self, start_peer: StartPeer) -> None:
        ends = Ends()
        app = Noting(start_peer(ends).url)
        with opened(app, close_timeout=0.05):
            app.close(3000, "first")
            app.close(3001, "second")
            assert app.wait_closed(PATIENCE)
            app.close(3002, "third")
        assert ends.wait() == [(CLOSE, b"\x0b\xb8first"), "FIN"]
        assert app.events[-1].sent_code == 3000  # type: ignore[attr-defined]


class TestInAnyHandler:
    @fault("stopping", "stop() in a handler")
    @pytest.mark.parametrize("method", ["close", "stop"])
    @pytest.mark.parametrize("name", EVENTS)
    def test_closing_in_a_handler_ends_the_app(
        self, name: str, method: str, start_peer: StartPeer, awake: Awake
    ) -> None:
        url = start_peer(bringing(name)).url
        if name == "connect_fail":
            url = url.replace("ws:", "wss:")
        app = Noting(url)
        closed_at: list[float] = []

        def close(_: object) -> None:
            closed_at.append(awake())
            assert not getattr(app, method)()

        app.on(name)(close)
        timing: dict[str, Any] = {"ping_rate": 0.05, "ping_timeout": 0.06} if name == "unresponsive" else {}
        if name == "stale":
            timing = {"stale_after": 0.05}
        # During a back-off the next attempt begins when it is due, not when the handlers are done.
        with running(app, persist=NEVER if name == "back_off" else AT_ONCE, **timing):
            if name == "closed":
                app.wait_for("ready")
                app.close()
            assert app.wait_closed(PATIENCE)
        assert closed_at
        # One second more where the server, for which it is too late, gets it to end the connection.
        assert awake() - closed_at[0] < 2 * SOON
        assert app.names().count("connecting") == 1

    def test_an_app_closed_in_its_first_handler_still_says_how_it_ended(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(silent).url)
        app.on("connecting")(lambda _: app.close())
        last = app.run_forever(close_timeout=0.05)
        assert last is app.events[-1]


class TestTheCloseFrame:
    @fault("stopping", "Ten threads close at once")
    def test_closing_from_ten_threads_at_once_sends_one(self, start_peer: StartPeer) -> None:
        for _ in range(10):
            ends = Ends()
            app = Noting(start_peer(ends).url)
            with opened(app, close_timeout=0.05):
                barrier = threading.Barrier(10)

                def close(app: Noting = app, barrier: threading.Barrier = barrier) -> None:
                    barrier.wait(PATIENCE)
                    app.close()

                threads = [in_thread(close) for _ in range(10)]
                for thread in threads:
                    thread.join(PATIENCE)
                assert app.wait_closed(PATIENCE)
            assert ends.wait() == [(CLOSE, b"\x03\xe8goodbye"), "FIN"]

    @pytest.mark.parametrize(("arguments", "payload"), [
        ((), b"\x03\xe8goodbye"),
        ((1001, "leaving"), b"\x03\xe9leaving"),
        ((4999, b"bytes"), b"\x13\x87bytes"),
        ((None,), b""),
        ((1000, "\u20ac" * 50), b"\x03\xe8" + "\u20ac".encode() * 41),
    ])
    def test_it_says_code_and_reason(
        self, arguments: tuple[Any, ...], payload: bytes, start_peer: StartPeer
    ) -> None:
        ends = Ends()
        app = Noting(start_peer(ends).url)
        with opened(app, close_timeout=0.05):
            app.close(*arguments)
            assert ends.wait()[0] == (CLOSE, payload)

    @pytest.mark.parametrize(("arguments", "error"), [
        ((1005,), ValueError), ((999,), ValueError), ((5000,), ValueError), ((1015,), ValueError),
        (("1000",), TypeError), ((True,), TypeError), ((1000, 5), TypeError), ((1000, b"\xff"), ValueError),
    ])
    def test_a_wrong_code_or_reason_is_refused_at_the_call(
        self, arguments: tuple[Any, ...], error: type[Exception], start_peer: StartPeer
    ) -> None:
        with opened(Noting(start_peer(polite).url)) as app:
            with pytest.raises(error):
                app.close(*arguments)
            assert app.is_active
        with pytest.raises(error):
            Noting("ws://localhost").close(*arguments)

    @fault("sending", "A send directly followed by close")
    def test_messages_sent_before_it_arrive_before_it(self, start_peer: StartPeer) -> None:
        ends = Ends()
        app = Noting(start_peer(ends).url)
        with opened(app, close_timeout=0.05):
            for number in range(100):
                app.send_text(str(number))
            app.close()
        frames = ends.wait()
        assert frames[:-2] == [(TEXT, b"%d" % number) for number in range(100)]
        assert frames[-2:] == [(CLOSE, b"\x03\xe8goodbye"), "FIN"]


class TestBothSides:
    def test_what_the_server_still_sends_after_it_is_delivered(self, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            while (frame := link.read_frame())[0] != CLOSE:
                pass
            for number in range(3):
                link.send_frame(TEXT, b"%d" % number)
            link.send_frame(*frame)

        app = Noting(start_peer(script).url)
        with opened(app, poll=0):
            app.close()
            assert app.wait_closed(PATIENCE)
        assert app.names("pong")[3:] == ["text", "text", "text", "closed", "disconnected"]

    def test_a_server_that_closes_gets_its_code_back_after_the_handlers(self, start_peer: StartPeer) -> None:
        ends = Ends((CLOSE, b"\x0f\xa1bye"))
        app = Noting(start_peer(ends).url)
        app.on("closing")(lambda event: app.send_text("a last word"))
        with running(app, close_timeout=0.05):
            assert app.wait_closed(PATIENCE)
        assert ends.wait() == [(TEXT, b"a last word"), (CLOSE, b"\x0f\xa1bye"), "FIN"]
        closing = app.wait_for("closing")
        assert (closing.code, closing.reason) == (4001, "bye")
        assert not app.all("closed")

    def test_if_the_handler_of_closing_closes_its_code_counts(self, start_peer: StartPeer) -> None:
        ends = Ends((CLOSE, b"\x03\xe8"))
        app = Noting(start_peer(ends).url)
        app.on("closing")(lambda event: app.close(4000, "mine"))
        with running(app, close_timeout=0.05):
            assert app.wait_closed(PATIENCE)
        assert ends.wait() == [(CLOSE, b"\x0f\xa0mine"), "FIN"]

    @fault("stopping", "The server ignores our Close frame")
    def test_a_server_that_never_answers_is_left_after_close_timeout(
        self, ws_server: StartServer, ws_events: LogEvents, ws_clock: VirtualClock
    ) -> None:
        app = WebSocketApp(ws_server([t.accept(), t.ignore_close()]).url)
        log = ws_events(app)
        app.start(close_timeout=30)
        log.wait_for(events.Ready)
        app.close()
        ws_clock.advance(29.9)
        log.assert_exhausted()
        ws_clock.advance(0.1)
        end = log.wait_for(events.Disconnected)
        log.assert_exhausted()
        assert end.reason == "the server did not answer our Close frame within 30 s"
        assert (end.graceful, end.sent_code, end.received_code) == (False, 1000, None)

    def test_a_server_that_ends_without_an_answer_is_not_a_graceful_end(self, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            while link.read_frame()[0] != CLOSE:
                pass

        app = Noting(start_peer(script).url)
        with opened(app):
            app.close()
            end = app.wait_for("disconnected")
        assert not end.graceful
        assert not app.all("closed")

    def test_a_close_frame_that_the_server_never_received_is_not_a_graceful_end(
        self, start_peer: StartPeer
    ) -> None:
        def script(link: Link) -> None:
            link.accept()
            assert stuffed.wait(PATIENCE)
            link.send_frame(CLOSE, b"\x03\xe8")
            link.finish()
            assert over.wait(PATIENCE)

        stuffed, over = threading.Event(), threading.Event()
        app = Noting(start_peer(script).url, fragment=None)
        with opened(app):
            app.send_binary(bytes(16 << 20))
            stuffed.set()
            end = app.wait_for("disconnected")
            over.set()
        assert end.reason == "closed by the server before it took our Close frame"
        assert (end.graceful, end.ended_by, end.received_code) == (False, "server", 1000)
        assert end.unsent == (bytes(16 << 20),)
