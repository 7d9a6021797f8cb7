"""What leaves one connection: sends at once what fits, keeps the rest in order.

Any thread may push; nobody blocks in the kernel. A lone message is handed to the kernel by its
caller. Messages that follow closely gather and leave in one system call: by a sender when enough
has gathered or the oldest has waited `GATHER_SECONDS`, else by the loop, which the first of them
has asked to come. Nothing is delayed by a timer, and nothing loops until the queue is empty.

One thread at a time writes: it says so in `_writing`, leaves the lock, makes its system call, and
comes back with the number of bytes. Others append meanwhile. So the lock is never held over a
system call, and frames leave in the order in which they were encoded.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol, TypeAlias

from .errors import QueueFull, TransportFail, WebSocketClosed, WebSocketError

#: A message that comes this soon after the last write follows closely: it may gather.
FOLLOWS_SECONDS = 20e-6
#: The oldest gathered message waits no longer than this while its sender goes on sending.
GATHER_SECONDS = 100e-6
#: This many bytes are worth a system call.
BATCH_BYTES = 64 * 1024
#: Batches that one `flush` writes before the loop turns to its other connections.
BATCHES_PER_FLUSH = 4
#: How long `finish` waits for a thread that is writing.
WRITER_SECONDS = 1.0

#: A message as the user gave it, for `Disconnected.unsent`; None for a control frame.
Message: TypeAlias = str | bytes | None
_Item: TypeAlias = tuple[bytes, Message]


class Sink(Protocol):
    """Where the bytes go: a stream."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Take what can be taken now, without blocking, and say how many bytes that was."""


