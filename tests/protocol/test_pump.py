"""The pump, which receives and takes whole messages. Both twins pass the same tests."""

from __future__ import annotations

import gc
import os
import socket
import sys
import traceback
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from sys import getsizeof
from time import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lochws.events import Binary, Event, Text, _EncodedText
from lochws.options import Deflate
from lochws.protocol import compiled, payload, pump
from lochws.protocol.deflate import DeflateParameters, Deflater, Inflater
from lochws.protocol.frames import Opcode
from lochws.protocol.pump import (
    EVENT_BYTES,
    FIRST_BYTES,
    FLOOD_BYTES,
    LARGE_BYTES,
    Pump,
    PumpPython,
    memory_of,
)
from lochws.protocol.receiver import Receiver
from lochws.transport.stream import Stream

from ..support.wire import SIZES, Arriving, deflated, frame, mirrored, pumped, seen

LIMIT = 1 << 24
TWINS: list[Any] = [PumpPython] if compiled.twins is None else [PumpPython, compiled.twins.Pump]
#: Sizes as of `PumpPython`, so small that short streams have large messages and floods.
SMALL = (24, 60, 8, 4, EVENT_BYTES, 16, 20, 50)
USUAL = (LARGE_BYTES, FLOOD_BYTES, FIRST_BYTES, pump.OWN_ROOM, EVENT_BYTES, payload.RESERVED_BYTES,
         pump.KEPT_BYTES, pump.DEFLATED_READ)

#: Python shares the texts of one character, and may have added their UTF-8 to the memory that they take.
TEXTS = st.text(max_size=40).filter(lambda text: len(text) != 1)
MESSAGES = st.one_of(
    TEXTS.map(lambda text: frame(Opcode.TEXT, text.encode())),
    st.integers(0, 200).map(lambda size: frame(Opcode.BINARY, bytes(range(size)))),
)
OTHERS = st.sampled_from([
    frame(Opcode.PING, b"p"), frame(Opcode.PONG), frame(Opcode.TEXT, b"a", fin=False) + frame(0, b"b"),
    frame(Opcode.BINARY, b"x" * 30, fin=False) + frame(Opcode.PING) + frame(0, b"y" * 30), frame(Opcode.TEXT,
    b"\xff"), frame(Opcode.BINARY, b"x", mask=True), frame(Opcode.BINARY, b"x", rsv=4), frame(Opcode.CLOSE,
    b"\x03\xe8"), frame(Opcode.BINARY, bytes(1000)), b"\x82\x7f" + b"\xff" * 8,
])
#: Compressed messages that end a stream, take the tail for content, or are invalid in several ways.
AGREED = DeflateParameters()
HELLO = b"\xf3\x48\xcd\xc9\xc9\x07\x00"
COMPRESSED = st.sampled_from([
    HELLO, HELLO + b"\0", HELLO * 2, b"\0\x06\0\xf9\xffab", HELLO + b"\0\x06\0\xf9\xffab", b"\0", b"",
    b"\xff" * 9, HELLO * 251, b"\x02\x08\x20\x80\0\0",
]).map(lambda payload: frame(Opcode.TEXT, payload, rsv=4))


@pytest.fixture(params=TWINS, ids=["python", "compiled"][: len(TWINS)])
def twin(request: pytest.FixtureRequest) -> Any:
    return request.param


Make = Callable[..., Pump]


@pytest.fixture
def make(twin: Any) -> Make:
    return lambda limit=LIMIT, as_bytes=False, sizes=USUAL, inflater=None: twin(
        limit, as_bytes, inflater, sizes
    )


def room(size: int = 256 * 1024) -> memoryview:
    return memoryview(bytearray(size))


def failing(*_: Any) -> int:
    raise ConnectionResetError


def small(twin: Any, limit: int, as_bytes: bool, inflater: Any, _: Any) -> Pump:
    """Make a pump to which most messages are large."""
    one: Pump = twin(limit, as_bytes, inflater, SMALL)
    return one


def receive(one: Pump, data: bytes, buffer: memoryview | None = None, **options: Any) -> tuple[bool,
list[Event]]:
    """Receive once."""
    events: list[Event] = []
    is_taken = one.receive(Arriving(data, **options), room() if buffer is None else buffer, events, True)
    return is_taken, events


