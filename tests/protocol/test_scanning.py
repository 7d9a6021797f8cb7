"""Scanning for whole messages. Both twins pass the same tests."""

from __future__ import annotations

import gc
import sys
import weakref
from itertools import pairwise
from time import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lochws.events import Binary, Text, _EncodedText
from lochws.protocol import compiled, pump
from lochws.protocol.frames import Opcode
from lochws.protocol.receiver import Receiver
from lochws.protocol.scanning import scan_python

from ..support.wire import SIZES, Inflating, frame

LIMIT = 1 << 20
TWINS = [scan_python] if compiled.twins is None else [scan_python, compiled.twins.scan]


def text(content: bytes) -> bytes:
    return frame(Opcode.TEXT, content)


def contents(events):
    return [event.text if isinstance(event, Text) else event.data for event in events]


@pytest.fixture(params=TWINS, ids=["python", "compiled"][: len(TWINS)])
def scan(request):
    return request.param


def test_the_compiled_twin_was_built_where_a_compiler_is():
    if compiled.twins is None:
        pytest.skip("built without a compiler")
    assert compiled.twins.scan.__name__ == "scan"


class TestTwins:
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    @pytest.mark.parametrize("size", SIZES)
    def test_messages_of_any_size(self, scan, kind, size):
        data = kind(frame(Opcode.TEXT, b"x" * size) + frame(Opcode.BINARY, b"\xff" * size))
        events = []
        assert scan(data, 0, LIMIT, events) == len(data)
        assert [type(event) for event in events] == [Text, Binary]
        assert contents(events) == ["x" * size, b"\xff" * size]

    def test_it_begins_where_it_is_told_and_appends(self, scan):
        data = b"junk" + text(b"a") + text(b"b")
        events = [Text("before")]
        assert scan(data, 4, LIMIT, events) == len(data)
        assert contents(events) == ["before", "a", "b"]

    @pytest.mark.parametrize("kind", [bytes, memoryview])
    @pytest.mark.parametrize("content", ["", "z"])
    def test_the_receiver_takes_a_tiny_frame_behind_much(self, scan, kind, content, monkeypatch):
        monkeypatch.setattr(pump, "_Pump", pump.PumpPython)
        monkeypatch.setattr(pump, "scan", scan)
        receiver = Receiver(None)
        large = "x" * (1 << 16)
        received = receiver.receive(kind(text(large.encode()) + text(content.encode())))
        assert contents(received) == [large, content]
        assert receiver.failure is None

    def test_texts_of_one_scan_have_the_time_of_their_arrival(self, scan):
        data = text(b"a") + text(b"b")
        for _ in range(2_000):  # a time that is rounded in another way is too late once in 100 times
            before, events = time(), []
            scan(data, 0, LIMIT, events)
            after = time()
            assert before <= events[0].received_time <= events[1].received_time <= after

    def test_nothing_is_nothing(self, scan):
        events = []
        assert scan(b"", 0, LIMIT, events) == 0
        assert scan(b"\x81", 1, LIMIT, events) == 1
        assert events == []

    @pytest.mark.parametrize(
        "other",
        [
            frame(Opcode.TEXT, b"part", fin=False), frame(Opcode.CONTINUATION, b"part"),
            frame(Opcode.TEXT, b"x", rsv=4), frame(Opcode.TEXT, b"x", rsv=2), frame(Opcode.TEXT, b"x", rsv=1),
            frame(Opcode.PING), frame(Opcode.PONG, b"x"), frame(Opcode.CLOSE), frame(3, b"x"), frame(11),
            frame(Opcode.TEXT, b"x", mask=True), frame(Opcode.TEXT, b"x" * 200, mask=True),
            frame(Opcode.TEXT, b"\xff"), frame(Opcode.TEXT, b"\xed\xa0\x80"), frame(Opcode.TEXT, b"\xc3"),
            b"\x82\x7f" + (2**63).to_bytes(8, "big") + b"x" * 20, b"\x82\x7f" + b"\xff" * 8 + b"x" * 20,
        ],
    )
    def test_other_frames_are_left_and_all_behind_them(self, scan, other):
        before = text(b"one") + text(b"two")
        events = []
        assert scan(before + other + text(b"three"), 0, LIMIT, events) == len(before)
        assert contents(events) == ["one", "two"]

    @pytest.mark.parametrize("head", [b"\x81\x7e\0\5", b"\x81\x7f\0\0\0\0\0\0\0\5"])
    def test_a_length_in_a_longer_form_than_needed_is_taken(self, scan, head):
        events = []
        data = text(b"one") + head + b"hello" + text(b"two")
        assert scan(data, 0, LIMIT, events) == len(data)
        assert contents(events) == ["one", "hello", "two"]
        for end in range(len(text(b"one")), len(data) - len(text(b"two"))):
            assert scan(data[:end], 0, LIMIT, []) == len(text(b"one"))

    @pytest.mark.parametrize("size", SIZES)
    def test_an_incomplete_frame_is_left(self, scan, size):
        before, last = text(b"whole"), frame(Opcode.BINARY, b"x" * size)
        cuts = {0, 1, 2, 3, len(last) // 2, len(last) - 1} & set(range(len(last)))
        for cut in cuts:
            events = []
            assert scan(before + last[:cut], 0, LIMIT, events) == len(before)
            assert contents(events) == ["whole"]

    def test_a_message_of_just_the_limit_is_taken_and_one_byte_more_is_left(self, scan):
        events = []
        fits = frame(Opcode.BINARY, b"x" * 300)
        assert scan(fits + frame(Opcode.BINARY, b"x" * 301), 0, 300, events) == len(fits)
        assert len(events) == 1

    def test_events_are_as_if_made_by_their_classes(self, scan):
        events = []
        scan(text(b'{"a": [1]}') + frame(Opcode.BINARY, b"b"), 0, LIMIT, events)
        assert events[0].json == {"a": [1]}
        assert events[0].json is events[0].json
        made = Text("x")
        assert 0 <= made.received_time - events[0].received_time < 60
        assert repr(events[1]) == "Binary(data=b'b')"
        with pytest.raises(AttributeError):
            events[0].misspelt = 1

    @pytest.mark.parametrize("as_bytes", [False, True])
    def test_times_do_not_go_back_within_a_batch_of_all_kinds(self, scan, as_bytes):
        kinds = [frame(opcode, b"x", rsv=rsv) for rsv in (0, 4) for opcode in (Opcode.BINARY, Opcode.TEXT)]
        events = []
        scan(b"".join(kinds * 50), 0, LIMIT, events, Inflating(lambda payload, limit: payload), as_bytes)
        assert len(events) == 200
        assert all(a.received_time <= b.received_time for a, b in pairwise(events))

    def test_it_keeps_nothing_of_the_buffer(self, scan):
        buffer = bytearray(text(b"abc") + frame(Opcode.BINARY, b"def"))
        events = []
        scan(memoryview(buffer), 0, LIMIT, events)
        buffer[:] = bytes(len(buffer))
        buffer.append(0)  # BufferError if somebody still holds it
        assert contents(events) == ["abc", b"def"]

    @pytest.mark.parametrize("position", [-1, 6, 2**70])
    def test_a_position_outside_of_the_data_takes_nothing(self, scan, position):
        events = []
        if scan is scan_python:
            assert scan(text(b"abc"), max(position, 5), LIMIT, events) == max(position, 5)
        else:
            with pytest.raises((ValueError, OverflowError)):
                scan(text(b"abc"), position, LIMIT, events)
        assert events == []


@pytest.mark.skipif(compiled.twins is None, reason="built without a compiler")
class TestCompiled:
    @pytest.mark.parametrize(
        "arguments", [(), (b"", 0, 1), (b"", 0, 1, ()), ("", 0, 1, []), (b"", "0", 1, []), (b"", 0, None, [])]
    )
    def test_wrong_arguments_are_refused(self, arguments):
        with pytest.raises(TypeError):
            compiled.twins.scan(*arguments)

    def test_classes_without_the_slots_are_refused(self):
        with pytest.raises((AttributeError, TypeError)):
            compiled.twins.configure(str, str, bytes)
        with pytest.raises(TypeError):
            compiled.twins.configure(1, 2, 3)
        compiled.twins.configure(Text, _EncodedText, Binary)

    @pytest.mark.parametrize("base", [Text, _EncodedText, Binary])
    @pytest.mark.parametrize("way", ["scanned", "constructed", "of a subclass"])
    def test_an_event_frees_all_that_it_refers_to(self, base, way):
        class Subclass(base):
            __slots__ = ("__dict__", "__weakref__", "slot")

        class Thing:
            pass

        content = b"content" if base is Binary else "content"
        names = ["received_time", "_json"]
        if way == "scanned":
            wire = frame(Opcode.BINARY if base is Binary else Opcode.TEXT, b"content")
            events = []
            compiled.twins.scan(wire, 0, LIMIT, events, None, base is _EncodedText)
            event = events.pop()
            assert type(event) is base
        elif way == "constructed":
            event = base(content)
        else:
            event = Subclass(content)
            names += ["slot", "other"]
        references = []
        for name in names:
            thing = Thing()
            references.append(weakref.ref(thing))
            setattr(event, name, thing)
        del thing, event
        assert [reference() for reference in references] == [None] * len(names)

    def test_a_flood_leaves_no_object_behind(self):
        data = text(b"x" * 50) * 1000
        for _ in range(3):
            compiled.twins.scan(data, 0, LIMIT, [])
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(20):
            compiled.twins.scan(data, 0, LIMIT, [])
        gc.collect()
        assert abs(len(gc.get_objects()) - before) < 100

    @settings(max_examples=400)
    @given(
        st.lists(
            st.one_of(
                st.text(max_size=200).map(lambda t: text(t.encode())),
                st.binary(max_size=200).map(lambda b: frame(Opcode.BINARY, b)),
                st.binary(max_size=12),
            ),
            max_size=8,
        ),
        st.integers(0, 250),
    )
    def test_both_twins_do_the_same_with_any_bytes(self, parts, limit):
        data = b"".join(parts)
        ours, theirs = [], []
        end = scan_python(data, 0, limit, ours)
        assert compiled.twins.scan(data, 0, limit, theirs) == end
        assert contents(ours) == contents(theirs)
        assert [type(event) for event in ours] == [type(event) for event in theirs]


class TestDeflated:
    """Deflated messages are taken where there is something to inflate them with."""

    STREAM = b"".join([
        text(b"a"), frame(Opcode.TEXT, b"bc", rsv=4), frame(Opcode.BINARY, b"d" * 200, rsv=4), text(b"e"),
    ])

    def test_they_are_left_without_it(self, scan):
        for arguments in ((), (None,)):
            events = []
            assert scan(self.STREAM, 0, LIMIT, events, *arguments) == len(text(b"a"))
            assert contents(events) == ["a"]

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_it_gets_the_payload_and_the_limit(self, scan, kind):
        def inflate(payload, limit):
            assert type(payload) is bytes
            assert limit == LIMIT
            return payload[::-1]

        events = []
        assert scan(kind(self.STREAM), 0, LIMIT, events, Inflating(inflate)) == len(self.STREAM)
        assert contents(events) == ["a", "cb", b"d" * 200, "e"]
        assert [type(event) for event in events] == [Text, Text, Binary, Text]

    def test_the_limit_is_for_it_to_keep(self, scan):
        events = []
        assert scan(self.STREAM, 0, 10, events, Inflating(lambda payload, limit: b"x")) == len(self.STREAM)
        assert len(events) == 4

    def test_what_it_raises_gets_out_and_what_came_before_stays(self, scan):
        def inflate(payload, limit):
            raise ZeroDivisionError

        events = []
        with pytest.raises(ZeroDivisionError):
            scan(self.STREAM, 0, LIMIT, events, Inflating(inflate))
        assert contents(events) == ["a"]

    def test_a_text_must_be_utf8(self, scan):
        events = []
        with pytest.raises(UnicodeDecodeError):
            scan(self.STREAM, 0, LIMIT, events, Inflating(lambda payload, limit: b"\xff"))
        assert contents(events) == ["a"]

    def test_one_that_it_leaves_is_left_to_the_caller(self, scan):
        events = []
        assert scan(self.STREAM, 0, LIMIT, events, Inflating(lambda payload, limit: None)) == len(text(b"a"))
        assert contents(events) == ["a"]

    @pytest.mark.parametrize("content", ["text", 1, bytearray(b"x")])
    def test_the_compiled_twin_refuses_other_content(self, content):
        if compiled.twins is None:
            pytest.skip("built without a compiler")
        with pytest.raises(TypeError, match="must return bytes or None"):
            compiled.twins.scan(self.STREAM, 0, LIMIT, [], Inflating(lambda payload, limit: content))

    @pytest.mark.parametrize("first", [0x41, 0xD1, 0xE1, 0xC0, 0xC8, 0xC9, 0xC3, 0xF1])
    def test_of_frames_with_reserved_bits_only_final_messages_with_rsv1_are_taken(self, scan, first):
        events = []
        assert scan(bytes([first, 1]) + b"x", 0, LIMIT, events, Inflating(lambda payload, limit: b"x")) == 0
        assert events == []


_characters = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=30),
    st.text(st.characters(min_codepoint=0x0, max_codepoint=0x2FF), max_size=30),
    st.text(st.characters(min_codepoint=0x7C0, max_codepoint=0x1100), max_size=30),
    st.text(st.characters(min_codepoint=0xC000, max_codepoint=0xD7FF), max_size=30),
    st.text(st.characters(min_codepoint=0xE000, max_codepoint=0x101FF), max_size=30),
).map(str.encode)


