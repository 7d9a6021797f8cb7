"""Worker: order by key, bounds, failures, and the end."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor, _base, thread
from multiprocessing import get_context
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws import WebSocketApp, events, on
from lochws.handlers.worker import Worker

from ..support.apps import hurry, opened
from ..support.interrupting import trace_once
from ..support.peer import CLOSE, PING, PONG, TEXT, Link, StartPeer
from ..support.seen import PATIENCE, eventually, in_thread
from .executors import ByHand

Text = events.Text


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Four threads."""
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.fixture
def by_hand() -> ByHand:
    """An executor that runs work when the test says so."""
    return ByHand()


def telling(count: int) -> Callable[[Link], None]:
    """A script that sends the first numbers, and then waits until the client closes."""

    def script(link: Link) -> None:
        link.accept()
        for number in range(count):
            link.send_frame(TEXT, str(number).encode())
        while (frame := link.read_frame())[0] != CLOSE:
            pass
        link.send_frame(*frame)

    return script


def first(event: Text) -> str:
    """Return the key of a text: its first letter."""
    return event.text[0]


def texts(executor: ByHand) -> list[str]:
    """Return the texts that an executor has not run yet."""
    return [event.text for event in executor.given]


def take(worker: Worker, *words: str) -> None:
    """Pass texts to a worker."""
    for word in words:
        worker.take(Text(word))


def pids(event: Text) -> tuple[str, int]:
    """Work for a process: return the text, and the number of the process."""
    return event.text, os.getpid()


def leave(_event: Text) -> None:
    """Work that ends its process."""
    os._exit(1)


class TestOrder:
    def test_events_of_an_app_are_processed_in_order_by_other_threads(
        self, pool: ThreadPoolExecutor, start_peer: StartPeer
    ) -> None:
        seen: list[tuple[str, str]] = []
        app = WebSocketApp(start_peer(telling(200)).url)
        worker = Worker(lambda event: seen.append((event.text, threading.current_thread().name)), pool)
        app.add_handler(worker)
        with opened(app):
            eventually(lambda: len(seen) == 200)
        assert [text for text, _ in seen] == [str(number) for number in range(200)]
        assert all(name.startswith("ThreadPoolExecutor") for _, name in seen)
        assert worker.drain(PATIENCE)
        assert worker.counts == (200, 0, 0, 200, 0, 0)

    def test_different_keys_run_at_the_same_time(self, pool: ThreadPoolExecutor) -> None:
        meeting = threading.Barrier(3)
        worker = Worker(lambda _: meeting.wait(PATIENCE), pool, key=first)
        take(worker, "a1", "b1", "c1")
        assert worker.drain(PATIENCE)
        assert worker.counts.done == 3

    def test_the_executor_has_one_event_per_key(self, by_hand: ByHand) -> None:
        worker = Worker(first, by_hand, key=first)
        take(worker, "a1", "a2", "b1", "a3", "b2")
        assert texts(by_hand) == ["a1", "b1"]
        by_hand.run(1)
        assert texts(by_hand) == ["a1", "b2"]
        by_hand.run(0)
        assert texts(by_hand) == ["b2", "a2"]

    def test_keys_take_turns_and_the_executor_has_at_most_parallel_events(
        self, by_hand: ByHand
    ) -> None:
        worker = Worker(first, by_hand, key=first, parallel=2)
        take(worker, "a1", "a2", "b1", "c1", "d1")
        assert texts(by_hand) == ["a1", "b1"]
        by_hand.run(0)
        assert texts(by_hand) == ["b1", "c1"]
        by_hand.run(0)
        by_hand.run(0)
        assert texts(by_hand) == ["d1", "a2"]

    def test_the_next_begins_after_on_done_has_run(self, by_hand: ByHand) -> None:
        given: list[list[str]] = []
        worker = Worker(first, by_hand, on_done=lambda *_: given.append(texts(by_hand)))
        take(worker, "a", "b")
        by_hand.run()
        assert given == [[]]
        assert texts(by_hand) == ["b"]

    def test_work_that_is_done_immediately_does_not_deepen_the_stack(self, by_hand: ByHand) -> None:
        worker = Worker(first, by_hand, max_events=5000)
        take(worker, *["x"] * 5000)
        by_hand.at_once = True
        by_hand.run()
        assert worker.counts == (5000, 0, 0, 5000, 0, 0)


