"""What leaves one connection: sends at once what fits, keeps the rest in order.

Any thread may push; nobody blocks in the kernel. A lone message is handed to the kernel by its
caller. Messages that follow closely gather and leave in one system call: by a sender when enough
has gathered or the oldest has waited `GATHER_SECONDS`, else by the loop, which the first of them
has asked to come. Nothing is delayed by a timer, and nothing loops until the queue is empty.

Nor do senders wait for each other. A thread that finds the queue's lock taken leaves its message with
the holder and goes on: giving up the interpreter for a lock, once a message, would leave many senders
with little else to do than to take turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from .batchwriter import BatchWriter, Message, Sink
from .errors import QueueFull, TransportFail, WebSocketClosed, WebSocketError
from .waits import wait_for

#: A message of at most so many bytes may be left to another sender; and so many messages at a time.
LEAVE_BYTES = 4096
LEAVE_MESSAGES = 512
#: How long `finish` waits for a thread that is writing.
WRITER_SECONDS = 1.0

_Encode: TypeAlias = "Callable[..., bytes]"
#: A message, what encodes it, and the arguments for that.
Entry: TypeAlias = "tuple[Message, _Encode, tuple[object, ...]]"


class SendQueue(BatchWriter):
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
        super().__init__(stream, ask_loop, gather)
        self._limit = limit
        self._when_full = when_full
        self._send_timeout = send_timeout
        self._may_block = may_block
        # Appended by any thread without the lock, taken by the lock's holder. Whoever lets the lock go
        # looks here once more: a message that was left is never forgotten.
        self._left: deque[Entry] = deque()
        # All below is guarded by _lock.
        self._sealed = False  # our Close frame is queued: nothing may be left behind it
        self._late: list[Message] = []  # accepted, and then overtaken by the Close frame
        self.dropped = 0  # messages discarded by "drop"; read by anyone

    # Any thread.

    def push(self, message: Message, size: int, encode: _Encode, *args: object) -> bool:
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
        lock = self._lock
        # Looking, and then `with`: acquire(False) would let Ctrl-C in before the lock can be let go.
        if lock.locked() and self._leave(message, size, encode, args):
            return True
        try:
            with lock:
                if self._finished or self._failure is not None:
                    self._check_alive()
                if self._pending and self._pending + size > self._limit and not self._find_room(size):
                    return False
                try:
                    if self._left:
                        self._take_up()
                    frame = encode(*args)
                    self._queue(frame, message)
                    step = self._next_step()
                except BaseException as error:
                    self._on_encode_error(error)
                    raise
        finally:
            if self._left:
                self._look_after()
        if step is not None:
            self._act(step, frame)
        return True

    def push_many(self, entries: Sequence[Entry], size: int) -> bool:
        """Push messages that belong together: all or none are admitted, and no others come between.

        Args:
            entries: message, `encode` and its arguments, as for `push`.
            size: their bytes before encoding.

        Returns, raises:
            As `push`.
        """
        if not entries:
            return True
        try:
            with self._lock:
                self._check_alive()
                if self._pending and self._pending + size > self._limit and not self._find_room(size):
                    self.dropped += len(entries) - 1
                    return False
                self._take_up()
                frames = [self._encode(message, encode, args) for message, encode, args in entries]
                self._gathering = True
                self._oldest = 0.0  # they are company enough
                step = self._next_step()
        finally:
            self._look_after()
        self._act(step, *frames)
        return True

    def cork(self) -> None:
        """Let messages gather until `uncork`, or until a batch is full. May be nested."""
        with self._lock:
            self._corks += 1
        self._look_after()

    def uncork(self) -> None:
        """Send what has gathered, if this was the last cork."""
        with self._lock:
            self._corks -= 1
            corked = self._corks > 0
        if corked:
            self._look_after()
        else:
            self.flush(by_loop=False)

    def push_control(self, encode: _Encode, *args: object, patience: float = -1, seal: bool = False) -> bool:
        """Send a control frame of the protocol itself; it is small and always admitted. Else as `push`.

        Args:
            patience: seconds to wait for the queue's lock, negative for as long as it takes. A
                signal handler must not wait for what the code under it holds.
            seal: it is a Close frame: from now on `encode` refuses every message.

        Returns:
            False if the lock could not be had.
        """
        acquired: list[bool] = []
        try:
            # In one call that takes the lock and notes it: Ctrl-C cannot come between the two.
            acquired.extend(map(self._lock.acquire, (True,), (patience,)))
            if not acquired[0]:
                return False
            self._check_alive()
            self._take_up()
            if seal and self._waiting:
                self._changed.notify_all()  # they look again when the lock is free, and then it is sealed
            frame = self._encode(None, encode, args)
            self._sealed = self._sealed or seal
            step = self._next_step()
        finally:
            if acquired and acquired[0]:
                self._lock.release()
            self._look_after()
        self._act(step, frame)
        return True

    def put_urgent(self, encode: _Encode, data: bytes) -> None:
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
            self._urgent.append(frame)

    def flush(self, *, by_loop: bool = True) -> None:
        """Write what waits, as far as the kernel takes it, in a bounded number of system calls.

        The loop calls it when asked and when the socket is writable. Other threads must not say
        `by_loop`: they leave a full kernel alone, and the loop is asked if they find it full.
        """
        with self._lock:
            self._asked = False
            self._take_up()
        try:
            self._write_batches(by_loop)
        except OSError:
            return  # kept in `failure`; the loop was asked to look
        if self._left:
            self._look_after()

    def _act(self, step: bool | None, *frames: bytes) -> None:
        """Do what follows after frames were queued. Without the lock."""
        if step:
            try:
                self._write_batches()
            except OSError as error:
                if self._withdraw(frames):
                    raise TransportFail(f"socket fail; {error}") from error
        elif step is False:
            self._ask_loop()
        if self._left:
            self._look_after()

    def _leave(self, message: Message, size: int, encode: _Encode, args: tuple[object, ...]) -> bool:
        """Leave a small message to whoever holds the lock. Returns False if it is not for leaving."""
        if (
            self._sealed or self._finished or self._failure is not None or size > LEAVE_BYTES
            or len(self._left) >= LEAVE_MESSAGES
            or self._pending + len(self._left) * LEAVE_BYTES + size > self._limit
        ):
            return False
        left = (message, encode, args)
        self._left.append(left)
        self._look_after()
        self._check_left(left)
        return True

    def _check_left(self, left: Entry) -> None:
        """Take a message back that came after `finish` had looked: nobody would send or report it."""
        if self._finished:
            with self._lock:
                for index, other in enumerate(list(self._left)):  # others append meanwhile
                    if other is left:
                        del self._left[index]
                        self._check_alive()

    def _look_after(self) -> None:
        """See to what was left, unless somebody holds the lock, who will."""
        while self._left and not self._finished and not self._lock.locked():
            with self._lock:
                self._take_up()
                step = self._next_step()
            if step:
                try:
                    self._write_batches()
                except OSError:
                    return  # kept in `failure`; the loop was asked to look
            elif step is False:
                self._ask_loop()

    def _take_up(self) -> None:
        """Encode what others left, in order. Holds the lock."""
        try:
            while self._left and not self._finished:
                message, encode, args = self._left[0]
                try:
                    self._queue(encode(*args), message)
                except (WebSocketError, TypeError, ValueError):
                    self._late.append(message)
                self._left.popleft()  # last: if this is interrupted, `finish` finds it here
        except BaseException as error:
            self._on_encode_error(error)
            raise

    def _encode(self, message: Message, encode: _Encode, args: tuple[object, ...]) -> bytes:
        """Make a frame and queue it. Holds the lock."""
        try:
            frame = encode(*args)
            self._queue(frame, message)
            return frame
        except BaseException as error:
            self._on_encode_error(error)
            raise

    def _on_encode_error(self, error: BaseException) -> None:
        if not isinstance(error, (WebSocketError, TypeError, ValueError)):  # they come before any change
            self._fail(error)
            self._ask_loop()  # which, after a failure, takes no other lock

    def _check_alive(self) -> None:
        if self._finished:
            raise WebSocketClosed("data not sent: the connection has ended")
        if self._failure is not None:
            raise WebSocketClosed(f"data not sent: the connection is lost; {self._failure}")

    def _find_room(self, size: int) -> bool:
        """Apply `when_full`. Returns False to discard the message. Holds the lock, except while waiting."""
        if self._sealed:
            return True  # for `encode` to refuse: no room could be enough behind our Close frame
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
            roomy = wait_for(
                self._changed,
                lambda: self._finished or self._failure or self._sealed or not self._pending
                or self._pending + size <= self._limit,
                self._send_timeout,
            )
        finally:
            self._waiting -= 1
        if not roomy:
            raise QueueFull(f"{full}; no room was made in {self._send_timeout:g} s")
        self._check_alive()
        return True

    def _withdraw(self, unwanted: Sequence[bytes]) -> bool:
        """Take messages back that were not sent whole. Returns False if all were, or are reported already."""
        with self._lock:
            if self._finished:
                return False
            sought = set(map(id, unwanted))
            first = self._taken_whole()
            withdrawn = False
            for frames, messages in (
                (self._batch, self._batch_messages), *self._full, (self._frames, self._messages)
            ):
                for index in range(first, len(frames)):
                    if id(frames[index]) in sought:
                        messages[index] = None
                        withdrawn = True
                first = 0
            return withdrawn

    # The loop.

    @property
    def wants_write(self) -> bool:
        """Whether the loop should flush when the socket is writable."""
        return self._blocked

    @property
    def messages_sent(self) -> int:
        """Messages that were handed to the kernel whole."""
        with self._lock:
            whole = self._taken_whole()
            sent = self._completed + whole - self._batch_messages[:whole].count(None)
        self._look_after()
        return sent

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
            whole = self._taken_whole()
            self._completed += whole - self._batch_messages[:whole].count(None)
            unsent = [*self._unsent(), *self._late]
            while self._left:
                unsent.append(self._left.popleft()[0])
            self._full.clear()
            self._frames, self._messages, self._batch, self._batch_messages = [], [], [], []
            self._late.clear()
            self._urgent.clear()
            self._rest = memoryview(b"")
            self._pending = 0
            return tuple(message for message in unsent if message is not None)
