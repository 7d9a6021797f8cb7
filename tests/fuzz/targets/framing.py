"""Frames that we build: both twins build the same, and unmasking gives the message."""

from __future__ import annotations

from lochws.protocol import compiled
from lochws.protocol.frames import FIN, Item, Opcode, build_frame_python, measure_python, pack_python
from lochws.protocol.masking import mask_python

from ..inputs import Choices

TOKENS = [b"\x00" * 8, b"\xff" * 8, b"x" * 125, b"x" * 126]

#: The twins. There must be two, or nothing is compared.
BUILDS = [build_frame_python, *([compiled.twins.build_frame] if compiled.twins is not None else [])]
PACKS = [
    (measure_python, pack_python),
    *([(compiled.twins.measure, compiled.twins.pack)] if compiled.twins is not None else []),
]
#: How often the input is repeated: the longer forms of a length would need inputs that are too long.
REPEATS = (1, 9, 300)


def TestOneInput(data: bytes) -> None:  # noqa: N802  the name that fuzzers look for
    """Take the input for first byte, key and payload of a frame, and for items of a batch."""
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
    check_batch(Choices(choices.rest), repeats)


def check_batch(choices: Choices, repeats: int) -> None:
    """Both twins pack the same frames; each is that of its item, and the limit is kept."""
    limit, items = choices.number() * 9, list[Item]()
    while choices.rest and len(items) < 30:
        kind, size = choices.number() % 3, choices.number()
        content, choices.rest = choices.rest[:size] * repeats, choices.rest[size:]
        ascii_text = bytes(byte & 0x7F for byte in content).decode("ascii")
        items.append((content, "owner") if kind == 0 else content if kind == 1 else ascii_text)
    keys, start = bytes(range(4 * len(items))), 0
    while start < len(items):
        packed = {pack(items, start, limit, keys, 4 * start) for _, pack in PACKS}
        assert len(packed) == 1, packed
        ((frames, end),) = packed
        assert start < end <= len(items)
        assert len(frames) <= limit or end == start + 1
        assert {measure(items[:end], start) for measure, _ in PACKS} == {len(frames)}
        single = [alone(item, keys[4 * index :]) for index, item in enumerate(items[:end])]
        assert frames == b"".join(single[start:])
        start = end


def alone(item: Item, keys: bytes) -> bytes:
    """Return the frame of a single item."""
    if isinstance(item, tuple):
        return item[0]
    if isinstance(item, str):
        return build_frame_python(FIN | Opcode.TEXT, item.encode(), keys[:4])
    return build_frame_python(FIN | Opcode.BINARY, item, keys[:4])
