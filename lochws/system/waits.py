"""Waits during which no signal is missed.

CPython runs signal handlers on the main thread, between two instructions or when the signal interrupts a
system call. A signal that arrives after the last instruction and before the wait, or at another thread, does
neither: its handler would run when the wait ends by itself, perhaps never. So the main thread waits in
slices. (On Windows nothing interrupts the wait for a lock, and there are only the slices.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from time import monotonic, sleep
from typing import Any, overload

from .control import control_lock, is_starting

#: The longest delay of a signal handler, in seconds.
SLICE_SECONDS = 0.5
#: The longest single wait, in seconds: selectors count milliseconds in 32 bits, which is 24 days.
LONGEST_SECONDS = 86_400.0
# Seconds between two checks, in a wait for the end of a thread, of whether the thread has started.
_START_LOOK_SECONDS = 0.001


@overload
def slice_of(timeout: float) -> float: ...
@overload
def slice_of(timeout: float | None) -> float | None: ...
def slice_of(timeout: float | None) -> float | None:
    """Return how long to wait at a time, in seconds: less on the main thread than elsewhere."""
    if threading.get_ident() != threading.main_thread().ident:
        return timeout if timeout is None else min(timeout, LONGEST_SECONDS)
    return SLICE_SECONDS if timeout is None else min(timeout, SLICE_SECONDS)


class Waiters:
    """A condition variable that takes no memory until a thread waits for it.

    Few of thousands of connections are ever waited for, and a `threading.Condition` takes over a kilobyte.
    Every method is called with the lock held. Callers enter the lock itself: if they entered it through
    Python code, Ctrl-C could leave it held.

    Args:
        lock: the lock that guards the awaited condition; it may be reentrant or not.
    """

    __slots__ = ("_condition", "_lock")

    def __init__(self, lock: threading.Lock | threading.RLock) -> None:
        self._lock = lock
        self._condition: threading.Condition | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock until `notify_all` is called. Return False if the timeout expires first."""
        if self._condition is None:
            self._condition = threading.Condition(self._lock)
        try:
            return self._condition.wait(timeout)
        except BaseException:
            _hold_again(self._lock)
            raise

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
        """Wake all waiting threads; later calls of `wait` return immediately."""
        with self._lock:
            self._is_set = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Reset the event, so that `wait` blocks again."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until `set` is called. Return False if the timeout expires first."""
        with self._lock:
            try:
                return self._changed.wait_for(self.is_set, timeout)
            except BaseException:
                _hold_again(self._lock)
                raise


def _hold_again(lock: Any) -> None:
    """Take a lock again that a wait had released when an exception of a signal handler ended it.

    `threading` releases it right before the `try` statement that takes it again. An exception between the two
    would be replaced by a RuntimeError at the end of the caller's ``with`` block. Only reentrant locks tell
    who holds them. It is taken once, since a thread that holds a lock repeatedly does not wait; the tests
    check that.
    """
    if hasattr(lock, "_is_owned") and not lock._is_owned():
        lock._acquire_restore((1, threading.get_ident()))  # unlike `acquire`, it runs no signal handlers


def wait_for(condition: Waiters, predicate: Callable[[], object], timeout: float | None) -> bool:
    """Wait on a condition until a predicate is true, in slices. Return False if the timeout expires first."""
    return _in_slices(condition.wait, predicate, timeout)


def wait_set(event: threading.Event, timeout: float) -> bool:
    """Wait until an event is set, in slices. Return False if the timeout expires first."""
    left = timeout
    while left > 0:
        # No clock is read here: the event is the user's, and may use its own clock.
        part = slice_of(left)
        if event.wait(part):
            return True
        left -= part
    return event.is_set()


def join(thread: threading.Thread, timeout: float | None) -> bool:
    """Wait until a thread has ended, in slices. Return False if the timeout expires first.

    Any number of threads may wait for the same one.

    Raises:
        RuntimeError: it is the calling thread.
    """
    if thread is threading.current_thread():
        raise RuntimeError("a thread cannot wait for its own end")
    return _in_slices(partial(_join_once, thread), lambda: not is_alive(thread), timeout)


def is_alive(thread: threading.Thread) -> bool:
    """Return whether a thread runs or is about to, also while other threads ask or wait for it to end."""
    if is_starting(thread):
        return True
    while True:
        try:
            return thread.is_alive()
        except (AssertionError, RuntimeError) as error:
            _check_race(error)


def _join_once(thread: threading.Thread, timeout: float | None) -> None:
    if is_starting(thread):
        sleep(_START_LOOK_SECONDS)
        return
    try:
        thread.join(timeout)
    except (AssertionError, RuntimeError) as error:
        _check_race(error)


def _check_race(error: AssertionError | RuntimeError) -> None:
    """Raise the error again unless `threading` raised it because several threads waited for the same one.

    Before Python 3.13 each of them takes and releases the same lock inside `threading`, and they get in each
    other's way. Asking again gives the answer.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None or traceback.tb_frame.f_globals is not vars(threading):
        raise error  # of a signal handler


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
