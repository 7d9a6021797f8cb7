"""The receiver: messages arrive whole and in order, however the network cuts them (RFC 6455 section 5)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.options import Deflate
from lochws.protocol.close import CloseFrame
from lochws.protocol.deflate import DeflateParameters, Deflater, Inflater
from lochws.protocol.frames import Opcode
from lochws.protocol.receiver import Receiver

from ..support.wire import CHUNKINGS, SIZES, deflated, feed, fragments, frame, seen

LIMIT = 1 << 20
AGREED = DeflateParameters()


def deflating():
    """Return a receiver with permessage-deflate, and the server's deflater."""
    return Receiver(LIMIT, Inflater(AGREED)), Deflater(AGREED, Deflate())


@pytest.fixture(params=CHUNKINGS.values(), ids=CHUNKINGS.keys())
def cut(request):
    return request.param


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "deflate"])
class TestSizes:
    def test_a_binary_message(self, size, compressed, cut):
        receiver, deflater = deflating()
        data = bytes(itertools.islice(itertools.cycle(range(251)), size))
        stream = deflated(Opcode.BINARY, data, deflater) if compressed else frame(Opcode.BINARY, data)
        stream += frame(Opcode.PING, b"end")
        assert feed(receiver, cut(stream)) == [("binary", data), ("ping", b"end")]
        assert not receiver.done

    def test_a_text_message(self, size, compressed, cut):
        receiver, deflater = deflating()
        text = "aé€😀"[: size % 5] + "é" * (size // 2)
        data = text.encode()
        stream = deflated(Opcode.TEXT, data, deflater) if compressed else frame(Opcode.TEXT, data)
        assert feed(receiver, cut(stream + frame(Opcode.PONG))) == [("text", text), ("pong", b"")]

    def test_a_fragmented_message_round_a_ping(self, size, compressed, cut):
        receiver, deflater = deflating()
        data = b"ab" * (size // 2) + b"c" * (size % 2)
        payload = deflater.compress(data) if compressed else data
        third = len(payload) // 3
        parts = [payload[:third], payload[third : 2 * third], b"", payload[2 * third :]]
        frames = list(fragments(Opcode.TEXT, parts, rsv=4 if compressed else 0))
        stream = frames[0] + frame(Opcode.PING, b"in between") + b"".join(frames[1:])
        assert feed(receiver, cut(stream)) == [("ping", b"in between"), ("text", data.decode())]


@pytest.mark.parametrize("size", [0, 1, 125])
@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG])
def test_a_control_frame(opcode, size, cut):
    payload = b"p" * size
    name = "ping" if opcode == Opcode.PING else "pong"
    assert feed(Receiver(LIMIT), cut(frame(opcode, payload))) == [(name, payload)]


@pytest.mark.parametrize("size", [126, 65536])
def test_a_head_may_be_cut_anywhere_behind_another_frame(size):
    stream = frame(Opcode.PING, b"1") + frame(Opcode.TEXT, b"x" * size, fin=False)
    end = frame(Opcode.CONTINUATION)
    for cut in range(1, 16):
        expected = [("ping", b"1"), ("text", "x" * size)]
        assert feed(Receiver(LIMIT), [stream[:cut], stream[cut:], end]) == expected


def test_a_pong_has_no_latency_yet():
    (pong,) = Receiver(LIMIT).receive(frame(Opcode.PONG, b"x"))
    assert pong.latency is None


def test_controls_are_those_of_the_last_read():
    receiver = Receiver(LIMIT)
    ping, text, pong = receiver.receive(
        frame(Opcode.PING, b"1") + frame(Opcode.TEXT) + frame(Opcode.PONG, b"2")
    )
    assert receiver.controls == [ping, pong]
    assert text.name == "text"
    receiver.receive(frame(Opcode.TEXT))
    assert receiver.controls == []


def test_many_messages_in_one_read_keep_their_order(cut):
    expected = [("text", f"number {n}") for n in range(500)]
    stream = b"".join(frame(Opcode.TEXT, text.encode()) for _, text in expected)
    assert feed(Receiver(LIMIT), cut(stream)) == expected


