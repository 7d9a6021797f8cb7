"""Stable hashes: the shard of a source, and how much a worker suits a shard.

Python's `hash` differs from process to process, so all of this rests on BLAKE2b.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from enum import Enum
from hashlib import blake2b
from pathlib import PurePath
from uuid import UUID

_MASK = (1 << 64) - 1


def number(text: str) -> int:
    """Return 64 bits that depend on a text alone."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def stable_text(source: Hashable) -> str:
    """Return a text that identifies a source in every process.

    Args:
        source: a str, an int, a float, bytes, a UUID, a path, an enum's member, or a tuple of these.

    Raises:
        TypeError: the source is something else, whose text may differ between processes.
    """
    if isinstance(source, str) and not isinstance(source, Enum):
        return source
    return f"\0{_structure(source)}"  # no URL begins like this, so 1 and "1" are different sources


def _structure(source: Hashable) -> str:
    if isinstance(source, Enum):
        return f"{type(source).__qualname__}.{source.name}"
    if isinstance(source, tuple):
        return f"({','.join(map(_structure, source))})"
    if isinstance(source, (str, int, float, bytes)):
        return repr(source)
    if isinstance(source, (UUID, PurePath)):
        return f"{type(source).__name__} {source}"
    raise TypeError(
        f"sources: {source!r} has no stable text: expected a str, an int, a float, bytes, a UUID, a path, an "
        "enum's member or a tuple of these; for others pass key, a function that returns a source's text"
    )


def shard_of(text: str, shards: int) -> int:
    """Return the shard of a source: jump consistent hashing (Lamping and Veach, 2014).

    If the number of shards grows from n to m, only the share ``(m - n) / m`` of the sources changes shards.

    Args:
        text: the source's text, see `stable_text`.
        shards: the number of shards.

    Returns:
        A number from 0 to ``shards - 1``.
    """
    key, bucket, following = number(text), -1, 0
    while following < shards:
        bucket = following
        key = (key * 2862933555777941757 + 1) & _MASK
        following = int((bucket + 1) * ((1 << 31) / ((key >> 33) + 1)))
    return bucket


def suitability(worker: str, shard: int) -> float:
    """Return how much a worker suits a shard, for rendezvous hashing: a positive number, smaller is better.

    It is exponentially distributed. So if each worker's number is divided by its weight, the worker with the
    smallest one is chosen as often as its weight says.
    """
    return -math.log((number(f"{shard} {worker}") + 1) / (1 << 64))
