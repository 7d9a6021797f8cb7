"""Numbering: messages with ranges of numbers, in any order and any number of copies, follow one another."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.handlers._parts.numbering import NUMBER_LIMIT, Numbering, Place, as_range


class Number(IntEnum):
    """An int of another type."""

    FIVE = 5


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Draw ranges that cover the numbers from 1 on, with copies and merged ones among them, in any order."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=12))
    ranges = [(sum(sizes[:place]) + 1, sum(sizes[: place + 1])) for place in range(len(sizes))]
    places = st.integers(0, len(ranges) - 1)
    pairs = draw(st.lists(st.tuples(places, places).map(sorted), max_size=4))
    merged = [(ranges[low][0], ranges[high][1]) for low, high in pairs]
    copies = draw(st.lists(st.sampled_from(ranges), max_size=4))
    return list(draw(st.permutations([*ranges, *merged, *copies])))


@given(deliveries())
def test_held_messages_follow_one_another_and_each_adds_something(arrived: list[tuple[int, int]]) -> None:
    numbering: Numbering[None] = Numbering(0)
    passed = []
    for first, last in arrived:
        numbering.hold(first, last, 10, None)
        assert numbering.held_bytes == 10 * len(numbering.held)
        while (found := numbering.next_held()) is not None:
            place, held = found
            if place is Place.NEXT:
                passed.append((held.first, held.last))
    reached = 0
    for first, last in passed:
        assert first <= reached + 1 <= last
        reached = last
    assert reached == max(last for _, last in arrived)
    assert not numbering.held
    assert numbering.held_bytes == 0
    assert numbering.is_complete


@given(st.lists(st.integers(1, 30), unique=True).flatmap(
    lambda sent: st.lists(st.sampled_from(sent), max_size=60) if sent else st.just([])
))
def test_without_resync_each_number_is_passed_once_whether_late_or_not(arrived: list[int]) -> None:
    numbering: Numbering[None] = Numbering()
    passed: list[int] = []
    for number in arrived:
        if numbering.last is None:
            numbering.begin_with(number, number)
            passed.append(number)
            continue
        place = numbering.place(number, number)
        if place is Place.AHEAD:
            numbering.skip_to(number)
            place = Place.NEXT
        if place is Place.NEXT:
            numbering.last = number
        elif place is Place.LATE:
            numbering.fill(number, number)
        if place is not Place.DUPLICATE:
            passed.append(number)
    assert sorted(passed) == sorted(set(arrived))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (5, (5, 5)), (Number.FIVE, (5, 5)), (-5, (-5, -5)), ((3, 5), (3, 5)), ([3, 5], (3, 5)),
        (NUMBER_LIMIT - 1, (NUMBER_LIMIT - 1, NUMBER_LIMIT - 1)), (NUMBER_LIMIT, None),
        (-NUMBER_LIMIT - 1, None), ((0, NUMBER_LIMIT), None), (10**4000, None), ((5, 3), None), (True, None),
        ((False, True), None), (5.0, None), ((1.0, 2.0), None), (float("nan"), None), (float("inf"), None),
        ("5", None), ("56", None), (b"56", None), ((1, 2, 3), None), ((1,), None), ((), None),
        ({1: 2, 3: 4}, None), ({1, 2}, None), (object(), None),
    ],
)
def test_numbers_are_ints_of_at_most_64_bits_or_pairs_of_them_in_order(value: Any, found: Any) -> None:
    assert as_range(value) == found
