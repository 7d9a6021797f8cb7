"""Tests of Codec by itself, and of the options `codec` and `encoder`."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import lochws
from lochws import Codec, WebSocket, WebSocketApp, events
from lochws.codec import JSON

URL = "ws://localhost"
E = "é".encode()


async def coroutine(_: object) -> str:
    return ""


def generator(_: object) -> Any:
    yield ""


class AsyncCall:
    async def __call__(self, _: object) -> str:
        return ""


def no_arguments() -> str:
    return ""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (None, "=None: expected a function from "), ("json", "='json': expected a function from "),
        (coroutine, ": coroutine is a coroutine function"),
        (generator, ": generator is a generator function"),
        (AsyncCall(), ": AsyncCall is a coroutine function"),
        (no_arguments, r": no_arguments\(\) -> 'str' cannot be called with one argument"),
    ],
)
@pytest.mark.parametrize(
    ("name", "make"),
    [("loads", lambda function: Codec(function, str)), ("dumps", lambda function: Codec(str, function))],
)
def test_a_function_that_cannot_serve_is_refused_with_its_name(
    name: str, make: Callable[[Any], object], function: Any, words: str
) -> None:
    with pytest.raises(TypeError, match=f"^Codec: {name}{words}"):
        make(function)


def test_an_encoder_that_takes_no_argument_is_refused_with_its_name() -> None:
    with pytest.raises(TypeError, match=r"^encoder: .*no_arguments\(\).* cannot be called with one argument"):
        WebSocketApp(URL, encoder=no_arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loads", "dumps"),
    [(json.loads, json.dumps), (partial(json.loads, parse_float=str), json.JSONEncoder().encode), (int, str)],
)
def test_functions_methods_partials_and_classes_serve(loads: Any, dumps: Any) -> None:
    codec = Codec(loads, dumps)
    assert (codec.loads, codec.dumps, codec.binary) == (loads, dumps, False)


def test_binary_is_true_or_false() -> None:
    with pytest.raises(TypeError, match="Codec: binary=1: expected True or False"):
        Codec(json.loads, json.dumps, binary=1)  # type: ignore[arg-type]


def test_its_repr_names_the_functions() -> None:
    assert repr(Codec(json.loads, json.dumps)) == "Codec(json.loads, json.dumps)"
    assert repr(Codec(json.loads, str.encode, binary=True)) == "Codec(json.loads, str.encode, binary=True)"


@pytest.mark.parametrize("kind", [WebSocket, WebSocketApp])
class TestTheOption:
    def test_something_else_is_refused_and_an_example_given(self, kind: type[WebSocket]) -> None:
        with pytest.raises(TypeError, match=r"codec=<module 'json'.*Codec\(json\.loads, json\.dumps\)"):
            kind(URL, codec=json)  # type: ignore[arg-type]

    def test_codec_and_encoder_exclude_each_other(self, kind: type[WebSocket]) -> None:
        with pytest.raises(ValueError, match="encoder and codec: the codec encodes already"):
            kind(URL, codec=Codec(json.loads, json.dumps), encoder=str)

    def test_without_it_messages_are_json(self, kind: type[WebSocket]) -> None:
        assert kind(URL)._lochws.options.codec is JSON

    def test_an_encoder_is_a_codec_that_parses_json(self, kind: type[WebSocket]) -> None:
        codec = kind(URL, encoder=str)._lochws.options.codec
        assert (codec.loads, codec.dumps, codec.binary) == (json.loads, str, False)

    def test_a_websocket_with_the_same_options_has_the_same_codec(self, kind: type[WebSocket]) -> None:
        for options in ({"codec": Codec(int, str)}, {"encoder": str}, {}):
            websocket = kind(URL, **options)  # type: ignore[arg-type]
            copy = websocket._lochws.as_websocket()
            assert copy._lochws.options.codec is websocket._lochws.options.codec


def test_hooks_tell_handlers_the_codec() -> None:
    codec = Codec(int, str)
    assert WebSocketApp(URL, codec=codec).hooks.codec is codec
    assert WebSocketApp(URL).hooks.codec is JSON


class TestEncoding:
    @pytest.mark.parametrize("returned", ["é", E, bytearray(E), memoryview(E)])
    def test_a_codec_of_texts_returns_str_or_utf_8(self, returned: Any) -> None:
        assert Codec(str, lambda _: returned).encode(5) == "é"

    @pytest.mark.parametrize("returned", [b"\xff", bytearray(b"\xff"), memoryview(b"\xff")])
    def test_a_codec_of_binary_messages_returns_bytes(self, returned: Any) -> None:
        encoded = Codec(str, lambda _: returned, binary=True).encode(5)
        assert (type(encoded), encoded) == (bytes, b"\xff")

    def test_a_text_that_is_not_utf_8_is_refused_with_advice(self) -> None:
        with pytest.raises(ValueError, match=r"not valid UTF-8 \(at position 1\).*Codec\(…, binary=True\)"):
            Codec(str, lambda _: b"a\xff").encode(5)

    @pytest.mark.parametrize("returned", [None, 5, ["a"]])
    def test_something_else_is_refused(self, returned: Any) -> None:
        with pytest.raises(TypeError, match=f"returned {type(returned).__name__}: expected a str or UTF"):
            Codec(str, lambda _: returned).encode(5)

    @pytest.mark.parametrize("returned", [None, "text"])
    def test_a_codec_of_binary_messages_must_return_bytes(self, returned: Any) -> None:
        words = f"returned {type(returned).__name__}: a codec with binary=True expects bytes"
        with pytest.raises(TypeError, match=words):
            Codec(str, lambda _: returned, binary=True).encode(5)


class Counted:
    """Counts the calls of a decoder."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def __call__(self, message: Any) -> object:
        self.calls.append(message)
        return json.loads(message)


