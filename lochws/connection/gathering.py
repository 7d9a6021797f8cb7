"""What senders leave without the queue's lock, for whoever comes next to queue.

While messages gather, somebody is about to come: the loop was asked, or the sender itself will be back
in time. A sender then has only to leave its message and go on. And a thread that finds the lock taken
leaves its message with the holder: giving up the interpreter for a lock, once a message, would leave
many senders with little else to do than to take turns.

So whoever lets the lock go, and whoever sets `_leavable` to 0, looks at what was left after that; and
whoever leaves a message looks at both after that. One of the two sees the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

from ..errors import WebSocketClosed, WebSocketError
from ..protocol.frames import Item, measure
from ..sent import Tap
from .batchwriter import BatchWriter, Message, Pack, Sink, message_of

#: A message of at most so many bytes may be left to others; and so many messages at a time.
LEAVE_BYTES = 4096
LEAVE_MESSAGES = 512

#: Whoever waits for room is told when this part of the bound is free: waking somebody for each message
#: that has left would cost more than the message.
ROOM_PART = 8

#: What makes a frame under the lock, from these arguments, and the message that is in it.
Entry: TypeAlias = "tuple[Callable[..., bytes], tuple[object, ...], Message]"


class Gathering(BatchWriter):
    """The messages on their way from senders into the queue.

    Args:
        stream, pack, ask_loop, gather, taps: as for `BatchWriter`.
        limit: bytes that may wait.
    """

    __slots__ = (
        "_late", "_limit", "_sealed",
    )

    def __init__(
        self, stream: Sink, pack: Pack, ask_loop: Callable[[], None], gather: bool, limit: int,
        taps: Sequence[Tap],
    ) -> None:
        super().__init__(stream, pack, ask_loop, gather, taps)
        self._limit = limit
        self._roomy = limit - limit // ROOM_PART
        # All below is guarded by _lock.
        self._sealed = False  # our Close frame is queued: nothing may be left behind it
        self._late: list[Item | Entry] = []  # accepted, and then overtaken by the Close frame

    def _leave(self, item: Item | Entry, size: int) -> bool:
        """Leave a small message to whoever holds the lock. Returns False if it is not for leaving."""
        if self._finished or size > LEAVE_BYTES or len(self._left) >= self._room_for_left():
            return False
        self._left.append(item)
        self._look_after()
        self._check_left(item)
        return True

    def _check_left(self, item: Item | Entry) -> None:
        """Refuse a message that came after `finish` had looked: nobody would send or report it.

        Raises:
            WebSocketClosed: so it was.
        """
        if self._finished:
            with self._lock:
                for index, other in enumerate(list(self._left)):  # others append meanwhile
                    if other is item:
                        del self._left[index]
                        self._check_alive()

    def _look_after(self) -> None:
        """See to what was left, unless somebody holds the lock, who will."""
        try:
            while self._left and not self._finished and not self._lock.locked():
                with self._lock:
                    self._take_up()
                    step = self._next_step()
                if step:
                    self._write_batches()
                elif step is False:
                    self._ask_loop()
        except OSError:
            return  # kept in `failure`; the loop was asked to look
        except BaseException:
            self._ask_loop()  # perhaps it was about to be asked, or this thread to write
            raise

    def _room_for_left(self) -> int:
        if self._sealed or self._failure is not None:
            return 0
        return min(LEAVE_MESSAGES, (self._limit - self._pending) // LEAVE_BYTES)

    def _take_up(self) -> None:
        """Queue what others left, in order. Holds the lock."""
        if not self._left or self._finished:
            return
        try:
            items = cast("list[Item | Entry]", self._items)
            before = len(items)
            left, count = self._left, len(self._left)  # others may append behind that
            target = self._late if self._sealed else items
            # No call stands in between, so that Ctrl-C cannot: each message is here or there.
            target += left[:count]
            del left[:count]
            if self._sealed:
                return
            size = measure(items, before)
            if size < 0:
                self._encode_entries(before)
                size = measure(items, before)
            self._unpacked += size
        except BaseException as error:
            self._on_encode_error(error)
            raise

    def _encode_entries(self, start: int) -> None:
        """Make the frames of all entries from `start` on."""
        index = start
        for item in cast("list[Item | Entry]", self._items[start:]):
            if isinstance(item, tuple) and len(item) == 3:
                encode, args, message = item
                try:
                    self._items[index] = encode(*args), message
                    self._controls += message is None
                except (WebSocketError, TypeError, ValueError):
                    self._late.append(item)
                    del self._items[index]
                    continue
            index += 1

    def _on_encode_error(self, error: BaseException) -> None:
        if not isinstance(error, (WebSocketError, TypeError, ValueError)):  # they come before any change
            self._fail(error)
            self._ask_loop()  # which, after a failure, takes no other lock

    def _check_alive(self) -> None:
        if self._finished:
            raise WebSocketClosed("data not sent: the connection has ended")
        if self._failure is not None:
            raise WebSocketClosed(f"data not sent: the connection is lost; {self._failure}")

    def _take_unsent(self) -> list[Message]:
        """Let go of all that was not sent whole, in order; None stands for what is no message."""
        unsent = list(map(message_of, [*self._unsent(), *self._late]))
        while self._left:
            unsent.append(message_of(self._left.pop(0)))
        self._items, self._batch, self._late, self._withdrawn = [], [], [], []
        self._start = self._unpacked = 0
        self._urgent.clear()
        self._rest = b""
        return unsent
