"""Send queue of one connection: sends immediately what the kernel takes, and keeps the rest in order.

Any thread may push at any time, and no thread blocks in the kernel. A single message is passed to the kernel
by its sender. Messages sent in quick succession are gathered and sent in one system call: by a sender when
enough bytes have gathered or the oldest message has waited for `GATHER_SECONDS`, otherwise by the loop, which
the sender of the first message has asked for a flush. No timer delays a message, and no thread has to loop
until the queue is empty.

Work that grows with the size of a message is never done under the lock. One thread at a time is the writer:
it takes this role under the lock, builds a batch and calls the kernel without the lock, and then records the
number of bytes taken under the lock. Other threads append in the meantime. In the same way, one thread at a
time compresses, piece by piece, so that a large message occupies neither a lock nor the loop. Everything that
was queued after that message waits for it, except for keepalive pings and pongs.

Most messages take a shorter path in C, `push_small`: while messages gather, a small one is handed over, and
a large one is queued, as is one of any size while the kernel is full. If nothing waits, a small message is
framed, masked, sent and recorded. That call holds the GIL for a few microseconds and runs no Python code
meanwhile, so while the lock is free, it has the same effect as holding the lock.

**Hand-over without the lock.** Senders do not wait for each other. A call that interrupts another one on the
same thread (in a signal handler, finalizer or trace function) must not wait either, because it would wait for
itself. Nor must a call that holds the control lock, because the lock's holder may run a finalizer that waits
for the control lock. Such senders drop their message off in `_dropped_off`, and another thread or call takes
it up. The rule that makes this correct:

    After releasing the lock, and after setting `_drop_off_limit` to 0, a thread checks `_dropped_off`.
    After dropping a message off, a thread checks both the lock and `_drop_off_limit`.

So one of the two always notices the other. While `_drop_off_limit` is not 0, messages gather, and a flush is
certain: either the loop was asked for one, or the sender will return in time. While the lock is held, its
holder will take the messages up. A call that holds the control lock and finds this one free asks the loop.

**With a budget** (`lochws.connection.paced`), messages also wait until the server's limit allows them, and
nothing gathers. A sender that leaves messages waiting asks the loop, which sets a timer for `wake_at`. A
message that is sent after that time, but before the timer fires, is written by its sender.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Sequence
from time import monotonic
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any, Protocol, TypeAlias, cast

from ..errors import TransportFail, WebSocketClosed, WebSocketClosing, WebSocketError
from ..protocol.deflate import PIECE_BYTES
from ..protocol.frames import Item
from ..protocol.masking import MaskKeys
from ..sent import Streamed, Tap
from ..system import control
from ..system.compiled import choose, load
from ..system.locks import plain_lock
from ..system.reentry import interrupts_lochws
from ..system.waits import Waiters, wait_for
from .announcer import Announcer
from .compression import Compress, Compression
from .outgoing import BATCH_BYTES, KEPT_ITEMS, OpenStream, Outgoing, Pack, Raw, message_of, streams_among
from .paced import Budget, PacedOutgoing
from .pacing import Pacing
from .proofs import Doubts, Proofs
from .receipts import NOWHERE, Receipt
from .room import Bound, Room

#: A message sent within this time after the last write, in seconds, may be gathered with others.
FOLLOWS_SECONDS = 20e-6
#: The longest wait of a gathered message while its sender keeps sending, in seconds.
GATHER_SECONDS = 100e-6
#: The number of gathered bytes that are sent without waiting for more: two full batches, so that a server
#: that sleeps in between is woken less often. In a small queue it is an eighth of the limit, but at least
#: `LEAST_GATHER_BYTES`, so that gathered messages leave room for others.
GATHER_BYTES = 512 * 1024
LEAST_GATHER_BYTES = 56 * 1024
#: The number of batches to write before the loop turns to its other connections.
BATCHES_PER_FLUSH = 4
#: The number of bytes that the loop compresses before it turns to its other connections.
COMPRESSED_PER_FLUSH = 2 * PIECE_BYTES
#: The maximum size of a message that may be dropped off, in bytes, and the maximum number of such messages.
DROP_OFF_BYTES = 4096
DROP_OFF_MESSAGES = 512
#: How long `finish` waits for a thread that is writing, in seconds.
WRITER_SECONDS = 1.0

#: Asks for a flush: see `SendQueue`.
AskFlush: TypeAlias = "Callable[[Callable[[], object] | None], object]"
#: Does at once what `SendQueue.push` would do, and returns True; or does nothing, and returns None.
PushSmall: TypeAlias = "Callable[[SendQueue, str | bytes], bool | None]"
# The role of writer or compressor: a new list each time, so that its holder can distinguish it from the next.
_Part: TypeAlias = "list[None]"


class Sink(Protocol):
    """The stream that a queue writes to."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Take what can be taken now, without blocking, and return how many bytes that was."""


