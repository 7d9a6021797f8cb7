"""A server that answers pings but sends no messages: when it is reported, and which silences do not count."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lochws import Backoff, WebSocket, WebSocketApp, events
from lochws import testing as t
from lochws.connection import receiving
from lochws.persist import persist
from lochws.testing import StartServer, VirtualClock
from lochws.testing.rawframes import frame

from ..faults.registry import fault
from ..support.apps import opened, running
from ..support.peer import BINARY, CONTINUATION, PONG, TEXT
from ..support.seen import PATIENCE, Noting, eventually, names, take

MUTE = "The server answers pings but sends no messages"
LIMIT = 90
TELL: dict[str, Any] = {"poll": 0, "stale_after": LIMIT, "on_stale": "tell"}
AT_ONCE = Backoff(min_wait=0.0, max_wait=0.0)
HOUR = 3600


@pytest.fixture(params=["ws", "wss"])
def serve(request: pytest.FixtureRequest, ws_server: StartServer, ws_clock: VirtualClock) -> Any:
    """Starts a scripted server, with TLS or without, and makes the app for it."""

    def start(*scripts: list[t.Step]) -> Noting:
        server = ws_server(*scripts, tls=request.param == "wss")
        return Noting(server.url, ssl_cafile=ws_server.ca_file)

    return start


class TestReconnect:
    @fault("open", MUTE)
    def test_a_mute_server_that_answers_pings_is_dropped_and_the_next_connection_has_the_feed(
        self, serve: Any, ws_clock: VirtualClock
    ) -> None:
        app = serve([t.accept(), t.send("last price")], [t.accept(), t.send("first price")])
        with opened(app, poll=0, stale_after=LIMIT, persist=AT_ONCE):
            app.wait_for("text")
            ws_clock.advance(LIMIT - 0.1)
            assert not app.all("stale")
            assert len(app.all("pong")) >= 2
            ws_clock.advance(0.1)
            stale, end = app.wait_for("stale"), app.wait_for("disconnected")
            assert app.wait_for("text", 2).text == "first price"
        assert stale.seconds == LIMIT
        assert stale.last_message_at == app.all("text")[0].received_time
        assert (end.ended_by, end.graceful, end.sent_code) == ("client", False, 1001)
        assert end.reason == f"stale: no message from the server for {LIMIT} s"
        assert app.names("ping", "pong")[4:6] == ["stale", "disconnected"]

    def test_the_server_is_told_why(self, ws_server: StartServer, ws_clock: VirtualClock) -> None:
        server = ws_server([t.accept(), t.wait_for_close()])
        with opened(Noting(server.url), poll=0, stale_after=LIMIT):
            ws_clock.advance(LIMIT)
            server.wait_until(lambda: server.connection().close_frame is not None)
        assert server.connection().close_frame == (1001, f"stale: no message from the server for {LIMIT} s")

    def test_without_persistence_the_app_stops(self, serve: Any, ws_clock: VirtualClock) -> None:
        app = serve([t.accept()])
        with opened(app, poll=0, stale_after=LIMIT):
            ws_clock.advance(LIMIT)
            assert app.wait_closed(PATIENCE)

    def test_eight_dead_hours_end_after_ninety_seconds(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        feed = [step for _ in range(8 * 60) for step in (t.pause(60), t.send("tick"))]
        server = ws_server([t.accept(), t.send("tick")], [t.accept(), t.send("tick"), *feed])
        with opened(Noting(server.url), poll=0, stale_after=LIMIT, persist=AT_ONCE) as app:
            app.wait_for("text")
            ws_clock.advance(8 * HOUR + LIMIT)
            assert len(app.all("stale")) == 1
            assert len(app.all("ready")) == 2
            assert len(app.all("text")) >= 8 * 60 - 2
            assert app.is_active

    @fault("open", MUTE)
    def test_eight_dead_hours_go_unnoticed_without_it(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        with opened(Noting(ws_server([t.accept(), t.send("tick")]).url), poll=0) as app:
            app.wait_for("text")
            ws_clock.advance(8 * HOUR)
            assert app.is_active
            assert len(app.all("pong")) >= 8 * HOUR / 30

    def test_a_closing_handshake_under_way_is_not_cut_short(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        server = ws_server([t.accept(), t.ignore_close()])
        with opened(Noting(server.url), poll=0, stale_after=LIMIT, close_timeout=2 * LIMIT) as app:
            ws_clock.advance(LIMIT - 1)
            app.close()
            ws_clock.advance(LIMIT)
            assert not app.all("stale")
            ws_clock.advance(2 * LIMIT)
            assert app.wait_for("disconnected").reason.startswith("the server did not answer our Close frame")


class TestTell:
    @fault("open", MUTE)
    def test_the_connection_stays_and_each_silence_is_reported_once(
        self, serve: Any, ws_clock: VirtualClock
    ) -> None:
        app = serve([t.accept(), t.send("1"), t.pause(10 * LIMIT), t.send("2")])
        with opened(app, **TELL):
            app.wait_for("text")
            ws_clock.advance(10 * LIMIT)
            app.wait_for("text", 2)
            assert len(app.all("stale")) == 1
            ws_clock.advance(LIMIT)
            first, second = app.all("stale")
            ws_clock.advance(8 * LIMIT)
            assert len(app.all("stale")) == 2
            assert app.is_active
        one, two = app.all("text")
        assert (first.last_message_at, second.last_message_at) == (one.received_time, two.received_time)

    def test_a_handler_may_reconnect(self, ws_server: StartServer, ws_clock: VirtualClock) -> None:
        class App(Noting):
            def on_stale(self, event: events.Stale) -> None:
                self.reconnect()

        with opened(App(ws_server().url), **{**TELL, "persist": AT_ONCE}) as app:
            ws_clock.advance(LIMIT)
            app.wait_for("ready", 2)
        assert app.all("disconnected")[0].reason == "reconnect requested"

    def test_a_server_that_has_never_sent_anything_has_no_last_message(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        with opened(Noting(ws_server([t.accept()]).url), **TELL) as app:
            ws_clock.advance(LIMIT)
            stale = app.wait_for("stale")
        assert (stale.seconds, stale.last_message_at) == (LIMIT, None)


class TestWhatIsLife:
    def test_pings_and_pongs_of_the_server_are_not(self, serve: Any, ws_clock: VirtualClock) -> None:
        beat = [step for _ in range(20) for step in (t.pause(10), t.ping(b"x"), t.send_frame(PONG, b"y"))]
        app = serve([t.accept(), *beat])
        with opened(app, **TELL):
            ws_clock.advance(LIMIT)
            assert len(app.all("ping")) >= 8
            app.wait_for("stale")
            ws_clock.advance(200 - LIMIT)
            assert len(app.all("stale")) == 1

    def test_pongs_inside_a_message_that_does_not_continue_are_not(
        self, serve: Any, ws_clock: VirtualClock
    ) -> None:
        beat = [step for _ in range(20) for step in (t.pause(10), t.send_frame(PONG, b"y"))]
        app = serve([t.accept(), t.send_frame(TEXT, b"begun", fin=False), *beat])
        with opened(app, **TELL):
            ws_clock.advance(LIMIT)
            app.wait_for("stale")
            ws_clock.advance(200 - LIMIT)
            assert len(app.all("stale")) == 1

    @pytest.mark.parametrize("pieces", [100])
    def test_a_large_message_over_a_slow_relay_is_for_as_long_as_bytes_arrive(
        self, serve: Any, ws_clock: VirtualClock, pieces: int
    ) -> None:
        """A message of 8 MiB in 100 pieces, each of which arrives just in time, takes almost 2.5 hours."""
        size = 8 << 20
        whole = frame(BINARY, bytes(size))
        step = -(-len(whole) // pieces)
        slow = [
            one for start in range(0, len(whole), step)
            for one in (t.send_raw(whole[start:start + step]), t.pause(LIMIT - 1))
        ]
        app = serve([t.accept(), *slow])
        # No pings: this server would answer them in the middle of the frame.
        with opened(app, **TELL, ping_rate=0):
            ws_clock.advance((pieces - 1) * (LIMIT - 1))
            assert len(app.wait_for("binary").data) == size
            assert not app.all("stale")
            ws_clock.advance(LIMIT)
            app.wait_for("stale")

    def test_fragments_are_with_pings_between_them(self, serve: Any, ws_clock: VirtualClock) -> None:
        more = [
            one for _ in range(20)
            for one in (t.pause(LIMIT - 1), t.ping(b"x"), t.send_frame(CONTINUATION, b" more", fin=False))
        ]
        app = serve([t.accept(), t.send_frame(TEXT, b"begun", fin=False), *more])
        with opened(app, **TELL):
            ws_clock.advance(20 * (LIMIT - 1))
            assert len(app.all("ping")) == 20
            assert not app.all("stale")

    def test_behind_a_closed_gate_silence_counts_from_ready(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        app = Noting(ws_server([t.accept()]).url)
        app.hooks.gate()
        with running(app, poll=0, stale_after=LIMIT):
            app.wait_for("ready")
            ws_clock.advance(LIMIT)
            assert app.wait_for("stale").seconds == LIMIT
            app.wait_for("disconnected")


class TestOurOwnBacklog:
    def test_while_reading_is_paused_the_servers_silence_does_not_count(
        self, serve: Any, ws_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receiving, "INBOX_BYTES", 1 << 20)
        app = serve([t.accept(), *[t.send(bytes(100_000))] * 40])
        go = threading.Event()
        app.on("binary")(lambda _: go.wait(PATIENCE))
        with opened(app, **TELL):
            connection = app._lochws.life.connection
            app.wait_for("binary")
            ws_clock.advance(1, handlers=False)  # after which a stand-in reads
            eventually(lambda: connection._receiving.is_paused)
            ws_clock.advance(5 * LIMIT, handlers=False)
            go.set()
            app.wait_for("binary", 40)
            ws_clock.advance(LIMIT - 1)
            assert not app.all("stale")
            ws_clock.advance(1)
            assert app.wait_for("stale").seconds == LIMIT

    def test_what_arrives_while_a_handler_is_busy_counts(self, serve: Any, ws_clock: VirtualClock) -> None:
        app = serve([t.accept(), *[t.pause(LIMIT - 1), t.send("tick")] * 10])
        go = threading.Event()
        app.on("text")(lambda _: go.wait(PATIENCE))
        with opened(app, **TELL):
            ws_clock.advance(10 * (LIMIT - 1), handlers=False)
            go.set()
            app.wait_for("text", 10)
            assert not app.all("stale")

    def test_the_silence_of_a_suspended_machine_does_not_count(
        self, serve: Any, ws_clock: VirtualClock
    ) -> None:
        app = serve([t.accept()])
        with opened(app, **TELL):
            ws_clock.advance(LIMIT - 10)
            ws_clock.suspend(8 * HOUR)
            ws_clock.advance(LIMIT - 1)
            assert not app.all("stale")
            ws_clock.advance(2)
            assert app.wait_for("stale").seconds == pytest.approx(LIMIT, abs=1)

    def test_a_loop_that_was_busy_reads_what_has_arrived_before_it_judges(self) -> None:
        """While the body of the loop runs, nothing is read."""
        seen, busy = [], threading.Event()
        script = [t.together(t.accept(), t.send("1")), t.wait_for("go"), t.send("2")]
        with t.ScriptedServer(script) as server:
            websocket = WebSocket(server.url)
            for event in websocket.connect(poll=0, stale_after=0.1):
                seen.append(event.name)
                if seen[-1] == "text" and seen.count("text") == 1:
                    websocket.send_text("go")
                    server.wait_until(lambda: not server.connection().remaining)
                    busy.wait(0.2)
                elif seen.count("text") == 2:
                    websocket.close()
        second = len(seen) - seen[::-1].index("text")
        assert "stale" not in seen[:second]


class TestIteration:
    def test_a_loop_gets_the_event_and_the_end(self) -> None:
        with t.ScriptedServer([t.together(t.accept(), t.send("once"))]) as server:
            timing = {"poll": 0, "ping_rate": 0.02, "ping_timeout": None}
            seen = list(WebSocket(server.url).connect(**timing, stale_after=0.2))
        assert names(seen, "pong") == ["connecting", "connected", "ready", "text", "stale", "disconnected"]
        assert seen[-1].reason == "stale: no message from the server for 0.2 s"  # type: ignore[attr-defined]

    def test_persist_connects_again(self) -> None:
        with t.ScriptedServer([t.together(t.accept(), t.send("once"))]) as server:
            timing = {"min_wait": 0, "max_wait": 0, "ping_rate": 0.02, "ping_timeout": None}
            feed = persist(WebSocket(server.url), **timing, stale_after=0.1)
            first, second = take(feed, "stale", 2)
            feed.close()
        assert second.last_message_at > first.last_message_at


class TestOptions:
    @pytest.mark.parametrize("method", ["start", "run_forever"])
    @pytest.mark.parametrize(
        ("given", "error", "words"),
        [
            ({"stale_after": -1}, ValueError, "stale_after=-1: expected "),
            ({"stale_after": "90"}, TypeError, "stale_after='90': expected "),
            ({"on_stale": "drop"}, ValueError, "on_stale='drop': expected one of 'reconnect', 'tell'"),
            ({"on_stale": print}, TypeError, "to handle the event, override the method on_stale"),
        ],
    )
    def test_a_wrong_one_is_refused(self, method: str, given: Any, error: Any, words: str) -> None:
        with pytest.raises(error, match=words.replace("(", r"\(")):
            getattr(WebSocketApp("ws://example.invalid"), method)(**given)

    def test_the_option_and_the_handler_of_the_same_name_do_not_clash(
        self, ws_server: StartServer, ws_clock: VirtualClock
    ) -> None:
        told: list[events.Stale] = []

        class App(WebSocketApp):
            def on_stale(self, event: events.Stale) -> None:
                told.append(event)

        with opened(App(ws_server([t.accept()]).url), **TELL):
            ws_clock.advance(LIMIT)
            assert len(told) == 1

    def test_the_constructor_says_where_the_option_belongs(self) -> None:
        with pytest.raises(TypeError, match="pass stale_after to start"):
            WebSocketApp("ws://example.invalid", stale_after=90)  # type: ignore[call-arg]

    @pytest.mark.parametrize("off", [None, 0])
    def test_it_is_off_without_a_limit(
        self, ws_server: StartServer, ws_clock: VirtualClock, off: float | None
    ) -> None:
        with opened(Noting(ws_server([t.accept()]).url), poll=0, stale_after=off) as app:
            ws_clock.advance(HOUR)
            assert not app.all("stale")
