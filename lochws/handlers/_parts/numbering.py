"""Numbering: the numbered messages of one stream, in order, with those that are held until they fit."""

from __future__ import annotations

from bisect import insort
from collections import deque
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

#: The most gaps of a stream that are remembered, to tell a late message from a duplicate.
_MAX_GAPS = 100
#: Numbers are below this, and not below its negative. A larger one is a server's mistake, after which all
#: later messages would count as duplicates, and its digits would take time.
NUMBER_LIMIT = 2**64


class Place(Enum):
    """The place of a message in its stream: `NEXT` continues it, and `AHEAD` leaves a gap."""

    NEXT = "next"
    DUPLICATE = "duplicate"
    LATE = "late"
    AHEAD = "ahead"


class Held(NamedTuple):
    """A message that is held: its first and last number, its turn of arrival, its size and the message."""

    first: int
    last: int
    turn: int
    size: int
    item: Any


class Numbering(Generic[T]):
    """The order of one stream. Pure; for one thread at a time.

    A message has a first and a last number, which are equal unless it combines several changes. It continues
    the stream if it contains the number after the last one.

    Attributes:
        last: the last number of the stream so far, or None if it has not begun.
        newest: the highest number of a message that was held since the stream was last complete, or None.
        held: the messages that are held, in the order of their numbers.
        held_bytes: their sizes together.
    """

    __slots__ = ("_gaps", "_turn", "held", "held_bytes", "last", "newest")

    def __init__(self, last: int | None = None) -> None:
        self.last = last
        self.newest: int | None = None
        self.held: list[Held] = []
        self.held_bytes = 0
        self._gaps: deque[tuple[int, int]] = deque(maxlen=_MAX_GAPS)
        self._turn = 0

    @property
    def is_complete(self) -> bool:
        """True if no message is held, and the stream has reached the highest number that was held."""
        behind = self.newest is not None and (self.last is None or self.last < self.newest)
        return not self.held and not behind

    @property
    def is_missing_next(self) -> bool:
        """True if messages are held, and those that come before them are missing."""
        return bool(self.held) and (self.last is None or self.held[0].first > self.last + 1)

    def place(self, first: int, last: int) -> Place:
        """Return the place of a message. The stream must have begun."""
        now = self.last
        assert now is not None
        if last > now:
            return Place.NEXT if first <= now + 1 else Place.AHEAD
        if any(low <= last and first <= high for low, high in self._gaps):
            return Place.LATE
        return Place.DUPLICATE

    def fill(self, first: int, last: int) -> None:
        """Note that a late message has arrived, so that another copy of it counts as a duplicate."""
        parts = []
        for low, high in self._gaps:
            parts += [(low, min(high, first - 1)), (max(low, last + 1), high)]
        self._gaps.clear()
        self._gaps.extend((low, high) for low, high in parts if low <= high)

    def begin_with(self, first: int, last: int) -> None:
        """Begin with a message. Messages that precede it count as late, not as duplicates."""
        self.begin(last)
        self._gaps.append((-NUMBER_LIMIT, first - 1))

    def skip_to(self, first: int) -> None:
        """Accept a gap: continue with the message that begins with this number."""
        assert self.last is not None
        self._gaps.append((self.last + 1, first - 1))
        self.last = first - 1

    def hold(self, first: int, last: int, size: int, item: T) -> None:
        """Hold a message."""
        self._turn += 1
        insort(self.held, Held(first, last, self._turn, size, item), key=lambda held: held[:3])
        self.held_bytes += size
        self.newest = last if self.newest is None else max(self.newest, last)

    def pop_oldest(self) -> Held | None:
        """Remove and return the held message with the lowest numbers, for want of room; None if none is."""
        return self._pop() if self.held else None

    def next_held(self) -> tuple[Place, Held] | None:
        """Remove and return the next held message and its place, or None if the next one is missing.

        A message that is `Place.NEXT` continues the stream with that.
        """
        if not self.held or self.last is None:
            return None
        head = self.held[0]
        place = self.place(head.first, head.last)
        if place is Place.AHEAD:
            return None
        if place is Place.NEXT:
            self.last = head.last
        return place, self._pop()

    def completed(self) -> None:
        """Note that the stream is complete again."""
        self.newest = None

    def begin(self, last: int | None) -> None:
        """Begin anew after this number, for instance that of a snapshot. Held messages stay."""
        self.last = last
        self._gaps.clear()

    def clear(self) -> list[Held]:
        """Remove and return all held messages, whose connection has ended."""
        held, self.held = self.held, []
        self.newest, self.held_bytes = None, 0
        return held

    def _pop(self) -> Held:
        head = self.held.pop(0)
        self.held_bytes -= head.size
        return head


def as_range(numbers: object) -> tuple[int, int] | None:
    """Return the first and the last number of a message, or None if the value is not such numbers."""
    pair = numbers if isinstance(numbers, (tuple, list)) else (numbers, numbers)
    if len(pair) != 2 or not all(isinstance(one, int) and not isinstance(one, bool) for one in pair):
        return None
    first, last = map(int, pair)
    return (first, last) if -NUMBER_LIMIT <= first <= last < NUMBER_LIMIT else None
