"""Compression of queued messages: one thread at a time compresses, in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from ..base.records import record
from ..protocol.deflate import PIECE_BYTES
from .outgoing import Raw

#: Makes the frame of a raw message, whole or in pieces: `compressed` and `compressing` of
#: `lochws.protocol.sender.Sender`.
CompressWhole: TypeAlias = "Callable[[int, bytes], bytes]"
CompressInPieces: TypeAlias = "Callable[[int, bytes], Iterator[bytes]]"


@record(frozen=True, slots=True)
class Compress:
    """The two ways to make the frames of a raw message."""

    whole: CompressWhole
    in_pieces: CompressInPieces


class Compression:
    """The message that is being compressed. For the one thread that compresses."""

    __slots__ = ("_current", "_in_pieces", "whole")

    def __init__(self, compress: Compress) -> None:
        self.whole, self._in_pieces = compress.whole, compress.in_pieces
        self._current: Iterator[bytes] | None = None

    def some(self, raw: Raw, limit: float) -> tuple[bytes, float]:
        """Compress the next pieces of a message.

        Returns:
            The message's frame, which is empty if the limit was reached first; and the rest of the limit.
            Call `done` once the frame has been queued.
        """
        if self._current is None:
            self._current = self._in_pieces(raw[0], raw[1])
        frame = b""
        for frame in self._current:
            limit -= min(PIECE_BYTES, 1024 + len(raw[1]))
            if frame or limit <= 0:
                break
        return frame, limit

    def done(self) -> None:
        """Forget the message, since its frame was queued."""
        self._current = None
