"""The loop: wake-ups, timers, bounded work, and errors that end one channel only."""

from __future__ import annotations

import gc
import logging
import os
import select
import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing
from selectors import EVENT_READ, EVENT_WRITE
from time import monotonic

import pytest

from lochws.engine.inbox import Inbox
from lochws.engine.loop import BUFFER_BYTES, SHARE_BYTES, Loop
from lochws.engine.timers import STALE_TIMERS
from lochws.system.wakeup import WakePipe

from ..support.clocks import Shifting
from ..support.probe import Probe
from ..support.seen import PATIENCE, await_reports


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def look(loop: Loop) -> None:
    """Make one turn that does not wait."""
    loop.turn(until=lambda: True)


def wait_once(loop: Loop, limit: float = PATIENCE) -> float:
    """Make one turn that waits for a number of seconds at most. Returns how long it took."""
    began = monotonic()
    loop.turn(until=lambda: False, limit=limit)
    return monotonic() - began


def sleeps(loop: Loop) -> bool:
    """Return whether a turn waits; one may return early if a busy machine has held this thread up."""
    return any(wait_once(loop, 0.02) >= 0.019 for _ in range(3))


def joined(loop: Loop, *probes: Probe) -> None:
    """Have the probes join, and clear their records."""
    for probe in probes:
        loop.add(probe)
    look(loop)
    for probe in probes:
        assert probe.names == ["start"]
        probe.calls.clear()


