"""The bounded inbox: order, bounds, the rules for what is full, and threads that interrupt themselves."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.engine import bounded_inbox
from lochws.engine.bounded_inbox import WHEN_FULL, BoundedInbox, KeyedQueue, WhenFull
from lochws.system.control import control_lock

from ..support.interrupting import call_at, enter, trace_once
from ..support.seen import PATIENCE, in_thread


def filled(inbox: BoundedInbox[str], *values: str) -> BoundedInbox[str]:
    """An inbox with some values, whose key is their first letter and whose cost is their length."""
    for value in values:
        assert inbox.offer(value, len(value), value[0]) == (True, [])
    return inbox


class TestRules:
    @pytest.mark.parametrize("when_full", WHEN_FULL)
    def test_what_finds_room_is_appended_whatever_the_rule(self, when_full: WhenFull) -> None:
        inbox = filled(BoundedInbox(when_full, 3, 100), "a1", "b1", "a2")
        assert inbox.values() == ["a1", "b1", "a2"]
        assert (len(inbox), inbox.cost) == (3, 6)

    @pytest.mark.parametrize(
        ("when_full", "key", "settled", "dropped", "left"),
        [
            ("pause", "a", False, [], ["a1", "b1", "b2"]),
            ("drop_oldest", "c", True, ["a1"], ["b1", "b2", "c9"]),
            ("latest", "a", True, ["a1"], ["b1", "b2", "a9"]),
            ("latest", "b", True, ["b1"], ["a1", "b2", "b9"]),
            ("latest", "c", True, ["b1"], ["a1", "b2", "c9"]),
        ],
    )
    def test_what_finds_none_waits_or_replaces_another(
        self, when_full: WhenFull, key: str, settled: bool, dropped: list[str], left: list[str]
    ) -> None:
        inbox = filled(BoundedInbox(when_full, 3, 100), "a1", "b1", "b2")
        assert inbox.offer(f"{key}9", 2, key) == (settled, dropped)
        assert inbox.values() == left

    def test_latest_waits_where_each_key_has_one_value(self) -> None:
        inbox = filled(BoundedInbox("latest", 2, 100), "a1", "b1")
        assert inbox.offer("c1", 2, "c") == (False, [])

    @pytest.mark.parametrize("when_full", ["drop_oldest", "latest"])
    def test_as_many_are_dropped_as_a_large_value_needs(self, when_full: WhenFull) -> None:
        inbox = filled(BoundedInbox(when_full, 10, 10), "a1", "a2", "a3", "a4")
        assert inbox.offer("a" * 6, 6, "a") == (True, ["a1", "a2"])
        assert inbox.cost == 10

    def test_one_value_may_always_wait_however_large(self) -> None:
        inbox = filled(BoundedInbox("pause", 5, 10), "a" * 1000)
        assert inbox.offer("b", 1, "b") == (False, [])

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("drop", 1, 1), "when_full='drop': expected one of 'pause', 'drop_oldest', 'latest'"),
            (("pause", 0, 1), "max_events=0: expected a whole number of at least 1"),
            (("pause", 1, 0), "max_bytes=0: expected a whole number of at least 1"),
        ],
    )
    def test_invalid_arguments_are_refused(self, arguments: tuple[Any, ...], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            BoundedInbox(*arguments)


class TestTaking:
    def test_of_each_key_one_value_is_in_use_at_a_time(self) -> None:
        inbox = filled(BoundedInbox("pause", 10, 100), "a1", "a2", "b1")
        first, second = inbox.take_turn(), inbox.take_turn()
        assert first is not None
        assert second is not None
        assert (first.value, second.value, inbox.take_turn()) == ("a1", "b1", None)
        inbox.end_turn(first)
        third = inbox.take_turn()
        assert third is not None
        assert third.value == "a2"

    def test_a_batch_keeps_its_room_until_it_ends_and_is_not_dropped(self) -> None:
        inbox = filled(BoundedInbox("drop_oldest", 3, 100), "a1", "b1", "a2")
        assert inbox.take_batch(2) == ["a1", "b1"]
        assert inbox.take_batch(5) == ["a1", "b1"], "it is the same one until it ends"
        assert (len(inbox), inbox.cost) == (3, 6)
        assert inbox.offer("c1", 2, "c") == (True, ["a2"])
        assert inbox.offer("c2", 2, "c") == (True, ["c1"])
        assert inbox.values() == ["a1", "b1", "c2"]
        inbox.end_batch()
        assert inbox.values() == ["c2"]
        assert inbox.take_batch(5) == ["c2"]

    def test_a_batch_that_takes_all_room_makes_new_values_wait(self) -> None:
        inbox = filled(BoundedInbox("drop_oldest", 2, 100), "a1", "b1")
        inbox.take_batch(2)
        assert inbox.offer("c1", 2, "c") == (False, [])

    def test_closing_drops_what_waits_and_what_is_offered_afterwards(self) -> None:
        inbox = filled(BoundedInbox("pause", 10, 100), "a1", "b1", "a2")
        inbox.take_batch(1)
        assert inbox.close() == ["b1", "a2"]
        assert inbox.values() == ["a1"]
        assert inbox.offer("c1", 2, "c") == (True, ["c1"])

    @given(
        st.sampled_from(["drop_oldest", "latest"]), st.integers(1, 4), st.integers(2, 12),
        st.lists(st.sampled_from(["a", "b", "c", "d", "take", "end", "batch"]), max_size=60),
    )
    def test_values_are_neither_lost_nor_doubled_and_keys_stay_in_order(
        self, when_full: WhenFull, max_events: int, max_bytes: int, steps: list[str]
    ) -> None:
        inbox: BoundedInbox[str] = BoundedInbox(when_full, max_events, max_bytes)
        put, gone, taken = list[str](), list[str](), list[str]()
        turns = []
        for number, step in enumerate(steps):
            if step == "take":
                turn = inbox.take_turn()
                if turn is not None:
                    turns.append(turn)
                    taken.append(turn.value)
            elif step == "end":
                if turns:
                    inbox.end_turn(turns.pop(0))
            elif step == "batch":
                taken += inbox.take_batch(2)
                inbox.end_batch()
            else:
                value = f"{step}{number:02}"
                settled, dropped = inbox.offer(value, 1 + number % 3, step)
                gone += dropped
                if settled:
                    put.append(value)
            assert len(inbox) <= max_events
            assert inbox.cost <= max_bytes or len(inbox) == 1
        assert sorted(put) == sorted([*gone, *taken, *inbox.values()])
        for key in "abcd":
            mine = [value for value in taken if value[0] == key]
            assert mine == sorted(mine)
        inbox.close()
        for turn in turns:
            inbox.end_turn(turn)
        assert (len(inbox), inbox.cost) == (0, 0)
        assert not inbox._queue._turns

    @given(
        st.sampled_from(WHEN_FULL), st.integers(1, 5), st.integers(2, 12),
        st.lists(st.sampled_from(["take", "batch", 1, 2, 5]), max_size=40),
    )
    def test_without_keys_values_stay_in_order_and_a_plain_queue_does_what_a_keyed_one_does(
        self, when_full: WhenFull, max_events: int, max_bytes: int, steps: list[Any]
    ) -> None:
        plain: BoundedInbox[int] = BoundedInbox(when_full, max_events, max_bytes, by_key=False)
        keyed: BoundedInbox[int] = BoundedInbox(when_full, max_events, max_bytes)
        put, gone, taken = list[int](), list[int](), list[int]()
        number = 0
        for step in steps:
            if step == "take":
                value = plain.take()
                assert value == keyed.take()
                taken += [] if value is None else [value]
            elif step == "batch":
                taken += plain.take_batch(2)
                assert plain.take_batch(2) == keyed.take_batch(2)
                plain.end_batch()
                keyed.end_batch()
            else:
                values = [(number + each, 1 + each % 3, None) for each in range(step)]
                number += step
                count, dropped = plain.offer_many(values)
                assert (count, dropped) == keyed.offer_many(values)
                assert count == len(values) or when_full == "pause" or plain.is_full(values[count][1])
                put += [value for value, _, _ in values[:count]]
                gone += dropped
            assert plain.values() == keyed.values()
            assert (len(plain), plain.cost) == (len(keyed), keyed.cost)
            assert len(plain) <= max_events
            assert plain.cost <= max_bytes or len(plain) == 1
        assert taken == sorted(taken)
        assert gone == sorted(gone)
        assert sorted([*gone, *taken, *plain.values()]) == put
        assert plain.close() == keyed.close()
        assert plain.offer_many([(1, 1, None)]) == (1, [1])

    def test_each_step_takes_the_same_time_however_much_waits(self) -> None:
        def operations(count: int) -> int:
            queue: KeyedQueue[int] = KeyedQueue()
            for number in range(count):
                queue.put(number % 7, 1, number)
            calls = 0

            def count_call(frame: FrameType, event: str, _argument: object) -> None:
                nonlocal calls
                calls += event in ("call", "c_call")

            gc.disable()  # its callbacks, such as those of hypothesis, would be counted
            sys.setprofile(count_call)
            try:
                for _ in range(10):
                    queue.take_oldest()
                    queue.drop_outdated(3)
            finally:
                sys.setprofile(None)
                gc.enable()
            return calls

        assert operations(20_000) == operations(100)


class TestThreads:
    def test_waiting_for_room_ends_when_there_is_some_and_when_the_inbox_is_closed(self) -> None:
        inbox = filled(BoundedInbox("pause", 1, 100), "a1")
        settled: list[tuple[bool, list[str]]] = []

        def offer(value: str) -> None:
            while not (result := inbox.offer(value, 2, "b"))[0]:
                with inbox.lock:
                    inbox.wait_for_room(2)
            settled.append(result)

        first = in_thread(lambda: offer("b1"))
        inbox.take_batch(1)
        inbox.end_batch()
        first.join(PATIENCE)
        assert settled == [(True, [])]
        second = in_thread(lambda: offer("b2"))
        inbox.close()
        second.join(PATIENCE)
        assert settled[1:] == [(True, ["b2"])]

    def test_waiting_until_it_is_low_ends_at_half_of_both_bounds(self) -> None:
        inbox = filled(BoundedInbox("pause", 6, 8, by_key=False), "a1", "a2", "a3", "a4")
        was_low: list[bool] = []

        def wait() -> None:
            inbox.wait_until_low(lambda: False)
            was_low.append(len(inbox) <= 3 and inbox.cost <= 4)

        thread = in_thread(wait)
        assert [inbox.take(), inbox.take()] == ["a1", "a2"]
        thread.join(PATIENCE)
        assert was_low == [True]

    @pytest.mark.parametrize("end", ["close", "over"])
    def test_waiting_until_it_is_low_ends_when_the_inbox_is_closed_or_all_is_over(self, end: str) -> None:
        inbox = filled(BoundedInbox("pause", 2, 100, by_key=False), "a1", "a2")
        is_over = threading.Event()
        thread = in_thread(lambda: inbox.wait_until_low(is_over.is_set))
        if end == "close":
            inbox.close()
        else:
            is_over.set()
            with inbox.lock:
                inbox.changed.notify_all()
        thread.join(PATIENCE)
        assert not thread.is_alive()

    @pytest.mark.parametrize("by_key", [True, False], ids=["keyed", "plain"])
    @pytest.mark.parametrize(
        "step",
        [lambda inbox: inbox.take(), lambda inbox: inbox.offer_many([("a8", 2, "a"), ("a9", 2, "a")])],
        ids=["take", "offer_many"],
    )
    def test_wherever_taking_or_offering_many_is_interrupted_nothing_is_lost(
        self, step: Callable[[BoundedInbox[str]], Any], by_key: bool
    ) -> None:
        point, was_reached = 0, True
        while was_reached:
            inbox = filled(BoundedInbox("pause", 100, 1000, by_key=by_key), "a1", "b1")
            results: list[Any] = []
            was_reached = interrupted(
                lambda inbox=inbox, results=results: results.append(step(inbox)), point,  # type: ignore[misc]
                lambda inbox=inbox: (  # type: ignore[misc]
                    inbox.take(), inbox.offer_many([("z1", 2, "z"), ("z2", 2, "z")]), len(inbox),
                ),
            )
            left = list(iter(inbox.take, None))
            assert ("z1" in left and "z2" in left) is was_reached, point
            assert len(left) == len(set(left)), point
            assert inbox.cost == 0, point
            assert results[0] == (2, []) or results[0] not in left, point
            point += 1
        assert point > 30

    @pytest.mark.parametrize(
        "step",
        [
            lambda inbox: inbox.offer("a9", 2, "a"), lambda inbox: inbox.take_turn(),
            lambda inbox: inbox.take_batch(2), lambda inbox: inbox.values(),
        ],
        ids=["offer", "take_turn", "take_batch", "values"],
    )
    def test_wherever_a_thread_is_interrupted_by_itself_nothing_is_lost(
        self, step: Callable[[BoundedInbox[str]], Any]
    ) -> None:
        point, was_reached = 0, True
        while was_reached:
            inbox = filled(BoundedInbox("pause", 100, 1000), "a1", "b1", "a2")
            was_reached = interrupted(
                lambda inbox=inbox: step(inbox), point,  # type: ignore[misc]
                lambda inbox=inbox: (inbox.offer("z1", 2, "z"), len(inbox), inbox.values()),  # type: ignore[misc]
            )
            assert ("z1" in inbox.values()) is was_reached, point
            found = [turn.value for turn in iter(inbox.take_turn, None)]
            assert len(found) == len(set(found)), point
            point += 1
        assert point > 30

    def test_a_finalizer_in_a_step_may_want_the_control_lock_while_its_holder_takes_a_step(self) -> None:
        inbox = filled(BoundedInbox("pause", 100, 1000), "a1", "a2")
        inside = threading.Event()

        def finalize() -> None:
            inside.set()
            with control_lock():
                pass

        def hold() -> None:
            with control_lock():
                is_held.set()
                inside.wait(0.2)  # in vain, since the step needs the same lock
                inbox.take()

        is_held = threading.Event()
        holder = in_thread(hold)
        is_held.wait(PATIENCE)
        stepper = in_thread(lambda: enter(inbox.take, 30, [bounded_inbox.__file__], finalize))
        for thread in (holder, stepper):
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert inside.is_set()
        assert len(inbox) == 0

    def test_what_interrupts_a_thread_can_close_its_inbox(self) -> None:
        point, was_reached = 0, True
        while was_reached:
            inbox = filled(BoundedInbox("pause", 100, 1000), "a1", "b1")
            was_reached = interrupted(
                lambda inbox=inbox: inbox.offer("a9", 2, "a"), point, inbox.close  # type: ignore[misc]
            )
            assert inbox.is_closed is was_reached, point
            assert len(inbox) == (0 if was_reached else 3), point
            point += 1
        assert point > 30


def interrupted(step: Callable[[], object], point: int, meanwhile: Callable[[], object]) -> bool:
    """Call `step`, and `meanwhile` before one of its instructions. Returns whether it has that many."""
    call_at(list, 1, (), list)  # Python 3.12.1 has no opcode events the first time that a process traces
    left = point

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != bounded_inbox.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == -1:
                sys.settrace(None)
                meanwhile()
        return trace

    before = sys.gettrace()
    trace_once()
    sys.settrace(trace)
    try:
        step()
    finally:
        sys.settrace(before)
    return left < 0
