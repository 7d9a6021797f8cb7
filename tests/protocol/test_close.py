"""Close payloads: code and reason, both ways (RFC 6455 sections 5.5.1 and 7.4; contract Q18)."""

from __future__ import annotations

import pytest

from lochws.errors import CriticalProtocolError, ProtocolError
from lochws.protocol.close import CloseFrame, encode_close, parse_close

VALID = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
INVALID = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@pytest.mark.parametrize("code", VALID)
def test_a_valid_code_goes_both_ways(code):
    payload = encode_close(code, "so long")
    assert payload == code.to_bytes(2, "big") + b"so long"
    assert parse_close(payload) == CloseFrame(code, "so long")


@pytest.mark.parametrize("code", [*INVALID, -1, 65536])
def test_an_invalid_code_is_not_sent(code):
    with pytest.raises(ValueError, match=f"close code {code} .*1000 to 1003"):
        encode_close(code)


@pytest.mark.parametrize("code", INVALID)
def test_an_invalid_code_is_refused_with_1002(code):
    with pytest.raises(ProtocolError, match=str(code)) as caught:
        parse_close(code.to_bytes(2, "big"))
    assert caught.value.close_code == 1002


@pytest.mark.parametrize("code", [True, False, "1000", 1000.0, b"\x03\xe8"])
def test_a_code_that_is_no_int_is_a_type_error(code):
    with pytest.raises(TypeError, match="whole number"):
        encode_close(code)


def test_no_code_is_an_empty_payload_and_drops_the_reason():
    assert encode_close(None, "not told") == b""
    assert parse_close(b"") == CloseFrame(None, "")


def test_a_payload_of_one_byte_is_refused_with_1002():
    with pytest.raises(ProtocolError, match="1 byte") as caught:
        parse_close(b"\x03")
    assert caught.value.close_code == 1002


@pytest.mark.parametrize("reason", [b"\xff", b"ok\xc3", b"\xed\xa0\x80"])
def test_a_received_reason_that_is_no_utf8_is_refused_with_1007(reason):
    with pytest.raises(CriticalProtocolError, match="not valid UTF-8") as caught:
        parse_close(b"\x03\xe8" + reason)
    assert caught.value.close_code == 1007


@pytest.mark.parametrize("reason", ["grüße", "grüße".encode(), bytearray("grüße".encode())])
def test_a_reason_is_str_or_bytes(reason):
    assert encode_close(1000, reason)[2:] == "grüße".encode()


def test_bytes_that_are_no_utf8_are_no_reason():
    with pytest.raises(ValueError, match="not valid UTF-8"):
        encode_close(1000, b"\xff")


def test_lone_surrogates_are_no_reason():
    with pytest.raises(ValueError, match="cannot be encoded"):
        encode_close(1000, "\ud800")


@pytest.mark.parametrize("reason", [None, 5, ["a"]])
def test_another_type_is_no_reason(reason):
    with pytest.raises(TypeError, match="expected str or bytes"):
        encode_close(1000, reason)


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("é" * 62, "é" * 61),  # 124 bytes; 123 would cut the last one
        ("x" + "é" * 61, "x" + "é" * 61),
        ("x" * 122 + "é", "x" * 122),
        ("x" * 121 + "€", "x" * 121),
        ("x" * 120 + "😀", "x" * 120),
        ("x" * 119 + "😀", "x" * 119 + "😀"),
    ],
)
def test_a_long_reason_is_cut_at_the_end_of_a_character(reason, kept, as_bytes):
    payload = encode_close(1000, reason.encode() if as_bytes else reason)
    assert payload[2:].decode() == kept
    assert len(payload) <= 125
