"""Poll events: when they are due, and that none is created without a handler for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lochws import WebSocketApp, events
from lochws.connection.poll_timer import PollTimer
from lochws.testing import StartServer, VirtualClock

from ..support.apps import opened
from ..support.seen import PATIENCE


class TestBeat:
    """`Polls`, told the time."""

    def test_the_first_is_due_at_the_start_and_then_one_each_period(self) -> None:
        polls = PollTimer(5.0)
        assert polls.start(100.0)
        assert polls.deadline == 105.0
        assert not polls.is_due(104.9)
        assert polls.is_due(105.0)
        assert polls.deadline == 110.0

    def test_without_a_period_there_are_none(self) -> None:
        polls = PollTimer(0)
        assert not polls.start(100.0)
        assert polls.deadline is None
        assert not polls.is_due(1000.0)
        polls.go_on(2000.0)
        assert polls.deadline is None

    def test_those_that_were_missed_are_not_made_up_for(self) -> None:
        polls = PollTimer(5.0)
        polls.start(100.0)
        assert polls.is_due(127.0)
        assert polls.deadline == 127.0
        assert polls.is_due(127.0)
        assert polls.deadline == 132.0

    @pytest.mark.parametrize(
        ("now", "next_one"), [(105.0, 110.0), (106.0, 110.0), (110.0, 115.0), (123.0, 125.0)]
    )
    def test_after_a_rest_the_beat_is_the_same(self, now: float, next_one: float) -> None:
        polls = PollTimer(5.0)
        polls.start(100.0)
        assert polls.is_due(105.0)
        polls.rest()
        assert polls.deadline is None
        assert not polls.is_due(now)
        polls.go_on(now)
        assert polls.deadline == next_one

    def test_what_does_not_rest_is_not_put_off(self) -> None:
        polls = PollTimer(5.0)
        polls.start(100.0)
        polls.go_on(104.0)
        assert polls.deadline == 105.0


class TestSeen:
    """Poll events of an app."""

    @pytest.fixture
    def app(self, ws_server: StartServer, ws_clock: VirtualClock) -> Iterator[WebSocketApp]:
        app = WebSocketApp(ws_server().url)
        with opened(app, poll=5, ping_rate=60):
            yield app

    def test_one_comes_each_period(self, ws_server: StartServer, ws_clock: VirtualClock) -> None:
        polls: list[float] = []
        app = WebSocketApp(ws_server().url)
        app.on("poll")(lambda _: polls.append(ws_clock.monotonic()))
        with opened(app, poll=5):
            began = ws_clock.monotonic()
            ws_clock.advance(20)
        assert polls == [began + 5 * number for number in range(5)]

    def test_a_poll_that_nobody_would_see_is_not_made(
        self, ws_server: StartServer, ws_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[events.Event] = []

        class Counted(events.Poll):
            def __init__(self) -> None:
                super().__init__()
                made.append(self)

        monkeypatch.setattr(events, "Poll", Counted)
        with opened(WebSocketApp(ws_server().url), poll=5):
            ws_clock.advance(600)
        # The first comes with Ready, whose handlers may still ask for the others.
        assert len(made) == 1

    def test_the_reader_is_not_called_for_pongs_that_nobody_would_see(
        self, app: WebSocketApp, ws_clock: VirtualClock
    ) -> None:
        crew = app._lochws.life._crew
        assert crew is not None
        ws_clock.settle()
        before, received = crew.reader.deliveries, app.counters.bytes_received
        ws_clock.advance(600)
        assert app.counters.bytes_received > received
        assert crew.reader.deliveries == before
        assert app.latency == 0.0

    @pytest.mark.parametrize("name", ["poll", "event"])
    def test_a_handler_that_comes_late_gets_them(
        self, app: WebSocketApp, ws_clock: VirtualClock, name: str
    ) -> None:
        seen: list[events.Event] = []
        ws_clock.advance(100)
        app.on(name)(lambda event: seen.append(event) if isinstance(event, events.Poll) else None)
        ws_clock.advance(100)
        assert len(seen) == 20

    def test_an_object_that_comes_late_gets_them_without_another_timer(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        seen: list[events.Event] = []

        class Handler:
            def on_poll(self, event: events.Poll) -> None:
                seen.append(event)

        app = WebSocketApp(ws_server().url)
        with opened(app, poll=5, ping_rate=0):
            ws_clock.advance(100)
            assert ws_clock.settle() is None
            app.add_handler(Handler())
            ws_clock.advance(100)
        assert len(seen) == 20

    def test_a_handler_that_ready_adds_gets_the_first(self, ws_server: StartServer) -> None:
        app = WebSocketApp(ws_server().url)
        seen = threading.Event()
        app.on("ready")(lambda _: app.on("poll")(lambda _: seen.set()))
        with opened(app, poll=1000):
            assert seen.wait(PATIENCE)
