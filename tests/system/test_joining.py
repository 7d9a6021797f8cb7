"""Waits of several threads for the end of the same thread, and interruptions of such waits."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType
from typing import Any

import pytest

from lochws.system.waits import is_alive, join

from ..support.seen import PATIENCE


@pytest.fixture
def _racing() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _raise(error: BaseException) -> None:
    raise error


def _as_threading(function: Callable[[BaseException], None]) -> Callable[[BaseException], None]:
    """Return the function as `threading` would contain it."""
    return FunctionType(function.__code__, vars(threading))


class _Interrupted(threading.Thread):
    """A thread for which the first join and the first look at whether it is alive raise."""

    def __init__(self, error: BaseException, raises: Callable[[BaseException], None]) -> None:
        self._errors = {"join": error, "is_alive": error}
        self._raises = raises
        self.may_end = threading.Event()
        super().__init__(target=self.may_end.wait)

    def join(self, timeout: float | None = None) -> None:
        self._fail("join")
        super().join(timeout)

    def is_alive(self) -> bool:
        self._fail("is_alive")
        return super().is_alive()

    def _fail(self, name: str) -> None:
        if name in self._errors:
            self._raises(self._errors.pop(name))


@pytest.mark.usefixtures("_racing")
def test_every_thread_that_waits_learns_of_the_end() -> None:
    with ThreadPoolExecutor(4) as pool:
        for _ in range(500):
            may_end = threading.Event()
            thread = threading.Thread(target=may_end.wait)
            thread.start()
            waiting = [pool.submit(join, thread, PATIENCE) for _ in range(4)]
            may_end.set()
            assert [one.result(PATIENCE) for one in waiting] == [True] * 4


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("release unlocked lock")])
def test_an_error_of_threading_itself_does_not_end_the_wait(error: Exception) -> None:
    thread = _Interrupted(error, _as_threading(_raise))
    thread.start()
    assert not join(thread, 0.01)
    assert is_alive(thread)
    thread.may_end.set()
    assert join(thread, PATIENCE)
    assert not is_alive(thread)


@pytest.mark.parametrize("error", [AssertionError("x"), RuntimeError("x"), KeyboardInterrupt()])
@pytest.mark.parametrize("ask", [is_alive, lambda thread: join(thread, PATIENCE)])
def test_an_error_of_a_signal_handler_propagates(error: BaseException, ask: Callable[[Any], object]) -> None:
    thread = _Interrupted(error, _raise)
    thread.start()
    with pytest.raises(type(error)) as raised:
        ask(thread)
    assert raised.value is error
    thread.may_end.set()
    threading.Thread.join(thread, PATIENCE)


def test_a_thread_that_would_wait_for_itself_raises() -> None:
    with pytest.raises(RuntimeError, match="a thread cannot wait for its own end"):
        join(threading.current_thread(), None)
