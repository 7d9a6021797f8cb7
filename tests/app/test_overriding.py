"""Overridden methods: lochws calls a user's override with the parameters that it has."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lochws import Backoff, WebSocket, WebSocketApp, events
from lochws.persist import persist
from lochws.testing import ScriptedServer, accept, send

from ..support.apps import opened
from ..support.seen import PATIENCE

NOBODY = "ws://127.0.0.1:1/"
SOON = Backoff(min_wait=0.001, max_wait=0.002)


class Few(WebSocket):
    """Overrides `connect` as programs written for Lomond do."""

    def connect(self, poll: float = 5, ping_rate: float = 30) -> Any:  # type: ignore[override]
        return super().connect(poll=poll, ping_rate=ping_rate)


class Lazy(WebSocket):
    """Returns an iterator that cannot be closed."""

    def connect(self, **options: Any) -> Any:
        return iter(list(super().connect(**options)))


@pytest.mark.parametrize("kind", [Few, Lazy])
def test_persist_calls_an_overridden_connect_with_what_it_takes(kind: type[WebSocket]) -> None:
    names = []
    for event in persist(kind(NOBODY), ping_rate=0, backoff=SOON):
        names.append(event.name)
        if names.count("back_off") == 2:
            break
    assert names == ["connecting", "connect_fail", "back_off"] * 2


def test_persist_leaves_out_nothing_that_the_user_asked_for() -> None:
    with pytest.raises(TypeError, match="close_timeout"):
        next(persist(Few(NOBODY), close_timeout=1))


@pytest.mark.parametrize("wrong", [{"exit_event": 5}, {"websocket": NOBODY}])
def test_persist_refuses_wrong_arguments_at_the_call(wrong: dict[str, Any]) -> None:
    (name, value), = wrong.items()
    with pytest.raises(TypeError, match=f"{name}={value!r}: expected"):
        persist(**{"websocket": WebSocket(NOBODY), **wrong})


def test_run_forever_calls_an_overridden_start_with_what_it_takes() -> None:
    class App(WebSocketApp):
        def start(self, *, persist: bool | Backoff = True) -> None:  # type: ignore[override]
            starts.append(persist)
            super().start(persist=persist)

    starts: list[object] = []
    assert isinstance(App(NOBODY).run_forever(persist=False), events.ConnectFail)
    with pytest.raises(TypeError, match="poll"):
        App(NOBODY).run_forever(poll=1)
    assert starts == [False]


def test_a_failed_handler_stops_an_app_whose_close_takes_no_arguments() -> None:
    class App(WebSocketApp):
        def on_text(self, event: events.Text) -> None:
            raise LookupError(event.text)

        def close(self) -> None:  # type: ignore[override]
            closed.set()
            super().close(4000)

    closed = threading.Event()
    with ScriptedServer([accept(), send("x")]) as server:
        app = App(server.url, on_handler_error="stop")
        app.start()
        assert closed.wait(PATIENCE)
        assert app.join(PATIENCE)


def test_send_json_uses_an_overridden_send_text_that_takes_the_text_alone() -> None:
    class App(WebSocketApp):
        def send_text(self, text: str) -> bool:  # type: ignore[override]
            sent.append(text)
            return True

    sent: list[str] = []
    App(NOBODY).send_json(a=1)
    assert sent == ['{"a": 1}']


class TestEncoders:
    """`send_json` and the option `encoder`."""

    @pytest.fixture
    def app(self) -> Iterator[WebSocketApp]:
        with ScriptedServer() as server, opened(WebSocketApp(server.url)) as app:
            yield app

    @pytest.mark.parametrize("value", [float("nan"), {"a": [float("inf")]}, -float("inf")])
    def test_what_json_does_not_have_is_refused(self, app: WebSocketApp, value: object) -> None:
        with pytest.raises(ValueError, match=r"no NaN and no infinity; encoder=json\.dumps sends them"):
            app.send_json(value)

    def test_an_object_that_contains_itself_is_refused(self, app: WebSocketApp) -> None:
        value: list[object] = []
        value.append(value)
        with pytest.raises(ValueError, match=r"^send_json: Circular reference detected$"):
            app.send_json(value)

    def test_an_object_that_json_cannot_express_is_refused(self, app: WebSocketApp) -> None:
        with pytest.raises(TypeError, match="send_json: Object of type set is not JSON serializable"):
            app.send_json({"a": {1}})

    def test_the_encoder_of_a_call_decides(self, app: WebSocketApp) -> None:
        import json

        assert app.send_json(float("nan"), encoder=json.dumps)

    @pytest.mark.parametrize("encoded", ["[0]", b"[0]", bytearray(b"[0]")])
    def test_the_encoder_of_the_app_returns_text_or_its_utf_8(self, encoded: Any) -> None:
        with ScriptedServer() as server, opened(WebSocketApp(server.url, encoder=lambda _: encoded)) as app:
            received = threading.Event()
            app.on("text")(lambda event: received.set() if event.text == "[0]" else None)
            assert app.send_json("anything")
            assert received.wait(PATIENCE)


def test_a_refused_force_disconnect_leaves_the_connection_as_it_was() -> None:
    ended: list[events.Disconnected] = []
    with ScriptedServer() as server, opened(WebSocketApp(server.url)) as app:
        app.on("disconnected")(ended.append)
        for wrong, error in (("\ud800", ValueError), (5, TypeError)):
            with pytest.raises(error, match="force_disconnect: reason="):
                app.force_disconnect(wrong)  # type: ignore[arg-type]
        assert app.is_active
        app.close()
        assert app.join(PATIENCE)
    assert [(event.graceful, event.sent_code) for event in ended] == [(True, 1000)]


def test_ctrl_c_in_run_forever_shows_one_frame_of_ours() -> None:
    program = (
        "import _thread, logging, lochws\n"
        "logging.disable()\n"
        "class App(lochws.WebSocketApp):\n"
        "    def on_connecting(self, event): _thread.interrupt_main()\n"
        f"App({NOBODY!r}).run_forever()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.stderr.strip().endswith("KeyboardInterrupt")
    assert ended.stderr.count("File ") == 2, ended.stderr
    assert ended.stderr.count("in run_forever") == 1
