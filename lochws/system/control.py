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
from collections.abc import Callable
from operator import methodcaller
from time import sleep
from typing import Any

from ..errors import WebSocketError
from .locks import reentrant_lock
from .reentry import holds_up_others, interrupts_lochws, is_nested

#: Seconds after which a helper thread tries again to start a thread that could not be started.
RETRY_SECONDS = 0.05

#: Releases a lock however often it was acquired, as `threading.Condition` does to wait. `map` calls it for a
#: method of a list, so that no signal handler runs between the release and the storing of its result.
_RELEASE = methodcaller("_release_save")

_lock = reentrant_lock()
_starting: list[threading.Thread] = []

#: Returns whether the calling thread holds the lock, since the call interrupts a section that needs it. Such
#: a call must not wait. A condition variable would release the lock meanwhile, however often it was acquired,
#: and other threads would find the section half done. Any other wait would keep it from them. Each message
#: asks, so this is a method of the lock itself, the one that Condition calls. Call it as `control.is_held()`,
#: since the child of a fork has a new lock.
is_held: Callable[[], bool] = _lock._is_owned  # type: ignore[attr-defined]


def control_lock() -> threading.RLock:
    """Return the lock. The child of a fork has a new one, so objects there must call this again."""
    return _lock


def interrupts() -> bool:
    """Return whether the call under way interrupts lochws, or is one of its handlers, and must not wait."""
    return is_held() or interrupts_lochws()


def may_wait() -> bool:
    """Return whether the calling thread may wait: it interrupts no code that holds a lock."""
    return not (is_held() or holds_up_others())


def check_may_wait(method: str) -> None:
    """Raise WebSocketError unless the calling thread may wait.

    Args:
        method: the name of the method that would wait.
    """
    if not may_wait():
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
    released: list[Any] = []
    try:
        released.extend(map(_RELEASE, (lock,)))
        thread.start()
    finally:
        if released:
            lock._acquire_restore(*released)


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
    global _lock, is_held  # noqa: PLW0603  the parent's may be held for ever
    _lock = reentrant_lock()
    is_held = _lock._is_owned  # type: ignore[attr-defined]
    _starting.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_child)