class TestBounds:
    def test_a_full_inbox_pauses_reading_and_pings_are_answered(
        self, pool: ThreadPoolExecutor, start_peer: StartPeer
    ) -> None:
        go, sent, answered = threading.Event(), threading.Event(), threading.Event()
        seen: list[int] = []

        def script(link: Link) -> None:
            link.accept()
            for number in range(50):
                link.send_frame(TEXT, str(number).encode())
            sent.wait(PATIENCE)
            link.send_frame(PING, b"there?")
            while (frame := link.read_frame()) != (PONG, b"there?"):
                pass
            answered.set()
            while (frame := link.read_frame())[0] != CLOSE:
                pass
            link.send_frame(*frame)

        def work(event: Text) -> None:
            assert go.wait(PATIENCE)
            seen.append(int(event.text))

        worker = Worker(work, pool, max_events=5)
        app = WebSocketApp(start_peer(script).url)
        app.add_handler(worker)
        with opened(app):
            hurry(app)
            eventually(lambda: worker.counts == (7, 5, 1, 0, 0, 0))  # one more is in the handler
            sent.set()
            assert answered.wait(PATIENCE)
            assert worker.counts.received == 7
            go.set()
            eventually(lambda: len(seen) == 50)
        assert seen == list(range(50))

    def test_the_oldest_is_dropped_counted_and_logged(
        self, by_hand: ByHand, caplog: pytest.LogCaptureFixture
    ) -> None:
        worker = Worker(first, by_hand, key=first, when_full="drop_oldest", max_events=2)
        take(worker, "a0", "b0", "a1", "b1", "b2", *["a2"] * 30, "c1")
        assert worker.counts == (36, 1, 3, 0, 0, 32), "no event of c is running"
        lines = [record.getMessage() for record in caplog.records]
        assert lines[0] == "a worker dropped an event: its inbox is full (drop_oldest)"
        assert len(lines) == 20
        by_hand.at_once = True
        by_hand.run()
        assert texts(by_hand) == ["b0", "c1"]

    def test_a_key_without_events_is_forgotten(self, by_hand: ByHand) -> None:
        worker = Worker(first, by_hand, key=lambda event: event.text, when_full="drop_oldest", max_events=1,
                        parallel=1)
        take(worker, *map(str, range(1000)))
        assert worker.counts == (1000, 1, 1, 0, 0, 998)
        assert len(worker._inbox._queue._turns) == 2
        assert len(worker._inbox._queue._ready) == 1

    def test_latest_keeps_the_latest_of_each_key(self, by_hand: ByHand) -> None:
        seen: list[str] = []
        worker = Worker(lambda event: seen.append(event.text), by_hand, key=first, when_full="latest",
                        max_events=3)
        take(worker, "a0", "b0", "a1", "a2", "a3", "a4", "b1", "b2", "a5")
        assert worker.counts == (9, 3, 2, 0, 0, 4)
        by_hand.at_once = True
        by_hand.run()
        by_hand.run()
        assert sorted(seen) == ["a0", "a4", "a5", "b0", "b2"]

    def test_latest_pauses_if_there_is_no_room_for_one_event_per_key(self, by_hand: ByHand) -> None:
        worker = Worker(first, by_hand, key=first, when_full="latest", max_events=2, parallel=1)
        take(worker, "a1", "b1", "c1")
        other = in_thread(lambda: take(worker, "d1"))
        eventually(lambda: worker.counts.received == 4)
        assert worker.counts == (4, 2, 1, 0, 0, 0)
        by_hand.run()
        other.join(PATIENCE)
        assert worker.counts == (4, 2, 1, 1, 0, 0)

    def test_the_only_event_of_another_key_is_not_dropped(self, by_hand: ByHand) -> None:
        worker = Worker(first, by_hand, key=first, when_full="latest", max_events=2, parallel=1)
        take(worker, "x", "a1", "a2")
        by_hand.run()
        take(worker, "b1")
        other = in_thread(lambda: take(worker, "c1"))
        eventually(lambda: worker.counts.received == 5)
        by_hand.at_once = True
        by_hand.run()
        other.join(PATIENCE)
        assert worker.counts == (5, 0, 0, 5, 0, 0)

    def test_a_key_whose_events_were_dropped_for_a_large_one_keeps_its_turn(
        self, by_hand: ByHand
    ) -> None:
        worker = Worker(first, by_hand, key=first, when_full="latest", max_bytes=10, parallel=1)
        take(worker, "x", "a1", "b" * 8)
        other = in_thread(lambda: take(worker, "a" * 9))
        eventually(lambda: worker.counts.received == 4)  # it has replaced a1, and waits for more room
        by_hand.run()
        other.join(PATIENCE)
        by_hand.run()
        assert texts(by_hand) == ["a" * 9]

    @pytest.mark.usefixtures("restless")
    def test_all_threads_that_wait_for_room_get_it(
        self, pool: ThreadPoolExecutor
    ) -> None:
        worker = Worker(first, pool, key=lambda event: event.text[-1], max_events=1, parallel=2)
        takers = [in_thread(lambda: take(worker, *map(str, range(300)))) for _ in range(3)]
        for taker in takers:
            taker.join(PATIENCE)
        assert worker.drain(PATIENCE)
        assert worker.counts == (900, 0, 0, 900, 0, 0)

    def test_a_key_whose_event_was_replaced_keeps_its_turn(self, by_hand: ByHand) -> None:
        worker = Worker(first, by_hand, key=first, when_full="latest", max_events=2, parallel=1)
        take(worker, "x", "a1", "b1", "a2", "a3")
        by_hand.run()
        assert texts(by_hand) == ["a3"]

    def test_waiting_bytes_are_bounded_too_and_one_event_may_always_wait(self, by_hand: ByHand) -> None:
        worker = Worker(first, by_hand, when_full="drop_oldest", max_bytes=10)
        take(worker, "run", "x" * 100)
        assert worker.counts.waiting == 1
        take(worker, "xxxxx", "xxxxx")
        worker.take(events.Binary(b"x"))
        assert worker.counts.waiting == 2
        assert worker.counts.dropped == 2

    @given(
        st.sampled_from(["drop_oldest", "latest"]),
        st.integers(1, 3),
        st.integers(4, 6),
        st.lists(st.one_of(st.sampled_from("abcd"), st.integers(0, 3)), max_size=60),
    )
    def test_counts_always_add_up_and_keys_stay_in_order(
        self, rule: Any, parallel: int, room: int, steps: list[str | int]
    ) -> None:
        executor, seen = ByHand(), list[str]()
        worker = Worker(lambda event: seen.append(event.text), executor, key=first, when_full=rule,
                        max_events=room, parallel=parallel)
        for number, step in enumerate(steps):
            if isinstance(step, str):
                take(worker, f"{step}{number:02}")
            elif step < len(executor.given):
                executor.run(step)
            counts = worker.counts
            assert counts.received == sum(counts[1:])
            assert counts.running == len(executor.given) <= parallel
            assert counts.waiting <= room
            running = [text[0] for text in texts(executor)]
            assert len(set(running)) == len(running)
        latest = {step: number for number, step in enumerate(steps) if isinstance(step, str)}
        while executor.given:
            executor.run()
        assert worker.counts[1:3] == (0, 0)
        assert not worker._inbox._queue._turns
        assert not worker._inbox.cost
        for key, number in latest.items():
            mine = [text for text in seen if text[0] == key]
            assert mine == sorted(mine)
            assert rule == "drop_oldest" or mine[-1] == f"{key}{number:02}"


