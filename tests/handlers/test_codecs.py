"""The ready-made handlers in the formats of other libraries: what they send, and what they understand."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import orjson
import pytest

from lochws import Codec, WebSocketApp, events
from lochws.handlers.heartbeat import Answer, Every
from lochws.handlers.jsonrpc import JsonRpc, RpcError
from lochws.handlers.replies import Replies
from lochws.handlers.subscriptions import Step, Subscriptions
from lochws.testing import VirtualClock

from ..support.apps import opened
from ..support.peer import BINARY, CLOSE, TEXT, Link, StartPeer
from ..support.seen import PATIENCE, Noting, eventually

PACK = Codec(msgpack.unpackb, msgpack.packb, binary=True)
FAST = Codec(orjson.loads, orjson.dumps)
CODECS = pytest.mark.parametrize("codec", [FAST, PACK], ids=["orjson", "msgpack"])


def talking(
    codec: Codec, answer: Callable[[Any], list[Any]], first: tuple[Any, ...] = ()
) -> Callable[[Link], None]:
    """A script that speaks the codec's format in its kind of message, and refuses any other."""

    def send(link: Link, thing: Any) -> None:
        message = codec.encode(thing)
        link.send_frame(*((BINARY, message) if isinstance(message, bytes) else (TEXT, message.encode())))

    def script(link: Link) -> None:
        link.accept()
        for thing in first:
            send(link, thing)
        while True:
            opcode, payload = link.read_frame()
            if opcode == CLOSE:
                link.send_frame(CLOSE, payload)
                return
            if opcode in (TEXT, BINARY):
                assert opcode == (BINARY if codec.binary else TEXT)
                for thing in answer(codec.loads(payload)):
                    send(link, thing)

    return script


@CODECS
class TestReplies:
    def test_numbered_requests_and_those_with_a_key_are_answered(
        self, start_peer: StartPeer, codec: Codec
    ) -> None:
        app = WebSocketApp(start_peer(talking(codec, lambda asked: [{"other": 1}, asked])).url, codec=codec)
        rpc = Replies(app)
        with opened(app):
            assert rpc.request({"op": "time"}).result(PATIENCE) == {"op": "time", "id": 1}
            assert rpc.request({"op": "time"}).result(PATIENCE) == {"op": "time", "id": 2}
            assert rpc.request({"id": "mine"}).result(PATIENCE) == {"id": "mine"}

    def test_json_rpc_works_in_both_directions(self, start_peer: StartPeer, codec: Codec) -> None:
        def answer(asked: Any) -> list[Any]:
            if "method" not in asked:
                results.append(asked)
                return []
            if asked["method"] == "fail":
                return [{"jsonrpc": "2.0", "id": asked["id"], "error": {"code": 5, "message": "no"}}]
            return [
                {"jsonrpc": "2.0", "id": 7, "method": "double", "params": [4]},
                {"jsonrpc": "2.0", "id": asked["id"], "result": sum(asked["params"])},
            ]

        results: list[Any] = []
        app = WebSocketApp(start_peer(talking(codec, answer)).url, codec=codec)
        rpc = JsonRpc(app)
        rpc.method("double")(lambda number: number * 2)
        with opened(app):
            assert rpc.call("add", 1, 2).result(PATIENCE) == 3
            with pytest.raises(RpcError, match="no"):
                rpc.call("fail").result(PATIENCE)
            eventually(lambda: results == [{"jsonrpc": "2.0", "id": 7, "result": 8}])


@CODECS
def test_a_session_and_its_heartbeats_use_the_codec(start_peer: StartPeer, codec: Codec) -> None:
    seen: list[Any] = []

    def answer(asked: Any) -> list[Any]:
        seen.append(asked)
        return {
            "login": [{"event": "noise"}, {"event": "login", "user": {"id": 5, "name": "x"}}],
            "subscribe": [["subscribed", 1]],
            "ping": [{"op": "pong"}],
        }.get(asked["op"], [])

    script = talking(codec, answer, first=({"op": "server ping"},))
    app = Noting(start_peer(script).url, codec=codec)
    subs = Subscriptions(app, [
        Step({"op": "login"}, expect={"event": "login", "user": {"id": 5}}),
        Step(lambda: {"op": "subscribe"}, expect=["subscribed"]),
    ])
    Answer(app, {"op": "server ping"}, {"op": "server pong"})
    every = Every(app, 0.02, {"op": "ping"}, expect={"op": "pong"}, missing=10_000)
    app.start()
    assert subs.wait_session_ready(PATIENCE)
    eventually(lambda: sum(asked == {"op": "ping"} for asked in seen) >= 4)
    eventually(lambda: every.unanswered <= 1)
    subs.send({"op": "any time"})
    subs.remove(subs.steps[0], {"op": "log out"})
    eventually(lambda: {"op": "log out"} in seen)
    assert {"op": "any time"} in seen
    assert {"op": "server pong"} in seen
    assert app.stop(PATIENCE)


