"""Compression with permessage-deflate (RFC 7692): negotiation, compressing and decompressing.

A message is a raw deflate stream that ends in an empty stored block, whose last four bytes, `TAIL`, are not
sent. With context takeover the stream continues from message to message.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from lochws.errors import CompressionParameterError, CriticalProtocolError, HandshakeError, PayloadTooLarge
from lochws.options import Deflate

from ..base.records import record
from ..system.compiled import choose, is_pure_python, load

EXTENSION = "permessage-deflate"
TAIL = b"\x00\x00\xff\xff"

#: The deflate streams of one message, each ended by a block with BFINAL. Senders have a reason for one per
#: fragment; each further one costs a new decompressor and a copy of what follows.
MAX_STREAMS = 250

NO_DEFLATE = "unable to decompress payload"
_TOO_LARGE = "compressed message is larger than the limit"
_FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
_WINDOWS = ("server_max_window_bits", "client_max_window_bits")

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# Compiled when the first server answers with an extension.
_NAME = rf"[\s,]*({_TOKEN})\s*"
_PARAMETER = rf';\s*({_TOKEN})\s*(?:=\s*(?:({_TOKEN})|"([^"\\]*)")\s*)?'
_END = r",|$"


@cache
def engine() -> ModuleType:
    """Return the module that compresses: zlib-ng if it is installed, else zlib, which has the same interface.

    zlib-ng takes about half the time at all levels. It is imported when the first message needs it.
    """
    if not is_pure_python():
        try:
            return import_module("zlib_ng.zlib_ng")
        except ImportError:
            pass
    return zlib


@cache
def _compiled_message() -> Callable[[bytes, int, int], bytes | None] | None:
    """Return the compiled function that inflates a message which needs no context, if there is one.

    It takes the payload, the limit and the window's bits, and returns None for what it leaves to
    `Inflater`. It is imported when the first connection needs it.
    """
    return choose(load("inflating"), "inflate_message", None)


@record(frozen=True)
class DeflateParameters:
    """The parameters that client and server have agreed on (RFC 7692 section 7.1).

    Attributes:
        server_no_context_takeover: each message of the server starts a new stream.
        client_no_context_takeover: each message of ours starts a new stream.
        server_max_window_bits: the server's window has 2**n bytes.
        client_max_window_bits: our window has 2**n bytes, at most.
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15


def offer(deflate: Deflate) -> str:
    """Return the value of Sec-WebSocket-Extensions that offers permessage-deflate.

    It always contains client_max_window_bits, which only allows the server to ask for a smaller window.
    """
    parts = [EXTENSION]
    if deflate.server_no_context_takeover:
        parts.append("server_no_context_takeover")
    if deflate.client_no_context_takeover:
        parts.append("client_no_context_takeover")
    if deflate.server_max_window_bits is not None:
        parts.append(f"server_max_window_bits={deflate.server_max_window_bits}")
    if deflate.client_max_window_bits < 15:
        parts.append(f"client_max_window_bits={deflate.client_max_window_bits}")
    else:
        parts.append("client_max_window_bits")
    return "; ".join(parts)


def accept(header_value: str | Sequence[str], deflate: Deflate | None) -> DeflateParameters | None:
    """Check the server's Sec-WebSocket-Extensions against the offer.

    Args:
        header_value: the header's value, or the values of all its lines.
        deflate: the parameters offered, or None if compression was not offered.

    Returns:
        The agreed parameters, or None if the server chose no extension.

    Raises:
        HandshakeError: the server chose an extension that was not offered, or more than one.
        CompressionParameterError: its parameters are not allowed (RFC 7692 section 7.1).
    """
    lines = [header_value] if isinstance(header_value, str) else header_value
    chosen = [extension for line in lines for extension in _extensions(line)]
    if not chosen:
        return None
    name, parameters = chosen[0]
    if deflate is None or name.lower() != EXTENSION:
        raise HandshakeError(f"Extension {name} was not offered")
    if len(chosen) > 1:
        raise HandshakeError("More than one extension chosen")
    return _agreed(_checked(parameters), deflate)


def _extensions(line: str) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """Split a header line into extensions with their parameters (RFC 6455 section 9.1)."""
    name_at, parameter_at, end_at = (re.compile(pattern).match for pattern in (_NAME, _PARAMETER, _END))
    position = 0
    while match := name_at(line, position):
        name, position = match[1], match.end()
        parameters: list[tuple[str, str | None]] = []
        while match := parameter_at(line, position):
            parameters.append((match[1], match[2] if match[3] is None else match[3]))
            position = match.end()
        if not end_at(line, position):
            break
        yield name, parameters
    if line[position:].strip(" \t,"):
        raise HandshakeError(f"Sec-WebSocket-Extensions cannot be understood: {line[:100]!r}")


