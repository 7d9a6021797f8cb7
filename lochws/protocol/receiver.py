"""The receiving half of the protocol: frames in, events out (RFC 6455 sections 5 to 8)."""

from __future__ import annotations

import sys
from codecs import utf_8_decode
from collections.abc import Callable
from io import BytesIO
from typing import Protocol

from lochws.errors import CriticalProtocolError, PayloadTooLarge, ProtocolError
from lochws.events import Binary, Event, Ping, Pong, Stream, StreamSource, Text, text_of

from ..base.records import record
from .close import CloseFrame, parse_close
from .deflate import NO_DEFLATE, Inflater, stream_errors
from .frames import LENGTH_LIMIT, MAX_CONTROL_PAYLOAD, BytesLike, Opcode
from .payload import decode_payload, is_utf8
from .pump import LARGE_BYTES, new_pump

_OPCODES = frozenset({
    Opcode.CONTINUATION, Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING, Opcode.PONG,
})
_NOTHING = BytesIO()
_NOT_UTF8 = "text message is not valid UTF-8"

#: A compressed message that may become a stream is decompressed in pieces of this many bytes, each of which
#: makes about a mebibyte at most.
PIECE_BYTES = 1024

class Sink(StreamSource, Protocol):
    """The receiver of one stream's content. Its methods neither raise nor block."""

    def write(self, part: str | bytes, /) -> None:
        """Take the next part, which is never empty: characters of a text, bytes of a binary message."""

    def end(self) -> None:
        """Note that the message is complete."""


@record(frozen=True)
class Streaming:
    """The choice of messages that are passed on while they arrive.

    Attributes:
        above: messages with more bytes than this, after decompression.
        limit: the largest such message in bytes, after decompression, or None for no limit.
        open: makes the sink of one stream, a text or not.
    """

    above: int
    limit: int | None
    open: Callable[[bool], Sink]


