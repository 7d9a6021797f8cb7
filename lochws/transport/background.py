"""Background calls, which may block for minutes: each runs in a thread, and the wait has a deadline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ..system import forks, usercode
from ..system.control import control_lock, start_thread
from ..system.deadline import Deadline
from ..system.interpreters import new_thread
from ..system.report import report_aside
from ..system.steps import Steps, Wait, raisable

T = TypeVar("T")


def ignore(_: object) -> None:
    """Do nothing with a late result."""


class Background(Generic[T]):
    """Calls functions in threads, one call at a time.

    A running function cannot be interrupted. So a call that outlasts its deadline is left running, and the
    next `call` waits for it too, instead of starting another thread. For one attempt at a time.

    Args:
        name: the name of the threads.
        discard: called with the result of a call whose caller has stopped waiting.
    """

    def __init__(self, name: str, discard: Callable[[T], object] = ignore) -> None:
        self._name = name
        self._discard = discard
        self._left: _Work[T] | None = None  # a call that was left running

    @property
    def is_busy(self) -> bool:
        """True if a call was left running."""
        return self._left is not None

    def call(self, function: Callable[[], T], deadline: Deadline, *, key: Hashable = None) -> Steps[T]:
        """Call a function, and wait for it until the deadline passes.

        Args:
            function: the function to call; it may block.
            deadline: the limit for the wait.
            key: what the result depends on; a call that was left running is joined if it has the same.

        Raises:
            TimeoutError: the deadline has passed, or a call with another key is still running.
            Cancelled: the deadline was cancelled.
            RuntimeError: no thread can be started.
            BaseException: any exception that the function raises, as `raisable` changes it.
        """
        work = self._left
        if work is not None and work.key != key and not work.has_ended:
            raise TimeoutError("an earlier call of this function has not returned yet")
        if work is None or work.key != key or not work.join(deadline):
            work = _Work(function, self._discard, key)
            work.join(deadline)
            start_thread(new_thread(work.run, self._name))
        self._left = work
        try:
            while not work.has_ended:
                yield Wait((), deadline.until())
            return work.take()
        finally:
            if work.leave():
                self._left = None


class _Work(Generic[T]):
    """One call, its outcome, and the deadline of the attempt that waits for it."""

    def __init__(self, function: Callable[[], T], discard: Callable[[T], object], key: Hashable) -> None:
        self.key = key
        self._function = function
        self._discard = discard
        self._owners = usercode.owners()  # of the waiting thread
        self._lock = control_lock()  # guards the attributes below
        self._waiting: Deadline | None = None
        self._abandoned = False
        self._results: list[T] = []
        self._error: BaseException | None = None
        self.has_ended = False
        forks.register(self)

    def reset_after_fork(self) -> None:
        """Make a new lock, in the child of a fork."""
        self._lock = control_lock()

    def run(self) -> None:
        """Make the call. Runs in its own thread."""
        results: list[T] = []
        error: BaseException | None = None
        try:
            results.append(usercode.run(self._function, *self._owners))
        except BaseException as raised:  # noqa: BLE001  raised in the waiting thread
            error = raised
        with self._lock:
            self._results, self._error, self.has_ended = results, error, True
            waiting, abandoned = self._waiting, self._abandoned
        if waiting is not None:
            waiting.wake()
        elif abandoned:
            self._discard_all()

    def join(self, deadline: Deadline) -> bool:
        """Register a deadline to be woken when the call ends. Return False if it has already ended."""
        with self._lock:
            if self.has_ended:
                return False
            self._waiting, self._abandoned = deadline, False
            return True

    def leave(self) -> bool:
        """Stop waiting, and discard the result. Return whether the call had ended."""
        with self._lock:
            self._waiting, self._abandoned = None, True
            has_ended = self.has_ended
        if has_ended:
            self._discard_all()
        return has_ended

    def take(self) -> T:
        """Return the result of the call, or raise its exception."""
        if self._error is not None:
            raise raisable(self._error)
        return self._results.pop()

    def _discard_all(self) -> None:
        while self._results:
            try:
                self._discard(self._results.pop())
            except Exception as error:  # noqa: BLE001  it is reported
                report_aside(logging.WARNING, "a late result could not be discarded", error=error)
