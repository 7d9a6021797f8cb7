"""Texts kept in UTF-8: validated when they arrive, decoded on first use. Both twins pass the tests."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lochws.codec import Codec
from lochws.errors import CriticalProtocolError
from lochws.events import Binary, Event, Text, _EncodedText, content_of, text_of, use_codec
from lochws.protocol import compiled
from lochws.protocol.deflate import DeflateParameters, Inflater
from lochws.protocol.frames import Opcode
from lochws.protocol.payload import is_utf8_python
from lochws.protocol.receiver import Receiver
from lochws.protocol.scanning import scan_python

from ..support.wire import Inflating, frame

SCANS = [scan_python] if compiled.twins is None else [scan_python, compiled.twins.scan]
CHECKS = [is_utf8_python] if compiled.twins is None else [is_utf8_python, compiled.twins.is_utf8]
IDS = ["python", "compiled"][: len(SCANS)]


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("is_utf8", CHECKS, ids=IDS)
class TestValidation:
    @given(before=st.text(max_size=20), data=st.binary(max_size=6), after=st.text(max_size=20))
    def test_it_agrees_with_pythons_decoder(self, is_utf8: Any, before: str, data: bytes, after: str) -> None:
        data = before.encode() + data + after.encode()
        assert is_utf8(data) is is_text(data)

    def test_it_agrees_on_the_first_two_bytes_of_every_character(self, is_utf8: Any) -> None:
        for first in range(0x80, 0x100):
            for second in range(0x100):
                for tail in (b"", b"\x80", b"\x80\x80", b"\x80\x80\x80"):
                    data = bytes((first, second)) + tail
                    assert is_utf8(data) is is_text(data), data


@pytest.mark.parametrize("scan", SCANS, ids=IDS)
class TestScan:
    def test_events_keep_the_bytes_and_decode_them_on_first_use(self, scan: Any) -> None:
        data = frame(Opcode.TEXT, "größer".encode()) + frame(Opcode.BINARY, b"\xff")
        events: list[Any] = []
        assert scan(data, 0, 100, events, None, True) == len(data)
        assert type(events[0]) is _EncodedText
        assert content_of(events[0]) == events[0].data == "größer".encode()
        assert events[0].data is events[0].data
        assert events[0].text is events[0].text
        assert (events[0].text, events[1].data) == ("größer", b"\xff")

    def test_invalid_utf_8_is_left_to_the_caller(self, scan: Any) -> None:
        data = frame(Opcode.TEXT, b"fine") + frame(Opcode.TEXT, b"\xed\xa0\x80")
        events: list[Event] = []
        assert scan(data, 0, 100, events, None, True) == len(frame(Opcode.TEXT, b"fine"))
        assert len(events) == 1

    def test_inflated_texts_are_bytes_and_validated(self, scan: Any) -> None:
        data = bytes([0xC1, 1]) + b"x"
        events: list[Any] = []
        scan(data, 0, 100, events, Inflating(lambda payload, limit: "é".encode()), True)
        assert content_of(events[0]) == "é".encode()
        with pytest.raises(UnicodeDecodeError):
            scan(data, 0, 100, events, Inflating(lambda payload, limit: b"\xff"), True)


@st.composite
def frames_of(draw: st.DrawFn, data: bytes) -> bytes:
    """Return a text message in any fragments, with a ping between some of them."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    wire = b""
    for number, part in enumerate(parts):
        opcode = Opcode.CONTINUATION if number else Opcode.TEXT
        is_last = number == len(parts) - 1
        wire += bytes([opcode | (0x80 if is_last else 0), len(part)]) + part
        if not is_last and draw(st.booleans()):
            wire += frame(Opcode.PING, b"p")
    return wire


def received(receiver: Receiver, wire: bytes, sizes: list[int]) -> list[Event]:
    events: list[Event] = []
    position = 0
    for size in [*sizes, len(wire)]:
        events += receiver.receive(wire[position : position + size])
        position += size
    return events


class TestReceiver:
    @given(data=st.data(), content=st.text(max_size=25) | st.binary(max_size=60))
    @example(data=None, content=b"\xe2\x82").via("a text that ends within a character")
    def test_any_split_gives_the_same_text_or_the_same_refusal_as_str(
        self, data: st.DataObject | None, content: str | bytes
    ) -> None:
        message = content.encode() if isinstance(content, str) else content
        wire = frame(Opcode.TEXT, message) if data is None else data.draw(frames_of(message))
        sizes = [] if data is None else data.draw(st.lists(st.integers(0, 20), max_size=6))
        as_str, as_bytes = Receiver(None), Receiver(None, text_as_bytes=True)
        texts, encoded = received(as_str, wire, sizes), received(as_bytes, wire, sizes)
        assert repr(texts) == repr(encoded)
        assert repr(as_str.failure) == repr(as_bytes.failure)
        found = [content_of(event) for event in encoded if isinstance(event, Text)]
        assert found == ([message] if is_text(message) else [])
        if not is_text(message):
            assert isinstance(as_bytes.failure, CriticalProtocolError)
            assert as_bytes.failure.close_code == 1007

    def test_a_compressed_text_stays_bytes(self) -> None:
        # RFC 7692 section 7.2.3.1: "Hello", compressed
        receiver = Receiver(None, Inflater(DeflateParameters()), text_as_bytes=True)
        [event] = receiver.receive(bytes.fromhex("c107f248cdc9c90700"))
        assert isinstance(event, Text)
        assert content_of(event) == b"Hello"


class TestEvent:
    def test_a_str_is_encoded_when_data_is_read(self) -> None:
        assert Text("é").data == "é".encode()
        assert content_of(Text("é")) == "é"

    def test_json_gets_bytes_from_a_codec_and_str_without_one(self) -> None:
        seen: list[Any] = []
        event, empty, plain = text_of(b"[1]"), text_of(b""), text_of(b"1\x00")
        codec = Codec(lambda message: seen.append(message) or 5, str)
        use_codec([event, empty], codec)
        assert (event.json, event.json, empty.json) == (5, 5, 5)
        assert seen == [b"[1]", b""]
        with pytest.raises(ValueError, match="Extra data"):
            plain.json  # noqa: B018  json.loads would take these bytes for UTF-16

    def test_the_class_of_ordinary_texts_has_nothing_that_slows_its_attributes_down(self) -> None:
        assert not hasattr(Text, "__getattr__")
        assert not hasattr(Text("a"), "__dict__")

    def test_a_copy_has_the_same_content(self) -> None:
        assert copy.copy(text_of(b"a")).text == copy.copy(Text("a")).text == "a"

    def test_an_attribute_that_does_not_exist_is_named(self) -> None:
        for event in (Text("a"), text_of(b"a"), Text.__new__(Text)):
            with pytest.raises(AttributeError, match="'Text' object has no attribute 'txt'"):
                event.txt  # type: ignore[attr-defined]  # noqa: B018  that is the test
        with pytest.raises(AttributeError, match="no attribute 'text'"):
            Text.__new__(Text).text  # noqa: B018  it has no content
        assert not hasattr(Binary(b""), "text")