class TestDecoding:
    """`Text.json` and `Binary.json`."""

    @pytest.mark.parametrize(
        ("event", "binary"), [(events.Text("[1]"), False), (events.Binary(b"[1]"), True)]
    )
    def test_a_message_is_decoded_once_and_not_before_it_is_asked_for(self, event: Any, binary: bool) -> None:
        loads = Counted()
        events.use_codec([event], Codec(loads, str, binary=binary))
        assert not loads.calls
        assert event.json == [1]
        assert event.json is event.json
        assert len(loads.calls) == 1

    def test_a_codec_decodes_only_messages_of_its_kind(self) -> None:
        text, binary, ping = events.Text("1"), events.Binary(b"1"), events.Ping(b"1")
        events.use_codec([text, binary, ping], Codec(lambda _: "decoded", str))
        assert (text.json, binary.json) == ("decoded", 1)
        text, binary = events.Text("1"), events.Binary(b"1")
        events.use_codec([text, binary, ping], Codec(lambda _: "decoded", str, binary=True))
        assert (text.json, binary.json) == (1, "decoded")

    def test_a_binary_message_is_json_without_a_codec(self) -> None:
        assert events.Binary(b'{"a": 1}').json == {"a": 1}
        with pytest.raises(ValueError, match="invalid start byte"):
            _ = events.Binary(b"\xff").json

    def test_what_the_decoder_raises_reaches_the_caller_each_time(self) -> None:
        def fail(_: object) -> None:
            raise LookupError("what it raises")

        event = events.Text("1")
        events.use_codec([event], Codec(fail, str))
        for _ in range(2):
            with pytest.raises(LookupError, match="what it raises"):
                _ = event.json

    def test_none_is_kept_too(self) -> None:
        returned = iter([None, 1])
        event = events.Text("1")
        events.use_codec([event], Codec(lambda _: next(returned), str))
        assert event.json is None
        assert event.json is None

    def test_the_object_or_the_codec_goes_to_another_process_with_the_event(self) -> None:
        event = events.Text("5")
        events.use_codec([event], Codec(int, str))
        assert pickle.loads(pickle.dumps(event)).json == 5
        decoded = events.Text("5")
        events.use_codec([decoded], Codec(lambda text: int(text) + 1, str))  # a lambda cannot be pickled
        assert decoded.json == 6
        assert pickle.loads(pickle.dumps(decoded)).json == 6


def test_the_class_is_public() -> None:
    assert lochws.Codec is Codec
