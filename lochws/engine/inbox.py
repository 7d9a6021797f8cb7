"""Inbox: events that wait for the handlers of one receiver, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

#: Batches that are delivered before the next look at the network, or one for each inbox.
BATCHES_PER_DELIVERY = 16


class Inbox:
    """Events for one receiver, in order, that have not been handled yet.

    One thread at a time posts: the supervisor while connecting, the baton holder afterwards. One thread
    takes: the reader. Neither needs a lock.

    Args:
        handle: called with the items of each post, on the reader's thread, without any lock.
        notify: called when something was posted that the reader does not know of.

    Attributes:
        batches: what waits: the items of each post, their cost, and what to call after them.
    """

    __slots__ = ("_handle", "_last", "_low", "_notify", "_posted", "_taken", "batches", "is_scheduled")

    def __init__(self, handle: Callable[[Any], object], notify: Callable[[Inbox], None]) -> None:
        self._handle = handle
        self._notify = notify
        self.batches: deque[tuple[Sequence[Any], int, Callable[[], object] | None]] = deque()
        self._posted = 0  # written by the thread that posts
        self._taken = 0  # written by the reader
        self._last: Sequence[Any] = ()  # likewise: what it took last
        self._low: tuple[int, Callable[[], object]] | None = None  # set by the poster, cleared by either
        self.is_scheduled = False  # set by the poster, cleared by the reader before it looks

    @property
    def backlog(self) -> int:
        """The cost of what waits, in the units of `post`."""
        return self._posted - self._taken

    @property
    def has_backlog(self) -> bool:
        """True if anything waits."""
        return bool(self.batches)

    def post(self, items: Sequence[Any], cost: int = 0, after: Callable[[], object] | None = None) -> int:
        """Add items at the end.

        Args:
            items: what to handle.
            cost: what they count for in `backlog`.
            after: called on the reader's thread when they have been handled.

        Returns:
            The backlog now.
        """
        self._posted += cost
        self.batches.append((items, cost, after))
        if not self.is_scheduled:
            self.is_scheduled = True
            self._notify(self)
        return self._posted - self._taken

    def take(self) -> tuple[Sequence[Any], Callable[[], object] | None] | None:
        """Return the oldest items and what to call after them, or None. For the thread that takes."""
        try:
            items, cost, after = self.batches.popleft()
        except IndexError:
            self._last = ()
            return None
        self._last = items
        self._taken += cost
        if self._low is not None:
            self._check_if_low()
        return items, after

    def reset_after_fork(self) -> None:
        """Drop what waits, and the rest of the current batch, in the child of a fork: it is the parent's.

        For its owner to call.
        """
        if isinstance(self._last, list):
            self._last.clear()
        self.batches.clear()

    def call_when_low(self, backlog: int, function: Callable[[], object]) -> None:
        """Have a function called when the backlog has fallen to a limit. For the thread that posts.

        It is called once or, rarely, twice; on either thread, perhaps at once.
        """
        self._low = (backlog, function)
        self._check_if_low()

    def _check_if_low(self) -> None:
        low = self._low
        if low is not None and self.backlog <= low[0]:
            self._low = None
            low[1]()

    def deliver(self, batches: int = BATCHES_PER_DELIVERY) -> bool:
        """Handle that many batches at most. Returns whether more are waiting."""
        handle = self._handle
        for _ in range(batches):
            batch = self.take()
            if batch is None:
                return False
            items, after = batch
            try:
                if items:
                    handle(items)
            finally:  # what follows a final event must come, whatever happens
                if after is not None:
                    after()
        return bool(self.batches)
