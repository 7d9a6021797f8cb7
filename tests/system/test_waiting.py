"""The compiled wait for descriptors: like epoll's, but it keeps the GIL beside a thread that computes."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType

import pytest

from lochws.system import syscalls

from ..support.seen import PATIENCE, in_thread

_wait = getattr(syscalls.twins, "wait", None)
pytestmark = pytest.mark.skipif(_wait is None, reason="built without a compiler, a GIL or epoll")

READ, WRITE, HANG_UP = 1, 4, 16


def wait(epoll: select.epoll, timeout: object, most: object) -> list[tuple[int, int]]:
    assert _wait is not None
    found: list[tuple[int, int]] = _wait(epoll, timeout, most)
    return found


@pytest.fixture
def epoll() -> Iterator[select.epoll]:
    time.sleep(0.03)  # for 20 ms after another thread has delayed this one, waits may return early
    with select.epoll() as poller:
        yield poller


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Return 20 pairs of connected sockets: more than fit on the stack."""
    found = [socket.socketpair() for _ in range(20)]
    yield found
    for one, other in found:
        one.close()
        other.close()


Pairs = list[tuple[socket.socket, socket.socket]]


@pytest.mark.parametrize("most", [1, 16, 17, 100])
def test_it_returns_the_same_as_epoll(epoll: select.epoll, pairs: Pairs, most: int) -> None:
    for one, other in pairs:
        epoll.register(one, READ | WRITE)
        other.send(b"x")
    pairs[0][1].close()
    for timeout in (0, 0.0, 10, None):
        found = wait(epoll, timeout, most)
        assert len(found) == min(most, len(pairs))
        assert set(found) <= set(epoll.poll(0, 100))
    assert dict(wait(epoll, 0, 100))[pairs[0][0].fileno()] & HANG_UP


@pytest.mark.parametrize(("timeout", "least"), [(0.05, 0.05), (0.0001, 0.0001), (0, 0)])
def test_it_returns_an_empty_list_once_its_time_has_passed(
    epoll: select.epoll, timeout: float, least: float
) -> None:
    began = monotonic()
    assert wait(epoll, timeout, 1) == []
    assert monotonic() - began >= least


def test_it_releases_the_interpreter_while_it_waits(epoll: select.epoll, pairs: Pairs) -> None:
    one, other = pairs[0]
    epoll.register(one, READ)
    gate = threading.Event()
    thread = in_thread(lambda: gate.wait() and other.send(b"x"))
    before = sys.getswitchinterval()
    sys.setswitchinterval(PATIENCE)  # so the other thread can only run while this one waits
    try:
        gate.set()
        assert wait(epoll, PATIENCE, 1) == [(one.fileno(), READ)]
    finally:
        sys.setswitchinterval(before)
        thread.join()


def test_a_closed_epoll_and_wrong_arguments_are_refused(epoll: select.epoll) -> None:
    assert _wait is not None
    wrong: list[tuple[object, ...]] = [
        (), (epoll, 1), (epoll, 1, 1, 1), ("epoll", 1, 1), (epoll, "1", 1), (epoll, 1, "1"), (epoll, 1, None),
    ]
    for arguments in wrong:
        with pytest.raises(TypeError):
            _wait(*arguments)
    for most in (0, -1):
        with pytest.raises(OSError, match="Invalid argument"):
            wait(epoll, 0, most)
    epoll.close()
    with pytest.raises(ValueError, match="closed"):
        wait(epoll, 0, 1)


class _Interrupted(Exception):
    """Raised by a signal handler."""


@pytest.mark.parametrize("raises", [False, True])
def test_a_signal_ends_the_wait_and_its_handler_may_raise(epoll: select.epoll, raises: bool) -> None:
    def handle(_number: int, _frame: FrameType | None) -> None:
        if raises:
            raise _Interrupted

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        if raises:
            with pytest.raises(_Interrupted):
                wait(epoll, PATIENCE, 1)
        else:
            assert wait(epoll, PATIENCE, 1) == []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def computing() -> Iterator[Callable[[], int]]:
    """Have a thread compute without pause; it gives up the interpreter every 20 ms.

    Yields a function that returns how far the thread has counted.
    """
    state = {"count": 0, "stop": 0}

    def compute() -> None:
        while not state["stop"]:
            state["count"] += 1

    before = sys.getswitchinterval()
    sys.setswitchinterval(0.02)
    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield lambda: state["count"]
    finally:
        state["stop"] = 1
        sys.setswitchinterval(before)
        thread.join()


