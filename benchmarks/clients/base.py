"""Code shared by all clients."""

from __future__ import annotations

import gc
import ssl
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from statistics import median
from time import sleep
from typing import ClassVar, TypeVar

from benchmarks.job import Job
from benchmarks.meter import Counted, Meter, private_memory, resident_memory, thread_count
from benchmarks.works import Message

#: How long a crowd runs before it is looked at, in seconds.
_WARM_UP = 0.5
_LEFT_TO_SETTLE = 1.0

_Opened = TypeVar("_Opened")


class BaseClient:
    """One library at work. A subclass has a method for each kind of work that it does.

    Attributes:
        threaded: whether any thread may send.
        deflates: whether it does permessage-deflate.
    """

    threaded: ClassVar[bool] = False
    deflates: ClassVar[bool] = False

    def __init__(self, job: Job) -> None:
        self.job = job
        self.work = job.work
        self.meter = Meter()

    @property
    def message(self) -> Message:
        """Return what is sent."""
        return self.work.messages()[0]

    @cached_property
    def tls(self) -> ssl.SSLContext | None:
        """The TLS context for all connections, which trusts the server, or None if the work has no TLS."""
        if self.job.authorities is None:
            return None
        return ssl.create_default_context(cafile=self.job.authorities)

    def send_by_threads(self, send: Callable[[int], object]) -> None:
        """Have each of the work's senders send its share, and wait for them."""
        share, rest = divmod(self.job.count, self.work.senders)
        threads = [
            threading.Thread(target=send, args=(share + (number < rest),), daemon=True)
            for number in range(self.work.senders)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def measure_opening(self, open_all: Callable[[], object]) -> None:
        """See how long it takes to open all of the job's connections."""
        self.meter.start()
        open_all()
        self.meter.stop()
        self.meter.count = self.job.count

    def measure_idle(self, open_all: Callable[[], _Opened]) -> _Opened:
        """See what connections cost that have nothing to do, and return what `open_all` did."""
        gc.collect()
        before = private_memory()
        opening = Meter()
        opening.start()
        opened = open_all()
        opening.stop()
        self.settled(before, opening.wall)
        return opened

    def settled(self, before: int, opened: float) -> None:
        """Tell what the connections cost that are open now and have nothing to do.

        Args:
            before: private memory before the first of them, in bytes.
            opened: how long opening them took, in seconds.
        """
        sleep(_LEFT_TO_SETTLE)
        gc.collect()
        connections = self.job.count
        self.meter.more.update(
            opened=opened, memory=(private_memory() - before) / connections, threads=thread_count()
        )
        self.meter.start()
        sleep(self.work.seconds)
        self.meter.stop()
        self.meter.count = connections

    def watch_crowd(self, counters: Sequence[Counted]) -> None:
        """See how evenly the connections of a crowd are served, on a thread that has nothing else to do."""
        while not all(counter.count for counter in counters):
            sleep(0.01)
        sleep(_WARM_UP)
        before = [counter.count for counter in counters]
        self.meter.start()
        sleep(self.work.seconds)
        self.meter.stop()
        shares = [counter.count - count for counter, count in zip(counters, before, strict=True)]
        mean = sum(shares) / len(shares)
        self.meter.count = sum(shares)
        self.meter.length = self.meter.count * self.work.size
        self.meter.more.update(
            least=min(shares) / mean, most=max(shares) / mean, evenness=min(shares) / max(shares)
        )


class Counter:
    """Counts messages for a connection that has no object of its own."""

    __slots__ = ("count", "length")

    def __init__(self) -> None:
        self.count = 0
        self.length = 0


def compute_without_pause() -> None:
    """Start a thread that never gives up the interpreter of itself, and ends with the process."""

    def compute() -> None:
        number = 0
        while True:
            number += 1

    threading.Thread(target=compute, daemon=True).start()


class MemoryWatch:
    """Looks at this process's memory while something else runs, on a thread of its own."""

    def __init__(self) -> None:
        self._samples: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            self._samples.append(resident_memory())

    def grown(self) -> int:
        """End, and return by how many bytes the memory grew between the first part of the time and the last.

        The first tenth does not count: buffers find their sizes then.
        """
        self._over.set()
        self._thread.join()
        tenth = len(self._samples) // 10
        return int(median(self._samples[-2 * tenth :]) - median(self._samples[tenth : 3 * tenth]))