def test_a_step_may_contain_what_the_codec_of_its_app_can_express() -> None:
    step = Step({"token": b"\xff"})
    Subscriptions(WebSocketApp("ws://localhost", codec=PACK), [step])
    with pytest.raises(TypeError, match="cannot be written as JSON: Object of type bytes"):
        Subscriptions(WebSocketApp("ws://localhost"), [step])
    with pytest.raises(TypeError, match=r"cannot be encoded by Codec\(orjson\.loads, orjson\.dumps\)"):
        Subscriptions(WebSocketApp("ws://localhost", codec=FAST), [step])
    with pytest.raises(TypeError, match=r"message=.*cannot be written as JSON"):
        Subscriptions(WebSocketApp("ws://localhost")).remove("any", {"token": b"\xff"})
    Every(WebSocketApp("ws://localhost", codec=PACK), 1, {"token": b"\xff"})


class Request(msgspec.Struct, tag="request"):
    id: int
    what: str


class Result(msgspec.Struct, tag="result"):
    id: int
    value: str


def test_typed_requests_and_replies_are_matched_by_attribute(start_peer: StartPeer) -> None:
    decode = msgspec.json.Decoder(Request | Result).decode
    codec = Codec(decode, msgspec.json.encode)

    def answer(asked: Any) -> list[Any]:
        return [{"not": "typed"}, Result(asked.id, asked.what.upper())]

    app = WebSocketApp(start_peer(talking(codec, answer)).url, codec=codec)
    rpc = Replies[Any, Any](app)
    with opened(app):
        assert rpc.request(Request(5, "a")).result(PATIENCE) == Result(5, "A")
        with pytest.raises(TypeError, match="expected a mapping"):
            rpc.request("a text")


def test_what_a_decoder_raises_counts_as_unrelated_and_is_named_when_the_reply_is_missing(
    start_peer: StartPeer, ws_clock: VirtualClock
) -> None:
    def decode(_message: str) -> object:
        raise LookupError("in the decoder")

    script = talking(Codec(orjson.loads, orjson.dumps), lambda asked: [asked])
    app = Noting(start_peer(script).url, codec=Codec(decode, orjson.dumps))
    rpc = Replies(app)
    with opened(app, poll=0, ping_rate=0):
        reply = rpc.request({"a": 1}, timeout=30)
        app.wait_for("text")
        ws_clock.advance(30)
        with pytest.raises(TimeoutError, match="decode raised LookupError"):
            reply.result(PATIENCE)


def test_packets_of_a_stream_are_decoded_by_a_codec_of_binary_messages(start_peer: StartPeer) -> None:
    def split(data: bytes) -> int | None:
        return 4 + struct.unpack(">I", data[:4])[0] if len(data) >= 4 else None

    def packet(thing: Any) -> bytes:
        data = msgpack.packb(thing)
        return struct.pack(">I", len(data)) + data

    def script(link: Link) -> None:
        link.accept()
        link.read_frame()
        both = packet({"event": "noise"}) + packet({"event": "login"})
        link.send_frame(BINARY, both[:7])
        link.send_frame(BINARY, both[7:])
        link.wait_for_end()

    codec = Codec(lambda data: msgpack.unpackb(data[4:]), packet, binary=True)
    app = WebSocketApp(start_peer(script).url, codec=codec)
    subs = Subscriptions(app, [Step({"op": "login"}, expect={"event": "login"})], split=split)
    app.start(close_timeout=0.1)
    assert subs.wait_session_ready(PATIENCE)
    app.force_disconnect()
    assert app.stop(PATIENCE)


def test_without_a_codec_a_binary_message_is_not_compared_with_a_mapping(start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        link.accept()
        link.read_frame()
        link.send_frame(BINARY, b'{"event": "login", "n": 1}')
        link.send_frame(TEXT, b'{"event": "login", "n": 2}')
        link.wait_for_end()

    def challenge(answer: events.Text) -> str:
        answers.append(answer.json["n"])
        return "response"

    answers: list[int] = []
    app = WebSocketApp(start_peer(script).url)
    Subscriptions(app, [Step("login", expect={"event": "login"}), Step(challenge)])
    app.start(close_timeout=0.1)
    assert app.wait_ready(PATIENCE)
    assert answers == [2]
    app.force_disconnect()
    assert app.stop(PATIENCE)
