"""Messages in order to the kernel, in few system calls, without ever blocking there.

One thread at a time writes: it says so in `_writing`, leaves the lock, makes its system call, and
comes back with the number of bytes. Others append meanwhile. So the lock is never held over a system
call, and messages leave in the order in which they were queued.

Messages wait as the user gave them. Frames are made of a whole batch at once, right before it is
written: the bytes are still in the processor's cache when the kernel copies them, and a full queue
holds no second copy of each message.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Protocol, TypeAlias, cast

from ..protocol.frames import Item, Opcode, frame_length
from ..protocol.masking import mask
from ..sent import ControlFrame, Sent, Tap
from ..system.report import is_interrupt, report_aside, safe_name
from ..system.waits import Waiters

#: A message that comes this soon after the last write follows closely: it may gather.
FOLLOWS_SECONDS = 20e-6
#: The oldest gathered message waits no longer than this while its sender goes on sending.
GATHER_SECONDS = 100e-6
#: This many gathered bytes are worth a system call.
GATHER_BYTES = 56 * 1024
#: At most so many leave in one, unless a single message has more.
BATCH_BYTES = 256 * 1024
#: Batches that are written in one go before the loop turns to its other connections.
BATCHES_PER_FLUSH = 4
#: So many packed items are cleared away at a time while others wait.
_CLEAR_ITEMS = 4096

#: A message as the user gave it, for `Disconnected.unsent`; None for a control frame.
Message: TypeAlias = "str | bytes | None"
#: Makes the frames of a batch: see `Sender.pack`.
Pack: TypeAlias = "Callable[[list[Item], int, int], tuple[bytes, int]]"


class Sink(Protocol):
    """Where the bytes go: a stream."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Take what can be taken now, without blocking, and say how many bytes that was."""


