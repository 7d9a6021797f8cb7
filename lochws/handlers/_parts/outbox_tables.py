"""Tables for the messages of an outbox: the interface, and the one in memory."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from heapq import heappop, heappush
from typing import Literal, Protocol, TypeAlias

from .outbox_messages import OutboxMessage

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]
SYNCHRONOUS: tuple[Synchronous, ...] = ("FULL", "NORMAL")


class Table(Protocol):
    """Messages in the order of their numbers, for one thread at a time.

    Changes are made between `begin` and either `commit` or `roll_back`.

    Attributes:
        size: the sum of their sizes.
        last: the highest number that was used.
        page: how many messages may be read at once and kept in memory.
    """

    size: int
    last: int
    page: int

    @property
    def count(self) -> int:
        """The number of messages."""

    def begin(self, durable: bool) -> None:
        """Begin to change the table.

        Args:
            durable: whether the changes must survive a power cut once they are committed.
        """

    def commit(self) -> None:
        """Keep the changes."""

    def roll_back(self) -> bool:
        """Undo the changes. Return whether the same changes may succeed now. Raises nothing."""

    def insert(self, message: OutboxMessage) -> None:
        """Append a message, whose number is the next one."""

    def remove(self, message: OutboxMessage) -> bool:
        """Remove a message; return False if it is not there."""

    def mark(self, message: OutboxMessage, was_sent: bool) -> None:
        """Note whether a message may have been sent."""

    def read(self, after: int = 0) -> Iterator[OutboxMessage]:
        """Iterate over the messages with higher numbers. Nothing may be changed meanwhile."""

    def with_key(self, key: str) -> Sequence[OutboxMessage]:
        """Return the messages that have this key."""

    def expired(self, now: float, but: Collection[int]) -> Sequence[OutboxMessage]:
        """Return the messages that have expired, except those with certain numbers."""

    def close(self) -> None:
        """Release what the table holds. Raises nothing; may be called again."""


class MemoryTable:
    """A table in memory."""

    page = sys.maxsize

    def __init__(self) -> None:
        self.size = self.last = 0
        # A linked list; in a dict, finding the first key gets slower if it is always removed.
        self._messages: OrderedDict[int, OutboxMessage] = OrderedDict()
        self._by_key: dict[str, dict[int, OutboxMessage]] = {}
        self._deadlines: list[tuple[float, int]] = []  # a heap; may name messages that are gone
        self._last_commit: tuple[int, int, list[OutboxMessage]] = 0, 0, []  # size, last, removed since
        self._is_changing = False

    @property
    def count(self) -> int:
        """The number of messages."""
        return len(self._messages)

    def begin(self, durable: bool) -> None:
        """Undo what is left of a change that an exception of a signal handler, such as Ctrl-C, has ended.

        Nothing else makes changes fail. A second one may have ended `roll_back`, too.
        """
        if self._is_changing:
            self.roll_back()
        self._is_changing = True

    def commit(self) -> None:
        """Keep the changes. An exception comes either before that or after it."""
        self._last_commit = self.size, self.last, []
        self._is_changing = False

    def roll_back(self) -> bool:
        """Undo the changes, of which the last may be incomplete."""
        size, last, removed = self._last_commit
        kept = [message for message in self._messages.values() if message.number <= last]
        kept = sorted({message.number: message for message in (*kept, *removed)}.values())
        self._messages = OrderedDict((message.number, message) for message in kept)
        self._by_key, self._deadlines = {}, []
        for message in kept:
            self._note(message)
        self.size, self.last = size, last
        self.commit()
        return False

    def insert(self, message: OutboxMessage) -> None:
        """Append a message."""
        self.last = message.number
        self._messages[message.number] = message
        self.size += message.size
        self._note(message)

    def _note(self, message: OutboxMessage) -> None:
        if message.supersedes is not None:
            self._by_key.setdefault(message.supersedes, {})[message.number] = message
        if message.expires_at is not None:
            heappush(self._deadlines, (message.expires_at, message.number))

    def remove(self, message: OutboxMessage) -> bool:
        """Remove a message."""
        if message.number not in self._messages:
            return False
        self._last_commit[2].append(message)
        del self._messages[message.number]
        self.size -= message.size
        if (key := message.supersedes) is not None:
            of_key = self._by_key[key]
            del of_key[message.number]
            if not of_key:
                del self._by_key[key]
        return True

    def mark(self, message: OutboxMessage, was_sent: bool) -> None:
        """Do nothing: a program that ends loses its memory."""

    def read(self, after: int = 0) -> Iterator[OutboxMessage]:
        """Iterate over the messages with higher numbers."""
        return (message for number, message in self._messages.items() if number > after)

    def with_key(self, key: str) -> Sequence[OutboxMessage]:
        """Return the messages that have this key."""
        return tuple(self._by_key.get(key, {}).values())

    def expired(self, now: float, but: Collection[int]) -> Sequence[OutboxMessage]:
        """Return the messages that have expired."""
        found, kept = [], []
        while self._deadlines and self._deadlines[0][0] <= now:
            entry = heappop(self._deadlines)
            if (message := self._messages.get(entry[1])) is not None:
                if entry[1] in but:
                    kept.append(entry)
                else:
                    found.append(message)
        for entry in kept:
            heappush(self._deadlines, entry)
        return found

    def close(self) -> None:
        """Forget the messages."""
        self._messages.clear()
        self._by_key.clear()
        self._deadlines.clear()
        self.size = 0
        self.commit()
