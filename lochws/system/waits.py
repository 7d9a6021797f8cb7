"""Waits during which no signal is missed.

CPython runs signal handlers on the main thread, between two instructions or when the signal interrupts a
system call. A signal that arrives after the last instruction and before the wait, or at another thread, does
neither: its handler would run when the wait ends by itself, perhaps never. So the main thread waits in
slices. (On Windows nothing interrupts the wait for a lock, and there are only the slices.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import overload

from .control import control_lock

#: How long a signal handler may be delayed at most, in seconds.
SLICE_SECONDS = 0.5
#: The longest single wait, in seconds: selectors count milliseconds in 32 bits, which is 24 days.
LONGEST_SECONDS = 86_400.0


@overload
def slice_of(timeout: float) -> float: ...
@overload
def slice_of(timeout: float | None) -> float | None: ...
def slice_of(timeout: float | None) -> float | None:
    """Return how much of a wait to do at once, in seconds: less on the main thread than elsewhere."""
    if threading.get_ident() != threading.main_thread().ident:
        return timeout if timeout is None else min(timeout, LONGEST_SECONDS)
    return SLICE_SECONDS if timeout is None else min(timeout, SLICE_SECONDS)


class Waiters:
    """A condition variable that takes no memory until a thread waits for it.

    Few of thousands of connections are ever waited for, and a `threading.Condition` takes over a kilobyte.
    Every method is called with the lock held. Callers enter the lock itself: if they entered it through
    Python code, Ctrl-C could leave it held.

    Args:
        lock: guards what is waited for; reentrant or not.
    """

    __slots__ = ("_condition", "_lock")

    def __init__(self, lock: threading.Lock | threading.RLock) -> None:
        self._lock = lock
        self._condition: threading.Condition | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock until `notify_all` is called. Returns False if the time is up first."""
        if self._condition is None:
            self._condition = threading.Condition(self._lock)
        return self._condition.wait(timeout)

    def notify_all(self) -> None:
        """Wake all threads that wait."""
        if self._condition is not None:
            self._condition.notify_all()


class ReentrantEvent(threading.Event):
    """An event that a signal handler or a finalizer may set in the middle of `set` on its own thread.

    The lock of a `threading.Event` is not reentrant: there, the inner call would wait for the outer one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = control_lock()
        self._changed = threading.Condition(self._lock)
        self._is_set = False  # guarded by _lock

    def is_set(self) -> bool:
        """Return whether `set` was called since the last `clear`."""
        return self._is_set

    def set(self) -> None:
        """Wake all threads that wait, and let those that come later go on at once."""
        with self._lock:
            self._is_set = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Have `wait` wait again."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until `set` is called. Returns False if the time is up first."""
        with self._lock:
            return self._changed.wait_for(self.is_set, timeout)


def wait_for(condition: Waiters, predicate: Callable[[], object], timeout: float | None) -> bool:
    """Do what ``condition.wait_for(predicate, timeout)`` does. Returns False if the time is up first."""
    return _in_slices(condition.wait, predicate, timeout)


def wait_set(event: threading.Event, timeout: float) -> bool:
    """Do what ``event.wait(timeout)`` does. Returns False if the time is up first."""
    left = timeout
    while left > 0:
        # The clock is not looked at: the event is the user's, and may go by a clock of its own.
        part = slice_of(left)
        if event.wait(part):
            return True
        left -= part
    return event.is_set()


def join(thread: threading.Thread, timeout: float | None) -> bool:
    """Do what ``thread.join(timeout)`` does. Returns False if the time is up first."""
    return _in_slices(thread.join, lambda: not thread.is_alive(), timeout)


def _in_slices(
    wait: Callable[[float | None], object], is_over: Callable[[], object], timeout: float | None
) -> bool:
    end = None if timeout is None else monotonic() + timeout
    while not is_over():
        left = None if end is None else end - monotonic()
        if left is not None and left <= 0:
            return False
        wait(slice_of(left))
    return True