def test_messages_with_and_without_compression_mix(cut):
    receiver, deflater = deflating()
    stream = (
        deflated(Opcode.TEXT, b"same text", deflater)
        + frame(Opcode.TEXT, b"same text")
        + deflated(Opcode.BINARY, b"same text", deflater)
    )
    expected = [("text", "same text"), ("text", "same text"), ("binary", b"same text")]
    assert feed(receiver, cut(stream)) == expected


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_may_be_any_kind_of_bytes(kind):
    stream = frame(Opcode.TEXT, b"x" * 300) + frame(Opcode.BINARY, b"y" * 70_000) + frame(Opcode.PING, b"z")
    receiver = Receiver(LIMIT)
    chunks = [stream[i : i + 999] for i in range(0, len(stream), 999)]
    got = [event for chunk in chunks for event in receiver.receive(kind(chunk))]
    assert seen(got) == [("text", "x" * 300), ("binary", b"y" * 70_000), ("ping", b"z")]


def test_the_buffer_may_be_used_again_at_once():
    """The reader receives into one buffer for ever; it must stay resizable too."""
    receiver, deflater = deflating()
    stream = (
        b"".join(fragments(Opcode.BINARY, [b"a" * 100, b"b" * 100]))
        + deflated(Opcode.BINARY, b"c" * 100, deflater)
        + frame(Opcode.PING, b"d" * 20)
        + frame(Opcode.BINARY, b"e" * 300)
    )
    buffer = bytearray(7)
    got = []
    for start in range(0, len(stream), 7):
        part = stream[start : start + 7]
        buffer[: len(part)] = part
        with memoryview(buffer) as view:
            got += receiver.receive(view[: len(part)])
        buffer[:] = b"\xff" * 7
        buffer.append(0)
        del buffer[7:]
    expected = [b"a" * 100 + b"b" * 100, b"c" * 100, b"d" * 20, b"e" * 300]
    assert [content for _, content in seen(got)] == expected


def test_the_buffer_is_free_after_a_failure_too():
    buffer = bytearray(frame(Opcode.TEXT, b"ok") + frame(Opcode.TEXT, b"\xff"))
    receiver = Receiver(LIMIT)
    with memoryview(buffer) as view:
        assert seen(receiver.receive(view)) == [("text", "ok")]
    buffer.append(0)
    assert receiver.failure is not None


class TestClose:
    @pytest.mark.parametrize(
        ("payload", "expected"),
        [
            (b"", CloseFrame(None, "")),
            (b"\x03\xe8", CloseFrame(1000, "")),
            (b"\x03\xe9" + "grüße".encode(), CloseFrame(1001, "grüße")),
            (b"\x0f\xa0" + b"x" * 123, CloseFrame(4000, "x" * 123)),
        ],
    )
    def test_it_is_kept_and_ends_receiving(self, payload, expected, cut):
        receiver = Receiver(LIMIT)
        stream = frame(Opcode.TEXT, b"last") + frame(Opcode.CLOSE, payload) + frame(Opcode.TEXT, b"too late")
        assert feed(receiver, cut(stream)) == [("text", "last")]
        assert receiver.close_received == expected
        assert receiver.done
        assert receiver.failure is None

    def test_even_a_violation_behind_it_is_ignored(self, cut):
        receiver = Receiver(LIMIT)
        assert feed(receiver, cut(frame(Opcode.CLOSE) + b"\xff\xff\xff\xff")) == []
        assert receiver.failure is None
        assert receiver.close_received == CloseFrame(None, "")

    def test_it_may_come_inside_a_fragmented_message(self):
        receiver = Receiver(LIMIT)
        start = frame(Opcode.TEXT, b"never ends", fin=False)
        assert feed(receiver, [start, frame(Opcode.CLOSE, b"\x03\xe8")]) == []
        assert receiver.close_received == CloseFrame(1000, "")


