"""Code shared by the clients on asyncio."""

from __future__ import annotations

import asyncio
import gc
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any

from benchmarks.meter import Meter, private_memory

from .base import BaseClient, Counter

#: Connections being opened at a time: as many as the servers' backlogs take.
_OPENING_AT_ONCE = 1000


class AsyncClient(BaseClient, ABC):
    """A client whose works are coroutines. A subclass says how a member of a crowd connects and counts."""

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a work. Overridden by clients with a loop of their own."""
        asyncio.run(coroutine)

    @abstractmethod
    async def join_crowd(self, counter: Counter) -> object:
        """Connect, and count from then on, in the background. What is returned is kept."""

    def open(self) -> None:
        self.run(self._open())

    async def _open(self) -> None:
        self.meter.start()
        await self._crowd()
        self.meter.stop()
        self.meter.count = self.job.count

    async def _crowd(self) -> tuple[list[Counter], list[object]]:
        counters = [Counter() for _ in range(self.job.count)]
        members: list[object] = []
        for start in range(0, len(counters), _OPENING_AT_ONCE):
            part = counters[start : start + _OPENING_AT_ONCE]
            members += await asyncio.gather(*(self.join_crowd(counter) for counter in part))
        return counters, members

    def idle(self) -> None:
        self.run(self._idle())

    async def _idle(self) -> None:
        gc.collect()
        before = private_memory()
        opening = Meter()
        opening.start()
        _, members = await self._crowd()
        opening.stop()
        await asyncio.to_thread(self.settled, before, opening.wall)
        self.meter.count = len(members)

    def crowd(self) -> None:
        self.run(self._watched_crowd())

    async def _watched_crowd(self) -> None:
        counters, _members = await self._crowd()
        await asyncio.to_thread(self.watch_crowd, counters)
