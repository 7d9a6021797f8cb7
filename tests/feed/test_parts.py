"""The pure parts of a feed: the merge of several streams, the choice of URLs, and the meter."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lochws.feed.merge import Merge
from lochws.feed.meter import REMEMBERED, Lag, LegMeter
from lochws.feed.urls import UrlChooser


def merged(window: int = 1000, legs: int = 1) -> tuple[Merge[Any], list[LegMeter]]:
    """Return a merge with that many legs, numbered from 0, which have met."""
    merge: Merge[Any] = Merge(window)
    meters = [LegMeter() for _ in range(legs)]
    for leg, meter in enumerate(meters):
        merge.join(leg, meter)
        merge.establish(leg)
    return merge, meters


def test_the_first_copy_wins_and_later_copies_are_measured() -> None:
    merge, (fast, slow) = merged(legs=2)
    assert merge.receive(0, 1, "a", now=10.0) == ["a"]
    assert merge.receive(1, 1, "a", now=10.5) == []
    assert (fast.first, fast.later, slow.first, slow.later) == (1, 0, 0, 1)
    assert (fast.lag.max, slow.lag.max) == (0.0, 0.5)


def test_a_repetition_on_the_same_connection_is_dropped() -> None:
    merge, (meter,) = merged()
    assert [merge.receive(0, key, key, 0.0) for key in (1, 1, 2)] == [[1], [], [2]]
    assert meter.repeated == 1


def test_a_key_outside_the_window_is_new_again() -> None:
    merge, _ = merged(window=2)
    assert [merge.receive(0, key, key, 0.0) for key in (1, 2, 3, 1)] == [[1], [2], [3], [1]]


def test_what_only_another_connection_delivered_is_lost_when_it_leaves_the_window() -> None:
    merge, (first, second) = merged(window=2, legs=2)
    for key in range(4):
        merge.receive(0, key, key, 0.0)
        if key != 1:
            merge.receive(1, key, key, 0.0)
    assert (first.lost, second.lost) == (0, 1)


def test_a_joining_connection_that_is_ahead_waits_for_the_other_to_reach_it() -> None:
    merge, _ = merged()
    merge.receive(0, 1, 1, 0.0)
    merge.join(1, LegMeter())
    assert merge.receive(1, 3, 3, 0.0) == []
    assert merge.receive(1, 4, 4, 0.0) == []
    assert merge.is_held(1)
    assert merge.receive(0, 2, 2, 0.0) == [2]
    assert merge.receive(0, 3, 3, 0.0) == [3, 4]
    assert merge.is_level(1)


def test_a_joining_connection_that_is_behind_is_level_when_it_has_delivered_the_same() -> None:
    merge, _ = merged()
    for key in (1, 2, 3):
        merge.receive(0, key, key, 0.0)
    merge.join(1, LegMeter())
    assert merge.receive(1, 2, 2, 0.0) == []
    assert not merge.is_held(1)
    assert not merge.is_level(1)
    assert merge.receive(1, 3, 3, 0.0) == []
    assert merge.is_level(1)


def test_the_end_of_the_established_connection_releases_what_was_held() -> None:
    merge, _ = merged()
    merge.receive(0, 1, 1, 0.0)
    merge.join(1, LegMeter())
    merge.receive(1, 5, 5, 0.0)
    merge.receive(1, 6, 6, 0.0)
    assert merge.leave(0) == [5, 6]
    assert merge.receive(0, 7, 7, 0.0) == [], "it has left"


def test_no_more_than_the_window_is_held() -> None:
    merge, _ = merged(window=3)
    merge.receive(0, 0, 0, 0.0)
    merge.join(1, LegMeter())
    assert [merge.receive(1, key, key, 0.0) for key in (10, 11, 12)] == [[], [], [10, 11, 12]]


def test_positions_of_a_channel_never_go_backwards() -> None:
    merge, (meter,) = merged()
    places = [("x", 1), ("y", 1), ("x", 3), ("x", 2), ("y", 2)]
    passed = [merge.receive(0, place, place, 0.0, place) for place in places]
    assert passed == [[("x", 1)], [("y", 1)], [("x", 3)], [], [("y", 2)]]
    assert meter.backwards == 1


def test_what_a_joining_connection_delivers_before_the_first_common_message_is_dropped() -> None:
    merge, _ = merged()
    merge.receive(0, 5, 5, 0.0)
    early = LegMeter()
    merge.join(1, early)
    assert [merge.receive(1, key, key, 0.0) for key in (3, 4, 5, 6)] == [[], [], [], [6]]
    assert early.backwards == 2


@settings(max_examples=50)  # it draws for each message
@given(st.data())
def test_two_overlapping_streams_make_one_without_gaps_or_duplicates(data: st.DataObject) -> None:
    """The second joins at any point, ahead of the first or behind it, which may end once they have met."""
    last = 30
    starts = st.integers(0, 20)
    first, second = data.draw(starts, "start of the first"), data.draw(starts, "start of the second")
    merge, _ = merged(window=100)
    streams = {0: list(range(first, last)), 1: list(range(second, last))}
    began, passed = False, []
    while any(streams.values()):
        leg = data.draw(st.sampled_from([leg for leg in streams if streams[leg]]))
        if leg == 1 and not began:
            began = True
            merge.join(1, LegMeter())
        passed += merge.receive(leg, streams[leg][0], streams[leg][0], 0.0)
        del streams[leg][0]
        if began and merge.is_level(1) and data.draw(st.booleans(), "the first ends"):
            passed += merge.leave(0)
            streams[0].clear()
    assert passed == list(range(passed[0], passed[0] + len(passed)))
    assert passed[-1] == last - 1
    assert merge.size <= 2 * 100


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), max_size=300), st.integers(1, 10))
def test_memory_is_bounded_whatever_arrives(arrivals: list[tuple[int, int]], window: int) -> None:
    merge: Merge[int] = Merge(window)
    for leg in range(3):
        merge.join(leg, LegMeter())
    for leg, key in arrivals:
        merge.receive(leg, key, key, 0.0)
        assert merge.size <= 3 * window


def test_a_url_stays_in_use_until_it_fails_and_cools_down() -> None:
    chooser = UrlChooser(["a", "b"], cool_down=30.0)
    assert chooser.choose(0.0) == "a"
    chooser.failed("a", 0.0, "refused")
    assert chooser.choose(1.0, "a") == "b"
    chooser.worked("b")
    assert chooser.choose(100.0, "b") == "b", "it works"
    chooser.failed("b", 100.0, "lost")
    assert chooser.choose(101.0, "b") == "a"


def test_if_all_urls_have_failed_the_one_that_has_cooled_longest_is_used() -> None:
    chooser = UrlChooser(["a", "b"], cool_down=30.0)
    chooser.failed("b", 0.0, "")
    chooser.failed("a", 1.0, "")
    assert chooser.choose(2.0) == "b"
    assert not chooser.can_try_another(2.0, "b")
    assert chooser.can_try_another(32.0, "b")
    assert [status.cooling_for for status in chooser.report(21.0).values()] == [10.0, 9.0]


def test_a_second_copy_uses_another_url_if_there_is_one() -> None:
    chooser = UrlChooser(["a", "b"], cool_down=30.0)
    assert chooser.choose(0.0, avoid={"a"}) == "b"
    chooser.failed("b", 0.0, "")
    assert chooser.choose(1.0, avoid={"a"}) == "a"


def test_percentiles_are_those_of_all_copies() -> None:
    meter = LegMeter()
    for _ in range(98):
        meter.was_first()
    meter.was_later(-1.0)
    meter.was_later(2.0)
    assert (meter.lag.p50, meter.lag.p99, meter.lag.max) == (0.0, 2.0, 2.0)


def test_percentiles_are_those_of_the_latest_lags_and_the_maximum_is_that_of_all() -> None:
    meter = LegMeter()
    for lag in [9.0] * 700 + [1.0] * REMEMBERED:
        meter.was_later(lag)
    assert meter.lag == Lag(1.0, 1.0, 9.0)
    meter.was_later(2.0)
    assert meter.lag == Lag(1.0, 1.0, 9.0)
    for _ in range(REMEMBERED):
        meter.was_first()
    assert meter.lag == Lag(0.0, 0.0, 9.0)
