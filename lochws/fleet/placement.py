"""Placement: which worker should own which shard, by weighted rendezvous hashing with limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from .hashing import suitability

_suitability = lru_cache(maxsize=1 << 18)(suitability)


@dataclass(frozen=True)
class Place:
    """A worker as the placement sees it.

    Attributes:
        weight: its share of the shards relative to the other workers; 0 for none.
        limit: the largest number of sources that it takes, or None.
    """

    weight: float = 1.0
    limit: int | None = None


def place(sizes: Mapping[int, int], places: Mapping[str, Place]) -> dict[int, str]:
    """Return the worker for each shard; a shard that no worker has room for is left out.

    The result depends on the arguments alone, not on their order. Without limits, a worker that joins takes
    shards from the others but moves none between them, and the shards of one that leaves are the only ones
    that move.

    Args:
        sizes: the number of sources in each shard.
        places: the workers by name.
    """
    workers = sorted((name, each) for name, each in places.items() if each.weight > 0)
    if all(each.limit is None for _, each in workers):
        return {shard: min(workers, key=_rank(shard))[0] for shard in sizes} if workers else {}
    room = {name: each.limit for name, each in workers}
    placed: dict[int, str] = {}
    # Large shards first: small ones fit into what is left.
    for shard in sorted(sizes, key=lambda shard: (-sizes[shard], shard)):
        for name, _ in sorted(workers, key=_rank(shard)):
            free = room[name]
            if free is None or free >= sizes[shard]:
                placed[shard] = name
                if free is not None:
                    room[name] = free - sizes[shard]
                break
    return placed


def _rank(shard: int) -> Callable[[tuple[str, Place]], tuple[float, str]]:
    """Return the key by which workers are sorted for a shard: the most suitable one first."""
    return lambda worker: (_suitability(worker[0], shard) / worker[1].weight, worker[0])


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
