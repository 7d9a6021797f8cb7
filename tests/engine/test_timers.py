"""Timers, without waiting: times are passed in."""

from __future__ import annotations

import pytest

from lochws.engine.timers import Timers


def test_owners_that_are_due_are_returned_once_and_in_order() -> None:
    timers: Timers[str] = Timers()
    for owner, when in (("late", 5.0), ("early", 1.0), ("later", 9.0)):
        timers.set(owner, when, 0.0)
    assert timers.next == pytest.approx(1.0, rel=1 / 512)
    assert timers.take(6.0) == ["early", "late"]
    assert timers.take(6.0) == []
    assert timers.take(10.0) == ["later"]
    assert timers.next is None


@pytest.mark.parametrize("delay", [0.001, 0.02, 1.0, 5.0, 29.99, 30.0, 3600.0])
@pytest.mark.parametrize("now", [0.0, 12345.678])
def test_no_timer_is_early_or_late_by_more_than_a_512th(delay: float, now: float) -> None:
    timers: Timers[str] = Timers()
    timers.set("x", now + delay, now)
    assert timers.next is not None
    assert 0 <= timers.next - (now + delay) <= delay / 512


def test_those_that_are_due_at_about_the_same_time_share_their_moments() -> None:
    timers: Timers[int] = Timers()
    for owner in range(1000):
        timers.set(owner, 30 + owner / 1000, owner / 1000)
    wakes = 0
    while timers.next is not None:
        assert timers.take(timers.next)
        wakes += 1
    assert wakes < 40


def test_the_same_moment_again_makes_no_new_entry() -> None:
    timers: Timers[str] = Timers()
    for _ in range(10):
        timers.set("x", 29.9, 0.0)
    assert len(timers._entries) == 1
    timers.set("x", 20.0, 0.0)
    assert timers.take(21.0) == ["x"]
    assert timers.take(100.0) == []


def test_one_that_has_passed_is_due_at_once() -> None:
    timers: Timers[str] = Timers()
    timers.set("x", 3.3, 4.4)
    assert timers.take(4.4) == ["x"]
