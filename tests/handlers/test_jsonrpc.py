"""JsonRpc: calls in both directions, errors, and floods."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from lochws import WebSocketApp
from lochws.handlers.jsonrpc import JsonRpc, RpcError

from ..support.apps import opened
from ..support.peer import Link, StartPeer
from ..support.seen import PATIENCE
from .talking import listen, read, send


class Talk:
    """The server's side: sends given messages, and keeps what it receives."""

    def __init__(self, *says: Any) -> None:
        self.says = says
        self.heard: list[Any] = []

    def __call__(self, link: Link) -> None:
        link.accept()
        for message in self.says:
            send(link, message)
            if isinstance(message, list) or "id" in message:
                self.heard.append(read(link))
        send(link, {"jsonrpc": "2.0", "method": "done"})
        listen(link)


#: Sends an app some messages, and returns its answers.
Hears: TypeAlias = Callable[..., list[Any]]


@pytest.fixture
def hears(start_peer: StartPeer) -> Hears:
    """Return a function that sends messages to an app with some methods, and returns its answers."""

    def answers(*messages: Any) -> list[Any]:
        talk = Talk(*messages)
        app = WebSocketApp(start_peer(talk).url)
        rpc = JsonRpc(app)
        rpc.method("add")(lambda a, b=0: a + b)
        rpc.method("bad")(lambda: 1 / 0)
        rpc.method("untold")(object)
        rpc.method("nan")(lambda: float("nan"))

        @rpc.method("refuse")
        def refuse() -> None:
            raise RpcError(7, "no", {"why": "so"})

        @rpc.method("done")
        def done() -> None:
            app.close()

        app.start(persist=False)
        assert app.join(PATIENCE)
        return talk.heard

    return answers


def call(method: Any, params: Any = None, **more: Any) -> dict[str, Any]:
    given = {} if params is None else {"params": params}
    return {"jsonrpc": "2.0", "method": method, **given, **more}


def error(code: int, message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}}


@pytest.mark.parametrize(
    ("method", "params", "answer"),
    [
        ("add", [1, 2], {"result": 3}),
        ("add", {"a": 1, "b": 2}, {"result": 3}),
        ("add", [1], {"result": 1}),
        ("refuse", None, error(7, "no", data={"why": "so"})),
        ("bad", None, error(-32603, "Internal error")),
        ("untold", None, error(-32603, "Internal error")),
        ("unknown", None, error(-32601, "Method not found")),
        ("add", [], error(-32602, "Invalid params", data="missing a required argument: 'a'")),
        ("add", 5, error(-32600, "Invalid Request")),
        (5, None, error(-32600, "Invalid Request")),
    ],
)
def test_the_server_can_call_our_methods(
    method: Any, params: Any, answer: dict[str, Any], hears: Hears
) -> None:
    assert hears(call(method, params, id="x")) == [{"jsonrpc": "2.0", "id": "x", **answer}]


def test_a_notification_is_never_answered(hears: Hears) -> None:
    assert hears(call("bad"), call("unknown"), call("add", [1], id=1)) == [
        {"jsonrpc": "2.0", "id": 1, "result": 1}
    ]


def test_a_batch_is_answered_by_a_batch(hears: Hears) -> None:
    assert hears([call("add", [1], id=1), call("add", [2]), call("unknown", id=3)]) == [[
        {"jsonrpc": "2.0", "id": 1, "result": 1},
        {"jsonrpc": "2.0", "id": 3, **error(-32601, "Method not found")},
    ]]


def test_messages_that_are_not_json_rpc_are_ignored(hears: Hears) -> None:
    assert hears({"method": "add"}, {"jsonrpc": "1.0", "method": "add"}, call("add", [4], id=9)) == [
        {"jsonrpc": "2.0", "id": 9, "result": 4}
    ]