class SendQueue:
    """The queue of one connection.

    Args:
        stream: where the bytes go.
        pack: builds the frames of a batch.
        bound: the limit on what may wait.
        ask_flush: asks for a flush, by the loop or by any thread that calls the function it is given; None if
            only the loop can do it. Called without a lock.
        compress: builds the frames of raw messages; None without compression.
        gather: whether messages may gather; only allowed with a loop that flushes when asked.
        taps: functions that receive what is about to be sent, in order; may change at any time.
        budget: the limit on frames, or None for no limit.
        proofs: what the server has read; None if no receipts are needed.
        batch_bytes: the maximum number of bytes in a batch, unless a single frame is larger.
        window: how many items may wait when a stream adds a fragment.
        sock: the stream's socket, if `push_small` may send to it; otherwise None.
        keys: the masking keys that `pack` uses; only needed with a socket.
        plain_bytes: `push_small` may queue messages of fewer bytes.

    Attributes:
        doubts: after `finish`, what is in doubt; None before.
        failure: what ended sending, or None. Read by anyone.
        is_blocked: whether the kernel is full: only the loop, told that the socket is writable, tries again.
            Read by anyone.
        pacing: what exists only with a budget, or None.
    """

    __slots__ = (
        "_announcer", "_ask_flush", "_asked", "_changed", "_compression", "_compressor", "_corks",
        "_drop_off_limit", "_dropped_off", "_due", "_finished", "_follows", "_gather_bytes", "_gathering",
        "_is_shut", "_is_unsure", "_keys", "_last_write", "_limit", "_lock", "_outgoing", "_paced",
        "_plain_bytes", "_proofs", "_room", "_sealed", "_socket", "_stream", "_taps", "_window", "_writer",
        "doubts", "failure", "is_blocked", "pacing",
    )

    def __init__(
        self,
        stream: Sink,
        *,
        pack: Pack,
        bound: Bound,
        ask_flush: AskFlush,
        compress: Compress | None = None,
        gather: bool = True,
        taps: Sequence[Tap] = (),
        budget: Budget | None = None,
        proofs: Proofs | None = None,
        batch_bytes: int = BATCH_BYTES,
        window: int = 4,
        sock: socket.socket | None = None,
        keys: MaskKeys | None = None,
        plain_bytes: int = BATCH_BYTES,
    ) -> None:
        self._stream = stream
        self._keys = keys
        self._compression = Compression(compress) if compress is not None else None
        self._limit = bound.limit
        self._window = window
        self._ask_flush = ask_flush
        self._follows = FOLLOWS_SECONDS if gather and budget is None else -1.0
        self._gather_bytes = min(GATHER_BYTES, max(LEAST_GATHER_BYTES, bound.limit // 8))
        self._taps = taps
        self._announcer: Announcer | None = None  # made when it is needed
        # Appended to by any thread without the lock, emptied by the lock's holder.
        self._dropped_off: list[Item | Raw] = []
        # How many messages may be dropped off without checking the lock. Written under it, read without it.
        self._drop_off_limit = 0
        # One token for each cork. Any thread, without the lock: appending and popping are atomic.
        self._corks: list[None] = []

        self._lock = plain_lock()
        self._changed = Waiters(self._lock)  # room was made, or a writer has finished
        # Everything below is guarded by _lock.
        # Both are the same object with a budget; without one, `_paced` is None.
        self._paced = PacedOutgoing(pack, budget, batch_bytes) if budget is not None else None
        self._outgoing = Outgoing(pack, batch_bytes) if self._paced is None else self._paced
        self.pacing: Pacing | None = None
        if self._paced is not None:
            self.pacing = Pacing(self._paced, self._lock, self._dropped_off, self._is_idle)
        self._room = Room(bound, self._outgoing, self._changed)
        self._writer: _Part | None = None  # the role of the thread that writes
        self._compressor: _Part | None = None  # the role of the thread that compresses
        self.is_blocked = False
        self._asked = False  # the loop was asked to flush and has not come yet
        self._gathering = False  # a message waits for others to join it, until _due
        self._due = self._last_write = 0.0
        self.failure: OSError | None = None
        self._sealed = False  # our Close frame is queued: nothing may follow it
        self._finished = False
        self._is_shut = False  # sealed, failed or finished
        self._is_unsure = False  # an interrupted writer could not record what the kernel took of its batch
        self._proofs = proofs or Proofs(bytes, bytes)
        self.doubts: Doubts | None = None
        # `push_small` asks the lock whether it is held. That must not run Python code, as gevent's lock may.
        is_usual = isinstance(type(self._lock).locked, MethodDescriptorType)
        self._plain_bytes = plain_bytes if is_usual else 0
        # Set last, since `push_small` does nothing before, and needs all other slots.
        self._socket = sock if is_usual and budget is None else None

    # Any thread.

    def push(self, message: str | bytes, size: int) -> bool:
        """Send a message that needs no work before it is queued. Never blocks in the kernel.

        Args:
            message: binary, or text that is ASCII.
            size: its length in bytes.

        Returns:
            False if the message was discarded because the queue is full (``"drop"``).

        Raises:
            QueueFull: there is no room.
            WebSocketClosed: the connection has ended.
            WebSocketClosing: our Close frame was sent.
            TransportFail: the network failed under this message; it was not sent whole.
        """
        dropped_off = self._dropped_off
        if size <= DROP_OFF_BYTES and len(dropped_off) < self._drop_off_limit:
            dropped_off.append(message)
            # Checked after dropping off, as the rule in the module's docstring requires.
            has_gathered = len(dropped_off) * size > self._gather_bytes
            if has_gathered or not self._drop_off_limit or monotonic() > self._due:
                self._look_after()
                self._check_dropped_off(message)
            return True
        return bool(push_small is not None and push_small(self, message)) or self.push_item(message, size)

    def push_item(self, item: Item | Raw, size: int) -> bool:
        """Send a message or control frame in any of the forms that `lochws.connection.outgoing` names.

        Args:
            item: the item.
            size: the bytes that count towards the bound.

        Returns, raises:
            The same as `push`.
        """
        # A check followed by `with`: after acquire(False), Ctrl-C could strike before the lock is released.
        is_barred = self._lock.locked() or control.is_held()
        if is_barred and (accepted := self._drop_off(item, size)) is not None:
            return accepted
        return self._push_all((item,), size)

    def push_raw(self, raw: Raw, size: int) -> bool:
        """Send a message that must be compressed: on this thread, unless another one is compressing.

        Args:
            raw: the message.
            size: the bytes that count towards the bound.

        Returns, raises:
            The same as `push`.
        """
        if len(raw[1]) > PIECE_BYTES or self._compressor is not None or self._must_not_wait():
            return self.push_item(raw, size)
        assert self._compression is not None  # else nothing is raw
        mine: _Part | None = None
        part: _Part | None = None
        is_unsure = False
        try:
            with self._lock:
                if not self._admit(size):
                    return False
                self._check_open()
                outgoing = self._outgoing
                if not outgoing.raw and self._compressor is None:
                    self._compressor = part = []
            if part is None:
                return self.push_item(raw, size)
            is_unsure = True
            frame = self._compression.whole(raw[0], raw[1])
            with self._lock:
                self._check_alive()
                if not outgoing.raw:
                    self._check_open()  # a Close frame that was queued meanwhile is ahead
                    self._compressor = None
                item = self._add_compressed(raw, frame)
                is_unsure = False
                step = self._next_step()
                if step:
                    self._writer = mine = []
            if mine is not None:
                self._write(mine, (item,))
            elif step is False:
                self._ask_loop()
            if self._compressor is part:
                self._compress_waiting(part, (), COMPRESSED_PER_FLUSH)
            if self._dropped_off:
                self._look_after()
        except BaseException as error:
            self._fail_if(is_unsure and not isinstance(error, WebSocketError), error)
            self._after_error(error, mine, part)
            raise
        return True

    def push_many(
        self, items: Sequence[Item | Raw], size: int, receipt: Receipt | None = None
    ) -> bool:
        """Send messages that belong together: all or none are admitted, and no others come between.

        Args:
            items: the messages, each in any of the forms of `push_item`.
            size: the bytes that count towards the bound.
            receipt: learns the positions of the messages, and is settled later; or None.

        Returns, raises:
            The same as `push`. QueueFull also if too many receipts are open.
        """
        if not items:
            return True
        if receipt is not None:
            self._proofs.check_room()
        if self._must_not_wait():
            return self._drop_off_nested(items, size, receipt)
        return self._push_all(items, size, receipt)

    def push_barrier(self) -> None:
        """Send a barrier after everything that waits, if a receipt needs one.

        Raises:
            WebSocketClosing, WebSocketClosed, TransportFail: the same as for `push`.
        """
        if self._proofs.wants_barrier:
            self.push_control(lambda: self._proofs.barrier(self._outgoing.next_position), is_barrier=True)

    def push_control(
        self, encode: Callable[..., bytes], *args: object, seal: bool = False, overtakes: bool = False,
        is_barrier: bool = False,
    ) -> bool:
        """Send a control frame of the protocol itself; it is small and always admitted.

        Args:
            encode: makes the frame, from these arguments, under the lock. What it raises reaches the caller.
            seal: whether it is the Close frame: from now on every message is refused.
            overtakes: whether the Close frame goes ahead of the messages that wait for the budget, and cuts
                off a large one between two fragments.
            is_barrier: whether it is a ping that must not overtake anything.

        Returns:
            False if the lock cannot be waited for, since this call interrupts its holder.

        Raises:
            WebSocketClosed, TransportFail: the same as for `push`.
        """
        if self._must_not_wait():
            return False
        mine: _Part | None = None
        try:
            with self._lock:
                self._check_alive()
                self._take_up()
                if seal and self._room.waiting:
                    self._changed.notify_all()  # they look again when the lock is free, and then it is sealed
                try:
                    item = encode(*args), None
                    if is_barrier:
                        self._outgoing.add_barrier(item[0])
                    else:
                        self._outgoing.add(item)
                    if seal:
                        self._sealed = self._is_shut = True
                        self._drop_off_limit = 0
                    if overtakes:
                        self._outgoing.overtake()
                except BaseException as error:
                    self._fail_unless_refused(error)
                    raise
                step = self._next_step()
                if step:
                    self._writer = mine = []
            if mine is not None:
                self._write(mine, (item,))
            elif step is False:
                self._ask_loop()
            self._look_after()
        except BaseException as error:
            self._after_error(error, mine)
            raise
        return True

    def cork(self) -> None:
        """Let messages gather until `uncork`, or until a batch is full. May be nested."""
        self._corks.append(None)

    def uncork(self) -> None:
        """Send what has gathered, if this was the last cork."""
        self._corks.pop()
        if not self._corks:
            self.flush(by_loop=False)

    def flush(self, *, by_loop: bool = True) -> None:
        """Write what waits, as far as the kernel takes it, in a bounded number of system calls.

        The loop calls it when asked and when the socket is writable. Other threads must not say
        `by_loop`: they leave a full kernel alone, and the loop is asked if they find it full.
        """
        if self._must_not_wait():
            self._ask_loop()
            return
        mine: _Part | None = None
        part: _Part | None = None
        ask: bool | None = None
        try:
            with self._lock:
                self._asked = False
                self._drop_off_limit = 0
                if self._dropped_off:
                    self._take_up()
                outgoing = self._outgoing
                if self.failure is None and not self._finished:
                    if self._writer is None and (by_loop or not self.is_blocked):
                        if self._is_ready():
                            self._writer = mine = []
                        ask = self._want_timer() if mine is None else None
                    if outgoing.wants_compressor and self._compressor is None:
                        self._compressor = part = []
            if mine is not None:
                self._write(mine, by_loop=by_loop)
            if ask is False:
                self._ask_loop()
            if part is not None:
                self._compress_waiting(part, (), COMPRESSED_PER_FLUSH)
        except BaseException as error:
            self._after_error(error, mine, part)
            raise
        if self._dropped_off:
            self._look_after()

    @property
    def waiting_bytes(self) -> int:
        """The approximate number of waiting bytes, not counting keepalive pings and pongs."""
        return self._outgoing.size

    @property
    def is_close_taken(self) -> bool:
        """True if the kernel has taken everything including our Close frame, which was sent before."""
        return self._outgoing.is_close_taken

    @property
    def dropped(self) -> int:
        """Messages that were discarded because the queue was full. Read without the lock."""
        return self._room.dropped

    @property
    def items_taken(self) -> int:
        """The position before which the kernel has taken everything. Read without the lock."""
        return self._outgoing.items_taken

    @property
    def messages_sent(self) -> int:
        """Messages that the kernel has taken completely. Read without the lock."""
        return self._outgoing.messages_sent

    @property
    def bytes_sent(self) -> int:
        """Bytes that the kernel has taken. Read without the lock."""
        return self._outgoing.bytes_sent

    # The loop.

    def put_urgent(self, frame: bytes) -> None:
        """Keep a ping or pong of the protocol for the next `flush`. Baton holder only.

        It is sent before all waiting messages, because the server may not wait long enough for those to be
        sent first. While the kernel is full, only the newest frame is kept (RFC 6455 section 5.5.3), so a
        flood of pings takes no memory. The frame is ignored once nothing more can be sent.
        """
        with self._lock:
            if self._is_shut:
                return
            if self.is_blocked:
                self._outgoing.urgent.clear()
            elif self._paced is not None:
                self._paced.replace_older(frame)
            self._outgoing.urgent.append(frame)
            self._outgoing.plans = True

    def pinged(self, payload: bytes) -> None:
        """Note that an automatic ping with this payload is about to be sent. Baton holder only."""
        with self._lock:
            self._proofs.pinged(payload, self._outgoing.items_taken)

    def answered(self, payload: bytes | None) -> list[Receipt]:
        """Note a pong, or (None) the answer to our Close frame. Baton holder only.

        Returns:
            The receipts that it confirms. None if our Close frame still waits, so that the frame received was
            not an answer, but the server's own.
        """
        with self._lock:
            if payload is None:
                outgoing = self._outgoing
                is_noted = self.is_close_taken
                # A writer may have yet to note that the kernel has taken our frame, which ends its batch.
                is_writing = self._sealed and self._writer is not None and not self.is_blocked
                if not is_noted and not (is_writing and outgoing.is_last_batch):
                    return []
                is_new = self._proofs.prove(outgoing.items_taken if is_noted else outgoing.next_position)
            else:
                is_new = self._proofs.answered(payload)
            if not is_new:
                return []
            if self._writer is None:
                self._outgoing.forget(self._proofs.proven)
            return self._proofs.take_confirmed()

    def overtake(self) -> None:
        """Let our Close frame overtake what waits for the budget, or a large message. Flush. Any thread."""
        if not self._must_not_wait():
            with self._lock:
                self._outgoing.overtake()
            self.flush(by_loop=False)

    def finish(self, uncounted: Callable[[], int] = lambda: 0) -> tuple[str | bytes, ...]:
        """Refuse everything from now on, and return the messages not sent completely. Loop only, once.

        When it returns, `doubts` is set, and no thread is using the stream, so the socket may be closed.

        Args:
            uncounted: returns how many bytes the stream has sent beyond what `Sink.send` returned.
        """
        if self._lock.locked() and control.interrupts():
            # An iteration was abandoned inside a send on its own thread. The result is not used.
            self._finished = self._is_shut = True
            self.doubts = Doubts((), 0, self._proofs.take_all(NOWHERE))
            return ()
        with self._lock:
            self._finished = self._is_shut = True
            self._drop_off_limit = 0  # before `_dropped_off` is checked, as the rule requires
            self._changed.notify_all()
            # The writer makes one non-blocking call; it fails to return only if Ctrl-C interrupted it.
            wait_for(self._changed, lambda: self._writer is None, WRITER_SECONDS)
            self._settle(uncounted())
            unsent: list[Item | Raw] = [*self._outgoing.take_unsent()]
            while self._dropped_off:
                unsent.append(self._dropped_off.pop(0))
        return _messages_of(unsent)

    # Streams.

    def begin_stream(self, stream: OpenStream, receipt: Receipt | None = None) -> bool:
        """Begin a message of unknown length, behind everything that waits.

        From now on all other messages wait behind it, until `add_fragment` has added its last fragment. If
        that is impossible, our Close frame must overtake it.

        Args:
            stream: the message.
            receipt: learns the message's position, and is settled later; or None.

        Returns, raises:
            The same as `push`. QueueFull also if the calling thread may not wait.
        """
        room, outgoing = self._room, self._outgoing
        room.check_stream()
        if receipt is not None:
            self._proofs.check_room()
        with self._lock:
            if not self._admit(1):
                return False
            self._check_open()
            if not self._is_free() and not room.find_turn(self._is_free):
                return False
            self._check_alive()
            self._check_open()
            try:
                self._compressor = []  # no other thread may compress before its end
                outgoing.open_stream(stream)
                self._add_receipt(receipt, 1)
            except BaseException as error:
                self._fail(error)
                raise
        return True

    def add_fragment(self, stream: OpenStream, frame: bytes, last: Streamed | None = None) -> None:
        """Add the next fragment of a stream, once few of the earlier ones wait. Blocks until then.

        Args:
            stream: the message.
            frame: the fragment; empty to add none, and only wait.
            last: describes the message if this is its last fragment. Blocks until the kernel has taken it.

        Raises:
            QueueFull: there was no progress for `send_timeout`.
            WebSocketClosed, WebSocketClosing, TransportFail: the connection ends before the message's end.
        """
        outgoing = self._outgoing
        with self._lock:
            self._wait_for_stream(lambda: outgoing.waiting_items < self._window)
            if not frame:
                return
            try:
                if last is None:
                    self._proofs.inserted(outgoing.next_position - len(outgoing.raw))
                    outgoing.add_fragment(frame)
                else:
                    outgoing.end_stream(stream, frame, last)
                    self._compressor = None
            except BaseException as error:
                self._fail(error)
                raise
        self.flush(by_loop=False)
        if last is not None:
            with self._lock:
                self._wait_for_stream(lambda: outgoing.items_taken >= cast("int", stream.end), is_last=True)

    def _is_free(self) -> bool:
        return self._is_shut or not (self._outgoing.raw or self._compressor is not None)

    def _wait_for_stream(self, is_enough: Callable[[], bool], is_last: bool = False) -> None:
        if not (self._is_over() or self._outgoing.is_cut or is_enough()):
            self._room.wait_for_progress(lambda: self._is_over() or self._outgoing.is_cut or is_enough())
        if is_last and is_enough():
            return
        if self._outgoing.is_cut:
            raise WebSocketClosing("not sent completely: our Close frame has cut the stream off")
        if self.failure is not None:
            raise TransportFail(f"connection lost: {self.failure}")
        if self._finished:
            raise WebSocketClosed("not sent completely: the connection has ended")

    # Receipts. Under the lock.

    def _add_receipt(self, receipt: Receipt | None, count: int) -> None:
        """Note that the last messages in the queue have a receipt, and queue a barrier if it needs one."""
        if receipt is not None:
            end = self._outgoing.next_position
            self._proofs.add(receipt, end - count, end)
            self._add_barrier()

    def _add_barrier(self) -> None:
        if self._proofs.wants_barrier and not self._sealed:
            self._outgoing.add_barrier(self._proofs.barrier(self._outgoing.next_position))

    def _add_compressed(self, raw: Raw, frame: bytes) -> Item:
        outgoing = self._outgoing
        if outgoing.raw:  # queued later, but sent after it
            self._proofs.inserted(outgoing.next_position - len(outgoing.raw))
        return outgoing.add_compressed(raw, frame)

    def _settle(self, uncounted: int) -> None:
        """Set `doubts` at the end."""
        outgoing = self._outgoing
        if outgoing.rest:
            # What an interrupted writer was writing may have been sent.
            is_unsure = self._is_unsure or self._writer is not None
            outgoing.took(len(outgoing.rest) if is_unsure else min(uncounted, len(outgoing.rest)))
        sent, end = outgoing.take_in_doubt(self._proofs.proven)
        omitted = max(0, end - self._proofs.proven - len(sent)) + streams_among(sent)
        omitted -= outgoing.fragments_between(self._proofs.proven, end - len(sent))
        self.doubts = Doubts(_messages_of(sent), omitted, self._proofs.take_all(end))

    # Admission. Under the lock.

    def _admit(self, size: int, count: int = 1) -> bool:
        """Take up what was dropped off, and return whether this many bytes more may wait.

        Returns:
            False if they are discarded.
        """
        if self._finished or self.failure is not None:
            self._check_alive()
        if self._dropped_off:
            self._take_up()
        pending = self._outgoing.pending
        if not pending or pending + size <= self._limit or self._sealed:
            return True  # behind our Close frame, any message is refused by `_check_open`
        if not self._room.find(size, count, lambda: self._is_shut):
            return False
        self._check_alive()
        return True

    def _check_alive(self) -> None:
        if self._finished:
            raise WebSocketClosed("data not sent: the connection has ended")
        if self.failure is not None:
            raise WebSocketClosed(f"data not sent: the connection is lost; {self.failure}")

    def _check_open(self) -> None:
        if self._sealed:
            raise WebSocketClosing("data not sent: the WebSocket is closing")

    def _push_all(
        self, items: Sequence[Item | Raw], size: int, receipt: Receipt | None = None
    ) -> bool:
        mine: _Part | None = None
        part: _Part | None = None
        try:
            with self._lock:
                if not self._admit(size, len(items)):
                    return False
                self._check_open()
                outgoing = self._outgoing
                try:
                    if len(items) == 1:
                        outgoing.add(items[0])
                    else:
                        outgoing.add_all(list(items))
                        self._gathering = True
                        self._due = 0.0  # they need not wait for others
                    self._add_receipt(receipt, len(items))
                except BaseException as error:
                    self._fail_unless_refused(error)
                    raise
                step = self._next_step()
                if step:
                    self._writer = mine = []
                if outgoing.wants_compressor and self._compressor is None:
                    self._compressor = part = []
            if mine is not None:
                self._write(mine, items)
            elif step is False:
                self._ask_loop()
            if part is not None:
                self._compress_waiting(part, items)
            if self._dropped_off:
                self._look_after()
        except BaseException as error:
            self._after_error(error, mine, part)
            raise
        return True

    # The hand-over without the lock: see the module for the rule.

    def _must_not_wait(self) -> bool:
        """Return whether the call must not take the lock, and leaves its work to the holder or the loop."""
        return control.is_held() or (self._lock.locked() and interrupts_lochws())

    def _drop_off(self, item: Item | Raw, size: int) -> bool | None:
        """Drop a message off for the holder of the lock.

        Returns:
            Whether it was accepted, as for `push`; None if it is to wait for the lock.
        """
        is_small = size <= DROP_OFF_BYTES and not self._finished
        if is_small and len(self._dropped_off) < self._room_for_drop_offs():
            self._hand_over((item,))
            return True
        return self._drop_off_nested((item,), size) if control.interrupts() else None

    def _drop_off_nested(
        self, items: Sequence[Item | Raw], size: int, receipt: Receipt | None = None
    ) -> bool:
        """Drop off messages of any size for the lock's holder, which this call interrupts."""
        self._check_alive()
        self._check_open()
        if not self._room.find_nested(size, len(items), sum(map(_size_of, tuple(self._dropped_off)))):
            return False
        if receipt is not None:
            self._proofs.nested.append((items, receipt))
        self._hand_over(items)
        return True

    def _hand_over(self, items: Sequence[Item | Raw]) -> None:
        entries: list[Any] = [
            (*item, None) if type(item) is tuple and item[1] is None else item for item in items
        ]
        self._dropped_off.extend(entries)
        self._look_after()
        for entry in entries:
            self._check_dropped_off(entry)

    def _check_dropped_off(self, entry: Item | Raw) -> None:
        """Refuse a message dropped off after the check in `finish`: it would be neither sent nor reported.

        Raises:
            WebSocketClosed: it was.
        """
        # Not under a lock of this thread's: `_finished` was not set before, and is only set under the lock.
        if self._finished:
            with self._lock:
                for index, other in enumerate(list(self._dropped_off)):  # others append meanwhile
                    if other is entry:
                        del self._dropped_off[index]
                        self._check_alive()

    def _look_after(self) -> None:
        """Take up dropped-off messages, unless another thread holds the lock and so will do it."""
        mine: _Part | None = None
        part: _Part | None = None
        try:
            while self._dropped_off and not self._finished and not self._lock.locked():
                if control.is_held():
                    self._ask_loop()
                    return
                with self._lock:
                    self._take_up()
                    step = self._next_step()
                    if step:
                        self._writer = mine = []
                    if self._outgoing.wants_compressor and self._compressor is None:
                        self._compressor = part = []
                if mine is not None:
                    self._write(mine)
                elif step is False:
                    self._ask_loop()
                if part is not None:
                    self._compress_waiting(part, (), COMPRESSED_PER_FLUSH)
                mine = part = None
        except BaseException:
            self._give_back(mine, part)
            self._ask_loop()  # perhaps it was about to be asked, or this thread to write
            raise

    def _room_for_drop_offs(self) -> int:
        """Return how many messages may be dropped off within the queue's limit."""
        if self._is_shut:
            return 0
        return min(DROP_OFF_MESSAGES, (self._limit - self._outgoing.pending) // DROP_OFF_BYTES)

    def _take_up(self) -> None:
        """Queue what others dropped off, in order. Under the lock."""
        dropped_off = self._dropped_off
        count = len(dropped_off)  # others may append behind that
        if not count or self._finished:
            return
        try:
            has_receipts = bool(self._proofs.nested)
            if has_receipts:
                position = NOWHERE if self._sealed else self._outgoing.next_position
                self._proofs.place_nested(dropped_off[:count], position)
            self._outgoing.take_over(dropped_off, count, self._sealed)
            if has_receipts:
                self._add_barrier()
        except BaseException as error:
            self._fail(error)
            raise

    # Writing.

    def _next_step(self) -> bool | None:
        """Return the next step after something was queued. Under the lock.

        Returns:
            True if the caller is to become the writer, False if it is to ask the loop, None for neither.
        """
        outgoing = self._outgoing
        if (
            self._writer is not None  # it checks again when it has finished
            or self.is_blocked  # the loop comes when the kernel has room
            or self.failure is not None
            or not outgoing.size
            or (outgoing.raw and not outgoing.plans and not outgoing.is_ready)
        ):
            return None
        if outgoing.plans and not self._is_ready():
            return self._want_timer()
        if self._corks:
            if outgoing.size >= self._gather_bytes:
                return True
            self._due = math.inf
        else:
            now = monotonic()
            if self._gathering:
                if outgoing.size >= self._gather_bytes or now > self._due:
                    return True
            elif now - self._last_write > self._follows:
                return True
            else:
                self._gathering = True
                self._due = now + GATHER_SECONDS
        self._drop_off_limit = self._room_for_drop_offs()
        ask = not (self._asked or self._corks)
        self._asked = self._asked or ask
        return False if ask else None

    def _is_ready(self) -> bool:
        """Return whether there is something to write, after planning its control frames. Under the lock."""
        if self._outgoing.plans:
            self._outgoing.take_urgent()
        return self._outgoing.is_ready

    def _want_timer(self) -> bool | None:
        """Return False if the caller is to ask the loop because messages wait for the budget, else None.

        Under the lock. The caller has found that nothing may be written; that may have changed by now, so
        the time must not be looked at again here.
        """
        pacing = self.pacing
        if pacing is None or pacing.has_timer or self._asked or self.is_blocked:
            return None
        if self._paced is None or not self._paced.is_waiting:
            return None
        self._asked = True
        return False

    def _write(self, mine: _Part, items: Sequence[Item | Raw] = (), by_loop: bool = False) -> None:
        """Write a few batches, and leave the rest to the loop. Without the lock, for the writer.

        Args:
            mine: the writer's role, which is released at the end.
            items: what the caller wants to send.
            by_loop: whether the loop itself is the caller.

        Raises:
            TransportFail: the network failed before one of the caller's items was sent whole. Any other
                failure is kept in `failure`, and the loop was asked to look.
        """
        outgoing = self._outgoing
        batches = 0
        is_unsure = ask = False
        try:
            while True:
                if not outgoing.rest:
                    outgoing.make_batch()
                if self._taps and type(outgoing.rest) is bytes:  # a memoryview once they saw it
                    outgoing.rest = memoryview(outgoing.rest)
                    self._announcer = self._announcer or Announcer(self._taps)
                    self._announcer.tell(outgoing.batch)
                is_unsure = True  # if interrupted from here on, it is unknown how much the kernel took
                taken = self._stream.send(outgoing.rest)
                batches += 1
                with self._lock:
                    outgoing.took(taken)
                    is_unsure = self._gathering = False
                    self.is_blocked = blocked = bool(outgoing.rest)
                    self._drop_off_limit = 0
                    self._last_write = monotonic()
                    if (self._room.waiting and self._room.has_grown) or self._finished:
                        self._changed.notify_all()
                    if self._dropped_off:
                        self._take_up()
                    if outgoing.size or outgoing.urgent:
                        is_ready = self._is_ready() and not self._finished
                        if is_ready and batches < BATCHES_PER_FLUSH and not blocked:
                            continue
                        is_left = is_ready or (outgoing.wants_compressor and self._compressor is None)
                        ask = bool(is_left and not self._asked and not (blocked and by_loop))
                        self._asked = self._asked or ask
                        ask = ask or self._want_timer() is False
                    self._writer = None
                    break
            if ask:
                self._ask_loop()
        except BaseException as error:
            self._fail_if(is_unsure, error)
            self._is_unsure = self._is_unsure or (is_unsure and not isinstance(error, OSError))
            self._give_back(mine)
            if not isinstance(error, OSError):
                raise
            self._ask_loop()
            if self._withdraw(items):
                raise TransportFail(f"connection lost: {error}") from error

    def _after_small(self) -> bool:
        """Finish a message of `push_small` that the kernel has not taken whole. `push_small` calls this.

        It is called once more if an interruption or an error has ended it.

        Raises:
            TransportFail: the network failed, and the message was not sent whole.
            MemoryError: a part was sent, and there is no memory for the rest.
        """
        if self._is_unsure:
            self._fail_if(True, MemoryError("no memory for what the kernel has not taken"))
        self._ask_loop()
        if self.failure is not None:
            raise TransportFail(f"connection lost: {self.failure}") from self.failure
        return True

    def _ask_loop(self) -> None:
        # Only the loop can wait until the kernel has room, and only it can end a connection that has failed.
        is_loops = self.is_blocked or self.failure is not None or self.pacing is not None
        self._ask_flush(None if is_loops else self._flush_aside)

    def _flush_aside(self) -> None:
        self.flush(by_loop=False)

    # Compressing.

    def _compress_waiting(
        self, part: _Part, items: Sequence[Item | Raw], limit: float = math.inf
    ) -> None:
        """Compress raw messages in their order, and write them. Without the lock, for the compressor.

        Args:
            part: the compressor's role, which is released at the end.
            items: what the caller wants to send: without a limit it stops behind them, and the loop
                compresses the others.
            limit: bytes to compress at most.

        Raises:
            TransportFail: the network failed before one of the caller's items was sent whole.
        """
        outgoing, compression = self._outgoing, self._compression
        assert compression is not None  # else nothing is raw
        own = list(items)
        places = {id(item): place for place, item in enumerate(own)}
        awaited = {id(item) for item in own if isinstance(item, tuple) and len(item) == 3}
        mine: _Part | None = None
        is_unsure = is_last = False
        try:
            while not is_last:
                first = outgoing.raw[:1]
                if not first or outgoing.stream is not None:  # the queue has ended
                    break
                raw = cast("Raw", first[0])
                is_unsure = True  # after an interruption, it is unknown what the compressor has consumed
                frame, limit = compression.some(raw, limit)
                with self._lock:
                    if self._is_over() or not outgoing.raw:  # our Close frame has overtaken it
                        break
                    if frame:
                        compression.done()
                        ready = outgoing.compressed(frame)
                        if id(raw) in places:
                            own[places[id(raw)]] = ready
                        awaited.discard(id(raw))
                    is_unsure = False
                    is_last = not outgoing.raw or limit <= 0 or (limit == math.inf and not awaited)
                    step = self._next_step()
                    if step:
                        self._writer = mine = []
                    elif is_last and outgoing.raw and not self._asked:
                        self._asked, step = True, False
                    if is_last:
                        self._compressor = None
                if mine is not None:
                    self._write(mine, own)
                    mine = None
                elif step is False:
                    self._ask_loop()
            self._give_back(None, part)
        except BaseException as error:
            self._fail_if(is_unsure, error)
            self._give_back(mine, part)
            raise

    # Failing.

    def _is_over(self) -> bool:
        return self._finished or self.failure is not None

    def _is_idle(self) -> bool:
        # A writer asks the loop when it is done, and the loop is woken once a full kernel has room.
        return self._writer is None and not self.is_blocked and not self._is_over()

    def _withdraw(self, items: Sequence[Item | Raw]) -> bool:
        """Remove items, unless one was sent completely or they are already reported. Without the lock."""
        with self._lock:
            return bool(items) and not self._finished and self._outgoing.withdraw(items)

    def _fail_if(self, is_unsure: bool, error: BaseException) -> None:
        """Give the stream up if it is unknown how much the kernel or the compressor has consumed."""
        if is_unsure:
            with self._lock:
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Give the stream up: nothing more may be written to it. Under the lock.

        Ctrl-C, too, can strike between the deflate context and the queue, or between the kernel and our
        count; whatever the server got from then on would be garbage.
        """
        self.failure = error if isinstance(error, OSError) else OSError(f"interrupted by {error!r}")
        self._is_shut = True
        self._writer = None
        self._drop_off_limit = 0
        self._changed.notify_all()

    def _fail_unless_refused(self, error: BaseException) -> None:
        if not isinstance(error, (WebSocketError, TypeError, ValueError)):  # they come before any change
            self._fail(error)

    def _give_back(self, mine: _Part | None, part: _Part | None = None) -> None:
        """Stop being the writer or the compressor, if this thread still is. Without the lock."""
        if mine is not None and self._writer is mine:
            self._writer = None
        if part is not None and self._compressor is part:
            self._compressor = None

    def _after_error(self, error: BaseException, mine: _Part | None, part: _Part | None = None) -> None:
        """Finish the work that an error has interrupted. Without the lock."""
        self._give_back(mine, part)
        is_lost = mine is None and isinstance(error, TransportFail)  # else the writer has asked
        if is_lost or not isinstance(error, (WebSocketError, TypeError, ValueError)):
            self._ask_loop()  # perhaps it was about to be asked, or the caller to write
        self._look_after()


def _load() -> PushSmall | None:
    module = load("small messages")
    if not isinstance(monotonic, BuiltinFunctionType):
        return None  # a test's clock: while it runs, other threads may, too
    if module is not None:
        fileno = socket.SocketType.fileno  # not a method of the same name that a socket of the user may have
        module.configure(SendQueue, Outgoing, MaskKeys, KEPT_ITEMS, monotonic, fileno)
    return choose(module, "push_small", None)


#: The shortest path of a message: see `_small.c`. It has no twin in Python: where it was not built, all
#: messages take the path of the others.
push_small = _load()


def _size_of(entry: Item | Raw) -> int:
    """Return about how many bytes a dropped-off message will count for."""
    if not isinstance(entry, tuple):
        return len(entry)
    return len(entry[1] if len(entry) == 3 and entry[1] is not None else entry[0])


def _messages_of(items: Sequence[Item | Raw]) -> tuple[str | bytes, ...]:
    return tuple(message for message in map(message_of, items) if message is not None)
