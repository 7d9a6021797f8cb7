"""Calls that may block for minutes, in threads of their own, waited for under a deadline."""

from __future__ import annotations

import selectors
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ..system.deadline import Deadline
from ..system.wakeup import WakePipe
from .waiting import wait

T = TypeVar("T")


def call(
    function: Callable[[], T], deadline: Deadline, *, name: str, discard: Callable[[T], object]
) -> T:
    """Call a function that may block, in a daemon thread, and wait for it while the deadline allows.

    A call that takes longer is left to itself: nothing can interrupt it.

    Args:
        name: of the thread.
        discard: gets what the function returns when nobody waits for it any more.

    Raises:
        TimeoutError: the deadline has passed.
        Cancelled: the deadline was cancelled.
        BaseException: whatever the function raises.
    """
    work = _Work(function, discard)
    try:
        threading.Thread(target=work.run, name=name, daemon=True).start()
        wait(work.pipe, selectors.EVENT_READ, deadline)
    except BaseException:
        work.abandon()
        raise
    finally:
        work.pipe.close()
    return work.take()


class _Work(Generic[T]):
    """One call, its outcome, and whether somebody still waits for it."""

    def __init__(self, function: Callable[[], T], discard: Callable[[T], object]) -> None:
        self.pipe = WakePipe()
        self._function = function
        self._discard = discard
        self._lock = threading.Lock()  # guards what follows
        self._abandoned = False
        self._results: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """Make the call. In its own thread."""
        try:
            result = self._function()
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            self._error = error
        else:
            with self._lock:
                self._results.append(result)
                late = self._abandoned
            if late:
                self._discard(result)
                return
        self.pipe.wake()

    def abandon(self) -> None:
        """Nobody waits any more. What came meanwhile is discarded."""
        with self._lock:
            self._abandoned = True
            results = list(self._results)
        for result in results:
            self._discard(result)

    def take(self) -> T:
        """What the call has returned; or it raises what the call has raised."""
        if self._error is not None:
            raise self._error
        return self._results[0]
