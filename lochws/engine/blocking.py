"""Blocking jobs: a fair choice of the next job to run, so that no host keeps the others waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

#: A job that has run for longer than this, in seconds, no longer takes up a slot: another job may begin.
SLOW_SECONDS = 0.5

J = TypeVar("J", bound=Hashable)


class _Running:
    """A running job: when it began, for which host, and whether the last attempt for that host failed."""

    __slots__ = ("began", "doubtful", "host")

    def __init__(self, began: float, host: Hashable, doubtful: bool) -> None:
        self.began = began
        self.host = host
        self.doubtful = doubtful


class BlockingJobs(Generic[J]):
    """Jobs that may block, such as attempts to connect, each for one host.

    At most `slots` of the running jobs began less than `SLOW_SECONDS` ago, and at most `room` jobs run in
    all. So a job that takes long because its host does not answer gives up its slot. Three more rules prevent
    congestion:

    * If jobs for a single host occupy all slots, one job for another host may begin in addition.
    * No host gets more than half of the room.
    * Jobs for hosts whose last attempt failed alternate with the others, and get at most half of the room.

    Within these rules, the hosts take turns, and the jobs for one host keep their order. Times are passed in.
    For one thread at a time.

    Args:
        slots: how many jobs may run before they count as slow.
        room: how many jobs may run in all.
    """

    def __init__(self, slots: int, room: int) -> None:
        self._slots = slots
        self._room = room
        self._half = max(1, room // 2)
        # The waiting jobs by host, for hosts that have not failed and for those that have; next host first.
        self._lanes: tuple[dict[Hashable, deque[J]], dict[Hashable, deque[J]]] = ({}, {})
        self._turn = False  # the lane to check first
        self._running: dict[J, _Running] = {}

    @property
    def has_waiting(self) -> bool:
        """True if any job waits for its turn."""
        return bool(self._lanes[0] or self._lanes[1])

    @property
    def running(self) -> int:
        """The number of running jobs."""
        return len(self._running)

    def add(self, job: J, host: Hashable, *, doubtful: bool) -> None:
        """Add a job, which then waits for its turn.

        Args:
            job: the job.
            host: the host that the job connects to; any hashable object.
            doubtful: whether the last attempt to connect there failed.
        """
        self._lanes[doubtful].setdefault(host, deque()).append(job)

    def take(self, now: float) -> J | None:
        """Begin and return the next job that may begin, or return None. Call `ended` when it has ended."""
        if len(self._running) >= self._room or not self.has_waiting:
            return None
        young = [one.host for one in self._running.values() if now - one.began < SLOW_SECONDS]
        is_full = len(young) >= self._slots
        if is_full and (len(young) > self._slots or len(set(young)) > 1):
            return None
        for doubtful in (self._turn, not self._turn):
            if doubtful and sum(one.doubtful for one in self._running.values()) >= self._half:
                continue
            # Only hosts with running jobs are skipped, so this loop is short.
            for host, jobs in self._lanes[doubtful].items():
                running = sum(one.host == host for one in self._running.values())
                if running >= self._half or (running and is_full):
                    continue
                job = jobs.popleft()
                del self._lanes[doubtful][host]
                if jobs:
                    self._lanes[doubtful][host] = jobs  # behind the other hosts
                self._running[job] = _Running(now, host, doubtful)
                self._turn = not doubtful
                return job
        return None

    def ended(self, job: J) -> None:
        """Record that a job has ended."""
        del self._running[job]

    def next_look(self, now: float) -> float | None:
        """Return when to call `take` again because a job will then count as slow, or None."""
        ends = [one.began + SLOW_SECONDS for one in self._running.values()]
        return min((end for end in ends if end > now), default=None) if self.has_waiting else None

    def clear(self) -> None:
        """Remove all waiting jobs."""
        for lane in self._lanes:
            lane.clear()
