"""Meters: what a client's process measures of itself."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Protocol

KIB = 1024


class Counted(Protocol):
    """Something that has counted messages and added up their lengths."""

    count: int
    length: int


@dataclass
class Meter:
    """Processor and wall time between `start` and `stop`, and what was counted in between.

    Processor time is that of the whole process, user and system, of all its threads, in seconds.
    """

    count: int = 0
    length: int = 0
    cpu: float = 0.0
    wall: float = 0.0
    latencies: list[float] = field(default_factory=list)
    more: dict[str, float] = field(default_factory=dict)
    _began: tuple[float, float] | None = None
    stopped: bool = False

    def start(self) -> None:
        """Start the clocks, now that the connection is ready."""
        self._began = process_time(), perf_counter()

    def stop(self) -> None:
        """Stop the clocks, once the last message has been handled. Later calls change nothing."""
        if self._began is not None and not self.stopped:
            self.cpu = process_time() - self._began[0]
            self.wall = perf_counter() - self._began[1]
            self.stopped = True

    def take(self, counted: Counted) -> None:
        """Take over what a handler has counted."""
        self.count += counted.count
        self.length += counted.length

    def result(self) -> dict[str, float]:
        """Return what was measured: seconds, and seconds at the 50th and 99th percentile.

        Raises:
            ValueError: the clocks never ran.
        """
        if not self.stopped:
            raise ValueError("the client never came to its end")
        result = {"count": self.count, "length": self.length, "cpu": self.cpu, "wall": self.wall, **self.more}
        if self.latencies:
            ordered = sorted(self.latencies)
            result["p50"] = ordered[len(ordered) // 2]
            result["p99"] = ordered[len(ordered) * 99 // 100]
        return result


class Trips:
    """The clock of an echo: one message in flight, and what each round trip took, in seconds.

    Args:
        wanted: how many trips.
    """

    def __init__(self, wanted: int) -> None:
        self.latencies: list[float] = []
        self.count = 0
        self.length = 0
        self._wanted = wanted
        self._left = 0.0

    def leave(self) -> None:
        """Note that a message is about to be sent."""
        self._left = perf_counter()

    def arrive(self, message: str) -> bool:
        """Note that it came back. Return whether another one is wanted, which counts as sent."""
        now = perf_counter()
        self.latencies.append(now - self._left)
        self.count += 1
        self.length += len(message)
        self._left = now
        return self.count < self._wanted


def private_memory() -> int:
    """Return the bytes of memory that this process has for itself. Linux only."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as rollup:
        fields = dict(line.split(":", 1) for line in rollup if ":" in line.split(" ", 1)[0])
    return sum(int(fields[name].split()[0]) * KIB for name in ("Private_Clean", "Private_Dirty"))


def resident_memory() -> int:
    """Return the bytes of this process that are in memory. Linux only."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def thread_count() -> int:
    """Return the number of threads of this process, including those that Python does not know. Linux only."""
    return len(os.listdir("/proc/self/task"))
