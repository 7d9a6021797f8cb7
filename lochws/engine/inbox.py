"""Inbox: a queue of events that wait for the handlers of one receiver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

#: The number of batches to deliver before the network is checked again; at least one for each inbox.
BATCHES_PER_DELIVERY = 16
#: Up to this length, batches are removed from the beginning of the list one by one. From a longer list, this
#: many are taken at once, because each removal moves all that remain.
SHORT = 1024

_Batch: TypeAlias = "tuple[Sequence[Any], int, Callable[[], object] | None]"


class Inbox:
    """A queue of events for one receiver that have not been handled yet.

    One thread at a time posts, the baton holder. One thread
    takes: the reader. Neither needs a lock.

    Args:
        handle: called with the items of each post, on the reader's thread, without any lock.
        notify: called after a post if the reader has not been notified yet.

    Attributes:
        batches: the waiting batches: the items of each post, their cost, and the function to call after them.
        last: the items that are being handled; or items that were not posted and that the reader will handle
            right after its turn (see `Channel.on_ready`). Written by the thread that handles them.
    """

    __slots__ = (
        "_ahead", "_low", "_notify", "_posted", "_taken", "batches", "handle", "is_scheduled", "last",
    )

    def __init__(self, handle: Callable[[Any], object], notify: Callable[[Inbox], None]) -> None:
        self.handle = handle
        self._notify = notify
        # A list, because an empty deque takes 0.75 KiB, and most connections are idle.
        self.batches: list[_Batch] = []
        # Older batches that the reader took at once, latest first. While any are left, `batches` has some.
        self._ahead: list[_Batch] | None = None
        self._posted = 0  # written by the thread that posts
        self._taken = 0  # written by the reader
        self.last: Sequence[Any] = ()
        self._low: tuple[int, Callable[[], object]] | None = None  # set by the poster, cleared by either
        self.is_scheduled = False  # set by the poster, cleared by the reader before it looks

    @property
    def backlog(self) -> int:
        """The total cost of the waiting items, in the units of `post`."""
        return self._posted - self._taken

    @property
    def has_backlog(self) -> bool:
        """True if any items are waiting."""
        return bool(self.batches)

    def post(self, items: Sequence[Any], cost: int = 0, after: Callable[[], object] | None = None) -> int:
        """Add items at the end.

        Args:
            items: the items to handle.
            cost: what the items count for in `backlog`.
            after: called on the reader's thread when the items have been handled.

        Returns:
            The new backlog.
        """
        self._posted += cost
        self.batches.append((items, cost, after))
        if not self.is_scheduled:
            self.is_scheduled = True
            self._notify(self)
        return self._posted - self._taken

    def take(self) -> tuple[Sequence[Any], Callable[[], object] | None] | None:
        """Return the oldest items and the function to call after them, or None. For the thread that takes."""
        if not self.batches:
            self.last = ()
            return None
        items, cost, after = self._oldest()
        self.last = items
        self._taken += cost
        if self._low is not None:
            self._check_if_low()
        return items, after

    def _oldest(self) -> _Batch:
        """Remove and return the oldest batch. Call this only if there is one."""
        if self._ahead:
            return self._ahead.pop()
        batches = self.batches
        if len(batches) > SHORT:
            self._ahead = batches[SHORT - 1 : 0 : -1]
            del batches[1:SHORT]
        return batches.pop(0)

    def reset_after_fork(self) -> None:
        """Drop all items in the child of a fork, and the rest of the current batch: the parent handles them.

        The inbox's owner calls this.
        """
        if isinstance(self.last, list):
            self.last.clear()
        self.batches.clear()
        self._ahead = None

    def call_when_low(self, backlog: int, function: Callable[[], object]) -> None:
        """Call a function when the backlog has fallen to a limit. For the thread that posts.

        The function is called once or, rarely, twice; on either thread, and possibly immediately.
        """
        self._low = (backlog, function)
        self._check_if_low()

    def _check_if_low(self) -> None:
        low = self._low
        if low is not None and self.backlog <= low[0]:
            self._low = None
            low[1]()

    def deliver(self, batches: int = BATCHES_PER_DELIVERY) -> bool:
        """Handle at most `batches` batches. Return whether more are waiting."""
        waiting = self.batches
        while waiting:
            if not batches:
                return True
            batches -= 1
            # The same as `take`, without the call.
            is_last = len(waiting) == 1 and not self._ahead
            items, cost, after = waiting.pop(0) if is_last else self._oldest()
            self.last = items
            self._taken += cost
            if self._low is not None:
                self._check_if_low()
            try:
                if items:
                    self.handle(items)
            finally:  # the step that follows a final event must happen in any case
                if after is not None:
                    after()
        self.last = ()
        return False
