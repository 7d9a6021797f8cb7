"""Blocking jobs: which may begin, by numbers alone."""

from __future__ import annotations

from collections import Counter

import pytest

from lochws.engine.blocking import SLOW_SECONDS, BlockingJobs

from ..faults.registry import fault

Jobs = BlockingJobs[str]


def jobs(slots: int = 3, room: int = 10) -> Jobs:
    return Jobs(slots, room)


def add(waiting: Jobs, *names: str, doubtful: bool = False) -> None:
    """Add jobs called ``host/number``."""
    for name in names:
        waiting.add(name, name.partition("/")[0], doubtful=doubtful)


def take_all(waiting: Jobs, now: float) -> list[str]:
    taken = []
    while (job := waiting.take(now)) is not None:
        taken.append(job)
    return taken


def test_the_jobs_for_one_host_begin_in_order_as_slots_become_free() -> None:
    waiting = jobs()
    add(waiting, *(f"a/{number}" for number in range(5)))
    assert take_all(waiting, 0.0) == ["a/0", "a/1", "a/2"]
    waiting.ended("a/1")
    assert take_all(waiting, 0.1) == ["a/3"]
    assert waiting.has_waiting
    assert waiting.running == 3


def test_hosts_take_turns() -> None:
    waiting = jobs(slots=4)
    add(waiting, "a/0", "a/1", "a/2", "b/0", "b/1", "c/0")
    assert take_all(waiting, 0.0) == ["a/0", "b/0", "c/0", "a/1"]


@fault("opening", "Hosts that do not answer share threads with others")
def test_one_host_does_not_keep_another_one_waiting() -> None:
    waiting = jobs()
    add(waiting, *(f"dead/{number}" for number in range(6)))
    assert len(take_all(waiting, 0.0)) == 3
    add(waiting, "good/0", "good/1")
    assert take_all(waiting, 0.2) == ["good/0"]


def test_several_hosts_hold_the_slots_until_their_jobs_count_as_slow() -> None:
    waiting = jobs()
    add(waiting, "a/0", "b/0", "c/0", "good/0")
    assert take_all(waiting, 0.0) == ["a/0", "b/0", "c/0"]
    assert waiting.next_look(0.1) == SLOW_SECONDS
    assert take_all(waiting, SLOW_SECONDS - 0.01) == []
    assert take_all(waiting, SLOW_SECONDS) == ["good/0"]
    assert waiting.next_look(SLOW_SECONDS) is None


def test_no_host_gets_more_than_half_of_the_room() -> None:
    waiting = jobs(slots=3, room=10)
    add(waiting, *(f"dead/{number}" for number in range(100)))
    for step in range(20):
        take_all(waiting, step * SLOW_SECONDS)
    assert waiting.running == 5
    add(waiting, "good/0")
    assert take_all(waiting, 100.0) == ["good/0"]


@fault("opening", "Hosts that do not answer share threads with others")
def test_hosts_that_have_failed_get_half_of_the_room_and_others_the_rest() -> None:
    waiting = jobs(slots=3, room=10)
    add(waiting, *(f"dead-{number}/0" for number in range(100)), doubtful=True)
    for step in range(20):
        take_all(waiting, step * SLOW_SECONDS)
    assert waiting.running == 5
    add(waiting, *(f"good-{number}/0" for number in range(4)))
    assert take_all(waiting, 100.0) == ["good-0/0", "good-1/0", "good-2/0"]


def test_hosts_that_have_failed_get_their_turns_too() -> None:
    waiting = jobs(slots=1, room=10)
    add(waiting, *(f"failed-{number}/0" for number in range(10)), doubtful=True)
    add(waiting, *(f"good-{number}/0" for number in range(10)))
    kinds: Counter[str] = Counter()
    for _ in range(10):
        job = waiting.take(0.0)
        assert job is not None
        kinds[job.partition("-")[0]] += 1
        waiting.ended(job)
    assert kinds == {"failed": 5, "good": 5}


def test_the_room_is_never_exceeded() -> None:
    waiting = jobs(slots=3, room=10)
    add(waiting, *(f"host-{number}/0" for number in range(100)))
    for step in range(50):
        take_all(waiting, step * SLOW_SECONDS)
    assert waiting.running == 10


def test_a_single_slot_without_more_room_is_used_one_job_at_a_time() -> None:
    waiting = jobs(slots=1, room=1)
    add(waiting, "a/0", "b/0")
    assert take_all(waiting, 0.0) == ["a/0"]
    assert take_all(waiting, 100.0) == []
    waiting.ended("a/0")
    assert take_all(waiting, 100.0) == ["b/0"]


@pytest.mark.parametrize("doubtful", [False, True])
def test_what_is_cleared_does_not_begin(doubtful: bool) -> None:
    waiting = jobs()
    add(waiting, "a/0", doubtful=doubtful)
    waiting.clear()
    assert waiting.take(0.0) is None
    assert not waiting.has_waiting
    assert waiting.next_look(0.0) is None