class Timer:
    """A descriptor that is ready 30 µs after `set`: as fast as a nearby server."""

    def __init__(self) -> None:
        self._libc = ctypes.PyDLL(None)  # which keeps the interpreter
        self.descriptor: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, 0)
        assert self.descriptor >= 0

    def set(self) -> None:
        self._libc.timerfd_settime(self.descriptor, 0, struct.pack("@4l", 0, 0, 0, 30_000), None)


@pytest.mark.parametrize("is_ready", [True, False])
def test_it_keeps_the_interpreter_for_what_is_ready_soon_once_another_thread_has_kept_it_long(
    epoll: select.epoll, is_ready: bool
) -> None:
    timer = Timer()
    epoll.register(timer.descriptor, READ)

    def keeps_it() -> bool:
        sys.setswitchinterval(0.02)
        wait(idle, 0.001, 1)  # this notices the delay, unless a busy machine holds up the other thread
        sys.setswitchinterval(0.1)  # so the other thread only runs if this one lets it
        before = count()
        for _ in range(20):
            timer.set()
            ready_at = monotonic() + 100e-6 * is_ready
            while monotonic() < ready_at:
                pass
            found = wait(epoll, 0 if is_ready else PATIENCE, 1)
            if not found or count() != before:  # a busy machine has given the processor away
                return False
            assert found == [(timer.descriptor, READ)]
        return True

    give_up_at = monotonic() + PATIENCE
    with select.epoll() as idle, computing() as count:
        while not keeps_it():
            assert monotonic() < give_up_at
    os.close(timer.descriptor)


def test_it_lets_others_run_if_nothing_is_ready(epoll: select.epoll) -> None:
    with computing() as count:
        before = count()
        for _ in range(5):
            while count() == before:
                assert wait(epoll, 0.001, 1) == []
            before = count()


def test_a_wait_releases_the_interpreter_again_although_something_is_always_ready_soon(
    epoll: select.epoll
) -> None:
    timer = Timer()
    epoll.register(timer.descriptor, READ)
    with computing():
        wait(epoll, 0.001, 1)
    gate = threading.Event()
    ran: list[bool] = []
    thread = in_thread(lambda: ran.append(gate.wait()))
    before = sys.getswitchinterval()
    sys.setswitchinterval(PATIENCE)  # so the other thread can only run if this one lets it
    try:
        gate.set()
        give_up_at = monotonic() + PATIENCE
        while not ran and monotonic() < give_up_at:
            timer.set()
            assert wait(epoll, PATIENCE, 1) in ([(timer.descriptor, READ)], [])  # it may return early
        assert monotonic() < give_up_at
    finally:
        sys.setswitchinterval(before)
        thread.join()
    os.close(timer.descriptor)


def test_for_5_ms_after_a_wait_that_kept_the_interpreter_in_vain_none_keeps_it(epoll: select.epoll) -> None:
    def lasted() -> float:
        began = monotonic()
        assert wait(epoll, 0.03, 1) == []
        return monotonic() - began

    give_up_at = monotonic() + PATIENCE
    with computing():
        while True:
            assert monotonic() < give_up_at
            wait(epoll, 0.001, 1)  # this notices the delay
            began = monotonic()
            if lasted() >= 0.03:
                continue  # it released the interpreter: on a busy machine, the delay may be long past
            if lasted() >= 0.03:
                break
            assert monotonic() - began > 0.005  # the machine has stalled


def test_a_signal_ends_a_wait_that_keeps_the_interpreter(epoll: select.epoll) -> None:
    def handle(_number: int, _frame: FrameType | None) -> None:
        raise _Interrupted

    slow = 0
    before = signal.signal(signal.SIGALRM, handle)
    try:
        with computing():
            for _ in range(20):
                began = monotonic()
                while monotonic() - began < 0.005:  # until a wait has noticed that another thread computes
                    began = monotonic()
                    wait(epoll, 0.001, 1)
                began = monotonic()
                with pytest.raises(_Interrupted):  # noqa: PT012  the signal may arrive before the wait
                    signal.setitimer(signal.ITIMER_REAL, 30e-6, 0.5)
                    wait(epoll, PATIENCE, 1)
                signal.setitimer(signal.ITIMER_REAL, 0)
                slow += monotonic() - began > 0.4
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert slow < 8  # a signal just before the system call is noticed with the next one
