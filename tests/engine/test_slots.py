"""Slots: a limit on concurrent attempts, and the order of those that wait."""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from lochws.engine.slots import Slots
from lochws.system.deadline import Cancelled, Deadline
from lochws.system.steps import Steps


class Attempt:
    """One attempt that waits for a slot, or has one."""

    def __init__(self, slots: Slots, host: Hashable, failed_at: float | None = None) -> None:
        self.deadline = Deadline(None)
        self.wakes = 0
        self.deadline.attend(self._woken)
        self._slots = slots
        self._steps: Steps[bool] = slots.enter(host, failed_at, self.deadline)
        self.is_running = False
        self._is_doubtful = False
        self.resume()

    def _woken(self) -> None:
        self.wakes += 1

    def resume(self) -> bool:
        """Resume the steps; return whether it has a slot."""
        if not self.is_running:
            try:
                next(self._steps)
            except StopIteration as end:
                self._is_doubtful, self.is_running = end.value, True
        return self.is_running

    def leave(self) -> None:
        """Give the slot back."""
        self._slots.leave(self._is_doubtful)

    def close(self) -> None:
        """Close the generator, as at the end of a loop."""
        self._steps.close()


def next_of(attempts: list[Attempt]) -> Attempt:
    """Return the attempt that has just got a slot."""
    (admitted,) = [one for one in attempts if not one.is_running and one.wakes and one.resume()]
    attempts.remove(admitted)
    return admitted


def test_as_many_as_there_are_slots_run() -> None:
    slots = Slots(3)
    attempts = [Attempt(slots, "host") for _ in range(5)]
    assert [one.is_running for one in attempts] == [True] * 3 + [False] * 2
    attempts[0].leave()
    assert [one.resume() for one in attempts[3:]] == [True, False]


def test_one_that_waits_is_woken_when_it_has_a_slot() -> None:
    slots = Slots(1)
    first, second = Attempt(slots, "a"), Attempt(slots, "b")
    assert not second.wakes
    first.leave()
    assert second.wakes == 1
    assert second.resume()


def test_hosts_take_turns() -> None:
    slots = Slots(1)
    running = Attempt(slots, "many")
    waiting = [Attempt(slots, "many") for _ in range(4)]
    waiting += [Attempt(slots, "few"), Attempt(slots, "few")]
    hosts = {id(one): "few" if index > 3 else "many" for index, one in enumerate(waiting)}
    order = []
    while waiting:
        running.leave()
        running = next_of(waiting)
        order.append(hosts[id(running)])
    assert order == ["many", "few", "many", "few", "many", "many"]


def test_those_that_have_not_failed_are_first_then_those_that_failed_least_recently() -> None:
    slots = Slots(1)
    running = Attempt(slots, "x")
    times = [30.0, 10.0, None, 20.0]
    waiting = [Attempt(slots, "x", when) for when in times]
    by_time = dict(zip(map(id, waiting), times, strict=True))
    order = []
    while waiting:
        running.leave()
        running = next_of(waiting)
        order.append(by_time[id(running)])
    assert order == [None, 10.0, 20.0, 30.0]


def test_those_that_failed_get_half_of_the_slots() -> None:
    slots = Slots(4)
    failed = [Attempt(slots, number, float(number)) for number in range(4)]
    assert [one.is_running for one in failed] == [True, True, False, False]
    good = [Attempt(slots, "good") for _ in range(3)]
    assert [one.is_running for one in good] == [True, True, False]
    good[0].leave()
    assert good[2].resume()
    assert not failed[2].resume()
    failed[0].leave()
    assert failed[2].resume()


def test_a_single_slot_serves_those_that_failed() -> None:
    assert Attempt(Slots(1), "x", 1.0).is_running


def test_one_that_was_called_off_takes_no_slot() -> None:
    slots = Slots(1)
    running, off, last = Attempt(slots, "a"), Attempt(slots, "b"), Attempt(slots, "c")
    off.deadline.cancel()
    with pytest.raises(Cancelled):
        off.resume()
    running.leave()
    assert last.resume()


@pytest.mark.parametrize("is_admitted", [False, True])
def test_one_that_is_closed_gives_its_slot_back(is_admitted: bool) -> None:
    slots = Slots(1)
    running, closed, last = Attempt(slots, "a"), Attempt(slots, "b"), Attempt(slots, "c")
    if is_admitted:
        running.leave()
        closed.close()
    else:
        closed.close()
        running.leave()
    assert last.resume()


def test_hosts_are_forgotten() -> None:
    slots = Slots(1)
    for number in range(100):
        Attempt(slots, number).leave()
    assert not slots._rounds
