"""Frames in order to the kernel, in few system calls, without ever blocking there.

One thread at a time writes: it says so in `_writing`, leaves the lock, makes its system call, and
comes back with the number of bytes. Others append meanwhile. So the lock is never held over a system
call, and frames leave in the order in which they were queued.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol, TypeAlias

#: A frame that comes this soon after the last write follows closely: it may gather.
FOLLOWS_SECONDS = 20e-6
#: The oldest gathered frame waits no longer than this while its sender goes on sending.
GATHER_SECONDS = 100e-6
#: This many bytes are worth a system call.
BATCH_BYTES = 64 * 1024
#: Batches that are written in one go before the loop turns to its other connections.
BATCHES_PER_FLUSH = 4

#: A message as the user gave it, for `Disconnected.unsent`; None for a control frame.
Message: TypeAlias = "str | bytes | None"


class Sink(Protocol):
    """Where the bytes go: a stream."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Take what can be taken now, without blocking, and say how many bytes that was."""


class BatchWriter:
    """The way from queued frames into the kernel. `SendQueue` decides what is queued.

    Args:
        stream: where the bytes go.
        ask_loop: called, without a lock, when the loop should flush.
        gather: whether frames may wait for company. Without a loop that comes when asked they must not.
    """

    def __init__(self, stream: Sink, ask_loop: Callable[[], None], gather: bool) -> None:
        self._stream = stream
        self._ask_loop = ask_loop
        self._follows = FOLLOWS_SECONDS if gather else -1.0

        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # room was made, or a writer came back
        # All below is guarded by _lock.
        # What is encoded: batches that are full, oldest first, and the one that still grows. Each is a
        # list of frames and a list of what they hold.
        self._full: deque[tuple[list[bytes], list[Message]]] = deque()
        self._frames: list[bytes] = []
        self._messages: list[Message] = []
        self._size = 0  # bytes of _frames
        self._urgent: list[bytes] = []  # pings and pongs, which go before whatever waits
        self._pending = 0  # bytes of all that waits, the rest of the batch included
        self._batch: list[bytes] = []  # the batch that is being written
        self._batch_messages: list[Message] = []
        self._rest = memoryview(b"")  # the batch's bytes that the kernel has not taken
        self._writing = False  # a thread is in the kernel with _rest
        self._blocked = False  # the kernel is full: only the loop, told that it is writable, tries again
        self._asked = False  # the loop was asked to flush and has not come yet
        self._gathering = False  # a frame waits for company since _oldest
        self._corks = 0  # users who want frames to gather
        self._oldest = 0.0
        self._last_write = 0.0
        self._waiting = 0  # threads that wait in _changed
        self._failure: OSError | None = None
        self._finished = False
        self._completed = 0  # messages in the batches that were taken whole
        self.bytes_sent = 0  # counted under _lock, read by anyone

    # For SendQueue, holding the lock.

    def _queue(self, frame: bytes, message: Message) -> None:
        size = len(frame)
        if self._size + size > BATCH_BYTES and self._frames:
            self._full.append((self._frames, self._messages))
            self._frames, self._messages, self._size = [], [], 0
        self._frames.append(frame)
        self._messages.append(message)
        self._size += size
        self._pending += size

    def _next_step(self) -> bool | None:
        """What is to follow what was queued: True to write now, False to ask the loop, None for neither."""
        if self._writing or self._blocked or not (self._frames or self._full or self._urgent):
            # The writer looks again when it comes back; the loop comes when the kernel has room.
            return None
        if self._corks:
            return True if self._pending >= BATCH_BYTES else None
        now = monotonic()
        if self._gathering:
            if self._pending >= BATCH_BYTES or now - self._oldest > GATHER_SECONDS:
                return True
        elif now - self._last_write > self._follows:
            return True
        else:
            self._gathering = True
            self._oldest = now
        if self._asked:
            return None
        self._asked = True
        return False

    def _take_up(self) -> None:
        """Queue what is not encoded yet, if there is such a thing."""

    def _fail(self, error: BaseException) -> None:
        """Give the stream up: nothing more may be written to it.

        Ctrl-C, too, can strike between the deflate context and the queue, or between the kernel and
        our count; whatever the server got from then on would be garbage.
        """
        self._failure = error if isinstance(error, OSError) else OSError(f"interrupted by {error!r}")
        self._writing = False
        self._changed.notify_all()

    def _taken_whole(self) -> int:
        """How many frames of the batch the kernel has taken whole."""
        missing = len(self._rest)
        whole = len(self._batch)
        while missing > 0:
            whole -= 1
            missing -= len(self._batch[whole])
        return whole

    def _unsent(self) -> list[Message]:
        """What the frames hold that the kernel has not taken whole, in order; None for control frames."""
        full = [message for _, messages in self._full for message in messages]
        return [*self._batch_messages[self._taken_whole() :], *full, *self._messages]

    # Writing. Without the lock.

    def _write_batches(self, by_loop: bool = False) -> None:
        """Write a few batches, unless another thread is at it, and leave the rest to the loop.

        Raises:
            OSError: the stream failed; `_failure` keeps it, and the loop was asked to look.
        """
        mine = False
        try:
            for _ in range(BATCHES_PER_FLUSH):
                with self._lock:
                    if self._writing or (self._blocked and not by_loop):
                        return
                    mine = True  # from here on an interruption would leave half a batch
                    if not self._has_batch():
                        mine = False
                        return
                    self._writing = True
                taken = self._stream.send(self._rest)
                with self._lock:
                    self._take_off(taken)
                    mine = False
                    if self._blocked:
                        break
        except BaseException as error:
            if mine:
                with self._lock:
                    self._fail(error)
                self._ask_loop()
            raise
        with self._lock:
            served = self._asked or self._writing or not self._waits() or (self._blocked and by_loop)
            self._asked = self._asked or not served
        if not served:
            self._ask_loop()

    def _waits(self) -> bool:
        return bool(self._rest or self._full or self._frames or self._urgent)

    def _has_batch(self) -> bool:
        """Make up the next batch unless one is under way. Returns False if there is nothing to write."""
        if self._failure is not None or self._finished:
            return False
        if not self._rest:
            self._take_up()
            if self._full or self._frames or self._urgent:
                self._make_batch()
        return bool(self._rest)

    def _make_batch(self) -> None:
        full, urgent = self._full, self._urgent
        frames, messages = full[0] if full else (self._frames, self._messages)
        if urgent:
            frames, messages = [*urgent, *frames], [*[None] * len(urgent), *messages]
        # OpenSSL wants the same bytes again after a write that would block: the joined rest is
        # kept until all of it is taken, and nothing is put in front of it.
        rest = memoryview(frames[0] if len(frames) == 1 else b"".join(frames))
        pending = self._pending + sum(map(len, urgent))
        # No call stands in between the following, so that Ctrl-C cannot: each frame is in one place.
        self._batch, self._batch_messages, self._rest = frames, messages, rest
        self._urgent, self._pending = [], pending
        if full:
            full.popleft()
        else:
            self._frames, self._messages, self._size = [], [], 0

    def _take_off(self, taken: int) -> None:
        """Note what the kernel has taken."""
        self._writing = self._gathering = False
        self._pending -= taken
        self._last_write = self._oldest = monotonic()
        self._rest = self._rest[taken:]
        self._blocked = bool(self._rest)
        self.bytes_sent += taken
        if not self._blocked:
            self._completed += len(self._batch) - self._batch_messages.count(None)
            self._batch, self._batch_messages = [], []
        if self._waiting or self._finished:
            self._changed.notify_all()
