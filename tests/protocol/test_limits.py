"""Limits: nothing that a server sends takes more memory or time than allowed (contract Q28)."""

from __future__ import annotations

import time
import tracemalloc
import zlib

import pytest

from lochws.errors import PayloadTooLarge
from lochws.options import Deflate
from lochws.protocol.deflate import MAX_STREAMS, DeflateParameters, Deflater, Inflater
from lochws.protocol.frames import Opcode
from lochws.protocol.payload import RESERVED_BYTES
from lochws.protocol.receiver import Receiver

from ..support.wire import CHUNKINGS, deflated, feed, fragments, frame

LIMIT = 1000


@pytest.fixture(params=CHUNKINGS)
def cut(request):
    return CHUNKINGS[request.param]


def assert_too_large(receiver):
    assert isinstance(receiver.failure, PayloadTooLarge)
    assert receiver.failure.close_code == 1009


def inflating(limit=LIMIT):
    return Receiver(limit, Inflater(DeflateParameters()))


class TestBoundary:
    """A message of exactly the limit passes, one byte more is refused with 1009."""

    def test_in_one_frame(self, cut):
        assert feed(Receiver(LIMIT), cut(frame(2, b"x" * LIMIT))) == [("binary", b"x" * LIMIT)]
        receiver = Receiver(LIMIT)
        assert feed(receiver, cut(frame(2, b"x" * (LIMIT + 1)))) == []
        assert_too_large(receiver)
        assert str(receiver.failure) == f"message is larger than {LIMIT} bytes"

    def test_in_fragments(self, cut):
        parts = [b"x" * 400, b"y" * 400, b"z" * 200]
        assert feed(Receiver(LIMIT), cut(b"".join(fragments(2, parts)))) == [("binary", b"".join(parts))]
        receiver = Receiver(LIMIT)
        assert feed(receiver, cut(b"".join(fragments(2, [*parts, b"!"])))) == []
        assert_too_large(receiver)

    def test_compressed(self, cut):
        deflater = Deflater(DeflateParameters(), Deflate())
        fits = deflated(Opcode.TEXT, b"x" * LIMIT, deflater)
        receiver = inflating()
        assert feed(receiver, cut(fits)) == [("text", "x" * LIMIT)]
        assert feed(receiver, cut(deflated(Opcode.TEXT, b"x" * (LIMIT + 1), deflater))) == []
        assert_too_large(receiver)

    def test_compressed_in_fragments(self, cut):
        for size, passes in ((LIMIT, True), (LIMIT + 1, False)):
            payload = Deflater(DeflateParameters(), Deflate()).compress(b"x" * size)
            receiver = inflating()
            stream = b"".join(fragments(2, [payload[:3], payload[3:]], rsv=4))
            assert feed(receiver, cut(stream)) == ([("binary", b"x" * size)] if passes else [])
            assert (receiver.failure is None) is passes
            if not passes:
                assert_too_large(receiver)

    def test_what_the_end_of_a_compressed_message_adds_counts_too(self, cut):
        """A stored block that lacks its last bytes: the tail, which is never sent, becomes these."""
        payload = b"\0\x08\0\xf7\xffabcd"
        stream = b"".join(fragments(2, [payload[:3], payload[3:]], rsv=4))
        assert feed(inflating(8), cut(stream)) == [("binary", b"abcd\0\0\xff\xff")]
        receiver = inflating(7)
        assert feed(receiver, cut(stream)) == []
        assert_too_large(receiver)

    def test_the_limit_holds_for_each_message_and_not_for_their_sum(self, cut):
        stream = b"".join(fragments(2, [b"x" * 500, b"x" * 500])) * 3
        assert len(feed(Receiver(LIMIT), cut(stream))) == 3


def test_no_limit_means_none():
    receiver = Receiver(None, Inflater(DeflateParameters()))
    deflater = Deflater(DeflateParameters(), Deflate())
    data = bytes(5_000_000)
    events = feed(receiver, [frame(2, data), deflated(2, data, deflater)])
    assert events == [("binary", data), ("binary", data)]


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
@pytest.mark.parametrize("fin", [0x80, 0])
def test_a_declared_length_is_refused_before_its_payload(opcode, fin):
    receiver = Receiver(LIMIT)
    receiver.receive(bytes([fin | opcode, 127]) + (65536).to_bytes(8, "big"))
    assert_too_large(receiver)


def test_the_fragment_that_goes_over_is_refused_at_its_head():
    receiver = Receiver(LIMIT)
    receiver.receive(frame(2, b"x" * 900, fin=False) + b"\x00\x65")
    assert_too_large(receiver)


@pytest.mark.parametrize(
    ("opcode", "most"), [(Opcode.TEXT, 100_000), (Opcode.BINARY, RESERVED_BYTES + 100_000)]
)
def test_a_declared_length_reserves_little_memory(opcode, most):
    receiver = Receiver(2**62)
    tracemalloc.start()
    try:
        receiver.receive(bytes([0x80 | opcode, 0x7F]) + (2**61).to_bytes(8, "big") + b"x" * 100)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    assert receiver.failure is None


