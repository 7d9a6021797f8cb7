"""Blocking jobs: which of those that are due may begin, so that no host keeps the others waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

#: A job that has run for longer than this no longer takes up a slot: another one may begin beside it.
SLOW_SECONDS = 0.5

J = TypeVar("J", bound=Hashable)


@dataclass
class _Running:
    """A job under way: since when, for which host, and whether the host had failed before."""

    began: float
    host: Hashable
    doubtful: bool


class BlockingJobs(Generic[J]):
    """Jobs that may block, such as attempts to connect, each for one host.

    At most `slots` jobs run that began less than `SLOW_SECONDS` ago, and at most `room` in all. So a job
    that takes long, because its host is dead, gives up its slot. Three more rules keep the way free:

    * When jobs for one host hold all slots, a job for another host may begin beside them.
    * No host gets more than half of the room.
    * Jobs for hosts whose last attempt failed take turns with the rest, and get half of the room at most.

    Within these rules the hosts take turns, and the jobs for one host keep their order. Times are passed in.
    For one thread at a time.

    Args:
        slots: how many jobs may run before they count as slow.
        room: how many jobs may run in all.
    """

    def __init__(self, slots: int, room: int) -> None:
        self._slots = slots
        self._room = room
        self._half = max(1, room // 2)
        # What waits, by host, for hosts that have not failed and for those that have. The next host is first.
        self._lanes: tuple[dict[Hashable, deque[J]], dict[Hashable, deque[J]]] = ({}, {})
        self._turn = False  # the lane that is looked at first
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
        """Let a job wait for its turn.

        Args:
            job: the job.
            host: what the job connects to; any hashable object.
            doubtful: whether the last attempt to connect there failed.
        """
        self._lanes[doubtful].setdefault(host, deque()).append(job)

    def take(self, now: float) -> J | None:
        """Begin the next job that may begin, and return it, or None. Call `ended` when it has ended."""
        if len(self._running) >= self._room or not self.has_waiting:
            return None
        young = [one.host for one in self._running.values() if now - one.began < SLOW_SECONDS]
        is_full = len(young) >= self._slots
        if is_full and (len(young) > self._slots or len(set(young)) > 1):
            return None
        for doubtful in (self._turn, not self._turn):
            if doubtful and sum(one.doubtful for one in self._running.values()) >= self._half:
                continue
            # Passes over hosts with running jobs only, hence over few.
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
        """Note that a job has ended."""
        del self._running[job]

    def next_look(self, now: float) -> float | None:
        """Return when `take` should be asked again because a job will count as slow, or None."""
        ends = [one.began + SLOW_SECONDS for one in self._running.values()]
        return min((end for end in ends if end > now), default=None) if self.has_waiting else None

    def clear(self) -> None:
        """Forget the jobs that wait."""
        for lane in self._lanes:
            lane.clear()
