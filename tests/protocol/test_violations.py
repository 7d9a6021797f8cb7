"""Violations: every rule that a server can break, and our close code (contract section 9, Q17, Q29)."""

from __future__ import annotations

import pytest

from lochws.errors import CriticalProtocolError, PayloadTooLarge, ProtocolError
from lochws.options import Deflate
from lochws.protocol.deflate import DeflateParameters, Deflater, Inflater
from lochws.protocol.frames import Opcode
from lochws.protocol.receiver import Receiver

from ..support.wire import CHUNKINGS, deflated, feed, frame

CONTROLS = [Opcode.CLOSE, Opcode.PING, Opcode.PONG]
DATA = [Opcode.TEXT, Opcode.BINARY]
START = frame(Opcode.TEXT, b"begun", fin=False)


def refused(stream, *, deflate=False, chunking="whole"):
    """Return the failure that a stream causes, after a message that is still delivered."""
    receiver = Receiver(1 << 20, Inflater(DeflateParameters()) if deflate else None)
    events = feed(receiver, CHUNKINGS[chunking](frame(Opcode.TEXT, b"before") + stream))
    assert events == [("text", "before")]
    assert receiver.done
    assert receiver.failure is not None
    assert receiver.receive(frame(Opcode.TEXT, b"after")) == []
    return receiver.failure


def refused_with_1002(stream, **how):
    failure = refused(stream, **how)
    assert isinstance(failure, ProtocolError)
    assert failure.close_code == 1002
    return str(failure)


@pytest.fixture(params=CHUNKINGS)
def chunking(request):
    return request.param


@pytest.mark.parametrize("opcode", [*DATA, *CONTROLS])
def test_a_masked_frame_is_refused_with_1002(opcode, chunking):
    assert refused_with_1002(frame(opcode, mask=True), chunking=chunking) == "masked frame from the server"


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("fin", [True, False])
def test_a_reserved_opcode_is_refused_with_1002(opcode, fin, chunking):
    text = refused_with_1002(frame(opcode, b"x", fin=fin), chunking=chunking)
    assert f"reserved opcode {opcode}" in text


@pytest.mark.parametrize("opcode", [*DATA, *CONTROLS])
@pytest.mark.parametrize("rsv", range(1, 8))
def test_a_reserved_bit_is_refused_with_1002(opcode, rsv, chunking):
    said = refused_with_1002(frame(opcode, rsv=rsv), chunking=chunking)
    assert said == f"reserved bit set in a {Opcode.to_str(opcode)} frame"


@pytest.mark.parametrize("opcode", [*DATA, *CONTROLS])
@pytest.mark.parametrize("rsv", [1, 2, 3, 5, 6, 7])
def test_with_deflate_only_rsv1_is_allowed(opcode, rsv, chunking):
    assert "reserved bit" in refused_with_1002(frame(opcode, rsv=rsv), deflate=True, chunking=chunking)


@pytest.mark.parametrize("opcode", CONTROLS)
def test_rsv1_on_a_control_frame_is_refused_with_1002(opcode, chunking):
    assert "reserved bit" in refused_with_1002(frame(opcode, rsv=4), deflate=True, chunking=chunking)


@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("compressed", [True, False])
def test_rsv1_on_a_continuation_is_refused_with_1002(fin, compressed):
    start = frame(Opcode.BINARY, b"\x00", fin=False, rsv=4 if compressed else 0)
    stream = start + frame(Opcode.CONTINUATION, b"\x00", fin=fin, rsv=4)
    assert "reserved bit" in refused_with_1002(stream, deflate=True)


@pytest.mark.parametrize("opcode", CONTROLS)
def test_a_control_frame_over_125_bytes_is_refused_with_1002(opcode, chunking):
    text = refused_with_1002(frame(opcode, b"\x03\xe8" + b"x" * 124), chunking=chunking)
    assert text == f"{Opcode.to_str(opcode)} frame with more than 125 bytes"


@pytest.mark.parametrize("opcode", CONTROLS)
def test_a_fragmented_control_frame_is_refused_with_1002(opcode, chunking):
    said = refused_with_1002(frame(opcode, fin=False), chunking=chunking)
    assert said == f"fragmented {Opcode.to_str(opcode)} frame"


@pytest.mark.parametrize("fin", [True, False])
def test_a_continuation_without_a_start_is_refused_with_1002(fin, chunking):
    stream = frame(Opcode.CONTINUATION, b"x", fin=fin)
    said = refused_with_1002(stream, chunking=chunking)
    assert said == "continuation frame without a message to continue"


def test_a_continuation_behind_a_whole_message_is_refused_with_1002():
    stream = START + frame(Opcode.CONTINUATION, fin=True) + frame(Opcode.CONTINUATION)
    receiver = Receiver(None)
    assert feed(receiver, [stream]) == [("text", "begun")]
    assert "continuation" in str(receiver.failure)


