"""The sending half: whole frames, one Close frame, nothing after it (contract Q18, Q20, Q32)."""

from __future__ import annotations

import array

import pytest

from lochws.errors import WebSocketClosing
from lochws.options import Deflate
from lochws.protocol.close import CloseFrame
from lochws.protocol.deflate import DeflateParameters, Deflater, Inflater
from lochws.protocol.masking import MaskKeys, mask_python
from lochws.protocol.payload import as_bytes
from lochws.protocol.sender import Sender, as_control_payload

from ..support.wire import SIZES


def unmasked_sender(**parameters):
    """Return a sender whose masking key is zero, so that payloads appear in its frames unchanged."""
    return Sender(keys=MaskKeys(bytes), **parameters)


def deflater(**parameters):
    return Deflater(DeflateParameters(**parameters), Deflate())


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (lambda sender: sender.text(b"abc"), 0x81),
        (lambda sender: sender.binary(b"abc"), 0x82),
        (lambda sender: sender.ping(b"abc"), 0x89),
        (lambda sender: sender.pong(b"abc"), 0x8A),
    ],
)
def test_a_frame_is_final_and_masked(make, first):
    assert make(unmasked_sender()) == bytes([first, 0x83, 0, 0, 0, 0]) + b"abc"


def test_each_frame_has_a_new_key():
    keys = {sender.text(b"abcd")[2:6] for sender in [Sender()] for _ in range(100)}
    assert len(keys) > 98


@pytest.mark.parametrize("size", SIZES)
def test_a_message_is_one_frame_whatever_its_size(size):
    frame = unmasked_sender().binary(b"x" * size)
    assert frame.endswith(b"\0\0\0\0" + b"x" * size)
    assert len(frame) - size == 6 + (0 if size < 126 else 2 if size < 65536 else 8)


@pytest.mark.parametrize(
    "data", [bytearray(b"abcd"), memoryview(b"abcd"), memoryview(b"a.b.c.d.")[::2], array.array("B", b"abcd")]
)
def test_binary_takes_whatever_is_bytes_like(data):
    assert unmasked_sender().binary(data)[6:] == b"abcd"


def test_data_wider_than_bytes_counts_in_bytes():
    assert unmasked_sender().binary(array.array("I", [1, 2]))[1] == 0x88


@pytest.mark.parametrize("data", ["abc", 5, None, [1, 2]])
@pytest.mark.parametrize("method", ["binary", "ping", "pong"])
def test_what_is_not_bytes_like_is_a_type_error(method, data):
    with pytest.raises(TypeError, match=f"bytes-like object, not {type(data).__name__}"):
        getattr(Sender(), method)(data)


@pytest.mark.parametrize("method", ["ping", "pong"])
def test_a_control_frame_has_at_most_125_bytes(method):
    assert len(getattr(Sender(), method)(bytes(125))) == 131
    with pytest.raises(ValueError, match=f"{method}: expected at most 125 bytes, got 126"):
        getattr(Sender(), method)(bytes(126))


class TestPacking:
    """Several messages at once. Keys here are bytes in ascending order; single frames have others."""

    @pytest.fixture
    def sender(self):
        return Sender(keys=MaskKeys(lambda size: bytes(range(size))))

    def test_every_frame_has_a_key_of_its_own_and_so_has_what_follows(self, sender):
        first, end = sender.pack(["not this", "ab", b"cd"], 1, 1000)
        assert end == 3
        second, end = sender.pack(["not this", b"ef", "gh"], 1, 1000)
        assert end == 3
        frames = [first[:8], first[8:], second[:8], second[8:], sender.binary(b"ij")]
        assert [frame[2:6] for frame in frames] == [bytes(range(at, at + 4)) for at in (0, 4, 8, 12, 0)]
        assert [frame[0] for frame in frames] == [0x81, 0x82, 0x82, 0x81, 0x82]
        assert [mask_python(frame[6:], frame[2:6]) for frame in frames] == [b"ab", b"cd", b"ef", b"gh", b"ij"]

    def test_what_the_limit_leaves_takes_no_key(self, sender):
        assert sender.pack(["ab", "cd", "ef"], 0, 17)[1] == 2
        assert sender.pack(["ef"], 0, 17)[0][2:6] == bytes(range(8, 12))