def _checked(parameters: list[tuple[str, str | None]]) -> dict[str, int]:
    """Return the parameters by name, flags as 1, or raise if one is unknown, repeated or malformed."""
    checked: dict[str, int] = {}
    for key, value in parameters:
        if key in checked:
            raise CompressionParameterError(f"{key} is given twice")
        if key in _FLAGS:
            if value is not None:
                raise CompressionParameterError(f"{key} has a value")
            checked[key] = 1
        elif key in _WINDOWS:
            checked[key] = _window_bits(key, value)
        else:
            raise CompressionParameterError(f"{key} is not a parameter of {EXTENSION}")
    return checked


def _window_bits(key: str, value: str | None) -> int:
    # RFC 7692 section 7.1.2: a decimal integer without leading zeroes.
    if value is None or not re.fullmatch(r"[-+]?[0-9]+", value):
        raise CompressionParameterError(f"{key} is not an integer")
    if not re.fullmatch(r"[89]|1[0-5]", value):
        raise CompressionParameterError(f"{key}={value[:20]} is invalid")
    return int(value)


def _agreed(answer: dict[str, int], deflate: Deflate) -> DeflateParameters:
    if deflate.server_no_context_takeover and "server_no_context_takeover" not in answer:
        raise CompressionParameterError("server_no_context_takeover was asked for and is missing")
    server_bits = answer.get("server_max_window_bits", 15)
    if deflate.server_max_window_bits is not None:
        if "server_max_window_bits" not in answer:
            raise CompressionParameterError("server_max_window_bits was asked for and is missing")
        if server_bits > deflate.server_max_window_bits:
            raise CompressionParameterError(f"server_max_window_bits={server_bits} is more than asked for")
    return DeflateParameters(
        server_no_context_takeover="server_no_context_takeover" in answer,
        # We do what we offered, whether the server repeats it or not.
        client_no_context_takeover=(
            deflate.client_no_context_takeover or "client_no_context_takeover" in answer
        ),
        server_max_window_bits=server_bits,
        client_max_window_bits=min(deflate.client_max_window_bits, answer.get("client_max_window_bits", 15)),
    )


#: Large messages are compressed in steps of this many bytes, each of which takes a few milliseconds.
PIECE_BYTES = 128 * 1024


class Deflater:
    """Compresses the messages of one connection. Not thread-safe: messages are sent in the order of the
    calls.

    Attributes:
        usable: False if the server insists on a window of 8 bits, which zlib does not support. Messages are
        then
            sent uncompressed, which RFC 7692 section 6 always allows.
    """

    def __init__(self, parameters: DeflateParameters, deflate: Deflate) -> None:
        self._bits = parameters.client_max_window_bits
        self._afresh = parameters.client_no_context_takeover
        self._level = deflate.level
        self._memory = deflate.memory
        self._stream: Any = None  # made for the first message
        self.usable = self._bits > 8

    def compress(self, data: bytes) -> bytes:
        """Return the payload of the message `data` (RFC 7692 section 7.2.1)."""
        if not data:
            # Section 7.2.3.6. zlib would not flush a second time without new input.
            return b"\x00"
        stream = self.begin()
        deflated: bytes = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
        return deflated[:-4]

    def begin(self) -> Any:
        """Return zlib's compressor for the next message. `end` must be called at the end of the message."""
        stream = self._stream
        if stream is None:
            stream = engine().compressobj(self._level, zlib.DEFLATED, -self._bits, self._memory)
            if not self._afresh:
                self._stream = stream
        return stream

    def end(self, stream: Any) -> bytes:
        """Return the last bytes of the payload of a message that is not empty."""
        last: bytes = stream.flush(zlib.Z_SYNC_FLUSH)
        return last[:-4]

    def compress_in_pieces(self, data: bytes) -> Iterator[bytes]:
        """Compress a message in steps, with the same result as `compress`.

        Yields:
            An empty bytes object after each step of `PIECE_BYTES`, and the payload at the end. Nothing else
            may be compressed in between.
        """
        if len(data) <= PIECE_BYTES:
            yield self.compress(data)
            return
        stream = self.begin()
        view, pieces = memoryview(data), []
        for start in range(0, len(data), PIECE_BYTES):
            pieces.append(stream.compress(view[start : start + PIECE_BYTES]))
            yield b""
        pieces.append(self.end(stream))
        yield b"".join(pieces)


#: Each byte of compressed data expands to at most this many bytes (258 for two bits).
RATIO = 1032


def may_exceed(length: int, limit: int) -> bool:
    """Return whether the content of a compressed payload of that many bytes may be larger than a limit.

    Four bytes are added for the tail, and four for data that the decompressor may still hold.
    """
    return (length + 8) * RATIO > limit


