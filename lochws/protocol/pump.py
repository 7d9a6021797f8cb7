"""Pump: receives bytes and takes the whole messages among them, in one call.

Most of what a client receives is whole messages of a single frame: many small ones at once, or a large one in
parts. A pump turns those into events and leaves everything else to the `Receiver`. It is the compiled twin
where there is one, otherwise `PumpPython`.

Most reads of a flood end inside a message. The beginning of a small one is kept, and the next bytes are
received behind it.

Copying a large binary message out of the shared buffer costs as much as receiving it. So once its head has
arrived, the rest is received straight into the memory that the handler will get. Of the next large message,
little more than the head is then received into the buffer; if possible, its rest follows in the same call of
`Pump.receive`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import getsizeof
from typing import Protocol

from lochws.events import Binary, Event, Text, content_of

from . import payload
from .compiled import compiled_or
from .deflate import may_exceed
from .frames import FIN, LENGTH_LIMIT, RSV1, BytesLike, Opcode
from .payload import Payload, begins_utf8, new_payload
from .scanning import WholeInflater, scan

#: Receives into a buffer, and perhaps into a second one behind it. Returns the number of bytes, 0 at the end
#: of the stream, None if there are none yet.
ReceiveInto = Callable[..., "int | None"]

#: Binary messages of at least this many bytes are received straight into memory of their own.
LARGE_BYTES = 32 * 1024
#: After a large message another one is expected, so only `FIRST_BYTES` of it are received into the buffer:
#: whatever lands there has to be copied. Unless a pump `repeats`, this is done for messages of at least
#: `FLOOD_BYTES` only, because a turn of the loop for each would cost more than copying smaller ones.
FLOOD_BYTES = 256 * 1024
FIRST_BYTES = 4 * 1024
#: How much is received at once into a message's own memory, in sizes of the buffer.
OWN_ROOM = 4
#: The beginning of a message is kept if its payload has at most this many bytes.
KEPT_BYTES = 16 * 1024
#: A beginning is kept if it is at most this many times as large as the bytes received last.
LEAST_GROWTH = 16
#: Bytes per read if messages may be compressed: the ratio can be as high as 1000:1.
DEFLATED_READ = 16 * 1024
#: The assumed memory cost of an event in addition to its payload, in bytes.
EVENT_BYTES = 100
#: The memory use of messages smaller than this, in bytes, is computed exactly only if that is asked for.
EXACT_BYTES = 16 * 1024


class Pump(Protocol):
    """The part of a connection's receiver that handles whole messages. For the baton holder only.

    Attributes:
        is_between: whether the next byte in the buffer begins a frame that the pump may take. The receiver
            sets it.
        repeats: whether `receive` may receive several times in a flood of large messages, each time into the
            memory of one of them. Only for streams that return None while they have nothing more, return 0
            again after the end, and buffer nothing. The connection sets it.
        is_inside: whether a large message is being received. All bytes go there until it is complete.
        kept: the beginning of a small message whose rest has not arrived yet; may be empty.
        error: the exception that decompressing a message has raised in `receive`, or None. The receiver
            raises it.
        count: how many bytes the last `receive` has received; 0 at the end of the stream, -1 if none have
            arrived yet.
        start, stop: where in the buffer the bytes are that the last `receive` has left to the receiver.
        cost: the memory that the events of the last `receive` take, in bytes, if there are any.
        carried: the bytes received since the last event.
        messages, bytes: all received messages and bytes. Any thread may read them.
        last_message_at: the `received_time` of the last message, or None.
    """

    is_between: bool
    repeats: bool
    count: int
    start: int
    stop: int
    cost: int
    carried: int
    messages: int
    bytes: int
    last_message_at: float | None
    error: BaseException | None

    @property
    def is_inside(self) -> bool:
        """True while a large message is being received."""

    @property
    def kept(self) -> BytesLike:
        """The beginning of a small message whose rest has not arrived yet; may be empty."""

    def receive(
        self, receive_into: ReceiveInto, buffer: memoryview, events: list[Event], exact: object, /
    ) -> bool:
        """Receive once, or several times if the pump `repeats`, and append the events of whole messages.

        Args:
            receive_into: receives into a buffer, and perhaps into a second one behind it.
            buffer: the memory for whatever is not part of a large message.
            events: the list to append to.
            exact: whether `cost` must be exact even for small messages. It always is if messages may be
                compressed.

        Returns:
            Whether bytes have arrived and all of them belong to messages that the pump has taken and counted.
            If not, see `count`: the receiver has to take ``buffer[start:stop]``, or raise `error`.

        Raises:
            OSError: the connection failed. If events were appended before, they are counted.
        """

    def scan(self, data: BytesLike, position: int, events: list[Event], /) -> int:
        """Take the messages at the beginning of bytes that have been received already. Nothing is counted.

        The data begins with `kept`, if there is any.

        Returns:
            The position of the first frame that was not taken, or the length of the data.
        """


class PumpPython:
    """The Python twin of `Pump`.

    Args:
        limit: the largest message that is taken, in bytes.
        as_bytes: whether the events of texts keep the UTF-8, validated, in place of a str.
        inflater: decompresses messages, or None if compression was not agreed on.
        sizes: the constants of this module from `LARGE_BYTES` to `OWN_ROOM`, `EVENT_BYTES`, how many bytes to
            reserve at once for a large message, `KEPT_BYTES` and `DEFLATED_READ`.
    """

    __slots__ = (
        "_as_bytes", "_deflated", "_event", "_first", "_flood", "_inflater", "_is_filled", "_is_flooded",
        "_kept_bytes", "_large", "_large_bytes", "_limit", "_missing", "_own_room", "_reserved", "_size",
        "bytes", "carried", "cost", "count", "error", "is_between", "kept", "last_message_at", "messages",
        "repeats", "start", "stop",
    )

    def __init__(
        self, limit: int, as_bytes: bool, inflater: WholeInflater | None, sizes: tuple[int, ...]
    ) -> None:
        self._limit = limit
        self._as_bytes = as_bytes
        self._inflater = inflater
        self._large_bytes, self._flood, self._first, self._own_room, self._event, self._reserved = sizes[:6]
        self._kept_bytes, self._deflated = sizes[6:]
        self.kept = b""
        self.error: BaseException | None = None
        self._large: Payload | None = None
        self._size = self._missing = 0  # of the large message
        self._is_filled = False  # whether the last receive has filled the buffer
        self._is_flooded = False  # whether a large message was received last and another one is expected
        self.is_between = True
        self.repeats = False
        self.count = self.start = self.stop = 0
        self.carried = self.cost = self.messages = self.bytes = 0
        self.last_message_at: float | None = None

    @property
    def is_inside(self) -> bool:
        """True while a large message is being received."""
        return self._large is not None

    def receive(
        self, receive_into: ReceiveInto, buffer: memoryview, events: list[Event], exact: object, /
    ) -> bool:
        """Receive once, or a flood of large messages. Return whether bytes arrived and all were taken."""
        before, received = len(events), 0
        is_taken, is_full = False, True
        try:
            while is_full:
                is_taken, is_full = self._receive_part(receive_into, buffer, events)
                received += max(0, self.count)
                is_full = is_full and is_taken and self.repeats and received < len(buffer)
            is_taken = is_taken or (self.count <= 0 and received > 0)
        finally:
            if received:
                self.count = received
            if number := len(events) - before:
                self._counted(events[-number:], exact)
        return is_taken

    def _receive_part(
        self, receive_into: ReceiveInto, buffer: memoryview, events: list[Event]
    ) -> tuple[bool, bool]:
        """Receive once. Return whether all bytes were taken, and whether to receive again at once."""
        self.count, self.start, self.stop, self._is_filled = -1, 0, 0, False
        most, used = self._own_room * len(buffer), len(self.kept)
        buffer = buffer[: self._usable(len(buffer))]
        # A long beginning, or a buffer smaller than usual, leaves little room. Then the receiver joins both.
        is_apart = used > len(buffer) // 2
        if is_apart:
            used = 0
        buffer[:used] = self.kept[:used]
        own, count, is_full = self._receive(receive_into, buffer[used:], most)
        self.count = -1 if count is None else count
        if not count:
            return False, False
        self.bytes += count
        self.carried += count
        self.stop = used + count - own
        self._is_filled = self.stop == len(buffer)
        if own:
            self._add(own, events)
        if self.stop and self.is_between and not is_apart:
            try:
                self.start = self.scan(buffer[: self.stop], 0, events)
            except Exception as error:  # the receiver raises it
                if self._inflater is None:
                    raise
                self.error = error.with_traceback(None)  # the traceback would keep the data alive
        return self.start == self.stop, is_full

    def _counted(self, received: list[Event], exact: object) -> None:
        """Count new events."""
        self.messages += len(received)
        self.last_message_at = received[-1].received_time
        cost, self.carried = self.carried, 0
        if exact or self._inflater is not None or cost >= EXACT_BYTES * len(received):
            cost = max(cost, memory_of(received))
        self.cost = cost + self._event * len(received)

    def _usable(self, size: int) -> int:
        """Return how much of a buffer is used."""
        if self._is_flooded or self._is_flood:
            size = min(size, self._first)
        return size if self._inflater is None else min(size, self._deflated)

    def _receive(
        self, receive_into: ReceiveInto, buffer: memoryview, most: int
    ) -> tuple[int, int | None, bool]:
        """Receive once.

        Returns:
            How many bytes have arrived for the large message, how many in all, and whether to receive again
            at once.
        """
        large = self._large
        is_short = self._is_flooded or self._is_flood
        if large is None:
            count = receive_into(buffer)
            return 0, count, is_short and count == len(buffer)
        is_short = self._size < self._flood  # few larger ones should be in memory at once
        with large.room(most) as room:  # released: the traceback of an error would keep the memory alive
            size = len(room)
            count = receive_into(room, buffer)
        own = min(size, count or 0)
        large.received(own)
        return own, count, is_short and count == size + len(buffer)

    @property
    def _is_flood(self) -> bool:
        """True if a large message is being received behind which others are expected."""
        return self._large is not None and (self.repeats or self._size >= self._flood)

    def _add(self, count: int, events: list[Event]) -> None:
        """Note that part of the large message has arrived."""
        self._missing -= count
        if not self._missing and self._large is not None:
            self._is_flooded = self._is_flood
            events.append(Binary(self._large.getvalue()))
            self._large = None

    def scan(self, data: BytesLike, position: int, events: list[Event], /) -> int:
        """Take the messages at the beginning of bytes that have been received already."""
        self.kept = b""
        end = len(data)
        if self._large is not None:
            stop = min(end, position + self._missing)
            self._large.write(data[position:stop])
            self._add(stop - position, events)
            position = stop
        if position == end:
            return position
        self._is_flooded = False
        position = scan(data, position, self._limit, events, self._inflater, self._as_bytes)
        if position == end:
            return position
        first = data[position] if self._inflater is None else data[position] & ~RSV1
        return self._begin(data, position, end) if first in (_FINAL_TEXT, _FINAL_BINARY) else position

    def _begin(self, data: BytesLike, position: int, end: int) -> int:
        """Take the beginning of a message if that is next. Return where the untaken bytes begin."""
        length = data[position + 1] if end - position >= 2 else 128
        start = position + 2
        if length >= 126:
            start += {126: 2, 127: 8}.get(length, end)  # behind the end: masked, or incomplete
            length = int.from_bytes(data[position + 2 : start], "big")
        if not start <= end < start + length < LENGTH_LIMIT:
            return position
        first = data[position]
        if first != _FINAL_BINARY or not self._large_bytes <= length <= self._limit:
            if not self._may_keep(first, length, data[start:], end - position):
                return position
            self.kept = bytes(data[position:])
            return end
        self._large = new_payload(length, self._reserved)
        self._large.write(data[start:end])
        self._size, self._missing = length, length - (end - start)
        return end

    def _may_keep(self, first: int, length: int, part: BytesLike, size: int) -> bool:
        """Return whether the beginning of an incomplete frame may be kept until the rest has arrived.

        Invalid text must be refused without waiting for the rest, so a compressed message is kept only if the
        buffer is full: then more bytes have usually arrived already. A beginning that grows little by little
        is left to the receiver, which checks every byte once; here all of it is checked and copied each time.
        """
        if length > self._kept_bytes or size > LEAST_GROWTH * self.count:
            return False
        if first & RSV1:
            return self._is_filled and not may_exceed(length, self._limit)
        return length <= self._limit and (first != _FINAL_TEXT or begins_utf8(part))


_FINAL_TEXT = FIN | Opcode.TEXT
_FINAL_BINARY = FIN | Opcode.BINARY


def memory_of(received: Sequence[Event]) -> int:
    """Return about how many bytes of memory the contents of messages take.

    A str takes 1, 2 or 4 bytes per character, depending on its largest character.
    """
    total = 0
    for event in received:
        if isinstance(event, Text):
            content = content_of(event)
            total += len(content) if isinstance(content, bytes) or content.isascii() else getsizeof(content)
        elif isinstance(event, Binary):
            total += len(event.data)
    return total


_Pump = compiled_or("Pump", PumpPython)


def new_pump(limit: int, *, as_bytes: bool = False, inflater: WholeInflater | None = None) -> Pump:
    """Return a pump for one connection, between two messages."""
    sizes = (
        LARGE_BYTES, FLOOD_BYTES, FIRST_BYTES, OWN_ROOM, EVENT_BYTES, payload.RESERVED_BYTES, KEPT_BYTES,
        DEFLATED_READ,
    )
    pump: Pump = _Pump(limit, as_bytes, inflater, sizes)
    return pump