class Turner:
    """A thread that turns the loop, waiting without limit, until it is stopped."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._stopping = False
        self.turns = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            self._loop.turn(until=lambda: self._stopping)
            self.turns += 1

    def stop(self) -> None:
        self._stopping = True
        self._loop.wake()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "a wake-up was lost"


class TestWakingUp:
    def test_no_wake_up_is_lost(self, loop: Loop) -> None:
        probe, seen = Probe(), threading.Semaphore(0)
        probe.act = lambda _: seen.release()
        loop.add(probe)
        turner = Turner(loop)
        for _ in range(3000):
            assert seen.acquire(timeout=PATIENCE), "a wake-up was lost"
            loop.touch(probe)
        turner.stop()

    def test_no_wake_up_of_many_threads_is_lost(self, loop: Loop) -> None:
        probes = [Probe() for _ in range(4)]
        joined(loop, *probes)

        def drive(probe: Probe) -> None:
            seen = threading.Semaphore(0)
            probe.act = lambda _: seen.release()
            for _ in range(500):
                loop.touch(probe)
                assert seen.acquire(timeout=PATIENCE)
            finished.append(probe)

        finished: list[Probe] = []
        turner = Turner(loop)
        threads = [threading.Thread(target=drive, args=(probe,)) for probe in probes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        turner.stop()
        assert len(finished) == len(probes)

    def test_a_loop_with_nothing_to_do_sleeps(self, loop: Loop) -> None:
        probe = Probe()
        joined(loop, probe)
        assert sleeps(loop)
        assert probe.calls == []

    def test_what_was_touched_before_the_turn_is_looked_after_without_waiting(self, loop: Loop) -> None:
        probe = Probe()
        joined(loop, probe)
        loop.touch(probe)
        loop.turn(until=lambda: bool(probe.calls))
        assert probe.names == ["touch"]

    def test_touching_a_channel_that_has_gone_does_nothing(self, loop: Loop) -> None:
        probe = Probe()
        joined(loop, probe)
        probe.is_finished = True
        loop.touch(probe)
        look(loop)
        probe.calls.clear()
        loop.touch(probe)
        look(loop)
        assert probe.calls == []

    def test_waking_a_closed_loop_does_nothing(self) -> None:
        loop = Loop()
        loop._turn.is_asleep = True  # as if its last turn had been cut short
        loop.close()
        loop.wake()


class TestDescriptors:
    def test_a_channel_is_called_with_what_it_is_ready_for(self, loop: Loop) -> None:
        probe = Probe()
        joined(loop, probe)
        probe.far.sendall(b"hello")
        wait_once(loop)
        assert probe.calls == [("ready", EVENT_READ)]
        assert probe.received == b"hello"
        probe.wanted = EVENT_READ | EVENT_WRITE
        loop.touch(probe)
        look(loop)
        wait_once(loop)
        assert probe.calls[-1] == ("ready", EVENT_WRITE)

    def test_a_channel_without_interest_is_left_alone_until_it_has_some(self, loop: Loop) -> None:
        probe = Probe()
        probe.wanted = 0
        joined(loop, probe)
        probe.far.sendall(b"hello")
        look(loop)
        assert probe.calls == []
        probe.wanted = EVENT_READ
        loop.touch(probe)
        look(loop)
        assert probe.received == b"hello"
        probe.wanted = 0
        loop.touch(probe)
        look(loop)
        probe.far.sendall(b"again")
        look(loop)
        assert probe.received == b"hello"

    def test_a_finished_channel_is_released(self, loop: Loop) -> None:
        probe = Probe()
        joined(loop, probe)
        probe.timer = monotonic()
        probe.is_finished = True
        assert loop.has_channels
        loop.touch(probe)
        look(loop)
        assert probe.closed
        assert not loop.has_channels

    def test_closing_lets_go_of_all_channels(self) -> None:
        loop = Loop()
        known, new = Probe(), Probe()
        joined(loop, known)
        loop.add(new)
        loop.close()
        assert known.closed
        assert new.closed

    def test_after_a_fork_none_of_the_parent_is_kept(self) -> None:
        with closing(Loop()) as loop:
            probe = Probe()
            probe.timer = monotonic() + 1000
            joined(loop, probe)
            loop.go_on(probe)
            gone = weakref.ref(probe)
            loop.reset_after_fork()
            probe.release()
            del probe
            gc.collect()
            assert gone() is None

    def test_the_baton_is_lent_without_memory(self, loop: Loop) -> None:
        failing = pytest.importorskip("_testcapi", reason="a Python without the parts for its own tests")
        assert loop.try_baton()
        for _ in range(3):
            failing.set_nomemory(0, 0)
            try:
                loop.lent.append(None)
            finally:
                failing.remove_mem_hooks()
            assert loop.try_baton()
            assert not loop.try_baton()


class TestTimers:
    def test_a_timer_ends_the_wait_when_it_is_due(self, loop: Loop) -> None:
        probe = Probe()
        when = probe.timer = monotonic() + 0.02
        joined(loop, probe)
        while not probe.calls:
            wait_once(loop)
        assert probe.names == ["timer"]
        assert when <= monotonic() < when + PATIENCE / 2

    def test_an_earlier_moment_takes_the_place_of_a_later_one(self, loop: Loop) -> None:
        probe = Probe()
        probe.timer = monotonic() + 1000
        joined(loop, probe)
        probe.timer = monotonic()
        loop.touch(probe)
        look(loop)
        look(loop)
        assert probe.names == ["touch", "timer"]

    def test_a_later_moment_lets_the_earlier_one_come_and_then_counts(self, loop: Loop) -> None:
        probe = Probe()
        probe.timer = monotonic()
        loop.add(probe)
        later = monotonic() + 1000
        probe.act = lambda _: setattr(probe, "timer", later)
        look(loop)
        look(loop)
        assert later <= (loop._timers.next or 0.0) < later + 2

    def test_the_timer_of_a_channel_that_has_gone_is_not_run(self, loop: Loop) -> None:
        probe = Probe()
        probe.timer = monotonic() + 0.005
        joined(loop, probe)
        probe.is_finished = True
        loop.touch(probe)
        look(loop)
        wait_once(loop, 0.02)
        assert probe.names == ["touch"]

    def test_a_timer_that_is_always_due_does_not_hold_the_turn(self, loop: Loop) -> None:
        eager, other = Probe(), Probe()
        eager.act = lambda _: setattr(eager, "timer", 0.0)
        other.timer = monotonic()
        loop.add(eager)
        loop.add(other)
        look(loop)
        assert eager.names == ["start", "timer"]
        assert other.names == ["start", "timer"]
        look(loop)
        assert eager.names[2:] == ["timer"]

    def test_timers_that_count_no_more_do_not_pile_up(self, loop: Loop) -> None:
        lasting = Probe()
        lasting.timer = monotonic() + 2000
        joined(loop, lasting)
        for _ in range(10 * STALE_TIMERS):
            passing = Probe()
            passing.timer = monotonic() + 1000
            joined(loop, passing)
            passing.is_finished = True
            loop.touch(passing)
            look(loop)
        assert len(loop._timers._entries) <= 2 + STALE_TIMERS + 1
        assert len(loop._timers._due) == 1


class TestFairness:
    def test_who_has_more_to_do_is_called_once_in_each_turn(self, loop: Loop) -> None:
        busy, other = Probe(), Probe()
        joined(loop, busy, other)
        busy.more = True
        loop.touch(busy)
        look(loop)
        for turn in range(1, 4):
            other.far.sendall(b".")
            assert wait_once(loop) < PATIENCE / 2
            assert busy.names == ["touch", "ready", *["ready"] * turn]
            assert other.names == ["ready"] * turn
        busy.more = False
        look(loop)
        assert sleeps(loop)

    def test_who_has_more_and_is_ready_is_not_called_twice(self, loop: Loop) -> None:
        probe = Probe()
        joined(loop, probe)
        probe.more = True
        loop.touch(probe)
        look(loop)
        probe.calls.clear()
        probe.far.sendall(b".")
        look(loop)
        assert probe.names == ["ready"]


class TestErrors:
    @pytest.mark.parametrize("where", ["start", "touch", "ready", "timer"])
    def test_an_error_ends_its_channel_and_no_other(
        self, loop: Loop, where: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken, other = Probe(), Probe()

        def act(name: str) -> None:
            if name == where:
                raise ZeroDivisionError

        broken.act = act
        for probe in (broken, other):
            loop.add(probe)
        look(loop)
        broken.timer = monotonic()
        broken.far.close() if broken.closed else broken.far.sendall(b".")
        other.far.sendall(b".")
        for _ in range(3):
            loop.touch(broken)
            loop.touch(other)
            look(loop)
        assert broken.closed
        assert isinstance(broken.calls[-1][1], ZeroDivisionError)
        assert broken.names[-2:] == [where, "error"]
        assert not other.closed
        assert "ready" in other.names
        await_reports()
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    def test_an_error_in_the_error_handling_does_not_get_out_either(
        self, loop: Loop, caplog: pytest.LogCaptureFixture
    ) -> None:
        probe = Probe()
        joined(loop, probe)

        def act(_: str) -> None:
            raise ZeroDivisionError

        probe.act = act
        loop.touch(probe)
        look(loop)
        assert probe.closed
        await_reports()
        assert len(caplog.records) == 2

    def test_a_descriptor_that_was_closed_by_others_ends_its_channel_alone(
        self, loop: Loop, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken, other = Probe(), Probe()
        joined(loop, broken, other)
        broken._near.close()
        broken.wanted = EVENT_READ | EVENT_WRITE
        loop.touch(broken)
        look(loop)
        assert broken.closed
        other.far.sendall(b".")
        look(loop)
        assert other.names[-1] == "ready"
        await_reports()
        assert len(caplog.records) == 1

    @pytest.mark.skipif(not hasattr(select, "epoll"), reason="selectors refuse the second channel")
    def test_the_end_of_a_channel_is_no_end_for_the_one_that_has_its_descriptor_now(self, loop: Loop) -> None:
        broken, other = Probe(), Probe()
        joined(loop, broken)
        descriptor = broken._near.detach()
        os.dup2(other._near.fileno(), descriptor)  # as if others had closed it, and the number was used again
        other._near.close()
        other._near = socket.socket(fileno=descriptor)
        other._near.setblocking(False)
        joined(loop, other)
        broken.is_finished = True
        loop.touch(broken)
        look(loop)
        assert broken.closed
        other.far.sendall(b".")
        look(loop)
        assert other.received == b"."

    def test_without_a_selector_to_be_had_nothing_is_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pipes: list[WakePipe] = []

        def pipe() -> WakePipe:
            pipes.append(WakePipe())
            return pipes[0]

        def selector() -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("lochws.engine.loop.WakePipe", pipe)
        monkeypatch.setattr("lochws.engine.loop.make_poller", selector)
        with pytest.raises(OSError, match="Too many"):
            Loop()
        assert pipes[0].fileno() == -1


class Measuring(Probe):
    """A channel that records how much room it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.rooms: list[int] = []

    def on_ready(self, mask: int, buffer: memoryview, now: float, is_direct: bool = False) -> bool | Inbox:
        self.rooms.append(len(buffer))
        return super().on_ready(mask, buffer, now)


