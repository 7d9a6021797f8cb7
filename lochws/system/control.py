"""The control lock: one reentrant lock for whatever decides about apps, their threads and their handlers.

Python runs signal handlers and finalizers in the middle of anything, also while the thread holds a lock, and
they may call any public method. So a thread may come to wait for any lock while it holds any other, whatever
order the code keeps to, and two locks are enough for two threads to wait for each other for ever. With one
there is no other thread to wait for but the one that holds it, and that one goes on. It is held for moments;
a message needs it only to wake the loop. The send queue has a lock of its own, for which no call waits
that interrupts another.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from .reentry import interrupts_lochws

_lock = threading.RLock()


def control_lock() -> threading.RLock:
    """Return the lock. In the child of a fork it is a new one, which objects must ask for again."""
    return _lock


def start_thread(thread: threading.Thread) -> None:
    """Start a thread, without the lock: `Thread.start` waits, and what the new thread meets first may be a
    finalizer.

    The caller must expect others to hold the lock meanwhile, as it must expect a signal handler anywhere.

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
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