class SendQueue:
    """The queue of one connection.

    Args:
        stream: where the bytes go.
        limit: bytes that may wait. A message is admitted if it fits, or if nothing else waits.
        when_full: ``"raise"`` refuses a message that does not fit, ``"block"`` waits for room,
            ``"drop"`` discards it.
        send_timeout: seconds that ``"block"`` waits at most, or None for no limit.
        ask_loop: called, without a lock, when the loop should call `flush`.
        may_block: whether the calling thread may wait; a handler's must not.
        gather: whether messages may gather. Without a loop that comes when asked they must not.
    """

    def __init__(
        self,
        stream: Sink,
        *,
        limit: int,
        ask_loop: Callable[[], None],
        when_full: str = "raise",
        send_timeout: float | None = None,
        may_block: Callable[[], bool] = lambda: True,
        gather: bool = True,
    ) -> None:
        self._stream = stream
        self._limit = limit
        self._when_full = when_full
        self._send_timeout = send_timeout
        self._ask_loop = ask_loop
        self._may_block = may_block
        self._follows = FOLLOWS_SECONDS if gather else -1.0

        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # room was made, or a writer came back
        # All below is guarded by _lock.
        self._frames: deque[_Item] = deque()  # encoded and not yet part of a batch
        self._urgent: list[_Item] = []  # pings and pongs, which go before whatever waits
        self._pending = 0  # bytes of all that waits, the rest of the batch included
        self._batch: list[_Item] = []  # what is being written
        self._rest = memoryview(b"")  # the batch's bytes that the kernel has not taken
        self._writing = False  # a thread is in the kernel with _rest
        self._blocked = False  # the kernel is full: only the loop, told that it is writable, tries again
        self._asked = False  # the loop was asked to flush and has not come yet
        self._oldest = 0.0  # when the first of the gathered frames came
        self._last_write = 0.0
        self._waiting = 0  # threads that wait in _changed
        self._failure: OSError | None = None
        self._finished = False
        self._accepted = 0  # messages pushed, less those given back or reported as unsent
        # Counted under _lock, read by anyone.
        self.bytes_sent = 0
        self.dropped = 0  # messages discarded by "drop"

    # Any thread.

    def push(self, message: Message, size: int, encode: Callable[..., bytes], *args: object) -> bool:
        """Encode a message and send it, or keep it in order. Never blocks in the kernel.

        Encoding happens under the queue's lock, so that its order is the order of sending.

        Args:
            message: what `Disconnected.unsent` reports if it cannot be sent.
            size: its bytes before encoding.
            encode: makes the frame from `args`; what it raises reaches the caller.

        Returns:
            False if the message was discarded because the queue is full (``"drop"``).

        Raises:
            QueueFull, WebSocketClosed: there is no room; the connection has ended.
            TransportFail: the network failed under this message; it was not sent whole.
        """
        with self._lock:
            self._check_alive()
            if self._pending and self._pending + size > self._limit and not self._find_room(size):
                return False
            step, item = self._encode(message, encode, args)
        self._act(step, item)
        return True

    def push_control(self, encode: Callable[..., bytes], *args: object, patience: float = -1) -> bool:
        """Send a control frame of the protocol itself; it is small and always admitted. Else as `push`.

        Args:
            patience: seconds to wait for the queue's lock, negative for as long as it takes. A
                signal handler must not wait for what the code under it holds.

        Returns:
            False if the lock could not be had.
        """
        if not self._lock.acquire(timeout=patience):
            return False
        try:
            self._check_alive()
            step, item = self._encode(None, encode, args)
        finally:
            self._lock.release()
        self._act(step, item)
        return True

    def put_urgent(self, encode: Callable[..., bytes], data: bytes) -> None:
        """Keep a ping or pong of the protocol for the next `flush`. Baton holder only.

        It goes before all messages that wait, for which the other side's patience may be too short.
        While the kernel takes nothing only the newest is kept (RFC 6455 section 5.5.3), so a flood of
        pings takes no memory.
        """
        with self._lock:
            if self._finished or self._failure is not None:
                return
            frame = encode(data)
            if self._blocked:
                self._urgent.clear()
            self._urgent.append((frame, None))

    def _encode(
        self, message: Message, encode: Callable[..., bytes], args: tuple[object, ...]
    ) -> tuple[bool | None, _Item]:
        """Make a frame and queue it."""
        try:
            item = (encode(*args), message)
            step = self._append(item)
            if message is not None:
                self._accepted += 1
            return step, item
        except (WebSocketError, TypeError, ValueError):
            raise  # refused before anything was changed
        except BaseException as error:
            self._fail(error)
            self._ask_loop()  # which, after a failure, takes no other lock
            raise

    def _fail(self, error: BaseException) -> None:
        """Give the stream up: nothing more may be written to it.

        Ctrl-C, too, can strike between the deflate context and the queue, or between the kernel and
        our count; whatever the server got from then on would be garbage.
        """
        self._failure = error if isinstance(error, OSError) else OSError(f"interrupted by {error!r}")
        self._writing = False
        self._changed.notify_all()

    def _keep(self, item: _Item) -> None:
        self._frames.append(item)
        self._pending += len(item[0])

    def _append(self, item: _Item) -> bool | None:
        """Queue a frame. Returns True to write now, False to ask the loop, None for neither."""
        assert self._lock.locked()
        self._keep(item)
        if self._writing or self._blocked:
            # The writer looks again when it comes back; the loop comes when the kernel has room.
            return None
        now = monotonic()
        if len(self._frames) == 1:
            if now - self._last_write > self._follows:
                return True
            self._oldest = now
        elif self._pending >= BATCH_BYTES or now - self._oldest > GATHER_SECONDS:
            return True
        if self._asked:
            return None
        self._asked = True
        return False

    def _act(self, step: bool | None, item: _Item) -> None:
        if step:
            try:
                self._write_batches()
            except OSError as error:
                if self._withdraw(item):
                    raise TransportFail(f"socket fail; {error}") from error
        elif step is False:
            self._ask_loop()

    def _check_alive(self) -> None:
        if self._finished:
            raise WebSocketClosed("data not sent: the connection has ended")
        if self._failure is not None:
            raise WebSocketClosed(f"data not sent: the connection is lost; {self._failure}")

    def _find_room(self, size: int) -> bool:
        """Apply `when_full`. Returns False to discard the message. Holds the lock, except while waiting."""
        if self._when_full == "drop":
            self.dropped += 1
            return False
        full = f"the queue is full: {self._pending} bytes wait, {size} more exceed max_queue={self._limit}"
        if self._when_full == "raise":
            raise QueueFull(full)
        if not self._may_block():
            raise QueueFull(f"{full}; a handler cannot wait for room")
        self._waiting += 1
        try:
            roomy = self._changed.wait_for(
                lambda: self._finished or self._failure or not self._pending
                or self._pending + size <= self._limit,
                self._send_timeout,
            )
        finally:
            self._waiting -= 1
        if not roomy:
            raise QueueFull(f"{full}; no room was made in {self._send_timeout:g} s")
        self._check_alive()
        return True

    # Writing.

    def flush(self, *, by_loop: bool = True) -> None:
        """Write what waits, as far as the kernel takes it, in a bounded number of system calls.

        The loop calls it when asked and when the socket is writable. Other threads must not say
        `by_loop`: they leave a full kernel alone, and the loop is asked if they find it full.
        """
        with self._lock:
            self._asked = False
        try:
            self._write_batches(by_loop)
        except OSError:
            return  # kept in `failure`; the loop was asked to look

    def _write_batches(self, by_loop: bool = False) -> None:
        """Write a few batches, unless another thread is at it, and leave the rest to the loop."""
        mine = False
        try:
            for _ in range(BATCHES_PER_FLUSH):
                with self._lock:
                    if self._writing or (self._blocked and not by_loop) or not self._has_batch():
                        return
                    mine = self._writing = True
                taken = self._stream.send(self._rest)
                with self._lock:
                    self._take_off(taken)
                    mine = False
                    if self._is_empty():
                        return
                    if self._blocked:
                        break
        except BaseException as error:
            if mine:
                with self._lock:
                    self._fail(error)
                self._ask_loop()
            raise
        with self._lock:
            served = self._asked or self._writing or self._is_empty() or (self._blocked and by_loop)
            self._asked = self._asked or not served
        if not served:
            self._ask_loop()

    def _is_empty(self) -> bool:
        return not (self._rest or self._frames or self._urgent)

    def _has_batch(self) -> bool:
        """Make up the next batch unless one is under way. Returns False if there is nothing to write."""
        if self._failure is not None or self._finished:
            return False
        if not self._rest:
            if self._urgent:
                self._frames.extendleft(reversed(self._urgent))
                self._pending += sum(len(frame) for frame, _ in self._urgent)
                self._urgent = []
            if self._frames:
                self._make_batch()
        return bool(self._rest)

    def _make_batch(self) -> None:
        item = self._frames.popleft()
        size = len(item[0])
        batch = [item]
        while self._frames and size + len(self._frames[0][0]) <= BATCH_BYTES:
            item = self._frames.popleft()
            size += len(item[0])
            batch.append(item)
        self._batch = batch
        # OpenSSL wants the same bytes again after a write that would block: the joined rest is
        # kept until all of it is taken, and nothing is put in front of it.
        self._rest = memoryview(batch[0][0] if len(batch) == 1 else b"".join([frame for frame, _ in batch]))

    def _take_off(self, taken: int) -> None:
        """Note what the kernel has taken."""
        self._writing = False
        self._pending -= taken
        self._last_write = self._oldest = monotonic()
        self._rest = self._rest[taken:]
        self._blocked = bool(self._rest)
        self.bytes_sent += taken
        if not self._blocked:
            self._batch = []
        if self._waiting or self._finished:
            self._changed.notify_all()

    def _withdraw(self, item: _Item) -> bool:
        """Take a message back that was not sent whole. Returns False if it was, or is reported already."""
        with self._lock:
            if self._finished or not any(other is item for other in self._unsent_items()):
                return False
            for items in (self._batch, self._frames):
                for index, other in enumerate(items):
                    if other is item:
                        items[index] = (item[0], None)
                        self._accepted -= item[1] is not None
            return True

    # The loop.

    @property
    def wants_write(self) -> bool:
        """Whether the loop should flush when the socket is writable."""
        return self._blocked

    @property
    def messages_sent(self) -> int:
        """Messages that were handed to the kernel whole."""
        with self._lock:
            return self._accepted - sum(message is not None for _, message in self._unsent_items())

    @property
    def failure(self) -> OSError | None:
        """What ended sending, if something did."""
        return self._failure

    def finish(self) -> tuple[str | bytes, ...]:
        """Refuse everything from now on and say what was never sent whole. Loop only, once.

        When it returns no thread is in the stream, so that the socket may be closed.
        """
        with self._lock:
            self._finished = True
            self._changed.notify_all()
            # That is one non-blocking call; only a thread that Ctrl-C took out of it never comes back.
            self._changed.wait_for(lambda: not self._writing, WRITER_SECONDS)
            unsent = tuple(message for _, message in self._unsent_items() if message is not None)
            self._accepted -= len(unsent)
            self._frames.clear()
            self._urgent = []
            self._batch = []
            self._rest = memoryview(b"")
            self._pending = 0
            return unsent

    def _unsent_items(self) -> list[_Item]:
        """The frames that the kernel has not taken whole, in order."""
        missing = len(self._rest)
        items: list[_Item] = []
        for item in reversed(self._batch):
            if missing <= 0:
                break
            missing -= len(item[0])
            items.append(item)
        return [*reversed(items), *self._frames]
