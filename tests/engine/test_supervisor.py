"""The supervisor: jobs run when they are due, can be cancelled, and do not delay urgent jobs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any

import pytest

from lochws.engine.supervisor import Supervisor

from ..support.seen import PATIENCE, await_reports


class Supervisors:
    """Makes supervisors that end with the test."""

    def __init__(self) -> None:
        self.made: list[Supervisor] = []

    def __call__(self, size: int = 1) -> Supervisor:
        self.made.append(Supervisor("lochws-supervisor-test", size))
        return self.made[-1]


@pytest.fixture
def make() -> Iterator[Supervisors]:
    supervisors = Supervisors()
    yield supervisors
    for supervisor in supervisors.made:
        supervisor.stop()
        assert supervisor.join(PATIENCE)


class Log:
    """Records what ran, in order, and waits until a number of entries is there."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._changed = threading.Condition()

    def note(self, entry: object) -> Callable[[], None]:
        """Return a job that records `entry`."""
        return self.result_of(lambda: entry)

    def result_of(self, function: Callable[[], object]) -> Callable[[], None]:
        """Return a job that records what the function returns."""

        def job() -> None:
            entry = function()
            with self._changed:
                self.entries.append(entry)
                self._changed.notify_all()

        return job

    def wait(self, count: int) -> list[Any]:
        """Wait until there are that many entries, and return all of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.entries) >= count, PATIENCE)
            return self.entries


class Blocker:
    """A job that blocks until the test releases it."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> None:
        self.began.set()
        assert self.go.wait(PATIENCE)


def blocked(supervisor: Supervisor) -> Blocker:
    blocker = Blocker()
    supervisor.call_soon(blocker)
    assert blocker.began.wait(PATIENCE)
    return blocker


def test_no_thread_is_started_before_there_is_a_job(make: Supervisors) -> None:
    before = threading.active_count()
    make(4)
    assert threading.active_count() == before


def test_threads_are_daemons_with_the_supervisors_name(make: Supervisors) -> None:
    log = Log()
    make().call_soon(log.result_of(threading.current_thread))
    (thread,) = log.wait(1)
    assert thread.daemon
    assert thread.name == "lochws-supervisor-test"


def late(start: float, delay: float) -> tuple[float, float]:
    return delay, monotonic() - start


def test_jobs_run_when_they_are_due_and_in_that_order(make: Supervisors) -> None:
    supervisor, log = make(), Log()
    start = monotonic()
    for delay in (0.06, 0.02, 0.04):
        supervisor.call_at(start + delay, log.result_of(partial(late, start, delay)))
    delays = log.wait(3)
    assert [wanted for wanted, _ in delays] == [0.02, 0.04, 0.06]
    assert all(passed >= wanted for wanted, passed in delays)


def test_jobs_due_at_once_run_in_the_order_they_were_given(make: Supervisors) -> None:
    supervisor, log = make(), Log()
    blocker = blocked(supervisor)
    for number in range(20):
        supervisor.call_soon(log.note(number))
    blocker.go.set()
    assert log.wait(20) == list(range(20))


def test_an_earlier_job_ends_the_wait_for_a_later_one(make: Supervisors) -> None:
    supervisor, log = make(), Log()
    supervisor.call_at(monotonic() + 1000, log.note("late"))
    supervisor.call_soon(log.note("soon"))
    assert log.wait(1) == ["soon"]


def test_a_job_can_be_cancelled_until_it_has_begun(make: Supervisors) -> None:
    supervisor, log = make(), Log()
    blocker = Blocker()
    running = supervisor.call_soon(blocker)
    assert blocker.began.wait(PATIENCE)
    waiting = supervisor.call_soon(log.note("never"))
    assert supervisor.cancel(waiting)
    assert not supervisor.cancel(waiting)
    assert not supervisor.cancel(running)
    supervisor.call_soon(log.note("then"))
    blocker.go.set()
    assert log.wait(1) == ["then"]


def test_no_more_threads_than_its_size(make: Supervisors) -> None:
    supervisor, log = make(3), Log()
    for _ in range(200):
        supervisor.call_soon(log.result_of(threading.current_thread))
    assert len(set(log.wait(200))) <= 3


def test_what_a_job_raises_is_logged_and_the_next_one_runs(
    make: Supervisors, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor, log = make(), Log()
    supervisor.call_soon(lambda: 1 / 0)
    supervisor.call_soon(log.note("next"))
    log.wait(1)
    await_reports()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_after_stop_nothing_begins(make: Supervisors) -> None:
    supervisor, log = make(), Log()
    blocker = blocked(supervisor)
    forgotten = supervisor.call_soon(log.note("forgotten"))
    supervisor.stop()
    refused = supervisor.call_soon(log.note("refused"))
    assert refused.is_cancelled
    assert not supervisor.join(0.01)
    blocker.go.set()
    assert supervisor.join(PATIENCE)
    assert log.entries == []
    assert not forgotten.is_started


def test_a_job_may_join_and_does_not_wait_for_itself(make: Supervisors) -> None:
    supervisor, log = make(), Log()

    def stop() -> bool:
        supervisor.stop()
        return supervisor.join(PATIENCE)

    supervisor.call_soon(log.result_of(stop))
    assert log.wait(1) == [True]


def test_a_job_that_comes_while_the_only_thread_starts_gets_no_second_one(
    make: Supervisors, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor, log = make(1), Log()
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        monkeypatch.undo()
        supervisor.call_soon(log.note("second"))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    supervisor.call_soon(log.note("first"))
    assert sorted(log.wait(2)) == ["first", "second"]
    assert [thread.name for thread in threading.enumerate()].count("lochws-supervisor-test") == 1


def test_without_any_thread_the_caller_gets_the_error(
    make: Supervisors, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor, log = make(2), Log()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            supervisor.call_soon(log.note("lost"))
    supervisor.call_soon(log.note("first"))
    log.wait(1)
    blocker = blocked(supervisor)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        supervisor.call_soon(log.note("second"))  # by those that there are
    blocker.go.set()
    assert log.wait(2) == ["first", "second"]
