"""Scheduled calls on the handlers' thread: when they are made, what they may do, when they are dropped."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from lochws import Threads, WebSocketApp
from lochws.errors import WebSocketError
from lochws.testing import ScriptedServer, accept, send, stop_reading, wait_for_end

from ..support.apps import NEVER, opened, running
from ..support.seen import PATIENCE, Noting, eventually, in_thread


@pytest.fixture
def app() -> Any:
    with ScriptedServer() as server, opened(Noting(server.url)) as app:
        yield app


@pytest.mark.parametrize("seconds", [0, -1, 0.001])
def test_the_handlers_thread_makes_the_call(app: Noting, seconds: float) -> None:
    where: list[bool] = []
    app.call_later(seconds, lambda: where.append(app.in_handler))
    eventually(lambda: where == [True])
    assert not app.in_handler


def test_a_call_does_not_come_in_the_midst_of_a_handler(app: Noting) -> None:
    made: list[str] = []

    def call() -> None:
        app.call_later(0, lambda: made.append("later"))
        app.call_later(0, lambda: made.append("last"))
        made.append("now")

    app.call_later(0, call)
    eventually(lambda: len(made) == 3)
    assert made == ["now", "later", "last"]


def test_calls_of_many_threads_all_come_in_the_order_of_each(app: Noting, restless: None) -> None:
    made: dict[int, list[int]] = {number: [] for number in range(4)}

    def ask(number: int) -> None:
        for count in range(100):
            app.call_later(0, partial(made[number].append, count))

    threads = [in_thread(partial(ask, number)) for number in made]
    for thread in threads:
        thread.join()
    eventually(lambda: sum(map(len, made.values())) == 400)
    assert all(found == list(range(100)) for found in made.values())


def test_a_call_that_was_cancelled_does_not_come(app: Noting) -> None:
    made: list[str] = []
    call = app.call_later(1000, lambda: made.append("cancelled"))
    assert call.cancel()
    assert not call.cancel()
    held = threading.Event()
    app.call_later(0, lambda: held.wait(PATIENCE))
    call = app.call_later(0, lambda: made.append("cancelled"))
    assert call.cancel()
    held.set()
    last = app.call_later(0, lambda: made.append("last"))
    eventually(lambda: bool(made))
    assert made == ["last"]
    assert not last.cancel()


def test_what_a_call_raises_is_treated_as_of_a_handler(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Noting):
        def on_error(self, error: BaseException) -> None:
            raised.append(error)

    raised: list[BaseException] = []
    with ScriptedServer() as server, running(Failing(server.url, on_handler_error="stop")) as app:
        assert app.wait_ready(PATIENCE)
        app.call_later(0, lambda: 1 / 0)
        assert app.wait_closed(PATIENCE)
    assert [type(error) for error in raised] == [ZeroDivisionError]
    assert "ZeroDivisionError" in caplog.text
    assert server.connections[0].close_frame == (1011, "handler failed")


def test_calls_are_made_during_a_back_off_and_not_after_the_app_has_stopped() -> None:
    made: list[str] = []
    app = Noting("ws://127.0.0.1:1/")
    with running(app, persist=NEVER):
        app.wait_for("back_off")
        app.call_later(0, lambda: made.append("backing off"))
        app.call_later(1000, lambda: made.append("never"))
        eventually(lambda: bool(made))
    assert made == ["backing off"]
    with pytest.raises(WebSocketError, match="the WebSocket has stopped"):
        app.call_later(0, print)


def test_a_call_for_one_run_does_not_come_in_the_next() -> None:
    made: list[str] = []
    with ScriptedServer() as server:
        shared = Threads()
        keeper, app = WebSocketApp(server.url, threads=shared), WebSocketApp(server.url, threads=shared)
        with opened(keeper):
            held = threading.Event()
            with opened(app):
                call = app.call_later(1000, lambda: made.append("late"))
            with opened(app):
                call._run()  # as if its time had come now
                app.call_later(0, held.set)
                assert held.wait(PATIENCE)
    assert made == []


def test_an_app_that_was_not_started_makes_no_calls() -> None:
    with pytest.raises(WebSocketError, match="the WebSocket has not been started"):
        WebSocketApp("ws://127.0.0.1:1/").call_later(0, print)


@pytest.mark.parametrize(
    ("seconds", "function", "said"),
    [("1", print, "seconds='1'"), (True, print, "True"), (1, None, "function=None")],
)
def test_wrong_arguments_are_refused_at_the_call(
    app: Noting, seconds: Any, function: Any, said: str
) -> None:
    with pytest.raises(TypeError, match=said):
        app.call_later(seconds, function)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), float("-inf")])
def test_a_call_at_no_time_is_refused(app: Noting, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"seconds={seconds!r}: expected a finite number"):
        app.call_later(seconds, print)


def test_a_call_in_the_far_future_holds_up_no_other(app: Noting) -> None:
    made: list[str] = []
    for seconds in (1e300, 10**400, threading.TIMEOUT_MAX * 2):
        assert app.call_later(seconds, partial(made.append, "never")).cancel()
        app.call_later(seconds, partial(made.append, "never"))
    for _ in range(2):  # the second finds whoever keeps the time at its wait
        app.call_later(0.001, partial(made.append, "soon"))
        eventually(lambda: "soon" in made)
        made.remove("soon")
    app.reconnect()
    app.wait_for("ready", count=2)
    assert made == []


def test_what_waits_for_handlers_and_for_the_network_can_be_asked() -> None:
    size = 100_000
    script = [accept(), stop_reading(), send("x" * size), wait_for_end()]
    with ScriptedServer(script, receive_buffer=4096) as server:
        app = Noting(server.url)
        held = threading.Event()
        app.on("ready")(lambda _: held.wait(PATIENCE))
        assert (app.waiting_bytes, app.queued_bytes) == (0, 0)
        with running(app):
            try:
                eventually(lambda: app.waiting_bytes > size)
                while not app.queued_bytes:  # the kernel takes some
                    app.send_binary(bytes(size))
            finally:
                held.set()
            app.wait_for("text")
            eventually(lambda: app.waiting_bytes == 0)
            app.force_disconnect()
        assert app.queued_bytes == 0