class TestFailures:
    def test_exceptions_of_the_work_are_logged_and_in_the_future(
        self, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
    ) -> None:
        done: list[tuple[str, Future[Any]]] = []
        worker = Worker(
            lambda event: 1 / int(event.text), pool, on_done=lambda e, future: done.append((e.text, future))
        )
        take(worker, "0", "2")
        assert worker.drain(PATIENCE)
        assert [text for text, _ in done] == ["0", "2"]
        assert isinstance(done[0][1].exception(), ZeroDivisionError)
        assert done[1][1].result() == 0.5
        assert worker.counts == (2, 0, 0, 1, 1, 0)
        [record] = caplog.records
        assert (record.levelname, record.getMessage()) == ("ERROR", "the work on an event failed: text")
        assert record.exc_info is not None
        assert record.exc_info[0] is ZeroDivisionError

    def test_a_flood_of_failures_does_not_flood_the_log(
        self, by_hand: ByHand, caplog: pytest.LogCaptureFixture
    ) -> None:
        by_hand.at_once = True
        take(Worker(lambda event: int(event.text), by_hand), *["x"] * 100)
        assert len(caplog.records) == 20

    def test_exceptions_of_on_done_are_logged_and_the_work_continues(
        self, by_hand: ByHand, caplog: pytest.LogCaptureFixture
    ) -> None:
        by_hand.at_once = True
        worker = Worker(first, by_hand, on_done=lambda *_: 1 / 0)
        take(worker, "a", "b")
        assert worker.counts.done == 2
        assert [record.getMessage() for record in caplog.records] == [
            "on_done of a worker failed"
        ] * 2

    def test_an_executor_that_is_shut_down_fails_the_rest_at_once(self) -> None:
        pool = ThreadPoolExecutor(1)
        go = threading.Event()
        worker = Worker(lambda _: go.wait(PATIENCE), pool)
        take(worker, "a", "b", "c")
        pool.shutdown(wait=False)
        go.set()
        assert worker.drain(PATIENCE)
        take(worker, "d")
        assert worker.counts == (4, 0, 0, 1, 3, 0)

    def test_an_executor_that_cancels_what_it_has_fails_the_rest(self) -> None:
        pool = ThreadPoolExecutor(1)
        go = threading.Event()
        worker = Worker(lambda _: go.wait(PATIENCE), pool, key=first, parallel=3)
        take(worker, "a", "b", "c", "d", "e")
        # Meanwhile it holds a lock that submit takes, too.
        in_thread(lambda: pool.shutdown(wait=False, cancel_futures=True)).join(PATIENCE)
        go.set()
        assert worker.drain(PATIENCE)
        assert worker.counts == (5, 0, 0, 1, 4, 0)

    def test_work_fails_if_the_executors_threads_cannot_start(self) -> None:
        go = threading.Event()

        def begin() -> None:
            assert go.wait(PATIENCE)
            raise OSError("not today")

        with ThreadPoolExecutor(1, initializer=begin) as pool:
            worker = Worker(first, pool, key=first, parallel=2)
            take(worker, "a", "b", "c", "d")
            go.set()
            assert worker.drain(PATIENCE)
        assert worker.counts == (4, 0, 0, 0, 4, 0)

    def test_cancelled_work_counts_as_failed(self, by_hand: ByHand, caplog: pytest.LogCaptureFixture) -> None:
        worker = Worker(first, by_hand)
        take(worker, "a", "b")
        by_hand._kept[0][0].cancel()
        eventually(lambda: worker.counts == (2, 0, 1, 0, 1, 0))
        assert "the work on an event failed" in caplog.text

    @pytest.mark.parametrize("key", [lambda event: event.json, lambda _: []], ids=["raises", "unhashable"])
    def test_an_event_without_a_valid_key_is_refused(self, key: Any, by_hand: ByHand) -> None:
        worker = Worker(first, by_hand, key=key)
        with pytest.raises((ValueError, TypeError)):
            take(worker, "{nonsense")
        assert worker.counts.received == worker.counts.waiting == 0


