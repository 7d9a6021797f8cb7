"""Waits in which no signal is overlooked.

CPython runs signal handlers on the main thread, between two of its steps or when the signal interrupts
what it waits in. A signal that comes after the last step and before the wait, or that another thread
catches, does neither: its handler would run when the wait is over by itself, perhaps never. So the main
thread waits in slices. (On Windows nothing interrupts the wait for a lock, and the slices are all there is.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import overload

#: How long a signal may have to wait for its handler, in seconds.
SLICE_SECONDS = 0.5
#: The longest wait at once, in seconds: selectors count milliseconds in 32 bits, which end after 24 days.
LONGEST_SECONDS = 86_400.0


@overload
def slice_of(timeout: float) -> float: ...
@overload
def slice_of(timeout: float | None) -> float | None: ...
def slice_of(timeout: float | None) -> float | None:
    """How much of a wait may be had at once, in seconds: on the main thread less than elsewhere."""
    if threading.get_ident() != threading.main_thread().ident:
        return timeout if timeout is None else min(timeout, LONGEST_SECONDS)
    return SLICE_SECONDS if timeout is None else min(timeout, SLICE_SECONDS)


class Waiters:
    """The threads that wait for something guarded by a lock: a condition that is made for the first of them.

    Of thousands of connections hardly one is ever waited for, and a `threading.Condition` takes over a
    kilobyte. Every method is called with the lock held. That is entered as a lock, and not through this:
    Ctrl-C in Python code would leave it held.

    Args:
        lock: the lock; reentrant or not.
    """

    __slots__ = ("_condition", "_lock")

    def __init__(self, lock: threading.Lock | threading.RLock) -> None:
        self._lock = lock
        self._condition: threading.Condition | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Let go of the lock until `notify_all` or, after so many seconds, False."""
        if self._condition is None:
            self._condition = threading.Condition(self._lock)
        return self._condition.wait(timeout)

    def notify_all(self) -> None:
        """Let all who wait look again."""
        if self._condition is not None:
            self._condition.notify_all()


def wait_for(condition: Waiters, predicate: Callable[[], object], timeout: float | None) -> bool:
    """What ``condition.wait_for(predicate, timeout)`` does. Returns False if the time is over first."""
    return _in_slices(condition.wait, predicate, timeout)


def wait_set(event: threading.Event, timeout: float) -> bool:
    """What ``event.wait(timeout)`` does. Returns False if the time is over first."""
    left = timeout
    while left > 0:
        # Taken at its word, without a look at the clock: the event is the user's, and may keep its own time.
        part = slice_of(left)
        if event.wait(part):
            return True
        left -= part
    return event.is_set()


def join(thread: threading.Thread, timeout: float | None) -> bool:
    """What ``thread.join(timeout)`` does. Returns False if the time is over first."""
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
