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
from weakref import WeakSet


class Copied(Protocol):
    """What has a copy in the child of a fork."""

    def forget(self) -> None:
        """Let go of the parent's, in the child: its only thread calls this before anything else."""


_living: WeakSet[Copied] = WeakSet()


def make_known(owner: Copied) -> None:
    """Have `forget` called in each child for as long as the object lives. Any thread."""
    _living.add(owner)


def _in_child() -> None:
    for owner in list(_living):
        owner.forget()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