# A conversation: messages with their fragmentation and compression, controls in between.
_payloads = st.one_of(st.binary(max_size=300), st.sampled_from([b"x" * n for n in SIZES[:5]]))
_texts = st.text(max_size=100).map(str.encode)
_message = st.tuples(
    st.one_of(
        st.tuples(st.just(Opcode.BINARY), _payloads), st.tuples(st.just(Opcode.TEXT), _texts)
    ),
    st.booleans(),  # compressed
    st.lists(st.integers(0, 300), max_size=3),  # where it is split into fragments
    st.booleans(),  # a ping between the fragments
)


def conversation(messages):
    """The bytes of a conversation, and the events that it means."""
    deflater = Deflater(AGREED, Deflate())
    stream, expected = b"", []
    for (opcode, data), compressed, splits, ping in messages:
        payload = deflater.compress(data) if compressed else data
        marks = sorted(min(split, len(payload)) for split in splits)
        parts = [payload[a:b] for a, b in itertools.pairwise([0, *marks, len(payload)])]
        frames = list(fragments(opcode, parts, rsv=4 if compressed else 0))
        if ping:
            frames.insert(len(frames) // 2, frame(Opcode.PING, data[:9]))
            expected.append(("ping", data[:9]))
        expected.append(("text", data.decode()) if opcode == Opcode.TEXT else ("binary", data))
        stream += b"".join(frames)
    return stream, expected


@given(messages=st.lists(_message, max_size=6), cuts=st.lists(st.integers(0, 2000), max_size=20))
def test_any_split_of_the_bytes_gives_the_same_events(messages, cuts):
    stream, expected = conversation(messages)
    marks = sorted(min(cut, len(stream)) for cut in cuts)
    chunks = [stream[a:b] for a, b in itertools.pairwise([0, *marks, len(stream)])]
    receiver = Receiver(LIMIT, Inflater(AGREED))
    assert feed(receiver, chunks) == expected
    assert receiver.failure is None


@given(stream=st.binary(max_size=200), cut=st.integers(0, 200), compress=st.booleans())
def test_noise_never_raises_and_its_split_does_not_matter(stream, cut, compress):
    def received(chunks):
        receiver = Receiver(1000, Inflater(AGREED) if compress else None)
        events = feed(receiver, chunks)
        failure = receiver.failure
        return events, receiver.close_received, type(failure), str(failure), receiver.done

    whole = received([stream])
    assert received([stream[:cut], stream[cut:]]) == whole
    assert received(CHUNKINGS["one byte at a time"](stream)) == whole


class TestLengthsInALongerFormThanNeeded:
    """RFC 6455 section 5.2 forbids servers to send them; Lomond and most other clients accept them."""

    @pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.PONG])
    @pytest.mark.parametrize("size", [0, 1, 5, 125])
    @pytest.mark.parametrize("field", [2, 8])
    def test_the_frame_is_received_however_it_is_cut(self, opcode, size, field, cut):
        head = bytes([0x80 | opcode, 126 if field == 2 else 127]) + size.to_bytes(field, "big")
        stream = head + b"x" * size + frame(Opcode.TEXT, b"next")
        receiver = Receiver(1000)
        content = "x" * size if opcode == Opcode.TEXT else b"x" * size
        name = Opcode.to_str(opcode).lower()
        assert feed(receiver, cut(stream)) == [(name, content), ("text", "next")]
        assert receiver.failure is None

    @pytest.mark.parametrize("size", [126, 65535])
    def test_a_message_that_fits_16_bits_may_take_64(self, size, cut):
        stream = b"\x82\x7f" + size.to_bytes(8, "big") + b"x" * size
        assert feed(Receiver(1 << 20), cut(stream)) == [("binary", b"x" * size)]

    def test_fragments_and_a_close_frame_may_have_them_too(self, cut):
        stream = b"\x01\x7e\0\2ab" + b"\x80\x7f\0\0\0\0\0\0\0\1c" + b"\x88\x7e\0\2\x03\xe8"
        receiver = Receiver(1000)
        assert feed(receiver, cut(stream)) == [("text", "abc")]
        assert receiver.close_received == CloseFrame(1000, "")

    def test_the_limit_holds(self):
        receiver = Receiver(10)
        feed(receiver, [b"\x81\x7f\0\0\0\0\0\0\0\x0b"])
        assert receiver.failure.close_code == 1009
