"""The receiving half of the protocol: frames in, events out (RFC 6455 sections 5 to 8)."""

from __future__ import annotations

import sys
from codecs import utf_8_decode
from io import BytesIO

from lochws.errors import CriticalProtocolError, PayloadTooLarge, ProtocolError
from lochws.events import Binary, Event, Ping, Pong, Text, text_of

from .close import CloseFrame, parse_close
from .deflate import Inflater
from .frames import LENGTH_LIMIT, MAX_CONTROL_PAYLOAD, BytesLike, Opcode
from .payload import Payload, decode_payload, is_utf8, new_payload
from .scanning import scan

_OPCODES = frozenset({
    Opcode.CONTINUATION, Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING, Opcode.PONG,
})
_FINAL_BINARY = 0x80 | Opcode.BINARY
_NOTHING = BytesIO()
_NOT_UTF8 = "text message is not valid UTF-8"

#: Binary messages of at least this many bytes are received straight into memory of their own.
LARGE_BYTES = 32 * 1024
#: After a message of at least `FLOOD_BYTES` another such is expected, so only `FIRST_BYTES` of it are
#: received into the buffer: whatever lands there has to be copied.
FLOOD_BYTES = 256 * 1024
FIRST_BYTES = 8 * 1024
#: How much is received at once into a message's own memory, in sizes of the buffer.
OWN_ROOM = 4


class Receiver:
    """Turns the bytes of a server, in pieces of any size, into events.

    No byte from the server raises anything: once a rule is broken, `failure` says which, and everything after
    it is ignored. Memory use is bounded by what has arrived of the current message; a declared length alone
    reserves little (`lochws.protocol.payload`). Not thread-safe: one thread at a time.

    Call `receive` with bytes, or, to receive large messages without copying, ask for `room`, fill it, and
    call `received`.

    Args:
        max_message_size: the largest message in bytes, after decompression, or None for no limit.
        inflater: for compressed messages, if permessage-deflate was agreed on.
        text_as_bytes: whether the events of texts keep the UTF-8, validated, in place of a str.

    Attributes:
        close_received: the server's Close frame, or None.
        failure: the rule that the server broke, with the close code to send, or None.
        done: whether one of these two is set, so that further bytes are ignored.
        wants_room: whether the next bytes should go where `room` says; if not, into any buffer.
        controls: the pings and pongs among the events of the last call; they need a reaction.
        advanced: whether the last call took part of a message that is not complete yet.
    """

    def __init__(
        self, max_message_size: int | None, inflater: Inflater | None = None, *, text_as_bytes: bool = False
    ) -> None:
        self.close_received: CloseFrame | None = None
        self.failure: ProtocolError | CriticalProtocolError | None = None
        self.done = False
        self.controls: list[Ping | Pong] = []
        self._limit = sys.maxsize - 1 if max_message_size is None else max_message_size
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
        # Used in place of _payload if the message is a single large frame.
        self._large: Payload | None = None
        self.wants_room = False
        self.advanced = False
        self._flooded = False  # whether the last thing received was a message of at least FLOOD_BYTES
        # The data frame being received: bytes still missing, and whether it ends the message.
        self._missing = 0
        self._final = False

    def room(self, buffer: memoryview) -> memoryview:
        """Return where to receive the next bytes: in `buffer`, or in the memory of a large message.

        The caller releases the view, or passes it to `received`.
        """
        if self._large is not None:
            return self._large.room(OWN_ROOM * len(buffer))
        return buffer[:FIRST_BYTES] if self._flooded else buffer[:]

    def received(self, room: memoryview, count: int) -> list[Event]:
        """Return the events that end in the bytes just received. Never blocks.

        Args:
            room: what the method `room` returned; it is released.
            count: how many bytes have been received into it.
        """
        payload = self._large
        if payload is None:
            return self.receive(room[:count])
        self.controls = []
        room.release()
        payload.received(count)
        self._missing -= count
        self.advanced = bool(self._missing)
        if self._missing:
            return []
        data = payload.getvalue()
        self._forget()
        self._flooded = self.wants_room = len(data) >= FLOOD_BYTES
        return [Binary(data)]

    def receive(self, data: BytesLike) -> list[Event]:
        """Return the events that end in `data`: messages, pings and pongs, in order. Never blocks.

        The memory behind `data` may be reused once this returns.
        """
        events: list[Event] = []
        if self.controls:
            self.controls = []
        self._flooded = self.advanced = False
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
            return scan(data, position, self._limit, events, inflate, self._text_as_bytes)
        except UnicodeDecodeError:
            raise CriticalProtocolError(_NOT_UTF8) from None

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
                self._begin(first, length)
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

    def _begin(self, first: int, length: int) -> None:
        """Begin a data frame that is not whole or not final, and its message if it is the first one."""
        if first & 0x0F:
            self._opcode = first & 0x0F
            self._compressed = bool(first & 0x40)
            self._payload = BytesIO()
        # The size of a compressed message is known only once it is decompressed.
        if not self._compressed and self._size + length > self._limit:
            raise PayloadTooLarge(f"message is larger than {self._limit} bytes")
        self._missing = length
        self._final = bool(first & 0x80)
        if first == _FINAL_BINARY and length >= LARGE_BYTES:
            self._large = new_payload(length)

    def _absorb(self, part: BytesLike, events: list[Event]) -> None:
        """Take bytes of the current data frame; deliver the message if they complete it."""
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
                events.append(_text(payload, self._text_as_bytes))
            else:
                events.append(Binary((large or payload).getvalue()))
            return
        self.advanced = True
        if self._opcode == Opcode.TEXT:
            self._tail = _unfinished(self._tail + part)

    def _forget(self) -> None:
        """Forget the message: it was delivered, or nothing more will be."""
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


def _unfinished(text: bytes) -> bytes:
    """Return the incomplete character at the end of `text`.

    Raises:
        CriticalProtocolError: what comes before it is not valid UTF-8, or it cannot become a character (RFC
        6455
            section 8.1).
    """
    try:
        whole = utf_8_decode(text, "strict", False)[1]
    except UnicodeDecodeError:
        raise CriticalProtocolError(_NOT_UTF8) from None
    # Python waits for the third byte of a surrogate, although the second is wrong already (RFC 3629 section
    # 4).
    tail = text[whole:]
    if len(tail) == 2 and tail[0] == 0xED and tail[1] >= 0xA0:
        raise CriticalProtocolError(_NOT_UTF8)
    return tail
