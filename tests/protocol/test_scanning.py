"""Scanning for whole messages. Both twins pass the same tests."""

from __future__ import annotations

import gc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lochws.events import Binary, Text
from lochws.protocol import scanning
from lochws.protocol.frames import Opcode
from lochws.protocol.scanning import scan_python

from .wire import SIZES, frame

LIMIT = 1 << 20
TWINS = [scan_python] if scanning.compiled is None else [scan_python, scanning.compiled.scan]


def text(content: bytes) -> bytes:
    return frame(Opcode.TEXT, content)


def contents(events):
    return [event.text if isinstance(event, Text) else event.data for event in events]


@pytest.fixture(params=TWINS, ids=["python", "compiled"][: len(TWINS)])
def scan(request):
    return request.param


def test_the_compiled_twin_was_built_where_a_compiler_is():
    if scanning.compiled is None:
        pytest.skip("built without a compiler")
    assert scanning.compiled.scan.__name__ == "scan"


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
            b"\x81\x7e\x00\x05" + b"x" * 5, b"\x81\x7f" + (65535).to_bytes(8, "big") + b"x" * 65535,
            b"\x82\x7f" + (2**63).to_bytes(8, "big") + b"x" * 20, b"\x82\x7f" + b"\xff" * 8 + b"x" * 20,
        ],
    )
    def test_other_frames_are_left_and_all_behind_them(self, scan, other):
        before = text(b"one") + text(b"two")
        events = []
        assert scan(before + other + text(b"three"), 0, LIMIT, events) == len(before)
        assert contents(events) == ["one", "two"]

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
        assert repr(events[1]) == "Binary(b'b')"
        with pytest.raises(AttributeError):
            events[0].misspelt = 1

    def test_times_do_not_go_back_within_a_batch(self, scan):
        events = []
        scan(text(b"x") * 50, 0, LIMIT, events)
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


@pytest.mark.skipif(scanning.compiled is None, reason="built without a compiler")
class TestCompiled:
    @pytest.mark.parametrize(
        "arguments", [(), (b"", 0, 1), (b"", 0, 1, ()), ("", 0, 1, []), (b"", "0", 1, []), (b"", 0, None, [])]
    )
    def test_wrong_arguments_are_refused(self, arguments):
        with pytest.raises(TypeError):
            scanning.compiled.scan(*arguments)

    def test_classes_without_the_slots_are_refused(self):
        with pytest.raises((AttributeError, TypeError)):
            scanning.compiled.configure(str, bytes)
        with pytest.raises(TypeError):
            scanning.compiled.configure(1, 2)
        scanning.compiled.configure(Text, Binary)

    def test_a_flood_leaves_no_object_behind(self):
        data = text(b"x" * 50) * 1000
        for _ in range(3):
            scanning.compiled.scan(data, 0, LIMIT, [])
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(20):
            scanning.compiled.scan(data, 0, LIMIT, [])
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
        assert scanning.compiled.scan(data, 0, limit, theirs) == end
        assert contents(ours) == contents(theirs)
        assert [type(event) for event in ours] == [type(event) for event in theirs]
