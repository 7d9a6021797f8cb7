"""Starting apps, waiting for them and stopping them; apps that share threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lochws import Threads, WebSocketApp, events
from lochws.errors import WebSocketError
from lochws.life.state import State

from ..faults.registry import fault
from ..support.apps import AT_ONCE, NEVER, echo, opened, running
from ..support.awake import Awake
from ..support.peer import CLOSE, TEXT, Link, StartPeer, frame
from ..support.scripts import answer_close, polite
from ..support.seen import PATIENCE, Noting, eventually, in_thread


def close_by_server(link: Link) -> None:
    link.accept()
    link.send_frame(CLOSE, b"\x03\xe9restart")
    answer_close(link)


class TestStarting:
    def test_start_returns_at_once_and_the_app_becomes_ready(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(polite).url)
        states = [app.state]
        with running(app):
            assert app.wait_ready(PATIENCE)
            assert app.is_active
            states.append(app.state)
        states.append(app.state)
        assert states == [State.NEW, State.OPEN, State.STOPPED]

    @pytest.mark.parametrize("method", ["wait_ready", "join", "wait_closed"])
    def test_a_timeout_may_be_beyond_every_float(self, method: str, start_peer: StartPeer) -> None:
        with opened(Noting(start_peer(polite).url)) as app:
            wait = getattr(app, method)
            assert wait(-(10**400)) is (method == "wait_ready")
            if method != "wait_ready":
                app.close()
            assert wait(10**400)

    def test_starting_twice_is_refused_and_changes_nothing(self, start_peer: StartPeer) -> None:
        with opened(Noting(start_peer(polite).url)) as app:
            for start in (app.start, app.run_forever):
                with pytest.raises(WebSocketError, match=r"^already started$"):
                    start()
            assert app.is_active
        assert app.names().count("connecting") == 1

    def test_of_ten_threads_that_start_it_one_succeeds(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(polite).url)
        outcomes: list[object] = []
        barrier = threading.Barrier(10)

        def start() -> None:
            barrier.wait(PATIENCE)
            try:
                app.start()
                outcomes.append(None)
            except WebSocketError as error:
                outcomes.append(type(error))

        threads = [in_thread(start) for _ in range(10)]
        for thread in threads:
            thread.join(PATIENCE)
        assert outcomes.count(None) == 1
        assert outcomes.count(WebSocketError) == 9
        assert app.wait_ready(PATIENCE)
        assert app.stop(PATIENCE)
        assert app.names().count("connecting") == 1

    @fault("stopping", "start again after close")
    def test_a_stopped_app_can_be_started_again(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(polite).url)
        for number in range(1, 6):
            with opened(app):
                assert app.counters.connections == number
        assert app.names("poll", "pong") == ["connecting", "connected", "ready", "closed", "disconnected"] * 5

    @pytest.mark.parametrize("wrong", [
        {"poll": -1}, {"ping_rate": "1"}, {"close_timeout": float("inf")}, {"persist": 3}, {"persist": None},
    ])
    def test_wrong_options_are_refused_and_nothing_starts(self, wrong: dict[str, Any]) -> None:
        app = WebSocketApp("ws://localhost")
        with pytest.raises((TypeError, ValueError)):
            app.start(**wrong)
        assert app.state is State.NEW

    @fault("program", "No thread can be started")
    @pytest.mark.parametrize("allowed", [0, 1])
    def test_if_no_thread_can_start_the_app_is_unchanged(
        self, allowed: int, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app = WebSocketApp(start_peer(polite).url)
        real = threading.Thread.start
        started: list[threading.Thread] = []

        def start(thread: threading.Thread) -> None:
            if len(started) == allowed:
                raise RuntimeError("can't start new thread")
            started.append(thread)
            real(thread)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError):
                app.start()
        assert app.state is State.NEW
        with opened(app):
            assert app.is_active


class TestRunForever:
    def test_it_returns_what_ended_it(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(close_by_server).url)
        last = app.run_forever(persist=False)
        assert last is app.events[-1]
        assert isinstance(last, events.Disconnected)
        assert (last.received_code, last.ended_by) == (1001, "server")

    def test_it_returns_a_failure_to_connect(self) -> None:
        last = WebSocketApp("ws://127.0.0.1:1").run_forever(persist=False)
        assert isinstance(last, events.ConnectFail)
        assert last.phase == "tcp"

    def test_it_runs_in_a_daemon_thread(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(echo).url)
        outcome: list[object] = []
        thread = threading.Thread(target=lambda: outcome.append(app.run_forever()), daemon=True)
        thread.start()
        app.wait_for("ready")
        app.send_text("hello")
        app.wait_for("text")
        app.close()
        thread.join(PATIENCE)
        assert outcome == [app.events[-1]]

    def test_close_from_another_thread_ends_it(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(polite).url)

        def close() -> None:
            app.wait_for("ready")
            app.close()

        closer = in_thread(close)
        last = app.run_forever(persist=AT_ONCE)
        closer.join(PATIENCE)
        assert isinstance(last, events.Disconnected)
        assert last.graceful

    def test_its_threads_have_ended_when_it_returns(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(close_by_server).url)
        app.run_forever(persist=False)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("lochws")]


class TestWaiting:
    def test_wait_ready_gives_up_in_time(self, start_peer: StartPeer) -> None:
        with running(WebSocketApp(start_peer(Link.wait_for_end).url)) as app:
            assert not app.wait_ready(0.01)

    def test_wait_ready_ends_when_the_app_stops(self) -> None:
        app = WebSocketApp("ws://127.0.0.1:1")
        app.start(persist=False)
        assert not app.wait_ready(PATIENCE)
        assert app.wait_closed(PATIENCE)
        assert app.join(PATIENCE)

    def test_wait_ready_means_that_the_handlers_of_ready_have_run(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(polite).url)
        entered, go, done = threading.Event(), threading.Event(), threading.Event()

        @app.on("ready")
        def ready(_: object) -> None:
            entered.set()
            assert go.wait(PATIENCE)
            done.set()

        with running(app):
            assert entered.wait(PATIENCE)
            assert not app.wait_ready(0.01)
            go.set()
            assert app.wait_ready(PATIENCE)
            assert done.is_set()

    def test_wait_ready_lasts_over_failed_attempts(self, start_peer: StartPeer) -> None:
        attempts: list[Link] = []

        def third_time(link: Link) -> None:
            attempts.append(link)
            if len(attempts) == 3:
                polite(link)

        with running(WebSocketApp(start_peer(third_time).url), persist=AT_ONCE) as app:
            assert app.wait_ready(PATIENCE)
        assert len(attempts) == 3

    def test_an_app_that_was_never_started_has_ended(self) -> None:
        app = WebSocketApp("ws://localhost")
        assert app.wait_closed(0)
        assert app.join(0)
        assert app.stop(0)

    @pytest.mark.parametrize("timeout", [0, 0.1, 60, None])
    def test_an_app_that_was_never_started_cannot_become_ready(
        self, timeout: float | None, awake: Awake
    ) -> None:
        began = awake()
        with pytest.raises(WebSocketError, match=r"has not been started; call start\(\) first"):
            WebSocketApp("ws://localhost").wait_ready(timeout)
        assert awake() - began < 5

    def test_an_app_may_be_waited_for_that_another_thread_is_about_to_start(
        self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lochws.app.START_SECONDS", PATIENCE)
        app = WebSocketApp(start_peer(polite).url)
        starter = threading.Timer(0.05, app.start)
        starter.start()
        assert app.wait_ready(PATIENCE)
        starter.join()
        assert app.stop(PATIENCE)

    def test_stop_and_join_return_whether_it_has_stopped(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(echo).url)
        hold = threading.Event()
        app.on("text")(lambda _: hold.wait(PATIENCE))
        with opened(app):
            app.send_text("x")
            app.wait_for("text")
            assert not app.join(0.01)
            assert not app.stop(0.01)
            hold.set()
            assert app.stop(PATIENCE)
            assert app.join(0)

    def test_many_threads_may_wait(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(polite).url)
        outcomes: list[bool] = []
        app.start()

        def wait() -> None:
            outcomes.append(app.wait_ready(PATIENCE))
            outcomes.append(app.wait_closed(PATIENCE))
            outcomes.append(app.join(PATIENCE))

        threads = [in_thread(wait) for _ in range(8)]
        assert app.wait_ready(PATIENCE)
        eventually(lambda: len(outcomes) == 8)
        app.close()
        for thread in threads:
            thread.join(PATIENCE)
        assert outcomes == [True] * 24


class TestWith:
    def test_it_starts_and_stops(self, start_peer: StartPeer) -> None:
        with Noting(start_peer(polite).url) as app:
            assert app.wait_ready(PATIENCE)
        assert app.is_closed
        assert app.events[-1].graceful  # type: ignore[attr-defined]

    def test_a_running_app_is_not_started_again(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(polite).url)
        app.start(poll=0, persist=False)
        with app:
            assert app.wait_ready(PATIENCE)
        assert app.is_closed

    def test_an_exception_inside_propagates_and_the_app_is_stopped(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(polite).url)
        with pytest.raises(ZeroDivisionError), app:
            app.on(1 / 0)  # type: ignore[arg-type]
        assert app.is_closed

    def test_an_app_that_was_closed_before_stops_at_once(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(polite).url)
        app.close()
        with app:
            assert not app.wait_ready(PATIENCE)
        assert app.events == []


class TestSharedThreads:
    def test_apps_share_one_reader_and_end_one_by_one(self, start_peer: StartPeer) -> None:
        shared = Threads(name="pool")
        url = start_peer(echo).url
        apps = [Noting(url, threads=shared) for _ in range(20)]
        for app in apps:
            app.start()
        for app in apps:
            assert app.wait_ready(PATIENCE)
        names = [thread.name for thread in threading.enumerate() if thread.name.startswith("lochws")]
        assert names.count("lochws-reader-pool") == 1
        assert len(names) <= 5
        for app in apps:
            app.send_text(f"to {id(app)}")
        for app in apps:
            assert app.wait_for("text").text == f"to {id(app)}"
        for app in apps[:10]:
            assert app.stop(PATIENCE)
        assert all(app.is_active for app in apps[10:])
        for app in apps[10:]:
            assert app.stop(PATIENCE)
        eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("lochws")])

    def test_the_threads_start_again_with_the_next_app(self, start_peer: StartPeer) -> None:
        shared = Threads()
        app = Noting(start_peer(polite).url, threads=shared)
        for _ in range(5):
            with opened(app):
                pass

    @fault("program", "One of two apps that share Threads() misbehaves")
    def test_one_that_backs_off_or_hangs_does_not_hold_up_the_others(self, start_peer: StartPeer) -> None:
        shared = Threads(2)
        hanging = Noting(start_peer(Link.wait_for_end).url, threads=shared)
        waiting = Noting(start_peer(Link.accept).url, threads=shared)
        lively = Noting(start_peer(echo).url, threads=shared)
        with opened(lively), running(waiting, persist=NEVER):
            waiting.wait_for("back_off")
            with running(hanging):
                hanging.wait_for("connected")
                for number in range(1, 50):
                    lively.send_text("x")
                    lively.wait_for("text", number)

    @fault("program", "One of two apps that share Threads() misbehaves")
    def test_a_flood_for_one_does_not_starve_the_other(self, start_peer: StartPeer) -> None:
        over = threading.Event()

        def flood(link: Link) -> None:
            link.accept()
            while not over.is_set():
                link.send(frame(TEXT, bytes(100)) * 1000)

        shared = Threads()
        flooded = WebSocketApp(start_peer(flood).url, threads=shared)
        other = Noting(start_peer(echo).url, threads=shared)
        with opened(flooded, close_timeout=0.1), opened(other):
            for number in range(1, 20):
                other.send_text("x")
                other.wait_for("text", number)
            assert flooded.counters.messages_received >= 1000
            over.set()

    def test_anything_but_threads_is_refused(self) -> None:
        with pytest.raises(TypeError, match=r"expected a lochws.Threads"):
            WebSocketApp("ws://localhost", threads=4)  # type: ignore[arg-type]