class Receiver:
    """Turns the bytes of a server, in pieces of any size, into events.

    No byte from the server raises anything: once a rule is broken, `failure` says which, and everything after
    it is ignored. Memory use is bounded by what has arrived of the current message; a declared length alone
    reserves little (`lochws.protocol.payload`). Not thread-safe: one thread at a time.

    Its `pump`, which can receive by itself, takes whole messages; `receive` gets what the pump has left, or
    all bytes.

    Args:
        max_message_size: the largest message in bytes, after decompression, or None for no limit.
        inflater: for compressed messages, if permessage-deflate was agreed on.
        text_as_bytes: whether the events of texts keep the UTF-8, validated, in place of a str.
        streaming: which messages become streams, or None for none. All others are limited by its `above`.

    Attributes:
        close_received: the server's Close frame, or None.
        failure: the rule that the server broke, with the close code to send, or None.
        done: whether one of these two is set, so that further bytes are ignored.
        pump: takes whole messages and large ones, as long as nothing special is in progress.
        controls: the pings and pongs among the events of the last call; they need a reaction.
        advanced: whether the last call took part of a message that is not complete yet.
    """

    def __init__(
        self, max_message_size: int | None, inflater: Inflater | None = None, *, text_as_bytes: bool = False,
        streaming: Streaming | None = None,
    ) -> None:
        self.close_received: CloseFrame | None = None
        self.failure: ProtocolError | CriticalProtocolError | None = None
        self.done = False
        self.controls: list[Ping | Pong] = []
        self._streaming = streaming
        limit = max_message_size if streaming is None else streaming.limit
        self._limit = sys.maxsize - 1 if limit is None else limit
        #: The largest message that is kept until it is complete.
        self._whole = self._limit if streaming is None else streaming.above
        self._inflater = inflater
        self._text_as_bytes = text_as_bytes
        # The beginning of an incomplete frame: less than a head, or less than a control frame.
        self._beginning = b""
        # The message being received: its opcode (0 if there is none), and its content so far.
        self._opcode = 0
        self._compressed = False
        self._payload = _NOTHING
        self._size = 0
        self._tail = b""  # of a text: the incomplete character at the end of _payload
        self._sink: Sink | None = None  # used in place of _payload if it is a stream
        if inflater is not None and streaming is not None:
            inflater.leaves_large = True  # `_absorb` decompresses those in pieces
        self.pump = new_pump(self._whole, as_bytes=text_as_bytes, inflater=inflater)
        self.advanced = False
        # The data frame being received: bytes still missing, and whether it ends the message.
        self._missing = 0
        self._final = False

    def receive(self, data: BytesLike, events: list[Event] | None = None) -> list[Event]:
        """Return the events that end in `data`: messages, pings and pongs, in order. Never blocks.

        The memory behind `data` may be reused once this returns.

        Args:
            data: the next bytes.
            events: those of the bytes right before `data`, which the pump has made; the others are appended.
        """
        events = [] if events is None else events
        pump = self.pump
        if self.controls:
            self.controls = []
        self.advanced = False
        if len(data) and not self.done:
            try:
                if pump.kept:
                    data = b"".join((pump.kept, data))
                if pump.is_inside or pump.is_between:
                    data = data[self._scan(data, 0, events) :]
                if pump.is_between:
                    self._take_rest(data, events)
                elif len(data):
                    self._parse(data, events)
            except (ProtocolError, CriticalProtocolError) as error:
                # Its traceback and context would keep this call's buffers alive.
                error.__context__ = None
                self.failure = error.with_traceback(None)
                self._stop()
            pump.is_between = not (self._opcode or self._beginning or self.done)
        self.advanced = self.advanced or pump.is_inside or bool(pump.kept)
        return events

    def _parse(self, data: BytesLike, events: list[Event]) -> None:
        if self._missing:
            missing = self._missing
            self._absorb(data if len(data) <= missing else data[:missing], events)
            if len(data) <= missing:
                return
            data = data[missing:]
        if self._beginning:
            data = self._beginning + data
        elif not self._opcode:
            position = self._scan(data, 0, events)
            if position == len(data):
                return
            data = data[position:]
        self._take_rest(data, events)

    def _take_rest(self, data: BytesLike, events: list[Event]) -> None:
        """Take all complete frames, and keep the beginning of an incomplete one."""
        if not len(data):
            return
        if len(data) < LARGE_BYTES:
            data = bytes(data)  # one copy makes the small steps below cheap
        position = self._take_frames(data, events)
        if not self.done:
            self._beginning = bytes(data[position:])

    def _scan(self, data: BytesLike, position: int, events: list[Event]) -> int:
        """Have the pump take messages. Return where the bytes begin that it has not taken."""
        pump = self.pump
        try:
            if pump.error is not None:
                error, pump.error = pump.error, None
                raise error
            return pump.scan(data, position, events)
        except UnicodeDecodeError:
            raise CriticalProtocolError(_NOT_UTF8) from None
        except stream_errors():
            raise CriticalProtocolError(NO_DEFLATE) from None

    def _take_frames(self, buffer: BytesLike, events: list[Event]) -> int:
        """Take all complete frames, of any kind. Return where the incomplete one after them begins."""
        position, end = 0, len(buffer)
        while not self.done:
            if not self._opcode:
                position = self._scan(buffer, position, events)
            start = position + 2
            if start > end:
                break
            first, length = buffer[position], buffer[position + 1]
            self._check_head(first, length)
            if length > 125:
                start += 2 if length == 126 else 8
                if start > end:
                    break
                length = _extended_length(buffer[position + 2 : start])
            stop = start + length
            if first & 0x08:
                if length > MAX_CONTROL_PAYLOAD:
                    raise ProtocolError(f"{Opcode.to_str(first & 0x0F)} frame with more than 125 bytes")
                if stop > end:
                    break
                self._control(first & 0x0F, bytes(buffer[start:stop]), events)
            else:
                self._begin(first, length, events)
                self._absorb(buffer[start:stop], events)
            position = min(stop, end)
        return position

    def _check_head(self, first: int, second: int) -> None:
        """Check a frame's first two bytes by RFC 6455 section 5.2 and RFC 7692 section 6."""
        opcode = first & 0x0F
        if second & 0x80:
            raise ProtocolError("masked frame from the server")
        if opcode not in _OPCODES:
            raise ProtocolError(f"reserved opcode {opcode}")
        if first & 0x70:
            # RSV1 marks a compressed message, on its first frame.
            begins_message = opcode in (Opcode.TEXT, Opcode.BINARY)
            if first & 0x30 or self._inflater is None or not begins_message:
                raise ProtocolError(f"reserved bit set in a {Opcode.to_str(opcode)} frame")
        if opcode & 0x08:
            if not first & 0x80:
                raise ProtocolError(f"fragmented {Opcode.to_str(opcode)} frame")
        elif opcode and self._opcode:
            raise ProtocolError("new message inside a fragmented one")
        elif not opcode and not self._opcode:
            raise ProtocolError("continuation frame without a message to continue")

    def _control(self, opcode: int, payload: bytes, events: list[Event]) -> None:
        if opcode == Opcode.CLOSE:
            self.close_received = parse_close(payload)
            self._stop()
            return
        event = Ping(payload) if opcode == Opcode.PING else Pong(payload)
        events.append(event)
        self.controls.append(event)

    def _inflated(self, part: BytesLike, so_far: int, complete: bool) -> bytes:
        """Decompress part of a message of which `so_far` bytes are decompressed already."""
        assert self._inflater is not None  # else RSV1 would have been refused
        room = self._limit - so_far
        inflated = self._inflater.inflate(part, room)
        return inflated + self._inflater.finish(room - len(inflated)) if complete else inflated

    def _begin(self, first: int, length: int, events: list[Event]) -> None:
        """Begin a data frame that is not whole or not final, and its message if it is the first one."""
        if first & 0x0F:
            self._opcode = first & 0x0F
            self._compressed = bool(first & 0x40)
            self._payload = BytesIO()
        self._missing = length
        self._final = bool(first & 0x80)
        # The size of a compressed message is known only once it is decompressed.
        if not self._compressed and self._size + length > self._whole:
            if self._size + length > self._limit:
                raise PayloadTooLarge(f"message is larger than {self._limit} bytes")
            if self._sink is None:
                self._open(events)

    def _absorb(self, part: BytesLike, events: list[Event]) -> None:
        """Take bytes of the current data frame; deliver the message if they complete it."""
        self._missing -= len(part)
        complete = self._final and not self._missing
        if self._streaming is not None:
            self._absorb_for_stream(part, complete, events)
        else:
            if self._compressed:
                part = self._inflated(part, self._size, complete)
            self._size += self._payload.write(part)
        if complete:
            opcode, payload, sink = self._opcode, self._payload, self._sink
            self._forget()
            if sink is not None:
                sink.end()
            elif opcode == Opcode.TEXT:
                events.append(_text(payload, self._text_as_bytes))
            else:
                events.append(Binary(payload.getvalue()))
            return
        self.advanced = True
        if self._opcode == Opcode.TEXT and self._streaming is None:
            _, self._tail = _decoded(self._tail + part)

    def _absorb_for_stream(self, part: BytesLike, complete: bool, events: list[Event]) -> None:
        """Take bytes of a message that is a stream, or may become one."""
        if not self._compressed:
            self._keep(part, complete)
            return
        for start in range(0, len(part) or 1, PIECE_BYTES):
            stop = start + PIECE_BYTES
            is_last = complete and stop >= len(part)
            inflated = self._inflated(part[start:stop], self._size, is_last)
            if self._sink is None and self._size + len(inflated) > self._whole:
                self._open(events)
            self._keep(inflated, is_last)

    def _keep(self, part: BytesLike, complete: bool) -> None:
        """Keep or pass on a part of the content."""
        self._size += len(part)
        if self._sink is not None:
            self._pass_on(self._sink, part, complete)
            return
        self._payload.write(part)
        if self._opcode == Opcode.TEXT and not complete:
            _, self._tail = _decoded(self._tail + part)

    def _open(self, events: list[Event]) -> None:
        """Make a stream of the message, which begins with its content so far."""
        assert self._streaming is not None
        is_text = self._opcode == Opcode.TEXT
        content, self._payload, self._tail = self._payload.getvalue(), _NOTHING, b""
        self._sink = sink = self._streaming.open(is_text)
        events.append(Stream(is_text, sink))
        self._pass_on(sink, content, complete=False)

    def _pass_on(self, sink: Sink, part: BytesLike, complete: bool) -> None:
        """Pass a part of a stream's content on, a text's without the incomplete character at its end."""
        if self._opcode == Opcode.TEXT:
            text, self._tail = _decoded(self._tail + part if self._tail else part)
            if complete and self._tail:
                raise CriticalProtocolError(_NOT_UTF8)
            if text:
                sink.write(text)
        elif len(part):
            sink.write(bytes(part))

    def _forget(self) -> None:
        """Forget the message: it was delivered, or nothing more will be."""
        self._opcode = 0
        self._size = 0
        self._payload = _NOTHING
        self._tail = b""
        self._sink = None

    def _stop(self) -> None:
        self.done = True
        self._beginning = b""
        self._forget()
        self._inflater = None


