"""Freshness: which channels are stale, when this is noticed, and what a message costs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lochws import WebSocketApp, events
from lochws import testing as t
from lochws.handlers.freshness import Freshness, StaleChannel
from lochws.handlers.subscriptions import Step, Subscriptions
from lochws.testing import ScriptedServer, StartServer, VirtualClock

from ..support.apps import AT_ONCE, NEVER, opened, running
from ..support.seen import PATIENCE, Noting, eventually

QUIET: Any = {"poll": 0, "ping_rate": 0}


class Watched:
    """An app with a Freshness, and what it has reported.

    Attributes:
        said: what was reported: a stale channel and for how long, or the key of one that is back.
        inside: whether each report was made on the handlers' thread.
    """

    def __init__(self, server: ScriptedServer, limit: Any, **options: Any) -> None:
        self.server = server
        self.app = Noting(server.url)
        self.said: list[Any] = []
        self.inside: list[bool] = []
        key = options.pop("key", lambda event: event.json["key"])
        self.freshness: Freshness[Any] = Freshness(
            self.app, key=key, limit=limit, on_stale=self.stale, on_fresh=self.fresh, **options
        )
        self._sent = 0

    def stale(self, channel: StaleChannel[Any]) -> None:
        self.said.append((channel.key, round(channel.seconds, 3)))
        self.inside.append(self.app.in_handler)

    def fresh(self, key: Any) -> None:
        self.said.append(key)
        self.inside.append(self.app.in_handler)

    def send(self, clock: VirtualClock, *keys: Any, number: int = 0) -> None:
        """Have the server send a message of each channel, and wait until it has been handled."""
        self._sent += len(keys)
        for key in keys:
            self.server.connections[number].do(t.send(json.dumps({"key": key})))
        self.app.wait_for("text", self._sent)
        clock.settle()


def test_a_channel_is_stale_after_its_limit_and_reported_once(
    ws_server: StartServer, ws_clock: VirtualClock
) -> None:
    watched = Watched(ws_server([t.accept()]), 30)
    with opened(watched.app, **QUIET):
        watched.send(ws_clock, "a", "b")
        ws_clock.advance(20)
        watched.send(ws_clock, "b")
        ws_clock.advance(9.9)
        assert watched.said == []
        ws_clock.advance(0.1)
        assert watched.said == [("a", 30)]
        assert watched.freshness.stale == (StaleChannel("a", 30, 30),)
        ws_clock.advance(19.9)
        assert watched.said == [("a", 30)]
        ws_clock.advance(500)
        assert watched.said == [("a", 30), ("b", 30)]
        assert watched.freshness.keys == ("a", "b")
    assert watched.inside == [True, True]


def test_a_channel_that_comes_back_is_reported_and_watched_again(
    ws_server: StartServer, ws_clock: VirtualClock
) -> None:
    watched = Watched(ws_server([t.accept()]), 30)
    with opened(watched.app, **QUIET):
        watched.send(ws_clock, "a")
        ws_clock.advance(100)
        watched.send(ws_clock, "a")
        assert watched.freshness.stale == ()
        ws_clock.advance(29)
        watched.send(ws_clock, "a")
        ws_clock.advance(29)
        assert watched.said == [("a", 30), "a"]
        ws_clock.advance(1)
        assert watched.said == [("a", 30), "a", ("a", 30)]


def test_channels_with_limits_of_their_own_are_watched_from_the_beginning(
    ws_server: StartServer, ws_clock: VirtualClock
) -> None:
    watched = Watched(ws_server([t.accept()]), {"a": 10, "b": 0.5, "c": 1000})
    with opened(watched.app, **QUIET):
        watched.send(ws_clock, "unknown", "c")
        ws_clock.advance(0.5)
        assert watched.said == [("b", 0.5)]
        ws_clock.advance(900)
        assert watched.said == [("b", 0.5), ("a", 10)]
        assert sorted(watched.freshness.keys) == ["a", "b", "c"]


def test_a_new_connection_starts_all_clocks_again(ws_server: StartServer, ws_clock: VirtualClock) -> None:
    watched = Watched(ws_server([t.accept()]), 30)
    with opened(watched.app, persist=AT_ONCE, **QUIET):
        watched.send(ws_clock, "a", "b")
        ws_clock.advance(29)
        watched.send(ws_clock, "b")
        ws_clock.advance(10)
        assert watched.said == [("a", 30)]
        watched.app.reconnect()
        watched.app.wait_for("ready", 2)
        ws_clock.settle()
        assert watched.freshness.stale == ()
        ws_clock.advance(29.9)
        assert watched.said == [("a", 30)]
        watched.send(ws_clock, "b", number=1)
        ws_clock.advance(0.1)
        assert watched.said == [("a", 30), ("a", 30)], "a was not subscribed again, it seems"


def test_nothing_is_stale_between_two_connections(ws_server: StartServer, ws_clock: VirtualClock) -> None:
    watched = Watched(ws_server([t.accept()]), {"a": 10})
    with opened(watched.app, persist=NEVER, **QUIET):
        ws_clock.advance(5)
        watched.app.force_disconnect()
        watched.app.wait_for("back_off")
        ws_clock.advance(500)
        assert watched.said == []
        assert watched.freshness.keys == ("a",)


def test_the_clocks_start_when_the_session_is_ready(ws_server: StartServer, ws_clock: VirtualClock) -> None:
    server = ws_server([t.accept(), t.wait_for("login"), t.pause(50), t.send('{"key": "welcome"}')])
    watched = Watched(server, {"a": 30})
    Subscriptions(watched.app, [Step("login", expect={"key": "welcome"}, timeout=None)])
    with running(watched.app, **QUIET):
        server.connection().wait_until(lambda: server.messages == ["login"])
        ws_clock.advance(50)
        assert watched.app.wait_ready(PATIENCE)
        ws_clock.advance(29.9)
        assert watched.said == []
        ws_clock.advance(0.1)
        assert watched.said == [("a", 30)]


def test_a_removed_channel_is_not_watched_until_it_is_added(
    ws_server: StartServer, ws_clock: VirtualClock
) -> None:
    watched = Watched(ws_server([t.accept()]), 30)
    freshness = watched.freshness
    assert not freshness.remove("never seen")
    with opened(watched.app, persist=AT_ONCE, **QUIET):
        watched.send(ws_clock, "a", "b")
        assert freshness.remove("a")
        eventually(lambda: freshness.keys == ("b",))
        watched.send(ws_clock, "a", "b")  # still on its way when it was unsubscribed
        ws_clock.advance(100)
        assert watched.said == [("b", 30)]
        assert freshness.remove("b")
        eventually(lambda: freshness.stale == ())
        watched.app.reconnect()
        watched.app.wait_for("ready", 2)
        ws_clock.advance(100)
        assert watched.said == [("b", 30)]
        freshness.add("a")
        freshness.add("c")
        eventually(lambda: freshness.keys == ("a", "c"))
        ws_clock.advance(100)
        assert watched.said == [("b", 30), ("a", 30), ("c", 30)]


def test_the_limit_may_change(ws_server: StartServer, ws_clock: VirtualClock) -> None:
    watched = Watched(ws_server([t.accept()]), 30)
    freshness = watched.freshness
    with opened(watched.app, **QUIET):
        watched.send(ws_clock, "a", "b")
        ws_clock.advance(20)
        freshness.limit = 21
        eventually(lambda: freshness.limit == 21)
        ws_clock.advance(1)
        assert watched.said == [("a", 21), ("b", 21)]
        freshness.limit = {"c": 5}
        eventually(lambda: freshness.keys == ("c",))
        assert freshness.stale == ()
        ws_clock.advance(5)
        assert watched.said[2:] == [("c", 5)]
        with pytest.raises(ValueError, match="key='a' has no limit"):
            freshness.add("a")


def test_a_report_may_change_what_is_watched_and_its_exceptions_do_not_stop_others(
    ws_server: StartServer, ws_clock: VirtualClock
) -> None:
    app = Noting(ws_server([t.accept()]).url)
    said: list[str] = []
    raised: list[BaseException] = []
    app.on("error")(raised.append)

    def on_stale(channel: StaleChannel[str]) -> None:
        said.append(channel.key)
        if channel.key == "a":
            freshness.remove("b")
            raise ZeroDivisionError

    limits = dict.fromkeys("abc", 10)
    freshness = Freshness(app, key=lambda event: event.text, limit=limits, on_stale=on_stale)
    with opened(app, **QUIET):
        ws_clock.advance(10)
        assert said == ["a", "c"]
        assert [type(error) for error in raised] == [ZeroDivisionError]


@pytest.mark.parametrize("key", [None, [], "raises", "exits"], ids=str)
def test_messages_without_a_usable_key_belong_to_no_channel(
    key: Any, ws_server: StartServer, ws_clock: VirtualClock
) -> None:
    def key_of(event: Any) -> Any:
        if key == "exits":
            sys.exit()
        return event.json["key"]["nothing"] if key == "raises" else key

    watched = Watched(ws_server([t.accept(), t.send(b"\x00")]), 30, key=key_of)
    with opened(watched.app, **QUIET):
        watched.send(ws_clock, "a")
        ws_clock.advance(100)
        assert watched.said == []
        assert watched.freshness.keys == ()


def test_a_server_cannot_make_the_channels_grow_without_bound(
    ws_server: StartServer, ws_clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(ws_server([t.accept()]), 30, max_keys=3)
    freshness = watched.freshness
    with opened(watched.app, **QUIET):
        watched.send(ws_clock, *range(10))
        assert freshness.keys == (0, 1, 2)
        line = "channel 3 is not being watched: there are already max_keys=3"
        assert caplog.messages == [f"{watched.app.url}: {line}"]
        with pytest.raises(ValueError, match="max_keys=3 channels are being watched already"):
            freshness.add(3)
        freshness.add(2)
        for key in range(10):
            freshness.remove(key)
        eventually(lambda: freshness.keys == ())
        assert len(freshness._ignored) == 3
        watched.send(ws_clock, 0)
        assert freshness.keys == (0,), "that many removed channels are not remembered"


def test_a_message_that_waits_behind_a_slow_handler_counts() -> None:
    """In real time, because nothing reads the network during a handler while virtual time stands still."""
    with ScriptedServer([t.accept(), t.send('{"key": "a"}'), t.send("slow")]) as server:
        watched = Watched(server, 100)

        @watched.app.on("text")
        def hold(event: events.Text) -> None:
            if event.text == "slow":
                server.do(t.send('{"key": "a"}'))
                eventually(lambda: watched.app.waiting_bytes > 0)
                heap, freshness = watched.freshness._heap, watched.freshness
                heap[:] = [(0.0, number, key, doubt) for _, number, key, doubt in heap]
                freshness._seen["a"] -= 1000  # as if its limit had passed
                freshness._look()

        with opened(watched.app):
            watched.app.wait_for("text", 3)
            eventually(lambda: watched.freshness._heap[0][3])  # it will be looked at again
            assert watched.said == []


def test_one_of_2600_channels_that_freezes_is_reported_and_no_other(
    ws_server: StartServer, ws_clock: VirtualClock
) -> None:
    count, frozen = 2600, 1234
    server = ws_server([t.accept()])
    watched = Watched(server, 30)
    received: list[events.Text] = []
    watched.app.on("text")(received.append)

    def pass_a_second(second: int) -> None:
        """Send a message of each tenth channel, so each has one every ten seconds; one freezes after 20 s."""
        keys = [key for key in range(second % 10, count, 10) if key != frozen or second < 20]
        wanted = len(received) + len(keys)
        server.do(t.together(*(t.send(f'{{"key": {key}}}') for key in keys)))
        eventually(lambda: len(received) == wanted)
        ws_clock.advance(1)

    with opened(watched.app, **QUIET):
        for second in range(44):
            assert watched.said == [], second
            pass_a_second(second)
        assert watched.said == [(frozen, 30)], "its last message arrived at 14 s"
        assert len(watched.freshness.keys) == count
        for second in range(44, 60):
            pass_a_second(second)
        assert [channel.key for channel in watched.freshness.stale] == [frozen]


def test_after_leave_nothing_is_reported(ws_server: StartServer, ws_clock: VirtualClock) -> None:
    watched = Watched(ws_server([t.accept()]), {"a": 10})
    with opened(watched.app, **QUIET):
        watched.freshness.leave()
        watched.freshness.leave()
        ws_clock.advance(100)
    assert watched.said == []


def test_messages_are_seen_in_batches_too(ws_server: StartServer, ws_clock: VirtualClock) -> None:
    watched = Watched(ws_server([t.accept()]), 30)
    watched.app.on("batch")(lambda _: None)
    with opened(watched.app, **QUIET):
        watched.send(ws_clock, "a", "b")
        assert watched.freshness.keys == ("a", "b")


def test_a_message_of_a_fresh_channel_only_stores_its_time(
    ws_server: StartServer, ws_clock: VirtualClock
) -> None:
    watched = Watched(ws_server([t.accept()]), 30)
    with opened(watched.app, **QUIET):
        watched.send(ws_clock, *range(100))
        before = list(watched.freshness._heap), watched.freshness._timer
        watched.send(ws_clock, *range(100))
        assert (watched.freshness._heap, watched.freshness._timer) == before


freshness: Any = Freshness


def unstarted() -> WebSocketApp:
    return WebSocketApp("ws://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"app": "x"}, TypeError, "app: expected"),
        ({"key": "x"}, TypeError, "key='x': expected a function"),
        ({"on_stale": None}, TypeError, "on_stale=None"),
        ({"on_fresh": 1}, TypeError, "on_fresh=1"),
        ({"limit": 0}, ValueError, "limit=0: expected more than 0 seconds"),
        ({"limit": float("nan")}, ValueError, "limit=nan"),
        ({"limit": "30"}, TypeError, "limit='30'"),
        ({"limit": {"a": -1}}, ValueError, r"limit\['a'\]=-1"),
        ({"limit": {"a": 1, "b": 1}, "max_keys": 1}, ValueError, "limit has 2 keys: max_keys=1"),
        ({"max_keys": 0}, ValueError, "max_keys=0"),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused_immediately(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    given: dict[str, Any] = {"app": unstarted(), "key": len, "limit": 1, "on_stale": print, **arguments}
    make: Callable[..., object] = freshness
    with pytest.raises(error, match=words):
        make(given.pop("app"), **given)


class TestOnStaleInWords:
    """Instead of a function, ``on_stale`` may say what happens."""

    def test_reconnect_logs_a_warning_and_drops_the_connection_once(
        self, ws_server: StartServer, ws_clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = ws_server([t.accept()], [t.accept()])
        app = Noting(f"{server.url}?token=hush")
        freshness = Freshness(app, key=lambda event: None, limit={"a": 30, "b": 30}, on_stale="reconnect")
        with opened(app, persist=AT_ONCE, **QUIET):
            ws_clock.advance(30)
            event = app.wait_for("disconnected")
            assert event.reason == "channel 'a' has had no message for 30 s"
            assert event.ended_by == "client"
            app.wait_for("ready", 2)
            assert freshness.stale == ()
        (record,) = [vars(record) for record in caplog.records if hasattr(record, "ws_silence")]
        assert record["message"] == f"{server.url}: disconnecting: {event.reason}", "without the query"
        assert [record[field] for field in ("levelname", "ws_event", "ws_silence")] == [
            "WARNING", "stale_channel", 30
        ]

    def test_tell_logs_a_warning_for_each_channel(
        self, ws_server: StartServer, ws_clock: VirtualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = Noting(ws_server([t.accept()]).url)
        freshness = Freshness(app, key=lambda event: None, limit={"a": 30, "b": 30}, on_stale="tell")
        with opened(app, **QUIET):
            ws_clock.advance(100)
            assert [channel.key for channel in freshness.stale] == ["a", "b"]
            assert app.is_active
            assert caplog.messages == [
                f"{app.url}: channel {key!r} has had no message for 30 s" for key in ("a", "b")
            ]

    @pytest.mark.parametrize(("on_stale", "error"), [("die", ValueError), (None, TypeError), (3, TypeError)])
    def test_anything_else_is_refused(self, on_stale: Any, error: type[Exception]) -> None:
        app = Noting("ws://127.0.0.1:9")
        with pytest.raises(error, match=f"on_stale={on_stale!r}: expected "):
            Freshness(app, key=lambda event: None, limit=30, on_stale=on_stale)