class TestProcesses:
    def test_processes_get_copies_of_events_and_a_dead_process_fails_the_rest(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        done: dict[str, Future[Any]] = {}
        with ProcessPoolExecutor(2, get_context("spawn")) as executor:
            worker = Worker(pids, executor, key=first, on_done=lambda e, f: done.update({e.text: f}))
            take(worker, *(f"{key}{number}" for key in "ab" for number in range(20)))
            assert worker.drain(PATIENCE)
            assert worker.counts == (40, 0, 0, 40, 0, 0)
            results = [future.result() for future in done.values()]
            assert {text for text, _ in results} == done.keys()
            assert os.getpid() not in {pid for _, pid in results}
            last = Worker(leave, executor)
            take(last, "x", "y", "z")
            assert last.drain(PATIENCE)
            assert last.counts == (3, 0, 0, 0, 3, 0)
        assert all(record.exc_info and issubclass(record.exc_info[0] or object, BrokenExecutor)
                   for record in caplog.records)


class TestEnd:
    def test_work_continues_after_the_app_has_stopped(
        self, pool: ThreadPoolExecutor, start_peer: StartPeer
    ) -> None:
        go = threading.Event()
        worker = Worker(lambda _: go.wait(PATIENCE), pool)
        app = WebSocketApp(start_peer(telling(20)).url)
        app.add_handler(worker)
        with opened(app):
            eventually(lambda: worker.counts.received == 20)
        assert not worker.drain(0.001)
        go.set()
        assert worker.drain(PATIENCE)
        assert worker.counts.done == 20

    def test_close_releases_a_handler_that_waits_for_room(
        self, by_hand: ByHand, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        worker = Worker(first, by_hand, max_events=3)
        app = WebSocketApp(start_peer(telling(20)).url)
        app.add_handler(worker)
        with opened(app):
            eventually(lambda: worker.counts.received == 5)
            assert worker.close() == 3
            eventually(lambda: worker.counts.received == 20)
        by_hand.run()
        assert worker.counts == (20, 0, 0, 1, 0, 19)
        lines = [record.getMessage() for record in caplog.records]
        assert "a worker was closed and dropped 3 waiting events" in lines
        assert "a worker dropped an event: its inbox was closed" in lines

    def test_after_close_only_running_work_is_finished(self, by_hand: ByHand) -> None:
        worker = Worker(first, by_hand, key=first)
        take(worker, "a1", "a2", "b1")
        assert worker.close() == 1
        by_hand.run()
        by_hand.run()
        assert worker.counts == (3, 0, 0, 2, 0, 1)
        assert not worker._inbox._queue._turns

    def test_the_child_of_a_fork_starts_over(self, by_hand: ByHand) -> None:
        worker = Worker(first, by_hand)
        take(worker, "a", "b")
        with worker._inbox.lock:
            worker.reset_after_fork()
            assert worker.counts == (0, 0, 0, 0, 0, 0)
        take(worker, "c")
        assert texts(by_hand) == ["a", "c"]


class TestTakeOnThreadsOfTheExecutor:
    def test_a_job_without_any_other_queues_beyond_the_limit_and_so_does_on_done(self) -> None:
        done: list[str] = []
        ended: list[Future[Any]] = []

        def work(event: Text) -> None:
            done.append(event.text)
            if event.text == "first":
                take(worker, *"abc")  # the second one does not fit

        def on_done(event: events.Event, future: Future[Any]) -> None:
            ended.append(future)
            if len(ended) == 1:
                take(worker, *"de")

        with ThreadPoolExecutor(1) as executor:
            worker = Worker(work, executor, max_events=1, on_done=on_done)
            worker.take(Text("first"))
            assert worker.drain(PATIENCE)
        assert done == ["first", *"abcde"]
        assert len(ended) == 6

    def test_the_work_waits_while_another_job_can_make_room(self, pool: ThreadPoolExecutor) -> None:
        go, done = threading.Event(), list[str]()

        def work(event: Text) -> None:
            if event.text == "a1":
                take(worker, "b2", "b3")
            elif event.text == "b1":
                assert go.wait(PATIENCE)
            done.append(event.text)

        worker = Worker(work, pool, key=first, max_events=1)
        take(worker, "b1", "a1")
        eventually(lambda: worker.counts.received == 4)
        assert worker.counts == (4, 1, 2, 0, 0, 0)  # b3 is not in the inbox
        go.set()
        assert worker.drain(PATIENCE)
        assert worker.counts == (4, 0, 0, 4, 0, 0)
        assert [text for text in done if text[0] == "b"] == ["b1", "b2", "b3"]

    def test_jobs_never_wait_for_each_other(self, pool: ThreadPoolExecutor) -> None:
        begun = threading.Barrier(3)

        def work(event: Text) -> None:
            if event.text[1] == "1":
                begun.wait(PATIENCE)
                take(worker, *(event.text[0] + number for number in "234"))

        worker = Worker(work, pool, key=first, max_events=1)
        take(worker, "a1", "b1", "c1")
        assert worker.drain(PATIENCE)
        assert worker.counts == (12, 0, 0, 12, 0, 0)

    def test_a_job_that_waits_is_released_when_the_last_other_job_ends_without_making_room(
        self, pool: ThreadPoolExecutor
    ) -> None:
        go = threading.Event()

        def work(event: Text) -> None:
            if event.text == "a1":
                take(worker, "a2", "a3")  # the first one fits, and has to wait for this job
            elif event.text == "b1":
                assert go.wait(PATIENCE)

        worker = Worker(work, pool, key=first, max_events=1)
        take(worker, "b1", "a1")
        eventually(lambda: worker.counts.received == 4)
        assert worker.counts.waiting == 1
        go.set()
        assert worker.drain(PATIENCE)
        assert worker.counts.done == 4

    @pytest.mark.parametrize("where", ["a task of its own", "on_done of another worker"])
    def test_what_else_runs_on_the_executors_threads_waits_for_room(
        self, where: str, pool: ThreadPoolExecutor, by_hand: ByHand
    ) -> None:
        worker, go = Worker(first, by_hand, max_events=1), threading.Event()
        take(worker, "a", "b")
        if where == "a task of its own":
            pool.submit(take, worker, "c")
        else:
            other = Worker(lambda _: go.wait(PATIENCE), pool, on_done=lambda *_: take(worker, "c"))
            take(other, "x")
        go.set()  # on_done would run here if the job had ended before it was known
        eventually(lambda: worker.counts.received == 3)
        assert worker.counts.waiting == 1
        by_hand.run()
        eventually(lambda: worker.counts == (3, 1, 1, 1, 0, 0))

    def test_a_finalizer_in_the_librarys_own_code_never_waits(self) -> None:
        """It may run between any two instructions of a thread that has a job to start or to end."""
        library = {_base.__file__, thread.__file__}
        point = left = 0
        is_reached = True

        def trace(frame: FrameType, event: str, _arg: object) -> Any:
            nonlocal left
            if frame.f_code.co_filename not in library:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                left -= 1
                if not left:
                    take(worker, *"abc")
            return trace

        outer = sys.gettrace()
        trace_once()
        sys.settrace(outer)
        while is_reached:
            point += 1
            left = point
            threading.settrace(trace)
            with ThreadPoolExecutor(1) as pool:
                worker = Worker(first, pool, max_events=1)
                take(worker, "1", "2")
                is_over = worker.drain(PATIENCE)
                threading.settrace(None)  # type: ignore[arg-type]  # the pool's thread began with the trace
                worker.close()
                assert is_over, point
            is_reached = left <= 0
        assert point > 100


class TestWhatIsGiven:
    def test_an_object_gets_the_events_that_it_has_methods_for(
        self, pool: ThreadPoolExecutor, start_peer: StartPeer
    ) -> None:
        class Notes:
            def __init__(self) -> None:
                self.seen: list[str] = []

            def on_ready(self, event: events.Ready) -> None:
                self.seen.append(event.name)

            @on("text")
            def first(self, event: Text) -> None:
                self.seen.append("marked")

            def on_text(self, event: Text) -> None:
                self.seen.append(event.text)

        notes = Notes()
        worker = Worker(notes, pool)
        app = WebSocketApp(start_peer(telling(1)).url)
        app.add_handler(worker)
        with opened(app):
            eventually(lambda: len(notes.seen) == 3)
        assert notes.seen == ["ready", "0", "marked"]

    def test_on_event_of_an_object_is_called_first_and_for_all_events(self, by_hand: ByHand) -> None:
        seen: list[str] = []

        class Notes:
            def on_event(self, event: events.Event) -> None:
                seen.append(event.name)

            def on_text(self, event: Text) -> None:
                seen.append(event.text)

        by_hand.at_once = True
        worker = Worker(Notes(), by_hand)
        worker.take(events.Poll())
        worker.take(Text("x"))
        assert seen == ["poll", "text", "x"]

    def test_the_work_gets_the_payload_instead_of_the_event(self, by_hand: ByHand) -> None:
        worker = Worker(first, by_hand, payload=lambda event: event.text.upper())
        take(worker, "a")
        assert by_hand.given == ["A"]

    def test_a_function_gets_the_events_it_asks_for(
        self, pool: ThreadPoolExecutor, start_peer: StartPeer
    ) -> None:
        seen: list[str] = []
        app = WebSocketApp(start_peer(telling(1)).url)
        app.add_handler(Worker(lambda event: seen.append(event.name), pool, events=["ready", events.Text]))
        app.add_handler(Worker(lambda event: seen.append("binary"), pool, events=["binary"]))
        with opened(app):
            eventually(lambda: len(seen) == 2)
        assert seen == ["ready", "text"]

    @pytest.mark.parametrize(
        ("arguments", "error", "said"),
        [
            ({"executor": None}, TypeError, "executor=None: expected a concurrent.futures.Executor"),
            ({"when_full": "drop"}, ValueError, "when_full='drop': expected one of 'pause'"),
            ({"max_events": 0}, ValueError, "max_events=0"),
            ({"max_bytes": 1.5}, TypeError, "max_bytes=1.5"),
            ({"parallel": 0}, ValueError, "parallel=0"),
            ({"events": "text"}, TypeError, r"events='text': expected several names, such as \['text'\]"),
            ({"events": ["sent"]}, ValueError, "'sent' is not an event"),
            ({"events": []}, TypeError, "needs an event"),
            ({"events": ["message"]}, ValueError, "did you mean 'text'"),
            ({"work": 3}, TypeError, "work=3: expected a function, or an object with methods"),
            ({"work": lambda: None}, TypeError, "cannot be called with one argument"),
            ({"work": type("X", (), {"on_batch": len})()}, TypeError, "on_batch, which a worker does not"),
            ({"work": type("X", (), {"on_text": lambda self, e: e})(), "events": ["text"]}, TypeError,
             "an object receives the events that it has methods for"),
        ],
        ids=str,
    )
    def test_invalid_arguments_are_refused_immediately(
        self, arguments: dict[str, Any], error: type[Exception], said: str
    ) -> None:
        with pytest.raises(error, match=said):
            Worker(**{"work": first, "executor": ByHand(), **arguments})


@pytest.fixture(autouse=True)
def all_lines(caplog: pytest.LogCaptureFixture) -> None:
    """Let tests see every log line."""
    caplog.set_level(logging.DEBUG)
