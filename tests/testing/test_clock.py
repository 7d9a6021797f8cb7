"""The virtual clock: what goes by it, what it waits for, and what it says if there is no rest."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from lochws import Backoff, Threads, WebSocketApp, clock
from lochws import testing as t
from lochws.testing import clock as clock_module
from lochws.testing.clock import VirtualClock

from ..support.apps import opened, running
from ..support.interrupting import enter
from ..support.seen import PATIENCE, Noting

HALF_A_MINUTE = Backoff(min_wait=30.0, max_wait=30.0)


@pytest.fixture
def virtual() -> Iterator[VirtualClock]:
    virtual = VirtualClock()
    with clock.using(virtual):
        yield virtual
    virtual.release()


class TestWhatPasses:
    def test_a_back_off_of_half_a_minute_ends_after_exactly_that_time(
        self, virtual: VirtualClock
    ) -> None:
        with t.ScriptedServer([t.accept(), t.fin()], [t.accept(), t.echo()]) as server:
            app = Noting(server.url)
            with running(app, persist=HALF_A_MINUTE):
                app.wait_for("back_off")
                virtual.advance(29.999)
                assert app.names()[-1] == "back_off"
                virtual.advance(0.001)
                assert app.names("ping", "pong", "poll")[-1] == "ready"

    def test_when_it_returns_pings_have_been_answered_and_the_answers_handled(
        self, virtual: VirtualClock
    ) -> None:
        with t.ScriptedServer() as server, opened(Noting(server.url), poll=0, ping_rate=20) as app:
            virtual.settle()
            for pongs in range(1, 6):
                assert (len(app.all("pong")), len(server.connection().pings)) == (pongs, pongs)
                virtual.advance(20)

    def test_a_long_time_passes_from_ping_to_ping_and_nothing_times_out(self, virtual: VirtualClock) -> None:
        with t.ScriptedServer() as server, opened(Noting(server.url), poll=0, ping_rate=30) as app:
            virtual.advance(600)
            assert len(app.all("pong")) == 21
            assert app.is_active

    def test_a_server_that_does_not_answer_pings_is_given_up_after_the_ping_timeout(
        self, virtual: VirtualClock
    ) -> None:
        with t.ScriptedServer([t.accept(), t.silence()]) as server, opened(Noting(server.url)) as app:
            virtual.advance(59.9)
            assert app.is_active
            virtual.advance(0.1)
            assert app.all("disconnected")[0].reason == "ping timeout: nothing from the server for 60 s"

    def test_scripted_seconds_pass_with_it(self, virtual: VirtualClock) -> None:
        script = [t.accept(), t.answer_ping(late=50), t.pause(3600), t.send("an hour later")]
        with t.ScriptedServer(script) as server, opened(Noting(server.url), poll=0, ping_rate=1800) as app:
            virtual.advance(49)
            assert not app.all("pong")
            virtual.advance(1)
            assert len(app.all("pong")) == 1
            virtual.advance(3549)
            assert not app.all("text")
            virtual.advance(1)
            assert app.all("text")[0].text == "an hour later"

    def test_the_close_timeout_passes_with_it(self, virtual: VirtualClock) -> None:
        with t.ScriptedServer([t.accept(), t.ignore_close()]) as server:
            app = Noting(server.url)
            with running(app, close_timeout=30):
                assert app.wait_ready(PATIENCE)
                app.close()
                virtual.advance(29)
                assert not app.is_closed
                virtual.advance(1)
                assert app.wait_closed(PATIENCE)
        assert "within 30 s" in app.all("disconnected")[0].reason

    def test_a_stop_that_takes_time_ends_while_time_is_passing(self, virtual: VirtualClock) -> None:
        with t.ScriptedServer([t.accept(), t.ignore_close()]) as server:
            app = Noting(server.url)
            app.start(close_timeout=300)
            assert app.wait_ready(PATIENCE)
            began = monotonic()
            with virtual.passing():
                assert app.stop(PATIENCE)
            assert monotonic() - began < PATIENCE

    def test_call_later_goes_by_it(self, virtual: VirtualClock) -> None:
        with t.ScriptedServer() as server, opened(Noting(server.url), poll=0, ping_rate=0) as app:
            called: list[float] = []
            app.call_later(3600, lambda: called.append(virtual.monotonic()))
            began = virtual.monotonic()
            virtual.advance(3599)
            assert not called
            virtual.advance(7200)
            assert called == [began + 3600]

    def test_it_can_advance_to_the_next_moment_at_which_something_is_due(self, virtual: VirtualClock) -> None:
        with t.ScriptedServer([t.accept(), t.fin()]) as server:
            app = Noting(server.url)
            with running(app, persist=HALF_A_MINUTE):
                app.wait_for("back_off")
                assert virtual.advance_to_next() == 30
                assert len(app.all("connecting")) == 2

    def test_a_sleep_of_the_machine_has_every_connection_ping_at_once(self, virtual: VirtualClock) -> None:
        with t.ScriptedServer() as server, opened(Noting(server.url), poll=0, ping_rate=30) as app:
            virtual.advance(10)
            assert len(app.all("pong")) == 1
            before = virtual.monotonic(), virtual.wall()
            virtual.suspend(3600)
            assert len(app.all("pong")) == 2
            assert (virtual.monotonic(), virtual.wall()) == (before[0], before[1] + 3600)

    def test_passing_time_is_not_taken_for_a_suspended_machine(self, virtual: VirtualClock) -> None:
        with t.ScriptedServer() as server, opened(Noting(server.url), poll=0, ping_rate=1000) as app:
            virtual.advance(999)
            assert len(app.all("pong")) == 1


class TestWhoGoesByIt:
    def test_apps_started_while_it_is_in_use_go_by_it_also_on_older_threads(self) -> None:
        virtual, shared = VirtualClock(), Threads()
        with t.ScriptedServer([t.accept(), t.fin()]) as server:
            app = Noting(server.url, threads=shared)
            with clock.using(virtual):
                app.start(persist=HALF_A_MINUTE)
            with running(Noting("ws://127.0.0.1:1/")) as other:  # by the machine's clock
                other.wait_for("connect_fail")
            app.wait_for("back_off")
            virtual.advance(30)
            assert len(app.all("connecting")) == 2
            assert app.stop(PATIENCE)

    def test_threads_can_be_made_with_it(self) -> None:
        virtual = VirtualClock()
        app = Noting("ws://127.0.0.1:1/", threads=Threads(clock=virtual))
        with running(app, persist=HALF_A_MINUTE):
            app.wait_for("back_off")
            virtual.advance(60)
            assert len(app.all("connecting")) == 3

    def test_after_the_block_the_previous_clock_is_in_use_again(self) -> None:
        before = clock.current()
        with pytest.raises(ZeroDivisionError), clock.using(VirtualClock()):
            raise ZeroDivisionError
        assert clock.current() is before

    def test_once_released_it_passes_by_itself(self) -> None:
        virtual = VirtualClock()
        with t.ScriptedServer() as server:
            app = Noting(server.url, threads=Threads(clock=virtual))
            with opened(app, poll=0.02):
                polls = len(app.all("poll"))
                virtual.release()
                app.wait_for("poll", polls + 2)


class TestRest:
    """The conditions for which `advance` waits."""

    def test_if_the_threads_do_not_come_to_rest_it_shows_their_stacks(self, virtual: VirtualClock) -> None:
        go_on, entered = threading.Event(), threading.Event()

        def wait_for_the_test(event: object) -> None:
            entered.set()
            assert go_on.wait(PATIENCE)

        hasty = VirtualClock(patience=0.05)
        with t.ScriptedServer() as server:
            app = WebSocketApp(server.url, threads=Threads(clock=hasty))
            app.on("ready")(wait_for_the_test)
            with running(app):
                assert entered.wait(PATIENCE)
                with pytest.raises(AssertionError, match=r"(?s)become idle.* 0\.05 s:.*for_the_test"):
                    hasty.advance(1)
                go_on.set()

    def test_it_can_pass_while_a_handler_blocks_and_the_connection_lives_on(
        self, virtual: VirtualClock
    ) -> None:
        go_on = threading.Event()

        class Slow(Noting):
            def on_text(self, event: Any) -> None:
                assert go_on.wait(PATIENCE)

        with t.ScriptedServer() as server, opened(Slow(server.url), poll=0, ping_rate=10) as app:
            app.send_text("wait")
            app.wait_for("text")
            virtual.advance(60, handlers=False)
            assert len(server.connection().pings) >= 6
            go_on.set()
            virtual.settle()
            assert len(app.all("pong")) >= 6
            assert app.is_active

    def test_messages_on_their_way_and_their_handlers_are_waited_for(self, virtual: VirtualClock) -> None:
        with t.ScriptedServer() as server, opened(Noting(server.url), poll=0, ping_rate=0) as app:
            for number in range(1, 21):
                app.send_many([f"{part}" for part in range(20)])
                virtual.settle()
                assert len(app.all("text")) == 20 * number

    @pytest.mark.parametrize("method", ["advance", "suspend"])
    @pytest.mark.parametrize("seconds", [-1.0, float("nan")])
    def test_time_is_not_set_back(self, method: str, seconds: float, virtual: VirtualClock) -> None:
        with pytest.raises(ValueError, match="expected a number of at least 0"):
            getattr(virtual, method)(seconds)


class Resting:
    """Something that waits for no deadline.

    Attributes:
        wakes: how often it was told that the clock had moved.
    """

    def __init__(self) -> None:
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1

    def rest(self, *, handlers: bool) -> clock.Rest:
        return clock.Rest(0, None)


def attended_in_the_middle(point: int) -> bool:
    """Move a clock, and have it attend to something at a given bytecode. Return whether that was reached."""
    virtual, first, second = VirtualClock(patience=PATIENCE), Resting(), Resting()

    def use() -> None:
        virtual.attend(first)
        virtual.advance(1)

    is_reached = enter(use, point, {clock_module.__file__}, lambda: virtual.attend(second))
    first.wakes = second.wakes = 0
    virtual.advance(1)
    assert (first.wakes, second.wakes) == (1, is_reached)
    return is_reached


def test_an_app_may_be_started_by_a_signal_handler_whatever_the_clock_is_doing() -> None:
    points: list[int] = []

    def run() -> None:
        while attended_in_the_middle(len(points) + 1):
            points.append(len(points) + 1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(2 * PATIENCE)
    assert not thread.is_alive(), f"it hangs at {len(points) + 1}"
    assert len(points) > 100


def test_what_has_ended_is_not_kept_alive() -> None:
    virtual, one = VirtualClock(), Resting()
    virtual.attend(one)
    virtual.attend(one)
    assert len(virtual._attended) == 1
    del one
    gc.collect()
    assert not virtual._attended