@settings(max_examples=1000)
@given(st.lists(st.one_of(_characters, _characters, st.binary(max_size=4)), max_size=5).map(b"".join))
def test_texts_are_decoded_as_python_decodes_them(payload):
    for scan in TWINS:
        events = []
        try:
            expected = [payload.decode()]
        except UnicodeDecodeError:
            expected = []
        taken = scan(text(payload), 0, LIMIT, events)
        assert contents(events) == expected
        assert taken == (len(text(payload)) if expected else 0)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 12, 254, 255, 256, 700])
@pytest.mark.parametrize("character", ["a", "é", "ÿ", "Ā", "€", "\ud7ff", "\ue000", "網", "\uffff", "😀"])
def test_decoded_texts_are_like_any_other(character, size):
    for scan in TWINS:
        for content in (character * size, "x" + character * size, character * size + "x"):
            events = []
            scan(text(content.encode()), 0, LIMIT, events)
            (event,) = events
            assert event.text == content
            assert hash(event.text) == hash(content)
            assert event.text.encode() == content.encode()
            assert sys.getsizeof(event.text) == sys.getsizeof(content.encode().decode())


@pytest.mark.parametrize("before", ["", "x", "網" * 3, "網" * 4, "網" * 50, "é" * 10])
@pytest.mark.parametrize("after", ["", "x", "網" * 4, "網" * 50])
@pytest.mark.parametrize(
    "wrong",
    [b"\x80", b"\xbf\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc2", b"\xe0\x80\x80", b"\xe0\x9f\xbf",
     b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xe4", b"\xe4\xb8", b"\xe4\xb8x", b"\xe4x\xad",
     b"\xf4\x90\x80\x80", b"\xf8", b"\xff"],
)
def test_what_is_no_utf8_is_left_wherever_it_stands(before, after, wrong):
    for scan in TWINS:
        events = []
        assert scan(text(before.encode() + wrong + after.encode()), 0, LIMIT, events) == 0
        assert events == []
