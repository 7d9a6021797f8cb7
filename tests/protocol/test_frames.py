"""The head of our frames (RFC 6455 section 5.2)."""

from __future__ import annotations

import pytest

from lochws.errors import FrameBuildError
from lochws.protocol.frames import FIN, Opcode, encode_head

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
    assert encode_head(FIN | Opcode.BINARY, length, KEY) == b"\x82" + field + KEY


@pytest.mark.parametrize("length", [2**63, 2**64])
def test_a_payload_of_2_to_the_63_bytes_cannot_be_framed(length):
    with pytest.raises(FrameBuildError, match=str(length)):
        encode_head(FIN | Opcode.BINARY, length, KEY)


def test_opcodes_have_the_numbers_and_names_of_the_rfc():
    named = {"CONTINUATION": 0, "TEXT": 1, "BINARY": 2, "CLOSE": 8, "PING": 9, "PONG": 10}
    assert {name: number for name, number in vars(Opcode).items() if name.isupper()} == named
    for name, number in named.items():
        assert Opcode.to_str(number) == name


@pytest.mark.parametrize("number", [-1, 3, 11, 16, 255])
def test_a_number_that_is_not_an_opcode_in_use_is_a_question_mark(number):
    assert Opcode.to_str(number) == "?"
