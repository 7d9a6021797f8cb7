"""Targets: ratios to peers of the same run, and bounds, that lochws is to reach and must not fall below.

A target is what is wanted. A floor is what the short form of the benchmarks insists on, on any machine and
however busy that is. Where a target was not reached yet, its floor is beneath what was reached instead: it
guards against falling back, and is raised as lochws gets better. The two are told apart wherever they are
shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from .metrics import metric_named, middle, ratios, values
from .run import Results

#: The floor beneath a target that is reached, as a part of it: the rest is noise of a shared machine.
NOISE = 0.75
#: In place of a peer's name: the one with the best median at that work, bare sockets aside.
BEST = "best peer"


@dataclass(frozen=True, kw_only=True)
class Target:
    """lochws is at least `factor` times as fast (or small) as a peer.

    Attributes:
        work, metric: what is compared.
        peer: with whom.
        factor: the least median ratio, peer to lochws.
        ours: which way of using lochws.
        floor: the ratio that the short form insists on, at most the factor; None: `NOISE` times the factor.
        short: whether the short form looks at it.
    """

    work: str
    peer: str
    factor: float
    metric: str = "CPU µs"
    ours: str = "lochws"
    floor: float | None = None
    short: bool = False

    @property
    def least(self) -> float:
        """Return the ratio below which the short form fails."""
        return self.factor * NOISE if self.floor is None else self.floor

    @property
    def wanted(self) -> str:
        """Describe the factor."""
        return f"at least {self.factor:.2f}"


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A target for a number of lochws: at most `most`, or at least `least`."""

    work: str
    metric: str
    most: float = float("inf")
    least: float = float("-inf")

    @property
    def wanted(self) -> str:
        """Describe the bound."""
        return f"at most {self.most:g}" if self.most != float("inf") else f"at least {self.least:g}"


@dataclass(frozen=True)
class Verdict:
    """The verdict on a target.

    Attributes:
        target: what was wanted.
        text: what was compared.
        reached: the number that came out, or None if it was not measured.
        rounds: what it is the median of: a ratio for each round, or the number itself.
        is_met: whether it is what was wanted.
        holds: whether it is above the floor; of a bound, whether it is met.
    """

    target: Target | Bound
    text: str
    reached: float | None
    rounds: tuple[float, ...]
    is_met: bool
    holds: bool

    @property
    def state(self) -> str:
        """In words."""
        return "met" if self.is_met else "not met"


TARGETS = (
    Target(work="receive text 16", peer="picows", factor=1.5),
    Target(work="receive text 128", peer="picows", factor=2.0, floor=1.8, short=True),
    Target(work="receive text 1024", peer="picows", factor=1.5),
    Target(work="receive TLS 16", peer="picows", factor=1.5),
    Target(work="receive TLS 128", peer="picows", factor=1.8, floor=1.5, short=True),
    Target(work="receive TLS 1024", peer="picows", factor=1.5),
    Target(work="receive TLS 64K", peer="picows", factor=0.97, floor=0.5, short=True),
    Target(work="receive CJK 1024", peer=BEST, factor=1.15),
    Target(work="receive text 128", peer="picows", factor=4.0, floor=2.7, ours="lochws on_batch",
           short=True),
    Target(work="receive binary 64K", peer="picows", factor=1.0),
    Target(work="receive binary 1M", peer="picows", factor=1.1),
    Target(work="receive binary 1M", peer="bare sockets", factor=0.9, floor=0.75, short=True),
    Target(work="receive deflated 1024", peer="aiohttp", factor=1.5, floor=1.3, short=True),
    Target(work="receive text 128", peer="websockets threads", factor=6.0, floor=6.0, ours="lochws pure",
           short=True),
    Target(work="send text 128", peer="picows", factor=4.0, floor=4.0, short=True),
    Target(work="send text 128, 8 threads", peer="websocket-client", factor=8.0, floor=8.0, short=True),
    Target(work="send binary 64K", peer=BEST, factor=1.1),
    Target(work="echo 125", peer="picows", factor=1.0),
    Target(work="echo 125", peer="bare sockets", factor=0.93, floor=0.7, short=True),
    Target(work="echo 125", peer="picows", factor=1.0, metric="p50 µs"),
    Target(work="echo 125", peer="bare sockets", factor=0.97, metric="p50 µs"),
    Target(work="echo 125", peer=BEST, factor=1.0, metric="p99 µs"),
    Target(work="echo 125, busy", peer="websocket-client", factor=2.0, metric="p99 µs"),
    Target(work="open 1000", peer="websocket-client", factor=1.0, metric="wall ms"),
    Target(work="open 1000", peer="aiohttp", factor=1 / 1.5, metric="wall ms"),
    Target(work="import", peer="websocket-client", factor=1.0, floor=0.85, metric="wall ms", short=True),
)
BOUNDS = (
    Bound(work="open 1000, 25 ms away", metric="wall ms", most=3000),
    Bound(work="open 1000 TLS, 25 ms away", metric="wall ms", most=5000),
    Bound(work="idle 10000", metric="KiB each", most=12.0),
    Bound(work="idle 10000", metric="threads", most=8),
    Bound(work="idle 10000", metric="idle CPU %", most=3.0),
    Bound(work="crowd of 200", metric="least / most", least=0.8),
    Bound(work="memory 10M", metric="grown KiB", most=1024),
)


def verdicts(results: Results, targets: Iterable[Target | Bound]) -> list[Verdict]:
    """Judge each target by what was measured."""
    return [_ratio(results, target) if isinstance(target, Target) else _bound(results, target)
            for target in targets]


def _ratio(results: Results, target: Target) -> Verdict:
    metric = metric_named(target.metric)
    peer = target.peer if target.peer != BEST else best_peer(results, target.work, target.metric)
    found = ratios(results, target.work, metric, target.ours, peer) if peer else []
    reached = median(found) if found else None
    text = f"{target.work}, {target.metric}: {target.ours} to {peer or target.peer}"
    return Verdict(
        target, text, reached, tuple(found),
        reached is not None and reached >= target.factor, reached is not None and reached >= target.least,
    )


def _bound(results: Results, bound: Bound) -> Verdict:
    found = values(results, bound.work, "lochws", metric_named(bound.metric))
    reached = median(found) if found else None
    is_met = reached is not None and bound.least <= reached <= bound.most
    return Verdict(bound, f"{bound.work}: {bound.metric}", reached, tuple(found), is_met, is_met)


def best_peer(results: Results, work: str, metric_name: str) -> str | None:
    """Return the peer with the smallest median, or None if there is none."""
    metric = metric_named(metric_name)
    found = {
        name: value for name in results.rounds.get(work, {})
        if not name.startswith(("lochws", "bare"))
        and (value := middle(results, work, name, metric)) is not None
    }
    return min(found, key=found.__getitem__, default=None)
