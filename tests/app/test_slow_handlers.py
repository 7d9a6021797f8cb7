"""Slow handlers delay events, but no pong, no send, no close and no other app."""

from __future__ import annotations

import re
import sys
import threading
from typing import Any

import pytest

from lochws import Threads, WebSocketApp
from lochws import testing as t
from lochws.engine.reader import users_frames
from lochws.testing import StartServer, VirtualClock

from ..faults.registry import fault
from ..support.apps import AT_ONCE, LogListener, hurry, opened, running
from ..support.peer import CLOSE, PING, PONG, TEXT, Link, StartPeer
from ..support.scripts import answer_close, polite
from ..support.seen import PATIENCE, Noting, await_reports, eventually

#: The slow handler in the log: with its class from Python 3.11 on.
NAME = "Slow.on_text" if sys.version_info >= (3, 11) else "on_text"


class Slow(Noting):
    """An app whose handler of the text ``slow`` does not return until it is released."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        super().__init__(*args, **kwargs)

    def on_text(self, event: Any) -> None:
        if event.text == "slow":
            self.entered.set()
            assert self.go.wait(PATIENCE)

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.all("text")]


class Answering:
    """A script that answers one text, and says when a number of others have arrived."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.all = threading.Event()

    def __call__(self, link: Link) -> None:
        link.accept()
        texts = 0
        while (frame := link.read_frame())[0] != CLOSE:
            if frame[0] != TEXT:
                continue
            texts += 1
            if texts == 1:
                link.send_frame(TEXT, b"answer")
            if texts > self._count:
                self.all.set()
        link.send_frame(*frame)


class TestOneAtATime:
    def test_all_handlers_run_on_the_reader_thread(self, start_peer: StartPeer) -> None:
        threads: dict[str, threading.Thread] = {}
        app = WebSocketApp(start_peer(Link.accept).url)
        app.on("event")(lambda event: threads.setdefault(event.name, threading.current_thread()))
        with running(app, persist=AT_ONCE):
            eventually(lambda: "back_off" in threads)
        assert len(set(threads.values())) == 1
        assert threads["ready"].name.startswith("lochws-reader-")
        assert "WebSocketApp-127.0.0.1" in threads["ready"].name
        assert threads["ready"].daemon

    def test_handlers_never_overlap_and_keep_the_order(self, start_peer: StartPeer) -> None:
        # Some handlers take longer than the grace period, so the baton goes to and fro.
        inside = threading.Lock()
        overlaps: list[object] = []
        texts: list[int] = []
        pause = threading.Event()

        class Watching(WebSocketApp):
            def on_event(self, event: Any) -> None:
                if not inside.acquire(blocking=False):
                    overlaps.append(event)
                    return
                if event.name == "text":
                    texts.append(int(event.text))
                    if texts[-1] % 100 == 0:
                        pause.wait(0.005)
                inside.release()

        def script(link: Link) -> None:
            link.accept()
            for number in range(2000):
                link.send_frame(TEXT, b"%d" % number)
                if number % 50 == 0:
                    link.send_frame(PING, b"")
            answer_close(link)

        with running(Watching(start_peer(script).url)) as app:
            hurry(app, 0.001)
            eventually(lambda: len(texts) == 2000)
        assert texts == list(range(2000))
        assert overlaps == []


