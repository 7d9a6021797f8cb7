"""Room in a send queue: the limit on the bytes that wait, and the handling of sends beyond it."""

from __future__ import annotations

import math
from collections.abc import Callable
from threading import get_ident
from time import monotonic

from ..base.records import record
from ..errors import QueueFull
from ..system.control import interrupts
from ..system.waits import Waiters, wait_for
from .outgoing import Outgoing

#: Threads that wait for room are woken when this fraction of the limit is free: waking a thread for each
#: message would cost more than sending the message.
ROOM_PART = 8
#: How often a stream checks whether its turn has come, in seconds. The end of compressing is not announced.
TURN_SECONDS = 0.01


@record(frozen=True, slots=True)
class Bound:
    """The limit on what may wait in a send queue.

    Attributes:
        limit: the maximum memory of waiting items, in bytes. A message is admitted if it fits, or if nothing
            else waits.
        when_full: ``"raise"`` refuses a message that does not fit, ``"block"`` waits for room, ``"drop"``
            discards it.
        send_timeout: seconds that ``"block"`` waits at most, or None for no limit.
        may_block: returns whether the calling thread may wait; one that runs handlers must not.
    """

    limit: int
    when_full: str = "raise"
    send_timeout: float | None = None
    may_block: Callable[[], bool] = lambda: True


class Room:
    """The room in one send queue. The queue's lock guards it, except where stated otherwise.

    Args:
        bound: the limit.
        outgoing: the items that wait.
        changed: notified when room was made, and at the end.

    Attributes:
        threshold: wake the waiting threads once no more than this many bytes wait.
        waiting: the number of threads that wait for room, or for a stream to go on.
        streaming: how many of them wait for a stream.
    """

    __slots__ = (
        "_bound", "_changed", "_discarded", "_dropped", "_outgoing", "streaming", "threshold", "waiting",
    )

    def __init__(self, bound: Bound, outgoing: Outgoing, changed: Waiters) -> None:
        self._bound = bound
        self._outgoing = outgoing
        self._changed = changed
        self.threshold = bound.limit - bound.limit // ROOM_PART
        self.waiting = self.streaming = 0
        self._dropped = 0  # messages
        # Numbers of messages discarded by calls that interrupt the lock's holder: few, so they stay here.
        self._discarded: list[int] = []

    @property
    def dropped(self) -> int:
        """Messages that were discarded because there was no room. Read without the lock."""
        return self._dropped + sum(self._discarded)

    @property
    def has_grown(self) -> bool:
        """True if the waiting threads should check again, now that the kernel has taken something."""
        return self.streaming > 0 or self._outgoing.pending <= self.threshold

    def find(self, size: int, count: int, is_shut: Callable[[], bool]) -> bool:
        """Apply `when_full` to messages that do not fit. The lock is released during a wait.

        Args:
            size: their size in bytes.
            count: how many they are.
            is_shut: returns whether waiting has become pointless.

        Returns:
            Whether to go on; False if they are discarded.

        Raises:
            QueueFull: there is no room.
        """
        when_full, send_timeout = self._bound.when_full, self._bound.send_timeout
        if when_full == "drop":
            self._dropped += count
            return False
        full = self._full(self._outgoing.pending, size)
        if when_full == "raise":
            raise QueueFull(full)
        if not self._bound.may_block() or interrupts():
            raise QueueFull(f"{full}; a handler cannot wait for room")
        stream = self._outgoing.stream
        if stream is not None and stream.thread == get_ident():
            raise QueueFull(f"{full}; this thread sends the stream in front of it, and cannot wait for room")
        self.waiting += 1
        try:
            has_room = wait_for(self._changed, lambda: is_shut() or self._fits(size), send_timeout)
        finally:
            self.waiting -= 1
        if not has_room:
            raise QueueFull(f"{full}; no room became free within {send_timeout:g} s")
        return True

    def find_turn(self, is_free: Callable[[], bool]) -> bool:
        """Wait until no other stream is being sent, and no thread compresses. The lock is released meanwhile.

        Args:
            is_free: returns whether that is so, or waiting has become pointless.

        Returns, raises:
            The same as `find`.
        """
        when_full, send_timeout = self._bound.when_full, self._bound.send_timeout
        stream = self._outgoing.stream
        if stream is None:
            send_timeout = None  # a thread compresses, which takes a while at most
        elif when_full == "drop":
            self._dropped += 1
            return False
        elif when_full == "raise":
            raise QueueFull("not sent: another stream is being sent")
        elif stream.thread == get_ident():
            raise QueueFull("not sent: this thread is sending another stream")
        end = math.inf if send_timeout is None else monotonic() + send_timeout
        self.streaming += 1
        try:
            while not is_free():
                if monotonic() > end:
                    raise QueueFull(f"not sent: another stream was still being sent after {send_timeout:g} s")
                self._changed.wait(TURN_SECONDS)
        finally:
            self.streaming -= 1
        return True

    def wait_for_progress(self, is_enough: Callable[[], bool]) -> None:
        """Wait until a stream may go on. The lock is released meanwhile.

        Raises:
            QueueFull: that took longer than `send_timeout`.
        """
        self.waiting += 1
        self.streaming += 1
        try:
            has_room = wait_for(self._changed, is_enough, self._bound.send_timeout)
        finally:
            self.streaming -= 1
            self.waiting -= 1
        if not has_room:
            raise QueueFull(
                f"the stream cannot go on: no room became free within {self._bound.send_timeout:g} s"
            )

    def check_stream(self) -> None:
        """Raise QueueFull if the calling thread may not send a stream, since it would have to wait."""
        if not self._bound.may_block():
            raise QueueFull("send_stream waits for room, and a handler cannot: call it on another thread")
        if interrupts():
            raise QueueFull(
                "send_stream waits for room, and a signal handler or finalizer that interrupts lochws cannot"
            )

    def find_nested(self, size: int, count: int, dropped_off: int) -> bool:
        """Apply `when_full` to messages of a call that interrupts the holder of the lock. Without the lock.

        Args:
            size, count: the same as for `find`.
            dropped_off: the bytes of the messages that others have dropped off.

        Returns, raises:
            The same as `find`.
        """
        waiting = self._outgoing.pending + dropped_off
        if not waiting or waiting + size <= self._bound.limit:
            return True
        if self._bound.when_full != "drop":
            raise QueueFull(
                f"{self._full(waiting, size)}; a call that interrupts a send cannot wait for room"
            )
        self._discarded.append(count)
        return False

    def _fits(self, size: int) -> bool:
        pending = self._outgoing.pending
        return not pending or pending + size <= self._bound.limit

    def _full(self, pending: int, size: int) -> str:
        limit = self._bound.limit
        return f"the queue is full: {pending} bytes wait, {size} more exceed max_queue={limit}"