class TestWholeMessages:
    @pytest.mark.parametrize("size", SIZES)
    def test_they_are_taken_and_counted(self, make: Make, size: int) -> None:
        one, before = make(), time()
        data = frame(Opcode.TEXT, b"x" * size) + frame(Opcode.BINARY, b"y" * size)
        is_taken, events = receive(one, data)
        assert is_taken
        assert seen(events) == seen([Text("x" * size), Binary(b"y" * size)])
        assert (one.count, one.bytes, one.messages, one.carried) == (len(data), len(data), 2, 0)
        assert before - 0.1 <= events[0].received_time <= events[1].received_time <= time() + 0.1
        assert one.last_message_at == events[1].received_time
        assert receive(one, frame(Opcode.TEXT, b"next"))[0]
        assert (one.bytes, one.messages) == (len(data) + 6, 3)

    @pytest.mark.parametrize("content", ["", "ascii", "éé", "網" * 1000, "ascii and 😀"])
    def test_they_cost_their_memory_or_their_bytes_whichever_is_more(self, make: Make, content: str) -> None:
        one = make()
        data = frame(Opcode.TEXT, content.encode()) + frame(Opcode.BINARY, b"binary")
        _, events = receive(one, data)
        memory = (len(content) if content.isascii() else getsizeof("".join(list(content)))) + 6
        assert memory_of(events) == memory
        assert one.cost == max(len(data), memory) + 2 * EVENT_BYTES

    def test_texts_may_stay_bytes(self, make: Make) -> None:
        is_taken, events = receive(make(as_bytes=True), frame(Opcode.TEXT, "é".encode()))
        assert is_taken
        assert type(events[0]) is _EncodedText

    @pytest.mark.parametrize("other", [
        frame(Opcode.PING), frame(Opcode.CLOSE), frame(Opcode.TEXT, b"\xff"), frame(Opcode.TEXT, b"a",
        fin=False), frame(Opcode.BINARY, b"x" * 101), frame(Opcode.BINARY, b"x", mask=True),
        frame(Opcode.TEXT, b"x", rsv=4), b"\x81", frame(Opcode.TEXT, b"\xff" * 99)[:-1], b"\x82\x7f\xff",
    ])
    def test_everything_from_the_first_other_frame_on_is_left(self, make: Make, other: bytes) -> None:
        one, whole, buffer = make(limit=100), frame(Opcode.TEXT, b"whole"), room()
        for before in (whole, b""):
            is_taken, events = receive(one, before + other, buffer)
            assert not is_taken
            assert len(events) == bool(before)
            assert bytes(buffer[one.start : one.stop]) == other
        assert one.messages == 1
        assert one.carried == len(other)  # of the second time: the first had an event

    def test_nothing_is_taken_inside_anything_else(self, make: Make) -> None:
        one, data = make(), frame(Opcode.TEXT, b"x")
        one.is_between = False
        assert receive(one, data) == (False, [])
        assert (one.start, one.stop, one.bytes, one.messages) == (0, len(data), len(data), 0)

    def test_the_end_differs_from_nothing_yet(self, make: Make) -> None:
        one = make()
        for result, count in ((0, 0), (None, -1)):
            assert not one.receive(lambda *_, result=result: result, room(), [], True)
            assert (one.count, one.start, one.stop, one.bytes) == (count, 0, 0, 0)


