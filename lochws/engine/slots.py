"""Slots: a limit on concurrent attempts, and the order in which others wait for one."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from itertools import count

from ..system.deadline import Deadline
from ..system.steps import Steps, Wait


class _Entry:
    """One attempt that waits for a slot."""

    __slots__ = ("deadline", "host", "is_admitted", "is_doubtful", "is_gone", "waits")

    def __init__(self, host: Hashable, is_doubtful: bool, deadline: Deadline) -> None:
        self.host = host
        self.is_doubtful = is_doubtful
        self.deadline = deadline
        self.is_admitted = False
        self.is_gone = False
        self.waits = False


class Slots:
    """A limit on the attempts of one loop that are under way. For the baton holder.

    Attempts of apps whose last one failed get at most half of the slots, so that hosts that do not answer
    leave room for others. Of the attempts that wait, those of apps that have not failed are first, and their
    hosts take turns; then follow the others, beginning with the one that failed least recently.

    Args:
        size: the number of slots.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._running = 0
        self._doubtful = 0  # of the running ones
        self._number = count()
        self._waiting: list[tuple[float, int, int, _Entry]] = []  # a heap; the next one is first
        self._round = 0  # of the last one that has not failed; each host has one turn in a round
        self._rounds: dict[Hashable, int] = {}  # the last round of each host that waits

    def enter(self, host: Hashable, failed_at: float | None, deadline: Deadline) -> Steps[bool]:
        """Wait for a slot, and take it. Call `leave` at the end of the attempt.

        Args:
            host: the host of the attempt.
            failed_at: when the last attempt failed, in monotonic seconds; None if it did not.
            deadline: limits the wait; it is woken when there is a slot.

        Returns:
            The argument for `leave`.

        Raises:
            Cancelled: the deadline was cancelled.
            TimeoutError: the deadline has passed.
        """
        entry = _Entry(host, failed_at is not None, deadline)
        if failed_at is None:
            turn = self._rounds[host] = max(self._round, self._rounds.get(host, -1)) + 1
            place = (float("-inf"), turn, next(self._number), entry)
        else:
            place = (failed_at, 0, next(self._number), entry)
        heapq.heappush(self._waiting, place)
        self._admit()
        try:
            while not entry.is_admitted:
                entry.waits = True
                yield Wait((), deadline.until())
        except BaseException:
            entry.is_gone = True
            if entry.is_admitted:
                self.leave(entry.is_doubtful)
            raise
        return entry.is_doubtful

    def leave(self, is_doubtful: bool) -> None:
        """Give a slot back.

        Args:
            is_doubtful: the result of `enter`.
        """
        self._running -= 1
        self._doubtful -= is_doubtful
        self._admit()

    def _admit(self) -> None:
        """Give the free slots to those that are next."""
        while self._waiting and self._running < self._size:
            entry = self._waiting[0][3]
            if entry.is_doubtful and self._doubtful >= max(1, self._size // 2):
                return  # only doubtful attempts are waiting
            _, turn, _, _ = heapq.heappop(self._waiting)
            if not entry.is_doubtful:
                self._round = max(self._round, turn)
                if self._rounds.get(entry.host) == turn:
                    del self._rounds[entry.host]
            if entry.is_gone:
                continue
            self._running += 1
            self._doubtful += entry.is_doubtful
            entry.is_admitted = True
            if entry.waits:
                entry.deadline.wake()
