"""Desk of a fleet: a plugin of Dask's scheduler that answers the workers' reports and keeps the book.

The leases are those of `distributed.Semaphore`: each shard has a semaphore for one owner, and another for one
successor. The scheduler's extension for semaphores renews, expires and releases them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

import psutil
from distributed.diagnostics.plugin import SchedulerPlugin
from tornado.ioloop import PeriodicCallback

from ..system.report import report as log
from .book import Book, Rules, Sources
from .messages import Reply, Report
from .status import FleetStatus

if TYPE_CHECKING:
    from distributed import Scheduler

#: The name of the scheduler's operation that takes a report, and of the workers' operation that asks for one.
REPORT, CALL = "lochws_fleet_report", "lochws-fleet-call"


def plugin_name(fleet: str) -> str:
    """Return the name of a fleet's plugins, on the scheduler and on workers."""
    return f"lochws-fleet-{fleet}"


class _Names(dict[int, str]):
    """The names of one role's semaphores, by shard: each report needs all of them."""

    def __init__(self, fleet: str, role: str) -> None:
        self._fleet, self._role = fleet, role

    def __missing__(self, shard: int) -> str:
        self[shard] = name = f"{plugin_name(self._fleet)}-{shard}{self._role}"
        return name


class Leases:
    """The leases of a fleet, in the scheduler's extension for semaphores.

    Args:
        extension: the scheduler's `distributed.semaphore.SemaphoreExtension`.
        fleet: the name of the fleet.
        seconds: how long a lease is valid unless it is renewed.
    """

    def __init__(self, extension: Any, fleet: str, seconds: float) -> None:
        self._extension = extension
        self._names = {role: _Names(fleet, role) for role in ("", "-next")}
        # The roles for which there may be leases: an earlier fleet of this name may have granted some.
        self._granted = {
            role for role in self._names for name, held in extension.leases.items()
            if held and name.startswith(f"{plugin_name(fleet)}-") and name.endswith(role)
        }
        self._seconds = seconds

    async def obtain(self, shards: Collection[int], keeper: str, role: str = "") -> list[int]:
        """Acquire or renew leases for a keeper. Return the shards for which that succeeded."""
        obtained = []
        for shard in shards:
            name = self._names[role][shard]
            self._extension.create(name=name, max_leases=1, lease_timeout=self._seconds)
            leases = self._extension.leases.get(name)
            # To acquire a lease again under the same id renews it. If another keeper has it, `acquire` waits.
            is_ours = not leases or keeper in leases
            if is_ours:  # an earlier fleet of this name may have had another lease
                self._extension.lease_timeouts[name] = self._seconds
            if is_ours and await self._extension.acquire(name=name, timeout=0, lease_id=keeper):
                obtained.append(shard)
                self._granted.add(role)
        return obtained

    def give_up(self, shards: Collection[int], keeper: str, role: str = "") -> list[int]:
        """End the leases of a keeper for some shards. Return those for which it had one."""
        if role not in self._granted:
            return []
        names, leases = self._names[role], self._extension.leases
        ended = [shard for shard in shards if keeper in leases.get(names[shard], ())]
        for shard in ended:
            self._extension.release(name=names[shard], lease_id=keeper)
        return ended

    def free(self, shards: Collection[int]) -> set[int]:
        """Return the shards that have no owner."""
        names, leases = self._names[""], self._extension.leases
        return {shard for shard in shards if not leases.get(names[shard])}

    def close(self, shards: Collection[int]) -> None:
        """Remove the semaphores that have no lease."""
        for shard in shards:
            for names in self._names.values():
                if not self._extension.leases.get(names[shard]):
                    self._extension.close(name=names[shard])


