"""Link: one connection of lochws, and the events that wait for the program to receive them."""

from __future__ import annotations

import atexit
import socket
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from threading import get_ident
from time import monotonic
from typing import Any

from ... import WebSocketApp, events
from ...system import forks
from ...system.control import control_lock, may_wait
from ...system.waits import Waiters, wait_for

#: The assumed memory cost of an event in addition to its payload, in bytes.
EVENT_BYTES = 100
#: Bytes of events that may wait; beyond this limit the server is slowed down until half of it is received.
BACKLOG_BYTES = 16 * 1024 * 1024
#: How many items `take_some` takes at most.
ITEMS_AT_ONCE = 64
#: Seconds that the end of the program waits for messages that the network has not taken yet.
EXIT_SECONDS = 5.0

#: What a program receives: messages, control frames, and failures that are raised in its turn.
Item = events.Text | events.Binary | events.Ping | events.Pong | events.Closing | events.Closed | Exception

#: The role of performing the closing handshake: a new list each time, with the identifier of the thread.
Part = list[int]

_links: weakref.WeakSet[Link] = weakref.WeakSet()


class Link:
    """One connection of lochws, opened by the constructor in the background.

    The reader thread of lochws adds events, and any thread takes them. Pings are answered whether anybody
    takes anything or not. While too much waits, the reader waits, too, and TCP slows the server down.

    Args:
        url: the URL.
        options: options of `lochws.WebSocketApp`.
        timeout: the limit of each operation in seconds, or None.

    Raises:
        TypeError, ValueError: an option is invalid.

    Attributes:
        app: the app of lochws.
        timeout: the limit of each operation in seconds, or None; any thread may set it.
        ready: the event of the open connection, or None.
        rejected: the event of a refusal, or None.
        broken: the event of a violation of the protocol, or None.
        final: the last event, or None while it has not arrived.
        close_frame: the server's Close frame, or None.
        pongs: how many pongs have arrived.
        is_discarded: whether `discard` was called.
    """

    def __init__(self, url: str, options: dict[str, Any], timeout: float | None) -> None:
        self.timeout = timeout
        self.ready: events.Ready | None = None
        self.rejected: events.Rejected | None = None
        self.broken: events.ProtocolError | None = None
        self.final: events.ConnectFail | events.Disconnected | None = None
        self.close_frame: events.Closing | events.Closed | None = None
        self.pongs = 0
        self.is_discarded = False
        self._is_closing = False
        self._closing: Part | None = None  # the role of the thread that performs the closing handshake
        self._lock = control_lock()
        self._changed = Waiters(self._lock)
        self._waiting = 0  # threads that wait for an event; written under the lock, read without
        self._wake_ups = 0
        self._items: deque[Item] = deque()  # appended by the reader without the lock
        self._posted = 0  # bytes; written by the reader
        self._taken = 0  # bytes; written under the lock
        self._bell: tuple[socket.socket, socket.socket] | None = None
        self._is_rung = False
        self.app = WebSocketApp(
            url, when_full="block", send_timeout=timeout or None, open_timeout=timeout or None, **options
        )
        self.app.add_handler(_Receiver(self))
        forks.register(self)
        self.app.start(poll=0, ping_rate=0, persist=False)
        _links.add(self)

    # For the reader thread of lochws.

    def post(self, items: Sequence[Item], cost: int) -> None:
        """Add items; wait while too much waits. For the reader."""
        if self._is_closing:
            return
        self._items.extend(items)
        self._posted += cost
        if self._waiting or self._bell is not None:
            self.changed()
        if self._posted - self._taken > BACKLOG_BYTES:
            with self.app._lochws.life.pausing(), self._lock:
                wait_for(self._changed, self._has_room, None)

    def _has_room(self) -> bool:
        return self.is_discarded or self._is_closing or self._posted - self._taken <= BACKLOG_BYTES // 2

    def changed(self) -> None:
        """Wake all threads that wait, and make the descriptor readable if there is something to receive."""
        with self._lock:
            self._changed.notify_all()
            self._ring()

    def fail(self, failure: Exception) -> None:
        """Add a failure, and drop the connection. For the reader."""
        self.post((failure,), EVENT_BYTES)
        self.drop()

    # For any thread.

    @property
    def is_over(self) -> bool:
        """True if the connection has ended and all of it was taken, or if it was discarded."""
        return self.is_discarded or (self.final is not None and not self._items)

    @property
    def is_readable(self) -> bool:
        """True if there is something to receive, be it the end of the connection."""
        return bool(self._items) or self.final is not None or self.is_discarded

    def wait_open(self) -> bool:
        """Wait until the connection is open. Return False if it cannot be opened."""
        self.wait_until(lambda: self.ready is not None or self.final is not None, None)
        return self.ready is not None

    def begin_close(self, mine: Part) -> bool:
        """Take the role of performing the closing handshake, unless another call has it.

        Args:
            mine: a new role, which names the calling thread; to be given back by `end_close`.

        Returns:
            Whether the call has taken it.
        """
        with self._lock:
            if self._closing is None:
                self._closing = mine
            return self._closing is mine

    def end_close(self, mine: Part) -> None:
        """Give the role back, if this call has it, and wake the threads that wait for that."""
        if self._closing is mine:
            self._closing = None
            self.changed()

    def wait_close(self, timeout: float | None) -> bool:
        """Wait until no call performs the closing handshake. Return False if the timeout expires first.

        A call that interrupts the handshake on its own thread does not wait: it returns False.
        """
        closing = self._closing
        if closing is not None and closing != [get_ident()]:
            self.wait_until(lambda: self._closing is None, timeout)
        return self._closing is None

    def wait_answered(self, timeout: float | None) -> None:
        """Wait until the server's Close frame has arrived, or the connection has ended."""
        self.wait_until(lambda: self.close_frame is not None or self.final is not None, timeout)

    def wait_readable(self, timeout: float | None) -> bool:
        """Wait until there is something to receive. Return False if the time was up, or after `wake`."""
        if not self._items:
            count = self._wake_ups
            self.wait_until(lambda: self.is_readable or self._wake_ups != count, timeout)
        return self.is_readable

    def wake(self) -> None:
        """End the waits in `wait_readable`."""
        with self._lock:
            self._wake_ups += 1
            self.changed()

    def wait_until(self, predicate: Callable[[], object], timeout: float | None) -> None:
        """Wait until a condition holds, which is checked after each change, or until the timeout expires.

        A signal handler or finalizer that has interrupted code with a lock does not wait.
        """
        timeout = timeout if may_wait() else 0.0
        with self._lock:
            self._waiting += 1
            try:
                wait_for(self._changed, predicate, timeout)
            finally:
                self._waiting -= 1

    def take_some(self) -> list[Item]:
        """Take the oldest items, a limited number; none if there are none."""
        items: list[Item] = []
        with self._lock:
            try:
                while len(items) < ITEMS_AT_ONCE:
                    items.append(self._items.popleft())
            except IndexError:
                pass  # a signal handler on this thread, which closes the connection, may have emptied it
            self._took(sum(map(_cost, items)))
        return items

    def take(self) -> Item | None:
        """Take the oldest item; None if there is none."""
        with self._lock:
            try:
                item = self._items.popleft()
            except IndexError:
                return None
            self._took(_cost(item))
            return item

    def _took(self, cost: int) -> None:
        was_full = self._posted - self._taken > BACKLOG_BYTES // 2
        self._taken += cost
        if was_full:
            self._changed.notify_all()
        if self._bell is not None:
            self._ring()

    def ignore_the_rest(self) -> None:
        """Drop waiting and later messages, so that a full backlog does not delay closing."""
        with self._lock:
            self._is_closing = True
            self._items.clear()
            self._changed.notify_all()

    def send_close(self, code: int | None, reason: str | bytes) -> None:
        """Send a Close frame. What the server sent before its own can still be received."""
        self.app.close(code, reason)

    def drop(self) -> None:
        """End the connection now, or the attempt to open it. What has arrived can still be received."""
        self.app.force_disconnect("the program dropped the connection")
        self.app.close()

    def discard(self) -> None:
        """Give the connection up, with everything that has arrived. Any thread, finalizers included."""
        with self._lock:
            if self.is_discarded:
                return
            self.is_discarded = True
            self._items.clear()
            bell, self._bell = self._bell, None
            self._changed.notify_all()
        if self.close_frame is None and self.final is None:
            self.drop()
        for end in bell or ():
            end.close()

    def reset_after_fork(self) -> None:
        """Give up the copy in the child of a fork: the connection is the parent's."""
        self._lock = control_lock()
        self._changed = Waiters(self._lock)
        self._closing = None
        self.is_discarded = True
        self._items.clear()
        bell, self._bell = self._bell, None
        for end in bell or ():
            end.close()

    def fileno(self) -> int:
        """Return a descriptor that is readable while there is something to receive; -1 after `discard`."""
        with self._lock:
            if self._bell is None:
                if self.is_discarded:
                    return -1
                self._bell = socket.socketpair()
                for end in self._bell:
                    end.setblocking(False)
                self._is_rung = False
                self._ring()
            return self._bell[0].fileno()

    def _ring(self) -> None:
        """Make the descriptor readable or not. With the lock held."""
        if self._bell is None or self._is_rung == self.is_readable:
            return
        listening, ringing = self._bell
        self._is_rung = not self._is_rung
        if self._is_rung:
            ringing.send(b"!")
        else:
            listening.recv(1)


