"""Rest: loop, reader and supervisor tell a clock that is moved by hand that they are waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from lochws.clock import Rest
from lochws.engine.inbox import Inbox
from lochws.engine.loop import Loop
from lochws.engine.reader import Reader
from lochws.engine.supervisor import Supervisor
from lochws.testing import VirtualClock

from ..support.probe import Probe
from ..support.seen import PATIENCE, eventually


@pytest.fixture
def virtual() -> VirtualClock:
    """A clock that wakes no thread."""
    return VirtualClock()


def asleep(loop: Loop, look: Callable[[], Rest | None]) -> Rest | None:
    """Return what `rest` says of a loop that is about to wait."""
    seen: list[Rest | None] = []
    loop.turn(until=lambda: seen.append(look()) is None)
    return seen[0]


class TestLoop:
    @pytest.fixture
    def loop(self, virtual: VirtualClock) -> Iterator[Loop]:
        with closing(Loop(virtual)) as loop:
            yield loop

    @pytest.fixture
    def probe(self, loop: Loop) -> Probe:
        probe = Probe()
        loop.add(probe)
        loop.turn(until=lambda: True)
        return probe

    def test_it_waits_in_a_turn_and_never_between_two(self, loop: Loop) -> None:
        first, second = asleep(loop, loop.rest), asleep(loop, loop.rest)
        assert first is not None
        assert second is not None
        assert (first.until, second.until) == (None, None)
        assert second.number > first.number
        assert loop.rest() is None

    def test_a_loop_with_touched_channels_or_data_does_not_rest(self, loop: Loop, probe: Probe) -> None:
        loop.touch(probe)
        assert asleep(loop, loop.rest) is not None  # it was, before the wait

        def touched() -> Rest | None:
            loop.touch(probe)
            return loop.rest()

        assert asleep(loop, touched) is None
        assert asleep(loop, loop.rest) is not None
        probe.far.send(b"x")
        assert asleep(loop, loop.rest) is None

    def test_a_clock_that_was_moved_is_looked_at_first(self, loop: Loop) -> None:
        loop.look_at_clock()
        assert asleep(loop, loop.rest) is None
        assert asleep(loop, loop.rest) is not None

    def test_it_waits_for_the_moment_that_a_channel_wants_to_the_letter(
        self, loop: Loop, probe: Probe, virtual: VirtualClock
    ) -> None:
        probe.timer = when = virtual.monotonic() + 29.9
        loop.touch(probe)
        rest = asleep(loop, loop.rest)
        assert rest is not None
        assert rest.until == pytest.approx(when, abs=1e-9)

    def test_of_a_channel_that_has_left_it_waits_for_nothing(
        self, loop: Loop, probe: Probe, virtual: VirtualClock
    ) -> None:
        probe.timer = virtual.monotonic() + 5
        loop.touch(probe)
        asleep(loop, loop.rest)
        probe.is_finished = True
        loop.touch(probe)
        rest = asleep(loop, loop.rest)
        assert rest is not None
        assert rest.until is None


class TestReader:
    @pytest.fixture
    def reader(self, virtual: VirtualClock) -> Iterator[Reader]:
        """A reader whose thread has not begun: the test stands in for it."""
        reader = Reader("lochws-reader-test", lambda: None, virtual)
        yield reader
        reader.loop.close()

    def test_what_lies_in_an_inbox_has_to_be_delivered_first(self, reader: Reader) -> None:
        def look() -> Rest | None:
            return reader.rest(handlers=True)

        assert asleep(reader.loop, look) is not None
        Inbox(lambda _: None, reader.loop.notify).post(["something"])
        assert asleep(reader.loop, look) is None

    @pytest.mark.parametrize("stands_in", [False, True])
    def test_a_handler_that_runs_counts_if_it_is_to(self, stands_in: bool, reader: Reader) -> None:
        reader.delivery, reader.has_stand_in = 1, stands_in
        assert asleep(reader.loop, lambda: reader.rest(handlers=True)) is None
        assert asleep(reader.loop, lambda: reader.rest(handlers=False)) is not None
        if stands_in:
            assert reader.rest(handlers=False) is None  # it has something to do itself


class TestSupervisor:
    @pytest.fixture
    def supervisor(self, virtual: VirtualClock) -> Iterator[Supervisor]:
        supervisor = Supervisor("lochws-supervisor-test", 1, virtual)
        yield supervisor
        supervisor.stop()
        assert supervisor.join(PATIENCE)

    def rest(self, supervisor: Supervisor, *, away: bool = False, aside: bool = False) -> Rest | None:
        return supervisor.rest(away=away, aside=aside)

    def test_it_waits_for_the_next_job_that_somebody_waits_for(
        self, supervisor: Supervisor, virtual: VirtualClock
    ) -> None:
        now = virtual.monotonic()
        supervisor.call_at(now + 3, lambda: None, aside=True)
        supervisor.call_at(now + 30, lambda: None)
        job = supervisor.call_at(now + 2, lambda: None)
        eventually(lambda: self.rest(supervisor) is not None)  # its thread begins
        assert self.rest(supervisor) == Rest(0, now + 2)
        supervisor.cancel(job)
        assert self.rest(supervisor) == Rest(0, now + 30)
        assert self.rest(supervisor, aside=True) == Rest(0, now + 3)

    def test_a_job_that_is_due_has_to_be_done_first(
        self, supervisor: Supervisor, virtual: VirtualClock
    ) -> None:
        done = threading.Event()
        supervisor.call_at(virtual.monotonic() + 30, done.set)
        eventually(lambda: self.rest(supervisor) is not None)
        virtual.advance(30)
        assert self.rest(supervisor) is None
        supervisor.wake()
        assert done.wait(PATIENCE)
        eventually(lambda: self.rest(supervisor) == Rest(1, None))

    def test_a_running_job_counts_unless_the_caller_excludes_it(
        self, supervisor: Supervisor
    ) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            assert go_on.wait(PATIENCE)

        supervisor.call_soon(wait)
        assert begun.wait(PATIENCE)
        assert self.rest(supervisor) is None
        assert self.rest(supervisor, away=True) == Rest(1, None)
        go_on.set()

    def test_what_has_ended_waits(self, supervisor: Supervisor) -> None:
        supervisor.call_soon(lambda: None)
        supervisor.stop()
        assert supervisor.join(PATIENCE)
        rest = self.rest(supervisor)
        assert rest is not None
        assert rest.until is None


def test_two_rests_together_last_until_the_earlier_time() -> None:
    assert Rest(1, None).beside(Rest(2, None)) == Rest(3, None)
    assert Rest(1, 5.0).beside(Rest(2, None)) == Rest(3, 5.0)
    assert Rest(1, 5.0).beside(Rest(2, 4.0)) == Rest(3, 4.0)
