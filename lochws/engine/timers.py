"""When whom to call: a heap of moments with lazy deletion; knows nothing of what it calls."""

from __future__ import annotations

import heapq
from itertools import count
from math import ceil, frexp, ldexp
from typing import Generic, TypeVar

#: Entries that count no more are cleared away when there are more of them than this.
STALE_TIMERS = 64

Owner = TypeVar("Owner")


class Timers(Generic[Owner]):
    """At most one moment, in monotonic seconds, for each owner. One thread at a time."""

    def __init__(self) -> None:
        # An entry counts while its number stands in _due.
        self._entries: list[tuple[float, int]] = []
        self._due: dict[int, Owner] = {}
        self._wanted: dict[Owner, tuple[float, int]] = {}  # the moment as it was given
        self._number = count()

    @property
    def next(self) -> float | None:
        """When to look again, perhaps in vain; None for never."""
        return self._entries[0][0] if self._entries else None

    def set(self, owner: Owner, when: float, now: float) -> None:
        """Let the owner be due at a moment, or shortly after it, as `_rounded` says.

        Where it is due earlier already that stays: it is asked again then.
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

    def remove(self, owner: Owner) -> None:
        """Forget the owner."""
        entry = self._wanted.pop(owner, None)
        if entry is not None:
            del self._due[entry[1]]
            while self._entries and self._entries[0][1] not in self._due:
                heapq.heappop(self._entries)  # nobody looks in vain for who is gone

    def take(self, now: float) -> list[Owner]:
        """Those that are due, in order; they are due no more."""
        due = []
        while self._entries and self._entries[0][0] <= now:
            _, number = heapq.heappop(self._entries)
            owner = self._due.pop(number, None)
            if owner is not None:
                del self._wanted[owner]
                due.append(owner)
        return due


def _rounded(when: float, now: float) -> float:
    """A moment a little later, by less than 1/512 of the time until then, that others have in common.

    Thousands of connections then ping by dozens, and nobody has to wake up for each of them.
    """
    if when <= now:
        return when
    step = ldexp(1.0, frexp(when - now)[1] - 10)
    return ceil(when / step) * step
