"""Partitions of a fleet in network namespaces: who owns the sources, as their servers see it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from distributed import Client

from lochws import Backoff
from lochws.fleet import Fleet

from .cluster import Cluster
from .evidence import Servers, look, make_app, raise_limit, settled, timed, told, until

#: Addresses for tests of networks (RFC 2544): one network for Dask, another for the servers.
_CONTROL, _DATA = "198.18.1", "198.18.2"
_HERE = 254
_MEMBERS = ("scheduler", "w0", "w1", "w2")


def ip(*arguments: str, check: bool = True) -> None:
    """Run the command ip."""
    subprocess.run(["ip", *arguments], check=check, capture_output=not check)


class Network:
    """A network namespace for the scheduler and for each worker, with an interface on each of two bridges."""

    def set_up(self) -> None:
        """Create it, after removing one that an earlier run left behind."""
        self.close()
        for bridge, network in (("lochws-dask", _CONTROL), ("lochws-data", _DATA)):
            ip("link", "add", bridge, "type", "bridge")
            ip("address", "add", f"{network}.{_HERE}/24", "dev", bridge)
            ip("link", "set", bridge, "up")
        for number, name in enumerate(_MEMBERS, 1):
            ip("netns", "add", f"lochws-{name}")
            inside = ("-n", f"lochws-{name}")
            ip(*inside, "link", "set", "lo", "up")
            for kind, network in (("dask", _CONTROL), ("data", _DATA)):
                outside = f"lochws-{kind}{number}"
                ip("link", "add", outside, "type", "veth", "peer", "name", kind, "netns", inside[1])
                ip("link", "set", outside, "master", f"lochws-{kind}", "up")
                ip(*inside, "address", "add", f"{network}.{number}/24", "dev", kind)
                ip(*inside, "link", "set", kind, "up")

    def cut(self, name: str) -> None:
        """Cut one off from the network for Dask. Its packets are dropped without an error."""
        ip("link", "set", f"lochws-dask{1 + _MEMBERS.index(name)}", "nomaster")

    def heal(self, name: str) -> None:
        """Let it have that network again."""
        ip("link", "set", f"lochws-dask{1 + _MEMBERS.index(name)}", "master", "lochws-dask")

    def close(self) -> None:
        """Remove all."""
        for name in _MEMBERS:
            ip("netns", "delete", f"lochws-{name}", check=False)
        for bridge in ("lochws-dask", "lochws-data"):
            ip("link", "delete", bridge, check=False)


class DividedCluster(Cluster):
    """A scheduler and workers in the namespaces of a network."""

    def host(self, name: str) -> str:
        """Return the address on the network for Dask."""
        return f"{_CONTROL}.{1 + _MEMBERS.index(name)}"

    def prefix(self, name: str) -> list[str]:
        """Return the command that enters the namespace."""
        return ["ip", "netns", "exec", f"lochws-{name}"]


@contextmanager
def divided(folder: Path) -> Iterator[tuple[DividedCluster, Network]]:
    """Start a cluster in namespaces; both are removed at the end of the block."""
    network = Network()
    try:
        network.set_up()
        running = DividedCluster(folder)
        try:
            yield running, network
        finally:
            running.close()
    finally:
        network.close()


def partition(count: int, lease: float) -> None:
    """Cut off a worker, for two leases and for longer than Dask waits for it, and then the scheduler."""
    raise_limit()
    os.environ["LOCHWS_FLEET_BEAT"] = "2"
    server = Servers(count, f"{_DATA}.{_HERE}")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        dask, network = stack.enter_context(divided(Path(folder)))
        client = stack.enter_context(Client(dask.address, timeout=60))
        client.wait_for_workers(3, timeout=60)
        pids = {each.pid for each in dask.workers.values()}
        with timed(f"{count:,} sources connected"):
            urls = [server.url(number) for number in range(count)]
            fleet = Fleet(client, urls, make_app, lease=lease, persist=Backoff(max_wait=5))
            until(lambda: settled(server, count, pids) and fleet.wait_ready(0) and not fleet.status().moving)
        told("until now")
        parts = _Parts(server, dask, network, fleet, count, pids)
        parts.cut_off_worker("a worker is cut off from the scheduler, for two leases", 2 * lease)
        parts.cut_off_worker("a worker is cut off for longer than Dask's connections last", None)
        parts.cut_off_scheduler(1.5 * lease)
        with timed("closed"):
            print(f"  all closed: {fleet.close(120)}")
    server.close()


@dataclass
class _Parts:
    """The parts of the evidence."""

    server: Servers
    dask: DividedCluster
    network: Network
    fleet: Fleet[str]
    count: int
    pids: set[int]

    def cut_off_worker(self, what: str, seconds: float | None) -> None:
        """Cut the worker w0 off from the scheduler for a time, or until Dask ends it; then let it return."""
        print(what)
        process, began = self.dask.workers["w0"], monotonic()
        self.network.cut("w0")
        self._watch({process.pid}, began)
        if seconds is None:
            until(lambda: process.poll() is not None)
            print(f"  {monotonic() - began:.1f} s: Dask has ended its worker", flush=True)
        else:
            threading.Event().wait(max(0.0, began + seconds - monotonic()))
        until(lambda: settled(self.server, self.count, self.pids - {process.pid}))
        told("cut off")
        with timed("  the network is whole again, until the worker, or a new one, has its share"):
            self.network.heal("w0")
            if seconds is None:
                self.pids = self.pids - {process.pid} | {self.dask.add_worker("w0")}
            until(self._is_settled)
        told("back")

    def cut_off_scheduler(self, seconds: float) -> None:
        """Cut the scheduler off from all workers for a time."""
        print("the scheduler is cut off from all workers, for one and a half leases")
        began = monotonic()
        self.network.cut("scheduler")
        self._watch(self.pids, began)
        threading.Event().wait(max(0.0, began + seconds - monotonic()))
        with timed("  the network is whole again, until all are back"):
            self.network.heal("scheduler")
            until(self._is_settled)
        told("scheduler")

    def _is_settled(self) -> bool:
        return settled(self.server, self.count, self.pids) and not self.fleet.status().moving

    def _watch(self, cut_off: set[int], began: float) -> None:
        """Print when processes begin to close their connections, when they have none, and what follows."""
        mine, others = self._connections(cut_off)
        first, before = mine, others
        marks: dict[str, Callable[[], bool]] = {
            "the first connection closes": lambda: mine < first,
            "none is left": lambda: mine == 0,
        }
        if len(cut_off) == 1:
            marks |= {
                "another worker opens the first one": lambda: others > before,
                "all are open": lambda: others == self.count,
            }
        while marks:
            mine, others = self._connections(cut_off)
            for what in [what for what, has_happened in marks.items() if has_happened()]:
                del marks[what]
                print(f"  {monotonic() - began:.1f} s: {what}", flush=True)
            assert monotonic() < began + 600, "not in time"
            threading.Event().wait(0.02)

    def _connections(self, pids: set[int]) -> tuple[int, int]:
        """Return how many connections these processes have, and how many the others have."""
        state = look(self.server)
        mine = sum(state["by_pid"].get(pid, 0) for pid in pids)
        return mine, state["open"] - mine