async def answer(
    book: Book, leases: Leases, report: Report, shards: Collection[int], now: Callable[[], float] = monotonic
) -> Reply | None:
    """Return the reply to a report; None if the report is outdated.

    Args:
        book: the book.
        leases: the leases.
        report: the report.
        shards: all shards.
        now: the clock, in monotonic seconds.
    """
    if not book.accepts(report):
        return None
    keeper, everything = report.keeper, set(shards)
    # First the shards that the worker has closed, so that another one can take them.
    left = leases.give_up(everything.difference(each.shard for each in report.owned), keeper)
    book.changes += bool(left)
    wish = book.begin(report, leases.free(everything), now())
    owned = await leases.obtain(wish.owned, keeper)
    leases.give_up(everything.difference(wish.coming), keeper, "-next")
    coming = await leases.obtain(wish.coming, keeper, "-next")
    return book.finish(report, wish, owned, coming, now())


class Desk(SchedulerPlugin):
    """The plugin of the scheduler. All of it runs on the scheduler's event loop.

    Args:
        fleet: the name of the fleet.
        shards: the number of shards.
        rules: the rules of its book.
        sources: the content of each shard: its sources, pickled, and how many there are.
        owner: the id of the Dask client that created the fleet.
        linger: how long the fleet goes on without that client, in seconds; None for ever.
        quiet: how long no lease is granted at first, in seconds.
    """

    def __init__(
        self, fleet: str, shards: int, rules: Rules, sources: Mapping[int, tuple[bytes, int]], owner: str,
        linger: float | None, quiet: float,
    ) -> None:
        self.name = plugin_name(fleet)
        self.shards = shards
        self.owner = owner
        self.reports = 0
        self._fleet, self._rules, self._linger, self._quiet = fleet, rules, linger, quiet
        self._contents = sources

    async def start(self, scheduler: Scheduler) -> None:
        """Take over from an earlier desk of the same fleet, if there is one."""
        earlier = scheduler.plugins.get(self.name)
        if isinstance(earlier, Desk):
            earlier.stop()
            scheduler.remove_plugin(self.name)
        now = monotonic()
        self._scheduler = scheduler
        contents = {shard: Sources(0, *content) for shard, content in self._contents.items()}
        self._contents = {}
        opens_at = now + self._quiet
        self.book = Book(
            self._rules, contents, opens_at, len(scheduler.workers),
            opens_at + min(2.0, self._rules.lease / 2),
        )
        self._leases = Leases(scheduler.extensions["semaphores"], self._fleet, self._rules.lease)
        self._present = now
        self._is_ending = False
        scheduler.handlers[REPORT] = self._receive_any
        self._ticks = PeriodicCallback(self._tick, 100 * self._rules.lease)  # ms: ten times per lease
        self._ticks.start()

    async def close(self) -> None:
        """Stop, together with the scheduler."""
        self.stop()

    def stop(self) -> None:
        """Stop. Leases that have not been given up expire."""
        self._ticks.stop()

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: object) -> None:
        """Record that a worker is gone. Its leases expire by themselves, since it may only be cut off."""
        self.book.gone(worker)

    async def _receive_any(self, fleet: str, report: list[Any]) -> list[Any] | None:
        """Answer the report of a worker of any fleet: the handler is one for all of them."""
        desk = self._scheduler.plugins.get(plugin_name(fleet))
        return await desk.receive(Report.from_wire(report)) if isinstance(desk, Desk) else None

    async def receive(self, report: Report) -> list[Any] | None:
        """Return the reply to a report; None if the report is outdated."""
        self.reports += 1
        changes = self.book.changes
        reply = await answer(self.book, self._leases, report, range(self.shards))
        if self.book.changes != changes:
            self._call()  # only then, or reports would cause each other for ever
        return None if reply is None else reply.to_wire()

    def _call(self) -> None:
        """Ask for a report from each worker that has something to do."""
        addresses = self.book.addresses()
        for name in self.book.calls(self._leases.free(self.book.sources), monotonic()):
            if addresses[name] in self._scheduler.stream_comms:
                self._scheduler.worker_send(addresses[name], {"op": CALL, "fleet": self._fleet})

    async def _tick(self) -> None:
        now = monotonic()
        if self.owner in self._scheduler.clients:
            self._present = now
        elif self._linger is not None and now - self._present > self._linger and not self.book.is_closing:
            line = "the fleet %r ends: its client has been gone for %g s"
            log(logging.WARNING, line, self._fleet, self._linger)
            self.book.is_closing = True
        self._call()
        is_orphan = self.owner not in self._scheduler.clients
        if self.book.is_closing and is_orphan and not self._is_ending and self.is_done():
            self._is_ending = True
            await self.end()

    # For the client, by way of `run_on_scheduler`.

    def status(self) -> FleetStatus:
        """Return the state of the fleet."""
        return self.book.status(monotonic())

    def replace(self, changed: Mapping[int, tuple[bytes, int]]) -> None:
        """Replace the content of shards."""
        self.book.replace(changed)
        self._call()

    def release(self, texts: list[str] | None) -> int:
        """End the quarantine of some sources, or of all. Return how many were in quarantine."""
        count = self.book.release(texts)
        self._call()
        return count

    def names(self) -> list[str]:
        """Return the names of the workers, and of drained workers that are gone."""
        return sorted(self.book.names())

    def has_others(self, names: list[str]) -> bool:
        """Return whether there are other workers that could take the shards of these."""
        return self.book.has_others(names)

    def drain(self, names: list[str]) -> bool:
        """Let shards move away from workers. Return False if no other worker could take them."""
        if not self.book.has_others(names):
            return False
        self.book.drain(names, is_draining=True)
        self._call()
        return True

    def resume(self, names: list[str]) -> None:
        """Let workers take shards again."""
        self.book.drain(names, is_draining=False)
        self._call()

    def begin_closing(self) -> None:
        """Let all workers close their apps."""
        self.book.is_closing = True
        self._call()

    def is_done(self) -> bool:
        """Return whether no shard has an owner."""
        return len(self._leases.free(range(self.shards))) == self.shards

    async def end(self) -> None:
        """Remove the plugins of the fleet from the workers and from the scheduler."""
        self.stop()
        if self.name in self._scheduler.worker_plugins:
            await self._scheduler.unregister_worker_plugin(None, self.name)
        self._leases.close(range(self.shards))
        if self._scheduler.plugins.get(self.name) is self:
            self._scheduler.remove_plugin(self.name)