class BatchWriter:
    """The way from queued messages into the kernel. `SendQueue` decides what is queued.

    Args:
        stream: where the bytes go.
        pack: makes the frames.
        ask_loop: called, without a lock, when the loop should flush.
        gather: whether messages may wait for company. Without a loop that comes when asked they must not.
        taps: are told of each batch before it is written; may change at any time.
    """

    __slots__ = (
        "_ask_loop", "_asked", "_batch", "_blocked", "_changed", "_completed", "_controls", "_corks",
        "_due", "_failure", "_finished", "_follows", "_gathering", "_is_shut", "_items", "_last_write",
        "_leavable", "_left", "_lock", "_pack", "_rest", "_roomy", "_start", "_stream", "_taps", "_telling",
        "_unpacked", "_urgent", "_waiting", "_withdrawn", "_writing", "bytes_sent",
    )

    def __init__(
        self, stream: Sink, pack: Pack, ask_loop: Callable[[], None], gather: bool, taps: Sequence[Tap]
    ) -> None:
        self._stream = stream
        self._pack = pack
        self._ask_loop = ask_loop
        self._taps = taps
        self._telling: int | None = None  # the thread that calls them; written there
        self._follows = FOLLOWS_SECONDS if gather else -1.0

        self._lock = threading.Lock()
        self._changed = Waiters(self._lock)  # room was made, or a writer came back
        # All below is guarded by _lock.
        # What waits, in order: plain messages, and frames that are ready with their messages.
        self._items: list[Item] = []
        self._start = 0  # items before it are packed
        self._unpacked = 0  # bytes of the frames of the others
        self._urgent: list[bytes] = []  # pings and pongs, which go before whatever waits
        self._batch: list[Item] = []  # the items that are being written
        self._rest: bytes | memoryview = b""  # the batch's bytes that the kernel has not taken
        self._withdrawn: list[Item] = []  # not sent, and given back to their senders
        self._controls = 0  # items of the batch, and of those that wait, that are no messages
        self._writing = False  # a thread is in the kernel with _rest
        self._blocked = False  # the kernel is full: only the loop, told that it is writable, tries again
        self._asked = False  # the loop was asked to flush and has not come yet
        self._gathering = False  # a message waits for company, until _due
        self._corks = 0  # users who want messages to gather
        self._due = 0.0
        self._last_write = 0.0
        self._waiting = 0  # threads that wait in _changed
        self._roomy = 0  # bytes: when no more wait, it is worth telling them
        self._failure: OSError | None = None
        self._finished = False
        self._is_shut = False  # sealed by our Close frame, failed or finished
        self._completed = 0  # messages in the batches that were taken whole
        self.bytes_sent = 0  # counted under _lock, read by anyone
        # Appended by any thread without the lock, taken by the lock's holder; see `Gathering`.
        self._left: list[Any] = []
        # Written under _lock, read without: how many messages senders may leave without it now.
        self._leavable = 0

    # For SendQueue, holding the lock.

    @property
    def _pending(self) -> int:
        """Bytes of all that waits, the rest of the batch included, but for pings and pongs."""
        return self._unpacked + len(self._rest)

    def _queue(self, frame: bytes, message: Message) -> Item:
        """Queue a frame that is ready, and say as what."""
        item = frame, message
        self._controls += message is None
        self._unpacked += len(frame)
        self._items.append(item)
        return item

    def _next_step(self) -> bool | None:
        """What is to follow what was queued: True to write now, False to ask the loop, None for neither."""
        if self._writing or self._blocked or not self._waits():
            # The writer looks again when it comes back; the loop comes when the kernel has room.
            return None
        if self._corks:
            if self._unpacked >= GATHER_BYTES:
                return True
            self._due = math.inf
        else:
            now = monotonic()
            if self._gathering:
                if self._unpacked >= GATHER_BYTES or now > self._due:
                    return True
            elif now - self._last_write > self._follows:
                return True
            else:
                self._gathering = True
                self._due = now + GATHER_SECONDS
        self._leavable = self._room_for_left()
        if self._asked or self._corks:
            return None
        self._asked = True
        return False

    def _room_for_left(self) -> int:
        """How many messages may be left without the lock, by the bound of the queue."""
        return 0

    def _take_up(self) -> None:
        """Queue what was left without the lock, if there is such a thing."""

    def _fail(self, error: BaseException) -> None:
        """Give the stream up: nothing more may be written to it.

        Ctrl-C, too, can strike between the deflate context and the queue, or between the kernel and
        our count; whatever the server got from then on would be garbage.
        """
        self._failure = error if isinstance(error, OSError) else OSError(f"interrupted by {error!r}")
        self._is_shut = True
        self._writing = False
        self._leavable = 0
        self._changed.notify_all()

    def _taken_whole(self) -> int:
        """How many items of the batch the kernel has taken whole."""
        missing = len(self._rest)
        whole = len(self._batch)
        while missing > 0:
            whole -= 1
            missing -= frame_length(self._batch[whole])
        return whole

    def _unsent(self) -> list[Item]:
        """What the kernel has not taken whole, in order, but for what was withdrawn."""
        items = [*self._batch[self._taken_whole() :], *self._items[self._start :]]
        for withdrawn in reversed(self._withdrawn):
            # The same object may have been sent before, or by others: one of them is as good as the other.
            for index in reversed(range(len(items))):
                if items[index] is withdrawn:
                    del items[index]
                    break
        return items

    def _withdraw(self, unwanted: Sequence[Item]) -> bool:
        """Take items back, if none was sent whole. Returns False if one was, or they are reported already."""
        with self._lock:
            if self._finished:
                return False
            waiting = Counter(map(id, self._unsent()))
            if any(waiting[item] < count for item, count in Counter(map(id, unwanted)).items()):
                return False
            self._withdrawn += unwanted
            return True

    # Writing. Without the lock.

    def _write_batches(self, by_loop: bool = False) -> None:
        """Write a few batches, unless another thread is at it, and leave the rest to the loop.

        Raises:
            OSError: the stream failed; `_failure` keeps it, and the loop was asked to look.
        """
        mine = ask = False
        try:
            with self._lock:
                if self._writing or (self._blocked and not by_loop):
                    return
                mine = True  # from here on an interruption would leave half a batch
                if not self._has_batch():
                    mine = False
                    return
                self._writing = True
            batches = 0
            while mine:
                if self._taps and type(self._rest) is bytes:  # told of, it is a memoryview
                    try:
                        self._tell()
                    except BaseException:
                        # Ctrl-C. Nothing of the batch is in the kernel: whoever comes next goes on with it.
                        self._writing = mine = False
                        self._ask_loop()
                        raise
                taken = self._stream.send(self._rest)  # which nobody else changes while _writing
                batches += 1
                with self._lock:
                    self._take_off(taken)
                    if self._left or self._unpacked or self._rest or self._urgent:
                        if batches < BATCHES_PER_FLUSH and not self._blocked and self._has_batch():
                            self._writing = True
                            continue
                        ask = not (self._asked or not self._waits() or (self._blocked and by_loop))
                        self._asked = self._asked or ask
                    mine = False
        except BaseException as error:
            if mine:
                with self._lock:
                    self._fail(error)
                self._ask_loop()
            raise
        if ask:
            self._ask_loop()

    def _tell(self) -> None:
        """Tell of a batch that is about to be written, once. While _writing, so that the order is kept."""
        self._rest = memoryview(self._rest)
        sent = tuple(map(_as_sent, self._batch))
        self._telling = threading.get_ident()
        try:
            for tap in tuple(self._taps):
                try:
                    tap(sent)
                except BaseException as error:
                    # On the main thread that may be Ctrl-C; on others SystemExit must not end the reader.
                    if is_interrupt(error):
                        raise
                    report_aside(logging.ERROR, "handler %s failed", safe_name(tap), error=error)
        finally:
            self._telling = None

    def _waits(self) -> bool:
        return bool(self._unpacked or self._rest or self._urgent)

    def _has_batch(self) -> bool:
        """Make up the next batch unless one is under way. Returns False if there is nothing to write."""
        if self._failure is not None or self._finished:
            return False
        if not self._rest:
            if self._left:
                self._take_up()
            if self._unpacked or self._urgent:
                self._make_batch()
        return bool(self._rest)

    def _make_batch(self) -> None:
        items, start, urgent = self._items, self._start, self._urgent
        packed, end = self._pack(items, start, BATCH_BYTES) if start < len(items) else (b"", start)
        batch, unpacked, controls = items[start:end], self._unpacked - len(packed), self._controls
        if urgent:
            batch = [*[(frame, None) for frame in urgent], *batch]
            controls += len(urgent)
            packed = b"".join([*urgent, packed])
        # OpenSSL wants the same bytes again after a write that would block: they are kept until all are
        # taken, and nothing is put in front of them.
        clear = end == len(items) or end >= _CLEAR_ITEMS
        # No call stands in between the following, so that Ctrl-C cannot: each item is in one place.
        self._batch, self._rest, self._start = batch, packed, end
        self._unpacked, self._controls, self._urgent = unpacked, controls, []
        if clear:
            self._start = 0
            del items[:end]

    def _take_off(self, taken: int) -> None:
        """Note what the kernel has taken."""
        self._writing = self._gathering = False
        self._leavable = 0
        self._last_write = monotonic()
        self.bytes_sent += taken
        if taken == len(self._rest):
            self._blocked = False
            count = len(self._batch)
            messages = self._messages_in(self._batch) if self._controls else count
            self._completed += messages
            self._controls -= count - messages
            self._batch, self._rest = [], b""
        else:
            self._rest = memoryview(self._rest)[taken:]
            self._blocked = True
        if (self._waiting and self._pending <= self._roomy) or self._finished:
            self._changed.notify_all()

    def _messages_in(self, items: list[Item]) -> int:
        """How many of these items are messages."""
        return len(items) - (sum(message_of(item) is None for item in items) if self._controls else 0)


def message_of(item: Item | tuple[object, ...]) -> Message:
    """The message that an item holds, or None if it is a control frame."""
    return cast("Message", item[-1]) if isinstance(item, tuple) else item


def _as_sent(item: Item) -> Sent:
    message = message_of(item)
    if message is not None:
        return message
    frame = item[0]
    assert isinstance(frame, bytes)
    return ControlFrame(Opcode.to_str(frame[0] & 0x0F).lower(), mask(frame[6:], frame[2:6]))
