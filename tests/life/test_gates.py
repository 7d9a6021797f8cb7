"""Gates: who can send over a new connection, and when; and how such a connection counts for the back-off."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from lochws import Backoff, ReceiptState, WebSocketApp, events
from lochws.errors import WebSocketClosed, WebSocketUnavailable
from lochws.handlers.freshness import Freshness
from lochws.handlers.heartbeat import Every
from lochws.handlers.sequence import Sequence
from lochws.testing import ScriptedServer, accept, fin, wait_for

from ..support.apps import AT_ONCE, NEVER, opened, running
from ..support.seen import PATIENCE, Noting, eventually, in_thread


@pytest.mark.parametrize(
    "send",
    [
        lambda app: app.send_text("x"), lambda app: app.send_text("ü"), lambda app: app.send_binary(b"x"),
        lambda app: app.send_json(x=1), lambda app: app.send_many(["x", b"x"]),
        lambda app: app.corked().__enter__(),
    ],
    ids=["text", "unicode", "binary", "json", "many", "corked"],
)
def test_while_a_gate_is_closed_only_its_holder_can_send(send: Callable[[Noting], object]) -> None:
    with ScriptedServer() as server:
        app = Noting(server.url)
        gate = app.hooks.gate()
        with running(app):
            app.wait_for("ready")
            assert not app.is_active
            with pytest.raises(WebSocketUnavailable, match="session setup is still in progress"):
                send(app)
            assert gate.send("first")
            assert gate.send(bytearray(b"second"))
            gate.open()
            assert app.is_active
            send(app)
            server.wait_until(lambda: server.messages[:2] == ["first", b"second"])


def test_a_thread_that_sends_all_the_time_never_precedes_the_session_setup() -> None:
    """It may find the connection even before any handler of Ready has run."""
    drops = 5
    script = [accept(), wait_for("other"), fin()]
    with ScriptedServer(*[script] * drops, [accept()]) as server:
        app = WebSocketApp(server.url)
        gate = app.hooks.gate()
        over, pause = threading.Event(), threading.Event()

        @app.on("ready")
        def greet(event: events.Ready) -> None:
            gate.send("log in")
            gate.open()

        def send() -> None:
            while not over.is_set():
                try:
                    app.send_text("other")
                    pause.wait(0.001)  # one is enough, and a flood takes the server long
                except WebSocketUnavailable:
                    continue

        with running(app, persist=AT_ONCE):
            sender = in_thread(send)
            try:
                server.connection(drops).wait_until(lambda: len(server.connections[drops].messages) > 1)
            finally:
                over.set()
                sender.join()
        assert [connection.messages[0] for connection in server.connections] == ["log in"] * (drops + 1)


def test_who_waits_until_the_app_is_ready_waits_for_its_gates() -> None:
    with ScriptedServer() as server:
        app = Noting(server.url)
        first, second = app.hooks.gate(), app.hooks.gate()
        with running(app):
            app.wait_for("poll")  # the handlers of Ready have run
            assert not app.wait_ready(0)
            first.open()
            assert not app.wait_ready(0)
            second.open()
            assert app.wait_ready(0)
            second.open()  # does no harm


def test_a_gate_is_shut_to_the_next_connection_and_a_removed_one_is_not() -> None:
    with ScriptedServer() as server:
        app = Noting(server.url)
        gate = app.hooks.gate()
        with running(app, persist=AT_ONCE):
            for number in (1, 2):
                app.wait_for("ready", number)
                assert not app.is_active
                gate.open()
                assert app.is_active
                app.force_disconnect("once more, please")
            app.wait_for("ready", 3)
            gate.remove()
            assert app.wait_ready(PATIENCE)
            app.force_disconnect()
            app.wait_for("ready", 4)
            assert app.wait_ready(PATIENCE)
        assert [event.reason for event in app.all("disconnected")[:3]] == [
            "once more, please", "once more, please", "force_disconnect was called",
        ]


def test_an_open_connection_stays_open_to_all_when_a_gate_is_made() -> None:
    with ScriptedServer() as server, opened(WebSocketApp(server.url)) as app:
        app.hooks.gate()
        assert app.send_text("x")


def test_waiting_in_a_handler_behind_a_shut_gate_is_refused() -> None:
    refused: list[bool] = []
    with ScriptedServer() as server:
        app = Noting(server.url)
        gate = app.hooks.gate()

        @app.on("ready")
        def wait(event: events.Ready) -> None:
            with pytest.raises(Exception, match="would wait for that handler's end"):
                app.wait_ready(PATIENCE)
            gate.open()
            refused.append(app.wait_ready(PATIENCE))

        with opened(app):
            assert refused == [True]


def test_behind_a_shut_gate_messages_come_and_pings_go() -> None:
    with ScriptedServer() as server:
        app = Noting(server.url)
        gate = app.hooks.gate()
        with running(app):
            app.wait_for("ready")
            gate.send("x")
            app.send_ping(b"there?")
            assert app.wait_for("text").text == "x"
            server.wait_until(lambda: b"there?" in server.connections[0].pings)


@pytest.mark.parametrize(("message", "kind"), [(5, "int"), (None, "NoneType")])
def test_a_gate_sends_messages_only(message: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"^Gate.send: expected a bytes-like object, not {kind}$"):
        WebSocketApp("ws://127.0.0.1:1/").hooks.gate().send(message)


def test_what_a_gate_sends_is_text_or_binary_and_may_be_compressed() -> None:
    records: list[dict[str, Any]] = []
    with ScriptedServer() as server:
        app = Noting(server.url, trace=records.append)
        gate = app.hooks.gate()
        with running(app):
            app.wait_for("ready")
            gate.send("text")
            gate.send(b"binary")
    sent = [(record["stage"], record["compressed"]) for record in records if "compressed" in record]
    assert sent == [("send_text", True), ("send_binary", True)]


def test_without_a_connection_a_gate_sends_nothing() -> None:
    app = WebSocketApp("ws://127.0.0.1:1/")
    gate = app.hooks.gate()
    with pytest.raises(WebSocketUnavailable, match=r"^not sent: there is no connection$"):
        gate.send("x")
    gate.open()
    with ScriptedServer() as server, running(Noting(server.url)) as app:
        pass
    with pytest.raises(WebSocketClosed):
        app.send_text("x")


def test_a_connection_that_ends_behind_a_shut_gate_was_never_stable() -> None:
    """Otherwise a log-in that fails slowly would be repeated without a wait."""
    with ScriptedServer([accept()]) as server:
        app = Noting(server.url)
        gate = app.hooks.gate()
        backoff = Backoff(min_wait=0.0, max_wait=0.0, stable_after=0.0, max_attempts=3)
        with running(app, persist=backoff):
            for number in (1, 2):
                app.wait_for("ready", number)
                gate.open()  # stable at once
                app.force_disconnect()
            for number in (3, 4, 5):
                app.wait_for("ready", number)
                app.force_disconnect()
            assert app.wait_closed(PATIENCE)
        assert len(app.all("ready")) == 5


def test_a_gate_that_is_opened_without_a_connection_makes_no_failure_a_success() -> None:
    app = Noting("ws://127.0.0.1:1/")
    gate = app.hooks.gate()
    app.on("connect_fail", "back_off")(lambda _: gate.open())
    with running(app, persist=Backoff(min_wait=0.0, max_wait=0.0, stable_after=0.0, max_attempts=3)):
        assert app.wait_closed(PATIENCE)
    assert len(app.all("connect_fail")) == 3


def test_a_thread_that_waits_is_released_when_the_gate_opens() -> None:
    found: list[bool] = []
    with ScriptedServer() as server:
        app = Noting(server.url)
        gate = app.hooks.gate()
        with running(app):
            app.wait_for("poll")  # the handlers of Ready have run, and it was told
            waiter = in_thread(lambda: found.append(app.wait_ready()))
            eventually(lambda: app._lochws.life._changed._condition is not None)  # it waits
            gate.open()
            waiter.join(PATIENCE)
            assert found == [True]


def test_a_listener_is_called_when_the_last_gate_of_a_connection_opens() -> None:
    with ScriptedServer() as server:
        app = Noting(server.url)
        first, second, third = (app.hooks.gate() for _ in range(3))
        third.remove()
        told: list[bool] = []
        third.when_all_open(lambda: told.append(app.is_active))
        with running(app, persist=AT_ONCE):
            app.wait_for("ready")
            first.open()
            assert told == []
            second.open()
            assert told == [True], "and sends are allowed by then"
            second.open()
            app.reconnect()
            app.wait_for("ready", 2)
            second.remove()
            assert told == [True]
            first.remove()
            assert told == [True, True]
            app.reconnect()
            app.wait_for("ready", 3)
        assert told == [True, True], "no gate was closed"


def test_a_listener_that_is_forgotten_is_called_no_more_and_released() -> None:
    class Listener:
        calls = 0

        def told(self) -> None:
            self.calls += 1

    with ScriptedServer() as server:
        app = Noting(server.url)
        gate, other = app.hooks.gate(), app.hooks.gate()
        other.remove()
        listener, kept = Listener(), Listener()
        for told in (listener.told, kept.told, listener.told):
            gate.when_all_open(told)
        with running(app, persist=AT_ONCE):
            app.wait_for("ready")
            other.forget(listener.told)
            gate.open()
            assert (listener.calls, kept.calls) == (1, 1), "it was passed twice, and one is left"
            gate.forget(listener.told)
            app.reconnect()
            app.wait_for("ready", 2)
            gate.open()
            assert (listener.calls, kept.calls) == (1, 2)
    with pytest.raises(ValueError, match=r"told is not a function that was passed to when_all_open"):
        gate.forget(listener.told)
    reference = weakref.ref(listener)
    del listener, told
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_a_listener_that_raises_is_reported_and_the_others_are_called(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    told: list[int] = []
    with ScriptedServer() as server:
        app = Noting(server.url)
        gate = app.hooks.gate()
        gate.when_all_open(fail)
        gate.when_all_open(lambda: told.append(threading.get_ident()))
        with running(app):
            app.wait_for("ready")
            opener = in_thread(gate.open)
            opener.join(PATIENCE)
            assert told == [opener.ident]
    assert "fail, which was passed to when_all_open, failed" in caplog.text


@pytest.mark.parametrize("make", [
    lambda app: Every(app, 10, "beat"),
    lambda app: Freshness(app, key=str, limit=10, on_stale="tell"),
    lambda app: Sequence(app, number=hash),
    lambda app: Sequence(app, number=hash, resync=hash, on_snapshot=print),
], ids=["heartbeats", "freshness", "sequence", "resync"])
def test_a_handler_that_has_left_is_released_by_the_app(make: Callable[[Noting], Any]) -> None:
    app = Noting("ws://127.0.0.1:1/")
    handler = make(app)
    handler.leave()
    handler.leave()
    reference = weakref.ref(handler)
    del handler
    gc.collect()
    assert reference() is None


def test_a_closed_gate_sends_with_a_receipt() -> None:
    with ScriptedServer() as server:
        app = Noting(server.url)
        gate = app.hooks.gate()
        with running(app):
            app.wait_for("ready")
            for receipt in (
                gate.send("a", receipt=True), gate.send(b"b", receipt=True),
                gate.send(b"c", text=True, receipt=True),
            ):
                assert receipt.result(PATIENCE) is ReceiptState.CONFIRMED
            assert server.messages[:3] == ["a", b"b", "c"]
            with pytest.raises(TypeError, match="receipt=1"):
                gate.send("x", receipt=1)  # type: ignore[call-overload]


def test_a_removed_gate_sends_past_closed_ones() -> None:
    with ScriptedServer() as server:
        app = Noting(server.url)
        app.hooks.gate()
        passing = app.hooks.gate()
        passing.remove()
        with running(app):
            app.wait_for("ready")
            assert passing.send("x")
            assert app.wait_for("text").text == "x"
            assert not app.is_active


def test_reasons_that_are_no_text_are_refused() -> None:
    with pytest.raises(TypeError, match="reason=5"):
        WebSocketApp("ws://127.0.0.1:1/").force_disconnect(5)  # type: ignore[arg-type]


def test_closing_behind_a_shut_gate_ends_the_app_and_all_who_wait_for_it() -> None:
    with ScriptedServer() as server:
        app = Noting(server.url)
        app.hooks.gate()
        found: list[bool] = []
        with running(app, persist=NEVER):
            app.wait_for("ready")
            waiter = in_thread(lambda: found.append(app.wait_ready(PATIENCE)))
            app.close()
            waiter.join()
            eventually(lambda: app.is_closed)
        assert found == [False]
