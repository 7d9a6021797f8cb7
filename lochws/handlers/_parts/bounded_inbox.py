"""A bounded inbox: values that wait, in order, and a rule for what happens when it is full.

The rules are the same for everything that queues events:

* ``"pause"``: the new value waits until there is room. In a handler that holds the server back.
* ``"drop_oldest"``: the value that has waited longest is dropped.
* ``"latest"``: the oldest value with the same key is dropped, or else one of another key of which newer ones
  wait. So every key keeps its latest value. If there is no room for one value of each key, the new one waits.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from ...options import check_choice, check_range
from ...system.waits import Waiters, slice_of

WhenFull: TypeAlias = Literal["pause", "drop_oldest", "latest"]
WHEN_FULL: tuple[WhenFull, ...] = ("pause", "drop_oldest", "latest")

_T = TypeVar("_T")
_Result = TypeVar("_Result")


class Turn(Generic[_T]):
    """The values of one key that wait. While one of them is in use, the others stay where they are.

    Attributes:
        value: the one in use.
    """

    __slots__ = ("in_use", "key", "value", "waiting")

    value: _T

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.waiting: deque[tuple[int, int, _T]] = deque()  # number in the order of arrival, cost, value
        self.in_use = False


class KeyedQueue(Generic[_T]):
    """Values in the order of their arrival, and by key. Each step takes the same time however many there are.

    For one thread at a time.

    Attributes:
        cost: the sum of the costs of all values.
    """

    def __init__(self) -> None:
        self.cost = 0
        self._turns: dict[Hashable, Turn[_T]] = {}  # keys of which a value waits or is in use
        # These are linked lists: finding the first of a dict takes longer and longer if it is always removed.
        self._ready: OrderedDict[Turn[_T], None] = OrderedDict()  # keys of which no value is in use, in turn
        self._crowded: OrderedDict[Turn[_T], None] = OrderedDict()  # keys of which more than one value waits
        self._order: OrderedDict[int, Turn[_T]] = OrderedDict()  # the key of each value, oldest value first
        self._number = 0

    def __len__(self) -> int:
        return len(self._order)

    def put(self, key: Hashable, cost: int, value: _T) -> None:
        """Append a value."""
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = Turn(key)
            self._ready[turn] = None
        self._number += 1
        turn.waiting.append((self._number, cost, value))
        self._order[self._number] = turn
        self.cost += cost
        if len(turn.waiting) > 1:
            self._crowded[turn] = None

    def take_turn(self) -> Turn[_T] | None:
        """Take the oldest value of the next key, and keep the others of that key until `end_turn`."""
        while self._ready:
            turn, _ = self._ready.popitem(last=False)
            if turn.waiting:
                turn.in_use = True
                turn.value = self._remove(turn)
                return turn
            del self._turns[turn.key]  # all of its values were dropped
        return None

    def end_turn(self, turn: Turn[_T]) -> None:
        """Let the next value of this key be taken."""
        turn.in_use = False
        if turn.waiting:
            self._ready[turn] = None
        elif self._turns.get(turn.key) is turn:
            del self._turns[turn.key]

    def take_oldest(self) -> _T | None:
        """Take the value that has waited longest, whatever its key; None if nothing waits."""
        turn = next(iter(self._order.values()), None)
        if turn is None:
            return None
        value = self._remove(turn)
        if not (turn.waiting or turn.in_use):
            del self._ready[turn], self._turns[turn.key]
        return value

    def drop_outdated(self, key: Hashable) -> _T | None:
        """Drop the oldest value of this key, or else of a key of which several wait; else None.

        A key keeps its turn even if its only value is dropped: another one is about to replace it.
        """
        turn = self._turns.get(key)
        if turn is None or not turn.waiting:
            turn = next(iter(self._crowded), None)
        return None if turn is None else self._remove(turn)

    def values(self) -> list[_T]:
        """Return all that waits, oldest first."""
        waiting = (entry for turn in self._turns.values() for entry in turn.waiting)
        return [value for _, _, value in sorted(waiting, key=lambda entry: entry[0])]

    def clear(self) -> list[_T]:
        """Drop all that waits, and return it."""
        dropped = self.values()
        in_use = [turn for turn in self._turns.values() if turn.in_use]
        for turn in in_use:
            turn.waiting.clear()
        self._turns = {turn.key: turn for turn in in_use}
        self._ready.clear()
        self._crowded.clear()
        self._order.clear()
        self.cost = 0
        return dropped

    def _remove(self, turn: Turn[_T]) -> _T:
        number, cost, value = turn.waiting.popleft()
        del self._order[number]
        self.cost -= cost
        if len(turn.waiting) == 1:
            del self._crowded[turn]
        return value


class BoundedInbox(Generic[_T]):
    """Values that wait, within bounds. Any thread, signal handler or finalizer may call any method.

    Values are taken in one of two ways: in turns, so that of each key one is in use at a time (`take_turn`);
    or in batches, whose values keep their room until `end_batch`, in case they have to be used again.

    The lock is held for a few steps only, and never while a user's code is called. A signal handler or a
    finalizer that interrupts its own thread in the middle of a step owns the lock already; then the step that
    it asks for is done right after the interrupted one.

    Args:
        when_full: one of `WHEN_FULL`.
        max_events: how many values may wait.
        max_bytes: how much the values that wait may cost together. One value may always wait.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Attributes:
        lock: guards everything, and whatever else its user has to keep consistent with it. Reentrant.
        changed: notified whenever there may be more room, or a value, or the end.
        batch: the values taken last as a batch, until `end_batch`.
        is_closed: whether `close` was called.
    """

    def __init__(self, when_full: WhenFull, max_events: int, max_bytes: int) -> None:
        check_choice("when_full", when_full, WHEN_FULL)
        check_range("max_events", max_events, 1)
        check_range("max_bytes", max_bytes, 1)
        self._when_full, self._max_events, self._max_bytes = when_full, max_events, max_bytes
        self.lock = threading.RLock()
        self.changed = Waiters(self.lock)
        self.batch: list[_T] = []
        self.is_closed = False
        self._queue: KeyedQueue[_T] = KeyedQueue()
        self._batch_cost = 0
        self._is_busy = False  # a step is being done
        self._later: deque[Callable[[], object]] = deque()  # steps that were asked for meanwhile

    def __len__(self) -> int:
        """The number of waiting values, those of the batch included."""
        return len(self._queue) + len(self.batch)

    @property
    def cost(self) -> int:
        """The cost of the waiting values, those of the batch included."""
        return self._queue.cost + self._batch_cost

    def values(self) -> list[_T]:
        """Return all that waits, oldest first, the batch included."""
        values = self._do(self._values, None)
        return self._values() if values is None else values

    def is_full(self, cost: int) -> bool:
        """Return whether there is no room for a value of this cost."""
        return len(self) >= self._max_events or (len(self) > 0 and self.cost + cost > self._max_bytes)

    def offer(self, value: _T, cost: int, key: Hashable = None) -> tuple[bool, list[_T]]:
        """Append a value if there is room, or if the rule makes room.

        Returns:
            Whether that is settled; if not, the value has to wait for room and be offered again. And the
            values that were dropped: others, or, if the inbox is closed, this one.
        """
        result = self._do(self._offer, self._append, value, cost, key)
        return (True, []) if result is None else result  # what interrupts a step cannot wait for room

    def append(self, value: _T, cost: int, key: Hashable = None) -> None:
        """Append a value whether there is room or not, for a caller that must not wait."""
        self._do(self._append, self._append, value, cost, key)

    def wait_for_room(self, cost: int, timeout: float | None = None) -> None:
        """Wait until there may be room for a value of this cost, or the inbox is closed.

        Returns early at times: this is for a loop that offers the value again.
        """
        with self.lock:
            if self.is_full(cost) and not (self.is_closed or self._is_busy):
                self.changed.wait(slice_of(timeout))

    def take_turn(self) -> Turn[_T] | None:
        """Take the oldest value of the next key of which none is in use; None if there is no such key."""
        return self._do(self._take_turn, None)

    def end_turn(self, turn: Turn[_T]) -> None:
        """Let the next value of a key be taken."""
        self._do(self._end_turn, self._end_turn, turn)

    def take_batch(self, count: int) -> list[_T]:
        """Return the batch that has not ended yet, or else up to `count` of the oldest values."""
        return self._do(self._take_batch, None, count) or []

    def end_batch(self) -> None:
        """Give the room of the batch to others: its values are done with."""
        self._do(self._end_batch, self._end_batch)

    def close(self) -> list[_T]:
        """Drop everything that waits, except for the batch, and everything that is offered from now on.

        Returns:
            The dropped values.
        """
        return self._do(self._close, self._close) or []

    # Steps, one at a time, under the lock.

    def _do(
        self, step: Callable[..., _Result], later: Callable[..., object] | None, *arguments: Any
    ) -> _Result | None:
        """Do a step, or, if this thread is in the middle of another one, leave `later` to that one."""
        with self.lock:
            if self._is_busy:
                if later is not None:
                    self._later.append(partial(later, *arguments))
                return None
            self._is_busy = True
            try:
                result = step(*arguments)
            finally:
                self._is_busy = False
            while self._later:
                self._do(self._later.popleft(), None)
            return result

    def _values(self) -> list[_T]:
        return [*self.batch, *self._queue.values()]

    def _offer(self, value: _T, cost: int, key: Hashable) -> tuple[bool, list[_T]]:
        dropped: list[_T] = []
        while not self.is_closed and self.is_full(cost):
            if self._when_full == "pause":
                return False, dropped
            drop_oldest = self._when_full == "drop_oldest"
            one = self._queue.take_oldest() if drop_oldest else self._queue.drop_outdated(key)
            if one is None:
                return False, dropped
            dropped.append(one)
        if self.is_closed:
            dropped.append(value)
        else:
            self._append(value, cost, key)
        return True, dropped

    def _append(self, value: _T, cost: int, key: Hashable) -> None:
        if not self.is_closed:
            self._queue.put(key, cost, value)
            self.changed.notify_all()

    def _take_turn(self) -> Turn[_T] | None:
        turn = self._queue.take_turn()
        self.changed.notify_all()
        return turn

    def _end_turn(self, turn: Turn[_T]) -> None:
        self._queue.end_turn(turn)
        self.changed.notify_all()

    def _take_batch(self, count: int) -> list[_T]:
        if not self.batch:
            before = self._queue.cost
            values = (self._queue.take_oldest() for _ in range(min(count, len(self._queue))))
            self.batch = [value for value in values if value is not None]
            self._batch_cost = before - self._queue.cost
        return self.batch

    def _end_batch(self) -> None:
        self.batch, self._batch_cost = [], 0
        self.changed.notify_all()

    def _close(self) -> list[_T]:
        self.is_closed = True
        dropped = self._queue.clear()
        self.changed.notify_all()
        return dropped
