"""Placement: which worker should own which shard, by weighted rendezvous hashing with limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .hashing import suitability


@dataclass(frozen=True)
class Place:
    """A worker as the placement sees it.

    Attributes:
        weight: its share of the shards relative to the other workers; 0 for none.
        limit: the largest number of sources that it takes, or None.
    """

    weight: float = 1.0
    limit: int | None = None


class Placement:
    """The worker for each shard, computed anew when workers or shards have changed.

    The result depends on the latest arguments alone, not on their order or on earlier ones. Without limits, a
    worker that joins takes shards from the others but moves none between them, and the shards of one that
    leaves are the only ones that move; so only these are computed then.
    """

    def __init__(self) -> None:
        self._ranks: dict[str, dict[int, float]] = {}  # how much each worker suits each shard; less is better
        self._places: dict[str, Place] = {}
        self._best: dict[int, str] = {}

    def place(self, sizes: Mapping[int, int], places: Mapping[str, Place]) -> dict[int, str]:
        """Return the worker for each shard; a shard that no worker has room for is left out.

        Args:
            sizes: the number of sources in each shard.
            places: the workers by name.
        """
        able = {name: each for name, each in sorted(places.items()) if each.weight > 0}
        if any(each.limit is not None for each in able.values()):
            return self._place_within_limits(sizes, able)
        names = self._places.keys() | able.keys()
        changed = {name for name in names if self._places.get(name) != able.get(name)}
        for name in changed - able.keys():
            self._ranks.pop(name, None)
        new = [name for name in changed if name in able]
        best = {}
        for shard in sizes if able else ():
            known = self._best.get(shard)
            rivals = able if known is None or known in changed else [known, *new]
            best[shard] = min(rivals, key=lambda name: (self._rank(able[name], name, shard), name))
        self._places, self._best = able, best
        return dict(best)

    def _place_within_limits(self, sizes: Mapping[int, int], able: Mapping[str, Place]) -> dict[int, str]:
        self._places, self._best = {}, {}
        room = {name: each.limit for name, each in able.items()}
        placed: dict[int, str] = {}
        # Large shards first: small ones fit into what is left.
        for shard in sorted(sizes, key=lambda shard: (-sizes[shard], shard)):
            for name in sorted(able, key=lambda name: (self._rank(able[name], name, shard), name)):
                free = room[name]
                if free is None or free >= sizes[shard]:
                    placed[shard] = name
                    if free is not None:
                        room[name] = free - sizes[shard]
                    break
        return placed

    def _rank(self, place: Place, name: str, shard: int) -> float:
        ranks = self._ranks.setdefault(name, {})
        if shard not in ranks:
            ranks[shard] = suitability(name, shard)
        return ranks[shard] / place.weight


def moves(
    desired: Mapping[int, str], holders: Mapping[int, str], under_way: Iterable[int], at_once: int
) -> list[int]:
    """Return the shards that may begin to move now from a worker that holds them to another one.

    Args:
        desired: the worker that should own each shard.
        holders: the worker that holds each shard; shards without one do not move, they are simply taken.
        under_way: the shards that are moving already.
        at_once: how many may be moving at a time.
    """
    moving = set(under_way)
    free = at_once - len(moving)
    waiting = (
        shard for shard in sorted(holders)
        if shard in desired and desired[shard] != holders[shard] and shard not in moving
    )
    return [shard for _, shard in zip(range(free), waiting, strict=False)]
