"""Stream table: the streams of a Sequence by their keys, and the room that their held messages share."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from typing import Any, Generic, Literal, TypeVar

from ...life.calls import ScheduledCall
from .fates import Fate
from .numbering import Numbering
from .resyncs import Job

K = TypeVar("K", bound=Hashable)

#: The largest key of a stream, in bytes of memory: `max_keys` of them must not fill it.
_MAX_KEY_SIZE = 1024


class Stream(Generic[K]):
    """One stream: its numbering, and what it waits for.

    Attributes:
        phase: ``"live"``, or why its messages are held: they wait for a late one, for a snapshot, or for
            their turn.
        is_behind: whether it needs a snapshot that its connection ended too early for.
        has_snapshot: whether the held messages are being passed on behind a snapshot.
    """

    __slots__ = ("failures", "has_snapshot", "is_behind", "job", "key", "numbering", "phase", "timer")

    def __init__(self, key: K, last: int | None) -> None:
        self.key = key
        self.numbering: Numbering[Fate] = Numbering(last)
        self.phase: Literal["live", "waiting", "resync", "turn"] = "live"
        self.is_behind = False
        self.has_snapshot = False
        self.job: Job | None = None
        self.timer: ScheduledCall | None = None
        self.failures = 0

    def stop(self) -> None:
        """Cancel the timer and the call of `resync`."""
        if self.job is not None:
            self.job.cancel()
            self.job = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Table(Generic[K]):
    """The streams by their keys. Any thread may call all methods, and read the attributes.

    Args:
        saved: the last numbers of the streams that are known from before.
        max_keys: the maximum number of streams.

    Attributes:
        by_key: the streams.
    """

    def __init__(self, saved: dict[Any, int], max_keys: int) -> None:
        self.by_key: dict[K, Stream[K]] = {key: Stream(key, last) for key, last in saved.items()}
        self._max_keys = max_keys

    def all(self) -> tuple[Stream[K], ...]:
        """Return all streams."""
        return tuple(self.by_key.copy().values())

    def refusal(self, key: K) -> str | None:
        """Return the reason to refuse a stream with this key, or None."""
        if key in self.by_key:
            return None
        if len(self.by_key) >= self._max_keys:
            return f"there are already max_keys={self._max_keys} streams"
        if _key_size(key) > _MAX_KEY_SIZE:
            return f"its key takes more than {_MAX_KEY_SIZE} bytes"
        return None

    def request(self, key: K) -> None:
        """Have a snapshot of a stream loaded in the next session."""
        self.by_key.setdefault(key, Stream(key, None)).is_behind = True

    def remove(self, key: K) -> Stream[K] | None:
        """Remove a stream and return it. The handlers' thread must stop it."""
        return self.by_key.pop(key, None)


class Room(Generic[K]):
    """The room for held messages, which all streams share. For the handlers' thread.

    Args:
        max_held: the maximum number of messages.
        max_bytes: the maximum of their sizes together.

    Attributes:
        held: the number of messages that are held.
    """

    def __init__(self, max_held: int, max_bytes: int) -> None:
        self._max_held = max_held
        self._max_bytes = max_bytes
        self.held = 0
        self._bytes = 0
        self._holding: set[Stream[K]] = set()

    @property
    def is_exceeded(self) -> bool:
        """True if more is held than there is room for."""
        return self.held > self._max_held or self._bytes > self._max_bytes

    def take(self, stream: Stream[K], size: int) -> None:
        """Note that a stream holds one more message."""
        self.held += 1
        self._bytes += size
        self._holding.add(stream)

    def release(self, stream: Stream[K], count: int, size: int) -> None:
        """Note that a stream does not hold some messages any more."""
        self.held -= count
        self._bytes -= size
        if not stream.numbering.held:
            self._holding.discard(stream)

    def culprit(self, stream: Stream[K]) -> Stream[K]:
        """Return this stream if it holds more than its share, and otherwise the one that holds most."""
        load = self.held / self._max_held + self._bytes / self._max_bytes
        if self._load_of(stream) * len(self._holding) < load:
            return max(self._holding, key=self._load_of)
        return stream

    def _load_of(self, stream: Stream[K]) -> float:
        held = stream.numbering
        return len(held.held) / self._max_held + held.held_bytes / self._max_bytes


def _key_size(key: object) -> int:
    """Return the memory that a key takes, as far as a server can influence it, in bytes."""
    if isinstance(key, tuple):
        return sum(map(_key_size, key))
    return sys.getsizeof(key) if isinstance(key, (str, bytes, int)) else 0
