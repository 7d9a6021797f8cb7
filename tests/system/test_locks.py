"""Locks are released wherever an exception of a signal handler strikes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from lochws.system.locks import plain_lock, reentrant_lock

LOCKS = pytest.mark.parametrize("make", [plain_lock, reentrant_lock])


class Strike(Exception):
    """Raised by the signal handler."""


class Striker:
    """A signal handler that raises once each time it is armed."""

    def __init__(self) -> None:
        self.is_armed = False
        self.struck = 0

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if self.is_armed:
            self.is_armed = False
            self.struck += 1
            raise Strike


@contextmanager
def striking() -> Iterator[Striker]:
    """Send a signal every 0.1 ms."""
    striker = Striker()
    before = signal.signal(signal.SIGALRM, striker)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    try:
        yield striker
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_free(lock: Any) -> bool:
    """Return whether another thread could take the lock, and release it if it did."""
    found: list[bool] = []

    def look() -> None:
        found.append(lock.acquire(blocking=False))
        if found[0]:
            lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


def enter_again_and_again(lock: Any, striker: Striker) -> None:
    striker.is_armed = True
    while True:
        with lock:
            pass


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends signals")
@LOCKS
def test_a_lock_is_free_after_each_exception_that_interrupts_a_with_block(make: Callable[[], Any]) -> None:
    lock = make()
    with striking() as striker:
        while striker.struck < 500:
            with pytest.raises(Strike):
                enter_again_and_again(lock, striker)
            assert is_free(lock), f"held after exception {striker.struck}"


@LOCKS
def test_a_lock_keeps_other_threads_out(make: Callable[[], Any]) -> None:
    lock = make()
    with lock:
        assert not is_free(lock)
    assert is_free(lock)


@LOCKS
def test_a_condition_can_wait_with_a_lock(make: Callable[[], Any]) -> None:
    lock = make()
    changed = threading.Condition(lock)
    said: list[str] = []

    def say() -> None:
        with lock:
            said.append("now")
            changed.notify_all()

    thread = threading.Thread(target=say)
    with lock:
        thread.start()
        assert changed.wait_for(lambda: said, 10)
    thread.join()
    assert is_free(lock)


def test_a_reentrant_lock_is_held_until_its_outermost_block_ends() -> None:
    lock = reentrant_lock()
    with lock:
        with lock:
            pass
        assert not is_free(lock)
    assert is_free(lock)
