"""Slots: a limit on concurrent attempts, and the order in which others wait for one."""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from itertools import count
from time import monotonic

from ..system.deadline import Deadline
from ..system.steps import Steps, Wait
from .tasks import Tasks

#: Seconds between two looks for attempts whose server is silent. It is silent if the attempt is in the same
#: wait at two looks in a row.
LOOK_SECONDS = 0.05
#: The loop is too busy for more attempts if, at a look, more tasks are about to be resumed than the number of
#: slots divided by this.
_BUSY_PART = 8


class Slot:
    """One attempt, from its wait for a slot to its end. Only `Slots` uses it."""

    __slots__ = ("deadline", "failed_at", "host", "is_admitted", "number", "seen", "waiting", "waits")

    def __init__(
        self, host: Hashable, failed_at: float | None, deadline: Deadline, waiting: Callable[[], Wait | None]
    ) -> None:
        self.host = host
        self.failed_at = failed_at
        self.deadline = deadline
        self.waiting = waiting
        self.number = 0
        self.is_admitted = False
        self.seen: Wait | None = None  # the wait that the last look found
        self.waits = False


class Slots:
    """A limit on the attempts of one loop that are under way. For the baton holder.

    Of the attempts that wait, those of apps whose last attempt has not failed are first, and their hosts take
    turns; then follow the others, beginning with the one that failed least recently. They get at most half of
    the slots.

    An attempt whose server is silent lends its slot, and goes on. Lent slots are for hosts without such
    attempts, until half of the descriptors that the process may have are used up. So hosts that do not
    answer, however many, leave room for others. A slow server gets few more attempts at a time: only those
    admitted before one of them was found to be silent.

    Args:
        size: the number of slots.
        tasks: the tasks of the loop.
    """

    def __init__(self, size: int, tasks: Tasks) -> None:
        self._size = size
        self._tasks = tasks
        self._holders: dict[Slot, None] = {}  # the attempts that have a slot
        self._doubtful = 0  # how many of them failed the last time
        self._lent = 0  # the number of attempts without a slot
        self._silent: Counter[Hashable] = Counter()  # the same, by host
        self._number = count()
        # Those that wait: by host, beginning with the host whose turn is next; and those that failed.
        self._turns: OrderedDict[Hashable, OrderedDict[Slot, None]] = OrderedDict()
        self._failed: list[tuple[float, int, Slot]] = []
        self._failed_hosts: Counter[Hashable] = Counter()
        self._is_looking = False

    def enter(
        self,
        host: Hashable,
        failed_at: float | None,
        deadline: Deadline,
        waiting: Callable[[], Wait | None] = lambda: None,
    ) -> Steps[Slot]:
        """Wait for a slot, and take it. Call `leave` at the end of the attempt.

        Args:
            host: the host of the attempt.
            failed_at: when the last attempt failed, in monotonic seconds; None if it did not.
            deadline: limits the wait; it is woken when there is a slot.
            waiting: returns the attempt's wait, if it is waiting.

        Returns:
            The argument for `leave`.

        Raises:
            Cancelled: the deadline was cancelled.
            TimeoutError: the deadline has passed.
        """
        slot = Slot(host, failed_at, deadline, waiting)
        slot.number = next(self._number)
        if failed_at is None:
            self._turns.setdefault(host, OrderedDict())[slot] = None
        else:
            insort(self._failed, (failed_at, slot.number, slot))
            self._failed_hosts[host] += 1
        self._admit()
        try:
            while not slot.is_admitted:
                slot.waits = True
                yield Wait((), deadline.until())
        except BaseException:
            if slot.is_admitted:
                self.leave(slot)
            else:
                self._remove(slot)
            raise
        return slot

    def leave(self, slot: Slot) -> None:
        """Give a slot back.

        Args:
            slot: the result of `enter`.
        """
        if slot in self._holders:
            self._let_go(slot)
        else:  # it was lent
            self._lent -= 1
            _decrease(self._silent, slot.host)
        self._admit()

    def _admit(self) -> None:
        """Give the free slots to those that are next."""
        while (slot := self._next()) is not None:
            self._remove(slot)
            if slot.host in self._turns and slot.failed_at is None:
                self._turns.move_to_end(slot.host)
            slot.is_admitted = True
            self._holders[slot] = None
            self._doubtful += slot.failed_at is not None
            if slot.waits:
                slot.deadline.wake()
        if not self._is_looking and self._has_eager:
            self._is_looking = True
            self._tasks.add(self._look, self)

    def _next(self) -> Slot | None:
        """Return the attempt that gets a slot now, or None."""
        free = self._size - len(self._holders)
        if free <= 0:
            return None
        shunned: Counter[Hashable] | tuple[()] = ()
        if free <= self._lent:  # all free slots are lent
            shunned = self._silent
            if len(self._holders) + self._lent >= _share_of_descriptors():
                return None
        for host, line in self._turns.items():
            if host not in shunned:
                return next(iter(line))
        if self._doubtful >= max(1, self._size // 2) or all(host in shunned for host in self._failed_hosts):
            return None
        return next(slot for _, _, slot in self._failed if slot.host not in shunned)

    def _remove(self, slot: Slot) -> None:
        """Remove an attempt from those that wait."""
        host = slot.host
        if slot.failed_at is not None:
            # Compares no slots, since no two have the same number.
            del self._failed[bisect_left(self._failed, (slot.failed_at, slot.number, slot))]
            _decrease(self._failed_hosts, host)
            return
        line = self._turns[host]
        del line[slot]
        if not line:
            del self._turns[host]

    def _let_go(self, slot: Slot) -> None:
        del self._holders[slot]
        self._doubtful -= slot.failed_at is not None

    @property
    def _has_eager(self) -> bool:
        """True if an attempt waits that may use a lent slot, because its host has no silent attempt."""
        return any(host not in self._silent for hosts in (self._turns, self._failed_hosts) for host in hosts)

    def _look(self, _wake: Callable[[], None]) -> Steps[None]:
        """Have silent attempts lend their slots while others wait that may use them. A task of the loop."""
        try:
            while self._has_eager:
                until = monotonic() + LOOK_SECONDS
                yield Wait((), until)
                if monotonic() < until:
                    return  # the loop has failed
                is_busy = self._tasks.backlog > self._size / _BUSY_PART
                for slot in list(self._holders):
                    wait = slot.waiting()
                    if wait is not None and wait is slot.seen and not is_busy:
                        self._let_go(slot)
                        self._lent += 1
                        self._silent[slot.host] += 1
                    slot.seen = wait
                self._admit()
        finally:
            self._is_looking = False


def _decrease(counts: Counter[Hashable], host: Hashable) -> None:
    counts[host] -= 1
    if not counts[host]:
        del counts[host]


def _share_of_descriptors() -> float:
    """Return at how many attempts under way no more slots are lent: half of the limit of descriptors."""
    try:
        import resource  # noqa: PLC0415  not on Windows, and only many silent hosts need it
    except ImportError:
        return sys.maxsize
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft // 2
