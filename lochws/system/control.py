"""Control lock: one reentrant lock for all decisions about apps, their threads and their handlers.

Python runs signal handlers and finalizers in the middle of anything, even while the thread holds a lock, and
they may call any public method. So a thread may wait for any lock while it holds any other, regardless of the
order in which our code takes them, and two locks are enough for a deadlock between two threads. With a single
lock, a thread can only wait for the one that holds it, and that one proceeds. The lock is held briefly; a
message needs it only to wake the loop. The send queue has its own lock, and a call that interrupts another
one never waits for it.
"""

from __future__ import annotations

import _thread
import os
import threading
from time import sleep
from typing import Any

from ..errors import WebSocketError
from .locks import reentrant_lock
from .reentry import interrupts_lochws, is_nested

#: Seconds after which a helper thread tries again to start a thread that could not be started.
RETRY_SECONDS = 0.05

_lock = reentrant_lock()
_starting: list[threading.Thread] = []


def control_lock() -> threading.RLock:
    """Return the lock. The child of a fork has a new one, so objects there must call this again."""
    return _lock


def is_held() -> bool:
    """Return whether the calling thread holds the lock, since the call interrupts a section that needs it.

    Such a call must not wait. A condition variable would release the lock meanwhile, however often it was
    acquired, and other threads would find the section half done. Any other wait would keep it from them.
    """
    return _lock._is_owned()  # type: ignore[attr-defined, no-any-return]  # what Condition asks it, too


def interrupts() -> bool:
    """Return whether the call under way interrupts lochws, or is one of its handlers, and must not wait."""
    return is_held() or interrupts_lochws()


def check_not_held(method: str) -> None:
    """Raise WebSocketError if the calling thread holds the lock, and so must not wait.

    Args:
        method: the name of the method that would wait.
    """
    if is_held():
        raise WebSocketError(
            f"{method}() would wait, and was called by code that interrupts lochws, such as a signal handler "
            "or a finalizer: pass timeout=0 there, or call it elsewhere"
        )


def start_thread(thread: threading.Thread) -> None:
    """Start a thread; the caller may hold the lock, which is released meanwhile.

    `Thread.start` waits for the new thread, which may first run a finalizer that takes any lock of lochws. If
    this call interrupts another call of lochws, which relies on the locks that it holds, it does not wait:
    the thread starts a moment later.

    Raises:
        RuntimeError: no thread can be started.
    """
    lock: Any = _lock
    if is_nested():
        _starting.append(thread)
        try:
            _thread.start_new_thread(_start_soon, (thread,))
        except BaseException:
            _starting.remove(thread)
            raise
        return
    if not is_held():
        thread.start()
        return
    depth = lock._release_save()  # what `threading.Condition` calls to wait
    try:
        thread.start()
    finally:
        lock._acquire_restore(depth)


def is_starting(thread: threading.Thread) -> bool:
    """Return whether a thread passed to `start_thread` has yet to start."""
    return thread in _starting


def _start_soon(thread: threading.Thread) -> None:
    while thread in _starting:
        try:
            thread.start()
        except RuntimeError:  # the limit of threads is reached, this one included
            sleep(RETRY_SECONDS)
        except BaseException:
            _starting.remove(thread)  # else a wait for its end would last for ever
            raise
        else:
            _starting.remove(thread)


def _in_child() -> None:
    global _lock  # noqa: PLW0603  the parent's may be held for ever
    _lock = reentrant_lock()
    _starting.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
