"""A bounded inbox: waiting values, in order, and a rule for what happens when it is full.

The rules are the same for all handlers that queue events:

* ``"pause"``: the new value waits until there is room. In a handler this slows the server down.
* ``"drop_oldest"``: the value that has waited longest is dropped.
* ``"latest"``: the oldest value with the same key is dropped; failing that, one of another key that has newer
  values waiting. So every key keeps its latest value. If there is no room for one value per key, the new one
  waits.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from ..options import check_choice, check_range
from ..system.control import control_lock
from ..system.waits import SLICE_SECONDS, Waiters, slice_of

WhenFull: TypeAlias = Literal["pause", "drop_oldest", "latest"]
WHEN_FULL: tuple[WhenFull, ...] = ("pause", "drop_oldest", "latest")

_T = TypeVar("_T")
_Result = TypeVar("_Result")


class Turn(Generic[_T]):
    """The waiting values of one key. While one of them is in use, the others stay in the queue.

    Attributes:
        value: the value in use.
    """

    __slots__ = ("in_use", "key", "value", "waiting")

    value: _T

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.waiting: deque[tuple[int, int, _T]] = deque()  # arrival number, cost, value
        self.in_use = False


class KeyedQueue(Generic[_T]):
    """Values in order of arrival, and by key. Each operation takes constant time.

    For use by one thread at a time.

    Attributes:
        cost: the sum of the costs of all values.
    """

    def __init__(self) -> None:
        self.cost = 0
        self._turns: dict[Hashable, Turn[_T]] = {}  # keys with a value waiting or in use
        # OrderedDict is a linked list; in a dict, finding the first key gets slower if it is always removed.
        self._ready: OrderedDict[Turn[_T], None] = OrderedDict()  # keys with no value in use, in turn
        self._crowded: OrderedDict[Turn[_T], None] = OrderedDict()  # keys with more than one value waiting
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
            del self._turns[turn.key]  # all its values were dropped
        return None

    def end_turn(self, turn: Turn[_T]) -> None:
        """Allow the next value of this key to be taken."""
        turn.in_use = False
        if turn.waiting:
            self._ready[turn] = None
        elif self._turns.get(turn.key) is turn:
            del self._turns[turn.key]

    def take_oldest(self) -> _T | None:
        """Take the value that has waited longest, whatever its key; None if the queue is empty."""
        turn = next(iter(self._order.values()), None)
        if turn is None:
            return None
        value = self._remove(turn)
        if not (turn.waiting or turn.in_use):
            del self._ready[turn], self._turns[turn.key]
        return value

    def drop_outdated(self, key: Hashable) -> _T | None:
        """Drop and return the oldest value of this key, else of a key with several; None if there is none.

        A key keeps its turn even if its only value is dropped, because another is about to replace it.
        """
        turn = self._turns.get(key)
        if turn is None or not turn.waiting:
            turn = next(iter(self._crowded), None)
        return None if turn is None else self._remove(turn)

    def values(self) -> list[_T]:
        """Return all waiting values, oldest first."""
        waiting = (entry for turn in self._turns.values() for entry in turn.waiting)
        return [value for _, _, value in sorted(waiting, key=lambda entry: entry[0])]

    def clear(self) -> list[_T]:
        """Drop and return all waiting values."""
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


class PlainQueue(Generic[_T]):
    """Values in order of arrival, all of the same key: a `KeyedQueue` without turns, at a third of the cost.

    For use by one thread at a time.

    Attributes:
        cost: the sum of the costs of all values.
    """

    def __init__(self) -> None:
        self.cost = 0
        self._waiting: deque[tuple[int, _T]] = deque()  # cost, value

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, _key: Hashable, cost: int, value: _T) -> None:
        """Append a value."""
        self._waiting.append((cost, value))
        self.cost += cost

    def take_oldest(self) -> _T | None:
        """Take the value that has waited longest; None if the queue is empty."""
        if not self._waiting:
            return None
        cost, value = self._waiting.popleft()
        self.cost -= cost
        return value

    def drop_outdated(self, _key: Hashable) -> _T | None:
        """Drop and return the oldest value; None if the queue is empty."""
        return self.take_oldest()

    def values(self) -> list[_T]:
        """Return all values, oldest first."""
        return [value for _, value in self._waiting]

    def clear(self) -> list[_T]:
        """Drop and return all values."""
        dropped = self.values()
        self._waiting.clear()
        self.cost = 0
        return dropped


class BoundedInbox(Generic[_T]):
    """A bounded queue of waiting values. Any thread, signal handler or finalizer may call any method.

    Values are taken in one of three ways: in turns, so that only one value per key is in use at a time
    (`take_turn`); in batches, which count towards the bounds until `end_batch`, in case they have to be used
    again; or one by one (`take`).

    The lock is the control lock: a finalizer may run in the middle of a step and want that one, while another
    thread that holds it runs a finalizer that takes a step. It is held only briefly, and never while user
    code runs. A signal handler or a finalizer that interrupts a step on its own thread already
    owns the lock; its own step is then done right after the interrupted one.

    Args:
        when_full: one of `WHEN_FULL`.
        max_events: the maximum number of waiting values.
        max_bytes: the maximum total cost of the waiting values. A single value is accepted whatever its cost.
        by_key: whether values have different keys. If not, no turns can be taken, and everything else is
            faster.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it.

    Attributes:
        lock: the control lock. It guards this object, and what its user keeps consistent with it.
        changed: notified when there may be more room, when a value arrives, and on `close`.
        batch: the batch taken last, until `end_batch`.
        is_closed: whether `close` was called.
    """

    def __init__(
        self, when_full: WhenFull, max_events: int, max_bytes: int, *, by_key: bool = True
    ) -> None:
        check_choice("when_full", when_full, WHEN_FULL)
        check_range("max_events", max_events, 1)
        check_range("max_bytes", max_bytes, 1)
        self._when_full, self._max_events, self._max_bytes = when_full, max_events, max_bytes
        self.lock = control_lock()
        self.changed = Waiters(self.lock)
        self.batch: list[_T] = []
        self.is_closed = False
        self._queue: KeyedQueue[_T] | PlainQueue[_T] = KeyedQueue() if by_key else PlainQueue()
        self._batch_cost = 0
        self._is_low_awaited = False  # a thread is in wait_until_low
        self._is_busy = False  # a step is in progress
        self._later: deque[Callable[[], object]] = deque()  # steps requested meanwhile

    def __len__(self) -> int:
        """Return the number of waiting values, including the batch."""
        return len(self._queue) + len(self.batch)

    @property
    def cost(self) -> int:
        """The total cost of the waiting values, including the batch."""
        return self._queue.cost + self._batch_cost

    def values(self) -> list[_T]:
        """Return all waiting values, including the batch, oldest first."""
        values = self._do(self._values, None)
        return self._values() if values is None else values

    def is_full(self, cost: int) -> bool:
        """Return whether a value of this cost would exceed a bound."""
        return len(self) >= self._max_events or (len(self) > 0 and self.cost + cost > self._max_bytes)

    def offer(self, value: _T, cost: int, key: Hashable = None) -> tuple[bool, list[_T]]:
        """Append a value if there is room, or if the rule makes room.

        Returns:
            Whether the value was dealt with, and the values that were dropped: others, or this one if the
            inbox is closed. If it was not dealt with, wait for room and offer it again.
        """
        result = self._do(self._offer, self._append, value, cost, key)
        return (True, []) if result is None else result  # a call that interrupts a step cannot wait for room

    def offer_many(self, values: Sequence[tuple[_T, int, Hashable]]) -> tuple[int, list[_T]]:
        """Append values, each with its cost and key, as long as there is room or the rule makes some.

        Returns:
            How many values were dealt with, and those that were dropped, as `offer` does.
        """
        result = self._do(self._offer_many, self._append_many, values)
        return (len(values), []) if result is None else result

    def append(self, value: _T, cost: int, key: Hashable = None) -> None:
        """Append a value whether there is room or not, for a caller that must not wait."""
        self._do(self._append, self._append, value, cost, key)

    def wait_for_room(self, cost: int, timeout: float | None = None) -> None:
        """Wait until there may be room for a value of this cost, or the inbox is closed. Under the lock.

        May return early, so call it in a loop that offers the value again.
        """
        if self.is_full(cost) and not (self.is_closed or self._is_busy):
            self.changed.wait(slice_of(timeout))

    def wait_until_low(self, is_over: Callable[[], bool]) -> None:
        """Wait until at most half of the bounds is in use, the inbox is closed, or something else is over.

        A thread that waited only for the next free place would switch with the taking thread at each value.

        Args:
            is_over: tells whether to stop waiting. It is called with the lock held, so it must take no lock.
                It is asked again after each change, and every half second.
        """
        with self.lock:
            if self._is_busy:
                return
            self._is_low_awaited = True
            try:
                while not (self._is_low() or self.is_closed or is_over()):
                    self.changed.wait(SLICE_SECONDS)
            finally:
                self._is_low_awaited = False

    def take(self) -> _T | None:
        """Take the value that has waited longest, whatever its key; None if nothing is waiting."""
        return self._do(self._take, None)

    def take_turn(self) -> Turn[_T] | None:
        """Take the oldest value of the next key whose values are all free, or return None."""
        return self._do(self._take_turn, None)

    def end_turn(self, turn: Turn[_T]) -> None:
        """Allow the next value of the key to be taken."""
        self._do(self._end_turn, self._end_turn, turn)

    def take_batch(self, count: int) -> list[_T]:
        """Return the current batch, or start one with up to `count` of the oldest values."""
        return self._do(self._take_batch, None, count) or []

    def end_batch(self) -> None:
        """Discard the batch, whose values are no longer needed, and free its space."""
        self._do(self._end_batch, self._end_batch)

    def close(self) -> list[_T]:
        """Drop all waiting values except the batch, and all values offered from now on.

        Returns:
            The dropped values.
        """
        return self._do(self._close, self._close) or []

    # Steps, one at a time, under the lock.

    def _do(
        self, step: Callable[..., _Result], later: Callable[..., object] | None, *arguments: Any
    ) -> _Result | None:
        """Run a step; if it interrupts another step on this thread, queue `later` to run right after that."""
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

    def _offer_many(self, values: Sequence[tuple[_T, int, Hashable]]) -> tuple[int, list[_T]]:
        dropped: list[_T] = []
        for number, (value, cost, key) in enumerate(values):
            is_settled, others = self._offer(value, cost, key)
            dropped += others
            if not is_settled:
                return number, dropped
        return len(values), dropped

    def _append_many(self, values: Sequence[tuple[_T, int, Hashable]]) -> None:
        for value, cost, key in values:
            self._append(value, cost, key)

    def _is_low(self) -> bool:
        return len(self) <= self._max_events // 2 and self.cost <= self._max_bytes // 2

    def _take(self) -> _T | None:
        value = self._queue.take_oldest()
        if self._is_low_awaited and self._is_low():
            self.changed.notify_all()
        return value

    def _append(self, value: _T, cost: int, key: Hashable) -> None:
        if not self.is_closed:
            self._queue.put(key, cost, value)
            self.changed.notify_all()

    def _take_turn(self) -> Turn[_T] | None:
        assert isinstance(self._queue, KeyedQueue)
        turn = self._queue.take_turn()
        self.changed.notify_all()
        return turn

    def _end_turn(self, turn: Turn[_T]) -> None:
        assert isinstance(self._queue, KeyedQueue)
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
