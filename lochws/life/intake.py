"""Intake: the entrance of a mailbox, through which the reader's thread passes an app's events.

An intake holds the bounded inbox, and the mailbox that users see holds the intake. The app refers to the
intake alone, so a mailbox that the program has forgotten can be noticed, and the app does not wait for it.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol

from .. import events
from ..dispatch.registry import Registry
from ..engine.bounded_inbox import BoundedInbox, WhenFull
from ..options import MIB
from ..system import forks
from ..system.rate_limit import RateLimit
from ..system.report import report
from .calls import ScheduledCall

#: The assumed memory cost of an event in addition to its payload, in bytes.
EVENT_BYTES = 100
#: The memory for events that a full inbox accepts in addition once the app is closing, in bytes: about what
#: may have waited for the handlers.
CLOSING_BYTES = 16 * MIB


class Life(Protocol):
    """The life of an app or a feed, as its mailboxes see it. Any thread; nothing here waits."""

    @property
    def is_stopping(self) -> bool:
        """True if `close` was called."""

    @property
    def has_stopped(self) -> bool:
        """True if no more events will arrive until the next start. Takes no lock."""

    @property
    def in_handler(self) -> bool:
        """True if the calling thread runs a handler."""

    @property
    def final_event(self) -> events.ConnectFail | events.Disconnected | None:
        """The final event of the last connection or attempt, or None."""

    def pausing(self) -> AbstractContextManager[None]:
        """Mark the reader as waiting for a consumer during a block."""

    def watch(self, function: Callable[[], object]) -> None:
        """Have a function called when this is closed, and when it has stopped."""

    def unwatch(self, function: Callable[[], object]) -> None:
        """Stop calling a function that was passed to `watch`."""

    def call_later(self, seconds: float, function: Callable[[], object]) -> ScheduledCall:
        """Have the handlers' thread call a function; raise WebSocketError if it has stopped."""