def test_a_large_message_takes_no_more_than_twice_of_what_has_come():
    receiver, part = Receiver(2**62), bytes(1 << 20)
    receiver.receive(b"\x82\x7f" + (2**61).to_bytes(8, "big"))
    tracemalloc.start()
    try:
        for megabytes in range(1, 20):
            receiver.receive(part)
            assert tracemalloc.get_traced_memory()[0] <= 2 * megabytes * len(part) + 100_000
    finally:
        tracemalloc.stop()


def bomb(size, block=1 << 20):
    """Return that many zeroes, compressed to about a thousandth."""
    stream = zlib.compressobj(9, wbits=-15)
    zeroes = bytes(block)
    deflated = b"".join(stream.compress(zeroes) for _ in range(size // block))
    return deflated + stream.flush(zlib.Z_SYNC_FLUSH)[:-4]


@pytest.fixture(scope="module")
def gibibyte():
    return bomb(1 << 30)


@pytest.mark.parametrize("fragmented", [False, True])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_deflate_bomb_is_refused_in_bounded_memory(gibibyte, opcode, fragmented):
    """One GiB from one MiB."""
    limit = 1 << 20
    parts = [gibibyte, b""] if fragmented else [gibibyte]
    stream = b"".join(fragments(opcode, parts, rsv=4))
    chunks = [stream[i : i + 65536] for i in range(0, len(stream), 65536)]
    receiver = inflating(limit)
    tracemalloc.start()
    try:
        assert feed(receiver, chunks) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_too_large(receiver)
    assert peak < 5 * limit


@pytest.mark.parametrize("is_first", [True, False])
def test_a_bomb_in_one_piece_is_refused_in_bounded_memory(gibibyte, is_first):
    stream = frame(Opcode.BINARY, gibibyte, rsv=4)
    receiver = inflating(1 << 20)
    if not is_first:
        assert feed(receiver, [frame(Opcode.BINARY, bomb(1, 1), rsv=4)]) == [("binary", b"\0")]
    tracemalloc.start()
    try:
        receiver.receive(stream)
        # The stream itself was here before; a copy of it is made.
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_too_large(receiver)
    assert peak < 3 * len(stream) + (2 << 20)


def test_a_bomb_behind_the_end_of_a_deflate_stream_has_only_what_is_left_of_the_limit():
    """A block with BFINAL ends the stream, and another begins in the same message."""
    limit = 1 << 20
    stream = zlib.compressobj(wbits=-15)
    payload = stream.compress(bytes(limit)) + stream.flush() + bomb(1 << 24)
    inflater = Inflater(DeflateParameters())
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge):
            inflater.inflate(payload, limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * limit


def test_memory_stays_near_the_message_however_finely_it_comes():
    """200,000 fragments of one byte; a list of them would take megabytes."""
    size = 200_000
    stream = b"\x02\x01x" + b"\x00\x01x" * (size - 2) + b"\x80\x01x"
    receiver = Receiver(None)
    tracemalloc.start()
    try:
        for start in range(0, len(stream) - 3, 4096):
            receiver.receive(stream[start : min(start + 4096, len(stream) - 3)])
        held = tracemalloc.get_traced_memory()[0]
        assert held < 3 * size
    finally:
        tracemalloc.stop()
    assert feed(receiver, [stream[-3:]]) == [("binary", b"x" * size)]


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_byte_behind_four_megabytes_costs_a_byte(opcode):
    """Nothing copies what is there already, so the work grows with the bytes; counted in memory, not time."""
    size = 4_000_000
    receiver = Receiver(None)
    receiver.receive(b"%c\x7f" % (0x80 | opcode) + size.to_bytes(8, "big") + b"x" * (size - 1000))
    for _ in range(2):
        receiver.receive(b"x")  # the payload grows by an eighth here, and has room for what follows
    tracemalloc.start()
    try:
        for _ in range(997):
            receiver.receive(b"x")
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()
    expected = ("text", "x" * size) if opcode == Opcode.TEXT else ("binary", b"x" * size)
    assert feed(receiver, [b"x"]) == [expected]


class TestStreamsOfOneMessage:
    """A block with BFINAL ends a deflate stream, and another may follow (RFC 7692 section 7.2.3.4)."""

    EMPTY = b"\x03\x00"  # a whole stream with nothing in it

    @pytest.mark.parametrize("parts", [1, 7])
    def test_as_many_as_fragments_may_need_are_read(self, parts):
        payload = self.EMPTY * MAX_STREAMS
        inflater = Inflater(DeflateParameters())
        for _ in range(3):  # it counts those of one message
            for part in range(parts):
                cut = slice(part * len(payload) // parts, (part + 1) * len(payload) // parts)
                assert inflater.inflate(payload[cut], 100) == b""
            assert inflater.finish(100) == b""

    @pytest.mark.parametrize("whole", [True, False])
    def test_a_message_of_nothing_else_is_refused_before_it_costs_time(self, whole):
        payload = self.EMPTY * 30_000
        receiver = Receiver(1 << 20, Inflater(DeflateParameters()))
        began = time.thread_time()
        receiver.receive(frame(Opcode.BINARY, payload, fin=whole, rsv=4))
        assert receiver.failure.close_code == 1007
        assert time.thread_time() - began < 0.2
