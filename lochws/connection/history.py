"""History: a flight recorder, which keeps the last things that happened on one connection.

It costs nothing per message: rare things such as pings are noted, and each of these notes counts the messages
since the one before. With the option `history`, each message gets an entry of its own. Memory is bounded
either way, and no payload is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Literal

from ..counters import Counters
from ..events import Binary, Event, HistoryEntry, Text
from ..sent import ControlFrame, Sent, Tap

#: The number of entries without the option `history`.
ENTRIES = 32


class History:
    """The last entries of one connection. Any thread may add some, and each addition is one step.

    Args:
        messages: how many entries to keep if each message is to have one; 0 to count messages only.
        counters: returns the messages and bytes of the connection so far.
        wall: returns the time by the wall clock, in seconds since 1970.

    Attributes:
        has_messages: whether each message gets an entry.
    """

    __slots__ = ("_counted", "_counters", "_entries", "_wall", "has_messages")

    def __init__(self, messages: int, counters: Callable[[], Counters], wall: Callable[[], float]) -> None:
        self.has_messages = messages > 0
        self._entries: deque[HistoryEntry] = deque(maxlen=messages or ENTRIES)
        self._counters = counters
        self._counted = Counters()
        self._wall = wall

    def happened(self, name: str) -> None:
        """Note that something happened. Baton holder."""
        self._add(HistoryEntry(self._wall(), "", name))

    def frames(
        self, direction: Literal["sent", "received"], name: str, count: int = 1, size: int = 0,
        code: int | None = None,
    ) -> None:
        """Note control frames of one kind. Baton holder."""
        self._add(HistoryEntry(self._wall(), direction, name, count, size, code))

    def received(self, messages: Sequence[Event]) -> None:
        """Note each message of a read, if messages get entries. Baton holder."""
        now = self._wall()
        for event in messages[-(self._entries.maxlen or 0):]:
            if isinstance(event, Text):
                self._note(now, "received", event.name, event.text)
            elif isinstance(event, Binary):
                self._note(now, "received", event.name, event.data)

    def sent(self, items: tuple[Sent, ...]) -> None:
        """Note what is about to be sent, if messages get entries. The writing thread."""
        now = self._wall()
        for item in items[-(self._entries.maxlen or 0):]:
            if isinstance(item, ControlFrame):
                entry = HistoryEntry(now, "sent", item.name, 1, len(item.data), item.code)
                self._entries.append(entry)
            else:
                self._note(now, "sent", "text" if isinstance(item, str) else "binary", item)

    def taken(self) -> tuple[HistoryEntry, ...]:
        """Return the entries, oldest first, at the end of the connection. Baton holder."""
        if not self.has_messages:
            self._count(self._wall())
        return tuple(sorted(self._entries, key=attrgetter("time")))  # two threads may have added them

    def _add(self, entry: HistoryEntry) -> None:
        if not self.has_messages:
            self._count(entry.time)
        elif entry.direction == "sent":
            return  # the writing thread notes it
        self._entries.append(entry)

    def _count(self, when: float) -> None:
        """Add entries for the messages since the last call."""
        before, self._counted = self._counted, self._counters()
        now = self._counted
        received = now.messages_received - before.messages_received
        sent = now.messages_sent - before.messages_sent
        if received:
            size = now.bytes_received - before.bytes_received
            self._entries.append(HistoryEntry(when, "received", "messages", received, size))
        if sent:
            size = now.bytes_sent - before.bytes_sent
            self._entries.append(HistoryEntry(when, "sent", "messages", sent, size))

    def _note(
        self, when: float, direction: Literal["sent", "received"], name: str, data: str | bytes
    ) -> None:
        encoded = data.encode() if isinstance(data, str) and not data.isascii() else data
        self._entries.append(HistoryEntry(when, direction, name, 1, len(encoded)))


class Taps(Sequence[Tap]):
    """The user's taps, which may change at any time, followed by the history."""

    def __init__(self, taps: Sequence[Tap], own: Tap) -> None:
        self._taps = taps
        self._own = own

    def __len__(self) -> int:
        return len(self._taps) + 1

    def __iter__(self) -> Iterator[Tap]:
        yield from tuple(self._taps)
        yield self._own

    def __getitem__(self, index: int) -> Tap:  # type: ignore[override]  # slices are not needed
        return tuple(self)[index]