class Intake:
    """The entrance of one mailbox. Any thread may call the methods except `take`.

    Args:
        life: the life of the app.
        registry: the app's handlers, among which the intake registers itself.
        kinds: the classes of the events to take.
        when_full: what happens to an event if the inbox is full: see `lochws.engine.bounded_inbox`.
        size: the maximum number of waiting events.
        max_bytes: the maximum memory for waiting events, in bytes.
        key: a function of the user's that returns the key of an event, or None.
        is_over: tells whether the consumer is gone, so that there is no point in waiting. Takes no lock.

    Attributes:
        inbox: the waiting events.
        dropped: the number of events dropped so far.
    """

    def __init__(
        self,
        life: Life,
        registry: Registry,
        kinds: frozenset[type[events.Event]],
        when_full: WhenFull,
        size: int,
        max_bytes: int,
        *,
        key: Callable[[Any], Hashable] | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self.kinds = kinds
        self.key = key
        self.dropped = 0
        self._life = life
        self._registry = registry
        self._is_abandoned = False
        self._when_full, self._size, self._max_bytes = when_full, size, max_bytes
        self._is_over = is_over
        self._wakers: deque[Callable[[], object]] = deque()  # any thread appends and takes
        self._lines = RateLimit()
        self.inbox: BoundedInbox[events.Event] = self._make_inbox()
        forks.register(self)
        life.watch(self.wake)
        registry.add_intake(self)

    @property
    def has_ended(self) -> bool:
        """True if no more events will arrive, unless the app is started again. Takes no lock."""
        return self.inbox.is_closed or self._life.has_stopped

    def take(self, received: Sequence[events.Event]) -> None:
        """Take the wanted ones of some events, and wait for room if the rule says so.

        For the reader's thread. Once the app is closing there is no wait, since the thread that closed it may
        be the one that would make room. A few more events are accepted then, and the others are dropped.

        Raises:
            Exception: whatever the key function raised.
        """
        if self._is_abandoned:
            self.close()
            return
        kinds, key = self.kinds, self.key
        left = [
            (event, memory_of(event), None if key is None else key(event))
            for event in received if type(event) in kinds
        ]
        for _, _, one in left if key is not None else ():
            hash(one)  # an unhashable key is refused before the lock is taken
        while left and not self.inbox.is_closed:
            count, dropped = self.inbox.offer_many(left)
            if dropped:
                self._drop(len(dropped))
            left = left[count:]
            if count and self._wakers:
                self.wake_consumers()
            if not left:
                return
            if self._must_not_wait():
                self._squeeze_in(left)
                return
            with self._life.pausing():
                self.inbox.wait_until_low(self._must_not_wait)

    def close(self) -> int:
        """Stop receiving, and drop all waiting events. Return how many these were."""
        if self.inbox.is_closed:
            return 0
        dropped = len(self.inbox.close())
        with self.inbox.lock:  # the reader counts, too
            self.dropped += dropped
        self._life.unwatch(self.wake)
        with suppress(ValueError):  # another thread may close it at the same time
            self._registry.remove(self)
        self.wake_consumers()
        return dropped

    def abandon(self) -> None:
        """Note that the mailbox is gone; the reader closes the intake. For a finalizer: waits for no lock."""
        self._is_abandoned = True
        if self.inbox.lock.acquire(blocking=False):
            try:
                self.inbox.changed.notify_all()
            finally:
                self.inbox.lock.release()

    def on_change(self, waker: Callable[[], object]) -> None:
        """Have a function called once, when an event arrives or the inbox may have ended.

        It is called without a lock, by any thread, and must neither wait nor raise. The caller must look
        again after this call: the change may have come before.
        """
        self._wakers.append(waker)

    def forget(self, waker: Callable[[], object]) -> None:
        """Stop calling a function that was passed to `on_change`."""
        with suppress(ValueError):  # it has been called
            self._wakers.remove(waker)

    def wake(self) -> None:
        """Wake everything that waits here, so that it looks at the state of the app again."""
        with self.inbox.lock:
            self.inbox.changed.notify_all()
        self.wake_consumers()

    def wake_consumers(self) -> None:
        """Call the functions passed to `on_change`, and forget them."""
        for _ in range(len(self._wakers)):  # a waker may be added again meanwhile
            try:
                waker = self._wakers.popleft()
            except IndexError:
                return
            waker()

    def reset_after_fork(self) -> None:
        """Start afresh in the child of a fork: waiting events belong to the parent."""
        was_closed = self.inbox.is_closed
        self._wakers.clear()
        self.inbox = self._make_inbox()
        if was_closed:
            self.inbox.close()

    def _make_inbox(self) -> BoundedInbox[events.Event]:
        return BoundedInbox(self._when_full, self._size, self._max_bytes, by_key=self.key is not None)

    def _must_not_wait(self) -> bool:
        return self._life.is_stopping or self._is_abandoned or self._is_over()

    def _squeeze_in(self, left: list[tuple[events.Event, int, Hashable]]) -> None:
        """Append events beyond the bounds, as far as memory allows, and drop the others."""
        limit = 0 if self._is_over() or self._is_abandoned else self._max_bytes + CLOSING_BYTES
        for number, (event, cost, key) in enumerate(left):
            if self.inbox.cost + cost > limit:
                self._drop(len(left) - number)
                break
            self.inbox.append(event, cost, key)
        self.wake_consumers()

    def _drop(self, count: int) -> None:
        with self.inbox.lock:
            self.dropped += count
        if self._when_full != "latest" and not self._is_abandoned:  # there, dropping is the purpose
            why = "the app is closing" if self._life.is_stopping else f"it is full ({self._when_full})"
            report(logging.WARNING, "a mailbox dropped %d events: %s", count, why, limit=self._lines)


def memory_of(event: events.Event) -> int:
    """Return the approximate memory of an event, in bytes; a character may take four."""
    if isinstance(event, events.Text):
        text = event.text
        return EVENT_BYTES + (len(text) if text.isascii() else sys.getsizeof(text))
    return EVENT_BYTES + len(getattr(event, "data", b""))