def _text(payload: BytesIO, as_bytes: bool) -> Text:
    if as_bytes:
        data = payload.getvalue()
        if not is_utf8(data):
            raise CriticalProtocolError(_NOT_UTF8)
        return text_of(data)
    try:
        return Text(decode_payload(payload))
    except UnicodeDecodeError:
        raise CriticalProtocolError(_NOT_UTF8) from None


def _extended_length(field: BytesLike) -> int:
    """Read a length of 16 or 64 bits.

    RFC 6455 section 5.2 obliges the sender to use the shortest form that fits. Some servers do not, other
    clients accept that, and it does no harm.
    """
    length = int.from_bytes(field, "big")
    if length >= LENGTH_LIMIT:
        raise PayloadTooLarge("frame of 2**63 bytes or more", close_code=ProtocolError.close_code)
    return length


def _decoded(data: BytesLike) -> tuple[str, bytes]:
    """Decode the beginning of a text, and return the incomplete character at its end too.

    Raises:
        CriticalProtocolError: the rest is not valid UTF-8, or cannot become a character (RFC 6455
            section 8.1).
    """
    try:
        text, whole = utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        raise CriticalProtocolError(_NOT_UTF8) from None
    if whole == len(data):
        return text, b""
    # Python waits for the third byte of a surrogate, although the second is wrong already (RFC 3629 section
    # 4).
    tail = bytes(data[whole:])
    if len(tail) == 2 and tail[0] == 0xED and tail[1] >= 0xA0:
        raise CriticalProtocolError(_NOT_UTF8)
    return text, tail
