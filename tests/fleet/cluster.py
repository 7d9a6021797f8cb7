"""A Dask cluster of real processes, and a server that notes who connects to it."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

from distributed import Client, Queue
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.sync.server import ServerConnection, serve

from lochws import Backoff, Feed, Threads, WebSocketApp, events
from lochws.fleet import current_worker

from ..support.ports import free_port
from ..support.seen import PATIENCE

ROOT = Path(__file__).parent.parent.parent
#: Quick, but long enough for a busy machine; the scheduler looks for expired leases ten times per second.
LEASE = 3.0
BACKOFF = Backoff(min_wait=0.05, max_wait=0.5)


def make_app(url: str, threads: Threads) -> WebSocketApp:
    """Return an app that tells the server which process it belongs to, on each connection."""
    return WebSocketApp(f"{url}?pid={os.getpid()}", threads=threads)


def uptime() -> float:
    """Return that the scheduler is old, so that a fleet need not wait for leases of an earlier one."""
    return 1e6


def make_feed(url: str, threads: Threads) -> Feed:
    """Return a feed that does the same."""
    return Feed(lambda url: WebSocketApp(url, threads=threads), [f"{url}?pid={os.getpid()}"], threads=threads)


@functools.cache
def owners(scheduler: str) -> Queue:
    """Return a queue of Dask's, with a client of this worker's own."""
    return Queue("owners", client=Client(scheduler, set_as_default=False))


def make_telling_app(url: str, threads: Threads) -> WebSocketApp:
    """Return an app that puts its source and its process into a queue of Dask's on each connection."""
    app = make_app(url, threads)
    queue = owners(current_worker().scheduler.address)

    @app.on("ready")
    def tell(event: events.Ready) -> None:
        queue.put([url, os.getpid()])

    return app


