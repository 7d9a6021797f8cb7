"""Hashing and placement: shards of sources, and workers for shards."""

from __future__ import annotations

import enum
from pathlib import PurePosixPath
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.fleet import stable_text
from lochws.fleet.hashing import shard_of, suitability
from lochws.fleet.placement import Place, Placement, moves

NAMES = st.sampled_from([f"worker-{number}" for number in range(12)])
SIZES = st.dictionaries(st.integers(0, 200), st.integers(1, 50), max_size=60)
WEIGHTS = st.dictionaries(NAMES, st.sampled_from([0.5, 1.0, 2.0, 7.5]).map(Place), min_size=1, max_size=8)
LIMITED = st.dictionaries(
    NAMES, st.builds(Place, st.sampled_from([0.0, 1.0, 3.0]), st.none() | st.integers(0, 300)), max_size=8
)


def place(sizes: dict[int, int], places: dict[str, Place]) -> dict[int, str]:
    return Placement().place(sizes, places)


@given(st.lists(st.tuples(SIZES, WEIGHTS | LIMITED), min_size=1, max_size=5))
def test_what_was_placed_before_does_not_matter(steps: list[tuple[dict[int, int], dict[str, Place]]]) -> None:
    placement = Placement()
    for sizes, places in steps:
        assert placement.place(sizes, places) == place(sizes, places)


class Color(enum.Enum):
    RED = 1


class Text(str, enum.Enum):
    HOME = "home"


@given(st.text(), st.integers(1, 2000))
def test_a_shard_is_one_of_those_that_there_are(text: str, shards: int) -> None:
    assert 0 <= shard_of(text, shards) < shards


@given(st.text(), st.integers(1, 500), st.integers(1, 500))
def test_with_more_shards_a_source_stays_or_moves_to_a_new_one(text: str, shards: int, more: int) -> None:
    before, after = shard_of(text, shards), shard_of(text, shards + more)
    assert after in {before, *range(shards, shards + more)}


def test_sources_are_spread_evenly_over_shards() -> None:
    counts = [0] * 64
    for number in range(64_000):
        counts[shard_of(f"wss://feed.example.org/{number}", 64)] += 1
    assert min(counts) > 850
    assert max(counts) < 1150


def test_shards_and_workers_are_the_same_in_every_process() -> None:
    # Each run of the tests has other hashes of Python's own.
    assert shard_of("wss://a.example", 1024) == 931
    assert shard_of("\0(1,b'x')", 1024) == 874
    assert round(suitability("w", 7), 6) == 0.19554


def test_sources_of_different_kinds_have_different_texts() -> None:
    sources = [
        "wss://a.example", 1, "1", b"1", 1.5, True, ("a", 1), ("a", "1"), (("a",), 1), ("a,'b'",),
        Color.RED, UUID(int=5), PurePosixPath("/a"), Text.HOME, "home",
    ]
    texts = [stable_text(each) for each in sources]
    assert len(set(texts)) == len(texts)
    assert texts[0] == sources[0]


@pytest.mark.parametrize("source", [None, object(), frozenset({1}), (1, None)])
def test_a_source_without_a_stable_text_is_refused(source: object) -> None:
    with pytest.raises(TypeError, match=r"has no stable text: expected a str, .* tuple of these; for others"):
        stable_text(source)


@given(SIZES, WEIGHTS)
def test_each_shard_is_placed(sizes: dict[int, int], places: dict[str, Place]) -> None:
    placed = place(sizes, places)
    assert placed.keys() == sizes.keys()
    assert set(placed.values()) <= places.keys()


@given(SIZES, LIMITED, st.randoms())
def test_the_order_of_the_arguments_does_not_matter(
    sizes: dict[int, int], places: dict[str, Place], random: Random
) -> None:
    shuffled = list(sizes.items()), list(places.items())
    for each in shuffled:
        random.shuffle(each)
    assert place(dict(shuffled[0]), dict(shuffled[1])) == place(sizes, places)


@given(SIZES, WEIGHTS, NAMES, st.sampled_from([0.5, 1.0, 4.0]))
def test_a_worker_that_joins_moves_shards_only_to_itself(
    sizes: dict[int, int], places: dict[str, Place], name: str, weight: float
) -> None:
    before = place(sizes, {each: found for each, found in places.items() if each != name})
    after = place(sizes, {**places, name: Place(weight)})
    assert all(after[shard] in {name, worker} for shard, worker in before.items())


@given(SIZES, WEIGHTS, st.data())
def test_only_the_shards_of_a_worker_that_leaves_move(
    sizes: dict[int, int], places: dict[str, Place], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(places)))
    before = place(sizes, places)
    after = place(sizes, {each: found for each, found in places.items() if each != name})
    assert all(after[shard] == worker for shard, worker in before.items() if worker != name and after)


@given(SIZES, LIMITED)
def test_limits_hold_and_a_shard_is_left_out_only_if_it_fits_nowhere(
    sizes: dict[int, int], places: dict[str, Place]
) -> None:
    placed = place(sizes, places)
    loads = dict.fromkeys(places, 0)
    for shard, name in placed.items():
        loads[name] += sizes[shard]
    for name, each in places.items():
        assert each.weight > 0 or not loads[name]
        assert each.limit is None or loads[name] <= each.limit
    for shard in sizes.keys() - placed.keys():
        for name, each in places.items():
            assert each.weight == 0 or (each.limit is not None and loads[name] + sizes[shard] > each.limit)


def test_shards_are_shared_as_weights_say() -> None:
    places = {"a": Place(1), "b": Place(2), "c": Place(5)}
    placed = list(place(dict.fromkeys(range(4096), 1), places).values())
    assert [round(placed.count(name) / 512, 1) for name in "abc"] == [1.0, 2.0, 5.1]


@given(
    st.dictionaries(st.integers(0, 30), NAMES), st.dictionaries(st.integers(0, 30), NAMES),
    st.sets(st.integers(0, 30)), st.integers(1, 6),
)
def test_no_more_shards_move_at_a_time_than_allowed(
    desired: dict[int, str], holders: dict[int, str], moving: set[int], at_once: int
) -> None:
    begun = moves(desired, holders, moving, at_once)
    assert len(moving | set(begun)) <= max(at_once, len(moving))
    assert not moving & set(begun)
    assert all(desired[shard] != holders[shard] for shard in begun)
    if len(moving | set(begun)) < at_once:
        assert all(
            shard in begun or shard in moving or desired.get(shard, holder) == holder
            for shard, holder in holders.items()
        )
