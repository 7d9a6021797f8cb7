"""``python -m tests.fleet``: evidence about fleets that takes too long for the suite.

* ``run [--sources 3000]``: a scheduler and three workers on loopback. One worker is killed, one joins, one is
  stopped for two leases. Prints times, memory, threads, and the owners that the server sees.
* ``partition [--sources 3000]``: the same in network namespaces, as root. A worker is cut off from the
  scheduler but not from the servers, then the scheduler from all workers.
* ``simulate``: desks and leases alone, up to a million sources and a thousand workers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

from distributed import Client
from distributed.semaphore import SemaphoreExtension

from lochws import Backoff
from lochws.fleet import Fleet
from lochws.fleet.book import Book, Rules, Sources
from lochws.fleet.desk import Leases, answer
from lochws.fleet.hashing import shard_of
from lochws.fleet.messages import Held, Report

from .cluster import cluster
from .evidence import Servers, make_app, memory_of, raise_limit, settled, timed, told, until
from .partition import partition


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
        empty = {name: memory_of(each.pid) for name, each in dask.workers.items()}
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}", flush=True)
        with timed(f"{count:,} sources connected"):
            fleet = Fleet(client, urls, make_app, lease=lease, persist=Backoff(max_wait=10))
            until(lambda: settled(server, count, pids))
        until(lambda: fleet.status().open == count)
        for worker in fleet.status().workers:
            print(
                f"  {worker.name}: {worker.sources:,} sources in {worker.shards} shards, "
                f"{worker.threads} threads, {worker.memory / 1e6:.0f} MB, "
                f"{(worker.memory - empty[worker.name]) / 1e3 / worker.sources:.0f} KB per connection",
                flush=True,
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
            until(lambda: fleet.wait_ready(0))
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
    parser.add_argument("what", choices=["run", "partition", "simulate"])
    parser.add_argument("--sources", type=int, default=3000)
    parser.add_argument("--lease", type=float, default=10.0)
    given = parser.parse_args()
    if given.what == "simulate":
        asyncio.run(simulate())
    else:
        (run if given.what == "run" else partition)(given.sources, given.lease)


if __name__ == "__main__":
    main()
