"""aiohttp: a loop around receive."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from benchmarks.meter import Trips

from .asynchronous import AsyncClient
from .base import Counter


class Client(AsyncClient):
    """Does all the works but those that need threads."""

    deflates = True
    _session: aiohttp.ClientSession | None = None

    def _connect(self, session: aiohttp.ClientSession) -> Any:
        return session.ws_connect(
            self.job.url, ssl=self.tls or True, compress=15 if self.work.deflate else 0, max_msg_size=0
        )

    def receive(self) -> None:
        self.run(self._receive())

    async def _receive(self) -> None:
        counter = Counter()
        async with aiohttp.ClientSession() as session, self._connect(session) as connection:
            self.meter.start()
            async for message in connection:
                counter.count += 1
                counter.length += len(message.data)
            self.meter.stop()
        self.meter.take(counter)

    def send(self) -> None:
        self.run(self._send())

    async def _send(self) -> None:
        async with aiohttp.ClientSession() as session, self._connect(session) as connection:
            message = self.message
            send = connection.send_str if isinstance(message, str) else connection.send_bytes
            self.meter.start()
            for _ in range(self.job.count):
                await send(message)
            async for _ in connection:
                pass
            self.meter.stop()
        self.meter.count = self.job.count

    def echo(self) -> None:
        self.run(self._echo())

    async def _echo(self) -> None:
        message, trips = self.message, Trips(self.job.count)
        async with aiohttp.ClientSession() as session, self._connect(session) as connection:
            self.meter.start()
            more = True
            trips.leave()
            while more:
                await connection.send_str(message)
                more = trips.arrive(await connection.receive_str())
            self.meter.stop()
        self.meter.take(trips)
        self.meter.latencies = trips.latencies

    async def join_crowd(self, counter: Counter) -> object:
        if self._session is None:
            # Its own limit is 100 connections.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        connection = await self._connect(self._session)

        async def count() -> None:
            async for _ in connection:
                counter.count += 1

        return asyncio.create_task(count())
