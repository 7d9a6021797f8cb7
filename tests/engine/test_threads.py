"""Threads: a reader and the supervisors that stand in for it, private to one app or shared."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from lochws.engine.inbox import Inbox
from lochws.engine.threads import Crew, Threads

from ..support.probe import Probe
from ..support.seen import PATIENCE

#: The grace period in here: short, and long enough for the quick handlers of a busy machine.
GRACE = 0.02


@pytest.fixture(params=[1, 2], ids=["private", "shared"])
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    threads = Threads.private("test") if request.param == 1 else Threads(request.param)
    crew = threads.attach(NOBODY)
    crew.reader.grace = GRACE
    yield crew
    threads.detach(crew, NOBODY)
    assert crew.join(PATIENCE)


@pytest.fixture
def probe(crew: Crew) -> Iterator[Probe]:
    probe = Probe()
    crew.reader.loop.add(probe)
    yield probe
    probe.is_finished = True
    crew.reader.loop.touch(probe)


class Watched:
    """A tenant that records the errors with which its crew fails."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def threads_failed(self, crew: Crew, error: BaseException) -> None:
        self.errors.append(error)


NOBODY = Watched()


class Stay:
    """Handlers that run until the test releases them."""

    def __init__(self, crew: Crew) -> None:
        self._entered = threading.Semaphore(0)
        self._go = threading.Semaphore(0)
        self._inbox = Inbox(self._handle, crew.reader.loop.notify)

    def begin(self) -> None:
        """Have a handler run, and return once it does."""
        self._inbox.post(["stay"])
        assert self._entered.acquire(timeout=PATIENCE)

    def end(self) -> None:
        """Let it return."""
        self._go.release()

    def _handle(self, _: object) -> None:
        self._entered.release()
        assert self._go.acquire(timeout=PATIENCE)


def who_moves(probe: Probe) -> str:
    """Have the probe called, and return the name of the thread that calls it."""
    names: list[str] = []
    called = threading.Event()

    def act(_: str) -> None:
        names.append(threading.current_thread().name)
        called.set()

    probe.act = act
    probe.far.sendall(b".")
    assert called.wait(PATIENCE)
    probe.act = lambda _: None
    return names[0].split("-")[1]


def until(condition: Callable[[], bool], crew: Crew) -> None:
    """Wait until a condition on the crew's threads holds."""
    end = monotonic() + PATIENCE
    turned = threading.Event()
    while not condition():
        assert monotonic() < end
        crew.supervisor.call_at(monotonic() + 0.001, turned.set)
        turned.wait(PATIENCE)
        turned.clear()


class TestTheWatch:
    def test_a_supervisor_moves_the_channels_while_a_handler_stays_away(
        self, crew: Crew, probe: Probe
    ) -> None:
        stay = Stay(crew)
        assert who_moves(probe) == "reader"
        for _ in range(3):
            stay.begin()
            assert who_moves(probe) == "supervisor"
            stay.end()
            # The stand-in may be in the midst of a turn still, and then moves once more.
            until(lambda: not (crew.reader.delivery or crew.reader.has_stand_in), crew)
            assert who_moves(probe) == "reader"

    def test_what_was_asked_for_while_a_supervisor_stands_in_is_flushed(
        self, crew: Crew, probe: Probe
    ) -> None:
        stay = Stay(crew)
        stay.begin()
        assert who_moves(probe) == "supervisor"
        flushed = threading.Event()
        probe.act = lambda name: flushed.set() if name == "touch" else None
        crew.ask_flush(probe, flushed.set)
        assert flushed.wait(PATIENCE)
        stay.end()

    def test_what_was_asked_for_before_anybody_stands_in_is_flushed_too(
        self, crew: Crew, probe: Probe
    ) -> None:
        crew.reader.grace = 1000
        stay = Stay(crew)
        stay.begin()
        flushed = threading.Event()
        crew.ask_flush(probe, flushed.set)
        assert flushed.wait(PATIENCE)
        stay.end()

    def test_no_jobs_pile_up_behind_a_supervisor_that_stands_in(self, crew: Crew, probe: Probe) -> None:
        stay = Stay(crew)
        stay.begin()
        assert who_moves(probe) == "supervisor"
        for _ in range(100):
            crew.ask_flush(probe, lambda: None)
        assert len(crew.supervisor._jobs) <= 1
        stay.end()

    def test_the_watch_ends_when_all_is_quiet_and_begins_again(self, crew: Crew, probe: Probe) -> None:
        stay = Stay(crew)
        for _ in range(2):
            stay.begin()
            stay.end()
            until(lambda: not crew.reader.is_watched, crew)
            assert crew.supervisor._jobs == []
        stay.begin()
        assert who_moves(probe) == "supervisor"
        stay.end()

    def test_quick_handlers_are_not_stood_in_for(self, crew: Crew, probe: Probe) -> None:
        crew.reader.grace = 1000
        done = threading.Semaphore(0)
        inbox = Inbox(lambda _: done.release(), crew.reader.loop.notify)
        for _ in range(100):
            inbox.post(["quick"])
            assert done.acquire(timeout=PATIENCE)
            assert who_moves(probe) == "reader"


