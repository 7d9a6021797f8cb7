"""Merge: makes one stream of the messages of several connections, without duplicates and in order.

Each connection is assumed to deliver the same stream in the same order, from some point on. A connection that
*joins* an established one may be ahead of it or behind it. So its messages are held back until the two meet:
until one of them delivers a message that the other has delivered, too. From then on the first copy of each
message is passed on, and as both are gapless, so is the result, in the order of the faster one. Messages that
the joining connection delivered before that common one are dropped: they would come after a later one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from ..options import MIB
from .meter import LegMeter

T = TypeVar("T")


class _Seen:
    """A message in the window: when its first copy arrived, and which connections should have one and do."""

    __slots__ = ("at", "expected", "got")

    def __init__(self, at: float, expected: int, got: int) -> None:
        self.at = at
        self.expected = expected
        self.got = got


class _Member(Generic[T]):
    """A connection in the merge."""

    __slots__ = ("bit", "held", "held_bytes", "held_keys", "meter", "target")

    def __init__(self, bit: int, meter: LegMeter) -> None:
        self.bit = bit
        self.meter = meter
        self.held: list[tuple[Hashable, T, float, Place | None]] | None = None  # while it joins
        self.held_bytes = 0
        self.held_keys: set[Hashable] = set()
        self.target: Hashable = None  # the message it has yet to deliver to be level with the others


#: The channel of a message, and its position there. Positions of one channel can be compared.
Place = tuple[Hashable, Any]


class Merge(Generic[T]):
    """One stream of messages out of several. Pure: times are passed in. For one thread at a time.

    Args:
        window: how many keys are remembered, how many messages of a joining connection are held back, and how
            many channels have a remembered position.
        memory_of: returns the memory of a message, in bytes.
        max_bytes: the maximum memory of the messages of a joining connection that are held back.
    """

    def __init__(
        self, window: int, memory_of: Callable[[T], int] = lambda item: 0, max_bytes: int = 16 * MIB
    ) -> None:
        self._window = window
        self._memory_of = memory_of
        self._max_bytes = max_bytes
        self._seen: OrderedDict[Hashable, _Seen] = OrderedDict()
        self._members: dict[int, _Member[T]] = {}
        self._established = 0  # the bits of the members that have joined
        self._places: OrderedDict[Hashable, Any] = OrderedDict()  # the last position of each channel

    def join(self, leg: int, meter: LegMeter) -> None:
        """Add a connection, identified by a number."""
        used = 0
        for member in self._members.values():
            used |= member.bit
        added = _Member[T](~used & (used + 1), meter)  # the lowest bit that is free
        self._members[leg] = added
        if self._established:
            added.held = []
        else:
            self._established = added.bit

    def leave(self, leg: int) -> list[T]:
        """Remove a connection, if it is known. Return the messages of others that waited for it."""
        member = self._members.pop(leg, None)
        if member is None:
            return []
        self._established &= ~member.bit
        for seen in self._seen.values():
            seen.expected &= ~member.bit
            seen.got &= ~member.bit
        passed: list[T] = []
        if not self._established:
            for other in tuple(self._members.values()):
                if other.held is not None:
                    self._release(other, passed)
        return passed

    def receive(
        self, leg: int, key: Hashable, item: T, now: float, place: Place | None = None
    ) -> list[T]:
        """Take a message from a connection. Return the messages to pass on, in order.

        Args:
            leg: the number of the connection.
            key: identifies the message, whichever connection delivers it.
            item: the message.
            now: the time, in seconds.
            place: the channel of the message and its position there. A message is dropped if a later one of
                its channel has been passed on. None passes on every first copy.
        """
        member = self._members.get(leg)
        if member is None:
            return []  # it has left
        passed: list[T] = []
        if member.held is not None:
            if key not in self._seen:
                member.held.append((key, item, now, place))
                member.held_keys.add(key)
                member.held_bytes += self._memory_of(item)
                if len(member.held) >= self._window or member.held_bytes > self._max_bytes:
                    self._release(member, passed)
                return passed
            self._drop(member, len(member.held))
            self._release(member, passed)
        self._take(member, key, item, now, place, passed)
        return passed

    def establish(self, leg: int) -> list[T]:
        """Have a connection wait for the others no longer. Return its messages to pass on, in order."""
        passed: list[T] = []
        if (member := self._members.get(leg)) is not None:
            if member.held is not None:
                self._release(member, passed)
            member.target = None
        return passed

    def is_held(self, leg: int) -> bool:
        """Return whether the messages of a connection are being held back."""
        member = self._members.get(leg)
        return member is not None and member.held is not None

    def is_level(self, leg: int) -> bool:
        """Return whether a connection has delivered what the others had when it met them."""
        member = self._members.get(leg)
        return member is not None and member.held is None and member.target is None

    @property
    def size(self) -> int:
        """The number of remembered keys and held messages."""
        return len(self._seen) + sum(
            len(member.held or ()) for member in self._members.copy().values()  # any thread may ask
        )

    def _drop(self, member: _Member[T], count: int) -> None:
        """Drop the oldest held messages of a member, since a later one has been passed on."""
        assert member.held is not None
        del member.held[:count]
        member.meter.backwards += count

    def _release(self, member: _Member[T], passed: list[T]) -> None:
        """End a member's time of joining, and treat its held messages as if they arrived now."""
        held, member.held = member.held or [], None
        member.held_keys, member.held_bytes = set(), 0
        if self._established and self._seen:
            last = next(reversed(self._seen))
            member.target = None if any(entry[0] == last for entry in held) else last
        self._established |= member.bit
        for key, item, at, place in held:
            self._take(member, key, item, at, place, passed)

    def _take(
        self, member: _Member[T], key: Hashable, item: T, now: float, place: Place | None, passed: list[T]
    ) -> None:
        if member.target is not None and member.target == key:
            member.target = None
        seen = self._seen.get(key)
        if seen is not None:
            if seen.got & member.bit:
                member.meter.repeated += 1
            else:
                seen.got |= member.bit
                member.meter.was_later(now - seen.at)
            return
        self._seen[key] = _Seen(now, self._established, member.bit)
        if len(self._seen) > self._window:
            self._forget()
        member.meter.was_first()
        if place is not None and self._is_backwards(*place):
            member.meter.backwards += 1
        else:
            passed.append(item)
        for other in tuple(self._members.values()):
            if other.held is not None and key in other.held_keys:
                self._drop(other, next(index for index, entry in enumerate(other.held) if entry[0] == key))
                self._release(other, passed)

    def _is_backwards(self, channel: Hashable, position: Any) -> bool:
        """Note a position; return whether a later one was noted before."""
        last = self._places.get(channel)
        if last is not None and position < last:
            return True
        self._places[channel] = position
        self._places.move_to_end(channel)
        if len(self._places) > self._window:
            self._places.popitem(last=False)
        return False

    def _forget(self) -> None:
        """Forget the oldest key. The members that have not delivered it by now have lost it."""
        key, seen = self._seen.popitem(last=False)
        missing = seen.expected & ~seen.got
        for member in self._members.values():
            if missing & member.bit:
                member.meter.lost += 1
            if member.target is not None and member.target == key:
                member.target = None
