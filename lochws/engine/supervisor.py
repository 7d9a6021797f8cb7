"""Supervisor: a few threads that run jobs when they are due, independent of WebSocket."""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from itertools import count
from time import monotonic

from ..clock import SYSTEM, Clock, Rest
from ..system.control import control_lock, start_thread
from ..system.report import report_aside
from ..system.waits import is_alive, join
from .blocking import BlockingJobs

#: The number of threads that may be added while blocking jobs take long.
EXTRA_THREADS = 16


class Job:
    """A job for a certain time. Created by `Supervisor.call_at`."""

    def __init__(self, function: Callable[[], object], blocking: bool, aside: bool) -> None:
        self.function = function
        self.blocking = blocking
        self.aside = aside
        self.host: Hashable = None
        self.doubtful = False
        self.is_cancelled = False  # guarded by the supervisor's _lock
        self.is_started = False  # likewise


class Supervisor:
    """A few daemon threads that share a heap of jobs. Each thread starts when it is first needed.

    With more than one thread, one is always kept free of blocking jobs, so that quick jobs run on time. When
    blocking jobs take long, up to `EXTRA_THREADS` threads are added, which end as soon as they are idle.

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
        self._most = size + EXTRA_THREADS if size > 1 else 1
        self._clock = clock
        self._failed = failed
        # Reentrant, because a signal handler may run while its own thread is in here. Entered as a lock and
        # not through the condition: that is Python code, and Ctrl-C in it would leave the lock held.
        self._lock = control_lock()
        self._changed = threading.Condition(self._lock)
        # All below is guarded by _lock.
        self._jobs: list[tuple[float, int, Job]] = []
        self._blocking: BlockingJobs[Job] = BlockingJobs(max(1, size - 1), max(1, self._most - 1))
        self._number = count()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._begun = 0  # jobs, so far
        self._aside = 0  # jobs under way that stand in for others, perhaps for long
        self._stopping = False

    # Any thread.

    def call_at(
        self,
        when: float,
        function: Callable[[], object],
        *,
        blocking: bool = False,
        aside: bool = False,
        host: Hashable = None,
        doubtful: bool = False,
    ) -> Job:
        """Have a function called at a time (monotonic seconds of the clock), on a supervisor thread.

        Args:
            when: the time; a time in the past means immediately.
            function: the function to call. An exception that it raises is logged.
            blocking: whether the function may block.
            aside: whether nothing waits for the job, so that `rest` can ignore it.
            host: for a blocking job, the host that it connects to; `BlockingJobs` lets hosts take turns.
            doubtful: for a blocking job, whether the last attempt to connect there failed.

        Returns:
            The job; it is cancelled already if the supervisor was stopped.

        Raises:
            RuntimeError: there is no thread yet, and none can be started.
        """
        job = Job(function, blocking, aside)
        job.host, job.doubtful = host, doubtful
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
        """Start the first thread, so that later jobs do not depend on whether one can be started then.

        Raises:
            RuntimeError: it cannot be started.
        """
        with self._lock:
            if not self._threads and not self._stopping:
                self._start_thread()

    def call_soon(
        self,
        function: Callable[[], object],
        *,
        blocking: bool = False,
        host: Hashable = None,
        doubtful: bool = False,
    ) -> Job:
        """Have a function called immediately, on a supervisor thread, with the options of `call_at`."""
        return self.call_at(0.0, function, blocking=blocking, host=host, doubtful=doubtful)

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
            self._blocking.clear()
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
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
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
                with self._lock:
                    self._aside -= job.aside
                    if job.blocking:
                        self._blocking.ended(job)
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
            self._aside += job.aside
            if not self._idle and (self._jobs or self._blocking.has_waiting):
                self._start_if_needed()
            return job

    @property
    def _needed(self) -> int:
        """Return the number of threads allowed now, which keeps one free of blocking jobs."""
        return min(self._most, max(self._size, self._blocking.running + self._aside + 1))

    def _start_if_needed(self) -> None:
        if len(self._threads) < (self._needed if self._blocking.running else self._size):
            self._start_thread()

    def _next_job(self) -> Job | None:
        while not self._stopping:
            now = self._clock.monotonic()
            while self._jobs and (self._jobs[0][0] <= now or self._jobs[0][2].is_cancelled):
                job = heapq.heappop(self._jobs)[2]
                if job.is_cancelled:
                    continue
                if not job.blocking:
                    return job
                self._blocking.add(job, job.host, doubtful=job.doubtful)
            began = monotonic()  # by the machine's clock, as opening a connection takes its time
            while (waiting := self._blocking.take(began)) is not None:
                if not waiting.is_cancelled:
                    return waiting
                self._blocking.ended(waiting)
            if self._idle and len(self._threads) > self._needed:
                self._leave(threading.current_thread())
                return None
            self._wait(now, began)
        return None

    def _wait(self, now: float, began: float) -> None:
        """Wait for the next job, or until another blocking job may begin."""
        look = self._blocking.next_look(began)
        left = threading.TIMEOUT_MAX if look is None else look - began
        if self._jobs and self._clock.passes:
            left = min(left, self._jobs[0][0] - now)
        timed = look is not None or (self._jobs and self._clock.passes)
        self._idle += 1
        try:
            self._changed.wait(left if timed else None)
        finally:
            self._idle -= 1
