"""What lochws must reach: ratios to peers of the same run, and bounds; as data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from .metrics import metric_named, middle, ratios
from .run import Results

#: A ratio this much below its target is noise on a shared machine of two cores; below that it has failed.
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
        short: whether the short form looks at it.
    """

    work: str
    peer: str
    factor: float
    metric: str = "CPU µs"
    ours: str = "lochws"
    short: bool = False


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A number of lochws stays on one side of a bound."""

    work: str
    metric: str
    most: float = float("inf")
    least: float = float("-inf")


@dataclass(frozen=True)
class Verdict:
    """How a target was met.

    Attributes:
        text: what was compared.
        reached: the number that came out, or None if it was not measured.
        wanted: the number that was to be reached.
        is_met: whether it was.
        is_failure: whether it was missed clearly, or not measured.
    """

    text: str
    reached: float | None
    wanted: float
    is_met: bool
    is_failure: bool


TARGETS = (
    Target(work="receive text 16", peer="picows", factor=1.5),
    Target(work="receive text 128", peer="picows", factor=1.5, short=True),
    Target(work="receive text 1024", peer="picows", factor=1.5),
    Target(work="receive TLS 16", peer="picows", factor=1.5),
    Target(work="receive TLS 128", peer="picows", factor=1.5, short=True),
    Target(work="receive TLS 1024", peer="picows", factor=1.5),
    Target(work="receive CJK 1024", peer="picows", factor=1.0),
    Target(work="receive text 128", peer="picows", factor=4.0, ours="lochws on_batch", short=True),
    Target(work="receive binary 64K", peer="picows", factor=1.0),
    Target(work="receive binary 1M", peer="bare sockets", factor=1 / 1.1, short=True),
    Target(work="receive deflated 1024", peer="aiohttp", factor=1.5, short=True),
    Target(work="receive text 128", peer="websockets threads", factor=5.0, ours="lochws pure", short=True),
    Target(work="send text 128", peer="picows", factor=4.0, short=True),
    Target(work="send text 128, 8 threads", peer="websocket-client", factor=8.0, short=True),
    Target(work="send binary 64K", peer=BEST, factor=1.0),
    Target(work="echo 125", peer="bare sockets", factor=1 / 1.2, short=True),
    Target(work="echo 125", peer="bare sockets", factor=1 / 1.2, metric="p50 µs"),
    Target(work="echo 125", peer=BEST, factor=1.0, metric="p99 µs"),
    Target(work="echo 125, busy", peer="websocket-client", factor=2.0, metric="p99 µs"),
    Target(work="open 1000", peer="websocket-client", factor=1.0, metric="wall ms"),
    Target(work="import", peer="websocket-client", factor=1.0, metric="wall ms", short=True),
)
BOUNDS = (
    Bound(work="idle 10000", metric="KiB each", most=12.0),
    Bound(work="idle 10000", metric="threads", most=8),
    Bound(work="idle 10000", metric="idle CPU %", most=3.0),
    Bound(work="crowd of 200", metric="least share", least=0.8),
    Bound(work="crowd of 200", metric="most share", most=1.2),
    Bound(work="memory 10M", metric="grown KiB", most=1024),
)


def verdicts(results: Results, targets: Iterable[Target | Bound]) -> list[Verdict]:
    """How each target was met by what was measured."""
    return [_ratio(results, target) if isinstance(target, Target) else _bound(results, target)
            for target in targets]


def _ratio(results: Results, target: Target) -> Verdict:
    metric = metric_named(target.metric)
    peer = target.peer if target.peer != BEST else best_peer(results, target.work, target.metric)
    found = ratios(results, target.work, metric, target.ours, peer) if peer else []
    reached = median(found) if found else None
    text = f"{target.work}, {target.metric}: {target.ours} to {peer or target.peer}"
    return Verdict(
        text, reached, target.factor, reached is not None and reached >= target.factor,
        reached is None or reached < target.factor * NOISE,
    )


def _bound(results: Results, bound: Bound) -> Verdict:
    reached = middle(results, bound.work, "lochws", metric_named(bound.metric))
    is_met = reached is not None and bound.least <= reached <= bound.most
    has_most = bound.most != float("inf")
    wanted = bound.most if has_most else bound.least
    text = f"{bound.work}: {bound.metric}, {'at most' if has_most else 'at least'}"
    return Verdict(text, reached, wanted, is_met, not is_met)


def best_peer(results: Results, work: str, metric_name: str) -> str | None:
    """The peer with the smallest median, or None if there is none."""
    metric = metric_named(metric_name)
    found = {
        name: value for name in results.rounds.get(work, {})
        if not name.startswith(("lochws", "bare"))
        and (value := middle(results, work, name, metric)) is not None
    }
    return min(found, key=found.__getitem__, default=None)
