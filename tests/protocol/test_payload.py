"""What callers hand over to be sent: bytes-like, and short enough for a control frame."""

from __future__ import annotations

import array

import pytest

from lochws.protocol.payload import as_bytes, as_control_payload


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
    words = "^ping: 126 bytes are too many, a control frame has at most 125$"
    with pytest.raises(ValueError, match=words):
        as_control_payload("ping", bytearray(126))
