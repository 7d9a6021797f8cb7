"""Whole frames. Both twins pass the same tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.protocol import scanning
from lochws.protocol.frames import FIN, RSV1, Opcode
from lochws.protocol.framing import build_frame_python
from lochws.protocol.masking import mask_python

from .wire import SIZES

KEY = b"\x37\xfa\x21\x3d"
TWINS = [build_frame_python]
if scanning.compiled is not None:
    TWINS.append(scanning.compiled.build_frame)


@pytest.fixture(params=TWINS, ids=["python", "compiled"][: len(TWINS)])
def build(request):
    return request.param


class TestTwins:
    def test_the_example_of_the_rfc(self, build):
        assert build(0x81, b"Hello", KEY) == bytes.fromhex("818537fa213d7f9f4d5158")

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    @pytest.mark.parametrize("size", [*SIZES, 7, 8, 9, 15, 16, 17, 200_001])
    def test_any_size_and_kind(self, build, kind, size):
        payload = os.urandom(size)
        built = build(FIN | Opcode.BINARY, kind(payload), KEY)
        head = 2 if size < 126 else 4 if size < 65536 else 10
        assert type(built) is bytes
        assert len(built) == head + 4 + size
        assert built[0] == 0x82
        assert built[1] == 0x80 | (size if head == 2 else 126 if head == 4 else 127)
        assert head == 2 or int.from_bytes(built[2:head], "big") == size
        assert built[head:head + 4] == KEY
        assert mask_python(built[head + 4:], KEY) == payload

    def test_the_first_byte_is_as_given(self, build):
        assert build(FIN | RSV1 | Opcode.TEXT, b"", KEY)[0] == 0xC1
        assert build(FIN | Opcode.CLOSE, b"", KEY)[0] == 0x88

    @given(st.integers(0x81, 0x8F), st.binary(max_size=300), st.binary(min_size=4, max_size=4))
    def test_both_do_the_same(self, first, payload, key):
        assert len({twin(first, payload, key) for twin in TWINS}) == 1


@pytest.mark.skipif(scanning.compiled is None, reason="built without a compiler")
@pytest.mark.parametrize(
    "arguments", [(), (1, b""), (1, "", KEY), (1, b"", b"abc"), (1, b"", "abcd"), ("", b"", KEY)]
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(TypeError):
        scanning.compiled.build_frame(*arguments)
