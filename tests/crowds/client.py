"""Clients in a process of their own: ``python -m tests.crowds.client JOB``."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import os
import ssl
import sys
import threading
from collections.abc import Iterable
from time import monotonic, process_time, sleep
from typing import Any, NamedTuple

from .processes import PACKAGE, Job, raise_descriptor_limit

sys.path[:0] = [os.environ[PACKAGE]] if os.environ.get(PACKAGE) else []  # in front of our own

import lochws  # noqa: E402
from lochws import Threads, WebSocketApp, events  # noqa: E402

from .server import STAMP_LENGTH, say  # noqa: E402

# Writing thousands of warnings must not count.
logging.getLogger("lochws").addHandler(logging.NullHandler())

#: Seconds after which an opening has failed.
PATIENCE = 300.0
#: Connections that aiohttp opens at a time: as many as fit the server's backlog.
_AT_A_TIME = 1000
#: Attempts at the healthy host, the seconds between two of them, and the seconds after which no more begin.
_TRIES, _PAUSE, _LONGEST = 40, 0.25, 60.0
#: Rounds of handshakes beside a flood.
_ROUNDS = 5


class App(WebSocketApp):
    """Notes when its attempts begin, and when it is ready.

    Args:
        job: the options.
        threads: the threads to share.
        opened: is released when it is ready.
        url: in place of the job's.
    """

    def __init__(
        self, job: Job, threads: Threads, opened: threading.Semaphore, url: str = "", **options: Any
    ) -> None:
        if job.authority:
            options["ssl_cafile"] = job.authority
        super().__init__(url or job.url, {}, threads=threads, **options)
        self.opened = opened
        self.began = 0.0
        self.ready_at = 0.0

    def begin(self, **options: Any) -> None:
        """Start, and note when."""
        self.began = monotonic()
        self.start(**options)

    def on_ready(self, _event: events.Ready) -> None:
        """Note when it is ready."""
        self.ready_at = monotonic()
        self.opened.release()


class Counted(App):
    """Notes when each of its attempts begins, in a list that all of them share."""

    attempts: list[float]

    def on_connecting(self, _event: events.Connecting) -> None:
        """Note an attempt."""
        self.attempts.append(monotonic())


class Flooded(App):
    """Notes how late messages with a time arrive, and when."""

    def __init__(self, job: Job, threads: Threads, opened: threading.Semaphore, url: str) -> None:
        super().__init__(job, threads, opened, url)
        self.late: list[tuple[float, float]] = []
        self.count = 0

    def on_text(self, event: events.Text) -> None:
        """Note how late a message is."""
        self.count += 1
        if len(event.text) < STAMP_LENGTH:
            now = monotonic()
            self.late.append((now, now - float(event.text)))


def wait_for(opened: threading.Semaphore, count: int) -> None:
    """Wait until that many are ready.

    Raises:
        TimeoutError: it takes too long.
    """
    for _ in range(count):
        if not opened.acquire(timeout=PATIENCE):
            raise TimeoutError("not all connections are ready")


def opening(job: Job) -> None:
    """Open all connections, print how long it took, and hold them."""
    before = monotonic()
    if job.library == "aiohttp":
        asyncio.run(opening_by_aiohttp(job, before))
        return
    threads, opened = Threads(), threading.Semaphore(0)
    apps = [App(job, threads, opened) for _ in range(job.count)]
    for app in apps:
        app.begin()
    wait_for(opened, job.count)
    say(json.dumps(max(app.ready_at for app in apps) - before))
    sys.stdin.read()


async def opening_by_aiohttp(job: Job, before: float) -> None:
    """Do the same with aiohttp."""
    import aiohttp

    context: ssl.SSLContext | bool = True
    if job.authority:
        context = ssl.create_default_context(cafile=job.authority)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        connections = []
        for start in range(0, job.count, _AT_A_TIME):
            part = range(start, min(job.count, start + _AT_A_TIME))
            connections += await asyncio.gather(*(session.ws_connect(job.url, ssl=context) for _ in part))
        say(json.dumps(monotonic() - before))
        await asyncio.to_thread(sys.stdin.read)


def restart(job: Job) -> None:
    """Open all connections, and print a line; when all are ready again, print when, and when they tried."""
    options: dict[str, Any] = {}
    if job.per_second:
        options["governor"] = lochws.Governor(job.per_second)
    threads, opened = Threads(), threading.Semaphore(0)
    Counted.attempts = []
    apps = [Counted(job, threads, opened, **options) for _ in range(job.count)]
    for app in apps:
        app.begin()
    wait_for(opened, job.count)
    del Counted.attempts[:]
    say("1")
    wait_for(opened, job.count)
    ready = sorted(app.ready_at for app in apps)
    say(json.dumps({"ready": ready, "attempts": Counted.attempts}))
    sys.stdin.read()


def dead(job: Job) -> None:
    """Print how long a healthy host takes alone, and beside hosts that do not answer."""
    threads, opened = Threads(), threading.Semaphore(0)
    keeping = App(job, threads, opened)  # the threads do not end between two tries
    keeping.begin()
    wait_for(opened, 1)
    alone = list(tries(job, threads, 0.0))
    for number in range(job.count):
        url = job.other_url.format(f"127.1.{number // 250}.{number % 250 + 1}")
        App(job, threads, opened, url, open_timeout=5).begin()
    beside = list(tries(job, threads, _PAUSE))
    say(json.dumps({"alone": alone, "beside": beside}))


def tries(job: Job, threads: Threads, pause: float) -> Iterable[float]:
    """Open a connection many times, and yield how long it took."""
    end = monotonic() + _LONGEST
    for _ in range(_TRIES):
        opened = threading.Semaphore(0)
        app = App(job, threads, opened)
        app.begin()
        wait_for(opened, 1)
        yield app.ready_at - app.began
        app.close()
        app.join(PATIENCE)
        if monotonic() > end:
            return
        sleep(pause)


def fairness(job: Job) -> None:
    """Print the latencies of handshakes and of a flood, each alone and both together."""
    threads, opened = Threads(), threading.Semaphore(0)
    keeping = App(job, threads, opened)
    keeping.begin()
    wait_for(opened, 1)
    alone = handshakes(job, threads)[1]
    flooded = Flooded(Job(role="", url=job.other_url, count=1), threads, opened, job.other_url)
    flooded.begin()
    wait_for(opened, 1)
    sleep(0.5)
    start, used = monotonic(), process_time()
    sleep(2.0)
    quiet = Span(start, monotonic(), process_time() - used)
    spans, beside = handshakes(job, threads)
    late = {
        "alone": [late for at, late in flooded.late if quiet.has(at)],
        "beside": [late for at, late in flooded.late if any(span.has(at) for span in spans)],
    }
    rates = len(late["alone"]) / quiet.used, len(late["beside"]) / sum(span.used for span in spans)
    say(json.dumps({
        "handshakes alone": alone,
        "handshakes beside": beside,
        "flood alone": late["alone"],
        "flood beside": late["beside"],
        "share": rates[1] / rates[0],
    }))


class Span(NamedTuple):
    """A time, from one monotonic moment to another, and the processor time used meanwhile."""

    start: float
    end: float
    used: float

    def has(self, at: float) -> bool:
        """Return whether a moment lies in it."""
        return self.start <= at < self.end


def handshakes(job: Job, threads: Threads) -> tuple[list[Span], list[float]]:
    """Open all connections at once, some times; return when, and how long each took."""
    spans: list[Span] = []
    took: list[float] = []
    for _ in range(_ROUNDS):
        opened = threading.Semaphore(0)
        apps = [App(job, threads, opened) for _ in range(job.count)]
        used = process_time()
        for app in apps:
            app.begin()
        wait_for(opened, job.count)
        spans.append(Span(apps[0].began, monotonic(), process_time() - used))
        took += [app.ready_at - app.began for app in apps]
        for app in apps:
            app.close()
        for app in apps:
            app.join(PATIENCE)
    return spans, took


class _Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (  # struct mallinfo2
        "arena", "ordblks", "smblks", "hblks", "hblkhd",
        "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]


def heap() -> int:
    """Return how many bytes are allocated with malloc. PYTHONMALLOC must be "malloc", or it is not all."""
    gc.collect()
    read = ctypes.CDLL(None).mallinfo2
    read.restype = _Heap
    found = read()
    return int(found.uordblks + found.hblkhd)


def memory(job: Job) -> None:
    """Have attempts begin and end, one step per line; print the memory before, during and after."""
    threads, opened = Threads(), threading.Semaphore(0)
    apps = [App(job, threads, opened, open_timeout=None) for _ in range(1 + job.count)]
    first = apps.pop()  # the things that all share, such as the authorities, are not counted
    first.begin(persist=False)
    sys.stdin.readline()
    say(json.dumps(heap()))
    while sys.stdin.readline():
        for app in apps:
            app.begin(persist=False)
        say("1")
        sys.stdin.readline()  # they are under way, as the server sees it
        say(json.dumps(heap()))
        sys.stdin.readline()
        for app in apps:
            app.close()
        for app in apps:
            app.join(PATIENCE)
        say(json.dumps(heap()))


ROLES = {role.__name__: role for role in (opening, restart, dead, fairness, memory)}


def main() -> None:
    """Do the job of the command line."""
    job = Job(**json.loads(sys.argv[1]))
    raise_descriptor_limit()
    ROLES[job.role](job)
    sys.stdout.flush()
    os._exit(0)  # thousands of connections need no farewell


if __name__ == "__main__":
    main()
