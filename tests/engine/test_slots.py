"""Slots: a limit on concurrent attempts, and the order of those that wait."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress

import pytest

from lochws.engine import slots as slots_module
from lochws.engine.slots import Slot, Slots
from lochws.system.deadline import Cancelled, Deadline
from lochws.system.steps import Steps, Wait

Begin = Callable[[Callable[[], None]], Steps[None]]


class Looked(Slots):
    """Slots that look for silent attempts when the test says so. They are the tasks of their loop, too."""

    backlog = 0

    def __init__(self, size: int) -> None:
        super().__init__(size, self)  # type: ignore[arg-type]
        self.looks: list[Steps[None]] = []

    def add(self, begin: Begin, _owner: object) -> None:
        self.looks.append(begin(lambda: None))
        next(self.looks[-1])

    def look(self) -> None:
        """Look for silent attempts, if others wait for a slot."""
        for steps in self.looks:
            with suppress(StopIteration):
                next(steps)


@pytest.fixture(autouse=True)
def _looks_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "LOOK_SECONDS", 0.0)


class Attempt:
    """One attempt that waits for a slot, or has one.

    Attributes:
        wait: the wait for the server, once it has a slot; None if it is about to go on.
    """

    wait: Wait | None = None

    def __init__(self, slots: Slots, host: Hashable, failed_at: float | None = None) -> None:
        self.deadline = Deadline(None)
        self.wakes = 0
        self.deadline.attend(self._woken)
        self._slots = slots
        self._steps: Steps[Slot] = slots.enter(host, failed_at, self.deadline, lambda: self.wait)
        self.is_running = False
        self.resume()

    def _woken(self) -> None:
        self.wakes += 1

    def resume(self) -> bool:
        """Resume the steps; return whether it has a slot."""
        if not self.is_running:
            try:
                next(self._steps)
            except StopIteration as end:
                self._slot, self.is_running = end.value, True
                self.wait = Wait((), None)
        return self.is_running

    def leave(self) -> None:
        """Give the slot back."""
        self._slots.leave(self._slot)

    def close(self) -> None:
        """Close the generator, as at the end of a loop."""
        self._steps.close()


def next_of(attempts: list[Attempt]) -> Attempt:
    """Return the attempt that has just got a slot."""
    (admitted,) = [one for one in attempts if not one.is_running and one.wakes and one.resume()]
    attempts.remove(admitted)
    return admitted


def test_as_many_as_there_are_slots_run() -> None:
    slots = Looked(3)
    attempts = [Attempt(slots, "host") for _ in range(5)]
    assert [one.is_running for one in attempts] == [True] * 3 + [False] * 2
    attempts[0].leave()
    assert [one.resume() for one in attempts[3:]] == [True, False]


def test_one_that_waits_is_woken_when_it_has_a_slot() -> None:
    slots = Looked(1)
    first, second = Attempt(slots, "a"), Attempt(slots, "b")
    assert not second.wakes
    first.leave()
    assert second.wakes == 1
    assert second.resume()


def test_hosts_take_turns() -> None:
    slots = Looked(1)
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
    slots = Looked(1)
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
    slots = Looked(4)
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
    assert Attempt(Looked(1), "x", 1.0).is_running


def test_one_that_was_called_off_takes_no_slot() -> None:
    slots = Looked(1)
    running, off, last = Attempt(slots, "a"), Attempt(slots, "b"), Attempt(slots, "c")
    off.deadline.cancel()
    with pytest.raises(Cancelled):
        off.resume()
    running.leave()
    assert last.resume()


@pytest.mark.parametrize("is_admitted", [False, True])
def test_one_that_is_closed_gives_its_slot_back(is_admitted: bool) -> None:
    slots = Looked(1)
    running, closed, last = Attempt(slots, "a"), Attempt(slots, "b"), Attempt(slots, "c")
    if is_admitted:
        running.leave()
        closed.close()
    else:
        closed.close()
        running.leave()
    assert last.resume()


@pytest.mark.parametrize("failed_at", [None, 1.0])
def test_those_that_were_called_off_are_forgotten_while_no_slot_is_free(failed_at: float | None) -> None:
    slots = Looked(1)
    running = Attempt(slots, "a")
    first = Attempt(slots, "first")
    for number in range(100):
        Attempt(slots, number % 3, failed_at).close()
    assert (len(slots._turns), slots._failed, slots._failed_hosts) == (1, [], {})
    running.leave()
    assert first.resume()
    first.leave()
    assert not slots._turns


class TestSilentServers:
    def test_an_attempt_lends_its_slot_to_another_host_after_two_looks(self) -> None:
        slots = Looked(2)
        dead = [Attempt(slots, "dead") for _ in range(2)]
        good = Attempt(slots, "good")
        slots.look()
        assert not good.resume()
        slots.look()
        assert good.resume()
        for one in (*dead, good):
            one.leave()
        assert not slots._silent

    @pytest.mark.parametrize("next_wait", [Wait((), None), None])
    def test_an_attempt_that_gets_on_keeps_its_slot(self, next_wait: Wait | None) -> None:
        slots = Looked(1)
        running, waits = Attempt(slots, "a"), Attempt(slots, "b")
        slots.look()
        for _ in range(3):
            running.wait = next_wait and Wait((), None)
            slots.look()
            assert not waits.resume()

    def test_thousands_of_hosts_lend_their_slots_one_after_the_other(self) -> None:
        slots = Looked(100)
        dead = [Attempt(slots, number) for number in range(2000)]
        good = Attempt(slots, "good")
        for _ in range(2 * len(dead) // 100):
            slots.look()
            for one in dead:
                one.resume()
        assert good.resume()

    def test_a_busy_loop_lends_no_slots(self) -> None:
        slots = Looked(80)
        dead = [Attempt(slots, "dead") for _ in range(80)]
        good = Attempt(slots, "good")
        slots.backlog = 11
        for _ in range(5):
            slots.look()
        assert not good.resume()
        slots.backlog = 10
        slots.look()
        assert good.resume()
        assert all(one.is_running for one in dead)

    def test_a_host_with_a_silent_attempt_gets_no_lent_slot(self) -> None:
        slots = Looked(2)
        slow = [Attempt(slots, "slow") for _ in range(5)]
        good = [Attempt(slots, "good") for _ in range(3)]
        for _ in range(3):
            slots.look()
        assert [one.resume() for one in slow] == [True, True, False, False, False]
        assert [one.resume() for one in good] == [True, True, False]
        slow[0].leave()  # still, as many are under way as there are slots
        good[0].leave()
        assert [one.resume() for one in (slow[2], good[2])] == [False, True]

    def test_when_a_silent_host_has_answered_it_gets_slots_again(self) -> None:
        slots = Looked(1)
        slow, good, again = Attempt(slots, "slow"), Attempt(slots, "good"), Attempt(slots, "slow")
        for _ in range(3):
            slots.look()
        assert (good.resume(), again.resume()) == (True, False)
        slow.leave()
        assert not again.resume()
        good.leave()
        assert again.resume()

    def test_one_that_failed_gets_a_slot_behind_thousands_of_a_silent_host(self) -> None:
        slots = Looked(4)
        dead = [Attempt(slots, "dead", float(number)) for number in range(1000)]
        good = Attempt(slots, "good", 2000.0)
        for _ in range(4):
            slots.look()
            for one in dead[:4]:
                one.resume()
        assert good.resume()
        assert sum(one.resume() for one in dead) == 4

    def test_no_slots_are_lent_at_half_of_the_descriptors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(slots_module, "_share_of_descriptors", lambda: 5)
        slots = Looked(2)
        dead = [Attempt(slots, number) for number in range(10)]
        for _ in range(20):
            slots.look()
            running = sum(one.resume() for one in dead)
        assert running == 5
        dead[0].leave()
        assert sum(one.resume() for one in dead) == 6

    def test_looking_ends_when_no_attempt_waits(self) -> None:
        slots = Looked(1)
        running, waits = Attempt(slots, "a"), Attempt(slots, "b")
        waits.close()
        slots.look()
        assert not slots._is_looking
        Attempt(slots, "c")
        assert len(slots.looks) == 2
        running.leave()


def test_hosts_are_forgotten() -> None:
    slots = Looked(1)
    for number in range(100):
        Attempt(slots, number).leave()
    assert not slots._turns
