"""A check of every wait of lochws: the waiting thread must hold the lock exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from lochws.system.waits import ReentrantEvent, Waiters


def _holds(lock: Any) -> int:
    """Return how often the calling thread holds a lock, as far as the lock tells."""
    if not hasattr(lock, "_is_owned"):
        return 1
    return int(repr(lock).partition("count=")[2].partition(" ")[0]) if lock._is_owned() else 0


@contextmanager
def checked_holds() -> Iterator[list[str]]:
    """Have every wait fail that begins with a nested hold, and list these waits.

    After Ctrl-C in a wait the lock is taken once: the code around a nested hold would then release a lock
    that it does not hold.
    """
    found: list[str] = []

    def checking(function: Callable[..., bool], expected: int) -> Callable[..., bool]:
        @wraps(function)
        def wait(self: Any, timeout: float | None = None) -> bool:
            if (holds := _holds(self._lock)) != expected:
                found.append(f"{type(self).__name__}.wait with {holds} holds")
                raise AssertionError(found[-1])
            return function(self, timeout)

        return wait

    originals = Waiters.wait, ReentrantEvent.wait
    Waiters.wait = checking(Waiters.wait, 1)  # type: ignore[method-assign]
    ReentrantEvent.wait = checking(ReentrantEvent.wait, 0)  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Waiters.wait, ReentrantEvent.wait = originals  # type: ignore[method-assign]