class TestClose:
    def test_the_frame_and_the_fact(self):
        sender = unmasked_sender()
        assert sender.close_sent is None
        assert sender.close(1000, "bye") == b"\x88\x85\0\0\0\0\x03\xe8bye"
        assert sender.close_sent == CloseFrame(1000, "bye")

    @pytest.mark.parametrize(
        "use",
        [
            lambda sender: sender.text(b"late"),
            lambda sender: sender.binary(b"late"),
            lambda sender: sender.ping(b"late"),
            lambda sender: sender.pong(b"late"),
            lambda sender: sender.close(1000, "again"),
        ],
        ids=["text", "binary", "ping", "pong", "close"],
    )
    @pytest.mark.parametrize("compress", [False, True])
    def test_nothing_follows(self, use, compress):
        sender = Sender(deflater() if compress else None)
        sender.close(1000, "bye")
        with pytest.raises(WebSocketClosing, match="data not sent: the WebSocket is closing"):
            use(sender)
        assert sender.close_sent == CloseFrame(1000, "bye")

    @pytest.mark.parametrize(
        "received", [CloseFrame(None, ""), CloseFrame(1000, ""), CloseFrame(4999, "ü" * 61)]
    )
    def test_a_received_frame_can_be_echoed(self, received):
        sender = Sender()
        sender.close(received.code, received.reason)
        assert sender.close_sent == received

    @pytest.mark.parametrize("code", [1002, 1007, 1009, 1010])
    def test_every_code_for_failing_can_be_sent(self, code):
        Sender().close(code, "why")

    def test_a_wrong_code_leaves_the_sender_open(self):
        sender = Sender()
        with pytest.raises(ValueError, match="1005"):
            sender.close(1005, "")
        assert sender.close_sent is None
        sender.text(b"still open")

    def test_what_is_remembered_is_what_was_sent(self):
        sender = Sender()
        sender.close(1000, b"x" * 200)
        assert sender.close_sent == CloseFrame(1000, "x" * 123)
        other = Sender()
        other.close(None, "dropped")
        assert other.close_sent == CloseFrame(None, "")


class TestCompression:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("method", ["text", "binary"])
    def test_a_message_comes_out_as_it_went_in(self, method, size):
        sender = unmasked_sender(deflater=deflater())
        data = b"lochws " * (size // 7) + b"x" * (size % 7)
        frame = getattr(sender, method)(data)
        assert frame[0] == (0xC1 if method == "text" else 0xC2)
        head = 8 if frame[1] == 0xFE else 6  # none of these is still long when compressed
        payload = frame[head:]
        inflater = Inflater(DeflateParameters())
        inflated = inflater.inflate(payload, None) + inflater.finish(None)
        assert inflated == data

    @pytest.mark.parametrize("method", ["text", "binary"])
    def test_a_message_can_opt_out(self, method):
        sender = unmasked_sender(deflater=deflater())
        frame = getattr(sender, method)(b"abc", compress=False)
        assert frame[0] & 0x40 == 0
        assert frame[6:] == b"abc"

    def test_control_frames_are_never_compressed(self):
        sender = unmasked_sender(deflater=deflater())
        assert sender.ping(b"abc")[0] == 0x89
        assert sender.pong(b"abc")[0] == 0x8A
        assert sender.close(1000)[0] == 0x88

    def test_messages_below_the_threshold_go_out_as_they_are(self):
        sender = unmasked_sender(deflater=deflater(), threshold=10)
        assert sender.text(b"x" * 9)[0] == 0x81
        assert sender.text(b"x" * 10)[0] == 0xC1

    def test_a_window_of_8_bits_means_no_compression(self):
        sender = unmasked_sender(deflater=deflater(client_max_window_bits=8))
        assert sender.text(b"abc")[0] == 0x81

    def test_a_refused_message_does_not_enter_the_window(self):
        """The peer never sees it: later messages must not refer to it."""
        shared = deflater()
        closed = Sender(shared)
        closed.close(1000)
        with pytest.raises(WebSocketClosing):
            closed.text(b"unique content " * 10)
        fresh = deflater()
        assert shared.compress(b"unique content " * 10) == fresh.compress(b"unique content " * 10)


@pytest.mark.parametrize("check", [as_bytes, as_control_payload])
class TestBoth:
    def test_bytes_are_not_copied(self, check):
        data = b"abc"
        assert check("send", data) is data

    @pytest.mark.parametrize(
        "data", [bytearray(b"abcd"), memoryview(b"a.b.c.d.")[::2], array.array("B", b"abcd")]
    )
    def test_anything_bytes_like_becomes_bytes(self, check, data):
        taken = check("send", data)
        assert type(taken) is bytes
        assert taken == b"abcd"

    @pytest.mark.parametrize("data", ["abc", 5, None, [1, 2]])
    def test_anything_else_is_a_type_error_that_names_the_method_and_the_type(self, check, data):
        words = f"^send: expected a bytes-like object, not {type(data).__name__}$"
        with pytest.raises(TypeError, match=words):
            check("send", data)


def test_a_control_frame_holds_125_bytes_and_one_more_is_refused():
    assert as_control_payload("ping", bytearray(125)) == bytes(125)
    words = "^ping: expected at most 125 bytes, got 126$"
    with pytest.raises(ValueError, match=words):
        as_control_payload("ping", bytearray(126))
