"""When Poll events are due, and that none is made which nobody would see."""

from __future__ import annotations

import threading

import pytest

from lochws import WebSocketApp, events
from lochws.polls import Polls

from .apps import echo, opened
from .peer import StartPeer
from .seen import PATIENCE, eventually


class TestBeat:
    """`Polls`, told the time."""

    def test_the_first_is_due_at_the_start_and_then_one_each_period(self) -> None:
        polls = Polls(5.0)
        assert polls.start(100.0)
        assert polls.deadline == 105.0
        assert not polls.is_due(104.9)
        assert polls.is_due(105.0)
        assert polls.deadline == 110.0

    def test_without_a_period_there_are_none(self) -> None:
        polls = Polls(0)
        assert not polls.start(100.0)
        assert polls.deadline is None
        assert not polls.is_due(1000.0)
        polls.go_on(2000.0)
        assert polls.deadline is None

    def test_those_that_were_missed_are_not_made_up_for(self) -> None:
        polls = Polls(5.0)
        polls.start(100.0)
        assert polls.is_due(127.0)
        assert polls.deadline == 127.0
        assert polls.is_due(127.0)
        assert polls.deadline == 132.0

    @pytest.mark.parametrize(
        ("now", "next_one"), [(105.0, 110.0), (106.0, 110.0), (110.0, 115.0), (123.0, 125.0)]
    )
    def test_after_a_rest_the_beat_is_the_same(self, now: float, next_one: float) -> None:
        polls = Polls(5.0)
        polls.start(100.0)
        assert polls.is_due(105.0)
        polls.rest()
        assert polls.deadline is None
        assert not polls.is_due(now)
        polls.go_on(now)
        assert polls.deadline == next_one

    def test_what_does_not_rest_is_not_put_off(self) -> None:
        polls = Polls(5.0)
        polls.start(100.0)
        polls.go_on(104.0)
        assert polls.deadline == 105.0


class TestSeen:
    """Poll events of an app."""

    def test_a_poll_that_nobody_would_see_is_not_made(
        self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[events.Event] = []
        pongs = threading.Semaphore(0)

        class Counted(events.Poll):
            def __init__(self) -> None:
                super().__init__()
                made.append(self)

        monkeypatch.setattr(events, "Poll", Counted)
        app = WebSocketApp(start_peer(echo).url)
        app.on("pong")(lambda _: pongs.release())
        with opened(app, poll=0.001, ping_rate=0.01):
            for _ in range(5):
                assert pongs.acquire(timeout=PATIENCE)
        # The first comes with Ready, whose handlers may still ask for the others.
        assert len(made) == 1

    def test_the_reader_is_not_called_for_pongs_that_nobody_would_see(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(echo).url)
        with opened(app, poll=0, ping_rate=0.005):
            crew = app._lifecycle._crew
            assert crew is not None
            eventually(lambda: not crew.reader.loop.has_mail)
            before, received = crew.reader.deliveries, app.counters.bytes_received
            eventually(lambda: app.counters.bytes_received > received + 50)
            assert crew.reader.deliveries == before
            assert app.latency is not None

    @pytest.mark.parametrize("name", ["poll", "event"])
    def test_a_handler_that_comes_late_gets_them(self, start_peer: StartPeer, name: str) -> None:
        seen = threading.Semaphore(0)
        pongs = threading.Semaphore(0)
        app = WebSocketApp(start_peer(echo).url)
        app.on("pong")(lambda _: pongs.release())
        with opened(app, poll=0.001, ping_rate=0.01):
            for _ in range(3):
                assert pongs.acquire(timeout=PATIENCE)
            app.on(name)(lambda event: seen.release() if isinstance(event, events.Poll) else None)
            for _ in range(3):
                assert seen.acquire(timeout=PATIENCE)

    def test_an_object_that_comes_late_gets_them_without_another_timer(self, start_peer: StartPeer) -> None:
        seen = threading.Semaphore(0)

        class Handler:
            def on_poll(self, _: events.Poll) -> None:
                seen.release()

        app = WebSocketApp(start_peer(echo).url)
        with opened(app, poll=0.02, ping_rate=0):
            connection = app._lifecycle.connection
            assert connection is not None
            eventually(lambda: connection._polls.deadline is None)
            app.add_handler(Handler())
            assert seen.acquire(timeout=PATIENCE)

    def test_a_handler_that_ready_adds_gets_the_first(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(echo).url)
        seen = threading.Event()
        app.on("ready")(lambda _: app.on("poll")(lambda _: seen.set()))
        with opened(app, poll=1000):
            assert seen.wait(PATIENCE)
