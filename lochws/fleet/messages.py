"""Messages between the workers and the desk: reports, and the replies to them."""

from __future__ import annotations

from typing import Any, NamedTuple

#: The numbers of `Report.counts`, in order.
COUNTS = ("sources", "open", "connections", "messages_received", "messages_sent", "memory", "threads")


class Held(NamedTuple):
    """A shard that a worker has apps for.

    Attributes:
        shard: its number.
        version: the version of its content that the worker has.
        is_up: whether each of its sources has connected or failed at least once.
    """

    shard: int
    version: int
    is_up: bool


class Failed(NamedTuple):
    """A source that a worker has given up."""

    shard: int
    source: str
    error: str


class Report(NamedTuple):
    """A message from a worker, which renews its leases.

    Attributes:
        worker: the worker's name.
        keeper: a random name for this run of the fleet on the worker, under which it holds leases.
        number: counts the keeper's reports. A report that arrives after a later one is ignored.
        address: the worker's address.
        owned: the shards that it owns.
        coming: the shards that it has opened and will own when their present owner has left them.
        failed: the sources that it has given up since its last report.
        counts: the numbers that `COUNTS` names.
        is_leaving: whether it takes no more shards.
    """

    worker: str
    keeper: str
    number: int
    address: str
    owned: list[Held]
    coming: list[Held]
    failed: list[Failed]
    counts: list[int]
    is_leaving: bool

    def to_wire(self) -> list[Any]:
        """Return it as plain lists."""
        return [list(map(list, part)) if name in _PARTS else part for name, part in self._asdict().items()]

    @classmethod
    def from_wire(cls, wire: list[Any]) -> Report:
        """Return the report in a message."""
        values = dict(zip(cls._fields, wire, strict=True))
        values |= {name: [make(*each) for each in values[name]] for name, make in _PARTS.items()}
        return cls(**values)


_PARTS: dict[str, Any] = {"owned": Held, "coming": Held, "failed": Failed}


class Content(NamedTuple):
    """The sources of a shard.

    Attributes:
        shard: the shard.
        version: changes with the content.
        sources: the list of sources, pickled.
        excluded: the texts of those in quarantine.
    """

    shard: int
    version: int
    sources: bytes
    excluded: list[str]


class Reply(NamedTuple):
    """The answer to a report.

    Attributes:
        owned: the shards whose leases the worker holds from the moment when it sent the report. Those that it
            reported and that are missing here belong to another worker.
        coming: the same for the shards that are to be opened before their present owner leaves them.
        leave: the shards to close.
        contents: the sources of the shards that the worker does not have in this version.
        has_more: whether there are more shards to be taken, so that the next report should follow at once.
        is_closing: whether the fleet ends.
    """

    owned: list[int]
    coming: list[int]
    leave: list[int]
    contents: list[Content]
    has_more: bool
    is_closing: bool

    def to_wire(self) -> list[Any]:
        """Return it as plain lists."""
        return [*self[:3], [list(each) for each in self.contents], *self[4:]]

    @classmethod
    def from_wire(cls, wire: list[Any]) -> Reply:
        """Return the reply in a message."""
        owned, coming, leave, contents, has_more, is_closing = wire
        return cls(owned, coming, leave, [Content(*each) for each in contents], has_more, is_closing)
