"""Book of a fleet: which worker owns each shard, which one should own it, and which shards are moving.

This module is independent of Dask, sockets and threads: it turns reports and the time into replies. It does
not grant leases. `Book.begin` returns the leases that a worker should have after a report, and `Book.finish`
is told which of them it has.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from .messages import COUNTS, Content, Failed, Reply, Report
from .placement import Place, Placement, moves
from .status import FleetStatus, Quarantined, WorkerStatus

#: The most shards that one reply hands over, so that the first worker of a cluster does not get a huge reply.
AT_A_TIME = 64


@dataclass(frozen=True)
class Rules:
    """The rules of a fleet, as its book needs them; see `lochws.fleet.Fleet` for the meaning of each."""

    lease: float
    moves_at_once: int = 8
    overlap: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    limit: int | None = None
    quarantine_for: float = 600.0

    def place(self, name: str) -> Place:
        """Return the weight and the limit of a worker."""
        return Place(self.weights.get(name, 1.0), self.limits.get(name, self.limit))


@dataclass
class Sources:
    """The content of a shard: its version, its sources as they are sent, and how many there are."""

    version: int
    pickled: bytes
    count: int


@dataclass
class _Member:
    """A worker that has reported."""

    report: Report
    seen: float
    is_gone: bool = False

    def __post_init__(self) -> None:
        self.owned = {each.shard: each for each in self.report.owned}
        self.coming = {each.shard: each for each in self.report.coming}
        self.opened = {shard for shard, each in self.coming.items() if each.is_up}


class Move(NamedTuple):
    """A shard that is moving from one worker to another.

    Attributes:
        target: the name of the worker that is to own it.
        since: when the move began, in monotonic seconds.
    """

    target: str
    since: float


@dataclass
class _Failure:
    """A source in quarantine."""

    shard: int
    error: str
    worker: str
    since: float


class Wish(NamedTuple):
    """The leases that a worker should have after a report.

    Attributes:
        owned: the shards whose leases are renewed or taken.
        coming: the same for the leases of successors.
        has_more: whether more shards are free for the worker than one reply hands over.
    """

    owned: list[int]
    coming: list[int]
    has_more: bool


class Book:
    """The state of a fleet on the scheduler.

    Args:
        rules: the rules.
        sources: the content of each shard that has sources.
        opens_at: the time before which no lease is granted: leases of an earlier scheduler may be valid until
            then. All times are in monotonic seconds.
        expected: the number of workers in the cluster. Until all of them have reported, no lease is granted
            either, so that the first one does not open everything.
        waits_until: when to stop waiting for them.
    """

    def __init__(
        self, rules: Rules, sources: Mapping[int, Sources], opens_at: float = 0.0, expected: int = 0,
        waits_until: float = 0.0,
    ) -> None:
        self.rules = rules
        self.sources = dict(sources)
        self.is_closing = False
        self._versions = itertools.count(1)  # of all shards: one may be removed and return with other sources
        self.changes = 0  # counts what may concern other workers than the one that reports
        self._opens_at, self._expected, self._waits_until = opens_at, expected, waits_until
        self._members: dict[str, _Member] = {}
        self._numbers: dict[str, int] = {}  # of the latest report of each keeper
        self._draining: set[str] = set()
        self._holders: dict[int, str] = {}
        self._moving: dict[int, Move] = {}
        self._failures: dict[str, _Failure] = {}
        self._desired: dict[int, str] = {}
        self._placement = Placement()
        self._planned: object = None  # the arguments of the last plan

    # Reports.

    def accepts(self, report: Report) -> bool:
        """Return whether a report is newer than those of its keeper that have arrived."""
        return report.number > self._numbers.get(report.keeper, 0)

    def begin(self, report: Report, free: Collection[int], now: float) -> Wish:
        """Record an acceptable report. Return the leases that the worker should have now.

        Args:
            report: the report.
            free: the shards that have no owner.
            now: the time.
        """
        member = self._members.get(report.worker)
        self._numbers[report.keeper] = report.number
        present = self._members[report.worker] = _Member(report, now)
        if member is None or member.opened != present.opened or member.is_gone:
            self.changes += 1
        for failed in report.failed:
            self._quarantine(failed, report.worker, now)
        self.plan(now)
        owned = [each.shard for each in report.owned]
        coming = [each.shard for each in report.coming if each.shard not in free]
        if self.is_closing or report.is_leaving:
            return Wish(owned, coming, has_more=False)
        mine = {shard for shard, worker in self._desired.items() if worker == report.worker}
        ready = sorted(mine & set(free)) if self._is_open(now) else []
        known = {*owned, *coming}
        prepared = [
            shard for shard, move in sorted(self._moving.items())
            if self.rules.overlap and move.target == report.worker and shard in self._holders.keys() - known
        ]
        return Wish([*owned, *ready[:AT_A_TIME]], [*coming, *prepared], len(ready) > AT_A_TIME)

    def finish(
        self, report: Report, wish: Wish, owned: Collection[int], coming: Collection[int], now: float
    ) -> Reply:
        """Return the reply to a report.

        Args:
            report: the report.
            wish: the answer of `begin`.
            owned: the shards whose leases the worker has.
            coming: the shards for which it is the successor.
            now: the time.
        """
        name = report.worker
        before = {shard for shard, holder in self._holders.items() if holder == name}
        for shard in before.difference(owned):
            del self._holders[shard]
        self._holders.update(dict.fromkeys(owned, name))
        self.changes += before != set(owned)
        self._settle(now)
        versions = {each.shard: each.version for each in (*report.owned, *report.coming)}
        changed = [
            shard for shard in (*owned, *coming)
            if shard in self.sources and versions.get(shard) != self.sources[shard].version
        ]
        excluded = self._excluded(changed)
        contents = [
            Content(shard, self.sources[shard].version, self.sources[shard].pickled, excluded[shard])
            for shard in changed
        ]
        leave = [shard for shard in owned if self._must_leave(shard, name)]
        leave += [
            shard for shard in coming if shard not in self._moving or self._moving[shard].target != name
        ]
        return Reply(sorted(owned), sorted(coming), leave, contents, wish.has_more, self.is_closing)

    def calls(self, free: Collection[int], now: float) -> set[str]:
        """Return the workers that should report now, since there is something for them to do."""
        self.plan(now)
        self._settle(now)
        names = set()
        if self._is_open(now):
            names = {self._desired[shard] for shard in free if shard in self._desired}
        for shard, move in self._moving.items():
            holder = self._holders.get(shard)
            if self.rules.overlap and not self._has_opened(move.target, shard):
                names.add(move.target)
            elif holder is not None:
                names.add(holder)
        names |= {holder for shard, holder in self._holders.items() if self._is_outdated(shard, holder)}
        if self.is_closing:
            names |= {name for name, each in self._members.items() if each.report.owned or each.report.coming}
        return {name for name in names if name in self._members and not self._members[name].is_gone}

    # Changes.

    def gone(self, address: str) -> None:
        """Record that the scheduler has lost a worker."""
        for name, member in self._members.items():
            if member.report.address == address:
                member.is_gone = True
                self._forget(name)

    def drain(self, names: Iterable[str], *, is_draining: bool) -> None:
        """Let the shards of workers move away, or let them take shards again."""
        self._draining = self._draining.union(names) if is_draining else self._draining.difference(names)

    def replace(self, changed: Mapping[int, tuple[bytes, int]]) -> None:
        """Replace the content of shards. A shard without sources is removed."""
        for shard, (pickled, count) in changed.items():
            if count:
                self.sources[shard] = Sources(next(self._versions), pickled, count)
            else:
                self.sources.pop(shard, None)
        self._failures = {text: each for text, each in self._failures.items() if each.shard not in changed}

    def release(self, texts: Iterable[str] | None = None) -> int:
        """End the quarantine of some sources, or of all. Return how many were in quarantine."""
        chosen = [text for text in (self._failures if texts is None else texts) if text in self._failures]
        for text in chosen:
            shard = self._failures.pop(text).shard
            if shard in self.sources:
                self.sources[shard].version = next(self._versions)
        return len(chosen)

    def plan(self, now: float) -> None:
        """Decide which worker should own each shard, if workers or shards have changed.

        A worker that has been silent for a lease gets none.
        """
        for name, member in self._members.items():
            if not member.is_gone and now - member.seen > self.rules.lease:
                member.is_gone = True
                self._forget(name)
        self.release([
            text for text, each in self._failures.items() if now - each.since > self.rules.quarantine_for
        ])
        places = {
            name: self._place(name) for name, member in self._members.items()
            if not (member.is_gone or member.report.is_leaving)
        }
        sizes = {shard: each.count for shard, each in self.sources.items()}
        if self._planned != (places, sizes):
            self._planned = (places, sizes)
            self._desired = self._placement.place(sizes, places)

    # Reading.

    def addresses(self) -> dict[str, str]:
        """Return the address of each worker by its name."""
        return {name: each.report.address for name, each in self._members.items() if not each.is_gone}

    def names(self) -> set[str]:
        """Return the names of the workers, and of drained workers that are gone."""
        return {*self.addresses(), *self._draining}

    def has_others(self, names: Collection[str]) -> bool:
        """Return whether workers besides these could take shards, or the fleet has no sources at all."""
        others = [
            self._place(name) for name, each in self._members.items()
            if not (each.is_gone or each.report.is_leaving or name in names)
        ]
        return not self.sources or any(each.weight > 0 and each.limit != 0 for each in others)

    def status(self, now: float) -> FleetStatus:
        """Return the state of the fleet."""
        workers = tuple(
            WorkerStatus(
                name=name, address=each.report.address, shards=len(each.report.owned),
                seen=now - each.seen, is_draining=name in self._draining,
                **dict(zip(COUNTS, each.report.counts, strict=True)),
            )
            for name, each in sorted(self._members.items()) if not each.is_gone
        )
        up = {held.shard for each in self._members.values() for held in each.report.owned if held.is_up}
        return FleetStatus(
            sources=sum(each.count for each in self.sources.values()), shards=len(self.sources),
            owned=len(up & self._holders.keys()), moving=len(self._moving),
            unplaced=len(self.sources.keys() - self._desired.keys()),
            open=sum(each.open for each in workers), workers=workers,
            quarantined=tuple(
                Quarantined(text, each.error, each.worker, now - each.since)
                for text, each in self._failures.items()
            ),
        )

    # Inside.

    def _is_open(self, now: float) -> bool:
        return now >= self._opens_at and (len(self._members) >= self._expected or now >= self._waits_until)

    def _place(self, name: str) -> Place:
        place = self.rules.place(name)
        return replace(place, weight=0.0) if name in self._draining else place

    def _forget(self, name: str) -> None:
        for shard in [shard for shard, holder in self._holders.items() if holder == name]:
            del self._holders[shard]

    def _quarantine(self, failed: Failed, worker: str, now: float) -> None:
        if failed.shard in self.sources:
            self._failures[failed.source] = _Failure(failed.shard, failed.error, worker, now)

    def _excluded(self, shards: Collection[int]) -> dict[int, list[str]]:
        """Return the sources in quarantine of some shards."""
        excluded: dict[int, list[str]] = {shard: [] for shard in shards}
        for text, each in self._failures.items() if shards else ():
            if each.shard in excluded:
                excluded[each.shard].append(text)
        return excluded

    def _is_outdated(self, shard: int, holder: str) -> bool:
        held = self._members[holder].owned.get(shard)
        return shard not in self.sources or held is None or held.version != self.sources[shard].version

    def _has_opened(self, name: str, shard: int) -> bool:
        member = self._members.get(name)
        return member is not None and shard in member.opened

    def _must_leave(self, shard: int, name: str) -> bool:
        if shard not in self.sources:
            return True
        if shard not in self._desired:  # a full worker must leave it; a draining one keeps it meanwhile
            place = self._place(name)
            return place.weight > 0 and place.limit is not None
        move = self._moving.get(shard)
        if move is None or move.target == name:
            return False
        return not self.rules.overlap or self._has_opened(move.target, shard)

    def _settle(self, now: float) -> None:
        """End moves that are complete or no longer wanted, and begin others."""
        for shard, move in list(self._moving.items()):
            holder = self._holders.get(shard)
            member = self._members.get(move.target)
            held = None if member is None else member.owned.get(shard)
            is_done = holder == move.target and held is not None and held.is_up
            is_unwanted = shard not in self.sources or self._desired.get(shard) != move.target
            # A server that hangs must not hold up all other moves.
            is_late = holder == move.target and now - move.since > 2 * self.rules.lease
            if is_done or is_unwanted or is_late:
                del self._moving[shard]
                self.changes += 1
        for shard in moves(self._desired, self._holders, self._moving, self.rules.moves_at_once):
            self.changes += 1
            self._moving[shard] = Move(self._desired[shard], now)
