"""Supervisor: a few threads that run jobs when they are due, independent of WebSocket."""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from time import monotonic

from ..clock import SYSTEM, Clock, Rest
from ..system.control import control_lock, start_thread
from ..system.interpreters import new_thread
from ..system.report import report_aside
from ..system.waits import is_alive, join


class Job:
    """A job for a certain time. Created by `Supervisor.call_at`."""

    def __init__(self, function: Callable[[], object], aside: bool) -> None:
        self.function = function
        self.aside = aside
        self.is_cancelled = False  # guarded by the supervisor's _lock
        self.is_started = False  # likewise


class Supervisor:
    """A few threads that share a heap of jobs. Each thread starts when it is first needed.

    Args:
        name: the name of the threads.
        size: how many threads there may be.
        clock: the clock that jobs are scheduled by.
        failed: called with the exception on a thread that ends because of a fatal error.
    """

    def __init__(
        self,
        name: str,
        size: int = 1,
        clock: Clock = SYSTEM,
        failed: Callable[[BaseException], object] = lambda _: None,
    ) -> None:
        self._name = name
        self._size = size
        self._clock = clock
        self._failed = failed
        # Reentrant, because a signal handler may run while its own thread is in here. Entered as a lock and
        # not through the condition: that is Python code, and Ctrl-C in it would leave the lock held.
        self._lock = control_lock()
        self._changed = threading.Condition(self._lock)
        # All below is guarded by _lock.
        self._jobs: list[tuple[float, int, Job]] = []
        self._number = count()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._begun = 0  # jobs, so far
        self._stopping = False

    # Any thread.

    def call_at(self, when: float, function: Callable[[], object], *, aside: bool = False) -> Job:
        """Have a function called at a time (monotonic seconds of the clock), on a supervisor thread.

        Args:
            when: the time; a time in the past means immediately.
            function: the function to call. An exception that it raises is logged.
            aside: whether nothing waits for the job, so that `rest` can ignore it.

        Returns:
            The job; it is cancelled already if the supervisor was stopped.

        Raises:
            RuntimeError: there is no thread yet, and none can be started.
        """
        job = Job(function, aside)
        with self._lock:
            if not self._stopping and len(self._jobs) >= self._idle:
                self._start_if_needed()  # the lock is free while a thread starts
            if self._stopping:
                job.is_cancelled = True
                return job
            heapq.heappush(self._jobs, (when, next(self._number), job))
            self._changed.notify()
        return job

    def start(self) -> None:
        """Start the first thread, so that later jobs do not depend on starting one.

        Raises:
            RuntimeError: it cannot be started.
        """
        with self._lock:
            if not self._threads and not self._stopping:
                self._start_thread()

    def call_soon(self, function: Callable[[], object]) -> Job:
        """Have a function called immediately, on a supervisor thread. See `call_at`."""
        return self.call_at(0.0, function)

    def cancel(self, job: Job) -> bool:
        """Cancel a job. Return False if it has begun or was cancelled before."""
        with self._lock:
            if job.is_started or job.is_cancelled:
                return False
            job.is_cancelled = True
            return True

    def wake(self) -> None:
        """Make the threads read the clock again, because it was advanced."""
        with self._lock:
            self._changed.notify_all()

    def rest(self, *, away: bool, aside: bool) -> Rest | None:
        """Return the state of the threads' wait, even after their end; None while one is or should be busy.

        Args:
            away: whether one of the threads is in a job that the caller wants to ignore.
            aside: whether to count jobs that nothing waits for.
        """
        now = self._clock.monotonic()
        with self._lock:
            if self._idle < sum(map(is_alive, self._threads)) - away:
                return None
            jobs = [(when, job.aside) for when, _, job in self._jobs if not job.is_cancelled]
            if any(when <= now for when, _ in jobs):
                return None
            waited_for = (when for when, is_aside in jobs if aside or not is_aside)
            return Rest(self._begun, min(waited_for, default=None))

    def stop(self) -> None:
        """Stop the threads once their current jobs have ended. Jobs that have not begun are dropped."""
        with self._lock:
            self._stopping = True
            self._jobs.clear()
            self._changed.notify_all()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the threads have ended. Return False if the timeout expires first."""
        end = None if timeout is None else monotonic() + timeout
        with self._lock:
            threads = [thread for thread in self._threads if thread is not threading.current_thread()]
        return all(join(thread, None if end is None else max(0.0, end - monotonic())) for thread in threads)

    def reset_after_fork(self) -> None:
        """Drop the parent's threads and jobs in the child of a fork. The supervisor's owner calls this."""
        self._lock = control_lock()
        self._changed = threading.Condition(self._lock)
        self._threads = []
        self.stop()

    # The threads.

    def _start_thread(self) -> None:
        thread = new_thread(self._run, self._name)
        self._threads.append(thread)  # first, since the lock is free while the thread starts
        try:
            start_thread(thread)
        except BaseException as error:
            self._leave(thread)
            if not isinstance(error, RuntimeError) or not self._threads:
                raise  # otherwise the existing threads will do the work

    def _leave(self, thread: threading.Thread) -> None:
        with suppress(ValueError):  # Ctrl-C struck while it started, and it is not counted
            self._threads.remove(thread)

    def _run(self) -> None:
        try:
            while (job := self._begin_next()) is not None:
                try:
                    job.function()
                except BaseException as error:  # noqa: BLE001  it is reported
                    report_aside(logging.ERROR, "unexpected error in a job of %s", self._name, error=error)
                del job  # it may hold much, and the next one may come late
        except BaseException as error:  # noqa: BLE001  for example from a clock; the apps are informed
            with self._lock:
                self._leave(threading.current_thread())
            self._failed(error)

    def _begin_next(self) -> Job | None:
        """Wait for a job that this thread may run, and begin it. Returns None when the thread must end."""
        with self._lock:
            job = self._next_job()
            if job is None:
                return None
            job.is_started = True
            self._begun += 1
            if not self._idle and self._jobs:
                self._start_if_needed()
            return job

    def _start_if_needed(self) -> None:
        if len(self._threads) < self._size:
            self._start_thread()

    def _next_job(self) -> Job | None:
        while not self._stopping:
            now = self._clock.monotonic()
            while self._jobs and (self._jobs[0][0] <= now or self._jobs[0][2].is_cancelled):
                job = heapq.heappop(self._jobs)[2]
                if not job.is_cancelled:
                    return job
            left = self._jobs[0][0] - now if self._jobs and self._clock.passes else None
            self._idle += 1
            try:
                self._changed.wait(left if left is None else min(left, threading.TIMEOUT_MAX))
            finally:
                self._idle -= 1
        return None
