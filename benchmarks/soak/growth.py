"""Growth: samples over time, and the rule by which a soak passes or fails. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

#: This part of a soak, at its beginning, is for buffers and caches to find their size.
WARM_UP = 1 / 3


@dataclass(frozen=True)
class Sample:
    """The state of the process at one moment.

    Attributes:
        at: seconds since the beginning.
        memory: resident memory, in MiB.
        threads, descriptors: how many there were.
        latency, slowest: the median and the longest of the round trips since the sample before, in ms.
    """

    at: float
    memory: float
    threads: int
    descriptors: int
    latency: float
    slowest: float


@dataclass(frozen=True)
class Limit:
    """A bound on the growth of a quantity, from the end of the warm-up to the end.

    Growth is the slope of a line through the samples, times that time. The line is Theil and Sen's, the
    median of the slopes of all pairs: single peaks, which a loaded machine makes, do not move it.

    Attributes:
        title: the quantity and its unit.
        of: takes it out of a sample.
        growth: what is allowed, in that unit.
        share: what is allowed as a share of the median, if that is more.
    """

    title: str
    of: Callable[[Sample], float]
    growth: float
    share: float

    def grown(self, samples: Sequence[Sample]) -> float:
        """Return by how much the quantity grew after the warm-up."""
        steady = after_warm_up(samples)
        return slope([(sample.at, self.of(sample)) for sample in steady]) * (steady[-1].at - steady[0].at)

    def allowed(self, samples: Sequence[Sample]) -> float:
        """Return by how much it may have grown."""
        return max(self.growth, self.share * median(map(self.of, after_warm_up(samples))))


#: What must not grow. An hour and two minutes have the same limits, so the hour finds leaks of a thirtieth of
#: the size. Memory has room for an allocator that still finds its ways; 3 KB lost with each of the
#: connections that `soak` opens in two minutes are more than that. Descriptors have room for the handful of
#: connections that happen to be open.
LIMITS = (
    Limit("memory (MiB)", lambda sample: sample.memory, 6.0, 0.0),
    Limit("threads", lambda sample: sample.threads, 1.0, 0.0),
    Limit("descriptors", lambda sample: sample.descriptors, 6.0, 0.0),
    Limit("latency (ms)", lambda sample: sample.latency, 10.0, 0.5),
)


def after_warm_up(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples after the warm-up.

    Raises:
        ValueError: there are too few to draw a line through.
    """
    steady = [sample for sample in samples if sample.at >= WARM_UP * samples[-1].at] if samples else []
    if len(steady) < 10:
        raise ValueError(f"{len(samples)} samples are too few: let it run for longer")
    return steady


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line through points by Theil and Sen: the median slope of all pairs."""
    return median((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if a[0] != b[0])


def faults(samples: Sequence[Sample]) -> list[str]:
    """Describe what grew by more than its limit; return an empty list if nothing did."""
    return [
        f"{limit.title} grew by {grown:.1f}, allowed are {limit.allowed(samples):.1f}"
        for limit in LIMITS
        if (grown := limit.grown(samples)) > limit.allowed(samples)
    ]
