"""Handlers that raise, wait or stop the app."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from lochws import Threads, WebSocketApp
from lochws.errors import WebSocketError

from ..faults.registry import fault
from ..support.apps import AT_ONCE, echo, opened, running
from ..support.peer import TEXT, Link, StartPeer
from ..support.scripts import answer_close, polite, silent
from ..support.seen import PATIENCE, Noting, in_thread

RAISED: dict[str, BaseException] = {
    "error": ZeroDivisionError("on purpose"),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
}


class Failing(Noting):
    """An app whose text handler raises what the text names; records what `on_error` gets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.errors: list[BaseException] = []
        super().__init__(*args, **kwargs)

    def on_text(self, event: Any) -> None:
        if event.text in RAISED:
            raise RAISED[event.text]

    def on_error(self, error: BaseException) -> None:
        self.errors.append(error)
        raise ValueError("on_error fails, too")


def three_texts(link: Link) -> None:
    link.accept()
    for text in ("before", "error", "after"):
        link.send_frame(TEXT, text.encode())
    answer_close(link)


class TestAHandlerThatRaises:
    @pytest.mark.parametrize("kind", ["error", "exit", "interrupt"])
    def test_it_is_logged_and_passed_to_on_error_and_the_connection_survives(
        self, kind: str, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, kind.encode())
            link.send_frame(TEXT, b"after")
            answer_close(link)

        app = Failing(start_peer(script).url)
        with running(app):
            app.wait_for("text", 2)
            assert app.is_active
        assert app.errors == [RAISED[kind]]
        failed, in_turn = (record for record in caplog.records if record.levelno == logging.ERROR)
        assert "on_text failed on Text(" in failed.getMessage()
        assert failed.exc_info is not None
        assert failed.exc_info[1] is RAISED[kind]
        assert "on_error" in in_turn.getMessage()

    def test_reconnect_drops_the_connection_and_opens_another(self, start_peer: StartPeer) -> None:
        app = Failing(start_peer(three_texts).url, on_handler_error="reconnect")
        with running(app, persist=AT_ONCE):
            app.wait_for("ready", 3)
        ends = app.all("disconnected")
        assert [end.reason for end in ends[:2]] == ["handler failed; on purpose"] * 2
        assert ends[0].ended_by == "client"
        assert app.all("back_off")

    def test_stop_closes_with_1011(self, start_peer: StartPeer) -> None:
        app = Failing(start_peer(three_texts).url, on_handler_error="stop")
        with running(app, persist=AT_ONCE):
            assert app.wait_closed(PATIENCE)
        assert app.events[-1].sent_code == 1011  # type: ignore[attr-defined]
        assert app.names().count("connecting") == 1

    def test_reconnect_without_persistence_is_refused(self) -> None:
        with pytest.raises(ValueError, match='on_handler_error="reconnect" needs persist'):
            WebSocketApp("ws://localhost", on_handler_error="reconnect").start(persist=False)

    @fault("program", "A handler raises")
    @pytest.mark.parametrize("name", ["connecting", "connected", "ready", "disconnected", "back_off"])
    @pytest.mark.parametrize("policy", ["continue", "reconnect", "stop"])
    def test_wherever_it_raises_the_app_can_be_stopped(
        self, name: str, policy: Any, start_peer: StartPeer
    ) -> None:
        app = Noting(start_peer(Link.accept).url, on_handler_error=policy)

        def fail(_: object) -> None:
            raise ZeroDivisionError

        app.on(name)(fail)
        with running(app, persist=AT_ONCE):
            if policy == "stop":
                assert app.wait_closed(PATIENCE)
            else:
                app.wait_for("connecting", 3)


