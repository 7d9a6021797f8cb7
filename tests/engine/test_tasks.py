"""Tasks: generators whose waits the loop performs, over real sockets and in real time."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE
from time import monotonic, sleep

import pytest

from lochws.engine import tasks as tasks_module
from lochws.engine.loop import Loop
from lochws.engine.tasks import Tasks
from lochws.system import usercode
from lochws.system.deadline import Cancelled, Deadline
from lochws.system.steps import Ready, Steps, Wait
from lochws.testing import VirtualClock

from ..support.probe import Probe
from ..support.seen import PATIENCE, await_reports

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def loop() -> Iterator[Loop]:
    with closing(Loop()) as loop:
        yield loop


@pytest.fixture
def tasks(loop: Loop) -> Tasks:
    return Tasks(loop)


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        yield near, far


def turn_until(loop: Loop, condition: Callable[[], object]) -> None:
    """Turn the loop until the condition holds."""
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end, "it did not happen"
        loop.turn(until=lambda: bool(condition()), limit=0.1)


def test_a_task_is_resumed_with_the_socket_that_is_ready(loop: Loop, tasks: Tasks, pair: Pair) -> None:
    seen: list[Ready] = []

    def steps(_: object) -> Steps[None]:
        seen.append((yield Wait(((pair[0], EVENT_WRITE),), None)))
        seen.append((yield Wait(((pair[0], EVENT_READ),), None)))

    tasks.add(steps, None)
    turn_until(loop, lambda: len(seen) == 1)
    loop.turn(until=lambda: False, limit=0.01)
    assert seen == [(pair[0],)]
    pair[1].send(b"x")
    turn_until(loop, lambda: len(seen) == 2)
    assert seen[1] == (pair[0],)
    turn_until(loop, lambda: not loop.has_channels)


def test_of_several_sockets_the_ready_one_is_named_and_all_are_left(
    loop: Loop, tasks: Tasks, pair: Pair
) -> None:
    seen: list[Ready] = []
    idle, peer = socket.socketpair()

    def steps(_: object) -> Steps[None]:
        seen.append((yield Wait(((idle, EVENT_READ), (pair[0], EVENT_READ)), None)))
        idle.close()
        seen.append((yield Wait((), monotonic() + 0.01)))

    with idle, peer:
        tasks.add(steps, None)
        loop.turn(until=lambda: True)
        pair[1].send(b"x")
        turn_until(loop, lambda: len(seen) == 2)
    assert seen == [(pair[0],), ()]


def test_the_time_ends_a_wait_and_not_before(loop: Loop, tasks: Tasks, pair: Pair) -> None:
    ended: list[float] = []

    def steps(_: object) -> Steps[None]:
        assert (yield Wait(((pair[0], EVENT_READ),), began + 0.05)) == ()
        ended.append(monotonic())

    began = monotonic()
    tasks.add(steps, None)
    turn_until(loop, lambda: ended)
    assert ended[0] >= began + 0.05


def test_a_later_wait_is_not_ended_by_the_time_of_an_earlier_one(
    loop: Loop, tasks: Tasks, pair: Pair
) -> None:
    waits: list[float] = []

    def steps(_: object) -> Steps[None]:
        pair[1].send(b"x")
        yield Wait(((pair[0], EVENT_READ),), monotonic() + 0.02)
        pair[0].recv(1)
        began = monotonic()
        yield Wait(((pair[0], EVENT_READ),), began + 0.1)
        waits.append(monotonic() - began)

    tasks.add(steps, None)
    turn_until(loop, lambda: waits)
    assert waits[0] >= 0.1


@pytest.mark.parametrize("early", [False, True], ids=["while it waits", "before it waits"])
def test_another_thread_can_wake_it(loop: Loop, tasks: Tasks, early: bool) -> None:
    woken: list[bool] = []

    def steps(wake: Callable[[], None]) -> Steps[None]:
        done = threading.Event()
        thread = threading.Timer(0 if early else 0.02, lambda: (done.set(), wake()))
        thread.start()
        if early:
            thread.join()
        while not done.is_set():
            yield Wait((), None)
        if early:
            yield Wait((), None)  # which the call has ended, too
        woken.append(True)
        thread.join()

    tasks.add(steps, None)
    turn_until(loop, lambda: woken)


def test_a_clock_that_stands_still_does_not_keep_it_waiting_and_the_loop_does_not_rest() -> None:
    ended: list[bool] = []

    def steps(_: object) -> Steps[None]:
        yield Wait((), monotonic() + 0.02)
        ended.append(True)

    with closing(Loop(VirtualClock())) as loop:
        tasks = Tasks(loop)
        tasks.add(steps, None)
        rests: list[object] = []
        loop.turn(until=lambda: rests.append(loop.rest()) is not None)
        while not ended:
            loop.turn(until=lambda: False)
        assert rests == [None]
        loop.turn(until=lambda: rests.append(loop.rest()) is None)
        assert rests[1] is not None


def test_beside_another_clock_a_wait_of_years_is_no_error() -> None:
    def steps(_: object) -> Steps[None]:
        yield Wait((), monotonic() + 1e12)

    with closing(Loop(VirtualClock())) as loop:
        tasks = Tasks(loop)
        tasks.add(steps, None)
        loop.turn(until=None)
        waker = threading.Timer(0.05, loop.look_at_clock)
        waker.start()
        loop.turn(until=None)
        waker.join()
        assert loop.has_channels


def test_steps_that_take_long_leave_each_turn_to_the_other_channels(loop: Loop, tasks: Tasks) -> None:
    probe = Probe()
    loop.add(probe)
    loop.turn(until=lambda: True)
    done: list[int] = []
    count = 20

    def steps(_: object) -> Steps[None]:
        sleep(1.5 * tasks_module.TURN_SECONDS)  # stands for a TLS handshake
        done.append(len(done))
        yield from ()

    for _ in range(count):
        tasks.add(steps, None)
    turns = 0
    while len(done) < count:
        probe.far.send(b"x")
        loop.turn(until=lambda: True)
        turns += 1
        assert len(probe.received) == turns
        assert len(done) <= turns
    assert turns == count


@pytest.mark.parametrize(("others_took", "steps_taken"), [(0.0, 2), (0.002, 7), (1.0, 14)])
def test_the_tasks_have_as_long_as_the_others_took_within_limits(
    others_took: float, steps_taken: int, loop: Loop, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, done = [1000.0], []
    monkeypatch.setattr(tasks_module, "monotonic", lambda: now[0])

    def steps(number: int, _: object) -> Steps[None]:
        now[0] += 0.0003
        done.append(number)
        yield from ()

    for number in range(50):
        tasks.add(partial(steps, number), None)
    while not done:
        loop.turn(until=lambda: True)
    before = len(done)
    now[0] += others_took
    loop.turn(until=lambda: True)
    assert len(done) - before == steps_taken


def test_channels_that_always_have_something_to_do_leave_turns_to_the_tasks(loop: Loop, tasks: Tasks) -> None:
    probe = Probe()
    probe.more = True
    loop.add(probe)
    steps_taken: list[int] = []

    def steps(_: object) -> Steps[None]:
        for number in range(10):
            steps_taken.append(number)
            yield Wait((), 0.0)

    tasks.add(steps, None)
    for _ in range(30):
        probe.far.send(b"x")
        loop.turn(until=lambda: False)
    assert len(steps_taken) == 10
    assert len(probe.received) == 30
    probe.more = False


def test_a_task_whose_turn_has_not_come_costs_no_further_calls(
    loop: Loop, tasks: Tasks, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_module, "TURN_SECONDS", 0.0)
    seen: list[object] = []

    def waiting(_: object) -> Steps[None]:
        yield Wait(((pair[0], EVENT_WRITE),), None)
        seen.append(loop._turn.number)

    def other(_: object) -> Steps[None]:
        for _ in range(3):
            yield Wait((), 0.0)

    tasks.add(waiting, None)
    tasks.add(other, None)
    calls: list[object] = []
    on_ready = tasks_module._Watch.on_ready

    def counted(*args: object) -> None:
        calls.append(args)
        on_ready(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks_module._Watch, "on_ready", counted)
    turn_until(loop, lambda: not loop.has_channels)
    assert len(calls) == 1


def test_a_descriptor_that_cannot_be_waited_on_raises_in_the_generator(loop: Loop, tasks: Tasks) -> None:
    caught: list[BaseException] = []

    def steps(_: object) -> Steps[None]:
        closed = socket.socket()
        closed.close()
        try:
            yield Wait(((closed, EVENT_READ),), None)
        except ValueError as error:
            caught.append(error)

    tasks.add(steps, None)
    turn_until(loop, lambda: caught)
    turn_until(loop, lambda: not loop.has_channels)


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, StopIteration])
def test_a_socket_whose_descriptor_raises_anything_does_so_in_the_generator(
    loop: Loop, tasks: Tasks, error: type[BaseException]
) -> None:
    class Broken(socket.socket):
        def fileno(self) -> int:
            raise error("broken")

    caught: list[BaseException] = []

    def steps(_: object) -> Steps[None]:
        try:
            with Broken() as broken:
                yield Wait(((broken, EVENT_READ),), None)
        except (SystemExit, RuntimeError) as raised:
            caught.append(raised)

    def run() -> None:
        tasks.add(steps, None)
        turn_until(loop, lambda: caught)

    thread = threading.Thread(target=run)  # on the main thread, a SystemExit may come from a signal handler
    thread.start()
    thread.join()
    assert caught
    turn_until(loop, lambda: not loop.has_channels)


def test_a_descriptor_that_was_closed_and_used_again_keeps_its_channel(loop: Loop, tasks: Tasks) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)

    def steps(_: object) -> Steps[None]:
        yield Wait(((near, EVENT_READ),), monotonic() + 0.05)

    with far:
        tasks.add(steps, None)
        loop.turn(until=lambda: True)
        loop.turn(until=lambda: True)
        number = near.detach()
        probe = Probe()
        os.dup2(probe.fileno(), number)  # closes the socket of the task
        probe._near.close()
        probe._near = socket.socket(fileno=number)
        probe._near.setblocking(False)
        loop.add(probe)
        turn_until(loop, lambda: tasks.is_finished)
        probe.far.send(b"x")
        turn_until(loop, lambda: probe.received)


@pytest.mark.parametrize("error", [ValueError("a defect"), SystemExit(1)])
def test_a_defect_ends_one_task_and_is_reported(
    loop: Loop, tasks: Tasks, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[bool] = []

    def broken(_: object) -> Steps[None]:
        yield Wait((), 0.0)
        raise error

    def good(_: object) -> Steps[None]:
        yield Wait((), 0.0)
        yield Wait((), 0.0)
        done.append(True)

    tasks.add(broken, None)
    tasks.add(good, None)
    turn_until(loop, lambda: not loop.has_channels)
    assert done
    await_reports()
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_each_step_runs_for_the_owner_of_the_users_functions(loop: Loop, tasks: Tasks) -> None:
    owner = object()
    seen: list[bool] = []

    def steps(_: object) -> Steps[None]:
        seen.append(usercode.is_running(owner))
        yield Wait((), 0.0)
        seen.append(usercode.is_running(owner))

    tasks.add(steps, owner)
    turn_until(loop, lambda: not loop.has_channels)
    assert seen == [True, True]
    assert not usercode.is_running(owner)


def test_if_the_loop_fails_a_cancelled_task_ends_by_itself_and_any_other_with_the_error(
    loop: Loop, tasks: Tasks, pair: Pair
) -> None:
    ends: dict[str, BaseException] = {}
    deadlines = {"cancelled": Deadline(None), "open": Deadline(None)}

    def steps(name: str) -> Callable[[Callable[[], None]], Steps[None]]:
        def begin(wake: Callable[[], None]) -> Steps[None]:
            deadlines[name].attend(wake)
            try:
                while True:
                    yield Wait(((pair[0], EVENT_READ),), deadlines[name].until())
            except (Cancelled, ValueError) as error:
                ends[name] = error

        return begin

    tasks.add(steps("cancelled"), None)
    loop.turn(until=lambda: True)
    tasks.add(steps("open"), None)  # it has not begun
    deadlines["cancelled"].cancel()
    error = ValueError("too many")
    loop.fail(error)
    assert isinstance(ends["cancelled"], Cancelled)
    assert ends["open"] is error
    assert not loop.has_channels


def test_a_task_that_was_left_behind_is_closed_with_the_loop(pair: Pair) -> None:
    ended: list[bool] = []

    def steps(_: object) -> Steps[None]:
        try:
            yield Wait(((pair[0], EVENT_READ),), None)
        finally:
            ended.append(True)

    loop = Loop()
    tasks = Tasks(loop)
    tasks.add(steps, None)
    loop.turn(until=lambda: True)
    loop.close()
    assert ended == [True]


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="this system has no fork")
def test_after_a_fork_the_child_has_no_tasks(loop: Loop, tasks: Tasks, pair: Pair) -> None:
    def steps(_: object) -> Steps[None]:
        yield Wait(((pair[0], EVENT_READ),), None)

    tasks.add(steps, None)
    loop.turn(until=lambda: True)
    tasks.reset_after_fork()  # what happens to them in the child
    assert tasks.is_finished