class Watcher:
    """A server of `websockets` that notes which processes are connected to which source, and when."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[str, int], set[ServerConnection]] = {}
        self.most: Counter[str] = Counter()  # the most processes at a time, by source
        self.longest: dict[str, float] = {}  # the longest time without any, by source
        self._left: dict[str, float] = {}
        self.refused: set[str] = set()
        self._server = serve(self._handle, "127.0.0.1", 0, compression=None, ping_interval=None)
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def url(self, name: object) -> str:
        """Return the URL of a source."""
        return f"ws://127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()

    def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        path, _, query = connection.request.path.partition("?pid=")
        source, pid = path[1:], int(query)
        if source in self.refused:
            connection.close(1008, "not you")
            return
        with self._lock:
            self._open.setdefault((source, pid), set()).add(connection)
            self.most[source] = max(self.most[source], len(self._pids(source)))
            if source in self._left:
                gap = monotonic() - self._left.pop(source)
                self.longest[source] = max(self.longest.get(source, 0.0), gap)
        try:
            with suppress(ConnectionClosed):
                for message in connection:
                    connection.send(message)
        finally:
            with self._lock:
                self._open[source, pid].remove(connection)
                if not self._pids(source):
                    self._left[source] = monotonic()

    def _pids(self, source: str) -> set[int]:
        # A connection ends when the client's Close frame is here; its thread may take a while to notice.
        return {
            pid for (other, pid), connections in self._open.items()
            if other == source and any(each.protocol.state is State.OPEN for each in connections)
        }

    def owners(self) -> dict[str, set[int]]:
        """Return the processes that are connected to each source."""
        with self._lock:
            return {source: self._pids(source) for source, _ in list(self._open)}

    def pids(self) -> set[int]:
        """Return the processes that are connected to anything."""
        return set().union(*self.owners().values())

    def forget(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self.most.clear()
            self.longest.clear()


class Cluster:
    """A scheduler and workers, each a process of its own, on loopback.

    Args:
        folder: for their files and their output.
        workers: how many workers there are at first: w0, w1 and so on.
        nannies: whether each worker has a nanny, which is then the process that `workers` has.
    """

    def __init__(self, folder: Path, workers: int = 3, *, nannies: bool = False) -> None:
        self._folder, self._nanny = folder, "--nanny" if nannies else "--no-nanny"
        self._file = folder / "scheduler.json"
        self.port = free_port()
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.scheduler = self._start_scheduler()
        for number in range(workers):
            self.add_worker(f"w{number}")

    @property
    def address(self) -> str:
        """Return the scheduler's address."""
        return f"tcp://{self.host('scheduler')}:{self.port}"

    def host(self, name: str) -> str:
        """Return the address of the scheduler or of a worker."""
        return "127.0.0.1"

    def prefix(self, name: str) -> list[str]:
        """Return the start of the command for the scheduler or a worker."""
        return []

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__SCHEDULER__LOCKS__LEASE_VALIDATION_INTERVAL": "100ms",
            "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__GIL__ENABLED": "false",
        }
        command = [
            *self.prefix(name), sys.executable, "-m", "dask", *arguments, "--host", self.host(name),
        ]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self._folder,
            )

    def _start_scheduler(self) -> subprocess.Popen[bytes]:
        self._file.unlink(missing_ok=True)
        process = self._start(
            "scheduler", "scheduler", "--port", str(self.port), "--dashboard-address", ":0",
            "--scheduler-file", str(self._file),
        )
        end = monotonic() + PATIENCE
        while not self._file.exists() or not self._file.read_text(encoding="utf-8").endswith("}"):
            if process.poll() is not None or monotonic() > end:
                process.kill()
                process.wait()
                raise AssertionError(self.log())
            threading.Event().wait(0.02)
        self.port = int(json.loads(self._file.read_text(encoding="utf-8"))["address"].rpartition(":")[2])
        return process

    def restart_scheduler(self) -> None:
        """Kill the scheduler, and start another one at the same address."""
        self.kill_scheduler()
        self.scheduler = self._start_scheduler()

    def kill_scheduler(self) -> None:
        """Kill the scheduler."""
        self.scheduler.kill()
        self.scheduler.wait()

    def add_worker(self, name: str) -> int:
        """Start a worker. Return the id of its process."""
        self.workers[name] = self._start(
            name, "worker", self.address, "--nthreads", "1", "--no-dashboard", self._nanny, "--name", name,
            "--local-directory", str(self._folder / name), "--memory-limit", "0",
        )
        return self.workers[name].pid

    def repair(self, names: list[str]) -> None:
        """Start the scheduler again if it has ended, and end and start workers so that these run."""
        if self.scheduler.poll() is not None:
            self.scheduler = self._start_scheduler()
        for name, process in list(self.workers.items()):
            if process.poll() is not None or name not in names:
                self.kill(name)
        for name in names:
            if name not in self.workers:
                self.add_worker(name)

    def names(self, client: Client) -> list[str]:
        """Return the names of the workers that the scheduler knows."""
        return [each["name"] for each in client.scheduler_info(n_workers=-1)["workers"].values()]

    def kill(self, name: str) -> int:
        """Kill a worker with SIGKILL."""
        process = self.workers.pop(name)
        process.kill()
        process.wait()
        return process.pid

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a worker."""
        self.workers[name].send_signal(number)
        return self.workers[name].pid

    @contextmanager
    def stopped(self, process: subprocess.Popen[bytes]) -> Iterator[Callable[[], bool]]:
        """Stop a process, and let it go on at the end of the block.

        Yields a function that stops it once more, for what lets all processes go on meanwhile, as a debugger
        does. It returns True.
        """
        def stop() -> bool:
            process.send_signal(signal.SIGSTOP)
            return True

        try:
            stop()
            yield stop
        finally:
            process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Return the output of all processes."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Kill all processes."""
        for process in (*self.workers.values(), self.scheduler):
            process.kill()
        for process in (*self.workers.values(), self.scheduler):
            process.wait()


@contextmanager
def cluster(folder: Path, workers: int = 3, *, nannies: bool = False) -> Iterator[Cluster]:
    """Start a cluster; it is killed at the end of the block."""
    running = Cluster(folder, workers, nannies=nannies)
    try:
        yield running
    finally:
        running.close()