class TestWaitingInAHandler:
    @pytest.mark.parametrize("method", ["join", "wait_closed"])
    def test_waiting_in_a_handler_for_its_own_end_is_refused(
        self, method: str, start_peer: StartPeer
    ) -> None:
        app = WebSocketApp(start_peer(polite).url)
        refused: list[str] = []
        app.on("ready")(lambda _: getattr(app, method)())
        app.on("error")(lambda error: refused.append(str(error)))
        with opened(app):
            pass
        assert refused == [f"{method}() was called in a handler, and would wait for that handler's end"]

    def test_wait_ready_is_true_where_it_is_ready_and_refused_elsewhere(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(Link.accept).url)
        outcomes: list[object] = []
        app.on("ready", "disconnected")(lambda _: outcomes.append(app.wait_ready()))
        app.on("error")(lambda error: outcomes.append(type(error)))
        app.run_forever(persist=False)
        assert outcomes in ([True, WebSocketError], [WebSocketError] * 2)  # it may be lost by then

    def test_starting_again_and_running_another_app_on_the_same_threads_are_refused(
        self, start_peer: StartPeer
    ) -> None:
        url = start_peer(polite).url
        shared = Threads()
        app, other = (WebSocketApp(url, threads=shared) for _ in range(2))
        refused: list[str] = []

        @app.on("ready")
        def start(_: object) -> None:
            for run in (app.start, app.run_forever, other.run_forever):
                with pytest.raises(WebSocketError) as caught:
                    run()
                refused.append(str(caught.value))

        with opened(app):
            pass
        assert len(refused) == 3
        assert "would wait for that handler's end" in refused[-1]
        assert other.stop(PATIENCE)

    def test_another_app_may_be_waited_for(self, start_peer: StartPeer) -> None:
        url = start_peer(echo).url
        app, other = WebSocketApp(url), WebSocketApp(url)
        outcomes: list[bool] = []

        @app.on("ready")
        def use(_: object) -> None:
            other.start()
            outcomes.append(other.wait_ready(PATIENCE))
            outcomes.append(other.stop(PATIENCE))

        with opened(app):
            pass
        assert outcomes == [True, True]

    def test_stop_of_an_app_on_the_same_threads_closes_without_waiting(self, start_peer: StartPeer) -> None:
        shared = Threads()
        url = start_peer(silent).url
        first, second = Noting(url, threads=shared), Noting(url, threads=shared)
        stopped: list[bool] = []
        second.on("ready")(lambda _: stopped.append(first.stop()))
        with opened(first, close_timeout=0.05), opened(second, close_timeout=0.05):
            assert first.wait_closed(PATIENCE)
            assert second.is_active
        assert stopped == [False]


def test_a_subclass_that_forgets_super_init_gets_an_error_that_says_so() -> None:
    class Forgetful(WebSocketApp):
        def __init__(self) -> None:
            pass

    app = Forgetful()
    calls: list[Callable[[], object]] = [
        app.start, app.run_forever, app.close, app.stop, app.join, app.reconnect, app.wait_ready,
        app.wait_closed, app.send_ping, lambda: app.send_text("x"), lambda: app.on("text")(print),
        lambda: app.add_handler(app), lambda: app.state, lambda: app.counters, lambda: app.url,
        lambda: repr(app),
    ]
    for call in calls:
        with pytest.raises(WebSocketError, match=r"Forgetful.__init__ must call super\(\).__init__\(url\)"):
            call()


def test_threads_of_users_may_look_at_everything_while_handlers_run(start_peer: StartPeer) -> None:
    app = Noting(start_peer(echo).url)
    looking = threading.Event()

    def look() -> None:
        while not looking.is_set():
            assert app.state in type(app.state)
            assert isinstance(app.is_active or app.is_closing or app.is_closed, bool)
            assert app.counters.messages_sent <= 50
            assert repr(app)
            latency = app.latency  # once: the connection may end between two looks
            assert latency is None or latency >= 0

    with running(app, persist=AT_ONCE):
        thread = in_thread(look)
        try:
            for _ in range(5):
                assert app.wait_ready(PATIENCE)
                for _ in range(10):
                    app.send_text("x")
                app.reconnect()
        finally:
            looking.set()
            thread.join(PATIENCE)
