"""Fragmenter: cuts one message of unknown length into frames while its chunks arrive."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import Any

from .deflate import PIECE_BYTES, Deflater
from .frames import FIN, RSV1, BytesLike, Opcode, build_frame
from .payload import as_bytes


class Fragmenter:
    """Builds the frames of one message: fragments (RFC 6455 section 5.4). Not thread-safe.

    It holds little more than one fragment. With compression, no other message may be compressed from the
    first call of `add` on.

    Args:
        is_text: whether the message is text; its chunks may then be str, and bytes are checked to be UTF-8.
        limit: the largest payload of a frame in bytes.
        keys: returns the next masking key.
        deflater: compresses the message; None to send it as it is.

    Attributes:
        size: the bytes of the message so far, before compression.
        has_gathered: whether bytes wait for the next frame.
    """

    __slots__ = ("_buffer", "_deflater", "_first", "_keys", "_limit", "_stream", "_utf8", "size")

    def __init__(
        self, is_text: bool, limit: int, keys: Callable[[], bytes], deflater: Deflater | None = None
    ) -> None:
        self._first = (Opcode.TEXT if is_text else Opcode.BINARY) | (RSV1 if deflater is not None else 0)
        self._limit = limit
        self._keys = keys
        self._deflater = deflater
        self._stream: Any = None  # of zlib, from the first byte on
        self._utf8 = codecs.getincrementaldecoder("utf-8")() if is_text else None
        self._buffer = bytearray()
        self.size = 0

    @property
    def has_gathered(self) -> bool:
        """True if bytes wait for the next frame."""
        return bool(self._buffer)

    def add(self, chunk: str | BytesLike) -> Iterator[bytes]:
        """Add the next chunk of the message, and yield the frames that are full.

        Raises:
            TypeError: the chunk is neither bytes-like nor, in a text, a str.
            ValueError: the text so far is not valid UTF-8, or a str has lone surrogates.
        """
        data = self._checked(chunk)
        with memoryview(data) as view:
            for start in range(0, len(data), PIECE_BYTES):
                piece = view[start : start + PIECE_BYTES]
                self.size += len(piece)
                self._buffer += self._compressed(piece)
                piece.release()
                while len(self._buffer) > self._limit:  # the last frame keeps at least one byte
                    yield self._frame(self._limit)

    def cut(self) -> bytes:
        """Return a frame with the bytes gathered so far, which are not the end of the message."""
        return self._frame(len(self._buffer))

    def end(self) -> Iterator[bytes]:
        """End the message, and yield its last frames.

        Raises:
            ValueError: the text ends within a character.
        """
        if self._utf8 is not None:
            self._decode(b"", final=True)
        if self._deflater is not None:
            # An empty message is a single zero byte (RFC 7692 section 7.2.3.6).
            self._buffer += b"\x00" if self._stream is None else self._deflater.end(self._stream)
        while len(self._buffer) > self._limit:
            yield self._frame(self._limit)
        yield self._frame(len(self._buffer), FIN)

    def _checked(self, chunk: str | BytesLike) -> bytes:
        if self._utf8 is None:
            return as_bytes("send_stream", chunk, "bytes-like chunks (text=True sends text)")  # type: ignore[arg-type]
        if isinstance(chunk, str):
            data = chunk.encode()
        else:
            data = as_bytes("send_stream", chunk, "chunks of str or UTF-8 bytes")
        if not data.isascii() or self._utf8.getstate()[0]:
            for start in range(0, len(data), PIECE_BYTES):
                self._decode(data[start : start + PIECE_BYTES])
        return data

    def _decode(self, data: bytes, final: bool = False) -> None:
        assert self._utf8 is not None
        try:
            self._utf8.decode(data, final)
        except UnicodeDecodeError as error:
            raise ValueError(f"send_stream: the chunks are not valid UTF-8: {error.reason}") from None

    def _compressed(self, piece: memoryview) -> BytesLike:
        if self._deflater is None:
            return piece
        if self._stream is None:
            self._stream = self._deflater.begin()
        compressed: bytes = self._stream.compress(piece)
        return compressed

    def _frame(self, length: int, final: int = 0) -> bytes:
        frame: bytes = build_frame(self._first | final, bytes(self._buffer[:length]), self._keys())
        del self._buffer[:length]
        self._first = Opcode.CONTINUATION
        return frame
