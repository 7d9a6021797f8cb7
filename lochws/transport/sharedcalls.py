"""Shared calls: blocking calls on a few threads; requests for the same thing share one call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ..system import forks, usercode
from ..system.control import control_lock, start_thread
from ..system.deadline import Deadline
from ..system.interpreters import new_thread
from ..system.steps import Steps, Wait

T = TypeVar("T")


class SharedCall(Generic[T]):
    """One call, which any number of openings may wait for.

    Attributes:
        results: what the function returned, as the only item; empty until then, and if it raised.
        error: the exception that it raised, or None.
        has_ended: whether the call has ended.
    """

    def __init__(self, key: Hashable, function: Callable[[], T], about: str) -> None:
        self.key = key
        self.function = function
        self.about = about
        self._owners = usercode.owners()  # of the waiting thread
        self.waiting: dict[Deadline, None] = {}  # guarded by the lock of SharedCalls
        self.results: list[T] = []
        self.error: BaseException | None = None
        self.has_ended = False

    def run(self) -> None:
        """Make the call. Runs on a thread of `SharedCalls`."""
        try:
            self.results.append(usercode.run(self.function, *self._owners))
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            self.error = error


class SharedCalls(Generic[T]):
    """Makes blocking calls on at most `size` threads, which end when no call waits for one.

    A running call cannot be interrupted. One that outlasts the deadlines of all that wait for it is left
    running, and later requests for the same thing join it.

    Args:
        name: the beginning of the threads' names; the name of the thing follows.
        size: how many threads there may be.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self.reset_after_fork()
        forks.register(self)

    def reset_after_fork(self) -> None:
        """Forget the calls and threads of the parent, in the child of a fork."""
        self._lock = control_lock()
        # All below is guarded by _lock.
        self._calls: dict[Hashable, SharedCall[T]] = {}  # not ended
        self._queue: deque[SharedCall[T]] = deque()  # not begun
        self._threads = 0

    def call(
        self, key: Hashable, function: Callable[[], T], deadline: Deadline, about: str
    ) -> Steps[SharedCall[T]]:
        """Wait for a call, which is made unless one with the same key is under way.

        Args:
            key: what the result depends on.
            function: the function to call; it may block.
            deadline: the limit for the wait.
            about: a word on what the call is for, which becomes part of the thread's name.

        Raises:
            TimeoutError: the deadline has passed.
            Cancelled: the deadline was cancelled.
        """
        call, is_first = self._join(SharedCall(key, function, about), deadline)
        try:
            if is_first:
                self._start_thread(call)
            while not call.has_ended:
                yield Wait((), deadline.until())
            return call
        finally:
            with self._lock:
                call.waiting.pop(deadline, None)

    def _join(self, call: SharedCall[T], deadline: Deadline) -> tuple[SharedCall[T], bool]:
        """Return the call to wait for, and whether a thread should be started for it."""
        with self._lock:
            known = self._calls.setdefault(call.key, call)
            known.waiting[deadline] = None
            if known is not call:
                return known, False
            self._queue.append(call)
            if self._threads >= self._size:
                return call, False
            self._threads += 1
            return call, True

    def _start_thread(self, call: SharedCall[T]) -> None:
        try:
            start_thread(new_thread(self._run, f"{self._name}-{call.about}"))
        except RuntimeError as error:
            with self._lock:
                self._threads -= 1
                if self._threads or call not in self._queue:
                    return  # another thread makes the call
                self._queue.remove(call)
            call.error = error
            self._end(call)

    def _run(self) -> None:
        thread = threading.current_thread()
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                call = self._queue.popleft()
                if not call.waiting:
                    del self._calls[call.key]
                    continue
            thread.name = f"{self._name}-{call.about}"
            call.run()
            self._end(call)
            del call  # its result may be large, and the thread goes on

    def _end(self, call: SharedCall[T]) -> None:
        with self._lock:
            self._calls.pop(call.key, None)
            call.has_ended = True
            waiting = list(call.waiting)
        for deadline in waiting:
            deadline.wake()
