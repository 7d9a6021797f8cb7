"""Heartbeats: when they are sent, what counts as a reply, and how the server's are answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from lochws import Backoff, WebSocketApp, events
from lochws import testing as t
from lochws.handlers.heartbeat import Answer, Every
from lochws.handlers.replies import Replies
from lochws.handlers.subscriptions import Step, Subscriptions
from lochws.testing import ScriptedServer, StartServer, VirtualClock

from ..support.apps import AT_ONCE, NEVER, opened, running
from ..support.seen import PATIENCE, Noting, eventually

#: Without keepalive and Poll, so that only what a test is about happens as time passes.
QUIET: Any = {"poll": 0, "ping_rate": 0}
LOGIN = Step("login", expect="welcome")


def beats(server: ScriptedServer) -> int:
    return server.messages.count("beat")


def count_beats(clock: VirtualClock, app: WebSocketApp, seconds: float) -> int:
    """Return how many messages the app sends while this much time passes.

    What a server has received is not counted: it may still be on its way.
    """
    clock.settle()
    before = app.counters.messages_sent
    clock.advance(seconds)
    return app.counters.messages_sent - before


class TestWhen:
    """Heartbeats begin with the session, end with the connection, and there is one series of them."""

    def test_one_is_sent_per_interval(self, ws_server: StartServer, ws_clock: VirtualClock) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        every = Every(app, 30, "beat")
        with opened(app, **QUIET):
            assert count_beats(ws_clock, app, 29.9) == 0
            assert count_beats(ws_clock, app, 0.1) == 1
            assert count_beats(ws_clock, app, 300) == 10
            assert every.seconds == 30
            assert every.is_running
            assert every.unanswered == 0, "no reply is expected"
        eventually(lambda: not every.is_running)

    def test_reconnects_do_not_multiply_them(self, ws_server: StartServer, ws_clock: VirtualClock) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        every = Every(app, 0.5, "beat")
        with opened(app, persist=AT_ONCE, **QUIET):
            for number in range(1, 5):
                ws_clock.advance(0.7)
                app.reconnect()
                app.wait_for("ready", number + 1)
            eventually(lambda: every.is_running)
            ws_clock.settle()
            assert count_beats(ws_clock, app, 5) == 10

    def test_none_is_sent_between_two_connections(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        every = Every(app, 10, "beat")
        with opened(app, persist=Backoff(min_wait=100, max_wait=100), **QUIET):
            ws_clock.advance(15)
            app.force_disconnect()
            app.wait_for("back_off")
            assert not every.is_running
            every.beat()
            ws_clock.advance(50)
            app.reconnect()
            app.wait_for("ready", 2)
            ws_clock.settle()
            assert count_beats(ws_clock, app, 9.9) == 0
            assert count_beats(ws_clock, app, 0.1) == 1
        assert app.counters.messages_sent == 2

    def test_they_begin_when_the_session_is_ready(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept(), t.wait_for("login"), t.pause(7), t.send("welcome")])
        app = Noting(server.url)
        every = Every(app, 10, "beat")
        Subscriptions(app, [LOGIN])
        with running(app, **QUIET):
            server.connection().wait_until(lambda: server.messages == ["login"])
            ws_clock.advance(6)
            assert not every.is_running
            ws_clock.advance(1)
            assert app.wait_ready(PATIENCE)
            assert every.is_running
            assert count_beats(ws_clock, app, 9.9) == 0
            assert count_beats(ws_clock, app, 0.1) == 1

    @pytest.mark.parametrize("first", ["every", "subscriptions"])
    def test_without_answers_to_wait_for_they_begin_with_the_connection(
        self, first: str, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        if first == "every":
            Every(app, 10, "beat")
        Subscriptions(app, [Step("subscribe")])
        if first != "every":
            Every(app, 10, "beat")
        with opened(app, **QUIET):
            ws_clock.settle()
            assert count_beats(ws_clock, app, 10) == 1

    def test_they_may_begin_with_the_connection_and_pass_a_closed_gate(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        app.hooks.gate()
        Every(app, 10, "beat", begins="connection")
        with running(app, **QUIET):
            app.wait_for("ready")
            ws_clock.settle()
            assert count_beats(ws_clock, app, 35) == 3
            assert not app.is_active

    def test_a_gate_opened_by_another_thread_starts_them_on_the_handlers_thread(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        gate = app.hooks.gate()
        inside: list[bool] = []

        def beat() -> str:
            inside.append(app.in_handler)
            return "beat"

        every = Every(app, 10, beat)
        with running(app, **QUIET):
            app.wait_for("ready")
            ws_clock.advance(10)
            gate.open()
            eventually(lambda: every.is_running)
            assert count_beats(ws_clock, app, 10) == 1
        assert inside == [True]

    def test_after_leave_none_is_sent(self, ws_server: StartServer, ws_clock: VirtualClock) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        every = Every(app, 1, "beat", expect="x", missing=1)
        with opened(app, persist=AT_ONCE, **QUIET):
            every.leave()
            every.leave()
            ws_clock.advance(10)
            app.reconnect()
            app.wait_for("ready", 2)
            assert count_beats(ws_clock, app, 10) == 0
            assert app.counters.messages_sent == 0


class TestWhat:
    """Heartbeats may be made by a function, or sent on request."""

    def test_a_function_makes_each_and_may_leave_some_out(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        made: list[Any] = ["a", b"b", {"n": 1}, [1, 2], None, "c"]
        server = ws_server([t.accept()])
        app = Noting(server.url)
        every = Every(app, 1, lambda: made.pop(0) if made else None, expect="never", missing=100)
        with opened(app, **QUIET):
            ws_clock.advance(8)
            assert every.unanswered == 5, "those that were left out expect no reply"
        assert server.messages == ["a", b"b", '{"n": 1}', "[1, 2]", "c"]

    def test_an_exception_of_the_function_is_a_handlers_and_ends_nothing(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        made: list[Any] = ["beat", 5, "beat"]
        raised: list[str] = []
        server = ws_server([t.accept()])
        app = Noting(server.url)
        app.on("error")(lambda error: raised.append(type(error).__name__))
        Every(app, 1, lambda: made.pop(0))
        with opened(app, **QUIET):
            assert count_beats(ws_clock, app, 4) == 2
        assert raised == ["TypeError", "IndexError"]

    def test_beat_sends_one_immediately_and_begins_a_new_interval(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        every = Every(app, 10, "beat")
        every.beat()  # the app has not been started
        with opened(app, **QUIET):
            ws_clock.advance(9)
            every.beat()
            server.connection().wait_until(lambda: beats(server) == 1)
            ws_clock.settle()
            assert count_beats(ws_clock, app, 9.9) == 0
            assert count_beats(ws_clock, app, 0.1) == 1

    def test_beat_never_drops_a_connection_however_often_it_is_called(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        every = Every(app, 10, "beat", expect="reply")
        with opened(app, persist=NEVER, **QUIET):
            ws_clock.advance(5)
            for _ in range(50):
                every.beat()
            server.connection().wait_until(lambda: beats(server) > 0)
            ws_clock.settle()
            eventually(lambda: every.unanswered == 1)
            ws_clock.advance(19.9)
            assert app.is_active
            ws_clock.advance(0.1)
            assert app.wait_for("disconnected").reason == "no reply to 2 heartbeats in a row"

    def test_a_full_queue_is_logged_and_ends_nothing(
        self, ws_clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        script = [t.accept(), t.stop_reading(), t.wait_for_end()]
        with ScriptedServer(script, receive_buffer=4096) as server:
            app = Noting(server.url, max_queue=1000)
            every = Every(app, 10, "beat" * 20, expect="reply")
            with opened(app, persist=NEVER, **QUIET):
                fill(app)
                ws_clock.advance(50)
                assert caplog.messages == [f"{app.url}: a heartbeat was dropped: the send queue is full"] * 3
                assert every.unanswered == 0, "none was sent"
                assert not app.all("disconnected")
                app.force_disconnect()

    def test_a_heartbeat_that_waits_to_be_sent_misses_no_reply_and_no_other_follows_it(
        self, ws_clock: VirtualClock
    ) -> None:
        """Like one behind a large message on a slow link."""
        script = [t.accept(), t.stop_reading()]
        with ScriptedServer(script, receive_buffer=4096) as server:
            app = Noting(server.url, max_queue=10_000_000)
            every = Every(app, 10, "beat", expect="reply")
            with opened(app, persist=NEVER, **QUIET):
                fill(app)
                for _ in range(10):
                    ws_clock.advance(10)
                assert app.is_active
                assert every.unanswered == 0
                server.do(t.read_on())
                eventually(lambda: every.unanswered == 1)
                server.connection().wait_until(lambda: server.messages[1:] == ["beat"])
                server.do(t.send("reply"))
                eventually(lambda: every.unanswered == 0)


def fill(app: WebSocketApp) -> None:
    """Send more than the network takes, so that the queue has no room even for a few bytes."""
    app.send_binary(bytes(8_000_000))


class TestReplies:
    """Replies that remain missing drop the connection, and nothing else does."""

    def test_the_connection_is_dropped_when_the_third_is_due_and_two_have_no_reply(
        self, ws_server: StartServer, ws_clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        every = Every(app, 10, "beat", expect="reply")
        with opened(app, persist=NEVER, **QUIET):
            ws_clock.advance(29.9)
            assert every.unanswered == 2
            assert app.is_active
            ws_clock.advance(0.1)
            event = app.wait_for("disconnected")
            assert event.reason == "no reply to 2 heartbeats in a row"
            assert event.ended_by == "client"
            app.wait_for("back_off")
        assert app.counters.messages_sent == 2
        line = f"{app.url}: disconnecting: no reply to 2 heartbeats in a row"
        records = [vars(record) for record in caplog.records if record.getMessage() == line]
        assert [(record["ws_event"], record["ws_url"]) for record in records] == [("heartbeat_lost", app.url)]

    def test_a_reply_in_time_keeps_it_for_hours(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        def answer(connection: t.ServerConnection) -> None:
            for number, _ in enumerate(connection):
                if number % 2:  # each second one remains without
                    connection.send('{"op": "reply"}')

        server = ws_server([t.accept(), answer])
        app = Noting(server.url)
        Every(app, 10, "beat", expect={"op": "reply"})
        with opened(app, persist=NEVER, **QUIET):
            for sent in range(1, 361):
                assert count_beats(ws_clock, app, 10) == 1
                if sent % 2 == 0:
                    app.wait_for("text", sent // 2)
            assert not app.all("disconnected")

    @pytest.mark.parametrize("missing", [1, 5])
    def test_how_many_may_be_missing_can_be_chosen(
        self, missing: int, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        Every(app, 10, "beat", expect="reply", missing=missing)
        with opened(app, persist=NEVER, **QUIET):
            ws_clock.advance(10 * missing + 9.9)
            assert not app.all("disconnected")
            ws_clock.advance(0.1)
            app.wait_for("disconnected")
        assert app.counters.messages_sent == missing

    def test_nothing_is_carried_over_to_the_next_connection(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        every = Every(app, 10, "beat", expect="reply")
        with opened(app, persist=AT_ONCE, **QUIET):
            ws_clock.advance(25)
            assert every.unanswered == 2
            app.reconnect()
            app.wait_for("ready", 2)
            eventually(lambda: every.is_running)
            assert every.unanswered == 0
            ws_clock.settle()
            ws_clock.advance(25)
            assert len(app.all("ready")) == 2

    def test_a_reply_that_waits_behind_a_slow_handler_is_not_missing(self, ws_server: StartServer) -> None:
        inside = threading.Event()
        server = ws_server([t.accept(), t.wait_for("beat"), t.send("slow")])
        app = Noting(server.url)
        every = Every(app, 1000, "beat", expect="reply", missing=1)

        @app.on("text")
        def hold(event: events.Text) -> None:
            if event.text == "slow":
                inside.set()
                eventually(lambda: app.waiting_bytes > 0)
                every.beat()  # as if the next one were due now

        with opened(app, persist=NEVER):
            every.beat()
            assert inside.wait(PATIENCE)
            server.do(t.send("reply"))
            app.wait_for("text", 2)
            eventually(lambda: every.unanswered == 0)
            assert app.is_active
            server.connection().wait_until(lambda: beats(server) == 2)

    def test_an_expect_function_that_fails_does_not_count_as_a_reply_and_is_named_in_the_end(
        self, ws_server: StartServer, ws_clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        def expect(event: Any) -> bool:
            return bool(event.json["okay"])

        server = ws_server([t.accept(), t.wait_for("beat"), t.send('{"ok": 1}')])
        app = Noting(server.url)
        Every(app, 10, "beat", expect=expect)
        with opened(app, persist=NEVER, **QUIET):
            ws_clock.advance(30)
            app.wait_for("disconnected")
        assert (
            f"{app.url}: disconnecting: no reply to 2 heartbeats in a row "
            f"({expect.__qualname__} raised KeyError('okay'); "
            "messages on which a function raised an exception: 1)"
        ) in caplog.messages

    def test_a_future_may_be_the_reply(self, ws_server: StartServer, ws_clock: VirtualClock) -> None:
        def answer(connection: t.ServerConnection) -> None:
            for number, message in enumerate(connection):
                if number < 3:
                    connection.send(message)

        server = ws_server([t.accept(), answer])
        app = Noting(server.url)
        rpc = Replies(app)
        every = Every(app, 10, lambda: rpc.request({"op": "heartbeat"}, timeout=5))
        with opened(app, persist=NEVER, **QUIET):
            for number in range(1, 4):
                ws_clock.advance(10)
                app.wait_for("text", number)
                eventually(lambda: every.unanswered == 0)
            ws_clock.advance(29.9)
            assert every.unanswered == 2, "a reply that times out is missing"
            ws_clock.advance(0.1)
            assert app.wait_for("disconnected").reason == "no reply to 2 heartbeats in a row"

    def test_a_future_of_an_earlier_connection_answers_nothing(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        futures: list[Future[Any]] = []

        def beat() -> Future[Any]:
            futures.append(Future())
            return futures[-1]

        server = ws_server([t.accept()])
        app = Noting(server.url)
        every = Every(app, 10, beat)
        with opened(app, persist=AT_ONCE, **QUIET):
            ws_clock.advance(10)
            app.reconnect()
            app.wait_for("ready", 2)
            eventually(lambda: every.is_running)
            ws_clock.settle()
            ws_clock.advance(20)
            futures[0].set_result(None)
            futures[1].cancel()
            assert every.unanswered == 2
            futures[2].set_result(None)
            assert every.unanswered == 0

    def test_no_event_is_handled_while_no_reply_is_due(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept(), t.wait_for("beat")])
        app = WebSocketApp(server.url)
        Every(app, 10, "beat", expect="reply")
        with opened(app, **QUIET):
            assert not app._lochws.registry.has_handler_for(events.Text)
            ws_clock.advance(10)
            assert app._lochws.registry.has_handler_for(events.Text)
            server.do(t.send("reply"))
            eventually(lambda: not app._lochws.registry.has_handler_for(events.Text))


def interval(event: Any) -> float | None:
    """Return the interval in the server's hello."""
    return float(event.json["hello"]) if "hello" in event.text else None