@pytest.mark.parametrize("opcode", DATA)
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("between", [b"", frame(Opcode.CONTINUATION, b"x", fin=False)])
def test_a_new_message_inside_another_is_refused_with_1002(opcode, fin, between, chunking):
    stream = START + between + frame(opcode, b"x", fin=fin)
    assert refused_with_1002(stream, chunking=chunking) == "new message inside a fragmented one"


@pytest.mark.parametrize("opcode", DATA)
def test_a_new_message_inside_another_is_refused_with_1002_also_in_a_read_of_its_own(opcode):
    receiver = Receiver(1 << 20)
    assert feed(receiver, [START, frame(opcode, b"x")]) == []
    assert "new message inside" in str(receiver.failure)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1])
@pytest.mark.parametrize("opcode", DATA)
def test_a_length_of_2_to_the_63_is_refused_with_1002(opcode, length, chunking):
    stream = bytes([0x80 | opcode, 127]) + length.to_bytes(8, "big")
    assert isinstance(refused(stream, chunking=chunking), PayloadTooLarge)
    assert refused_with_1002(stream, chunking=chunking) == "frame of 2**63 bytes or more"


@pytest.mark.parametrize("length", [b"\x7e\x00\x7e", b"\x7f" + (1 << 40).to_bytes(8, "big")])
@pytest.mark.parametrize("opcode", CONTROLS)
def test_a_control_frame_over_125_bytes_is_refused_by_its_head(opcode, length, chunking):
    stream = bytes([0x80 | opcode]) + length
    said = refused_with_1002(stream, chunking=chunking)
    assert said == f"{Opcode.to_str(opcode)} frame with more than 125 bytes"


@pytest.mark.parametrize(
    "payload", [b"\x03", *(code.to_bytes(2, "big") for code in (999, 1005, 1006, 2999, 5000))]
)
def test_a_wrong_close_payload_is_refused_with_1002(payload, chunking):
    assert "Close frame" in refused_with_1002(frame(Opcode.CLOSE, payload), chunking=chunking)


def test_a_close_reason_that_is_no_utf8_is_refused_with_1007(chunking):
    failure = refused(frame(Opcode.CLOSE, b"\x03\xe8\xff"), chunking=chunking)
    assert isinstance(failure, CriticalProtocolError)
    assert failure.close_code == 1007


def test_a_refused_close_frame_was_not_received():
    receiver = Receiver(None)
    receiver.receive(frame(Opcode.CLOSE, b"\x03"))
    assert receiver.close_received is None


@pytest.mark.parametrize(
    "payload",
    [b"\xff", b"\x07", b"no deflate stream, this", b"\x01\x05\x00\x05\x00"],
)
def test_data_that_does_not_inflate_is_refused_with_1007(payload, chunking):
    stream = frame(Opcode.BINARY, payload, rsv=4)
    failure = refused(stream, deflate=True, chunking=chunking)
    assert isinstance(failure, CriticalProtocolError)
    assert failure.close_code == 1007
    assert str(failure) == "unable to decompress payload"


def test_a_fragment_that_does_not_inflate_is_refused_before_the_next():
    failure = refused(frame(Opcode.BINARY, b"\xff\xff", fin=False, rsv=4), deflate=True)
    assert failure.close_code == 1007


def test_a_reference_further_back_than_the_window_is_refused_with_1007():
    """The server agreed to 512 bytes and uses 32 KiB."""
    deflater = Deflater(DeflateParameters(), Deflate())
    apart = bytes(n * 97 % 251 ^ n >> 8 for n in range(4000))
    receiver = Receiver(None, Inflater(DeflateParameters(server_max_window_bits=9)))
    feed(receiver, [deflated(Opcode.BINARY, b"a long phrase to repeat" + apart, deflater)])
    feed(receiver, [deflated(Opcode.BINARY, b"a long phrase to repeat", deflater)])
    assert receiver.failure.close_code == 1007


@pytest.mark.parametrize(
    "head",
    [
        b"\x83",
        b"\x81\x80",
        b"\xc1\x05",
        b"\x09\x05",
        b"\x80\x05",
        b"\x00\x7f",
    ],
)
def test_a_wrong_head_needs_no_payload_to_be_refused(head):
    """Two bytes are enough."""
    receiver = Receiver(None)
    receiver.receive((head + b"\x00")[:2])
    assert receiver.failure.close_code == 1002


def test_a_failure_keeps_nothing_of_the_call_alive():
    receiver = Receiver(None)
    receiver.receive(frame(Opcode.TEXT, b"\xff" * 1000))
    assert receiver.failure.__traceback__ is None
    assert receiver.failure.__context__ is None
    assert receiver.failure.__cause__ is None
