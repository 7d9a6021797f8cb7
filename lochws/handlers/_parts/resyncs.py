"""Resyncs: a bounded number of calls, in an executor, of a user's function that fetches a snapshot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any

from ...errors import WebSocketError
from ...system.control import start_thread
from ...system.interpreters import new_thread
from ...system.report import safe_name
from .checks import AppOrFeed

#: Called on the handlers' thread with the result or the exception of a call.
_Done = Callable[[object, "BaseException | None"], object]


class Job:
    """A call that waits or runs. `cancel` makes sure that its outcome is ignored."""

    __slots__ = ("done", "is_over", "key", "timer")

    def __init__(self, key: Hashable, done: _Done) -> None:
        self.key = key
        self.done = done
        self.is_over = False
        self.timer: Any = None

    def cancel(self) -> None:
        """Ignore the outcome."""
        self.is_over = True
        if self.timer is not None:
            self.timer.cancel()


class Resyncs:
    """Calls a function for keys, at most `parallel` at once. For the handlers' thread.

    A call that exceeds the time limit counts as failed at once, but keeps its place until it returns. So a
    server that does not answer cannot make the number of threads grow.

    Args:
        app: the app or the feed.
        function: the function.
        executor: the executor that calls it; None for a thread per call.
        parallel: how many calls may run at once.
        timeout: the time limit in seconds.
    """

    def __init__(
        self, app: AppOrFeed, function: Callable[[Any], object], executor: Executor | None, parallel: int,
        timeout: float,
    ) -> None:
        self._app = app
        self._function = function
        self._executor = executor
        self._parallel = parallel
        self._timeout = timeout
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()  # threads of the executor remove from it

    def begin(self, key: Hashable, done: _Done) -> Job:
        """Have the function called with a key, and then `done` with its result, or with its exception."""
        job = Job(key, done)
        self._waiting.append(job)
        self._go_on()
        return job

    def reset_after_fork(self) -> None:
        """Forget the calls, whose threads exist only in the parent."""
        self._waiting.clear()
        self._running.clear()

    def _go_on(self) -> None:
        while self._waiting and len(self._running) < self._parallel:
            job = self._waiting.popleft()
            if job.is_over:
                continue
            self._running.add(job)
            with suppress(WebSocketError):  # the app has stopped
                job.timer = self._app.call_later(self._timeout, partial(self._too_late, job))
            returned = partial(self._returned, job)
            try:
                self._submit(job.key).add_done_callback(returned)
            except Exception as error:  # noqa: BLE001  the executor was shut down, or there is no room for a thread
                failed: Future[object] = Future()
                failed.set_exception(error)
                returned(failed)

    def _submit(self, key: Hashable) -> Future[object]:
        if self._executor is not None:
            return self._executor.submit(self._function, key)
        future: Future[object] = Future()
        run = partial(_run, future, self._function, key)
        start_thread(new_thread(run, "lochws-resync"))
        return future

    # Any thread.

    def _returned(self, job: Job, future: Future[object]) -> None:
        self._running.discard(job)  # also if the app has stopped, since it may start again
        with suppress(WebSocketError):
            self._app.call_later(0, partial(self._end, job, future))

    # The handlers' thread.

    def _end(self, job: Job, future: Future[object]) -> None:
        self._go_on()
        if job.is_over:
            return
        job.cancel()
        if future.cancelled():
            job.done(None, RuntimeError("the executor cancelled the call"))
        else:
            error = future.exception()
            job.done(None if error else future.result(), error)

    def _too_late(self, job: Job) -> None:
        job.is_over = True
        name = safe_name(self._function)
        job.done(None, TimeoutError(f"{name} has not returned for {self._timeout:g} s"))


def _run(future: Future[object], function: Callable[[Any], object], key: Hashable) -> None:
    try:
        result = function(key)
    except BaseException as error:  # noqa: BLE001  it is passed on
        future.set_exception(error)
        # The traceback refers to this frame. Without this cycle, sockets that the function left open close.
        del future
    else:
        future.set_result(result)
