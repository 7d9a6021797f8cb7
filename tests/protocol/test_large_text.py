"""Large texts: decoded whole, right, and with little more memory than the str. Both twins pass the same
tests."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lochws.protocol import compiled
from lochws.protocol.frames import Opcode
from lochws.protocol.payload import decode_payload_python
from lochws.protocol.receiver import Receiver

from ..support.wire import feed, frame

ROOT = Path(__file__).parent.parent.parent
TWINS = [decode_payload_python] if compiled.twins is None else [
    decode_payload_python, compiled.twins.decode_payload
]
#: The compiled twin decodes blocks of this many bytes.
BLOCK = 1 << 20


def buffer_of(data: bytes) -> BytesIO:
    """Return a buffer that alone holds these bytes; `BytesIO(data)` would share them."""
    buffer = BytesIO()
    buffer.write(data)
    return buffer


@pytest.fixture(params=TWINS, ids=["python", "compiled"][: len(TWINS)])
def decode(request):
    return request.param


@pytest.mark.parametrize("character", ["a", "é", "ÿ", "Ā", "漢", "😀"])
@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("size", [0, 1, 100, BLOCK, 2 * BLOCK + 10])
def test_a_character_may_lie_across_blocks(decode, character, shift, size):
    text = "x" * shift + character * (size // len(character.encode())) + "z"
    assert decode(buffer_of(text.encode())) == text


@pytest.mark.parametrize("other", ["é", "漢", "😀", "\U0010ffff", "\ud7ff\ue000"])
@pytest.mark.parametrize("place", [0, BLOCK // 2, BLOCK - 1, 2 * BLOCK, 3 * BLOCK])
def test_one_character_may_make_all_others_wide(decode, other, place):
    text = "x" * place + other + "y" * (3 * BLOCK - place)
    decoded = decode(buffer_of(text.encode()))
    assert decoded == text
    assert sys.getsizeof(decoded) == sys.getsizeof(text)


@pytest.mark.parametrize(
    "wrong", [b"\x80", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80" * 9]
)
@pytest.mark.parametrize("place", [0, 5, BLOCK - 1, 2 * BLOCK])
def test_a_wrong_byte_anywhere_is_refused(decode, wrong, place):
    data = b"x" * place + wrong + b"y" * (2 * BLOCK - place)
    with pytest.raises(UnicodeDecodeError):
        decode(buffer_of(data))


@pytest.mark.parametrize("data", [b"\x80" * (2 * BLOCK), b"x" * (2 * BLOCK) + b"\xf0\x9f\x98"])
def test_text_that_begins_or_ends_inside_a_character_is_refused(decode, data):
    with pytest.raises(UnicodeDecodeError):
        decode(buffer_of(data))


def test_the_buffer_is_closed(decode):
    buffer = buffer_of(b"text")
    decode(buffer)
    assert buffer.closed


def test_bytes_that_somebody_else_holds_stay_as_they_are(decode):
    data = "aé漢😀".encode() * BLOCK
    copy = bytes(bytearray(data))
    assert decode(BytesIO(data)) == copy.decode()
    assert data == copy


@settings(max_examples=200)
@given(st.text(max_size=200), st.integers(1, 20))
def test_any_text_comes_back(text, repeats):
    for decode in TWINS:
        assert decode(buffer_of((text * repeats).encode())) == text * repeats


@pytest.mark.skipif(compiled.twins is None, reason="built without a compiler")
@pytest.mark.parametrize("wrong", [None, b"bytes", 5])
def test_what_is_not_a_buffer_is_refused(wrong):
    with pytest.raises((AttributeError, TypeError)):
        compiled.twins.decode_payload(wrong)


@pytest.mark.parametrize("fin", [True, False])
def test_a_large_text_is_received(fin):
    text = "x" * BLOCK + "😀" + "y" * BLOCK
    receiver = Receiver(None)
    stream = frame(Opcode.TEXT, text.encode(), fin=fin) + (b"" if fin else frame(Opcode.CONTINUATION))
    pieces = [stream[at : at + 65536] for at in range(0, len(stream), 65536)]
    assert feed(receiver, pieces) == [("text", text)]


#: Receives 32 MiB of text with one emoji, as a stream does, and prints by how many MiB the process grew at
#: most.
PEAK = """
import resource, sys
from lochws.protocol.receiver import Receiver
piece, size = b"x" * 65536, 32 << 20
receiver = Receiver(None)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)
before = peak()
receiver.receive(b"\\x81\\x7f" + size.to_bytes(8, "big") + "\\U0001f600".encode() + piece[4:])
for _ in range(size // len(piece) - 2):
    receiver.receive(piece)
(event,) = receiver.receive(piece)
assert len(event.text) == size - 3 and receiver.failure is None
print(peak() - before)
"""


@pytest.mark.skipif(compiled.twins is None, reason="the Python twin needs more")
@pytest.mark.skipif(sys.platform == "win32", reason="has no getrusage")
def test_32_mib_with_an_emoji_take_their_str_and_little_more():
    printed = subprocess.run(
        [sys.executable, "-c", PEAK], cwd=ROOT, env={"LOCHWS_PURE_PYTHON": ""}, capture_output=True,
        text=True, check=True, timeout=25,
    ).stdout
    assert int(printed) < 128 + 12  # the str has four bytes for each character
