"""Outgoing: the ordered items that wait to be sent on one connection, and the batch being written.

This is a plain data structure without lock, clock or socket. A `lochws.connection.sendqueue.SendQueue` owns
one, guards it with its lock, and decides which thread may call which method.

A queued message has one of three forms:

* Plain: the ASCII text or the bytes as the user passed them. The frames of a whole batch are built together,
  right before it is written: the bytes are then still in the processor's cache when the kernel copies them,
  and a full queue holds no second copy of any message.
* Framed: ``(frames, kept)``, where ``kept`` lets `message_of` recover the message. There are several frames
  if the message is fragmented (RFC 6455 section 5.4). They may be spread over batches, and urgent control
  frames go between them.
* Raw: ``(opcode, data, message)``, which must be compressed first. It waits in `raw`, together with
  everything queued behind it, since messages must be compressed in the order of sending.

A message of unknown length is an `OpenStream` while its sender adds its fragments: it is the first in `raw`,
so everything queued behind it waits. Each fragment is an item ``(frame, None)``, and the last one
``(frame, Streamed)`` stands for the message.

The user's pings and pongs are passed as ``(frame, None, None)`` and stored as ``(frame, None)``, in order
with the messages. Only if a large message waits are they sent with the next batch, between two fragments.

Items that the kernel has taken stay in memory for a while, within a limit: nothing proves that the server has
read them, and if the connection is lost, `Disconnected.in_doubt` names them. Each item has a position, which
counts from the beginning of the connection in the order of sending.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any, TypeAlias, cast

from ..protocol.frames import RSV1, Item, Opcode, frame_end, frame_length, measure, payload_of
from ..sent import Streamed

#: The maximum number of bytes in a batch, unless a single frame is larger: 256 KiB of messages, whose sizes
#: are often powers of two, and the heads of their frames.
BATCH_BYTES = 257 * 1024
#: Sent items are kept in two groups, and the older one is dropped when the newer one is full: when it has
#: this many items, or takes about this many bytes.
KEPT_ITEMS = 4096
KEPT_BYTES = 512 * 1024
#: The positions of fragments are remembered for this many streams.
MAX_STREAMED = 100

#: A message as the user passed it, for `Disconnected.unsent`; None for a control frame.
Message: TypeAlias = "str | bytes | None"
#: A message that has to be compressed: its opcode, its payload before compression, and the message itself.
Raw: TypeAlias = "tuple[int, bytes, str | bytes]"
#: Makes the frames of a batch: see `lochws.protocol.sender.Sender.pack`.
Pack: TypeAlias = "Callable[[list[Item], int, int], tuple[bytes, int]]"


class Original:
    """The original message of a compressed frame.

    Attributes:
        message: the message as the user passed it.
        cost: the memory that it takes in addition to its frame, in bytes.
    """

    __slots__ = ("cost", "message")

    def __init__(self, message: str | bytes) -> None:
        self.message = message
        self.cost = sys.getsizeof(message)


class OpenStream:
    """A message of unknown length, between its first fragment and its last one.

    Attributes:
        is_open: whether it waits in `Outgoing.raw`, so that nothing else is sent.
        thread: the identifier of the thread that sends it.
        first: the position of its first fragment.
        end: the position after its last fragment, once that was added.
    """

    __slots__ = ("end", "first", "is_open", "thread")

    def __init__(self) -> None:
        self.is_open = False
        self.thread = get_ident()
        self.first = 0
        self.end: int | None = None


class Outgoing:
    """The messages and frames that wait to be sent on one connection.

    Args:
        pack: makes the frames of plain messages.
        batch_bytes: the maximum number of bytes in a batch, unless a single frame is larger.

    Attributes:
        items: the items that are ready to be packed, including those of the batch.
        size: the number of waiting bytes: frames, and payloads that have yet to be compressed. Keepalive
            pings and pongs do not count.
        extra: bytes of memory used in addition, by messages that are kept in two forms.
        rest: the bytes of the batch that the kernel has not taken yet; for the writer only.
        raw: the messages that must be compressed, and everything queued behind them, in order.
        urgent: pings and pongs of the protocol, which are sent before everything else.
        controls: the user's pings and pongs that do not wait for the large message in front of them. They
            count towards `size`.
        plans: whether `take_urgent` must be called before the next batch.
        is_cut: whether our Close frame has overtaken everything that waited.
        streamed: the positions of the latest streams' fragments, as ranges without the last one: they are not
            messages of their own.
        messages_sent: the number of messages that the kernel has taken completely.
        bytes_sent: the number of bytes that the kernel has taken.
    """

    __slots__ = (
        "_base", "_batch_bytes", "_close", "_completed", "_controls", "_end", "_full_at", "_large",
        "_next_offset", "_offset", "_older", "_overtaken", "_pack", "_prefix", "_prefix_left", "_start",
        "_withdrawn", "bytes_sent", "controls", "extra", "is_cut", "items", "messages_sent", "plans", "raw",
        "rest", "size", "streamed", "urgent",
    )

    def __init__(self, pack: Pack, batch_bytes: int = BATCH_BYTES) -> None:
        self._pack = pack
        self._batch_bytes = batch_bytes
        self.items: list[Item] = []
        self._base = 0  # the position of the first of them
        self._start = 0  # items before it were taken by the kernel
        self._older: list[Item] = []  # sent items that were before `items`
        self._full_at = KEPT_BYTES  # the `bytes_sent` at which the sent ones among `items` become `_older`
        self._end = 0  # items from _start to here are the batch, while there is a rest
        # Bytes of the item at `_start` that the kernel has taken in earlier batches: whole fragments.
        self._offset = 0
        self._next_offset = 0  # what it will be after the batch
        self.rest: bytes | memoryview = b""
        self._prefix: list[bytes] = []  # urgent frames that go before the next batch, or are part of this one
        self._prefix_left = 0  # bytes of them that are in the rest
        self.urgent: list[bytes] = []
        self.controls: list[bytes] | tuple[()] = ()  # a list once it is needed: idle connections stay small
        self.plans = self.is_cut = False
        self.streamed: Sequence[range] = ()
        self._close: bytes | None = None  # our Close frame, once it may overtake what waits before it
        self._large = 0  # messages among the items that do not fit into a batch
        self.raw: list[Item | Raw] = []
        self.size = 0
        self.extra = 0
        self._controls = 0  # control frames among the items
        self._withdrawn: list[Item | Raw] = []  # not sent: their senders got an error instead
        self._overtaken: list[Item | Raw] = []  # accepted, and then overtaken by our Close frame
        self._completed = 0  # messages in the batches that were taken completely
        self.messages_sent = 0
        self.bytes_sent = 0

    # Positions.

    @property
    def next_position(self) -> int:
        """The position of the next item to be added."""
        return self._base + len(self.items) + len(self.raw)

    @property
    def items_taken(self) -> int:
        """The position before which the kernel has taken everything. Needs no lock."""
        # In this order: what is moved from the second to the first in between is not counted twice.
        base = self._base
        return base + self._start

    @property
    def pending(self) -> int:
        """The memory that waiting items take, in bytes."""
        return self.size + self.extra

    # Adding.

    def add(self, item: Item | Raw) -> None:
        """Add one item at the end of the queue."""
        if self.raw or isinstance(item, tuple):
            target, item = self._place(item)
            target.append(item)
        else:  # a plain message, with fewer calls
            size = len(item)
            self.size += size + (6 if size < 126 else 8 if size < 65536 else 14)
            self.items.append(item)

    def add_all(self, added: list[Item | Raw]) -> None:
        """Add several items with no other between them. Framed items must not have an `Original`.

        Raises:
            TypeError, ValueError: an item is not valid. In that case none is added.
        """
        size = -1 if self.raw else measure(added, 0)
        if size < 0:
            for item in added:
                self.add(item)
        else:
            if (size > self._batch_bytes or self.plans) and tuple in set(map(type, added)):
                self._count_framed(added)
            self.items += cast("list[Item]", added)
            self.size += size

    def take_over(self, source: list[Any], count: int, is_late: bool) -> None:
        """Move items from the front of a list to the end of the queue. Other threads may append to the list.

        Args:
            source: the list.
            count: how many of its items to move.
            is_late: whether our Close frame has overtaken them, so that they will never be sent.
        """
        taken = source[:count]
        if is_late:
            self._overtaken += taken
            del source[:count]
            return
        size = -1 if self.raw else measure(taken, 0)
        if size >= 0:
            if (size > self._batch_bytes or self.plans) and tuple in set(map(type, taken)):
                self._count_framed(taken)
            # There is no call between these statements, so Ctrl-C cannot interrupt them and lose an item.
            self.items += taken
            del source[:count]
            self.size += size
            return
        for item in taken:
            target, placed = self._place(item)
            target += (placed,)
            del source[0]

    def _place(self, item: Any) -> tuple[list[Any], Item | Raw]:
        """Count an item, and return the list that it belongs in and the form in which to store it."""
        if type(item) is tuple:
            if len(item) == 3:
                if item[1] is not None:
                    self.extra += _raw_cost(item)
                    self.size += len(item[1])
                    return self.raw, item
                item = item[0], None
            if item[1] is None:
                if (self.raw or self._large) and not _is_close(item):
                    return self._place_control(item[0])
                self._controls += 1
            else:
                if type(item[1]) is Original:
                    self.extra += item[1].cost
                self._count_framed((item,))
        self.size += frame_length(item)
        return self.raw or self.items, item

    def _place_control(self, frame: bytes) -> tuple[list[Any], Any]:
        """Count a ping or pong of the user that overtakes messages, and return its list and form there."""
        self.size += len(frame)
        self.plans = True
        self.controls = self.controls or []
        return self.controls, frame

    def add_barrier(self, frame: bytes) -> None:
        """Add a ping that must not overtake anything."""
        self._controls += 1
        self.size += len(frame)
        (self.raw or self.items).append((frame, None))

    def _count_framed(self, added: Sequence[Item | Raw]) -> None:
        """Count the large messages among items that are about to be added."""
        self._large += sum(map(self._is_large, added))

    def _is_large(self, item: Item | Raw) -> bool:
        """Return whether an item is sent over several batches: control frames can go in between."""
        return is_fragmented(item) and len(cast("bytes", item[0])) > self._batch_bytes

    def overtake(self) -> None:
        """Let our Close frame, if it waits, overtake a large message and all that waits behind that.

        A large message that has begun is cut off between two fragments. Those in front of it are sent first.
        """
        waiting = self.raw or (self.items if self._start < len(self.items) else [])
        if self._controls and waiting and _is_close(waiting[-1]):  # nothing is ever added behind it
            self._close = waiting[-1][0]  # type: ignore[assignment]
            self.plans = True

    # Streams.

    @property
    def stream(self) -> OpenStream | None:
        """The message that is being sent as a stream, if there is one."""
        first: list[object] = self.raw[:1]  # type: ignore[assignment]
        return first[0] if first and type(first[0]) is OpenStream else None

    @property
    def wants_compressor(self) -> bool:
        """True if a message waits to be compressed, and no stream is in front of it."""
        return bool(self.raw) and self.stream is None

    @property
    def waiting_items(self) -> int:
        """The number of items that are ready and not taken by the kernel."""
        return len(self.items) - self._start

    def open_stream(self, stream: OpenStream) -> None:
        """Begin a message of unknown length. Only while `raw` is empty."""
        stream.first = self.next_position
        stream.is_open = True
        self.raw += (stream,)  # type: ignore[arg-type]

    def add_fragment(self, frame: bytes) -> None:
        """Add a fragment of the stream that is not the last one."""
        self.size += len(frame)
        self._controls += 1
        self.items.append((frame, None))

    def end_stream(self, stream: OpenStream, frame: bytes, sent: Streamed) -> None:
        """Add the last fragment of the stream. The items up to the next raw message are then ready."""
        count = self._ready_count()
        ready = cast("list[Item]", [(frame, sent), *self.raw[1:count]])
        end = self._base + len(self.items) + 1
        streamed = [*self.streamed[-MAX_STREAMED:], range(stream.first, end - 1)]
        size = self.size + len(frame)
        # There is no call between these statements, so Ctrl-C cannot interrupt them.
        self.items += ready
        del self.raw[:count]
        stream.is_open, stream.end, self.size, self.streamed = False, end, size, streamed

    def fragments_between(self, start: int, end: int) -> int:
        """Return how many of these positions are fragments of streams, not counting the last of each."""
        last = self.stream
        ranges = self.streamed if last is None else [*self.streamed, range(last.first, end)]
        return sum(max(0, min(end, each.stop) - max(start, each.start)) for each in ranges)

    # Compressing.

    def _ready_count(self) -> int:
        """Return how many items are ready once the first of `raw` is."""
        count = 1
        while count < len(self.raw) and not _is_raw(self.raw[count]):
            count += 1
        return count

    def add_compressed(self, raw: Raw, frame: bytes) -> Item:
        """Add a message that was compressed while `raw` was empty, ahead of what was added to `raw` since.

        Returns:
            The item that now represents the message.
        """
        item = frame, Original(raw[2])
        self._count_framed((item,))
        self.extra += item[1].cost
        self.size += len(frame)
        self.items.append(item)
        return item

    def compressed(self, frame: bytes) -> Item:
        """Replace the first raw message by its frame. The items up to the next raw message then are ready.

        Returns:
            The item that now represents the message.
        """
        _, data, message = cast("Raw", self.raw[0])
        item = frame, Original(message)
        extra = self.extra + item[1].cost - _raw_cost(cast("Raw", self.raw[0]))
        size = self.size + len(frame) - len(data)
        count = self._ready_count()
        ready = cast("list[Item]", [item, *self.raw[1:count]])
        self._count_framed((item,))
        # No call stands in between the following, so that Ctrl-C cannot: each item is in one place.
        self.items += ready
        del self.raw[:count]
        self.extra, self.size = extra, size
        return item

    # Writing. One thread at a time is the writer.

    @property
    def is_ready(self) -> bool:
        """True if there is something to write."""
        return bool(
            self.rest or self._start < len(self.items) or self.urgent or self.controls or self._prefix
        )

    @property
    def is_close_taken(self) -> bool:
        """True if the kernel has taken our Close frame, which was added before."""
        return not (self.size or self._prefix)

    def take_urgent(self) -> None:
        """Put the urgent frames in front of the next batch, unless one is being written. Under the lock."""
        if self._prefix or self.rest:
            return
        if self._close is not None and self._is_at_large:
            self._cut(self._close)
            return
        prefix = [*self.urgent, *self.controls]
        size = self.size - sum(map(len, self.controls))
        # There is no call between these statements, so Ctrl-C cannot interrupt them and lose a frame.
        self._prefix, self.urgent, self.controls, self.size = prefix, [], (), size
        self.plans = self._close is not None

    @property
    def _is_at_large(self) -> bool:
        """True if the next message is large or a stream, or compressing it takes long."""
        if self._start < len(self.items):
            item = self.items[self._start]
            return self._is_large(item) or is_fragment(item)
        if self.stream is not None:
            return True
        return bool(self.raw) and _is_raw(self.raw[0]) and len(self.raw[0][1]) > self._batch_bytes  # type: ignore[arg-type]

    def _cut(self, close: bytes) -> None:
        """Send our Close frame next, and nothing after it. Only while no batch is being written."""
        overtaken = [*self.items[self._start :], *self.raw]
        if (stream := self.stream) is not None:
            self.streamed = [*self.streamed, range(stream.first, self.items_taken)]
        # Nothing may follow it, so pings and pongs are given up.
        # There is no call between these statements, so Ctrl-C cannot interrupt them.
        self._overtaken, self.raw, self.is_cut = overtaken, [], True
        del self.items[self._start :]
        self._prefix, self.urgent, self.controls = [close], [], ()
        self._close = None
        self._offset = self._large = self._controls = self.size = self.extra = 0

    def make_batch(self) -> None:
        """Build the frames of the next batch, unless one is being written. For the writer.

        Other threads may add items meanwhile; this method does not touch what they change.
        """
        if self.rest:
            return
        items, start = self.items, self._start
        packed, end, offset = b"", start, 0
        if start < len(items):
            item = items[start]
            if is_fragmented(item) and len(frames := cast("bytes", item[0])) > self._batch_bytes:
                packed, end, offset = self._fragments(frames, self._batch_bytes)
            else:
                packed, end = self._pack(items, start, self._batch_bytes)
        if self._prefix:
            prefix = b"".join(self._prefix)
            packed = prefix + packed
            self._prefix_left = len(prefix)
        # OpenSSL wants the same bytes again after a write that would block: they are kept until all are
        # taken, and nothing is put in front of them.
        self._next_offset, self._end, self.rest = offset, end, packed

    def _fragments(self, frames: bytes, limit: int) -> tuple[bytes, int, int]:
        """Return the next fragments of a message, for a batch of their own.

        Args:
            frames: all frames of the item at `_start`.
            limit: the largest result in bytes. One fragment is returned whatever its size.

        Returns:
            The fragments, and what `_end` and `_offset` are after them.
        """
        start = self._offset
        end = frame_end(frames, start)
        while end < len(frames) and (following := frame_end(frames, end)) - start <= limit:
            end = following
        if end == len(frames):
            return frames[start:], self._start + 1, 0
        return frames[start:end], self._start, end

    @property
    def is_last_batch(self) -> bool:
        """True if everything that waits is in the batch that is being written."""
        return bool(self.rest and self._end == len(self.items)) and not (self._next_offset or self.raw)

    @property
    def batch(self) -> list[Item]:
        """The items of the batch that is being written."""
        # A fragmented message belongs to the batch in which it begins.
        start, end = self._start + (self._offset > 0), self._end + (self._next_offset > 0)
        items = self.items[start:end] if self.rest else []
        return [*((frame, None) for frame in self._prefix), *items]

    def took(self, taken: int) -> None:
        """Note that the kernel has taken this many bytes of the rest."""
        self.bytes_sent += taken
        of_items = taken
        if self._prefix_left:
            of_items = max(0, taken - self._prefix_left)
            self._prefix_left -= taken - of_items
        self.size -= of_items
        if taken != len(self.rest):
            self.rest = memoryview(self.rest)[taken:]
            if of_items:
                start, end = self._start, self._taken_whole()
                self.messages_sent = self._completed + self._messages_in(start, end)
            return
        start, end = self._start, self._end
        messages = self._messages_in(start, end) if self._controls else end - start
        has_ended = False  # a large message
        if self._offset and not self._next_offset:
            has_ended = self._is_large(self.items[start])
        if self.extra:
            extra = sum(_extra(item) for item in self.items[start:end])
            self.extra -= extra
            self._full_at -= extra
        is_full = end >= KEPT_ITEMS or self.bytes_sent >= self._full_at
        older = self._group(start, end) if is_full else []
        # There is no call between these statements, so Ctrl-C cannot interrupt them.
        self.messages_sent = self._completed = self._completed + messages
        self._controls -= end - start - messages
        if has_ended:
            self._large -= 1
        self.rest, self._prefix, self._start, self._offset = b"", [], end, self._next_offset
        if is_full:
            self._older = older
            self._full_at = self.bytes_sent + KEPT_BYTES
            self._start = self._end = 0
            del self.items[:end]
            self._base += end

    def _group(self, start: int, end: int) -> list[Item]:
        """Return the sent items to keep, of which those from `start` on have just been sent."""
        is_large = end == start + 1 and frame_length(self.items[start]) > KEPT_BYTES
        return [] if is_large else self.items[:end]

    def forget(self, position: int) -> None:
        """Release the sent items before a position, which the server has read. Only without a writer."""
        count = min(position - self._base, self._start)
        if count >= 0:
            self._older = []
        if count > 0:
            self._start -= count
            self._end -= count
            del self.items[:count]
            self._base += count

    def _taken_whole(self) -> int:
        """Return the index after the last item of the batch that the kernel has taken completely."""
        missing, whole = len(self.rest), self._end
        while missing > 0 and whole > self._start:
            whole -= 1
            missing -= frame_length(self.items[whole])
        return whole

    def _messages_in(self, start: int, end: int) -> int:
        if not self._controls:
            return end - start
        return sum(not (type(item) is tuple and item[1] is None) for item in self.items[start:end])

    # Ending.

    def withdraw(self, unwanted: Sequence[Item | Raw]) -> bool:
        """Remove items that were not sent. Return False, and remove none, unless all of them still wait."""
        waiting = Counter(map(id, self._unsent()))
        if any(waiting[item] < count for item, count in Counter(map(id, unwanted)).items()):
            return False
        self._withdrawn += unwanted
        return True

    def take_in_doubt(self, proven: int) -> tuple[list[Item], int]:
        """Return the sent items that the server may not have read, before `take_unsent`.

        Args:
            proven: the position before which the server has read everything.

        Returns:
            The items that are still kept, in order, and the position after the last one.
        """
        end = self._taken_whole() if self.rest else self._start
        sent = [*self._older, *self.items[:end]]
        count = max(0, self._base + end - proven)
        return sent[max(0, len(sent) - count) :], self._base + end

    def take_unsent(self) -> list[Item | Raw]:
        """Remove and return the messages that were not sent completely, in order."""
        if self.rest:
            self._completed = self.messages_sent
        unsent = [*self._unsent(), *self._overtaken]
        self._base += self._taken_whole() if self.rest else self._start  # `items_taken` stays true
        self.items, self.raw, self._overtaken, self._withdrawn = [], [], [], []
        self.urgent, self.controls = [], ()
        self._start = self._end = self._offset = self.size = self.extra = 0
        self.rest = b""
        return unsent

    def _unsent(self) -> list[Item | Raw]:
        first = self._taken_whole() if self.rest else self._start
        items: list[Item | Raw] = [*self.items[first:], *self.raw]
        for withdrawn in reversed(self._withdrawn):
            # The same object may have been sent several times; it does not matter which of them is removed.
            for index in reversed(range(len(items))):
                if items[index] is withdrawn:
                    del items[index]
                    break
        return items


def message_of(item: Item | Raw) -> Message:
    """Return the message that an item represents, or None if it is a control frame."""
    if not isinstance(item, tuple):
        other: object = item
        return None if isinstance(other, OpenStream) else item
    kept = item[-1]
    if type(kept) is Streamed:
        return None
    if isinstance(kept, int):  # the opcode of a message that is kept as its frame only
        payload = payload_of(cast("bytes", item[0]))
        return payload.decode() if kept == Opcode.TEXT else payload
    return cast("Message", kept.message if isinstance(kept, Original) else kept)


def streams_among(sent: Sequence[Item]) -> int:
    """Count the streams that end among some items, since their contents are not kept."""
    return sum(type(item) is tuple and type(item[1]) is Streamed for item in sent)


def _is_close(item: Item | Raw) -> bool:
    return type(item) is tuple and item[1] is None and item[0][0] & 0x0F == Opcode.CLOSE


def is_fragment(item: Item | Raw) -> bool:
    """Return whether an item is a fragment of a stream, but not its last one."""
    return type(item) is tuple and item[1] is None and item[0][0] & 0x0F < Opcode.CLOSE


def is_fragmented(item: Item | Raw) -> bool:
    """Return whether an item has more than one frame."""
    if type(item) is not tuple or type(item[1]) not in _KINDS_OF_LARGE:
        return False
    first: int = cast("bytes", item[0])[0]
    return first & ~RSV1 in (Opcode.TEXT, Opcode.BINARY)  # without FIN


#: What is kept of a message that was framed before it was queued.
_KINDS_OF_LARGE = (int, Original)


def _is_raw(item: Item | Raw) -> bool:
    return type(item) is tuple and len(item) == 3


def _raw_cost(raw: Raw) -> int:
    return 0 if raw[2] is raw[1] else sys.getsizeof(raw[2])


def _extra(item: Item) -> int:
    return item[1].cost if type(item) is tuple and type(item[1]) is Original else 0