class TestLargeMessages:
    def test_one_is_received_into_memory_of_its_own(self, make: Make) -> None:
        one, buffer = make(), room(16 * 1024)
        arriving = Arriving(frame(Opcode.BINARY, b"x" * 1_000_000))
        events: list[Event] = []
        while arriving.is_left:
            assert one.receive(arriving, buffer, events, True)
            assert one.is_inside == (not events)
        assert seen(events) == seen([Binary(b"x" * 1_000_000)])
        assert arriving.rooms[:2] == [(16 * 1024,), (4 * 16 * 1024, FIRST_BYTES)]
        assert one.cost == 1_000_010 + EVENT_BYTES

    def test_the_next_message_follows_it_into_the_buffer(self, make: Make) -> None:
        one, buffer = make(), room()
        data = frame(Opcode.BINARY, b"x" * LARGE_BYTES)
        arriving = Arriving(data + frame(Opcode.TEXT, b"next"), [100, 1 << 40])
        events: list[Event] = []
        assert one.receive(arriving, buffer, events, True)
        assert not events
        assert one.is_inside
        assert one.receive(arriving, buffer, events, True)
        assert seen(events) == seen([Binary(b"x" * LARGE_BYTES), Text("next")])
        assert one.messages == 2

    def test_of_a_flood_of_them_little_is_received_into_the_buffer(self, make: Make) -> None:
        one, buffer, large = make(), room(64 * 1024), frame(Opcode.BINARY, b"x" * FLOOD_BYTES)
        arriving = Arriving(large * 3 + frame(Opcode.TEXT, b"xx") * 100_000)
        events: list[Event] = []
        for _ in range(5):
            one.receive(arriving, buffer, events, True)
        rest = len(large) - FIRST_BYTES
        assert arriving.rooms == [
            (65536,), (len(large) - 65536, FIRST_BYTES), (rest, FIRST_BYTES), (rest, FIRST_BYTES), (65536,)
        ]
        assert len(events) > 3

    def test_many_are_received_in_one_call_each_into_its_memory_if_the_pump_repeats(self, make: Make) -> None:
        one, buffer, size = make(), room(), 65536
        one.repeats = True
        large = frame(Opcode.BINARY, b"x" * size)
        arriving = Arriving(large * 12)
        events: list[Event] = []
        assert one.receive(arriving, buffer, events, True)
        assert len(events) == 3  # these were copied, since nothing announced a flood before them
        first, rest = 4 * len(large) - len(buffer), len(large) - FIRST_BYTES
        one.receive(arriving, buffer, events, True)
        assert arriving.rooms[1:] == [(first, FIRST_BYTES), *[(rest, FIRST_BYTES)] * 4]
        assert one.count == first + FIRST_BYTES + 4 * len(large)
        assert one.count < len(buffer) + len(large)
        assert (len(events), one.messages) == (8, 8)
        assert one.cost == 5 * (size + EVENT_BYTES)
        while arriving.is_left:
            one.receive(arriving, buffer, events, True)
        assert seen(events) == seen([Binary(b"x" * size)] * 12)

    @pytest.mark.parametrize("result", [None, 0, ConnectionResetError()])
    def test_repeating_ends_with_the_bytes_and_loses_none(
        self, make: Make, result: int | Exception | None
    ) -> None:
        one, buffer, large = make(), room(), frame(Opcode.BINARY, b"x" * 65536)
        one.repeats = True
        receive(one, large[:100])
        parts = [Arriving(large[100:] + large[:FIRST_BYTES])]

        def receive_into(*buffers: Any) -> int | None:
            if parts:
                return parts.pop()(*buffers)
            if isinstance(result, Exception):
                raise result
            return result

        events: list[Event] = []
        if isinstance(result, Exception):
            with pytest.raises(ConnectionResetError):
                one.receive(receive_into, buffer, events, True)
        else:
            assert one.receive(receive_into, buffer, events, True)
        assert seen(events) == seen([Binary(b"x" * 65536)])
        assert (one.count, one.start, one.stop) == (len(large) - 100 + FIRST_BYTES, 0, 0)
        assert (one.messages, one.carried, one.cost) == (1, 0, len(large) + FIRST_BYTES + EVENT_BYTES)

    def test_repeating_ends_at_a_frame_that_is_left_to_the_receiver(self, make: Make) -> None:
        one, buffer, large = make(), room(), frame(Opcode.BINARY, b"x" * 65536)
        one.repeats = True
        receive(one, large[:100])
        ping = frame(Opcode.PING, b"p")
        arriving, events = Arriving(large[100:] + ping + large * 3), []  # type: ignore[var-annotated]
        assert not one.receive(arriving, buffer, events, True)
        assert len(arriving.rooms) == len(events) == 1
        assert bytes(buffer[one.start : one.stop]) == (ping + large)[:FIRST_BYTES]

    def test_no_two_of_at_least_flood_bytes_are_received_in_one_call(self, make: Make) -> None:
        one, buffer, large = make(), room(), frame(Opcode.BINARY, b"x" * FLOOD_BYTES)
        one.repeats = True
        arriving, events = Arriving(large * 3), []  # type: ignore[var-annotated]
        for calls in range(1, 4):
            one.receive(arriving, buffer, events, True)
            assert len(arriving.rooms) == calls

    def test_one_that_is_larger_than_the_limit_is_left(self, make: Make) -> None:
        one = make(limit=LARGE_BYTES)
        assert receive(one, frame(Opcode.BINARY, b"x" * (LARGE_BYTES + 1))[:100]) == (False, [])
        assert not one.is_inside
        assert receive(one, frame(Opcode.BINARY, b"x" * LARGE_BYTES)[:100]) == (True, [])
        assert one.is_inside

    def test_memory_is_reserved_as_bytes_arrive(self, make: Make) -> None:
        one = make(limit=1 << 40)
        arriving = Arriving(b"\x82\x7f" + (1 << 39).to_bytes(8, "big") + bytes(1000))
        assert one.receive(arriving, room(), [], True)  # half a tebibyte, of which a mebibyte is reserved
        assert one.is_inside

    def test_after_an_error_nothing_keeps_its_memory(self, make: Make) -> None:
        one = make()
        receive(one, frame(Opcode.BINARY, bytes(LARGE_BYTES))[:100])

        def failing(buffer: Any, *_more: Any) -> int:
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError) as caught:
            one.receive(failing, room(), [], True)
        frames = [kept for kept, _ in traceback.walk_tb(caught.value.__traceback__)]
        kept = frames[-1].f_locals["buffer"]
        with pytest.raises((ValueError, BufferError)):
            memoryview(kept)


