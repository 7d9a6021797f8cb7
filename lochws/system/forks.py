"""What a child of `os.fork` is left with: objects that know that they are copies.

A fork copies memory and descriptors, but of the threads only the one that forks. So in the child nobody
moves a connection's bytes any more, a lock that another thread held is held for ever, and whatever is
written to a copied descriptor goes out on the parent's connection. Objects that have a lock which the
child may come to, or a descriptor, are made known here; in the child each lets go of what it has, without
a word to the other side. Descriptors that were closed there still serve the parent.

The parent notices nothing. Where there is no fork nothing happens at all.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import ref


class Copied(Protocol):
    """What has a copy in the child of a fork."""

    def reset_after_fork(self) -> None:
        """Let go of the parent's, in the child: its only thread calls this before anything else."""


class _Living:
    """What was made known and still lives.

    Its references have no callbacks: those are Python code that runs when an object ends, and what a signal
    handler raises in there is lost.
    """

    def __init__(self) -> None:
        self._known: dict[int, ref[Copied]] = {}  # by id; any thread adds
        self._room = 64

    def add(self, owner: Copied) -> None:
        self._known[id(owner)] = ref(owner)
        if len(self._known) > self._room:
            self._clear_away()

    def all(self) -> list[Copied]:
        return [owner for known in self._known.copy().values() if (owner := known()) is not None]

    def _clear_away(self) -> None:
        for number, known in self._known.copy().items():
            if known() is None:
                taken = self._known.pop(number, known)
                if taken() is not None:  # a new object has got the number in this moment
                    self._known[number] = taken
        self._room = max(64, 2 * len(self._known))


_living = _Living()


def register(owner: Copied) -> None:
    """Have `forget` called in each child for as long as the object lives. Any thread."""
    _living.add(owner)


def _in_child() -> None:
    for owner in _living.all():
        owner.reset_after_fork()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
