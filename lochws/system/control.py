"""Control lock: one reentrant lock for all decisions about apps, their threads and their handlers.

Python runs signal handlers and finalizers in the middle of anything, even while the thread holds a lock, and
they may call any public method. So a thread may wait for any lock while it holds any other, regardless of the
order in which our code takes them, and two locks are enough for a deadlock between two threads. With a single
lock, a thread can only wait for the one that holds it, and that one proceeds. The lock is held briefly; a
message needs it only to wake the loop. The send queue has its own lock, and a call that interrupts another
one never waits for it.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from .locks import reentrant_lock
from .reentry import interrupts_lochws

_lock = reentrant_lock()


def control_lock() -> threading.RLock:
    """Return the lock. The child of a fork has a new one, so objects there must call this again."""
    return _lock


def start_thread(thread: threading.Thread) -> None:
    """Start a thread with the lock released.

    `Thread.start` waits for the new thread, which may first run a finalizer that takes the lock. The caller
    must expect that other threads hold the lock in the meantime.

    Raises:
        RuntimeError: no thread can be started.
    """
    lock: Any = _lock
    if not lock._is_owned() or interrupts_lochws():  # then what is interrupted counts on the lock
        thread.start()
        return
    depth = lock._release_save()  # what `threading.Condition` calls to wait
    try:
        thread.start()
    finally:
        lock._acquire_restore(depth)


def _in_child() -> None:
    global _lock  # noqa: PLW0603  the parent's may be held for ever
    _lock = reentrant_lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
