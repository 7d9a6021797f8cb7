"""Metrics: what is reported for each kind of work, and how clients compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .run import Measurement, Results
from .works import Kind


@dataclass(frozen=True)
class Metric:
    """One number of a measurement; less is better, but for shares of a crowd.

    Attributes:
        name: as in the tables and in the targets.
        key: where it is in a measurement.
        scale: what it is multiplied by for people.
        per_message: whether it is divided by the count.
        per_second: whether it is divided by the wall time.
    """

    name: str
    key: str
    scale: float = 1.0
    per_message: bool = False
    per_second: bool = False

    def of(self, measurement: Measurement) -> float | None:
        """Return the number, or None if that client does not report it."""
        value = measurement.get(self.key)
        if value is None:
            return None
        value *= self.scale
        if self.per_message:
            value /= measurement["count"]
        return value / measurement["wall"] if self.per_second else value


_CPU = Metric("CPU µs", "cpu", 1e6, per_message=True)
_WALL = Metric("wall µs", "wall", 1e6, per_message=True)
_P50 = Metric("p50 µs", "p50", 1e6)
_P99 = Metric("p99 µs", "p99", 1e6)

#: The first of each is the one that ratios are made of, and charts.
METRICS: dict[Kind, Sequence[Metric]] = {
    "receive": (_CPU, _WALL),
    "send": (_CPU, _WALL),
    "echo": (_CPU, _WALL, _P50, _P99),
    "open": (Metric("wall ms", "wall", 1e3), Metric("CPU ms", "cpu", 1e3)),
    "idle": (
        Metric("KiB each", "memory", 1 / 1024), Metric("threads", "threads"),
        Metric("idle CPU %", "cpu", 100, per_second=True), Metric("opened s", "opened"),
        Metric("connections", "count"),
    ),
    "crowd": (
        _CPU, Metric("least / most", "evenness"),
        Metric("least share", "least"), Metric("most share", "most"),
    ),
    "memory": (Metric("grown KiB", "grown", 1 / 1024), _CPU),
    "import": (Metric("wall ms", "wall", 1e3), Metric("CPU ms", "cpu", 1e3)),
}
BUSY: Sequence[Metric] = (_P99, _P50)


def metric_named(name: str) -> Metric:
    """Return a metric by its name."""
    return next(metric for kind in METRICS.values() for metric in kind if metric.name == name)


def values(results: Results, work: str, client: str, metric: Metric) -> list[float]:
    """Return a client's numbers at a work, one per round; none if any round is missing or failed."""
    if client in results.failures.get(work, {}):
        return []
    found = (metric.of(measurement) for measurement in results.rounds.get(work, {}).get(client, ()))
    return [value for value in found if value is not None]


def middle(results: Results, work: str, client: str, metric: Metric) -> float | None:
    """Return the median of a client's numbers, or None if it was not measured."""
    found = values(results, work, client, metric)
    return median(found) if found else None


def ratios(results: Results, work: str, metric: Metric, ours: str, peer: str) -> list[float]:
    """Return how many times as fast (or small) one client is as another, round by round."""
    pairs = zip(values(results, work, ours, metric), values(results, work, peer, metric), strict=False)
    return [theirs / own for own, theirs in pairs if own]