def compressed(contents: Sequence[bytes], agreed: DeflateParameters = AGREED) -> list[bytes]:
    """Return the frames of texts that share a context."""
    deflater = Deflater(mirrored(agreed), Deflate())
    return [deflated(Opcode.TEXT, content, deflater) for content in contents]


class TestTheBeginningOfASmallMessage:
    @pytest.mark.parametrize("content", ["ascii", "é網😀" * 20, "x" * 1000])
    @pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
    def test_is_kept_and_the_rest_is_received_behind_it(self, make: Make, opcode: int, content: str) -> None:
        payload = content.encode()
        whole = frame(opcode, payload)
        head = len(whole) - len(payload)
        for cut in range(head, len(whole)):
            one, buffer = make(), room(4096)
            arriving = Arriving(frame(Opcode.TEXT, b"first") + whole, [7 + cut, 1 << 40])
            first: list[Event] = []
            assert one.receive(arriving, buffer, first, True)
            assert (one.kept, one.messages, seen(first)) == (whole[:cut], 1, [("text", "first")])
            second: list[Event] = []
            assert one.receive(arriving, buffer, second, True)
            assert (one.kept, one.messages, one.bytes) == (b"", 2, 7 + len(whole))
            assert arriving.rooms == [(4096,), (4096 - cut,)]
            (found,) = seen(second)
            assert found[1] == (content if opcode == Opcode.TEXT else payload)

    def test_is_left_if_it_grows_little_by_little(self, make: Make) -> None:
        one, whole, buffer = make(), frame(Opcode.TEXT, b"x" * 1000), room()
        size = pump.LEAST_GROWTH
        for part in (whole[:5], *(whole[at : at + 1] for at in range(5, size))):
            assert receive(one, part, buffer) == (True, [])
        assert one.kept == whole[:size]
        assert receive(one, whole[size : size + 1], buffer) == (False, [])
        assert one.kept == b""
        assert bytes(buffer[one.start : one.stop]) == whole[: size + 1]

    def test_stays_when_nothing_arrives(self, make: Make) -> None:
        one, whole = make(), frame(Opcode.TEXT, b"text")
        assert receive(one, whole[:4]) == (True, [])
        assert not one.receive(lambda *_: None, room(), [], True)
        with pytest.raises(ConnectionResetError):
            one.receive(failing, room(), [], True)
        assert one.kept == whole[:4]
        assert seen(receive(one, whole[4:])[1]) == [("text", "text")]

    @pytest.mark.parametrize("begun", [
        frame(Opcode.BINARY, bytes(pump.KEPT_BYTES + 1))[:-1], frame(Opcode.TEXT, bytes(1001))[:-1],
        frame(Opcode.TEXT, b"\xed\xa0x")[:-1], frame(Opcode.TEXT, b"\xff text")[:-1],
        frame(Opcode.TEXT, b"text \xf4\x90\x80\x80")[:-2], frame(Opcode.TEXT, b"text", fin=False)[:-1],
        frame(Opcode.TEXT, b"text", rsv=4)[:-1], frame(Opcode.PING, b"ping")[:-1],
        frame(Opcode.BINARY, bytes(200))[:3],
    ])
    def test_is_left_if_it_may_be_refused_or_is_large_or_special(self, make: Make, begun: bytes) -> None:
        one, buffer = make(limit=1000 if begun[0] == 0x81 else 1 << 20), room()
        assert receive(one, begun, buffer) == (False, [])
        assert one.kept == b""
        assert bytes(buffer[one.start : one.stop]) == begun

    @pytest.mark.parametrize("size", range(1, 12))
    def test_may_meet_a_smaller_buffer(self, twin: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pump, "_Pump", twin)
        receiver, whole = Receiver(LIMIT), frame(Opcode.TEXT, b"0123456789")
        arriving = Arriving(whole, [6, 1 << 40])
        events: list[Event] = []
        assert receiver.pump.receive(arriving, room(100), events, True)
        events += [event for new in pumped(receiver, arriving, room(size)) for event in new]
        assert seen(events) == [("text", "0123456789")]
        assert receiver.pump.kept == b""

    def test_counts_as_part_of_a_message(self, twin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pump, "_Pump", twin)
        receiver, whole = Receiver(LIMIT), frame(Opcode.TEXT, b"text")
        for new in pumped(receiver, Arriving(whole[:3]), room()):
            assert new == []
        assert receiver.advanced
        assert seen(receiver.receive(whole[3:])) == [("text", "text")]
        assert not receiver.advanced


