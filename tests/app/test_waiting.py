"""Failed waits for an app: the exception says why, and has the last final event."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from lochws import WebSocketApp, events
from lochws import testing as t
from lochws.errors import WaitFailed, WebSocketError
from lochws.life.reasons import why_not_ready, why_running
from lochws.life.state import State
from lochws.testing import StartServer

from ..support.apps import AT_ONCE, NEVER, opened, running
from ..support.seen import PATIENCE, Noting

REFUSED = [t.upgrade(status=401)]
NO_CONNECTION = events.ConnectFail("connection refused", advice="Start the server.")
LOST = events.Disconnected("connection lost: reset by the server")


@pytest.mark.parametrize(
    ("state", "end", "behind_gate", "words"),
    [
        (State.NEW, None, False, "the app has not been started"),
        (State.CONNECTING, None, False, "an attempt to connect is under way"),
        (
            State.CONNECTING, NO_CONNECTION, False,
            f"an attempt to connect is under way; the last attempt failed: {NO_CONNECTION}",
        ),
        (
            State.BACKING_OFF, LOST, False,
            f"the app is waiting for its next attempt; the last connection ended: {LOST.reason}",
        ),
        (
            State.STOPPED, events.Disconnected("upgrade refused: 401 Unauthorized", phase="upgrade"), False,
            "the app has stopped; the last attempt failed: upgrade refused: 401 Unauthorized",
        ),
        (State.STOPPED, None, False, "the app has stopped"),
        (
            State.OPEN, LOST, True,
            "the connection is open, but session setup is still in progress (a gate is closed)",
        ),
        (State.OPEN, LOST, False, "the connection is open, but the handlers of Ready have not returned yet"),
        (State.CLOSING, LOST, False, "the connection is closing"),
        (State.DISCONNECTED, None, False, "the handlers of the last events have not returned yet"),
    ],
)
def test_each_state_has_its_reason_not_to_be_ready(
    state: State, end: Any, behind_gate: bool, words: str
) -> None:
    assert why_not_ready(state, end, behind_gate=behind_gate) == words


def test_a_url_in_a_reason_loses_its_secrets() -> None:
    end = events.ConnectFail("cannot reach ws://me:s3cr3t@host/?token=s3cr3t")
    assert "s3cr3t" not in why_not_ready(State.STOPPED, end, behind_gate=False)


@pytest.mark.parametrize("state", State)
def test_an_app_that_was_not_closed_says_so(state: State) -> None:
    words = why_running(state, is_stopping=False)
    assert words.startswith("the app has not been closed; call close()") or state is State.STOPPED
    assert why_running(state, is_stopping=True) != words or state is State.STOPPED


class TestReady:
    def test_an_app_that_gave_up_says_why_immediately(self, ws_server: StartServer) -> None:
        app = WebSocketApp(ws_server(REFUSED).url)
        app.start(persist=False)
        with pytest.raises(WaitFailed) as caught:
            app.wait_ready(PATIENCE, check=True)
        words = r"wait_ready\(\): not ready: the app has stopped; the last attempt failed: upgrade refused: "
        assert re.match(words, str(caught.value))
        assert not caught.value.timed_out
        assert caught.value.event is app.last_end
        assert isinstance(caught.value.event, events.Disconnected)
        assert app.wait_ready(0) is False

    def test_an_app_that_keeps_trying_says_how_the_last_attempt_failed(self, ws_server: StartServer) -> None:
        app = Noting(ws_server(REFUSED).url)
        with running(app, persist=NEVER):
            app.wait_for("back_off")
            words = "not ready within 0.01 s: the app is waiting for its next attempt"
            with pytest.raises(WaitFailed, match=words) as caught:
                app.wait_ready(0.01, check=True)
        assert caught.value.timed_out
        assert "401" in str(caught.value)

    def test_a_closed_gate_is_named(self, ws_server: StartServer) -> None:
        app = Noting(ws_server().url)
        app.hooks.gate()
        with running(app):
            app.wait_for("ready")
            with pytest.raises(WaitFailed, match="a gate is closed") as caught:
                app.wait_ready(0.01, check=True)
        assert caught.value.event is None

    def test_success_is_true_with_and_without_it(self, ws_server: StartServer) -> None:
        with opened(WebSocketApp(ws_server().url)) as app:
            assert app.wait_ready(PATIENCE, check=True) is True
            assert app.wait_ready(PATIENCE) is True


class TestStopped:
    @pytest.mark.parametrize("method", ["wait_closed", "join"])
    def test_an_app_that_is_still_running_says_so(self, ws_server: StartServer, method: str) -> None:
        with opened(WebSocketApp(ws_server().url)) as app:
            words = rf"{method}\(\): not stopped within 0 s: the app has not been closed"
            with pytest.raises(WaitFailed, match=words):
                getattr(app, method)(0, check=True)
            assert getattr(app, method)(0) is False

    def test_a_server_that_does_not_answer_our_close_frame_is_named(self, ws_server: StartServer) -> None:
        server = ws_server([t.accept(), t.ignore_close()])
        with opened(WebSocketApp(server.url), close_timeout=60) as app:
            app.close()
            server.wait_until(lambda: server.connection().close_frame is not None)
            with pytest.raises(WaitFailed, match="the server has not answered our Close frame yet"):
                app.stop(0, check=True)
            app.force_disconnect()

    def test_a_handler_that_still_runs_is_named(self, ws_server: StartServer) -> None:
        app, go = Noting(ws_server().url), threading.Event()
        app.on("disconnected")(lambda _: go.wait(PATIENCE))
        with opened(app):
            app.close()
            app.wait_for("disconnected")
            try:
                with pytest.raises(WaitFailed, match="the handlers of the last events have not returned yet"):
                    app.wait_closed(0, check=True)
            finally:
                go.set()

    def test_stop_in_a_handler_cannot_be_checked(self, ws_server: StartServer) -> None:
        app, raised = Noting(ws_server().url), []

        @app.on("ready")
        def ready(_: events.Ready) -> None:
            with pytest.raises(WebSocketError, match=r"stop\(\) was called in a handler"):
                app.stop(check=True)
            raised.append(app.is_stopping)

        with opened(app):
            assert raised == [False]

    @pytest.mark.parametrize("method", ["wait_ready", "wait_closed", "join", "stop"])
    def test_check_must_be_a_bool(self, method: str) -> None:
        with pytest.raises(TypeError, match="check=1: expected True or False"):
            getattr(WebSocketApp("ws://example.invalid"), method)(1, check=1)

    def test_success_is_true(self, ws_server: StartServer) -> None:
        app = WebSocketApp(ws_server().url)
        with opened(app):
            assert app.stop(PATIENCE, check=True) is True
        assert app.join(PATIENCE, check=True) is True
        assert app.wait_closed(PATIENCE, check=True) is True


class TestLastEnd:
    def test_it_is_the_last_final_event_and_outlives_the_next_connection(
        self, ws_server: StartServer
    ) -> None:
        app = Noting(ws_server(REFUSED, [t.accept()]).url)
        assert app.last_end is None
        with running(app, persist=AT_ONCE):
            app.wait_for("ready")
            first = app.last_end
            assert first is app.all("disconnected")[0]
        assert app.last_end is app.all("disconnected")[1]

    def test_handlers_of_the_event_see_it(self, ws_server: StartServer) -> None:
        app, seen = Noting(ws_server(REFUSED).url), []
        app.on("disconnected")(lambda event: seen.append(app.last_end is event))
        assert app.run_forever(persist=False) is app.last_end
        assert seen == [True]

    def test_a_new_start_forgets_it(self, ws_server: StartServer) -> None:
        app = Noting(ws_server(REFUSED, [t.accept()]).url)
        app.run_forever(persist=False)
        with opened(app):
            assert app.last_end is None
