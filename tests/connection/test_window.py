"""The sliding window: strict, and no stricter than it must be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.connection.window import SlidingWindow, kept_window, make_window
from lochws.options import Rate

#: Whole numbers, so that sums of times are exact.
LIMITS = st.integers(1, 6)
SPANS = st.integers(1, 8).map(float)
#: The demands of a program: after this many seconds, it wants to send this many.
DEMANDS = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9)), min_size=1, max_size=25)


def send_all(window: SlidingWindow, demands: list[tuple[int, int]]) -> list[float]:
    """Send everything as early as the window allows; return when each was sent."""
    sent: list[float] = []
    now, waiting, arrivals = 1000.0, 0, [*demands]
    while arrivals or waiting:
        due = now + arrivals[0][0] if arrivals else float("inf")
        if waiting and (opens := window.opens_at(now)) < due:
            arrivals[:1] = [(int(due - opens), arrivals[0][1])] if arrivals else []
            now = opens
        else:
            now = due
            waiting += arrivals.pop(0)[1]
        count = min(waiting, window.free(now))
        if count:
            window.spend(count, now)
            sent += [now] * count
            waiting -= count
    return sent


@given(LIMITS, SPANS, DEMANDS)
def test_no_span_holds_more_than_the_limit_and_no_wait_is_longer_than_needed(
    limit: int, seconds: float, demands: list[tuple[int, int]]
) -> None:
    sent = send_all(SlidingWindow(limit, seconds), demands)
    wanted, now = [], 1000.0
    for after, count in demands:
        now += after
        wanted += [now] * count
    # In order, each goes at once, or `seconds` after the one `limit` places before it.
    earliest: list[float] = []
    for place, when in enumerate(wanted):
        bound = earliest[place - limit] + seconds if place >= limit else 0.0
        earliest.append(max(when, bound))
    assert sent == earliest


@given(LIMITS, SPANS, DEMANDS, st.integers(0, 6), st.integers(0, 30))
def test_the_predicted_wait_is_the_actual_wait(
    limit: int, seconds: float, demands: list[tuple[int, int]], later: int, ahead: int
) -> None:
    window = SlidingWindow(limit, seconds)
    now = send_all(window, demands)[-1] + later
    told = window.wait(ahead, now)
    sent, clock = 0, now
    while sent <= ahead:
        clock = window.opens_at(clock)
        count = min(window.free(clock), ahead + 1 - sent)
        window.spend(count, clock)
        sent += count
    assert told == clock - now


def test_what_was_sent_counts_until_exactly_the_end_of_the_span() -> None:
    window = SlidingWindow(2, 1.0)
    window.spend(2, 10.0)
    assert window.free(10.999) == 0
    assert window.opens_at(10.5) == 11.0
    assert window.free(11.0) == 2
    assert window.opens_at(11.0) == 11.0


def test_a_window_that_was_never_used_is_open() -> None:
    window = SlidingWindow(3, 5.0)
    assert window.free(0.0) == 3
    assert window.opens_at(7.0) == 7.0
    assert window.wait(2, 7.0) == 0.0
    assert window.wait(3, 7.0) == 5.0


def test_old_entries_take_no_memory() -> None:
    window = SlidingWindow(10, 1.0)
    for second in range(10_000):
        window.spend(10, float(second))
    assert len(window._spent) == 1


@pytest.mark.parametrize(("rate", "seconds"), [
    (Rate(5), 1.05),
    (Rate(5, per=0.1), pytest.approx(0.105)),
    (Rate(120, per=60.0), 60.25),
    (Rate(5, margin=0), 1.0),
    (Rate(5, per=2.0, margin=1.0), 3.0),
])
def test_the_span_includes_a_margin(rate: Rate, seconds: float) -> None:
    assert make_window(rate).seconds == seconds


def test_only_a_rate_for_the_whole_client_keeps_its_window() -> None:
    assert kept_window(None) is None
    assert kept_window(Rate(5)) is None
    window = kept_window(Rate(5, scope="client"))
    assert window is not None
    assert window.limit == 5