class TestSharing:
    def test_one_that_is_ready_alone_has_all_the_room(self, loop: Loop) -> None:
        probe = Measuring()
        joined(loop, probe, Probe())
        probe.far.sendall(b".")
        look(loop)
        assert probe.rooms == [BUFFER_BYTES]

    def test_many_that_are_ready_at_once_share_it_and_each_gets_enough_to_go_on(self, loop: Loop) -> None:
        probes = [Measuring() for _ in range(40)]
        joined(loop, *probes)
        for probe in probes:
            probe.far.sendall(b".")
        look(loop)
        assert {room for probe in probes for room in probe.rooms} == {SHARE_BYTES}
        assert all(probe.received == b"." for probe in probes)


class TestGaps:
    """Suspensions of the machine or the process."""

    @pytest.fixture
    def clock(self) -> Shifting:
        return Shifting()

    @pytest.fixture
    def loop(self, clock: Shifting) -> Iterator[Loop]:
        with closing(Loop(clock)) as loop:
            yield loop

    @pytest.mark.parametrize("which", ["wall", "monotonic"])
    def test_channels_hear_of_a_suspension_after_received_data_and_before_their_timers(
        self, which: str, clock: Shifting, loop: Loop
    ) -> None:
        probe = Probe()
        joined(loop, probe)
        probe.timer = monotonic()
        probe.far.send(b"x")

        def stand_still() -> bool:
            clock.jump(which, 3600.0)
            return True

        loop.turn(stand_still)
        assert probe.names == ["ready", "gap", "timer"]
        loop.turn(lambda: True)
        assert probe.names == ["ready", "gap", "timer"]

    def test_a_wall_clock_that_is_set_back_is_not_a_suspension(self, clock: Shifting, loop: Loop) -> None:
        probe = Probe()
        joined(loop, probe)
        clock.jump("wall", -1e9)
        loop.turn(lambda: True)
        assert probe.names == []
