"""Error texts for broken rules, word for word, since users search for them."""

from __future__ import annotations

import pytest

from lochws.errors import CompressionParameterError, HandshakeError, WebSocketClosing
from lochws.options import Deflate
from lochws.protocol.close import CloseFrame, encode_close
from lochws.protocol.deflate import DeflateParameters, Deflater, accept
from lochws.protocol.frames import Opcode
from lochws.protocol.keepalive import Keepalive
from lochws.protocol.receiver import Receiver
from lochws.protocol.sender import Sender

from ..support.wire import frame


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (frame(Opcode.CLOSE, b"\x03"), "Close frame with a payload of 1 byte"),
        (frame(Opcode.CLOSE, b"\x03\xed"), "Close frame with the invalid code 1005"),
        (frame(Opcode.CLOSE, b"\x03\xe8\xff"), "Close frame with a reason that is not valid UTF-8"),
        (frame(Opcode.TEXT, b"\xff"), "text message is not valid UTF-8"),
        (frame(Opcode.TEXT, b"\xff", fin=False), "text message is not valid UTF-8"),
        (frame(Opcode.TEXT, b"\xed\xa0", fin=False), "text message is not valid UTF-8"),
        (frame(Opcode.BINARY, bytes(101)), "message is larger than 100 bytes"),
        (b"\x82\x7f" + b"\xff" * 8, "frame of 2**63 bytes or more"),
    ],
)
def test_of_frames(sent, sentence):
    receiver = Receiver(100)
    receiver.receive(sent)
    assert str(receiver.failure) == sentence


@pytest.mark.parametrize(
    ("header", "offered", "kind", "sentence"),
    [
        ("permessage-deflate, x", Deflate(), HandshakeError, "More than one extension chosen"),
        ("=", Deflate(), HandshakeError, "Sec-WebSocket-Extensions cannot be understood: '='"),
        ("X", Deflate(), HandshakeError, "Extension X was not offered"),
        ("permessage-deflate", Deflate(server_no_context_takeover=True), CompressionParameterError,
         "server_no_context_takeover was asked for and is missing"),
        ("permessage-deflate", Deflate(server_max_window_bits=10), CompressionParameterError,
         "server_max_window_bits was asked for and is missing"),
        ("permessage-deflate; server_max_window_bits=11", Deflate(server_max_window_bits=10),
         CompressionParameterError, "server_max_window_bits=11 is more than asked for"),
    ],
)
def test_of_extensions(header, offered, kind, sentence):
    with pytest.raises(kind) as caught:
        accept(header, offered)
    assert str(caught.value) == sentence


def test_of_sending_behind_our_close_frame():
    sender = Sender()
    sender.close(1000, "")
    with pytest.raises(WebSocketClosing) as caught:
        sender.text(b"late")
    assert str(caught.value) == "data not sent: the WebSocket is closing"


def test_a_close_frame_without_a_reason_and_a_ping_without_data():
    sender = Sender()
    assert sender.ping()[1] == 0x80
    sender.close(1000)
    assert sender.close_sent == CloseFrame(1000, "")


def test_bytes_that_come_with_a_ping_answer_it():
    keepalive = Keepalive(10.0, 20.0)
    keepalive.start(100.0)
    assert keepalive.ping_due(100.0)
    keepalive.received(100.0)
    assert not keepalive.timed_out(1000.0)


def test_the_deflater_has_the_memory_that_it_was_given():
    message = bytes(range(256)) * 2000 + bytes(200_000)
    small, large = (
        Deflater(DeflateParameters(), Deflate(memory=memory)).compress(message) for memory in (1, 9)
    )
    assert len(small) > len(large)


def test_a_close_payload_has_no_reason_of_its_own():
    assert encode_close(1000) == b"\x03\xe8"
