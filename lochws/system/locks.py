"""Locks that an exception of a signal handler cannot leave held.

Signal handlers run on the main thread, and Ctrl-C raises there. Up to CPython 3.13, entering a ``with`` block
on a lock is a single instruction: the exception comes either before the lock is taken, or inside the block,
which releases it. From 3.14 on, ``__enter__`` is called like any other function, and signals are handled
right after a call to a function in C: the lock is held by then, but the block has not begun. More than half
of the exceptions in a loop left an `RLock` held there. Nothing is handled when a function in Python returns,
so `__enter__` is one here.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

__all__ = ["plain_lock", "reentrant_lock"]

if TYPE_CHECKING or sys.implementation.name != "cpython" or sys.version_info < (3, 14):
    reentrant_lock = threading.RLock
    plain_lock = threading.Lock
else:
    import _thread

    class _Lock(_thread.RLock):
        """A reentrant lock whose ``with`` block releases it, wherever an exception strikes."""

        __slots__ = ()

        def __enter__(self) -> bool:
            depth = self._recursion_count()
            try:
                return self.acquire()
            except BaseException:
                # Raised while waiting, or right after the lock was taken.
                if self._recursion_count() > depth:
                    self.release()
                raise

    #: Return a new lock that its thread may take again.
    reentrant_lock = _Lock
    #: Return a new lock that its thread must not take again. Here it is reentrant, too, because only a
    #: reentrant lock tells who holds it.
    plain_lock = _Lock
