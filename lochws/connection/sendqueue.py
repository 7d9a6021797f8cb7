"""What leaves one connection: sends at once what fits, keeps the rest in order.

Any thread may push; nobody blocks in the kernel. A lone message is handed to the kernel by its
caller. Messages that follow closely gather and leave in one system call: by a sender when enough
has gathered or the oldest has waited `GATHER_SECONDS`, else by the loop, which the first of them
has asked to come. Nothing is delayed by a timer, and nothing loops until the queue is empty.

Nor do senders wait for each other: see `lochws.connection.gathering`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic

from ..errors import QueueFull, TransportFail, WebSocketClosing, WebSocketError
from ..protocol.frames import Item, frame_length, measure
from ..sent import Tap
from ..system.waits import wait_for
from .batchwriter import GATHER_BYTES, Message, Pack, Sink
from .gathering import LEAVE_BYTES, Entry, Gathering

#: How long `finish` waits for a thread that is writing.
WRITER_SECONDS = 1.0


class SendQueue(Gathering):
    """The queue of one connection.

    Args:
        stream: where the bytes go.
        pack: makes the frames of a batch.
        limit: bytes that may wait. A message is admitted if it fits, or if nothing else waits.
        when_full: ``"raise"`` refuses a message that does not fit, ``"block"`` waits for room,
            ``"drop"`` discards it.
        send_timeout: seconds that ``"block"`` waits at most, or None for no limit.
        ask_loop: called, without a lock, when the loop should call `flush`.
        may_block: whether the calling thread may wait; a handler's must not.
        gather: whether messages may gather. Without a loop that comes when asked they must not.
        taps: are told of what leaves, in order; may change at any time.
    """

    __slots__ = (
        "_may_block", "_send_timeout", "_when_full", "dropped",
    )

    def __init__(
        self,
        stream: Sink,
        *,
        pack: Pack,
        limit: int,
        ask_loop: Callable[[], None],
        when_full: str = "raise",
        send_timeout: float | None = None,
        may_block: Callable[[], bool] = lambda: True,
        gather: bool = True,
        taps: Sequence[Tap] = (),
    ) -> None:
        super().__init__(stream, pack, ask_loop, gather, limit, taps)
        self._when_full = when_full
        self._send_timeout = send_timeout
        self._may_block = may_block
        # All below is guarded by _lock.
        self.dropped = 0  # messages discarded by "drop"; read by anyone

    # Any thread.

    def push(self, message: str | bytes, size: int) -> bool:
        """Send a message that is not compressed, or keep it in order. Never blocks in the kernel.

        Args:
            message: binary, or text that is ASCII.
            size: its length.

        Returns:
            False if the message was discarded because the queue is full (``"drop"``).

        Raises:
            QueueFull, WebSocketClosed: there is no room; the connection has ended.
            WebSocketClosing: our Close frame was sent.
            TransportFail: the network failed under this message; it was not sent whole.
        """
        left = self._left
        if size <= LEAVE_BYTES and len(left) < self._leavable:
            left.append(message)
            # Looked at after that: see `lochws.connection.gathering`.
            if not self._leavable or monotonic() > self._due or len(left) * size > GATHER_BYTES:
                self._look_after()
                self._check_left(message)
            return True
        # Looking, and then `with`: acquire(False) would let Ctrl-C in before the lock can be let go.
        if self._lock.locked() and self._leave(message, size):
            return True
        try:
            with self._lock:
                # Else there is room for anything, and nothing to be done before.
                if self._unpacked or self._rest or left or self._is_shut:
                    if not self._admit(size):
                        return False
                    self._check_open()
                self._unpacked += frame_length(message)
                self._items.append(message)
                step = self._next_step()
            if step:
                self._write(message)
            elif step is False:
                self._ask_loop()
            if left:
                self._look_after()
        except BaseException as error:
            self._after_error(error)
            raise
        return True

    def push_encoded(self, message: Message, size: int, encode: Callable[..., bytes], *args: object) -> bool:
        """As `push`, for what is encoded under the queue's lock, so that its order is that of sending.

        Args:
            message: what `Disconnected.unsent` reports if it cannot be sent.
            size: its bytes before encoding.
            encode: makes the frame from `args`; what it raises reaches the caller.
        """
        if self._lock.locked() and self._leave((encode, args, message), size):
            return True
        try:
            with self._lock:
                if not self._admit(size):
                    return False
                item = self._encode(message, encode, args)
                step = self._next_step()
            self._act(step, item)
        except BaseException as error:
            self._after_error(error)
            raise
        return True

    def push_many(self, entries: Sequence[Item | Entry], size: int) -> bool:
        """Push messages that belong together: all or none are admitted, and no others come between.

        Args:
            entries: messages as for `push`, or what makes a frame, its arguments and the message.
            size: their bytes before encoding.

        Returns, raises:
            As `push`.
        """
        if not entries:
            return True
        try:
            with self._lock:
                if not self._admit(size, len(entries)):
                    return False
                self._check_open()
                items = self._queue_all(entries)
                self._gathering = True
                self._due = 0.0  # they are company enough
                step = self._next_step()
            self._act(step, *items)
        except BaseException as error:
            self._after_error(error)
            raise
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
            self._leavable = 0
            corked = self._corks > 0
        if corked:
            self._look_after()
        else:
            self.flush(by_loop=False)

    def push_control(
        self, encode: Callable[..., bytes], *args: object, patience: float = -1, seal: bool = False
    ) -> bool:
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
            try:
                # In one call that takes the lock and notes it: Ctrl-C cannot come between the two.
                acquired.extend(map(self._lock.acquire, (True,), (patience,)))
                if not acquired[0]:
                    return False
                self._check_alive()
                self._take_up()
                if seal and self._waiting:
                    self._changed.notify_all()  # they look again when the lock is free, and then it is sealed
                item = self._encode(None, encode, args)
                if seal:
                    self._sealed = self._is_shut = True
                    self._leavable = 0
                step = self._next_step()
            finally:
                if acquired and acquired[0]:
                    self._lock.release()
            self._act(step, item)
        except BaseException as error:
            self._after_error(error)
            raise
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
            self._urgent.append(frame)

    def flush(self, *, by_loop: bool = True) -> None:
        """Write what waits, as far as the kernel takes it, in a bounded number of system calls.

        The loop calls it when asked and when the socket is writable. Other threads must not say
        `by_loop`: they leave a full kernel alone, and the loop is asked if they find it full.
        """
        with self._lock:
            self._asked = False
            self._leavable = 0
            self._take_up()
        try:
            self._write_batches(by_loop)
        except OSError:
            return  # kept in `failure`; the loop was asked to look
        if self._left:
            self._look_after()

    def _admit(self, size: int, count: int = 1) -> bool:
        """Take up what was left, and see whether so many bytes more may wait. Holds the lock.

        Returns:
            False if they are discarded.
        """
        if self._finished or self._failure is not None:
            self._check_alive()
        if self._left:
            self._take_up()
        pending = self._pending
        if pending and pending + size > self._limit and not self._find_room(size):
            self.dropped += count
            return False
        return True

    def _check_open(self) -> None:
        if self._sealed:
            raise WebSocketClosing("data not sent: the WebSocket is closing")

    def _queue_all(self, entries: Sequence[Item | Entry]) -> list[Item]:
        """Queue messages in one go, for `push_many`. Holds the lock."""
        items: list[Item] = []
        try:
            for entry in entries:
                if isinstance(entry, tuple) and len(entry) == 3:
                    encode, args, message = entry
                    items.append((encode(*args), message))
                else:
                    items.append(entry)
            size = measure(items, 0)
            self._items.extend(items)
            self._unpacked += size
            return items
        except BaseException as error:
            self._on_encode_error(error)
            raise

    def _encode(self, message: Message, encode: Callable[..., bytes], args: tuple[object, ...]) -> Item:
        """Make a frame and queue it. Holds the lock."""
        try:
            return self._queue(encode(*args), message)
        except BaseException as error:
            self._on_encode_error(error)
            raise

    def _act(self, step: bool | None, *items: Item) -> None:
        """Do what follows after these were queued. Without the lock."""
        if step:
            self._write(*items)
        elif step is False:
            self._ask_loop()
        if self._left:
            self._look_after()

    def _write(self, *items: Item) -> None:
        """Write what waits; if that fails before one of these was sent whole, the caller is told so."""
        try:
            self._write_batches()
        except OSError as error:
            if self._withdraw(items):
                raise TransportFail(f"socket fail; {error}") from error

    def _after_error(self, error: BaseException) -> None:
        """See to what an error would leave undone. Without the lock."""
        if self._failure is None and not isinstance(error, (WebSocketError, TypeError, ValueError)):
            self._ask_loop()  # perhaps it was about to be asked, or the caller to write
        self._look_after()

    def _find_room(self, size: int) -> bool:
        """Apply `when_full`. Returns False to discard the message. Holds the lock, except while waiting."""
        if self._sealed:
            return True  # for `push` to refuse: no room could be enough behind our Close frame
        if self._when_full == "drop":
            return False
        full = f"the queue is full: {self._pending} bytes wait, {size} more exceed max_queue={self._limit}"
        if self._when_full == "raise":
            raise QueueFull(full)
        if not self._may_block() or self._telling == threading.get_ident():
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

    # The loop.

    @property
    def wants_write(self) -> bool:
        """Whether the loop should flush when the socket is writable."""
        return self._blocked

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes wait. Any thread."""
        return self._pending

    @property
    def messages_sent(self) -> int:
        """Messages that were handed to the kernel whole."""
        with self._lock:
            sent = self._completed + self._messages_in(self._batch[: self._taken_whole()])
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
            self._finished = self._is_shut = True
            self._leavable = 0  # before the look at what was left: see `lochws.connection.gathering`
            self._changed.notify_all()
            # That is one non-blocking call; only a thread that Ctrl-C took out of it never comes back.
            wait_for(self._changed, lambda: not self._writing, WRITER_SECONDS)
            self._completed += self._messages_in(self._batch[: self._taken_whole()])
            return tuple(message for message in self._take_unsent() if message is not None)
