"""The supervisor thread: runs jobs when due; knows nothing of WebSocket."""

from __future__ import annotations

import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from time import monotonic

from ..clock import SYSTEM, Clock, Rest
from ..system import forks
from ..system.report import report_aside
from ..system.waits import join


class Job:
    """Something to do at a time. Made by `Supervisor.call_at`."""

    def __init__(self, function: Callable[[], object], blocking: bool, aside: bool) -> None:
        self.function = function
        self.blocking = blocking
        self.aside = aside
        self.is_cancelled = False  # guarded by the supervisor's _lock
        self.is_started = False  # likewise


class Supervisor:
    """A few daemon threads over one heap of jobs, each started when it is first needed.

    With more than one thread, one is always left free of blocking jobs, so that what must be done
    at once is not held up by what takes its time.

    Args:
        name: the threads' name.
        size: how many threads there may be.
        clock: what says when a job is due.
    """

    def __init__(self, name: str, size: int = 1, clock: Clock = SYSTEM) -> None:
        self._name = name
        self._size = size
        self._clock = clock
        # Entered as a lock and not through the condition: that is Python code, and Ctrl-C in it would
        # leave the lock held.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        # All below is guarded by _lock.
        self._jobs: list[tuple[float, int, Job]] = []
        self._ready: deque[Job] = deque()  # blocking jobs that are due while too many others block
        self._number = count()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._begun = 0  # jobs, so far
        self._blocking = 0
        self._stopping = False
        forks.register(self)

    # Any thread.

    def call_at(
        self, when: float, function: Callable[[], object], *, blocking: bool = False, aside: bool = False
    ) -> Job:
        """Have a function called at a time (monotonic seconds of the clock), on a supervisor thread.

        Args:
            when: the time; one that has passed means at once.
            function: what to call. What it raises is logged.
            blocking: whether it may take longer than moments.
            aside: whether nobody waits for it; see `rest`.

        Returns:
            The job; it is cancelled already if the supervisor was stopped.

        Raises:
            RuntimeError: there is no thread yet, and none can be started.
        """
        job = Job(function, blocking, aside)
        with self._lock:
            if self._stopping:
                job.is_cancelled = True
                return job
            if len(self._jobs) + len(self._ready) >= self._idle and len(self._threads) < self._size:
                self._start_thread()
            heapq.heappush(self._jobs, (when, next(self._number), job))
            self._changed.notify()
        return job

    def call_soon(self, function: Callable[[], object], *, blocking: bool = False) -> Job:
        """Have a function called at once, on a supervisor thread."""
        return self.call_at(0.0, function, blocking=blocking)

    def cancel(self, job: Job) -> bool:
        """Take a job back. Returns False if it has begun already, or was taken back before."""
        with self._lock:
            if job.is_started or job.is_cancelled:
                return False
            job.is_cancelled = True
            return True

    def wake(self) -> None:
        """Have the threads look at the clock, which was moved on."""
        with self._lock:
            self._changed.notify_all()

    def rest(self, *, away: bool, aside: bool) -> Rest | None:
        """How the threads wait, or have ended; None while one does anything else, or should.

        Args:
            away: whether one is in a job that is no business of the caller's.
            aside: whether to name also when jobs are due that nobody waits for.
        """
        now = self._clock.monotonic()
        with self._lock:
            if self._idle < sum(thread.is_alive() for thread in self._threads) - away:
                return None
            jobs = [(when, job.aside) for when, _, job in self._jobs if not job.is_cancelled]
            if any(when <= now for when, _ in jobs):
                return None
            waited_for = (when for when, is_aside in jobs if aside or not is_aside)
            return Rest(self._begun, min(waited_for, default=None))

    def stop(self) -> None:
        """End the threads once their present jobs have ended. Jobs that have not begun are forgotten."""
        with self._lock:
            self._stopping = True
            self._jobs.clear()
            self._ready.clear()
            self._changed.notify_all()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the threads have ended. Returns False if some have not by then."""
        end = None if timeout is None else monotonic() + timeout
        with self._lock:
            threads = [thread for thread in self._threads if thread is not threading.current_thread()]
        return all(join(thread, None if end is None else max(0.0, end - monotonic())) for thread in threads)

    def reset_after_fork(self) -> None:
        """In the child of a fork: the threads are the parent's, and so are their jobs."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._threads = []
        self.stop()

    # The threads.

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
            return  # those that there are will come to it
        self._threads.append(thread)

    def _run(self) -> None:
        while True:
            with self._lock:
                job = self._next_job()
                if job is None:
                    return
                job.is_started = True
                self._begun += 1
                self._blocking += job.blocking
            try:
                job.function()
            except BaseException as error:  # noqa: BLE001  it is reported
                report_aside(logging.ERROR, "unexpected error in a job of %s", self._name, error=error)
            with self._lock:
                self._blocking -= job.blocking

    def _next_job(self) -> Job | None:
        """Wait for a job that this thread may begin. Returns None when it is time to end."""
        while not self._stopping:
            now = self._clock.monotonic()
            while self._ready and self._may_block():
                job = self._ready.popleft()
                if not job.is_cancelled:
                    return job
            while self._jobs and (self._jobs[0][0] <= now or self._jobs[0][2].is_cancelled):
                _, _, job = heapq.heappop(self._jobs)
                if job.is_cancelled:
                    continue
                if job.blocking and not self._may_block():
                    self._ready.append(job)
                    continue
                return job
            self._idle += 1
            timed = self._jobs and self._clock.passes
            self._changed.wait(min(self._jobs[0][0] - now, threading.TIMEOUT_MAX) if timed else None)
            self._idle -= 1
        return None

    def _may_block(self) -> bool:
        return self._size == 1 or self._blocking < self._size - 1
