"""Metrics of a fleet for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .status import FleetStatus

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_OF_FLEET = {
    "sources": ("lochws_fleet_sources", "The sources of the fleet."),
    "shards": ("lochws_fleet_shards", "The shards that have sources."),
    "owned": ("lochws_fleet_owned_shards", "The shards that a worker owns and has started."),
    "moving": ("lochws_fleet_moving_shards", "The shards that are moving from one worker to another."),
    "unplaced": ("lochws_fleet_unplaced_shards", "The shards that no worker has room for."),
}
_OF_WORKERS = {
    "shards": ("lochws_fleet_worker_shards", "The shards that a worker owns."),
    "sources": ("lochws_fleet_worker_sources", "The sources that a worker has apps for."),
    "open": ("lochws_fleet_worker_open", "The connections of a worker that are open."),
    "connections": ("lochws_fleet_worker_connections", "The connections that its present apps have opened."),
    "messages_received": ("lochws_fleet_worker_messages_received", "Messages its present apps received."),
    "messages_sent": ("lochws_fleet_worker_messages_sent", "Messages that its present apps sent."),
    "memory": ("lochws_fleet_worker_memory_bytes", "The memory of its process."),
    "threads": ("lochws_fleet_worker_threads", "The threads of its process."),
    "seen": ("lochws_fleet_worker_seen_seconds", "The time since its last report."),
}


class FleetCollector:
    """A prometheus-client collector for a fleet. Created by `Fleet.register`.

    All numbers are gauges, since a worker's counts fall when apps move away.
    """

    def __init__(self, name: str, status: Callable[[], FleetStatus]) -> None:
        self._name = name
        self._status = status

    def describe(self) -> Iterator[Metric]:
        """Yield the metric families without values."""
        yield from self._families(None)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families; without values if the scheduler does not answer."""
        try:
            status = self._status()
        except Exception:  # noqa: BLE001  a scrape must not fail because of it
            status = None
        yield from self._families(status)

    def _families(self, status: FleetStatus | None) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415  optional

        for key, (name, words) in _OF_FLEET.items():
            family = GaugeMetricFamily(name, words, labels=["fleet"])
            if status is not None:
                family.add_metric([self._name], getattr(status, key))
            yield family
        name, words = "lochws_fleet_quarantined", "The sources in quarantine."
        quarantined = GaugeMetricFamily(name, words, labels=["fleet"])
        if status is not None:
            quarantined.add_metric([self._name], len(status.quarantined))
        yield quarantined
        for key, (name, words) in _OF_WORKERS.items():
            family = GaugeMetricFamily(name, words, labels=["fleet", "worker"])
            for worker in () if status is None else status.workers:
                family.add_metric([self._name, worker.name], getattr(worker, key))
            yield family
