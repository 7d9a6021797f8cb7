"""Message budgets of apps and iterations: a server that limits messages per second never sees too many."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from lochws import Backoff, Rate, Threads, WebSocket, WebSocketApp, events
from lochws import testing as t
from lochws.handlers.subscriptions import Step, Subscriptions
from lochws.testing import LogEvents, StartServer, VirtualClock

from ..support.apps import AT_ONCE, App, opened, running
from ..support.judge import Judge
from ..support.peer import Peer, StartPeer
from ..support.seen import PATIENCE, Noting, eventually

#: No messages or frames of its own.
QUIET = {"poll": 0, "ping_rate": 0}
#: A server that receives everything, answers pings and Close frames, and sends nothing else.
MUTE = [t.accept()]


@contextmanager
def with_messages(app: App, **options: Any) -> Iterator[App]:
    """Open an app, and drop its connection at the end: time stands still for messages that still wait."""
    with opened(app, **{**QUIET, **options}):
        try:
            yield app
        finally:
            app.force_disconnect()


def numbered(count: int, start: int = 0) -> list[str]:
    return [str(number) for number in range(start, start + count)]


class TestOnAVirtualClock:
    """The times at which messages are sent, to the millisecond."""

    def test_messages_over_budget_leave_in_order_when_the_window_opens(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server(MUTE)
        with with_messages(WebSocketApp(server.url, rate=Rate(5, per=60.0, margin=0))) as app:
            app.send_many(numbered(7))
            for text in numbered(5, 7):
                app.send_text(text)
            assert app.queued_for == 120.0
            ws_clock.advance(59.9)
            assert server.connection().messages == numbered(5)
            ws_clock.advance(0.1)
            assert server.connection().messages == numbered(10)
            assert app.queued_for == 60.0
            ws_clock.advance(60)
            assert server.connection().messages == numbered(12)
            assert app.queued_for == 0.0
            assert app.queued_bytes == 0

    def test_apps_on_shared_threads_each_have_their_own_budget(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server(MUTE)
        shared = Threads()
        first = WebSocketApp(server.url, threads=shared, rate=Rate(1, per=10.0, margin=0))
        second = WebSocketApp(server.url, threads=shared, rate=Rate(2, per=20.0, margin=0))
        with with_messages(first), with_messages(second):
            first.send_many(numbered(4))
            second.send_many(numbered(4))
            ws_clock.advance(19.9)
            assert [len(server.connection(number).messages) for number in (0, 1)] == [2, 2]
            ws_clock.advance(0.1)
            assert [len(server.connection(number).messages) for number in (0, 1)] == [3, 4]

    def test_what_waits_when_the_connection_ends_is_unsent(
        self, ws_server: StartServer, ws_clock: VirtualClock, ws_events: LogEvents
    ) -> None:
        app = WebSocketApp(ws_server(MUTE).url, rate=Rate(2, per=60.0))
        log = ws_events(app)
        with with_messages(app):
            app.send_many(numbered(5))
            ws_clock.settle()
            app.force_disconnect()
            assert log.wait_for(events.Disconnected).unsent == ("2", "3", "4")
            assert app.queued_for == 0.0

    def test_handlers_of_sent_are_told_when_a_message_leaves(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        app = WebSocketApp(ws_server(MUTE).url, rate=Rate(1, per=60.0, margin=0))
        told: list[tuple[float, object]] = []
        app.on("sent")(lambda sent: told.extend((ws_clock.monotonic(), item) for item in sent))
        with with_messages(app):
            began = ws_clock.monotonic()
            app.send_many(["a", "b"])
            ws_clock.advance(60)
            assert told == [(began, "a"), (began + 60, "b")]

    @pytest.mark.parametrize(("scope", "at_once"), [("connection", 5), ("client", 0)])
    def test_a_new_connection_begins_with_the_full_limit_unless_the_client_is_counted(
        self, scope: str, at_once: int, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server(MUTE)
        rate = Rate(5, per=60.0, margin=0, scope=scope)  # type: ignore[arg-type]
        with with_messages(Noting(server.url, rate=rate), persist=AT_ONCE) as app:
            app.send_many(numbered(5))
            ws_clock.advance(10)
            app.reconnect()
            app.wait_for("ready", 2)
            assert app.wait_ready(PATIENCE)
            app.send_many(numbered(5))
            ws_clock.settle()
            assert len(server.connection(1).messages) == at_once
            ws_clock.advance(50)
            assert server.connection(1).messages == numbered(5)


class TestControlFrames:
    def test_a_ping_that_waits_for_the_budget_does_not_time_out(
        self, ws_server: StartServer, ws_clock: VirtualClock, ws_events: LogEvents
    ) -> None:
        server = ws_server(MUTE)
        app = WebSocketApp(server.url, rate=Rate(1, per=100.0, margin=0, counts="frames"))
        log = ws_events(app)
        with with_messages(app, ping_rate=30, ping_timeout=10):
            log.wait_for(events.Pong)  # the first ping takes the budget
            ws_clock.advance(99)
            assert len(server.connection().pings) == 1
            assert app.is_active
            ws_clock.advance(1)
            assert len(server.connection().pings) == 2
            log.wait_for(events.Pong)
            ws_clock.advance(99)
            assert app.is_active

    def test_pings_are_answered_before_messages_that_wait(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server(MUTE)
        rate = Rate(1, per=10.0, margin=0, counts="frames")
        with with_messages(WebSocketApp(server.url, rate=rate)) as app:
            app.send_many(numbered(100))
            for number in range(50):
                server.connection().do(t.ping(str(number).encode()))
            ws_clock.advance(10)
            assert server.connection().pongs == [b"49"]
            assert server.connection().messages == ["0"]
            ws_clock.advance(10)
            assert server.connection().messages == numbered(2)

    def test_a_pong_is_free_if_messages_are_counted(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server(MUTE)
        with with_messages(WebSocketApp(server.url, rate=Rate(1, per=10.0))) as app:
            app.send_many(numbered(100))
            server.connection().do(t.ping(b"there?"))
            ws_clock.settle()
            assert server.connection().pongs == [b"there?"]


class TestClosing:
    def test_close_lets_messages_go_first_for_half_of_its_time(
        self, ws_server: StartServer, ws_clock: VirtualClock, ws_events: LogEvents
    ) -> None:
        server = ws_server(MUTE)
        app = WebSocketApp(server.url, rate=Rate(1, per=10.0, margin=0))
        log = ws_events(app)
        with with_messages(app, close_timeout=30):
            app.send_many(numbered(100))
            app.close()
            ws_clock.advance(14.9)
            assert server.connection().messages == numbered(2)
            assert server.connection().close_frame is None
            ws_clock.advance(0.1)
            end = log.wait_for(events.Disconnected)
            assert end.graceful
            assert end.unsent == tuple(numbered(98, 2))
            assert server.connection().close_frame == (1000, "goodbye")

    def test_close_lets_all_messages_go_first_if_there_is_time(
        self, ws_server: StartServer, ws_clock: VirtualClock, ws_events: LogEvents
    ) -> None:
        server = ws_server(MUTE)
        app = WebSocketApp(server.url, rate=Rate(1, per=10.0, margin=0))
        log = ws_events(app)
        with with_messages(app, close_timeout=30):
            app.send_many(numbered(2))
            app.close()
            ws_clock.advance(10)
            end = log.wait_for(events.Disconnected)
            assert (end.graceful, end.unsent) == (True, ())
            assert server.connection().messages == numbered(2)

    def test_without_a_limit_of_time_close_waits_for_all_messages(
        self, ws_server: StartServer, ws_clock: VirtualClock, ws_events: LogEvents
    ) -> None:
        server = ws_server(MUTE)
        app = WebSocketApp(server.url, rate=Rate(1, per=10.0, margin=0))
        log = ws_events(app)
        with with_messages(app, close_timeout=None):
            app.send_many(numbered(50))
            app.close()
            ws_clock.advance(489)
            assert server.connection().close_frame is None
            ws_clock.advance(1)
            end = log.wait_for(events.Disconnected)
            assert (end.graceful, end.unsent) == (True, ())
            assert server.connection().messages == numbered(50)

    @pytest.mark.parametrize("closes_first", [False, True], ids=["server first", "both"])
    def test_the_servers_close_frame_is_answered_immediately(
        self, closes_first: bool, ws_server: StartServer, ws_clock: VirtualClock, ws_events: LogEvents
    ) -> None:
        server = ws_server(MUTE)
        app = WebSocketApp(server.url, rate=Rate(1, per=1000.0))
        log = ws_events(app)
        with with_messages(app):
            app.send_many(numbered(3))
            if closes_first:
                app.close()
                ws_clock.settle()
            server.connection().do(t.close(1001, "restart"))
            end = log.wait_for(events.Disconnected)
            assert (end.graceful, end.unsent, end.received_code) == (True, ("1", "2"), 1001)

    def test_a_close_frame_that_counts_waits_for_its_place(
        self, ws_server: StartServer, ws_clock: VirtualClock, ws_events: LogEvents
    ) -> None:
        server = ws_server(MUTE)
        app = WebSocketApp(server.url, rate=Rate(1, per=4.0, margin=0, counts="frames"))
        log = ws_events(app)
        with with_messages(app, close_timeout=10):
            app.send_many(numbered(9))
            app.close()
            ws_clock.advance(7.9)
            assert server.connection().messages == numbered(2)
            assert server.connection().close_frame is None
            ws_clock.advance(0.1)  # at 5 it may overtake, and at 8 there is room
            end = log.wait_for(events.Disconnected)
            assert (end.graceful, len(end.unsent)) == (True, 7)


class Session:
    """An app that makes many subscriptions, and how long each connection took from Ready to session ready."""

    def __init__(self, url: str, count: int, clock: VirtualClock | None = None, *, in_turn: bool = True,
                 timeout: float = 10.0, persist: Backoff = AT_ONCE, **options: object) -> None:
        self.app = Noting(url, **options)
        self.persist = persist
        self.times: list[float] = []
        self.failures: list[Exception] = []
        self._began = 0.0
        self._now = clock.monotonic if clock is not None else None
        self.app.on("ready")(self._begin)
        self.subs = Subscriptions(
            self.app,
            [Step(str(number), expect=str(number), in_turn=in_turn, timeout=timeout)
             for number in range(count)],
            on_session_ready=self._ready, on_step_failed=lambda _, error: self.failures.append(error),
        )

    def _begin(self, _: object) -> None:
        self._began = self._now() if self._now is not None else 0.0

    def _ready(self, _: object) -> None:
        self.times.append((self._now() if self._now is not None else 0.0) - self._began)


class TestSubscriptions:
    @pytest.mark.parametrize("in_turn", [True, False], ids=["one by one", "all at once"])
    @pytest.mark.parametrize(("count", "reconnects"), [(20, 50), (500, 2)])
    def test_they_are_ready_as_early_as_the_rule_allows_on_each_reconnect(
        self, count: int, reconnects: int, in_turn: bool, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        limit, per = (5, 1.0) if count == 20 else (100, 1.0)
        session = Session(ws_server().url, count, ws_clock, in_turn=in_turn, rate=Rate(limit, per=per))
        least = (count / limit - 1) * per
        with running(session.app, persist=session.persist, **QUIET):
            for number in range(reconnects + 1):
                session.app.wait_for("ready", number + 1)
                ws_clock.advance(1.1 * least)
                assert len(session.times) == number + 1
                session.app.reconnect()
        assert not session.failures
        assert max(session.times) <= 1.1 * least
        assert min(session.times) >= least

    def test_the_time_limit_of_a_step_begins_when_its_message_leaves(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        session = Session(ws_server().url, 50, ws_clock, in_turn=False, timeout=2.0, rate=Rate(5))
        with running(session.app, persist=False, **QUIET):
            session.app.wait_for("ready")
            ws_clock.advance(9 * 1.05 + 0.1)
            assert session.times
            assert not session.failures

    def test_a_step_without_an_answer_fails_that_long_after_its_message_has_left(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept(), t.send("0")])
        session = Session(server.url, 2, ws_clock, in_turn=False, timeout=5.0,
                          rate=Rate(1, per=60.0, margin=0))
        with running(session.app, persist=False, **QUIET):
            session.app.wait_for("ready")
            ws_clock.advance(64.9)
            assert server.connection().messages == ["0", "1"]
            assert not session.failures
            ws_clock.advance(0.1)
            assert len(session.failures) == 1


class TestAgainstAStrictServer:
    """In real time: the server closes with 1008 if its window is exceeded.

    The margins are large, since a busy machine delays what is sent to itself, too.
    """

    @pytest.mark.parametrize("in_turn", [True, False], ids=["one by one", "all at once"])
    @pytest.mark.parametrize(("count", "limit", "reconnects"), [(20, 5, 3), (500, 100, 1)])
    def test_subscriptions_become_ready_on_each_reconnect(
        self, count: int, limit: int, reconnects: int, in_turn: bool
    ) -> None:
        judge = Judge(limit, 0.1, most=count)
        with Peer(judge) as peer:
            session = Session(peer.url, count, in_turn=in_turn, rate=Rate(limit, per=0.1, margin=0.1))
            with running(session.app, persist=session.persist, **QUIET):
                eventually(lambda: len(session.times) > reconnects)
        assert judge.excesses == 0
        assert not session.failures
        assert {event.received_code for event in session.app.all("disconnected")[:reconnects]} == {1012}

    def test_without_a_rate_that_server_never_lets_them_become_ready(self) -> None:
        judge = Judge(5, 10.0)
        with Peer(judge) as peer:
            session = Session(peer.url, 20)
            with running(session.app, persist=session.persist, **QUIET):
                session.app.wait_for("disconnected", 3)
        end = session.app.wait_for("disconnected")
        assert re.fullmatch(
            r'the server closed the connection: 1008 "Too many requests" '
            r"\(Pass the server's message limit as rate=Rate\(…\): "
            r"the server closed the connection after \d+ messages in \d+\.\d s\.\)",
            str(end),
        )
        assert judge.excesses >= 2
        assert not session.times

    @pytest.mark.parametrize("counts", ["messages", "frames"])
    @pytest.mark.parametrize("compress", [False, True])
    def test_many_threads_together_respect_the_limit(self, counts: str, compress: bool) -> None:
        judge = Judge(10, 0.05, counts_frames=counts == "frames")
        with Peer(judge) as peer:
            rate = Rate(10, per=0.05, counts=counts, margin=0.05)  # type: ignore[arg-type]
            app = Noting(peer.url, rate=rate, compress=compress)
            with opened(app, ping_rate=0.02, ping_timeout=PATIENCE, poll=0):
                def send(name: str) -> None:
                    for number in range(10):
                        app.send_text(f"{name}{number}")
                    app.send_many([f"{name}{number}" for number in range(10, 20)])

                threads = [threading.Thread(target=partial(send, name)) for name in "abcd"]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                eventually(lambda: len(judge.texts) == 80)
        assert judge.excesses == 0
        for name in "abcd":
            assert [text for text in judge.texts if text[0] == name] == [
                f"{name}{number}" for number in range(20)
            ]

    def test_messages_leave_while_a_handler_is_busy(self) -> None:
        judge = Judge(1, 0.1)
        sent = threading.Event()
        with Peer(judge) as peer:
            app = Noting(peer.url, rate=Rate(1, per=0.1, margin=0.1))

            @app.on("ready")
            def wait(_: object) -> None:
                app.send_many(numbered(5))
                sent.wait(PATIENCE)

            with running(app, **QUIET):
                eventually(lambda: len(judge.texts) == 5)
                sent.set()
        assert judge.excesses == 0

    def test_an_iteration_respects_the_limit(self, start_peer: StartPeer) -> None:
        judge = Judge(2, 0.1, most=7)
        websocket = WebSocket(start_peer(judge).url, rate=Rate(2, per=0.1, margin=0.1))
        answers = []
        for event in websocket.connect(**QUIET):
            if isinstance(event, events.Ready):
                websocket.send_many(numbered(7))
                assert websocket.queued_for > 0.1
            elif isinstance(event, events.Text):
                answers.append(event.text)
        assert answers == numbered(7)
        assert event.received_code == 1012  # type: ignore[attr-defined]
        assert judge.excesses == 0
