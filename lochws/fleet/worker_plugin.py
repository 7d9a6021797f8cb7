"""Plugin of Dask's workers: it runs a keeper on each worker, present or future."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from distributed.diagnostics.plugin import WorkerPlugin

from .desk import CALL, REPORT, plugin_name
from .keeper import Keeper, Orders
from .messages import Reply, Report

if TYPE_CHECKING:
    from distributed import Worker

_here: ContextVar[Worker] = ContextVar("lochws_fleet_worker")


def current_worker() -> Worker:
    """Return the Dask worker on which `make_app` is running, for example for its `log_event`.

    Raises:
        RuntimeError: `make_app` is not running.
    """
    try:
        return _here.get()
    except LookupError:
        raise RuntimeError("current_worker() works only while make_app runs on a worker of a fleet") from None


class KeeperPlugin(WorkerPlugin):
    """Runs a keeper on each worker.

    Args:
        orders: the options of the fleet.
    """

    def __init__(self, orders: Orders) -> None:
        self.name = plugin_name(orders.fleet)
        self._orders = orders
        self._keeper: Keeper | None = None
        self._worker: Worker | None = None

    async def setup(self, worker: Worker) -> None:
        """Start the keeper."""
        async def send(report: Report) -> Reply | None:
            send_report = getattr(worker.scheduler, REPORT)
            answer = await send_report(fleet=self._orders.fleet, report=report.to_wire())
            # A scheduler that does not know the operation answers with something else.
            return Reply.from_wire(list(answer)) if isinstance(answer, (list, tuple)) else None

        def called(fleet: str) -> None:
            plugin = worker.plugins.get(plugin_name(fleet))
            if isinstance(plugin, KeeperPlugin) and plugin._keeper is not None:
                plugin._keeper.ask()

        # It is never removed: a call of an operation that a worker does not know would end its connection.
        worker.stream_handlers[CALL] = called
        name = worker.address if worker.name is None else str(worker.name)
        self._keeper = Keeper(self._orders, name, worker.address, send)
        _here.set(worker)
        self._worker = worker
        self._keeper.start()

    async def teardown(self, worker: Worker) -> None:
        """Close all apps, before the worker ends or another run of the fleet begins."""
        if self._keeper is not None and self._worker is not None:
            # A worker that has lost its scheduler ends, and would try for long to reach it.
            stream = self._worker.batched_stream
            await self._keeper.stop(tells=bool(stream.comm) and not stream.closed())
