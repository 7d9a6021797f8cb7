"""`WebSocketApp`: each test runs over the drop-in and over websocket-client."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from lochws.testing import (
    StartServer,
    accept,
    answer_ping,
    close,
    fin,
    ping,
    reject,
    send,
    wait_for,
    wait_for_end,
    wait_for_pong,
)

from ..support.ports import free_port
from ..support.seen import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


class Recorder:
    """All callbacks of an app, and what they were called with, in order."""

    def __init__(self, then: dict[str, Callable[..., object]] | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.threads: set[int] = set()
        self._then = then or {}

    def callbacks(self) -> dict[str, Callable[..., None]]:
        names = ("open", "message", "data", "error", "close", "ping", "pong", "reconnect")
        return {f"on_{name}": self._callback(name) for name in names}

    def _callback(self, name: str) -> Callable[..., None]:
        def call(app: Any, *args: Any) -> None:
            self.threads.add(threading.get_ident())
            self.calls.append((name, *args))
            if (then := self._then.get(name)) is not None:
                then(app, *args)

        return call

    def named(self, *names: str) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] in names]


def test_all_callbacks_are_called_on_the_calling_thread_in_order(
    websocket: ModuleType, ws_server: StartServer
) -> None:
    server = ws_server([
        accept(), wait_for("go"), send("text"), ping(b"p"), wait_for_pong(), send(b"bytes"),
        close(4000, "enough"),
    ])
    recorder = Recorder({"open": lambda app: (app.sock.ping("own"), app.send("go"))})
    app = websocket.WebSocketApp(server.url, **recorder.callbacks())
    assert app.run_forever() is False
    assert recorder.threads == {threading.get_ident()}
    calls = [call for call in recorder.calls if call[0] not in {"pong", "error"}]
    text, binary = websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY
    assert calls == [
        ("open",), ("data", "text", text, True), ("message", "text"), ("ping", b"p"),
        ("data", b"bytes", binary, True), ("message", b"bytes"), ("close", 4000, "enough"),
    ]
    assert ("pong", b"own") in recorder.calls
    ((_, error),) = recorder.named("error")
    assert isinstance(error, websocket.WebSocketConnectionClosedException)
    assert (error.status_code, error.reason) == (4000, "enough")
    assert app.sock is None
    assert not app.has_errored


def test_close_in_a_callback_ends_run_forever(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server()
    recorder = Recorder({"open": lambda app: app.send("x"), "message": lambda app, _: app.close()})
    app = websocket.WebSocketApp(server.url, **recorder.callbacks())
    assert app.run_forever() is False
    assert recorder.named("open", "message", "error") == [("open",), ("message", "x")]
    assert len(recorder.named("close")) == 1
    assert app.sock is None
    with pytest.raises(websocket.WebSocketConnectionClosedException):
        app.send("late")


def test_close_of_another_thread_ends_run_forever(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server()
    opened = threading.Event()
    recorder = Recorder({"open": lambda app: opened.set()})
    app = websocket.WebSocketApp(server.url, **recorder.callbacks())

    def close_app() -> None:
        opened.wait(PATIENCE)
        app.close(status=4321, reason="from outside")

    thread = threading.Thread(target=close_app)
    thread.start()
    # The original looks once per `ping_timeout` whether it was closed. No ping is sent.
    app.run_forever(ping_interval=1000, ping_timeout=1)
    thread.join()
    assert len(recorder.named("close")) == 1
    connection = server.connections[0]
    # Not necessarily with this status: the original's `run_forever` may close first, with its own.
    connection.wait_until(lambda: connection.close_frame is not None)


def test_keep_running_ends_run_forever(websocket: ModuleType, ws_server: StartServer) -> None:
    recorder = Recorder({"open": lambda app: setattr(app, "keep_running", False)})
    app = websocket.WebSocketApp(ws_server().url, **recorder.callbacks())
    assert app.run_forever() is False
    assert [call[0] for call in recorder.calls] == ["open", "close"]


def test_a_lost_connection_is_an_error(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([accept(), send("1"), fin()])
    recorder = Recorder()
    app = websocket.WebSocketApp(server.url, **recorder.callbacks())
    assert app.run_forever() is True
    assert [call[0] for call in recorder.calls] == ["open", "data", "message", "error", "close"]
    assert isinstance(recorder.named("error")[0][1], websocket.WebSocketConnectionClosedException)
    assert recorder.calls[-1] == ("close", None, None)
    assert app.has_errored


def test_a_failed_attempt_is_an_error(websocket: ModuleType, ws_server: StartServer) -> None:
    recorder = Recorder()
    app = websocket.WebSocketApp(f"ws://127.0.0.1:{free_port()}", **recorder.callbacks())
    assert app.run_forever() is True
    assert [call[0] for call in recorder.calls] == ["error", "close"]
    assert isinstance(recorder.calls[0][1], ConnectionRefusedError)
    app = websocket.WebSocketApp(ws_server([reject(401)]).url, **recorder.callbacks())
    assert app.run_forever() is True
    assert recorder.named("error")[1][1].status_code == 401


def test_an_exception_in_a_callback_goes_to_on_error(websocket: ModuleType, ws_server: StartServer) -> None:
    def fail(app: Any, message: str) -> None:
        raise LookupError(message)

    server = ws_server([accept(), send("1"), send("2"), close(1000)])
    recorder = Recorder({"message": fail})
    app = websocket.WebSocketApp(server.url, **recorder.callbacks())
    assert app.run_forever() is False
    errors = [call[1] for call in recorder.named("error")]
    assert [repr(error) for error in errors[:2]] == ["LookupError('1')", "LookupError('2')"]


def test_reconnect_opens_further_connections(websocket: ModuleType, ws_server: StartServer) -> None:
    def end(app: Any, message: str) -> None:
        if message == "3":
            app.close()

    server = ws_server(
        [accept(), send("1"), fin()], [reject(503)], [accept(), send("2"), close(1000)],
        [accept(), send("3"), wait_for_end()],
    )
    tokens = iter("abcd")
    recorder = Recorder({"message": end})
    app = websocket.WebSocketApp(server.url, lambda: {"X-Token": next(tokens)}, **recorder.callbacks())
    app.run_forever(reconnect=0.01)
    assert recorder.named("open", "reconnect", "message") == [
        ("open",), ("message", "1"), ("reconnect",), ("message", "2"), ("reconnect",), ("message", "3"),
    ]
    assert len(recorder.named("error")) == len(recorder.named("close")) == 1
    assert [request.headers["x-token"] for request in server.requests] == list("abcd")


def test_pings_are_sent_and_their_pongs_passed_on(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server()
    seen: list[bytes] = []

    def count(app: Any, data: bytes) -> None:
        seen.append(data)
        if len(seen) == 3:
            app.close()

    recorder = Recorder({"pong": count})
    app = websocket.WebSocketApp(server.url, **recorder.callbacks())
    app.run_forever(ping_interval=0.05, ping_payload="beat")
    assert seen == [b"beat"] * 3
    assert server.connections[0].pings[:3] == [b"beat"] * 3


def test_a_ping_without_pong_ends_the_connection(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([accept(), answer_ping(None), wait_for_end()])
    recorder = Recorder()
    app = websocket.WebSocketApp(server.url, **recorder.callbacks())
    assert app.run_forever(ping_interval=0.2, ping_timeout=0.1) is True
    ((_, error),) = recorder.named("error")
    assert isinstance(error, websocket.WebSocketTimeoutException)


@pytest.mark.parametrize(
    "wrong", [{"ping_interval": -1}, {"ping_timeout": 0}, {"ping_interval": 1, "ping_timeout": 1}]
)
def test_contradictions_about_pings_are_refused(websocket: ModuleType, wrong: dict[str, float]) -> None:
    app = websocket.WebSocketApp("ws://127.0.0.1:1")
    with pytest.raises(websocket.WebSocketException):
        app.run_forever(**wrong)


def test_run_forever_can_be_called_again(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([accept(), send("1"), fin()], [accept(), send("2"), close(1000)])
    recorder = Recorder()
    app = websocket.WebSocketApp(server.url, **recorder.callbacks())
    assert app.run_forever() is True
    assert app.run_forever() is False
    assert recorder.named("message") == [("message", "1"), ("message", "2")]


def test_callbacks_can_be_assigned(websocket: ModuleType, ws_server: StartServer) -> None:
    seen: list[str] = []

    def first(app: Any, message: str) -> None:
        seen.append(f"first {message}")
        app.on_message = second

    def second(app: Any, message: str) -> None:
        seen.append(f"second {message}")

    server = ws_server([accept(), send("1"), send("2"), close(1000)])
    app = websocket.WebSocketApp(server.url)
    app.on_message = first
    app.run_forever()
    assert seen == ["first 1", "second 2"]


def test_ctrl_c_ends_run_forever(websocket: ModuleType, ws_server: StartServer) -> None:
    def interrupt(app: Any, message: str) -> None:
        raise KeyboardInterrupt

    recorder = Recorder({"message": interrupt})
    app = websocket.WebSocketApp(ws_server([accept(), send("1"), wait_for_end()]).url, **recorder.callbacks())
    assert app.run_forever() is True
    assert isinstance(recorder.named("error")[0][1], KeyboardInterrupt)
    assert recorder.calls[-1][0] == "close"


def test_system_exit_passes_through(websocket: ModuleType, ws_server: StartServer) -> None:
    def leave(app: Any, message: str) -> None:
        raise SystemExit(3)

    recorder = Recorder({"message": leave})
    app = websocket.WebSocketApp(ws_server([accept(), send("1"), wait_for_end()]).url, **recorder.callbacks())
    with pytest.raises(SystemExit):
        app.run_forever()
    assert recorder.calls[-1][0] == "close"
    assert app.sock is None


def test_what_an_app_is_before_it_runs(websocket: ModuleType) -> None:
    app = websocket.WebSocketApp("ws://127.0.0.1:1", cookie="a", subprotocols=["b"])
    assert (app.url, app.header, app.cookie, app.subprotocols) == ("ws://127.0.0.1:1", [], "a", ["b"])
    assert (app.sock, app.keep_running) == (None, False)
    for call in (app.send, app.send_text, app.send_bytes):
        with pytest.raises(websocket.WebSocketConnectionClosedException):
            call("x")
    app.close()


def test_messages_arrive_while_another_thread_sends(websocket: ModuleType, ws_server: StartServer) -> None:
    server = ws_server([accept(), wait_for("go"), *(send(str(n)) for n in range(500)), wait_for_end()])
    opened = threading.Event()

    def end(app: Any, message: str) -> None:
        if message == "499":
            app.close()

    recorder = Recorder({"open": lambda app: opened.set(), "message": end})
    app = websocket.WebSocketApp(server.url, **recorder.callbacks())

    def send_go() -> None:
        opened.wait(PATIENCE)
        app.send("go")

    thread = threading.Thread(target=send_go)
    thread.start()
    app.run_forever()
    thread.join()
    assert [message for _, message in recorder.named("message")] == [str(n) for n in range(500)]
