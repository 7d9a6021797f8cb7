"""The reader: it delivers on its own thread, and has a stand-in while a handler runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from time import sleep

import pytest

from lochws.engine.inbox import Inbox
from lochws.engine.reader import Reader

from ..support.probe import Probe
from ..support.seen import PATIENCE, await_reports, eventually


class Watch:
    """Counts how often the reader has asked to be watched."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> None:
        self.asked += 1


class Away:
    """A handler that runs until the test releases it, and records its arguments."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.seen: list[object] = []

    def __call__(self, items: Sequence[object]) -> None:
        for item in items:
            self.entered.release()
            assert self.go.acquire(timeout=PATIENCE)
            self.seen.append(item)

    def wait(self) -> None:
        """Wait until the handler runs."""
        assert self.entered.acquire(timeout=PATIENCE)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def reader(watch: Watch) -> Iterator[Reader]:
    reader = Reader("lochws-reader-test", watch)
    reader.start()
    yield reader
    reader.stop()
    assert reader.join(PATIENCE)


def flushed(reader: Reader) -> None:
    """Wait until what was posted before has been delivered."""
    done = threading.Event()
    Inbox(lambda _: done.set(), reader.loop.notify).post(["done"])
    assert done.wait(PATIENCE)


def awaited(probe: Probe) -> threading.Semaphore:
    """Count the calls of a probe from now on."""
    called = threading.Semaphore(0)
    probe.act = lambda _: called.release()
    return called


class TestDelivering:
    def test_items_are_handled_in_order_on_one_daemon_thread(self, reader: Reader) -> None:
        seen: list[object] = []
        threads: set[threading.Thread] = set()

        def handle(items: Sequence[object]) -> None:
            seen.extend(items)
            threads.add(threading.current_thread())
            assert reader.is_current

        inbox = Inbox(handle, reader.loop.notify)
        for number in range(1000):
            inbox.post([number])
        done = threading.Event()
        inbox.post([], after=done.set)  # another inbox would have its turn before this one is empty
        assert done.wait(PATIENCE)
        assert seen == list(range(1000))
        (thread,) = threads
        assert thread.daemon
        assert thread.name == "lochws-reader-test"
        assert not reader.is_current

    def test_its_channels_are_moved_between_deliveries(self, reader: Reader) -> None:
        probe = Probe()
        called = awaited(probe)
        reader.loop.add(probe)
        assert called.acquire(timeout=PATIENCE)
        probe.far.sendall(b"hello")
        assert called.acquire(timeout=PATIENCE)
        assert probe.received == b"hello"
        probe.is_finished = True
        reader.loop.touch(probe)

    def test_items_that_a_channel_hands_over_come_before_those_posted_meanwhile(
        self, reader: Reader
    ) -> None:
        seen: list[object] = []
        done = threading.Event()

        def handle(items: Sequence[object]) -> None:
            seen.extend(items)
            assert reader.delivery
            if items == [b"hello"]:
                probe.inbox = None
                inbox.post(["posted"], after=done.set)
                raise KeyError("a defect")

        probe, inbox = Probe(), Inbox(handle, reader.loop.notify)
        called = awaited(probe)
        reader.loop.add(probe)
        assert called.acquire(timeout=PATIENCE)
        probe.inbox = inbox
        probe.far.sendall(b"hello")
        assert done.wait(PATIENCE)
        assert seen == [b"hello", "posted"]
        probe.is_finished = True
        reader.loop.touch(probe)
        flushed(reader)
        assert not inbox.last

    def test_a_defect_in_one_delivery_stops_neither_the_rest_nor_the_reader(
        self, reader: Reader, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[object] = []

        def handle(items: Sequence[object]) -> None:
            if "bad" in items:
                raise ZeroDivisionError
            seen.extend(items)

        inbox = Inbox(handle, reader.loop.notify)
        hold = Away()
        Inbox(hold, reader.loop.notify).post(["hold"])
        hold.wait()
        for item in ("good", "bad", "better"):
            inbox.post([item])
        hold.go.release()
        flushed(reader)
        flushed(reader)
        assert seen == ["good", "better"]
        await_reports()
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    def test_it_asks_to_be_watched_when_it_is_not(self, reader: Reader, watch: Watch) -> None:
        for _ in range(3):
            flushed(reader)
        assert watch.asked == 1
        reader.is_watched = False
        flushed(reader)
        assert watch.asked == 2


class TestStandingIn:
    def test_channels_are_moved_while_a_handler_stays_away(self, reader: Reader) -> None:
        probe, away = Probe(), Away()
        reader.loop.add(probe)
        Inbox(away, reader.loop.notify).post(["slow"])
        away.wait()
        stand_in = threading.Thread(target=reader.stand_in, args=(reader.delivery,))
        called = awaited(probe)
        stand_in.start()
        for _ in range(5):
            probe.far.sendall(b".")
            assert called.acquire(timeout=PATIENCE)
        away.go.release()
        stand_in.join(PATIENCE)  # the reader takes the baton back
        assert not stand_in.is_alive()
        probe.far.sendall(b"!")
        eventually(lambda: probe.received == b".....!")
        probe.is_finished = True
        reader.loop.touch(probe)

    def test_a_delivery_that_has_ended_gets_no_stand_in(self, reader: Reader) -> None:
        flushed(reader)
        reader.stand_in(1)
        reader.stand_in(0)

    def test_a_clock_that_raises_leaves_the_baton_to_the_reader(
        self, reader: Reader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken:
            def monotonic(self) -> float:
                raise ZeroDivisionError

        away = Away()
        Inbox(away, reader.loop.notify).post(["slow"])
        away.wait()
        monkeypatch.setattr(reader.loop, "clock", Broken())
        with pytest.raises(ZeroDivisionError):
            reader.stand_in(reader.delivery)
        monkeypatch.undo()
        assert reader.loop.lent
        away.go.release()
        flushed(reader)

    def test_what_is_posted_meanwhile_waits_and_is_delivered_in_order(self, reader: Reader) -> None:
        away, probe = Away(), Probe()
        inbox = Inbox(away, reader.loop.notify)
        inbox.post(["slow"])
        away.wait()
        probe.act = lambda name: inbox.post([name])  # as a connection does, with the baton held
        stand_in = threading.Thread(target=reader.stand_in, args=(reader.delivery,))
        stand_in.start()
        reader.loop.add(probe)
        for _ in range(3):
            reader.loop.touch(probe)
        away.go.release()
        for _ in range(4):
            away.wait()
            away.go.release()
        stand_in.join(PATIENCE)
        flushed(reader)
        assert away.seen == ["slow", "start", "touch", "touch", "touch"]
        probe.act = lambda _: None
        probe.is_finished = True
        reader.loop.touch(probe)

    def test_the_baton_is_never_held_twice(self, reader: Reader) -> None:
        # Short handlers, half of which turn the loop, and two threads that stand in for all of them.
        probe = Probe()
        inside = threading.Lock()
        overlaps: list[str] = []

        def act(name: str) -> None:
            if not inside.acquire(blocking=False):
                overlaps.append(name)
                return
            sleep(0)  # other threads may run
            inside.release()

        probe.act = act
        reader.loop.add(probe)
        stopping = threading.Event()

        def stand_in() -> None:
            while not stopping.is_set():
                reader.stand_in(reader.delivery)

        eager = [threading.Thread(target=stand_in) for _ in range(2)]
        for thread in eager:
            thread.start()
        waiting = Inbox(lambda _: reader.turn_for_handler(lambda: True, 0.0), reader.loop.notify)
        for _ in range(100):
            reader.loop.touch(probe)
            waiting.post(["waits"])
            reader.loop.touch(probe)
            flushed(reader)
        stopping.set()
        reader.loop.wake()
        for thread in eager:
            thread.join(PATIENCE)
        assert overlaps == []
        probe.is_finished = True
        reader.loop.touch(probe)

    def test_a_handler_that_stays_away_for_long_is_logged_with_its_stack(
        self, reader: Reader, caplog: pytest.LogCaptureFixture
    ) -> None:
        logged = threading.Semaphore(0)

        class Counting(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                logged.release()

        reader.stuck = 0.01
        away = Away()
        counting = Counting()
        logging.getLogger("lochws").addHandler(counting)
        try:
            Inbox(away, reader.loop.notify).post(["slow"])
            away.wait()
            stand_in = threading.Thread(target=reader.stand_in, args=(reader.delivery,))
            stand_in.start()
            for _ in range(3):
                assert logged.acquire(timeout=PATIENCE)
            away.go.release()
            stand_in.join(PATIENCE)
        finally:
            logging.getLogger("lochws").removeHandler(counting)
        await_reports()
        texts = [record.getMessage() for record in caplog.records]
        assert all(record.levelno == logging.WARNING for record in caplog.records)
        assert "lochws-reader-test have been running for more than 0.01 s" in texts[0]
        assert "0.02 s" in texts[1]
        assert "0.04 s" in texts[2]
        assert any("in __call__" in text and "self.go.acquire" in text for text in texts)


class TestEnding:
    def test_it_ends_when_its_last_channel_has_gone_and_all_was_delivered(self, watch: Watch) -> None:
        reader = Reader("lochws-reader-test", watch)
        probe = Probe()
        seen: list[object] = []
        called = awaited(probe)
        reader.loop.add(probe)
        reader.start()
        assert called.acquire(timeout=PATIENCE)
        reader.stop()
        assert not reader.join(0.01)
        inbox = Inbox(seen.extend, reader.loop.notify)
        inbox.post(["last"])
        probe.is_finished = True
        reader.loop.touch(probe)
        assert reader.join(PATIENCE)
        assert seen == ["last"]
        assert probe.closed

    def test_it_does_not_wait_for_itself(self, reader: Reader) -> None:
        joined: list[bool] = []
        Inbox(lambda _: joined.append(reader.join()), reader.loop.notify).post(["x"])
        flushed(reader)
        assert joined == [False]

    def test_after_its_end_there_is_no_stand_in_and_waking_does_nothing(self, watch: Watch) -> None:
        reader = Reader("lochws-reader-test", watch)
        reader.start()
        reader.stop()
        assert reader.join(PATIENCE)
        reader.stand_in(0)
        reader.loop.wake()


def test_the_reader_ends_quietly_in_the_child_of_a_handler_that_forks_while_other_inboxes_wait(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", errors.append)
    reader = Reader("lochws-reader-test", watch)
    seen: list[object] = []
    Inbox(lambda _: reader.reset_after_fork(), reader.loop.notify).post(["fork"])  # as in the child
    Inbox(seen.extend, reader.loop.notify).post(["the parent handles this"])
    reader.start()
    assert reader.join(PATIENCE)
    assert not errors
    assert not seen
    assert not reader.delivery


@pytest.mark.parametrize("has_failed", [False, True])
def test_the_reader_ends_quietly_in_the_child_of_a_finalizer_that_forks_during_a_turn(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, has_failed: bool
) -> None:
    errors: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", errors.append)
    reader, probe = Reader("lochws-reader-test", watch), Probe()

    def fork(_name: str) -> None:
        reader.reset_after_fork()  # as in the child
        probe.is_finished = True
        if has_failed:
            reader.fail(ZeroDivisionError())

    probe.act = fork
    reader.loop.add(probe)
    reader.start()
    assert reader.join(PATIENCE)
    assert not errors
    assert probe.closed