class TestCompressedMessages:
    CONTENTS = (b"text", "größer ".encode() * 50, b"", b"x" * 5000, b"text")

    @pytest.fixture(params=[DeflateParameters(), DeflateParameters(True, True)], ids=["context", "none"])
    def agreed(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    def test_they_are_taken_and_cost_their_memory(self, make: Make, agreed: DeflateParameters) -> None:
        one = make(inflater=Inflater(agreed))
        for _ in range(2):
            events: list[Event] = []
            stream = b"".join(compressed(self.CONTENTS, agreed))
            assert one.receive(Arriving(stream), room(), events, False)
            assert seen(events) == [("text", content.decode()) for content in self.CONTENTS]
            assert one.cost == memory_of(events) + 5 * EVENT_BYTES
            one = make(inflater=Inflater(agreed), as_bytes=True)
        assert type(events[0]) is _EncodedText

    def test_only_a_part_of_the_buffer_is_used(self, make: Make) -> None:
        arriving = Arriving(frame(Opcode.TEXT, b"x"))
        make(inflater=Inflater(DeflateParameters())).receive(arriving, room(), [], True)
        assert arriving.rooms == [(pump.DEFLATED_READ,)]

    def test_the_beginning_of_one_is_kept_only_in_a_full_buffer(self, make: Make) -> None:
        whole = b"".join(compressed([b"one", b"two"]))
        for size, is_kept in ((len(whole) - 1, True), (len(whole), False)):
            one = make(inflater=Inflater(DeflateParameters()))
            arriving = Arriving(whole, [len(whole) - 1, 1 << 40])
            events: list[Event] = []
            assert one.receive(arriving, room(size), events, True) is is_kept
            assert seen(events) == [("text", "one")]
            assert bool(one.kept) is is_kept
        one = make(inflater=Inflater(DeflateParameters()), limit=1000)  # a message might exceed that
        assert not one.receive(Arriving(whole), room(len(whole) - 1), [], True)

    def test_one_that_may_be_larger_than_the_limit_is_left_on_request(self, make: Make) -> None:
        inflater, (first, second) = Inflater(DeflateParameters()), compressed([b"one", os.urandom(100)])
        one, buffer = make(inflater=inflater, limit=100_000), room()
        inflater.leaves_large = True
        is_taken, events = receive(one, first + second, buffer)
        assert (is_taken, seen(events)) == (False, [("text", "one")])
        assert bytes(buffer[one.start : one.stop]) == second

    @pytest.mark.parametrize(("wrong", "error"), [
        (frame(Opcode.TEXT, b"\xff" * 20, rsv=4), "unable to decompress payload"),
        (compressed([b"\xff"])[0], "text message is not valid UTF-8"),
        (compressed([b"x" * 100_001])[0], "compressed message is larger than the limit"),
        (frame(Opcode.BINARY, b"\xf2\x48\xcd\xc9\xc9\x07\x00" * 251, rsv=4), "unable to decompress payload"),
    ])
    @pytest.mark.parametrize("before", [0, 1, 2])
    def test_an_invalid_one_ends_the_connection_after_the_messages_before_it(
        self, twin: Any, wrong: bytes, error: str, before: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pump, "_Pump", twin)
        receiver = Receiver(100_000, Inflater(DeflateParameters()))
        stream = b"".join(compressed([b"text"] * before)) + wrong + frame(Opcode.TEXT, b"behind")
        (events,) = pumped(receiver, Arriving(stream), room())
        assert seen(events) == [("text", "text")] * before
        assert receiver.pump.messages == before
        assert error in str(receiver.failure)
        assert receiver.failure.__traceback__ is receiver.failure.__context__ is None
        assert receiver.pump.error is None

    def test_exceptions_that_the_server_did_not_cause_propagate(
        self, twin: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pump, "_Pump", twin)
        inflater, (first, second) = Inflater(DeflateParameters()), compressed([b"one", b"two"])
        receiver = Receiver(LIMIT, inflater)

        class Broken:
            eof = False

            def decompress(self, data: bytes) -> bytes:
                raise raised

        for raised in (MemoryError(), KeyboardInterrupt()):
            receiver = Receiver(LIMIT, inflater)
            inflater.stream = Broken()
            with pytest.raises(type(raised)):
                list(pumped(receiver, Arriving(first), room()))
        inflater.stream = None
        receiver = Receiver(LIMIT, inflater)
        assert seen(receiver.receive(first + second)) == [("text", "one"), ("text", "two")]

    def test_messages_and_errors_leak_no_memory(self, make: Make) -> None:
        frames, buffer = compressed([b"text", b"more " * 20, b"\xff"]), room(4096)

        def some() -> None:
            for last in (frames[1] + frames[2], b"\xc1\x01\xff", frames[1][:-1]):
                stream = frames[0] + last
                one = make(inflater=Inflater(DeflateParameters()))
                one.receive(Arriving(stream), buffer[: len(stream)], [], True)
                one.receive(Arriving(frames[1]), buffer, [], True)
                one.error = None  # as the receiver does

        gc.disable()  # nothing is part of a cycle
        try:
            for _ in range(500):
                some()  # fills Python's free lists
            before = sys.getallocatedblocks()
            for _ in range(200):
                some()
            assert sys.getallocatedblocks() - before < 100
        finally:
            gc.enable()


class TestAnySplit:
    @given(
        st.lists(st.one_of(MESSAGES, OTHERS)), st.lists(st.integers(1, 300), min_size=1), st.integers(1, 300),
        st.booleans(), st.booleans(), st.booleans(),
    )
    def test_has_the_same_events(
        self, frames: list[bytes], limits: list[int], size: int, uses_more: bool, as_bytes: bool,
        repeats: bool,
    ) -> None:
        data, results = b"".join(frames), []
        for twin in TWINS:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pump, "_Pump", partial(small, twin))
                receiver, whole = (Receiver(500, text_as_bytes=as_bytes) for _ in range(2))
                receiver.pump.repeats = repeats
                arriving = Arriving(data, limits, uses_more=uses_more)
                events = [event for new in pumped(receiver, arriving, room(size)) for event in new]
                assert seen(events) == seen(whole.receive(data))
                assert receiver.close_received == whole.close_received
                assert str(receiver.failure) == str(whole.failure)
                assert receiver.pump.bytes == len(data)
                one = receiver.pump
                results.append((seen(events), one.messages, one.carried, one.is_inside))
        assert results[0] == results[-1]

    @given(
        st.lists(st.one_of(
            st.tuples(st.just(True), TEXTS.map(str.encode)), st.tuples(st.just(False), MESSAGES),
            st.tuples(st.just(False), OTHERS), st.tuples(st.just(False), COMPRESSED),
        ), max_size=6),
        st.lists(st.integers(1, 300), min_size=1), st.integers(1, 300), st.booleans(), st.booleans(),
        st.sampled_from([500, 100_000]), st.booleans(),
    )
    def test_of_compressed_messages_has_the_same_events(
        self, parts: list[tuple[bool, bytes]], limits: list[int], size: int, uses_more: bool, afresh: bool,
        limit: int, as_bytes: bool,
    ) -> None:
        agreed = DeflateParameters(afresh, afresh)
        deflater = Deflater(mirrored(agreed), Deflate())
        data = b"".join(
            deflated(Opcode.TEXT, part, deflater) if is_content else part for is_content, part in parts
        )
        results = []
        for twin in TWINS:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pump, "_Pump", partial(small, twin))
                receiver, whole = (
                    Receiver(limit, Inflater(agreed), text_as_bytes=as_bytes) for _ in range(2)
                )
                receiver.pump.repeats = uses_more
                arriving = Arriving(data, limits, uses_more=uses_more)
                events = [event for new in pumped(receiver, arriving, room(size)) for event in new]
                assert seen(events) == seen(whole.receive(data))
                assert receiver.close_received == whole.close_received
                assert str(receiver.failure) == str(whole.failure)
                one = receiver.pump
                results.append((seen(events), one.bytes, one.messages, one.carried, one.is_inside, one.kept,
                                str(receiver.failure)))
        assert results[0] == results[-1]

    @given(
        st.lists(MESSAGES), st.lists(st.integers(1, 300), min_size=1), st.integers(1, 300), st.booleans(),
        st.booleans(),
    )
    def test_leaves_the_same_to_the_receiver_with_both_twins(
        self, frames: list[bytes], limits: list[int], size: int, uses_more: bool, repeats: bool
    ) -> None:
        logs = []
        for twin in TWINS:
            one, log, buffer = twin(LIMIT, False, None, SMALL), [], room(size)
            one.repeats = repeats
            arriving = Arriving(b"".join(frames), limits, uses_more=uses_more)
            while arriving.is_left:
                events: list[Event] = []
                is_taken = one.receive(arriving, buffer, events, True)
                log.append((is_taken, seen(events), one.count, one.start, one.stop, one.carried, one.messages,
                            one.is_inside, one.kept, one.cost if events else None, arriving.rooms[-1]))
                if not is_taken:
                    break
            logs.append(log)
        assert logs[0] == logs[-1]

    @settings(deadline=None)  # megabytes, on machines that do other things too
    @given(
        messages=st.lists(st.tuples(
            st.sampled_from([Opcode.TEXT, Opcode.BINARY]),
            st.sampled_from([10, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, FLOOD_BYTES,
                             payload.RESERVED_BYTES + 1]),
        ), max_size=4),
        limits=st.lists(st.integers(1, 1 << 20), min_size=1, max_size=5),
        size=st.sampled_from([1000, 16 * 1024, 256 * 1024]),
    )
    def test_of_large_messages_has_the_same_events(
        self, messages: list[tuple[int, int]], limits: list[int], size: int
    ) -> None:
        ping = frame(Opcode.PING, b"p")
        data = b"".join(frame(opcode, b"x" * length) + ping for opcode, length in messages)
        limits = [max(limit, len(data) // 500) for limit in limits]
        expected = seen(Receiver(LIMIT).receive(data))
        for agreed in (None, DeflateParameters()):
            receiver = Receiver(LIMIT, None if agreed is None else Inflater(agreed))
            events = [event for new in pumped(receiver, Arriving(data, limits), room(size)) for event in new]
            assert seen(events) == expected

    @given(st.lists(st.integers(1, 50_000), min_size=1, max_size=5))
    def test_of_large_and_compressed_messages_has_the_same_events(self, limits: list[int]) -> None:
        agreed = DeflateParameters()
        deflater, large = Deflater(mirrored(agreed), Deflate()), frame(Opcode.BINARY, b"x" * LARGE_BYTES)
        data = b"".join([large, deflated(Opcode.TEXT, b"a", deflater), large, large,
                         deflated(Opcode.TEXT, b"b", deflater)])
        receiver = Receiver(LIMIT, Inflater(agreed))
        limits = [max(limit, len(data) // 500) for limit in limits]
        events = [event for new in pumped(receiver, Arriving(data, limits), room()) for event in new]
        assert [len(event.data) if isinstance(event, Binary) else event.text for event in events] == [
            LARGE_BYTES, "a", LARGE_BYTES, LARGE_BYTES, "b"]


def test_a_socket_with_a_recv_into_of_its_own_sees_all_bytes_of_a_large_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Decrypting(socket.socket):
        def recv_into(self, buffer: Any, *arguments: Any) -> int:
            count = super().recv_into(buffer, *arguments)
            buffer[:count] = bytes(byte ^ 0x55 for byte in buffer[:count])
            return count

    data = frame(Opcode.BINARY, bytes(range(256)) * 256) + frame(Opcode.TEXT, b"next")
    one, other = socket.socketpair()
    with one, Decrypting(fileno=other.detach()) as sock:
        sock.setblocking(False)
        for twin in TWINS:
            monkeypatch.setattr(pump, "_Pump", twin)
            receiver, receive_into = Receiver(LIMIT), Stream(sock).receiver()
            one.sendall(bytes(byte ^ 0x55 for byte in data))
            events: list[Event] = []
            for _ in range(20):
                buffer = room(16 * 1024)
                receiver.pump.receive(receive_into, buffer, events, True)
                receiver.receive(buffer[receiver.pump.start : receiver.pump.stop], events)
            assert seen(events) == seen([Binary(bytes(range(256)) * 256), Text("next")])


class TestMisuse:
    def test_more_bytes_than_there_was_room_for_are_refused(self) -> None:
        if compiled.twins is None:
            pytest.skip("the Python twin indexes memory safely")
        one = compiled.twins.Pump(LIMIT, False, None, USUAL)
        with pytest.raises(ValueError, match="more bytes than there was room for"):
            one.receive(lambda *_: 11, room(10), [], True)

    @pytest.mark.parametrize("arguments", [
        (), (LIMIT, False, None), (LIMIT, False, None, ()), (-1, False, None, USUAL),
        (LIMIT, False, None, (0, 1, 1, 1, 1, 1, 1, 1)), (LIMIT, False, None, (1, 1, 1, 1, 1, 1, 1, 0)),
        ("", False, None, USUAL),
    ])
    def test_wrong_numbers_are_refused(self, arguments: tuple[Any, ...]) -> None:
        if compiled.twins is None:
            pytest.skip("the Python twin trusts its caller")
        with pytest.raises((TypeError, ValueError)):
            compiled.twins.Pump(*arguments)

    def test_exceptions_and_other_arguments_lose_no_reference(self, make: Make) -> None:
        one, buffer = make(), room(1000)
        receive(one, frame(Opcode.BINARY, bytes(LARGE_BYTES))[:100], buffer)

        class Odd:
            def __call__(self, *_: Any) -> Any:
                raise KeyError

        odd = Odd()
        for _ in range(3):
            with pytest.raises(KeyError):
                one.receive(odd, buffer, [], True)
        for result in ("text", object()):
            with pytest.raises(TypeError):
                one.receive(lambda *_, result=result: result, buffer, [], True)
        gone = weakref.ref(odd)
        del odd
        gc.collect()
        assert gone() is None
        assert one.is_inside
        buffer.release()  # nothing holds a view of it

    def test_a_million_messages_and_errors_take_no_memory(self, make: Make) -> None:
        one, buffer = make(sizes=SMALL), room(4096)
        stream = frame(Opcode.TEXT, b"text") * 20 + frame(Opcode.BINARY, b"x" * 50) + frame(Opcode.PING)

        def some() -> None:
            arriving = Arriving(stream, [13, 50, 1 << 40])
            while arriving.is_left:
                events: list[Event] = []
                one.receive(arriving, buffer, events, True)
                with pytest.raises(OSError):
                    one.receive(failing, buffer, events, True)

        def failing(*_: Any) -> int:
            raise OSError

        some()
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(200):
            some()
        gc.collect()
        assert sys.getallocatedblocks() - before < 100
