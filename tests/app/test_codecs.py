"""Texts sent as bytes, and messages in formats of other libraries, over real connections."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws import Codec, Deflate, WebSocket, WebSocketApp, events
from lochws.errors import WebSocketUnavailable
from lochws.protocol.sender import as_text

from ..support.apps import echo, opened
from ..support.peer import BINARY, CLOSE, TEXT, Link, StartPeer
from ..support.scripts import answer_close
from ..support.seen import PATIENCE, Noting, eventually


class Ticker(msgspec.Struct):
    product: str
    price: float


#: The codecs by the library's name, an object that they decode as it was encoded, and its message.
CODECS: dict[str, tuple[Codec, Any, str | bytes]] = {
    "orjson": (Codec(orjson.loads, orjson.dumps), {"é": [1, None]}, '{"é":[1,null]}'),
    "msgspec": (
        Codec(msgspec.json.Decoder(Ticker).decode, msgspec.json.encode),
        Ticker("BTC", 1.5), '{"product":"BTC","price":1.5}',
    ),
    "msgpack": (Codec(msgpack.unpackb, msgpack.packb, binary=True), {"a": b"\xff"}, b"\x81\xa1a\xc4\x01\xff"),
}


def recorded(frames: list[tuple[int, bytes]]) -> Callable[[Link], None]:
    def script(link: Link) -> None:
        link.accept()
        frames.extend(answer_close(link))

    return script


UTF_8 = "é".encode()


class TestTextAsBytes:
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    @pytest.mark.parametrize("text", ["", "ascii", "größer \U0001f600", "é" * 200_000, "a" * 400_000])
    @pytest.mark.parametrize("compress", [False, Deflate(threshold=1000)])
    def test_the_same_text_arrives(
        self, start_peer: StartPeer, kind: type, text: str, compress: bool | Deflate
    ) -> None:
        frames: list[tuple[int, bytes]] = []
        app = WebSocketApp(start_peer(recorded(frames)).url, compress=compress)
        with opened(app, ping_rate=0):
            assert app.send_text(kind(text.encode()))
            assert app.send_text(kind(text.encode()), compress=False)
            assert app.send_text(text)
        assert frames == [(TEXT, text.encode())] * 3

    def test_a_mutable_object_is_copied_at_once(self, start_peer: StartPeer) -> None:
        frames: list[tuple[int, bytes]] = []
        with opened(WebSocketApp(start_peer(recorded(frames)).url), ping_rate=0) as app, app.corked():
            data = bytearray("größer".encode())
            app.send_text(data)
            data[:] = b"\xff" * len(data)
        assert frames == [(TEXT, "größer".encode())]

    def test_send_many_sends_bytes_as_texts_if_asked(self, start_peer: StartPeer) -> None:
        frames: list[tuple[int, bytes]] = []
        with opened(WebSocketApp(start_peer(recorded(frames)).url), ping_rate=0) as app:
            app.send_many([UTF_8, "text", bytearray(UTF_8), memoryview(UTF_8)], text=True)
            app.send_many([UTF_8, "text"])
            with pytest.raises(ValueError, match=r"send_many: b'\\xff' is not valid UTF-8"):
                app.send_many(["not sent", b"\xff"], text=True)
            with pytest.raises(TypeError, match="text=1: expected True or False"):
                app.send_many(["not sent"], text=1)  # type: ignore[arg-type]
        assert frames == [
            (TEXT, UTF_8), (TEXT, b"text"), (TEXT, UTF_8), (TEXT, UTF_8), (BINARY, UTF_8), (TEXT, b"text"),
        ]

    def test_a_gate_sends_bytes_as_a_text_if_asked(self, start_peer: StartPeer) -> None:
        frames: list[tuple[int, bytes]] = []
        app = WebSocketApp(start_peer(recorded(frames)).url)
        gate = app.hooks.gate()

        @app.on("ready")
        def log_in(_: events.Ready) -> None:
            with pytest.raises(WebSocketUnavailable, match="gate"):
                app.send_text(UTF_8)
            with pytest.raises(ValueError, match=r"Gate\.send: b'\\xff' is not valid UTF-8"):
                gate.send(b"\xff", text=True)
            gate.send(UTF_8, text=True)
            gate.send(UTF_8)
            gate.open()

        with opened(app, ping_rate=0):
            pass
        assert frames == [(TEXT, UTF_8), (BINARY, UTF_8)]

    def test_on_sent_and_unsent_see_a_str(self, start_peer: StartPeer) -> None:
        sent: list[object] = []
        with opened(WebSocketApp(start_peer(echo).url)) as app:
            app.on("sent")(sent.extend)
            app.send_text(UTF_8)
            eventually(lambda: "é" in sent)

    def test_a_long_message_is_not_shown_whole_in_the_error(self) -> None:
        with pytest.raises(ValueError, match=r"is not valid UTF-8 \(.* position 100000\)") as raised:
            WebSocket("ws://localhost").send_text(b"a" * 100_000 + b"\xff")
        assert len(str(raised.value)) < 200

    @given(st.binary(max_size=12) | st.text(max_size=4).map(str.encode))
    def test_exactly_the_bytes_that_python_decodes_are_accepted(self, data: bytes) -> None:
        try:
            expected = data.decode()
        except UnicodeDecodeError:
            with pytest.raises(ValueError, match="is not valid UTF-8"):
                as_text("send_text", data)
        else:
            assert as_text("send_text", data) == expected


@pytest.mark.parametrize("name", CODECS)
class TestCodecs:
    def test_send_json_sends_what_the_codec_makes(self, start_peer: StartPeer, name: str) -> None:
        codec, thing, message = CODECS[name]
        frames: list[tuple[int, bytes]] = []
        with opened(WebSocketApp(start_peer(recorded(frames)).url, codec=codec), ping_rate=0) as app:
            assert app.send_json(thing)
            assert app.send_json(thing, compress=False)
            assert app.send_json([1], encoder=json.dumps)
        expected = (BINARY, message) if isinstance(message, bytes) else (TEXT, message.encode())
        assert frames == [expected, expected, (TEXT, b"[1]")]

    def test_an_app_and_a_loop_decode_what_they_receive(self, start_peer: StartPeer, name: str) -> None:
        codec, thing, message = CODECS[name]

        def script(link: Link) -> None:
            link.accept()
            if isinstance(message, bytes):
                link.send_frame(BINARY, message)
            else:
                data = message.encode()
                link.send_frame(TEXT, data[:5], fin=False)
                link.send_frame(0, data[5:])
                link.send_frame(TEXT, data)
            link.send_frame(CLOSE, b"\x03\xe8")
            link.read_frame()  # its echo

        seen: list[Any] = [
            event.json for event in WebSocket(start_peer(script).url, codec=codec)
            if isinstance(event, (events.Text, events.Binary))
        ]
        app = WebSocketApp(start_peer(script).url, codec=codec)
        app.on("text", "binary")(lambda event: seen.append(event.json))
        app.start(persist=False)
        assert app.wait_closed(PATIENCE)
        app.join(PATIENCE)
        assert seen == [thing] * (2 if isinstance(message, bytes) else 4)


def test_the_messages_of_a_history_are_decoded_by_the_codec_too(start_peer: StartPeer) -> None:
    app = Noting(start_peer(echo).url, codec=Codec(lambda text: [text], str), history=5)
    with opened(app):
        app.send_text("a")
        assert app.wait_for("text").json == ["a"]
        app.reconnect()
        ended = app.wait_for("disconnected")
    assert ("received", "text") in [(entry.direction, entry.name) for entry in ended.history]


def test_send_json_with_a_codec_of_binary_messages_uses_an_overridden_send_binary() -> None:
    class App(WebSocketApp):
        def send_binary(self, data: Any) -> bool:  # type: ignore[override]
            sent.append(data)
            return True

    sent: list[object] = []
    App("ws://localhost", codec=CODECS["msgpack"][0]).send_json(a=1)
    assert sent == [b"\x81\xa1a\x01"]


def test_an_encoder_that_returns_something_else_is_named() -> None:
    app = WebSocketApp("ws://localhost")
    with pytest.raises(TypeError, match=r"returned list: expected a str or UTF-8 bytes"):
        app.send_json(1, encoder=lambda value: [value])  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match=r"msgpack.*packb returned bytes that are not valid UTF-8"):
        app.send_json({"a": b"\xff"}, encoder=msgpack.packb)
