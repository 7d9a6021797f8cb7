"""Timers: a heap of deadlines with lazy deletion."""

from __future__ import annotations

import heapq
from itertools import count
from math import ceil, frexp, ldexp
from typing import Generic, TypeVar

#: How many deleted entries the heap may hold, besides one per timer, before they are cleared away.
STALE_TIMERS = 64

Owner = TypeVar("Owner")


class Timers(Generic[Owner]):
    """At most one deadline per owner, in monotonic seconds. For one thread at a time.

    Attributes:
        next: when `take` should be called next; None for never. There may be nothing to take then.
    """

    __slots__ = ("_due", "_entries", "_number", "_wanted", "next")

    def __init__(self) -> None:
        # An entry is valid while _due has its number.
        self._entries: list[tuple[float, int]] = []
        self._due: dict[int, Owner] = {}
        self._wanted: dict[Owner, tuple[float, int]] = {}  # the deadline before rounding
        self._number = count()
        self.next: float | None = None

    def set(self, owner: Owner, when: float, now: float) -> None:
        """Set the owner's deadline, rounded up a little so that other owners can share it.

        An earlier deadline of the owner is kept, and the owner sets a new one when it has passed: deadlines
        are postponed much more often than they pass.

        Args:
            owner: the owner of the deadline.
            when: the deadline.
            now: the time, from which the rounding is measured.
        """
        earlier = self._wanted.get(owner)
        if earlier is not None:
            if earlier[0] <= when:
                return
            del self._due[earlier[1]]
        number = next(self._number)
        self._wanted[owner] = when, number
        self._due[number] = owner
        heapq.heappush(self._entries, (_rounded(when, now), number))
        if len(self._entries) > 2 * len(self._due) + STALE_TIMERS:
            self._entries = [entry for entry in self._entries if entry[1] in self._due]
            heapq.heapify(self._entries)
        self.next = self._entries[0][0]

    def remove(self, owner: Owner) -> None:
        """Delete the owner's deadline, if there is one."""
        entry = self._wanted.pop(owner, None)
        if entry is not None:
            del self._due[entry[1]]
            while self._entries and self._entries[0][1] not in self._due:
                heapq.heappop(self._entries)  # so that `next` names no deadline of a closed connection
            self._look()

    def take(self, now: float) -> list[Owner]:
        """Return the owners whose deadline has passed, in order, and delete their deadlines."""
        due = []
        while self._entries and self._entries[0][0] <= now:
            _, number = heapq.heappop(self._entries)
            owner = self._due.pop(number, None)
            if owner is not None:
                del self._wanted[owner]
                due.append(owner)
        self._look()
        return due

    def _look(self) -> None:
        self.next = self._entries[0][0] if self._entries else None


def _rounded(when: float, now: float) -> float:
    """Round a deadline up, by less than 1/512 of the time until then, to one that other owners share.

    So thousands of connections send their pings in groups, and the loop need not wake up for each of them.
    """
    if when <= now:
        return when
    step = ldexp(1.0, frexp(when - now)[1] - 10)
    return ceil(when / step) * step
