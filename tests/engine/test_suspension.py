"""The suspension detector, without waiting: times are passed in."""

from __future__ import annotations

import pytest

from lochws.engine.suspension import GAP_SECONDS, SuspensionDetector

#: Monotonic and wall clock at the beginning.
START, WALL = 100.0, 1.7e9


@pytest.fixture
def detector() -> SuspensionDetector:
    return SuspensionDetector(START, WALL)


def test_clocks_that_agree_show_no_gap_however_rarely_they_are_checked(detector: SuspensionDetector) -> None:
    assert not detector.was_suspended(START + 0.01, WALL + 0.01)
    assert not detector.was_suspended(START + 86_400, WALL + 86_400)


def test_a_wall_clock_that_ran_ahead_shows_one_once(detector: SuspensionDetector) -> None:
    assert detector.was_suspended(START + 1, WALL + 3600)
    assert not detector.was_suspended(START + 2, WALL + 3601)


def test_a_wall_clock_that_was_set_back_shows_none(detector: SuspensionDetector) -> None:
    assert not detector.was_suspended(START + 1, WALL - 3600)
    assert not detector.was_suspended(START + 2, WALL - 3599)


def test_a_clock_that_is_corrected_slowly_shows_none(detector: SuspensionDetector) -> None:
    for hour in range(1, 100):
        assert not detector.was_suspended(START + 3600 * hour, WALL + (3600 + GAP_SECONDS * 0.9) * hour)


@pytest.mark.parametrize(("late", "is_gap"), [(-10.0, False), (0.0, False), (4.9, False), (5.1, True)])
def test_a_wait_that_ended_much_too_late_shows_one(
    detector: SuspensionDetector, late: float, is_gap: bool
) -> None:
    assert detector.was_suspended(START + 30 + late, WALL + 30 + late, due=START + 30) is is_gap


def test_a_wait_without_an_end_is_never_late(detector: SuspensionDetector) -> None:
    assert not detector.was_suspended(START + 86_400, WALL + 86_400, due=None)