@pytest.mark.parametrize("number", [[1], {"a": 1}, float("nan"), float("inf")])
def test_an_invalid_id_makes_an_invalid_request(number: Any, hears: Hears) -> None:
    assert hears(call("add", [1], id=number)) == [
        {"jsonrpc": "2.0", "id": None, **error(-32600, "Invalid Request")}
    ]


def test_a_result_that_json_cannot_express_is_an_internal_error(hears: Hears) -> None:
    assert hears(call("nan", id=1)) == [{"jsonrpc": "2.0", "id": 1, **error(-32603, "Internal error")}]


def test_a_method_that_keeps_failing_is_logged_at_a_limited_rate(
    hears: Hears, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(hears([call("bad", id=number) for number in range(500)])[0]) == 500
    lines = [record.getMessage() for record in caplog.records]
    assert 20 <= len(lines) <= 40
    assert set(lines[:20]) == {"unexpected error in the JSON-RPC method 'bad'"}


def test_a_server_that_calls_and_does_not_read_cannot_flood_the_log(
    start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def script(link: Link) -> None:
        link.accept()
        for number in range(3000):
            send(link, call("large", id=number))
        send(link, call("done"))
        done.wait(PATIENCE)

    app = WebSocketApp(start_peer(script).url, max_queue=10_000)
    rpc = JsonRpc(app)
    rpc.method("large")(lambda: "x" * 5000)
    rpc.method("done")(done.set)
    with opened(app, close_timeout=0.01):
        assert done.wait(PATIENCE)
        app.force_disconnect()
    lines = [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"]
    assert 1 <= len(lines) <= 20
    assert "a JSON-RPC answer was dropped: the send queue is full, the server does not read" in lines
    assert not any(record.exc_info for record in caplog.records)


def test_a_call_returns_the_servers_result_or_raises_its_error(start_peer: StartPeer) -> None:
    heard: list[Any] = []

    def script(link: Link) -> None:
        link.accept()
        heard.extend(read(link) for _ in range(5))
        send(link, {"jsonrpc": "2.0", "id": 2, **error(-32601, "Method not found")})
        send(link, [{"jsonrpc": "2.0", "id": 1, "result": 3}, {"jsonrpc": "2.0", "id": 3, "error": "odd"}])
        send(link, {"jsonrpc": "2.0", "id": 4, "result": None})
        listen(link)

    app = WebSocketApp(start_peer(script).url)
    rpc = JsonRpc(app)
    with opened(app):
        replies = [rpc.call("add", 1, 2), rpc.call("nothing"), rpc.call("odd", a=1), rpc.call("none")]
        rpc.notify("seen", 5)
        assert replies[0].result(PATIENCE) == 3
        with pytest.raises(RpcError, match=r"Method not found \(-32601\)") as caught:
            replies[1].result(PATIENCE)
        assert (caught.value.code, caught.value.data) == (-32601, None)
        with pytest.raises(RpcError) as caught:
            replies[2].result(PATIENCE)
        assert caught.value.data == "odd"
        assert replies[3].result(PATIENCE) is None
    assert heard == [
        call("add", [1, 2], id=1), call("nothing", id=2), call("odd", {"a": 1}, id=3), call("none", id=4),
        call("seen", [5]),
    ]


def test_parameters_cannot_be_given_both_by_position_and_by_name() -> None:
    rpc = JsonRpc(WebSocketApp("ws://127.0.0.1:1/"))
    for send_one in (rpc.call, rpc.notify):
        with pytest.raises(ValueError, match="'x': give parameters by position or by name"):
            send_one("x", 1, a=1)


@pytest.mark.parametrize("name", ["taken", "rpc.discover"])
def test_a_name_that_is_taken_or_reserved_is_refused(name: str) -> None:
    rpc = JsonRpc(WebSocketApp("ws://127.0.0.1:1/"))
    rpc.method("taken")(lambda: None)
    with pytest.raises(ValueError, match=name):
        rpc.method(name)
