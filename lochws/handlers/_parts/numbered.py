"""The values that describe numbered messages: snapshots, gaps, disorder and counts."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from ... import events

K = TypeVar("K", bound=Hashable)


class Snapshot(NamedTuple):
    """The state of a stream, as `resync` returns it.

    Attributes:
        number: the number of the last message that it includes.
        data: the state itself, in any form.
    """

    number: int
    data: Any = None


@dataclass(frozen=True)
class Gap(Generic[K]):
    """Messages of a stream that have not arrived.

    Attributes:
        key: the key of the stream.
        first, last: the first and the last missing number.
    """

    key: K
    first: int
    last: int

    @property
    def count(self) -> int:
        """The count of the missing numbers."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Disorder(Generic[K]):
    """A message whose number is not above the last one of its stream.

    Attributes:
        key: the key of the stream.
        number: its number; the last one if it has several.
        last: the last number of the stream.
        kind: ``"duplicate"``, or ``"late"`` if it belongs to a gap that was reported before, or precedes the
            first message of the stream.
        event: the message.
    """

    key: K
    number: int
    last: int
    kind: Literal["duplicate", "late"]
    event: events.Text | events.Binary


class SequenceCounts(NamedTuple):
    """Counts of numbered messages by what became of them, and of snapshots.

    Attributes:
        passed: messages passed to the handlers.
        held: messages that are held now.
        duplicates: messages that were dropped, because they had arrived before or a snapshot includes them.
        late: messages that arrived after the gap to which they belong had been reported, or after the first
            message of the stream, which they precede.
        dropped: held messages that were dropped because there was no room, or their connection ended.
        gaps: gaps that were reported.
        missing: numbers in these gaps.
        snapshots: snapshots that were used.
        failures: calls of `resync` that failed, or returned a snapshot that was too old.
    """

    passed: int
    held: int
    duplicates: int
    late: int
    dropped: int
    gaps: int
    missing: int
    snapshots: int
    failures: int
