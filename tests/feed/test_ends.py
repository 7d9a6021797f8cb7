"""Feeds whose connections end at awkward moments, and the faults of factories and servers."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import lochws
from lochws import Feed, WebSocketApp, events
from lochws.errors import WebSocketError
from lochws.feed.leg import Leg
from lochws.feed.merge import Merge
from lochws.feed.meter import LegMeter
from lochws.feed.rivalry import REFUSAL_SECONDS, Rivalry
from lochws.handlers.subscriptions import Step, Subscriptions
from lochws.response import Response
from lochws.testing import ScriptedServer, accept, close, fin, reject, send, wait_for, wait_for_close

from ..support.apps import NEVER
from ..support.seen import PATIENCE, eventually
from .test_feed import Noting, at_once, key_of

STAYS = [accept(), wait_for_close()]

#: How the names of a feed's threads begin.
THREADS = ("lochws-reader", "lochws-supervisor")


def renewed(feed: Feed, times: int = 1) -> None:
    """Renew a feed, and wait until the new connection is in use."""
    for _ in range(times):
        before = feed.status().switches
        feed.renew()
        eventually(lambda before=before: feed.status().switches == before + 1)


def test_a_connection_that_has_ended_is_forgotten_however_often_a_feed_is_renewed() -> None:
    apps: list[weakref.ref[WebSocketApp]] = []

    def connect(url: str) -> WebSocketApp:
        app = WebSocketApp(url)
        apps.append(weakref.ref(app))
        return app

    with ScriptedServer(STAYS) as server, Noting(connect, [server.url]) as feed:
        assert feed.wait_ready(PATIENCE)
        renewed(feed, 12)
        eventually(lambda: len(feed.status().legs) == 1)
        feed.seen.clear()

        def alive() -> int:
            gc.collect()
            return sum(app() is not None for app in apps)

        eventually(lambda: alive() <= 2)
        assert len(apps) == 13


def test_reconnecting_the_app_of_a_connection_makes_the_feed_open_another_one() -> None:
    before = threading.active_count()
    with ScriptedServer(STAYS) as server:
        with Noting(WebSocketApp, [server.url]) as feed:
            assert feed.wait_ready(PATIENCE)
            first = feed.app
            first.reconnect()
            eventually(lambda: feed.is_active and feed.app is not first)
            assert first.state.name == "STOPPED"
        eventually(lambda: threading.active_count() <= before + 2)  # the server has some, too


def test_if_the_new_connection_closes_while_the_old_one_drains_the_old_one_is_used_again() -> None:
    closes = [accept(), wait_for("bye"), close(1011), wait_for_close()]
    with ScriptedServer(STAYS, closes, STAYS) as server:
        feed = Noting(WebSocketApp, [server.url], key=key_of, drain=60.0)
        with feed:
            assert feed.wait_ready(PATIENCE)
            first = feed.app
            renewed(feed)
            feed.send_text("bye")
            eventually(lambda: feed.status().switches == 2)
            assert feed.app is first
            feed.send_text("still here")
            server.wait_until(lambda: "still here" in server.messages)
            assert feed.names() == ["connecting", "connected", "ready"]
            eventually(lambda: feed.status().switches == 3)  # it is renewed once more


def test_a_middle_connection_may_end_while_the_one_before_drains_and_the_next_is_in_use() -> None:
    middle = [accept(), wait_for("end"), fin()]
    with ScriptedServer(STAYS, middle, STAYS) as server:
        feed = Noting(WebSocketApp, [server.url], key=key_of, drain=60.0)
        with feed:
            assert feed.wait_ready(PATIENCE)
            renewed(feed)
            second = feed.app
            renewed(feed)
            third = feed.app
            second.send_text("end")
            eventually(lambda: second.state.name == "STOPPED")
            assert feed.app is third
            renewed(feed)
            assert feed.names() == ["connecting", "connected", "ready"]


def test_a_feed_that_gives_up_while_an_old_connection_is_still_closing_stops_after_that() -> None:
    deaf = [accept(), lambda _: heard.wait(PATIENCE)]
    heard = threading.Event()
    with ScriptedServer(deaf, [accept(), wait_for("end"), fin()]) as server:
        feed = Noting(WebSocketApp, [server.url])
        feed.start(persist=False, close_timeout=0.5)
        assert feed.wait_ready(PATIENCE)
        renewed(feed)
        feed.send_text("end")
        assert feed.join(PATIENCE)
        heard.set()


def test_a_factory_that_fails_ends_a_feed_that_may_not_persist() -> None:
    made = []

    def connect(url: str) -> WebSocketApp:
        made.append(url)
        if len(made) == 2:
            raise RuntimeError("no second")
        return WebSocketApp(url)

    with ScriptedServer([accept(), wait_for("end"), fin()]) as server:
        feed = Noting(connect, [server.url], copies=2, key=key_of)
        feed.start(persist=False)
        assert feed.wait_ready(PATIENCE)
        feed.send_text("end")
        assert feed.join(PATIENCE)
        assert len(made) == 2


def test_what_a_server_says_before_it_refuses_the_login_is_seen() -> None:
    def connect(url: str) -> WebSocketApp:
        app = WebSocketApp(url)
        Subscriptions(app, [Step("log in", expect=lambda event: event.text == "welcome")])
        return app

    script = [accept(), wait_for("log in"), send('{"error": "expired"}'), close(1008), wait_for_close()]
    with ScriptedServer(script) as server:
        feed = Noting(connect, [server.url], key=key_of)
        feed.run_forever(persist=False)
        assert feed.texts() == ['{"error": "expired"}']
        assert feed.names()[-2:] == ["text", "disconnected"]


def test_an_app_that_would_reconnect_by_itself_is_refused_with_advice() -> None:
    feed = Feed(partial(WebSocketApp, on_handler_error="reconnect"), ["ws://127.0.0.1:9"])
    with pytest.raises(ValueError, match="use 'stop', after which the feed opens another"):
        feed.start()


def test_handlers_of_sent_messages_are_refused() -> None:
    class Observing:
        def on_sent(self, sent: Any) -> None:
            raise AssertionError

    class ObservingFeed(Observing, Feed):
        pass

    with pytest.raises(ValueError, match="with the apps that the factory makes"):
        Feed(WebSocketApp, ["ws://a"]).add_handler(Observing())
    with pytest.raises(ValueError, match="with the apps that the factory makes"):
        ObservingFeed(WebSocketApp, ["ws://a"])


@pytest.mark.parametrize("fault", [KeyError, SystemExit, RecursionError])
def test_a_message_whose_key_function_fails_is_passed_on_by_the_connection_in_use(
    fault: type[BaseException]
) -> None:
    def key(event: Any) -> Any:
        if event.text == "unhashable":
            return []
        if event.text == "failing":
            raise fault
        return event.text

    script = [accept(), send("failing"), send("same"), send("unhashable"), send("same"), wait_for_close()]
    with ScriptedServer(script) as server, Noting(WebSocketApp, [server.url], key=key) as feed:
        eventually(lambda: len(feed.texts()) == 3)
        assert feed.texts() == ["failing", "same", "unhashable"]


def test_a_slow_key_function_delays_messages_but_no_ping() -> None:
    def key(event: Any) -> Any:
        before = len(server.connections[0].pings)
        eventually(lambda: len(server.connections[0].pings) > before + 5)
        return event.text

    script = [accept(), send("a"), send("b"), wait_for("done"), wait_for_close()]
    with ScriptedServer(script) as server:
        feed = Noting(WebSocketApp, [server.url], key=key)
        feed.start(ping_rate=0.05, ping_timeout=PATIENCE)
        eventually(lambda: feed.texts() == ["a", "b"])
        feed.send_text("done")
        assert feed.status().losses == 0
        assert feed.stop(PATIENCE)


def test_long_keys_from_a_server_are_remembered_by_their_digest_and_still_tell_duplicates() -> None:
    def key(event: Any) -> Any:
        return ("channel", event.json["id"])

    one, other = '{"id": "%s"}' % ("x" * 10_000), '{"id": "%s"}' % ("x" * 9_999 + "y")
    script = [accept(), send(one), send(other), send(one), send(other), send('{"id": 1}'), wait_for_close()]
    with ScriptedServer(script) as server, Noting(WebSocketApp, [server.url], key=key) as feed:
        eventually(lambda: len(feed.texts()) == 3)
        assert feed.texts() == [one, other, '{"id": 1}']
        conductor = feed._life.conductor
        assert conductor is not None
        assert len(repr(conductor._stream.merge._seen)) < 2_000


def test_held_messages_are_bounded_in_memory_too() -> None:
    merge: Merge[bytes] = Merge(1000, len, max_bytes=250)
    merge.join(0, LegMeter())
    merge.receive(0, 0, b"", 0.0)
    merge.join(1, LegMeter())
    large = b"x" * 100
    assert [merge.receive(1, key, large, 0.0) for key in (10, 11, 12)] == [[], [], [large] * 3]


def leg_of(number: int, url: str, ready_at: float | None) -> Leg:
    leg = Leg(number, 0, url, WebSocketApp(url), 0.0, None, "asked")
    leg.ready_at = ready_at
    return leg


def rejection(status: int) -> events.Rejected:
    head = f"HTTP/1.1 {status} No\r\n\r\n".encode()
    return events.Rejected(Response(head), "no")


def test_an_overloaded_server_and_one_at_another_url_are_not_taken_for_one_with_a_single_session() -> None:
    rivalry = Rivalry()
    alive = leg_of(1, "ws://a", 0.0)
    for status, url in ((503, "ws://a"), (500, "ws://a"), (409, "ws://b"), (429, "ws://b")):
        refused = leg_of(2, url, None)
        refused.rejected = rejection(status)
        rivalry.ended(refused, events.Disconnected("rejected"), "opening", [alive], 1.0)
    assert not rivalry.allows_one(1.0)


def test_refusals_of_a_second_session_are_believed_for_a_while_and_ends_for_good() -> None:
    alive, refused = leg_of(1, "ws://a", 0.0), leg_of(2, "ws://a", None)
    refused.rejected = rejection(409)
    rivalry = Rivalry()
    for _ in range(2):
        rivalry.ended(refused, events.Disconnected("rejected"), "opening", [alive], 1.0)
    assert rivalry.allows_one(1.0)
    assert not rivalry.allows_one(1.0 + REFUSAL_SECONDS)

    rivalry = Rivalry()
    rising = leg_of(2, "ws://a", 10.0)
    end = events.Disconnected("closed", ended_by="server", received_code=4001)
    for _ in range(2):
        rivalry.ended(alive, end, "ready", [rising], 10.5)
    assert rivalry.allows_one(1e9)


def test_a_handler_of_batches_may_be_removed_in_the_middle_of_a_batch() -> None:
    routed: list[str] = []

    class Removing(WebSocketApp):
        def __init__(self, url: str) -> None:
            super().__init__(url)
            self.on("batch")(self.take)
            self.route(lambda message: True)(lambda event: routed.append(event.text))

        def on_event(self, event: Any) -> None:
            if event.name == "text" and event.json["n"] == 2:
                self.remove_handler(self.take)

        def take(self, batch: Any) -> None:
            raise AssertionError

    one, two, three = '{"n": 1}', '{"n": 2}', '{"n": 3}'
    script = [accept(), at_once(one, one, two, three, three), wait_for_close()]
    with ScriptedServer(script) as server, Noting(Removing, [server.url], key=key_of) as feed:
        eventually(lambda: len(routed) == 3)
        assert feed.texts() == routed == [one, two, three]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # an interrupted call leaves its sockets to gc
def test_a_feed_is_closed_by_ctrl_c_anywhere_in_its_start() -> None:
    """Raise at each point of our code in `start`: the feed can be stopped, and no thread is left.

    Python runs signal handlers when a function begins and after a call of one written in C, but not between
    `__enter__` and the body of `with`, nor right before `__exit__`.
    """
    ours = str(Path(lochws.__file__).parent)
    with ScriptedServer(STAYS) as server:
        number, struck = 0, True
        while struck:
            number, struck = number + 1, False
            feed = Feed(WebSocketApp, [server.url])
            count = 0

            def trace(frame: Any, kind: str, argument: Any, number: int = number) -> None:
                nonlocal count, struck
                is_point = kind == "call" or (kind == "c_return" and argument.__name__ != "__enter__")
                count += is_point
                if is_point and count >= number and frame.f_code.co_filename.startswith(ours):
                    sys.setprofile(None)
                    struck = True
                    raise KeyboardInterrupt

            try:
                gc.disable()  # an exception in a finalizer would be lost
                sys.setprofile(trace)
                feed.start()
            except KeyboardInterrupt:
                pass
            finally:
                sys.setprofile(None)
                gc.enable()
            assert feed.stop(PATIENCE), number
            # An interrupted start leaves nothing behind that would hang the next one.
            feed = Feed(WebSocketApp, [server.url])
            feed.start()
            assert feed.stop(PATIENCE), number
            eventually(lambda: not any(thread.name.startswith(THREADS) for thread in threading.enumerate()))
        assert number > 150
    gc.collect()


def test_a_second_start_is_refused() -> None:
    with ScriptedServer(STAYS) as server:
        feed = Feed(WebSocketApp, [server.url])
        feed.start()
        with pytest.raises(WebSocketError, match="already started"):
            feed.start()
        assert feed.stop(PATIENCE)


def test_a_server_that_refuses_copies_for_a_while_gets_the_second_one_later() -> None:
    # A refusal counts only if the other connection is open by then.
    refuses = [lambda _: eventually(lambda: feed.is_active), reject(409)]
    with ScriptedServer(STAYS, refuses, refuses, STAYS) as server:
        feed = Noting(WebSocketApp, [server.url], copies=2, key=key_of)
        with feed:
            eventually(lambda: feed.status().single_session)
            conductor = feed._life.conductor
            assert conductor is not None

            def later() -> None:
                slot = next(slot for slot in conductor._slots if slot.main is None)
                assert slot.timer is not None
                assert slot.timer.cancel()
                conductor._rivalry.until = 0.0
                conductor._open(slot)

            conductor.call_later(0, later)
            eventually(lambda: len(feed.status().legs) == 2 and not feed.status().single_session)


def test_when_every_url_has_failed_the_back_off_decides_even_without_a_cool_down() -> None:
    with ScriptedServer([reject(503)]) as one, ScriptedServer([reject(503)]) as other:
        feed = Noting(WebSocketApp, [one.url, other.url], cool_down=0)
        feed.start(persist=NEVER)
        eventually(lambda: "back_off" in feed.names())
        assert feed.names().count("connecting") == 2
        assert feed.stop(PATIENCE)


def test_a_close_method_of_the_users_that_fails_keeps_no_connection_open() -> None:
    class Failing(WebSocketApp):
        def close(self, code: int | None = 1000, reason: str | bytes = "") -> None:
            raise OSError("cannot")

    with ScriptedServer(STAYS) as server:
        feed = Noting(Failing, [server.url])
        feed.start()
        assert feed.wait_ready(PATIENCE)
        renewed(feed)
        eventually(lambda: len(feed.status().legs) == 1)
        assert feed.stop(PATIENCE)


def test_no_report_and_no_log_line_has_the_credentials_or_the_token_of_a_url(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made: list[str] = []

    def connect(url: str) -> WebSocketApp:
        made.append(url)
        if len(made) == 2:
            raise OSError(f"{url}: no")
        return WebSocketApp(url)

    caplog.set_level("INFO", "lochws")
    with ScriptedServer(STAYS) as server:
        url = server.url.replace("ws://", "ws://me:hunter2@") + "?token=sesame"
        switches: list[Any] = []
        feed = Noting(connect, [url], on_switch=switches.append)
        with feed:
            assert feed.wait_ready(PATIENCE)
            feed.renew()  # the factory fails, and is called again
            eventually(lambda: bool(switches))
            shown = f"{feed!r} {feed.status()} {switches}"
            assert feed.status().urls[0].last_failure.count("no")
    assert made == [url] * 3
    assert "hunter2" not in shown
    lines = [record.getMessage() for record in caplog.records]
    assert any("could not make" in line for line in lines)
    assert any("switched" in line for line in lines)
    assert not any("hunter2" in line or "sesame" in line for line in lines)
    assert "sesame" not in feed.status().urls[0].last_failure
