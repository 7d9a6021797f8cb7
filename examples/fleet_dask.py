"""A fleet of connections on the workers of a Dask cluster: ``python fleet_dask.py [SCHEDULER [SOURCES]]``.

Without a scheduler's address, everything runs on this machine, in two worker processes. Readings return
through a topic of Dask's. At the end, one worker is drained: the other one takes its connections.
"""

import sys
import threading

from distributed import Client, LocalCluster

from lochws import Threads, WebSocketApp, events
from lochws.fleet import Fleet, current_worker
from lochws.handlers.heartbeat import Every
from lochws.testing import ScriptedServer, accept, echo


def make_app(url: str, threads: Threads) -> WebSocketApp:
    """Make the app for one source, on the worker that owns it."""
    app = WebSocketApp(url, threads=threads)
    worker = current_worker()
    Every(app, 0.5, lambda: {"source": url, "worker": str(worker.name)})  # the server sends it back

    @app.on("text")
    def on_text(event: events.Text) -> None:
        worker.log_event("readings", event.json)  # returns at once

    return app


class Readings:
    """The latest reading of each source."""

    def __init__(self) -> None:
        self.workers: dict[str, str] = {}

    def take(self, reading: tuple[float, dict[str, str]]) -> None:
        """Take a reading: the time, and what a worker has logged."""
        self.workers[reading[1]["source"]] = reading[1]["worker"]

    def wait(self, sources: int, workers: int) -> None:
        """Wait for readings from this many sources and workers, and print how many of each there are."""
        while len(self.workers) < sources or len(set(self.workers.values())) != workers:
            threading.Event().wait(0.1)
        print(f"{len(self.workers)} sources on {len(set(self.workers.values()))} workers", flush=True)


def main(client: Client, count: int) -> None:
    """Connect to all sources, then drain a worker."""
    readings = Readings()
    client.subscribe_topic("readings", readings.take)
    with ScriptedServer([accept(), echo()], history=False) as server:
        urls = [f"{server.url}{number}" for number in range(count)]
        with Fleet(client, urls, make_app, shards=64) as fleet:
            fleet.wait_ready(60)
            workers = [worker.name for worker in fleet.status().workers]
            readings.wait(count, len(workers))
            print("drained:", fleet.drain(workers[0], timeout=60))
            readings.wait(count, len(workers) - 1)
            print("open:", fleet.status().open)


if __name__ == "__main__":
    count = int(sys.argv[2]) if sys.argv[2:] else 100
    if sys.argv[1:]:
        with Client(sys.argv[1], timeout=60) as client:
            main(client, count)
    else:
        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
            ) as cluster,
            Client(cluster) as client,
        ):
            main(client, count)
