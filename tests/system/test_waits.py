"""Waits that the exception of a signal handler ends."""

from __future__ import annotations

import _thread
from collections.abc import Callable
from threading import Condition
from typing import Any

import pytest

from lochws.system.waits import ReentrantEvent, Waiters

from ..support.holds import checked_holds


class Struck(_thread.RLock):
    """A lock that a signal handler strikes right after a wait has released it."""

    def _release_save(self) -> Any:
        super()._release_save()  # type: ignore[misc]
        raise KeyboardInterrupt


def waiters(lock: Any) -> None:
    with lock:
        Waiters(lock).wait(60)


def event(lock: Any) -> None:
    event = ReentrantEvent()
    event._lock, event._changed = lock, Condition(lock)
    event.wait(60)


@pytest.mark.parametrize("wait", [waiters, event])
def test_a_wait_in_a_nested_hold_would_be_noticed(wait: Callable[[Any], None]) -> None:
    lock = _thread.RLock()
    with lock, checked_holds() as found, pytest.raises(AssertionError, match="holds"):
        wait(lock)
    assert len(found) == 1


@pytest.mark.parametrize("wait", [waiters, event])
def test_ctrl_c_between_the_release_of_the_lock_and_the_wait_gets_through(
    wait: Callable[[Any], None]
) -> None:
    lock = Struck()
    with pytest.raises(KeyboardInterrupt):
        wait(lock)
    assert lock.acquire(blocking=False)
    lock.release()
    assert not lock._is_owned()  # type: ignore[attr-defined]
