"""websockets, its asyncio client: a loop around recv."""

from __future__ import annotations

from typing import Any

from websockets.asyncio.client import connect

from benchmarks.meter import Trips

from .asynchronous import AsyncClient
from .base import Counter


class Client(AsyncClient):
    """Receives, sends, echoes and holds connections open."""

    deflates = True

    def _connect(self) -> connect:
        return connect(
            self.job.url, ssl=self.tls, compression="deflate" if self.work.deflate else None, max_size=None,
            proxy=None,
        )

    def receive(self) -> None:
        self.run(self._receive())

    async def _receive(self) -> None:
        counter = Counter()
        async with self._connect() as connection:
            self.meter.start()
            async for message in connection:
                counter.count += 1
                counter.length += len(message)
            self.meter.stop()
        self.meter.take(counter)

    def send(self) -> None:
        self.run(self._send())

    async def _send(self) -> None:
        async with self._connect() as connection:
            message = self.message
            self.meter.start()
            for _ in range(self.job.count):
                await connection.send(message)
            async for _ in connection:
                pass
            self.meter.stop()
        self.meter.count = self.job.count

    def echo(self) -> None:
        self.run(self._echo())

    async def _echo(self) -> None:
        message, trips = self.message, Trips(self.job.count)
        async with self._connect() as connection:
            self.meter.start()
            more = True
            trips.leave()
            while more:
                await connection.send(message)
                more = trips.arrive(str(await connection.recv()))
            self.meter.stop()
        self.meter.take(trips)
        self.meter.latencies = trips.latencies

    async def join_crowd(self, counter: Counter) -> Any:
        return await self._connect()
