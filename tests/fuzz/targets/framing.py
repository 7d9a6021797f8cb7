"""Frames as we build them: both twins make the same, and unmasked it is what was to be sent."""

from __future__ import annotations

from lochws.protocol import scanning
from lochws.protocol.frames import FIN
from lochws.protocol.framing import build_frame_python
from lochws.protocol.masking import mask_python

from ..inputs import Choices

TOKENS = [b"\x00" * 8, b"\xff" * 8, b"x" * 125, b"x" * 126]

#: The twins. There must be two, or nothing is compared.
BUILDS = [build_frame_python, *([scanning.compiled.build_frame] if scanning.compiled is not None else [])]
#: How often the input is repeated: the longer forms of a length would need inputs that are too long.
REPEATS = (1, 9, 300)


def TestOneInput(data: bytes) -> None:  # noqa: N802  the name that fuzzers look for
    """Take the input for first byte, key and payload of a frame."""
    choices = Choices(data)
    first, offset, repeats = FIN | choices.number(), choices.number() % 16, choices.one_of(REPEATS)
    key, payload = choices.rest[:4].ljust(4, b"k"), choices.rest[4:] * repeats
    # Behind an offset the payload lies at any address, not only at one that words like.
    shifted = memoryview(bytes(offset) + payload)[offset:]
    kinds = (payload, bytearray(payload), shifted)
    frames = {build(first, given, key) for build in BUILDS for given in kinds}
    assert len(frames) == 1, frames
    (frame,) = frames
    head = 2 if len(payload) < 126 else 4 if len(payload) < 65536 else 10
    assert frame[0] == first
    assert frame[head : head + 4] == key
    assert mask_python(frame[head + 4 :], key) == payload
