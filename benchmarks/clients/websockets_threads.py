"""websockets, its threading client: a loop around recv; one thread per connection where there are many."""

from __future__ import annotations

import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from benchmarks.meter import Trips

from .base import BaseClient, Counter, compute_without_pause


class Client(BaseClient):
    """Does all the works."""

    threaded = True
    deflates = True

    def _connect(self) -> ClientConnection:
        return connect(
            self.job.url, ssl=self.tls, compression="deflate" if self.work.deflate else None, max_size=None,
            proxy=None,
        )

    def receive(self) -> None:
        counter = Counter()
        with self._connect() as connection:
            self.meter.start()
            for message in connection:
                counter.count += 1
                counter.length += len(message)
            self.meter.stop()
        self.meter.take(counter)

    def send(self) -> None:
        with self._connect() as connection:
            message = self.message

            def share(count: int) -> None:
                for _ in range(count):
                    connection.send(message)

            self.meter.start()
            self.send_by_threads(share)
            for _ in connection:
                pass
            self.meter.stop()
        self.meter.count = self.job.count

    def echo(self) -> None:
        if self.work.busy:
            compute_without_pause()
        message, trips = self.message, Trips(self.job.count)
        with self._connect() as connection:
            self.meter.start()
            more = True
            trips.leave()
            while more:
                connection.send(message)
                more = trips.arrive(str(connection.recv()))
            self.meter.stop()
        self.meter.take(trips)
        self.meter.latencies = trips.latencies

    def open(self) -> None:
        self.meter.start()
        threads = [threading.Thread(target=self._connect, daemon=True) for _ in range(self.job.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.meter.stop()
        self.meter.count = self.job.count

    def idle(self) -> None:
        connections = self.measure_idle(lambda: [self._connect() for _ in range(self.job.count)])
        self.meter.count = len(connections)

    def crowd(self) -> None:
        counters = [Counter() for _ in range(self.job.count)]
        for counter in counters:
            threading.Thread(target=self._count, args=(self._connect(), counter), daemon=True).start()
        self.watch_crowd(counters)

    @staticmethod
    def _count(connection: ClientConnection, counter: Counter) -> None:
        try:
            for _ in connection:
                counter.count += 1
        except ConnectionClosed:
            pass  # the server went away when all was seen
