"""``python -m tests.fleet``: evidence about fleets that takes too long for the suite.

* ``run [--sources 3000]``: a scheduler and three workers on loopback. One worker is killed, one joins, one is
  stopped for two leases. Prints times, memory, threads, and the owners that the server sees.
* ``simulate``: desks and leases alone, up to a million sources and a thousand workers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from distributed import Client
from distributed.semaphore import SemaphoreExtension

from lochws import Backoff, Threads, WebSocketApp
from lochws.fleet import Fleet
from lochws.fleet.book import Book, Rules, Sources
from lochws.fleet.desk import Leases, answer
from lochws.fleet.hashing import shard_of
from lochws.fleet.messages import Held, Report
from lochws.handlers.heartbeat import Every

from .cluster import ROOT, cluster


def raise_limit() -> None:
    """Allow as many descriptors as the system lets this process have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def make_app(url: str, threads: Threads) -> WebSocketApp:
    """Return an app that sends something every few seconds."""
    raise_limit()
    app = WebSocketApp(f"{url}?pid={os.getpid()}", threads=threads)
    Every(app, float(os.environ["LOCHWS_FLEET_BEAT"]), "here")
    return app


class Servers:
    """Several counting servers, none of which has more than 8,000 connections."""

    def __init__(self, count: int) -> None:
        self._each = [Server() for _ in range(1 + count // 8000)]

    def url(self, number: int) -> str:
        """Return the URL of a source. The addresses differ, since each has its own ephemeral ports."""
        port = self._each[number % len(self._each)].port
        return f"ws://127.0.0.{1 + number % 7}:{port}/{number}"

    def look(self) -> dict[str, Any]:
        """Return what they have seen since the last call."""
        states = [each.look() for each in self._each]
        state = {name: sum(each[name] for each in states) for name in states[0] if name not in _OTHERS}
        state["longest_gap"] = max(each["longest_gap"] for each in states)
        state["pids"] = {int(pid) for each in states for pid in each["by_pid"]}
        return state

    def close(self) -> None:
        """Stop them."""
        for each in self._each:
            each.close()


_OTHERS = {"by_pid", "longest_gap"}


class Server:
    """A counting server."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fleet.counting_server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        self.port = int(self._out.readline())
        self.pid = self._process.pid

    @property
    def _out(self) -> Any:
        return self._process.stdout

    def look(self) -> dict[str, Any]:
        """Return what it has seen since the last call."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        state: dict[str, Any] = json.loads(self._out.readline())
        return state

    def close(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a block took."""
    began = monotonic()
    yield
    print(f"{what}: {monotonic() - began:.1f} s", flush=True)


def until(condition: Callable[[], bool], seconds: float = 600) -> None:
    """Wait until a condition holds."""
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "not in time"
        threading.Event().wait(0.2)


def settled(server: Servers, count: int, pids: set[int]) -> bool:
    """Return whether each source has one connection, from one of these processes."""
    state = server.look()
    for name in ("together", "stale_messages"):
        totals[name] = totals.get(name, 0) + state[name]
    gaps.append(state["longest_gap"])
    return bool(state["open"] == state["sources"] == count and state["pids"] == pids)


totals: dict[str, int] = {}
gaps: list[float] = []


def told(what: str) -> None:
    """Print what the server has seen since the last call."""
    print(
        f"  {what}: longest time without an owner {max(gaps, default=0):.1f} s; connections while another "
        f"process had one: {totals.get('together', 0)}; messages of an earlier owner after a later one had "
        f"connected: {totals.get('stale_messages', 0)}", flush=True,
    )
    totals.clear()
    gaps.clear()


def cpu_of(pid: int) -> float:
    """Return the processor time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reports_of(fleet: str, dask_scheduler: Any = None) -> int:
    """Return how many reports a fleet's desk has received. On the scheduler."""
    reports: int = dask_scheduler.plugins[f"lochws-fleet-{fleet}"].reports
    return reports


def run(count: int, lease: float) -> None:
    """Run the scenario with real processes."""
    raise_limit()
    os.environ["LOCHWS_FLEET_BEAT"] = str(max(2, count / 1000))
    server = Servers(count)
    urls = [server.url(number) for number in range(count)]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        dask = stack.enter_context(cluster(Path(folder)))
        client = stack.enter_context(Client(dask.address, timeout=60))
        client.wait_for_workers(3, timeout=60)
        pids = {each.pid for each in dask.workers.values()}
        with timed(f"{count:,} sources connected"):
            fleet = Fleet(client, urls, make_app, lease=lease, persist=Backoff(max_wait=10))
            until(lambda: settled(server, count, pids))
        until(lambda: fleet.status().open == count)
        for worker in fleet.status().workers:
            print(
                f"  {worker.name}: {worker.sources:,} sources in {worker.shards} shards, "
                f"{worker.threads} threads, {worker.memory / 1e6:.0f} MB", flush=True,
            )
        before, cpu = client.run_on_scheduler(reports_of, "fleet"), cpu_of(dask.scheduler.pid)
        began = monotonic()
        threading.Event().wait(2 * lease)
        rate = (client.run_on_scheduler(reports_of, "fleet") - before) / (monotonic() - began)
        used = (cpu_of(dask.scheduler.pid) - cpu) / (monotonic() - began)
        print(f"at rest: {rate:.1f} reports per second; the scheduler: {100 * used:.1f} % of a processor")
        told("until now")

        with timed("one worker killed, until all are back"):
            pids.remove(dask.kill("w0"))
            until(lambda: settled(server, count, pids))
        told("kill -9")
        with timed("a worker joins, until it has its share"):
            pids.add(dask.add_worker("w3"))
            until(lambda: settled(server, count, pids) and fleet.status().moving == 0)
            until(fleet.wait_ready)
        told("join")
        with timed("a worker stopped for two leases, until all are back"):
            dask.signal("w1", signal.SIGSTOP)
            threading.Event().wait(2 * lease)
            dask.signal("w1", signal.SIGCONT)
            until(lambda: settled(server, count, pids))
        told("SIGSTOP")
        with timed("closed"):
            print(f"  all closed: {fleet.close(120)}")
    server.close()


async def simulate() -> None:
    """Measure desks and leases without a network."""
    began = monotonic()
    for number in range(200_000):
        shard_of(f"wss://feed.example.org/{number}", 1024)
    print(f"shards of a million sources: {5 * (monotonic() - began):.1f} s on the client")
    print("| sources | workers | shards | renewals per second, lease 30 s | a report | scheduler | join |")
    for sources, workers, shards in (
        (3_000, 3, 1024), (30_000, 3, 1024), (1_000_000, 30, 1024), (1_000_000, 100, 1024),
        (1_000_000, 100, 8192), (1_000_000, 1000, 16384),
    ):
        await _simulate_one(sources, workers, shards)


class _Scheduler:
    """The part of a scheduler that its extension for semaphores uses."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}
        self.periodic_callbacks: dict[str, Any] = {}


async def _simulate_one(sources: int, workers: int, shards: int) -> None:
    lease = 30.0
    each = -(-sources // shards)
    content = b"x" * 40 * each
    book = Book(Rules(lease=lease), {shard: Sources(0, content, each) for shard in range(shards)})
    extension = SemaphoreExtension(_Scheduler())
    leases = Leases(extension, "simulated", lease)
    held: list[list[Held]] = [[] for _ in range(workers)]
    numbers = [0] * workers

    async def report(worker: int) -> None:
        numbers[worker] += 1
        name = f"tcp://10.0.{worker // 256}.{worker % 256}:8786"
        sent = Report(name, name, numbers[worker], name, held[worker], [], [], [0] * 7, False)
        reply = await answer(book, leases, Report.from_wire(sent.to_wire()), range(shards), lambda: 0.0)
        assert reply is not None
        held[worker] = [Held(shard, 0, True) for shard in reply.owned if shard not in reply.leave]

    for worker in range(workers):  # all are known before any takes something
        name = f"tcp://10.0.{worker // 256}.{worker % 256}:8786"
        first = Report(name, f"{name} first", 1, name, [], [], [], [0] * 7, False)
        await answer(book, leases, first, [], lambda: 0.0)
    began = monotonic()
    while sum(map(len, held)) < shards:
        for worker in range(workers):
            await report(worker)
    began = time.process_time()
    rounds = max(1, 200 // workers)
    for _ in range(rounds):
        for worker in range(workers):
            await report(worker)
    cost = (time.process_time() - began) / (rounds * workers)
    rate = workers * 5 / lease
    began = time.process_time()
    held.append([])
    numbers.append(0)
    await report(workers)
    joined = time.process_time() - began
    print(
        f"| {sources:,} | {workers} | {shards:,} | {rate:.1f} reports, {shards * 5 / lease:,.0f} leases | "
        f"{1000 * cost:.2f} ms | {100 * rate * cost:.1f} % | {1000 * joined:.0f} ms |", flush=True,
    )
    extension.scheduler.periodic_callbacks["semaphore-lease-timeout"].stop()


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    parser.add_argument("what", choices=["run", "simulate"])
    parser.add_argument("--sources", type=int, default=3000)
    parser.add_argument("--lease", type=float, default=10.0)
    given = parser.parse_args()
    if given.what == "simulate":
        asyncio.run(simulate())
    else:
        run(given.sources, given.lease)


if __name__ == "__main__":
    main()