class TestASlowHandler:
    def test_pings_are_answered_meanwhile_and_events_come_in_order_afterwards(
        self, start_peer: StartPeer
    ) -> None:
        pings = 10

        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"slow")
            assert app.entered.wait(PATIENCE)
            for number in range(pings):
                link.send_frame(PING, b"%d" % number)
                while (frame := link.read_frame())[0] != PONG:
                    assert frame[0] == PING
                    link.send_frame(PONG, frame[1])
                assert frame[1] == b"%d" % number
                link.send_frame(TEXT, b"%d" % number)
            app.go.set()
            answer_close(link)

        app = Slow(start_peer(script).url)
        with running(app, ping_rate=0.02, ping_timeout=PATIENCE):
            hurry(app)
            app.wait_until(lambda: len(app.texts) == pings + 1)
            assert app.is_active
        assert app.texts == ["slow", *map(str, range(pings))]
        assert [event.data for event in app.all("ping")] == [b"%d" % number for number in range(pings)]
        assert not app.all("unresponsive")

    def test_a_silent_server_is_noticed_meanwhile(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept(), t.send("slow"), t.silence()])
        app = Slow(server.url)
        with running(app, ping_rate=30, ping_timeout=60):
            assert app.entered.wait(PATIENCE)
            ws_clock.advance(120, handlers=False)
            server.connection().wait_over()  # the client has hung up, though its handler still runs
            app.go.set()
            end = app.wait_for("disconnected")
        assert end.reason == "ping timeout: nothing from the server for 60 s"
        assert app.names()[-2:] == ["unresponsive", "disconnected"]

    def test_others_send_meanwhile_and_nothing_waits(self, start_peer: StartPeer) -> None:
        arrived = threading.Semaphore(0)

        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"slow")
            while (frame := link.read_frame())[0] != CLOSE:
                if frame[0] == TEXT:
                    arrived.release()
            link.send_frame(*frame)

        app = Slow(start_peer(script).url)
        with running(app):
            hurry(app)
            assert app.entered.wait(PATIENCE)
            reader = app._lochws.life._crew.reader  # type: ignore[union-attr]
            eventually(lambda: reader.has_stand_in)
            for _ in range(20):
                # The second and third gather: only a stand-in can send them.
                for _ in range(3):
                    app.send_text("x")
                for _ in range(3):
                    assert arrived.acquire(timeout=PATIENCE)
            app.go.set()

    def test_what_it_sends_itself_leaves_before_anybody_stands_in(self, start_peer: StartPeer) -> None:
        script = Answering(30)
        app = WebSocketApp(start_peer(script).url)
        arrived: list[bool] = []

        @app.on("text")
        def text(_: object) -> None:
            for number in range(30):
                app.send_text(str(number))
            arrived.append(script.all.wait(PATIENCE))

        with opened(app):
            hurry(app, 1000)
            app.send_text("begin")
            eventually(lambda: arrived == [True])

    @fault("program", "A handler never returns")
    def test_closing_meanwhile_closes_the_connection_and_the_app_stops_when_it_returns(
        self, start_peer: StartPeer
    ) -> None:
        gone = threading.Event()

        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"slow")
            answer_close(link)
            gone.set()

        app = Slow(start_peer(script).url)
        with running(app):
            hurry(app)
            assert app.entered.wait(PATIENCE)
            app.close()
            assert gone.wait(PATIENCE)
            assert not app.wait_closed(0.01)
            app.go.set()
            assert app.wait_closed(PATIENCE)
        assert app.names()[-2:] == ["closed", "disconnected"]

    @fault("program", "One of two apps that share Threads() misbehaves")
    def test_the_other_apps_on_the_same_threads_keep_their_connections(self, start_peer: StartPeer) -> None:
        def slow_script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"slow")
            answer_close(link)

        def pinging(link: Link) -> None:
            link.accept()
            assert slow.entered.wait(PATIENCE)
            for number in range(5):
                link.send_frame(PING, b"%d" % number)
                while link.read_frame() != (PONG, b"%d" % number):
                    pass
            slow.go.set()
            answer_close(link)

        shared = Threads()
        slow = Slow(start_peer(slow_script).url, threads=shared)
        other = Noting(start_peer(pinging).url, threads=shared)
        with opened(other), running(slow):
            hurry(slow)
            other.wait_for("ping", 5)

    @fault("program", "A handler never returns")
    def test_one_that_is_stuck_is_logged_with_its_stack(self, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"slow")
            answer_close(link)

        texts: list[str] = []

        def tell(text: str) -> None:
            # An earlier line may be about another handler, or the beginning of this one, on a busy machine.
            if "self.go.wait" in text:
                texts.append(text)
                app.go.set()

        app = Slow(start_peer(script).url)
        with LogListener(tell), running(app):
            hurry(app)
            app._lochws.life._crew.reader.stuck = 0.02  # type: ignore[union-attr]
            app.wait_for("text")
            assert app.go.wait(PATIENCE)
        assert re.search(r"have been running for more than \S+ s without a pause", texts[0])
        head, first, code, *_ = texts[0].splitlines()
        assert head.endswith(f"; further events wait for {NAME}:")
        assert first.startswith(f'  File "{__file__}", line ')
        assert first.endswith(", in on_text")
        assert code == "    assert self.go.wait(PATIENCE)"

    def test_a_function_called_later_is_named_likewise(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        entered, go = threading.Event(), threading.Event()

        def reckon() -> None:
            entered.set()
            assert go.wait(PATIENCE)

        def tell(text: str) -> None:
            if "in reckon" in text:
                go.set()

        app = Noting(start_peer(polite).url)
        with LogListener(tell), opened(app):
            hurry(app)
            app._lochws.life._crew.reader.stuck = 0.02  # type: ignore[union-attr]
            app.call_later(0, reckon)
            assert entered.wait(PATIENCE)
            assert go.wait(PATIENCE)
        await_reports()
        record: Any = next(one for one in caplog.records if getattr(one, "ws_handler", "").endswith("reckon"))
        assert record.ws_event == "slow_handler"
        assert record.ws_running_for >= 0.02

    def test_a_function_without_a_python_frame_has_no_stack(self) -> None:
        assert users_frames(None) == []
