"""Decoding of PNG as browsers write it: eight bits per channel, with or without transparency."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}  # RGB, RGBA


@dataclass
class Picture:
    """A decoded picture.

    Attributes:
        rows: the bytes of each row, channel by channel.
        step: bytes a pixel.
    """

    width: int
    height: int
    step: int
    rows: list[bytes]

    def pixel(self, x: int, y: int) -> tuple[int, ...]:
        """Return red, green and blue of a pixel."""
        return tuple(self.rows[y][x * self.step : x * self.step + 3])

    def colors(self, y: int) -> set[tuple[int, ...]]:
        """Return all colors of a row."""
        return {self.pixel(x, y) for x in range(self.width)}


def decode(data: bytes) -> Picture:
    """Decode a PNG; checks every checksum and every row.

    Raises:
        AssertionError: it is none, or of a kind that browsers do not make.
    """
    assert data.startswith(_SIGNATURE)
    chunks = list(_chunks(data[len(_SIGNATURE):]))
    assert [chunks[0][0], chunks[-1][0]] == [b"IHDR", b"IEND"]
    width, height, depth, color, *_, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, interlaced) == (8, 0)
    step = _CHANNELS[color]
    body = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"))
    rows, stride = [], width * step + 1
    assert len(body) == stride * height
    before = bytes(stride - 1)
    for start in range(0, len(body), stride):
        before = _unfilter(body[start], body[start + 1 : start + stride], before, step)
        rows.append(before)
    return Picture(width, height, step, rows)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 0
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(kind + content),)
        chunks.append((kind, content))
        at += length + 12
    return chunks


def _unfilter(kind: int, row: bytes, above: bytes, step: int) -> bytes:
    """Undo the filter of a row (PNG 9.2), which stores differences from a prediction."""
    if kind == 0:
        return row
    if kind == 2:  # most rows; worth a fast path
        return bytes((byte + guess) & 0xFF for byte, guess in zip(row, above, strict=True))
    result = bytearray(step) + row
    corners = bytes(step) + above
    for index, (byte, up, corner) in enumerate(zip(row, above, corners, strict=False)):
        left = result[index]
        guess = left if kind == 1 else (left + up) // 2 if kind == 3 else _paeth(left, up, corner)
        result[index + step] = (byte + guess) & 0xFF
    return bytes(result[step:])


def _paeth(left: int, above: int, corner: int) -> int:
    """Return the one of the three that is nearest to left + above - corner."""
    to_left, to_above, to_corner = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
    if to_left <= to_above and to_left <= to_corner:
        return left
    return above if to_above <= to_corner else corner
