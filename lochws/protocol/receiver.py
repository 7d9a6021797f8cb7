"""Frames in, events out: the receiving half of a WebSocket (RFC 6455 sections 5 to 8)."""

from __future__ import annotations

import sys
from codecs import utf_8_decode
from io import BytesIO

from lochws.errors import CriticalProtocolError, PayloadTooLarge, ProtocolError
from lochws.events import Binary, Event, Ping, Pong, Text

from .close import CloseFrame, parse_close
from .deflate import Inflater
from .frames import LENGTH_LIMIT, MAX_CONTROL_PAYLOAD, BytesLike, Opcode
from .payload import Payload, decode_payload, new_payload
from .scanning import scan

_OPCODES = frozenset({
    Opcode.CONTINUATION, Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING, Opcode.PONG,
})
_FINAL_BINARY = 0x80 | Opcode.BINARY
_NOTHING = BytesIO()
_NOT_UTF8 = "text message is no UTF-8"


#: A binary message from this many bytes on is received straight into memory of its own.
LARGE_BYTES = 32 * 1024
#: Behind a message of at least this size another such is expected, so little of it is let into the buffer:
#: what comes in there has to be copied.
FLOOD_BYTES = 256 * 1024
FIRST_BYTES = 8 * 1024
#: Room in a message's own memory, by the size of the buffer.
OWN_ROOM = 4