class TestInterval:
    """The interval may change, and the server may dictate it."""

    def test_a_new_interval_begins_when_it_is_set_and_stays(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        every = Every(app, None, "beat")
        with opened(app, persist=AT_ONCE, **QUIET):
            assert count_beats(ws_clock, app, 100) == 0
            assert every.seconds is None
            every.seconds = 10
            ws_clock.settle()
            assert count_beats(ws_clock, app, 35) == 3
            every.seconds = 2
            ws_clock.settle()
            assert count_beats(ws_clock, app, 10) == 5
            app.reconnect()
            app.wait_for("ready", 2)
            eventually(lambda: every.is_running)
            ws_clock.settle()
            assert count_beats(ws_clock, app, 10) == 5
            every.seconds = 0
            ws_clock.settle()
            assert count_beats(ws_clock, app, 100) == 0
            assert not every.is_running

    def test_the_server_dictates_it_for_each_connection(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server(
            [t.accept(), t.pause(3), t.send("news"), t.send('{"hello": 10}')],
            [t.accept(), t.send('{"hello": 2}'), t.send('{"hello": 5}')],
            [t.accept()],
        )
        app = Noting(server.url)
        every = Every(app, interval, "beat")
        with opened(app, persist=AT_ONCE, **QUIET):
            ws_clock.advance(3)
            app.wait_for("text", 2)
            assert every.seconds == 10
            assert count_beats(ws_clock, app, 9.9) == 0
            assert count_beats(ws_clock, app, 0.1) == 1
            app.reconnect()
            app.wait_for("text", 4)
            ws_clock.settle()
            assert every.seconds == 2, "the first counts"
            assert count_beats(ws_clock, app, 10) == 5
            app.reconnect()
            app.wait_for("ready", 3)
            ws_clock.settle()
            assert every.seconds is None
            assert count_beats(ws_clock, app, 100) == 0

    def test_the_function_may_read_the_headers_of_the_upgrade(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.upgrade(101, {"X-Heartbeat": "5"})])
        app = Noting(server.url)
        every = Every(app, lambda event: float(event.response.get("x-heartbeat")), "beat")
        with opened(app, **QUIET):
            ws_clock.settle()
            assert every.seconds == 5

    def test_an_interval_that_arrives_before_the_session_is_ready_counts_from_the_session(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        script = [t.accept(), t.send('{"hello": 10}'), t.wait_for("login"), t.pause(7), t.send("welcome")]
        server = ws_server(script)
        app = Noting(server.url)
        every = Every(app, interval, "beat")
        Subscriptions(app, [LOGIN])
        with running(app, **QUIET):
            app.wait_for("text")
            ws_clock.advance(7)
            assert app.wait_ready(PATIENCE)
            assert every.seconds == 10
            assert count_beats(ws_clock, app, 9.9) == 0
            assert count_beats(ws_clock, app, 0.1) == 1

    @pytest.mark.parametrize(
        ("told", "seconds", "errors"), [
            ('{"hello": 1e-9}', 0.01, 0), ('{"hello": 0}', None, 0), ('{"hello": -1}', None, 1),
            ('{"hello": NaN}', None, 1), ('{"hello": Infinity}', None, 1), ('{"hello": 1e300}', 1e300, 0),
            ('{"hello": "x"}', None, 0),
        ]
    )
    def test_no_server_can_keep_the_app_busy_with_its_interval(
        self, told: str, seconds: float | None, errors: int, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept(), t.send(told), t.send("end")])
        app = Noting(server.url)
        raised: list[BaseException] = []
        app.on("error")(raised.append)
        every = Every(app, interval, "beat")
        with opened(app, **QUIET):
            app.wait_for("text", 2)
            ws_clock.settle()
            assert every.seconds == seconds
            assert len(raised) == errors

    def test_heartbeats_can_be_set_after_the_function_has_returned_nonsense(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        raised: list[BaseException] = []
        app.on("error")(raised.append)
        every = Every(app, lambda _: -5, "beat")
        with opened(app, **QUIET):
            ws_clock.settle()
            assert not every.is_running
            every.seconds = 5
            ws_clock.settle()
            assert count_beats(ws_clock, app, 20) == 4
        assert [type(error) for error in raised] == [ValueError]

    def test_a_dictated_zero_is_not_asked_for_again(self, ws_server: StartServer) -> None:
        asked: list[str] = []

        def ask(event: Any) -> float | None:
            asked.append(event.name)
            return 0 if event.name == "text" else None

        server = ws_server([t.accept(), t.send("a"), t.send("b")])
        app = Noting(server.url)
        Every(app, ask, "beat")
        with opened(app):
            app.wait_for("text", 2)
            eventually(lambda: len(app.all("text")) == 2)
        assert asked == ["ready", "text"]

    def test_a_stream_of_bytes_may_tell_it_and_answer(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        def split(data: bytes) -> int:
            return 1 + data[0]

        hello, rest = t.send(b"\x02\x01\x0a\x02"), t.send(b"\x01\x07")
        server = ws_server([t.accept(), hello, t.wait_for("beat"), rest])
        app = Noting(server.url)
        every = Every(
            app, lambda event: event.data[2] if event.data[1] == 1 else None, "beat",
            expect=b"\x02\x01\x07", split=split,
        )
        with opened(app, **QUIET):
            app.wait_for("binary")
            ws_clock.settle()
            assert every.seconds == 10
            ws_clock.advance(10)
            app.wait_for("binary", 2)
            eventually(lambda: every.unanswered == 0)


class TestAnswer:
    """Answers to the server's heartbeats."""

    def test_they_pass_a_gate_that_is_closed(self, ws_server: StartServer) -> None:
        """A server may ask while the session is being set up, and go on only once it has its answer."""
        script = [
            t.accept(), t.wait_for("login"), t.send('{"type": "ping"}'), t.wait_for('{"type": "pong"}'),
            t.send("welcome"),
        ]
        server = ws_server(script)
        app = Noting(server.url)
        subs = Subscriptions(app, [LOGIN])
        Answer(app, {"type": "ping"}, {"type": "pong"})
        with running(app):
            assert subs.wait_session_ready(PATIENCE)

    def test_the_answer_may_depend_on_the_message(self, ws_server: StartServer) -> None:
        script = [t.send("ping 1"), t.send("news"), t.send("ping 2"), t.wait_for("pong 2")]
        server = ws_server([t.accept(), *script])
        app = Noting(server.url)
        app.on("batch")(lambda _: None)
        Answer(
            app, lambda event: event.text.startswith("ping"),
            lambda event: event.text.replace("i", "o") if "2" in event.text else None,
        )
        with opened(app):
            server.connection().wait_until(lambda: server.messages == ["pong 2"])

    def test_packets_of_a_stream_are_answered_on_each_connection(self, ws_server: StartServer) -> None:
        script = [t.accept(), t.send(b"\x01"), t.send(b"x\x01"), t.wait_for(b"y")]
        server = ws_server([*script, t.fin()], script)
        app = Noting(server.url)
        Answer(app, b"\x01x", b"y", split=lambda data: 1 + data[0])
        with running(app, persist=AT_ONCE):
            server.connection(1).wait_until(lambda: server.connections[1].messages == [b"y"])

    def test_a_message_on_which_the_function_fails_is_not_answered(self, ws_server: StartServer) -> None:
        script = [t.send("no JSON"), t.send(b"x"), t.send('{"ping": 1}'), t.wait_for("y")]
        server = ws_server([t.accept(), *script])
        app = Noting(server.url)
        Answer(app, lambda event: event.json["ping"], "y")
        with opened(app):
            server.connection().wait_until(lambda: server.messages == ["y"])

    def test_after_leave_nothing_is_answered(self, ws_server: StartServer) -> None:
        server = ws_server([t.accept()])
        app = Noting(server.url)
        answer = Answer(app, "x", "y")
        with opened(app):
            answer.leave()
            answer.leave()
            server.do(t.send("x"))
            app.wait_for("text")
            app.send_text("end")
            server.connection().wait_until(lambda: server.messages == ["end"])

    def test_a_flood_of_pings_is_answered_within_the_bound_of_the_queue(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        script = [t.accept(), t.stop_reading(), *[t.send("ping")] * 100, t.wait_for_end()]
        with ScriptedServer(script, receive_buffer=4096) as server:
            app = Noting(server.url, max_queue=1000)
            app.on("ready")(lambda _: fill(app))
            Answer(app, "ping", "pong" * 10)
            with running(app, persist=NEVER):
                app.wait_for("text", 100)
                app.force_disconnect()
        line = f"{app.url}: the answer to a heartbeat was dropped: the send queue is full"
        assert caplog.messages.count(line) == 3


every: Any = Every
answer: Any = Answer


def unstarted() -> WebSocketApp:
    return WebSocketApp("ws://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: every("x", 1, "x"), TypeError, "app: expected"),
        (lambda: every(unstarted(), "1", "x"), TypeError, "seconds='1': expected 0 seconds or more"),
        (lambda: every(unstarted(), True, "x"), TypeError, "seconds=True"),
        (lambda: every(unstarted(), -1, "x"), ValueError, "seconds=-1"),
        (lambda: every(unstarted(), float("nan"), "x"), ValueError, "seconds=nan"),
        (lambda: every(unstarted(), 0.001, "x"), ValueError, r"seconds=0.001: expected 0, or at least 0.01"),
        (lambda: every(unstarted(), 1, 5), TypeError, "message=5"),
        (lambda: every(unstarted(), 1, lambda _: "x"), TypeError, "message: .* cannot be called without arg"),
        (lambda: every(unstarted(), 1, {"a": object()}), TypeError, "message=.* cannot be written as JSON"),
        (lambda: every(unstarted(), 1, "\ud800"), ValueError, "message=.* cannot be encoded as UTF-8"),
        (lambda: every(unstarted(), lambda: 1, "x"), TypeError, "seconds: .* cannot be called with one arg"),
        (lambda: every(unstarted(), 1, "x", expect=5), TypeError, "expect=5"),
        (lambda: every(unstarted(), 1, "x", expect=lambda: 1), TypeError, "expect: .* cannot be called with"),
        (lambda: every(unstarted(), 1, "x", missing=0), ValueError, "missing=0"),
        (lambda: every(unstarted(), 1, "x", begins="now"), ValueError, "begins='now'"),
        (lambda: every(unstarted(), 1, "x", split=5), TypeError, "split=5"),
        (lambda: setattr(Every(unstarted(), 1, "x"), "seconds", "1"), TypeError, "seconds='1'"),
        (lambda: answer("x", "x", "y"), TypeError, "app: expected"),
        (lambda: answer(unstarted(), 5, "y"), TypeError, "ping=5"),
        (lambda: answer(unstarted(), "x", 5), TypeError, "pong=5"),
        (lambda: answer(unstarted(), "x", lambda: "y"), TypeError, "pong: .* cannot be called with one arg"),
        (lambda: answer(unstarted(), "x", ["\ud800", {1}]), TypeError, "pong=.* cannot be written as JSON"),
    ],
)
def test_invalid_arguments_are_refused_immediately(
    make: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make()
