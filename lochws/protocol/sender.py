"""The sending half of the protocol: messages in, frames out (RFC 6455 sections 5 to 7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lochws.errors import WebSocketClosing

from .close import CloseFrame, as_reason, encode_close
from .deflate import Deflater
from .fragmenter import Fragmenter
from .frames import FIN, MAX_CONTROL_PAYLOAD, RSV1, BytesLike, Item, Opcode, build_frames, pack
from .masking import MaskKeys
from .payload import as_bytes

#: The number of bytes of a message that an error shows.
MAX_SHOWN = 32

_TEXT = FIN | Opcode.TEXT
_BINARY = FIN | Opcode.BINARY


def as_text(method: str, text: str | BytesLike) -> str:
    """Return a text as a str; bytes are decoded as UTF-8.

    Args:
        method: the name of the method that was called, for the error.
        text: a str, or any bytes-like object that holds UTF-8.

    Raises:
        TypeError: the text is neither a str nor bytes-like.
        ValueError: the bytes are not valid UTF-8.
    """
    if isinstance(text, str):
        return text
    data = as_bytes(method, text, "a str or UTF-8 bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{method}: {_shown(data)} is not valid UTF-8 (byte 0x{data[error.start]:02x} at position "
            f"{error.start}); send_binary sends any bytes"
        ) from None


def as_chunks(method: str, chunks: Iterable[str | BytesLike]) -> Iterator[str | BytesLike]:
    """Return an iterator over the chunks of a message.

    Args:
        method: the name of the method that was called, for the error.
        chunks: an iterable that is not a message itself.

    Raises:
        TypeError: `chunks` is a message, an asynchronous iterable or not iterable.
    """
    if isinstance(chunks, (str, bytes, bytearray, memoryview)):
        other = "send_text" if isinstance(chunks, str) else "send_binary"
        kind = type(chunks).__name__
        raise TypeError(f"{method}: expected an iterable of chunks, not {kind}; {other} sends a message")
    if hasattr(chunks, "__aiter__"):
        raise TypeError(
            f"{method}: {type(chunks).__name__} is asynchronous: pass a generator that gets each chunk from "
            "the event loop (docs/streams.md), and call it on another thread"
        )
    try:
        return iter(chunks)
    except TypeError:
        raise TypeError(
            f"{method}: expected an iterable of chunks, not {type(chunks).__name__}"
        ) from None


def _shown(data: bytes) -> str:
    return repr(data) if len(data) <= MAX_SHOWN else f"{data[:MAX_SHOWN]!r}…"


def as_control_payload(method: str, data: BytesLike) -> bytes:
    """Return the payload of a control frame as bytes.

    Args:
        method: the name of the method that was called, for the error.
        data: any bytes-like object of at most 125 bytes.

    Raises:
        TypeError: the data is not bytes-like.
        ValueError: the data has more than 125 bytes.
    """
    payload = as_bytes(method, data)
    if len(payload) > MAX_CONTROL_PAYLOAD:
        raise ValueError(f"{method}: expected at most {MAX_CONTROL_PAYLOAD} bytes, got {len(payload)}")
    return payload


class Sender:
    """Builds the frames of one connection: one for each message, or several for a large one. Never blocks.

    There is one Close frame and nothing after it: once it was built, every method raises, `close` included.
    Not thread-safe: frames must be sent in the order in which they were built, so one lock guards both.

    Args:
        deflater: compresses messages, if permessage-deflate was agreed on.
        threshold: messages with fewer bytes are not compressed.
        keys: the source of masking keys.
        fragment: the largest payload of a frame in bytes: larger messages are fragmented (RFC 6455 section
            5.4). None for no limit.

    Attributes:
        close_sent: our Close frame, or None.
        keys: the masking keys, of which `pack` takes those in its `block`.
    """

    def __init__(
        self,
        deflater: Deflater | None = None,
        threshold: int = 0,
        keys: MaskKeys | None = None,
        fragment: int | None = None,
    ) -> None:
        self.close_sent: CloseFrame | None = None
        self._deflater = deflater if deflater is not None and deflater.usable else None
        self._threshold = threshold
        self.keys = keys or MaskKeys()
        self._fragment = fragment

    @property
    def deflates(self) -> bool:
        """Return whether messages may have to be compressed."""
        return self._deflater is not None

    def pack(self, items: list[Item], start: int, limit: int) -> tuple[bytes, int]:
        """Join the frames of uncompressed messages, and finished frames.

        It does not matter whether our Close frame was built: what the caller had queued before may follow it.

        Args:
            items: messages and finished frames.
            start: the index of the first item to pack.
            limit: the largest result in bytes. One item is packed whatever its size.

        Returns:
            The frames, and the index of the first item that was not packed.
        """
        keys = self.keys
        if keys.position >= len(keys.block):
            keys.fill()
        packed, end = pack(items, start, limit, keys.block, keys.position)
        keys.position += 4 * (end - start)
        return packed, end

    def text(self, data: bytes, compress: bool = True) -> bytes:
        """Build the frames of a text message.

        Args:
            data: the text in UTF-8.
            compress: whether to compress the message if that was agreed on.

        Raises:
            WebSocketClosing: our Close frame was built.
        """
        if self.close_sent is not None or self._deflater is not None:
            return self._message(Opcode.TEXT, data, compress)
        return build_frames(_TEXT, data, self._fragment, self.keys)

    def binary(self, data: BytesLike, compress: bool = True) -> bytes:
        """Build the frames of a binary message.

        Args:
            data: any bytes-like object.
            compress: whether to compress the message if that was agreed on.

        Raises:
            TypeError: the data is not bytes-like.
            WebSocketClosing: our Close frame was built.
        """
        if self.close_sent is not None or self._deflater is not None or type(data) is not bytes:
            return self._message(Opcode.BINARY, as_bytes("binary", data), compress)
        return build_frames(_BINARY, data, self._fragment, self.keys)

    def compressed(self, opcode: int, data: bytes) -> bytes:
        """Build the frames of a compressed message at once, for a message that `must_compress` has chosen."""
        assert self._deflater is not None  # else there is nothing that must be compressed
        return self._deflated(opcode, self._deflater.compress(data))

    def compressing(self, opcode: int, data: bytes) -> Iterator[bytes]:
        """Build the frames of a compressed message in steps, so that a large one does not hold up others.

        It does not matter whether our Close frame was built: what the caller had queued before may follow it.

        Args:
            opcode: the opcode of the message.
            data: the message, which `must_compress` has chosen.

        Yields:
            An empty bytes object after each step, and the frames at the end. No other message may be
            compressed in between.
        """
        assert self._deflater is not None  # else there is nothing that must be compressed
        for payload in self._deflater.compress_in_pieces(data):
            yield self._deflated(opcode, payload) if payload else b""

    def fragmenter(self, is_text: bool, compress: bool, limit: int) -> Fragmenter:
        """Return a Fragmenter, which builds the frames of a message of unknown length.

        Args:
            is_text: whether it is text.
            compress: whether to compress the message if that was agreed on.
            limit: the largest payload of a frame in bytes, if there is no `fragment`.
        """
        deflater = self._deflater if compress else None
        return Fragmenter(is_text, self._fragment or limit, self.keys, deflater)

    def must_compress(self, data: bytes, compress: bool) -> bool:
        """Return whether to compress a message: compression was agreed on, is wanted, and pays."""
        return self._deflater is not None and compress and len(data) >= self._threshold

    def ping(self, data: BytesLike = b"") -> bytes:
        """Build the frame of a ping.

        Raises:
            TypeError: the data is not bytes-like.
            ValueError: the data has more than 125 bytes.
            WebSocketClosing: our Close frame was built.
        """
        return self._control(Opcode.PING, data)

    def pong(self, data: BytesLike) -> bytes:
        """Build the frame of a pong.

        Raises:
            TypeError: the data is not bytes-like.
            ValueError: the data has more than 125 bytes.
            WebSocketClosing: our Close frame was built.
        """
        return self._control(Opcode.PONG, data)

    def close(self, code: int | None, reason: str | bytes = "") -> bytes:
        """Build the Close frame.

        Args:
            code: the close code, or None for an empty frame; the reason is then dropped.
            reason: text, or its bytes in UTF-8; cut to 123 bytes.

        Raises:
            TypeError: the code is not an int, or the reason is neither str nor bytes.
            ValueError: the code may not be sent, or the reason is not valid UTF-8.
            WebSocketClosing: our Close frame was built before.
        """
        payload = encode_close(code, reason)
        frame = self._frame(Opcode.CLOSE, payload)
        self.close_sent = CloseFrame(code, "" if code is None else as_reason(reason))
        return frame

    def _message(self, opcode: int, data: bytes, compress: bool) -> bytes:
        if self._deflater is None or not compress or len(data) < self._threshold:
            return self._frame(opcode, data)
        # Checked before the deflater takes the message into its window: the server would miss it there.
        self._check_open()
        return self._frame(opcode, self._deflater.compress(data), rsv1=True)

    def _control(self, opcode: int, data: BytesLike) -> bytes:
        return self._frame(opcode, as_control_payload(Opcode.to_str(opcode).lower(), data))

    def _frame(self, opcode: int, payload: bytes, rsv1: bool = False) -> bytes:
        self._check_open()
        first = FIN | RSV1 | opcode if rsv1 else FIN | opcode
        # Control frames are never fragmented (RFC 6455 section 5.5).
        fragment = None if opcode >= Opcode.CLOSE else self._fragment
        return build_frames(first, payload, fragment, self.keys)

    def _deflated(self, opcode: int, payload: bytes) -> bytes:
        return build_frames(FIN | RSV1 | opcode, payload, self._fragment, self.keys)

    def _check_open(self) -> None:
        if self.close_sent is not None:
            raise WebSocketClosing("data not sent: the WebSocket is closing")


