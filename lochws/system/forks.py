"""Forks: the release, in the child of `os.fork`, of everything that belongs to its parent.

A fork copies memory and descriptors, but only the thread that forks. So in the child no thread serves the
connections, a lock that another thread held is never released, and anything written to a copied descriptor
is sent on the parent's connection. Objects with a lock that the child may take, or with a descriptor,
register here or belong to an object that does. In the child each of them releases what it holds, and sends
nothing to the server. Descriptors that are closed in the child stay open in the parent.

The parent is not affected, and without a fork nothing happens at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol
from weakref import ref

from . import control  # noqa: F401  its lock is renewed before anything else in the child


class Copied(Protocol):
    """An object that has a copy in the child of a fork."""

    def reset_after_fork(self) -> None:
        """Release what belongs to the parent. Called in the child, before anything else runs there."""


class _Living:
    """The registered objects that still exist.

    The references have no callbacks: those are Python code that runs when an object is deleted, and an
    exception that a signal handler raises in there is lost.
    """

    def __init__(self) -> None:
        self._known: dict[int, ref[Copied]] = {}  # by id; any thread adds
        self._room = 64

    def add(self, owner: Copied) -> None:
        self._known[id(owner)] = ref(owner)
        if len(self._known) > self._room:
            self._remove_dead()

    def all(self) -> list[Copied]:
        return [owner for known in self._known.copy().values() if (owner := known()) is not None]

    def _remove_dead(self) -> None:
        for number, known in self._known.copy().items():
            if known() is None:
                taken = self._known.pop(number, known)
                if taken() is not None:  # a new object has just got the same id
                    self._known[number] = taken
        self._room = max(64, 2 * len(self._known))


_living = _Living()
_is_resetting = False
_later: list[Callable[[], object]] = []


def register(owner: Copied) -> None:
    """Have `reset_after_fork` called in each child, for as long as the object exists. Any thread."""
    _living.add(owner)


def afterwards(function: Callable[[], object]) -> None:
    """Call a function that needs the locks of other objects once all are reset. For `reset_after_fork`."""
    if _is_resetting:
        _later.append(function)
    else:  # a test has called that method
        function()


def _in_child() -> None:
    global _is_resetting  # noqa: PLW0603  this is the only thread
    _is_resetting = True
    for owner in _living.all():
        owner.reset_after_fork()
    _is_resetting = False
    while _later:
        _later.pop()()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