class _Receiver:
    """The handlers of a link, on the reader thread."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def on_ready(self, event: events.Ready) -> None:
        """Note that the connection is open."""
        self._link.ready = event
        self._link.changed()

    def on_batch(self, messages: list[events.Text | events.Binary]) -> None:
        """Add messages."""
        self._link.post(messages, sum(map(_cost, messages)))

    def on_ping(self, event: events.Ping) -> None:
        """Add a ping; lochws has answered it."""
        self._link.post((event,), EVENT_BYTES)

    def on_pong(self, event: events.Pong) -> None:
        """Add a pong."""
        self._link.pongs += 1
        self._link.post((event,), EVENT_BYTES)

    def on_closing(self, event: events.Closing) -> None:
        """Add the server's Close frame; lochws answers it after this."""
        self._link.close_frame = event
        self._link.post((event,), EVENT_BYTES)

    def on_closed(self, event: events.Closed) -> None:
        """Add the server's answer to our Close frame."""
        self._link.close_frame = event
        self._link.post((event,), EVENT_BYTES)
        self._link.changed()

    def on_rejected(self, event: events.Rejected) -> None:
        """Note a refusal, for the end."""
        self._link.rejected = event

    def on_protocol_error(self, event: events.ProtocolError) -> None:
        """Note a violation of the protocol, for the end."""
        self._link.broken = event

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """Note the end of the attempt."""
        self._link.final = event
        self._link.changed()

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Note the end of the connection."""
        self._link.final = event
        self._link.changed()


def _cost(item: Item) -> int:
    if isinstance(item, events.Text):
        return EVENT_BYTES + len(item.text)
    return EVENT_BYTES + (len(item.data) if isinstance(item, events.Binary) else 0)


@atexit.register
def _end_of_program() -> None:
    """Close what is still open, as the end of a program closes sockets, once the network has taken all."""
    waiting = []
    for link in list(_links):
        if link.final is None and not link.is_discarded:
            if link.app.queued_bytes:
                waiting.append(link.app)
            link.app.close()
    end = monotonic() + EXIT_SECONDS
    for app in waiting:
        app.join(max(0.0, end - monotonic()))
