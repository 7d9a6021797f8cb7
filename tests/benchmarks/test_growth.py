"""The rule by which a soak passes: it finds growth, and does not mistake a loaded machine's peaks for it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from benchmarks.soak.growth import LIMITS, Sample, after_warm_up, faults, slope


def soaked(seconds: int = 120, **of: Callable[[float], float]) -> list[Sample]:
    """Samples of a soak whose quantities are functions of the time; steady where none is given."""
    steady = {"memory": 60.0, "threads": 13, "descriptors": 30, "latency": 2.0, "slowest": 30.0}
    return [
        Sample(at=at, **{name: of[name](at) if name in of else value for name, value in steady.items()})
        for at in range(0, seconds, seconds // 120)
    ]


def test_what_stays_as_it_was_has_not_grown() -> None:
    assert faults(soaked()) == []


@pytest.mark.parametrize(
    ("name", "lost"), [("memory", 0.1), ("threads", 0.02), ("descriptors", 0.08), ("latency", 0.3)]
)
def test_a_leak_is_found(name: str, lost: float) -> None:
    found = faults(soaked(**{name: lambda at: 10 + lost * at}))
    assert [fault.split()[0] for fault in found] == [name]


def test_a_leak_too_small_for_two_minutes_is_found_in_an_hour() -> None:
    leaking = {"memory": lambda at: 60 + 0.003 * at}
    assert not faults(soaked(120, **leaking))
    assert faults(soaked(3600, **leaking))


def test_what_grows_during_the_warm_up_alone_has_not_grown() -> None:
    assert faults(soaked(memory=lambda at: min(60 + at, 95))) == []


def test_peaks_are_not_growth() -> None:
    random = Random(1)
    peaks = {at: random.choice([0, 0, 0, 400]) for at in range(120)}
    assert faults(soaked(memory=lambda at: 60 + peaks[int(at)], latency=lambda at: 2 + peaks[int(at)])) == []


def test_the_slope_is_that_of_most_pairs() -> None:
    assert slope([(0, 1), (1, 3), (2, 5), (3, 1000), (4, 9), (5, 11)]) == 2


def test_too_few_samples_are_refused() -> None:
    for samples in ([], soaked()[:9]):
        with pytest.raises(ValueError, match="too few"):
            after_warm_up(samples)


def test_every_quantity_has_a_limit() -> None:
    assert [limit.title.split()[0] for limit in LIMITS] == ["memory", "threads", "descriptors", "latency"]