def call_desk(fleet: str, method: str, *arguments: Any, dask_scheduler: Any = None) -> Any:
    """Call a method of a fleet's desk. Return a pair: whether there is a desk, and the result."""
    desk = dask_scheduler.plugins.get(plugin_name(fleet))
    return (True, getattr(desk, method)(*arguments)) if isinstance(desk, Desk) else (False, None)


async def end_desk(fleet: str, dask_scheduler: Any = None) -> None:
    """Remove a fleet's plugins."""
    desk = dask_scheduler.plugins.get(plugin_name(fleet))
    if isinstance(desk, Desk):
        await desk.end()


def look_up(fleet: str, dask_scheduler: Any = None) -> tuple[float, int, bool] | None:
    """Return a fleet's lease, its number of shards and whether its client is there; None without a desk."""
    desk = dask_scheduler.plugins.get(plugin_name(fleet))
    if not isinstance(desk, Desk):
        return None
    return desk.book.rules.lease, desk.shards, desk.owner in dask_scheduler.clients


def nannies_of(addresses: list[str], dask_scheduler: Any = None) -> list[bool]:
    """Return whether the workers at these addresses have nannies."""
    workers = [dask_scheduler.workers.get(address) for address in addresses]
    return [worker is not None and bool(worker.nanny) for worker in workers]


def uptime() -> float:
    """Return how long this process, the scheduler's, has been running, in seconds."""
    return float(time.time() - psutil.Process().create_time())