class Receiver:
    """Takes what the server sends, in pieces of any size, and gives the events that it means.

    Whatever the server sends, nothing is raised: once a rule is broken, `failure` says which, and all
    that follows is ignored. Memory stays within the message being received, of which a declared length
    reserves little (`lochws.protocol.payload`). One thread at a time.

    Whoever has bytes calls `receive`. Whoever can receive them anywhere asks for `room` first, and then
    calls `received`.

    Args:
        max_message_size: the largest message in bytes, after decompression, or None for no limit.
        inflater: for compressed messages, if permessage-deflate was agreed on.

    Attributes:
        close_received: the server's Close frame, or None.
        failure: the rule that the server broke, with the close code that tells it so, or None.
        done: whether one of the two has happened, so that further bytes are ignored.
        wants_room: whether the next bytes should go where `room` says; if not, into any buffer.
        controls: the pings and pongs among the events of the last `receive`; they want a reaction.
    """

    def __init__(self, max_message_size: int | None, inflater: Inflater | None = None) -> None:
        self.close_received: CloseFrame | None = None
        self.failure: ProtocolError | CriticalProtocolError | None = None
        self.done = False
        self.controls: list[Ping | Pong] = []
        self._limit = sys.maxsize - 1 if max_message_size is None else max_message_size
        self._inflater = inflater
        # The beginning of a frame: at most a head, or a control frame, without its last byte.
        self._beginning = b""
        # The message being received: its opcode (0 if there is none), and what came of it.
        self._opcode = 0
        self._compressed = False
        self._payload = _NOTHING
        self._size = 0
        self._tail = b""  # of a text: the beginning of a character at the end of _payload
        # In its place the payload of a large frame, if that is all of the message.
        self._large: Payload | None = None
        self.wants_room = False
        self._flooded = False  # whether the last thing that came was such a message, of the largest kind
        # The data frame being received: bytes still to come, and whether it ends the message.
        self._missing = 0
        self._final = False

    def room(self, buffer: memoryview) -> memoryview:
        """Where the next bytes should be received: in `buffer`, or in the memory of a large message.

        To be released by the caller.
        """
        if self._large is not None:
            return self._large.room(OWN_ROOM * len(buffer))
        return buffer[:FIRST_BYTES] if self._flooded else buffer[:]

    def received(self, room: memoryview, count: int) -> list[Event]:
        """As `receive`, of the first `count` bytes of what `room` has handed out."""
        payload = self._large
        if payload is None:
            return self.receive(room[:count])
        self.controls = []
        room.release()
        payload.received(count)
        self._missing -= count
        if self._missing:
            return []
        data = payload.getvalue()
        self._forget()
        self._flooded = self.wants_room = len(data) >= FLOOD_BYTES
        return [Binary(data)]

    def receive(self, data: BytesLike) -> list[Event]:
        """The events that end in `data`: messages, pings and pongs, in order. Never blocks.

        The memory behind `data` may be used again when this returns.
        """
        events: list[Event] = []
        if self.controls:
            self.controls = []
        self._flooded = False
        if not self.done:
            try:
                self._parse(data, events)
            except (ProtocolError, CriticalProtocolError) as error:
                # Its traceback and context would keep this call's buffers alive.
                error.__context__ = None
                self.failure = error.with_traceback(None)
                self._stop()
        self.wants_room = self._large is not None
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
        if len(data) < LARGE_BYTES:
            data = bytes(data)  # one copy makes the small steps below cheap
        position = self._take_frames(data, events)
        if not self.done:
            self._beginning = bytes(data[position:])

    def _scan(self, data: BytesLike, position: int, events: list[Event]) -> int:
        inflate = None if self._inflater is None else self._inflater.message
        try:
            return scan(data, position, self._limit, events, inflate)
        except UnicodeDecodeError:
            raise CriticalProtocolError(_NOT_UTF8) from None

    def _take_frames(self, buffer: BytesLike, events: list[Event]) -> int:
        """Take frame after frame, whatever they are. Returns where the last one, incomplete, begins."""
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
                self._begin(first, length)
                self._absorb(buffer[start:stop], events)
            position = min(stop, end)
        return position

    def _check_head(self, first: int, second: int) -> None:
        """Hold a frame's first two bytes to RFC 6455 section 5.2 and RFC 7692 section 6."""
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
        """Decompress part of a message of which `so_far` bytes have come out."""
        assert self._inflater is not None  # else RSV1 would have been refused
        room = self._limit - so_far
        inflated = self._inflater.inflate(part, room)
        return inflated + self._inflater.finish(room - len(inflated)) if complete else inflated

    def _begin(self, first: int, length: int) -> None:
        """Begin a data frame that cannot be delivered at once, and its message if it is the first."""
        if first & 0x0F:
            self._opcode = first & 0x0F
            self._compressed = bool(first & 0x40)
            self._payload = BytesIO()
        # What a compressed frame holds is known only when it is inflated.
        if not self._compressed and self._size + length > self._limit:
            raise PayloadTooLarge(f"message is larger than {self._limit} bytes")
        self._missing = length
        self._final = bool(first & 0x80)
        if first == _FINAL_BINARY and length >= LARGE_BYTES:
            self._large = new_payload(length)

    def _absorb(self, part: BytesLike, events: list[Event]) -> None:
        """Take bytes of the frame begun; deliver the message if they are its last."""
        self._missing -= len(part)
        complete = self._final and not self._missing
        if self._large is not None:
            self._large.write(part)
        else:
            if self._compressed:
                part = self._inflated(part, self._size, complete)
            self._size += self._payload.write(part)
        if complete:
            opcode, payload, large = self._opcode, self._payload, self._large
            self._forget()
            if opcode == Opcode.TEXT:
                events.append(_text(payload))
            else:
                events.append(Binary((large or payload).getvalue()))
        elif self._opcode == Opcode.TEXT:
            self._tail = _unfinished(self._tail + part)

    def _forget(self) -> None:
        """Between two messages."""
        self._opcode = 0
        self._size = 0
        self._payload = _NOTHING
        self._tail = b""
        self._large = None

    def _stop(self) -> None:
        self.done = True
        self._beginning = b""
        self._forget()
        self._inflater = None


def _text(payload: BytesIO) -> Text:
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


def _unfinished(text: bytes) -> bytes:
    """The beginning of a character at the end of `text`, which is whole characters otherwise.

    Raises:
        CriticalProtocolError: it is not, or the end cannot become a character (RFC 6455 section 8.1).
    """
    try:
        whole = utf_8_decode(text, "strict", False)[1]
    except UnicodeDecodeError:
        raise CriticalProtocolError(_NOT_UTF8) from None
    # Python waits for the third byte of a surrogate; the second is wrong already (RFC 3629 section 4).
    rest = text[whole:]
    if len(rest) == 2 and rest[0] == 0xED and rest[1] >= 0xA0:
        raise CriticalProtocolError(_NOT_UTF8)
    return rest
