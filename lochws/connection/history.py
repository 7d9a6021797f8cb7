"""History: a flight recorder of the latest things that happened on one connection.

It costs nothing per message: only rare things such as pings get an entry, which also counts the messages
since the previous one. With the option `history`, each message gets an entry of its own. Memory is bounded
either way, and no payload is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Literal, Protocol, TypeAlias

from ..events import Binary, Event, HistoryEntry, Text, content_of
from ..sent import ControlFrame, Sent, Streamed, Tap

#: The number of entries without the option `history`.
ENTRIES = 32

_Direction: TypeAlias = Literal["sent", "received", ""]
_DIRECTIONS: tuple[_Direction, ...] = ("", "sent", "received")
_NAMES = (
    "ready", "paused", "resumed", "suspended", "stale", "unresponsive", "protocol error", "dropped",
    "text", "binary", "ping", "pong", "close", "messages",
)
#: A packed entry, because there may be many connections: time, direction, name, count, size, code or -1.
_PACKED = Struct("<dBBIQi")


#: The numbers of messages and bytes received, and of messages and bytes sent.
Counts: TypeAlias = tuple[int, int, int, int]


class Counted(Protocol):
    """The connection, as its history sees it."""

    @property
    def counts(self) -> Counts:
        """The messages and bytes of the connection so far."""


class History:
    """The latest entries of one connection. Any thread may add entries; each addition is atomic.

    Args:
        messages: how many entries to keep if each message is to have one; 0 to count messages only.
        connection: holds the counters.
        wall: returns the time by the wall clock, in seconds since 1970.

    Attributes:
        has_messages: whether each message gets an entry.
    """

    __slots__ = ("_connection", "_counted", "_entries", "_most", "_wall", "has_messages")

    def __init__(self, messages: int, connection: Counted, wall: Callable[[], float]) -> None:
        self.has_messages = messages > 0
        self._most = messages or ENTRIES
        # Packed, because there may be many connections. With entries for messages, the baton holder and the
        # sending thread add at the same time: without a GIL that is safe for a list, but not for a bytearray.
        self._entries: list[bytes] | bytearray = [] if self.has_messages else bytearray()
        self._connection = connection
        self._counted: Counts = (0, 0, 0, 0)
        self._wall = wall

    def happened(self, name: str) -> None:
        """Note that something happened. Baton holder."""
        self._add(self._wall(), "", name, 1, 0, None)

    def frames(
        self, direction: Literal["sent", "received"], name: str, count: int = 1, size: int = 0,
        code: int | None = None,
    ) -> None:
        """Note control frames of one kind. Baton holder."""
        if direction == "received" or not self.has_messages:  # else the writing thread notes it
            self._add(self._wall(), direction, name, count, size, code)

    def received(self, messages: Sequence[Event]) -> None:
        """Note each message of a read, if messages get entries. Baton holder."""
        now = self._wall()
        for event in messages[-self._most:]:
            if isinstance(event, Text):
                self._append(now, "received", event.name, 1, _size(content_of(event)), None)
            elif isinstance(event, Binary):
                self._append(now, "received", event.name, 1, len(event.data), None)

    def sent(self, items: tuple[Sent, ...]) -> None:
        """Note what is about to be sent, if messages get entries. The writing thread."""
        now = self._wall()
        for item in items[-self._most:]:
            if isinstance(item, ControlFrame):
                self._append(now, "sent", item.name, 1, len(item.data), item.code)
            elif isinstance(item, Streamed):
                self._append(now, "sent", item.name, 1, item.size, None)
            elif isinstance(item, str):
                self._append(now, "sent", "text", 1, _size(item), None)
            else:
                self._append(now, "sent", "binary", 1, len(item), None)

    def taken(self) -> tuple[HistoryEntry, ...]:
        """Return the entries at the end of the connection, in the order of their addition. Baton holder.

        They are not sorted by time, because the wall clock may have been set back.
        """
        if not self.has_messages:
            self._count(self._wall())
        # A copy, because entries may be added to the original meanwhile.
        packed = b"".join(self._entries.copy()) if isinstance(self._entries, list) else bytes(self._entries)
        entries = tuple(
            HistoryEntry(when, _DIRECTIONS[direction], _NAMES[name], count, size, None if code < 0 else code)
            for when, direction, name, count, size, code in _PACKED.iter_unpack(packed)
        )
        return entries[-self._most:]

    def _add(
        self, when: float, direction: _Direction, name: str, count: int, size: int, code: int | None
    ) -> None:
        if not self.has_messages:
            self._count(when)
        self._append(when, direction, name, count, size, code)

    def _count(self, when: float) -> None:
        """Add entries for the messages since the last call."""
        before = self._counted
        self._counted = now = self._connection.counts
        if now[0] != before[0]:
            self._append(when, "received", "messages", now[0] - before[0], now[1] - before[1], None)
        if now[2] != before[2]:
            self._append(when, "sent", "messages", now[2] - before[2], now[3] - before[3], None)

    def _append(
        self, when: float, direction: _Direction, name: str, count: int, size: int, code: int | None
    ) -> None:
        packed = _PACKED.pack(
            when, _DIRECTIONS.index(direction), _NAMES.index(name), min(count, 0xFFFFFFFF), size,
            -1 if code is None else code,
        )
        entries = self._entries
        if isinstance(entries, list):
            entries.append(packed)
            unit = 1
        else:
            entries += packed
            unit = _PACKED.size
        if len(entries) >= 2 * self._most * unit:
            del entries[:-self._most * unit]


def _size(text: str | bytes) -> int:
    """Return the length of a text in bytes of UTF-8."""
    return len(text) if isinstance(text, bytes) or text.isascii() else len(text.encode())


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
