"""The head of our frames (RFC 6455 section 5.2)."""

from __future__ import annotations

import pytest

from lochws.errors import FrameBuildError
from lochws.protocol.frames import Opcode, encode_head

KEY = b"\x01\x02\x03\x04"


@pytest.mark.parametrize(
    ("length", "field"),
    [
        (0, b"\x80"),
        (1, b"\x81"),
        (125, b"\xfd"),
        (126, b"\xfe\x00\x7e"),
        (127, b"\xfe\x00\x7f"),
        (65535, b"\xfe\xff\xff"),
        (65536, b"\xff\x00\x00\x00\x00\x00\x01\x00\x00"),
        (2**63 - 1, b"\xff\x7f\xff\xff\xff\xff\xff\xff\xff"),
    ],
)
def test_a_length_takes_the_shortest_form(length, field):
    assert encode_head(Opcode.BINARY, length, KEY) == b"\x82" + field + KEY


@pytest.mark.parametrize("length", [2**63, 2**64])
def test_a_payload_of_2_to_the_63_bytes_cannot_be_framed(length):
    with pytest.raises(FrameBuildError, match=str(length)):
        encode_head(Opcode.BINARY, length, KEY)


def test_rsv1_marks_a_compressed_message():
    assert encode_head(Opcode.TEXT, 5, KEY, rsv1=True)[0] == 0xC1


def test_opcodes_have_the_numbers_and_names_of_the_rfc():
    named = {
        "CONTINUATION": 0, "TEXT": 1, "BINARY": 2, "RESERVED1": 3, "RESERVED5": 7,
        "CLOSE": 8, "PING": 9, "PONG": 10, "RESERVED6": 11, "RESERVED10": 15,
    }
    for name, number in named.items():
        assert getattr(Opcode, name) == number
        assert Opcode.to_str(number) == name
    assert sorted(n for name, n in vars(Opcode).items() if name.isupper()) == list(range(16))


@pytest.mark.parametrize("number", [-1, 16, 255])
def test_a_number_that_is_no_opcode_is_a_question_mark(number):
    assert Opcode.to_str(number) == "?"
