"""Threads that are started by a finalizer in the middle of a section under the control lock."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest

from lochws.system import control, waits
from lochws.system.control import control_lock, is_held, is_starting, start_thread

from ..support.interrupting import interrupt
from ..support.seen import PATIENCE, in_thread


class LateThread(threading.Thread):
    """A thread that takes the control lock before `start` returns, as a finalizer on it may."""

    def _bootstrap(self) -> None:
        with control_lock():
            pass
        super()._bootstrap()  # type: ignore[misc]  # of threading


class Finalized:
    """Calls a function when it is deleted."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function

    def __del__(self) -> None:
        self.function()


def interrupt_section(function: Callable[[], object]) -> None:
    """Have a finalizer call a function while code of a ready-made handler holds the control lock."""
    things = [Finalized(function)]
    module = {"__name__": "lochws.handlers.subscriptions", "lock": control_lock(), "things": things}
    exec("with lock:\n    things.clear()", module)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="opcodes are others there")
def test_ctrl_c_at_any_point_of_a_start_under_the_lock_leaves_the_lock_as_it_was() -> None:
    def start() -> None:
        with control_lock():
            start_thread(thread)
            owned.append(is_held())

    point, struck = 0, True
    while struck:
        point += 1
        thread, owned = threading.Thread(target=bool), list[bool]()
        struck = interrupt(start, point, {control.__file__})
        assert owned in ([], [True])
        assert not is_held()
        if thread.ident is not None:
            thread.join(PATIENCE)
    assert point > 3


def test_the_finalizer_does_not_wait_for_the_thread() -> None:
    ended = threading.Event()
    thread = LateThread(target=ended.set)
    was_starting: list[bool] = []

    def start() -> None:
        start_thread(thread)
        was_starting.append(is_starting(thread))
        was_starting.append(waits.is_alive(thread))

    section = in_thread(lambda: interrupt_section(start))
    section.join(PATIENCE)
    assert not section.is_alive(), "it hangs"
    assert was_starting == [True, True]
    assert waits.join(thread, PATIENCE)
    assert ended.is_set()
    assert not is_starting(thread)


def test_no_other_thread_gets_into_the_section() -> None:
    thread = threading.Thread()
    inside, entered, seen = threading.Event(), threading.Event(), []

    def enter() -> None:
        inside.wait(PATIENCE)
        with control_lock():
            entered.set()

    def start() -> None:
        inside.set()
        start_thread(thread)
        seen.append(entered.wait(0.05))

    other = in_thread(enter)
    interrupt_section(start)
    other.join()
    assert seen == [False]
    assert waits.join(thread, PATIENCE)


def test_the_thread_is_tried_again_until_there_is_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "RETRY_SECONDS", 0.001)

    class Refused(threading.Thread):
        tries = 0

        def start(self) -> None:
            self.tries += 1
            if self.tries < 3:
                raise RuntimeError("can't start new thread")
            super().start()

    thread = Refused()
    interrupt_section(lambda: start_thread(thread))
    assert waits.join(thread, PATIENCE)
    assert thread.tries == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_cannot_be_started_for_another_reason_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported = threading.Event()
    monkeypatch.setattr(sys, "unraisablehook", lambda _: reported.set())

    class Broken(threading.Thread):
        def start(self) -> None:
            raise MemoryError

    thread = Broken()
    interrupt_section(lambda: start_thread(thread))
    assert reported.wait(PATIENCE)
    assert not is_starting(thread)


def test_elsewhere_the_thread_has_started_when_the_call_returns() -> None:
    thread = LateThread()
    with control_lock():
        start_thread(thread)
        assert is_held()
    assert thread.ident is not None
    assert not is_starting(thread)
    thread.join()