class TestSharing:
    def test_making_threads_starts_none(self) -> None:
        before = threading.active_count()
        Threads()
        assert threading.active_count() == before

    def test_they_start_with_the_first_app_and_end_with_the_last(self) -> None:
        threads = Threads(name="pool")
        other = Watched()
        first = threads.attach(NOBODY)
        assert threads.attach(other) is first
        assert "lochws-reader-pool" in {thread.name for thread in threading.enumerate()}
        threads.detach(first, NOBODY)
        assert not first.reader.join(0.01)
        threads.detach(first, other)
        assert first.join(PATIENCE)

    def test_they_can_start_again_while_the_old_ones_are_still_ending(self) -> None:
        threads = Threads()
        old = threads.attach(NOBODY)
        stay = Stay(old)
        stay.begin()
        threads.detach(old, NOBODY)
        new = threads.attach(NOBODY)
        assert new is not old
        assert not old.join(0.01)
        stay.end()
        assert old.join(PATIENCE)
        threads.detach(new, NOBODY)
        assert new.join(PATIENCE)

    def test_from_many_threads_at_once_there_is_one_crew(self) -> None:
        threads = Threads()
        crews: list[Crew] = []
        barrier = threading.Barrier(8)

        def attach() -> None:
            barrier.wait(PATIENCE)
            crews.append(threads.attach(Watched()))

        workers = [threading.Thread(target=attach) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(PATIENCE)
        assert len(set(map(id, crews))) == 1
        for tenant in list(crews[0].tenants):
            threads.detach(crews[0], tenant)
        assert crews[0].join(PATIENCE)

    def test_the_end_of_an_apps_last_run_leaves_its_next_run_the_threads(self) -> None:
        threads = Threads()
        crew = threads.attach(NOBODY)
        assert threads.attach(NOBODY) is crew  # started again before the end of the first run was noted
        threads.detach(crew, NOBODY)
        ran = threading.Event()
        crew.supervisor.call_soon(ran.set)
        assert ran.wait(PATIENCE)
        assert not crew.join(0)
        threads.detach(crew, NOBODY)
        assert crew.join(PATIENCE)

    @pytest.mark.parametrize("wrong", [1, 0, -3, True, 2.5, "4", None])
    def test_fewer_than_two_supervisors_are_refused(self, wrong: object) -> None:
        with pytest.raises((TypeError, ValueError), match="expected a whole number of at least 2"):
            Threads(wrong)  # type: ignore[arg-type]

    def test_without_a_thread_to_be_had_nothing_is_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        threads = Threads()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError):
                threads.attach(NOBODY)
        crew = threads.attach(NOBODY)
        threads.detach(crew, NOBODY)
        assert crew.join(PATIENCE)
