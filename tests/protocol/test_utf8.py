"""UTF-8 validation: text is refused at its first invalid byte (RFC 6455 section 8.1; contract Q30)."""

from __future__ import annotations

import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.errors import CriticalProtocolError
from lochws.protocol.deflate import DeflateParameters, Inflater
from lochws.protocol.frames import Opcode
from lochws.protocol.receiver import Receiver

from ..support.wire import feed, fragments, frame

WRONG = {
    "lone continuation": b"\x80",
    "two of them": b"ok\xbf\xbf",
    "never used": b"\xc0",
    "overlong slash": b"\xc0\xaf",
    "overlong, 3 bytes": b"\xe0\x80\xaf",
    "overlong, 4 bytes": b"\xf0\x80\x80\xaf",
    "low surrogate": b"\xed\xb0\x80",
    "high surrogate": b"kappa \xed\xa0\x80 edited",
    "above U+10FFFF": "κόσμε".encode() + b"\xf4\x90\x80\x80",
    "5 bytes": b"\xf8\x88\x80\x80\x80",
    "ff": b"fine so far\xff",
    "cut off, then ASCII": b"\xe2\x82x",
    "cut off, then another": b"\xf0\x9f\x98\xe2\x82\xac",
}
RIGHT = ["", "κόσμε", "\u07ff\u0800\ufffe\uffff\U00010000\U0010ffff", "\ud7ff\ue000", "a\0b", "😀" * 100]


# What may complete any character: these four stand for every range that a continuation byte may need.
TAILS = [bytes(tail) for n in range(4) for tail in itertools.product((0x80, 0x90, 0xA0, 0xBF), repeat=n)]


def can_begin_text(data: bytes) -> bool:
    """Return whether any text begins with these bytes, found out with `bytes.decode`."""
    for tail in TAILS:
        try:
            (data + tail).decode()
        except UnicodeDecodeError:
            continue
        return True
    return False


def first_wrong_byte(data: bytes) -> int | None:
    """Return the index of the first byte after which no text is possible."""
    return next((i for i in range(len(data)) if not can_begin_text(data[: i + 1])), None)


def assert_no_utf8(receiver: Receiver) -> None:
    """Assert that the receiver has failed with 1007."""
    assert isinstance(receiver.failure, CriticalProtocolError)
    assert receiver.failure.close_code == 1007
    assert str(receiver.failure) == "text message is not valid UTF-8"


def offset_of_failure(receiver: Receiver, head: bytes, payload: bytes) -> int | None:
    """Return the index of the payload byte at which a receiver fails, fed byte by byte."""
    assert receiver.receive(head) == []
    for index in range(len(payload)):
        receiver.receive(payload[index : index + 1])
        if receiver.failure is not None:
            assert_no_utf8(receiver)
            return index
    return None


@pytest.mark.parametrize("payload", WRONG.values(), ids=WRONG.keys())
class TestWrongText:
    def test_in_a_frame_not_yet_complete(self, payload):
        head = bytes([0x81, len(payload) + 50])
        assert offset_of_failure(Receiver(None), head, payload) == first_wrong_byte(payload)

    def test_in_the_last_byte_of_a_message(self, payload):
        cut = payload[: first_wrong_byte(payload) + 1]
        assert offset_of_failure(Receiver(None), bytes([0x81, len(cut)]), cut) == len(cut) - 1

    def test_in_a_whole_frame(self, payload):
        receiver = Receiver(None)
        assert feed(receiver, [frame(Opcode.TEXT, b"before") + frame(Opcode.TEXT, payload)]) == [
            ("text", "before")
        ]
        assert_no_utf8(receiver)

    def test_behind_a_control_frame(self, payload):
        wrong = first_wrong_byte(payload)
        receiver = Receiver(None)
        stream = frame(Opcode.TEXT, payload[:wrong], fin=False) + frame(Opcode.PING, b"!")
        assert feed(receiver, [stream]) == [("ping", b"!")]
        assert receiver.failure is None
        receiver.receive(bytes([0x00, 100]) + payload[wrong : wrong + 1])
        assert_no_utf8(receiver)

    def test_spread_over_fragments_of_one_byte(self, payload):
        receiver = Receiver(None)
        frames = list(fragments(Opcode.TEXT, [payload[i : i + 1] for i in range(len(payload))] + [b"more"]))
        survived = next(i for i, part in enumerate(frames) if receiver.receive(part) or receiver.failure)
        assert survived == first_wrong_byte(payload)
        assert_no_utf8(receiver)

    def test_in_a_compressed_message_not_yet_complete(self, payload):
        stream = zlib.compressobj(wbits=-15)
        compressed = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
        receiver = Receiver(None, Inflater(DeflateParameters()))
        receiver.receive(bytes([0xC1, len(compressed) + 50]) + compressed)
        assert_no_utf8(receiver)

    def test_in_a_whole_compressed_message(self, payload):
        stream = zlib.compressobj(wbits=-15)
        compressed = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)[:-4]
        receiver = Receiver(None, Inflater(DeflateParameters()))
        receiver.receive(frame(Opcode.TEXT, compressed, rsv=4))
        assert_no_utf8(receiver)

    def test_in_a_compressed_fragment(self, payload):
        stream = zlib.compressobj(wbits=-15)
        compressed = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
        receiver = Receiver(None, Inflater(DeflateParameters()))
        receiver.receive(frame(Opcode.TEXT, compressed, fin=False, rsv=4))
        assert_no_utf8(receiver)

    def test_in_a_binary_message_it_is_data(self, payload):
        assert feed(Receiver(None), [frame(Opcode.BINARY, payload)]) == [("binary", payload)]


@pytest.mark.parametrize("text", RIGHT)
def test_right_text_passes_in_fragments_of_one_byte(text):
    data = text.encode()
    stream = b"".join(fragments(Opcode.TEXT, [data[i : i + 1] for i in range(len(data))] or [b""]))
    assert feed(Receiver(None), [stream]) == [("text", text)]
    assert feed(Receiver(None), (stream[i : i + 1] for i in range(len(stream)))) == [("text", text)]


@pytest.mark.parametrize("end", [b"\xe2\x82", b"\xf0\x9f\x98", b"\xc3", b"\xed\x9f"])
@pytest.mark.parametrize("whole", [True, False])
def test_text_may_not_end_inside_a_character(end, whole):
    stream = frame(Opcode.TEXT, b"abc" + end)
    receiver = Receiver(None)
    assert feed(receiver, [stream] if whole else [stream[:4], stream[4:]]) == []
    assert_no_utf8(receiver)


_nearly_text = st.lists(
    st.one_of(
        st.sampled_from([b"\x80", b"\xc0", b"\xe0\xa0", b"\xed\x9f\xbf", b"\xed\xa0", b"\xf4\x8f", b"\xf5"]),
        st.text(max_size=3).map(str.encode),
        st.binary(max_size=2),
    ),
    max_size=6,
).map(b"".join)


@given(payload=_nearly_text)
def test_the_first_wrong_byte_is_the_one_that_the_definition_names(payload):
    head = bytes([0x81, 125])
    assert offset_of_failure(Receiver(None), head, payload) == first_wrong_byte(payload)