def stream_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that a stream raises for invalid data."""
    return zlib.error, engine().error


class Inflater:
    """Decompresses the messages of one connection, never beyond the given limit.

    Attributes:
        stream: the stream that the next message continues, or None if it begins a new one.
        leaves_large: whether `message` leaves messages that may be larger than the limit to its caller.
    """

    __slots__ = ("_afresh", "_bits", "_ended", "_open", "_whole", "leaves_large", "stream")

    def __init__(self, parameters: DeflateParameters) -> None:
        # 8 counts as 9: zlib's deflate used to take 9 when asked for 8, and some servers still do.
        self._bits = max(9, parameters.server_max_window_bits)
        self._afresh = parameters.server_no_context_takeover
        self._whole = _compiled_message() if self._afresh else None
        self.stream: Any = None  # made for the first message
        self.leaves_large = False
        self._open = False  # whether the message has data that TAIL must end
        self._ended = 0  # streams of the message that have ended

    def inflate(self, data: bytes | bytearray | memoryview, limit: int | None) -> bytes:
        """Decompress the next part of a message's payload.

        Args:
            data: the part.
            limit: the largest result in bytes, or None for no limit.

        Raises:
            PayloadTooLarge: the result would be larger (1009); at most one byte more was decompressed.
            CriticalProtocolError: the data is not a valid deflate stream, or consists of too many of them
            (1007).
        """
        inflated = b""
        while data:
            stream = self.stream
            if stream is None:
                stream = self.stream = engine().decompressobj(-self._bits)
            try:
                # One byte above the limit shows that there is more. (0 would mean no limit.)
                inflated += stream.decompress(data, 0 if limit is None else limit + 1 - len(inflated))
            except stream_errors():
                raise CriticalProtocolError(NO_DEFLATE) from None
            if limit is not None and len(inflated) > limit:
                raise PayloadTooLarge(_TOO_LARGE)
            self._open = not stream.eof
            if self._open:
                break
            # A block with BFINAL ended the stream, and the sender begins a new one after it (RFC 7692 section
            # 7.2.3.4).
            data = stream.unused_data
            self.stream = None
            self._ended += 1
            if self._ended > MAX_STREAMS:
                raise CriticalProtocolError(NO_DEFLATE)
        return inflated

    def message(self, data: bytes, limit: int) -> bytes | None:
        """Decompress a whole message: like `inflate` and then `finish`, but faster.

        Returns:
            The message; None if it may be larger than the limit and `leaves_large` is set.

        Raises:
            PayloadTooLarge: the message is larger than the limit (1009).
            CriticalProtocolError: the data is not a valid deflate stream, or consists of too many of them
                (1007).
        """
        is_small = not may_exceed(len(data), limit)
        if self.leaves_large and not is_small:
            return None
        if self._whole is not None:
            whole = self._whole(data, limit, self._bits)
            if whole is not None:
                return whole
        stream = self.stream  # None unless the server keeps its context between messages
        # In one call, which has no limit, invalid data behind the limit would be noticed before the limit is.
        if stream is None or not data or not is_small:
            first = self.inflate(data, limit)
            return first + self.finish(limit - len(first))
        try:
            inflated: bytes = stream.decompress(data + TAIL)
        except stream_errors():
            raise CriticalProtocolError(NO_DEFLATE) from None
        return self.go_on(inflated, limit) if stream.eof else inflated

    def go_on(self, inflated: bytes, limit: int) -> bytes:
        """Return a whole message in which, or in whose tail, its stream has ended.

        Args:
            inflated: the content of the message up to that point.
            limit: the largest message in bytes.

        Raises:
            PayloadTooLarge: the message is larger than the limit (1009).
            CriticalProtocolError: the data is not a valid deflate stream, or consists of too many of them
                (1007).
        """
        rest: bytes = self.stream.unused_data
        self.stream = None
        self._ended = 1
        is_in_tail = len(rest) < len(TAIL)
        inflated += self.inflate(rest if is_in_tail else rest[: -len(TAIL)], limit - len(inflated))
        self._open = self._open and not is_in_tail  # only what is left of TAIL came after it
        return inflated + self.finish(limit - len(inflated))

    def finish(self, limit: int | None) -> bytes:
        """Return the rest of a message once its payload has ended.

        Args:
            limit: the largest result in bytes, or None for no limit.

        Raises:
            PayloadTooLarge: the result would be larger (1009).
            CriticalProtocolError: the payload was not a valid deflate stream (1007).
        """
        # TAIL alone is half a block: without data before it, the next message would be taken for the other
        # half.
        inflated = self.inflate(TAIL, limit) if self._open else b""
        self._open = False
        self._ended = 0
        if self._afresh:
            self.stream = None
        return inflated
