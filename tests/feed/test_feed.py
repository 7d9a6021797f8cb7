"""Feeds over real sockets: renewal, failover, two copies, sending, and what handlers see."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lochws import Backoff, Feed, Threads, WebSocketApp, events
from lochws.errors import WaitFailed, WebSocketClosed, WebSocketError, WebSocketUnavailable
from lochws.feed import Switch
from lochws.handlers.subscriptions import Step, Subscriptions
from lochws.testing import (
    ScriptedServer,
    accept,
    echo,
    fin,
    reject,
    send,
    send_raw,
    wait_for,
    wait_for_close,
)
from lochws.testing.rawframes import frame

from ..support.apps import NEVER
from ..support.seen import PATIENCE, eventually
from .cuts import Outcome, run


def key_of(event: Any) -> object:
    return event.json["n"]


class Noting(Feed):
    """A feed that notes its events."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen: list[Any] = []
        self.threads: set[int] = set()

    def on_event(self, event: Any) -> None:
        self.seen.append(event)
        self.threads.add(threading.get_ident())

    def names(self) -> list[str]:
        return [event.name for event in self.seen if event.name not in {"poll", "ping", "pong"}]

    def texts(self) -> list[str]:
        return [event.text for event in self.seen if event.name == "text"]


def test_no_message_is_missing_or_repeated_at_announced_ends_nor_with_two_copies_at_any() -> None:
    """The short form of ``python -m tests.feed``: a stream of 500 messages per second."""
    kinds = [("asked", 1, 1), ("message", 1, 1), ("fin", 2, 1), ("1001", 2, 2)]
    with ThreadPoolExecutor(len(kinds)) as pool:
        outcomes: list[Outcome] = list(pool.map(lambda kind: run(*kind), kinds))
    for outcome in outcomes:
        assert outcome.messages > 100
        assert (outcome.missing, outcome.duplicates, outcome.backwards) == (0, 0, 0), outcome


def test_a_renewal_is_one_switch_and_no_event_and_later_sends_go_to_the_new_connection() -> None:
    switches: list[Switch] = []
    first = [accept(), wait_for("one"), send('{"n": 1}'), wait_for_close()]
    second = [accept(), send('{"n": 1}'), send('{"n": 2}'), wait_for("two"), wait_for_close()]
    with ScriptedServer(first, second) as server:
        feed = Noting(WebSocketApp, [server.url], key=key_of, on_switch=switches.append)
        with feed:
            assert feed.wait_ready(PATIENCE)
            feed.send_text("one")
            eventually(lambda: bool(feed.texts()))
            feed.renew()
            eventually(lambda: len(feed.texts()) == 2)
            feed.send_text("two")
            eventually(lambda: len(feed.status().legs) == 1)
            assert feed.names() == ["connecting", "connected", "ready", "text", "text"]
            assert feed.texts() == ['{"n": 1}', '{"n": 2}']
            assert (feed.status().switches, feed.status().losses) == (1, 0)
            assert [(switch.reason, switch.is_overlapping) for switch in switches] == [("asked", True)]
        assert len(feed.threads) == 1
        assert feed.names()[-1] == "disconnected"


def test_a_new_connection_takes_over_only_when_its_session_is_set_up() -> None:
    def connect(url: str) -> WebSocketApp:
        app = WebSocketApp(url)
        Subscriptions(app, [Step("log in", expect=lambda event: event.text == "welcome")])
        return app

    go = threading.Event()
    first = [accept(), wait_for("log in"), send("welcome"), wait_for("to the first"), wait_for_close()]
    second = [
        accept(), wait_for("log in"), lambda _: go.wait(PATIENCE), send("welcome"), wait_for("to the second"),
        wait_for_close(),
    ]
    with ScriptedServer(first, second) as server, Noting(connect, [server.url]) as feed:
        assert feed.wait_ready(PATIENCE)
        feed.renew()
        server.wait_until(lambda: server.messages.count("log in") == 2)
        feed.send_text("to the first")
        go.set()
        eventually(lambda: feed.status().switches == 1)
        feed.send_text("to the second")
        server.wait_until(lambda: "to the second" in server.messages)
        assert feed.names().count("ready") == 1


def test_the_apps_own_handlers_of_messages_see_only_what_is_passed_on() -> None:
    seen: list[str] = []

    class Own(WebSocketApp):
        def on_text(self, event: events.Text) -> None:
            seen.append(event.text)

    script = [accept(), send('{"n": 1}'), send('{"n": 2}'), wait_for_close()]
    with ScriptedServer(script, script) as server, Noting(Own, [server.url], copies=2, key=key_of) as feed:
        eventually(lambda: sum(leg.first + leg.later for leg in feed.status().legs) == 4)
        assert feed.texts() == seen == ['{"n": 1}', '{"n": 2}']


class Batching(WebSocketApp):
    """An app with two handlers of batches and a route, which note what they get."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.batched: list[str] = []
        self.batched_too: list[str] = []
        self.routed: list[str] = []
        for noted in (self.batched, self.batched_too):
            self.on("batch")(lambda batch, noted=noted: noted.extend(event.text for event in batch))
        self.route(lambda message: "n" in message)(lambda event: self.routed.append(event.text))

    def noted(self) -> list[list[str]]:
        return [self.batched, self.batched_too, self.routed]


def at_once(*messages: str) -> Any:
    """Send messages so that they are received as one batch."""
    return send_raw(b"".join(frame(1, message.encode()) for message in messages))


def test_each_message_of_a_batch_reaches_the_apps_own_handlers_by_its_own_fate() -> None:
    one, two, three = '{"n": 1}', '{"n": 2}', '{"n": 3}'
    script = [accept(), at_once(one, one, two, two), wait_for("more"), at_once(two, three), wait_for_close()]
    apps: list[Batching] = []

    def connect(url: str) -> Batching:
        apps.append(Batching(url))
        return apps[-1]

    with ScriptedServer(script) as server:
        with Noting(connect, [server.url], key=key_of) as feed:
            eventually(lambda: feed.texts() == [one, two])
            feed.send_text("more")
            eventually(lambda: feed.texts() == [one, two, three])
        assert apps[0].noted() == [[one, two, three]] * 3


def test_a_batch_that_is_held_back_until_the_session_is_ready_is_then_handled_by_the_fate_of_each() -> None:
    one, two, welcome = '{"n": 1}', '{"n": 2}', '{"welcome": true}'
    apps: list[Batching] = []

    def connect(url: str) -> Batching:
        app = Batching(url)
        Subscriptions(app, [Step("log in", expect=lambda event: event.text == welcome)])
        apps.append(app)
        return app

    script = [accept(), wait_for("log in"), at_once(one, one, two, welcome), wait_for_close()]
    with ScriptedServer(script) as server:
        with Noting(connect, [server.url], key=key_of) as feed:
            eventually(lambda: feed.texts() == [one, two, welcome])
        assert apps[0].noted() == [[one, two, welcome], [one, two, welcome], [one, two]]


def test_a_url_that_fails_is_replaced_by_the_next_at_once_and_the_report_says_why() -> None:
    with ScriptedServer([reject(503)]) as bad, ScriptedServer([accept(), wait_for_close()]) as good:
        feed = Noting(WebSocketApp, [bad.url, good.url])
        feed.start(persist=NEVER)
        assert feed.wait_ready(PATIENCE)
        first, second = feed.status().urls
        assert (first.failures, first.opened, second.failures, second.opened) == (1, 0, 0, 1)
        assert "503" in first.last_failure
        assert first.cooling_for > 0
        assert feed.stop(PATIENCE)


def test_a_lost_connection_is_a_disconnected_a_back_off_and_a_ready() -> None:
    with ScriptedServer([accept(), wait_for("go"), fin()], [accept(), wait_for_close()]) as server:
        feed = Noting(WebSocketApp, [server.url])
        feed.start(persist=Backoff(min_wait=0.01, max_wait=0.01))
        assert feed.wait_ready(PATIENCE)
        feed.send_text("go")
        eventually(lambda: feed.names().count("ready") == 2)
        middle = ["disconnected", "back_off", "connecting", "connected", "ready"]
        assert feed.names()[-5:] == middle
        assert feed.status().losses == 1
        assert feed.stop(PATIENCE)


def test_a_server_that_refuses_a_second_session_is_found_out_and_then_the_first_closes_before() -> None:
    refusals = [[reject(409)], [reject(409)]]
    stays = [accept(), wait_for_close()]
    with ScriptedServer(stays, *refusals, stays) as server, Noting(WebSocketApp, [server.url]) as feed:
        assert feed.wait_ready(PATIENCE)
        feed.renew()
        eventually(lambda: feed.status().single_session)
        eventually(lambda: feed.names().count("ready") == 2)
        assert feed.names().count("disconnected") == 1


def test_without_a_key_only_the_connection_that_sends_is_heard() -> None:
    heard = threading.Event()
    first = [accept(), wait_for("go"), lambda _: heard.wait(PATIENCE), send("old"), wait_for_close()]
    second = [accept(), echo(), wait_for_close()]
    with ScriptedServer(first, second) as server, Noting(WebSocketApp, [server.url]) as feed:
        assert feed.wait_ready(PATIENCE)
        feed.send_text("go")
        feed.renew()
        eventually(lambda: feed.status().switches == 1)
        heard.set()
        feed.send_text("new")
        eventually(lambda: bool(feed.texts()))
        assert feed.texts() == ["new"]


def test_a_feed_gives_up_when_it_may_not_persist_and_can_be_started_again() -> None:
    with ScriptedServer([accept(), fin()], [accept(), wait_for_close()]) as server:
        feed = Noting(WebSocketApp, [server.url])
        assert isinstance(feed.run_forever(persist=False), events.Disconnected)
        with pytest.raises(WebSocketClosed, match="the feed has stopped"):
            feed.send_text("x")
        with feed:
            assert feed.wait_ready(PATIENCE)


def test_closing_ends_a_back_off_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with ScriptedServer([reject(503)]) as server:
        feed = Noting(WebSocketApp, [server.url])
        feed.start(persist=NEVER)
        eventually(lambda: "back_off" in feed.names())
        with pytest.raises(WaitFailed, match="no connection is open yet"):
            feed.wait_ready(0.01, check=True)
        assert feed.stop(PATIENCE)
    assert threading.active_count() == before


def test_a_feed_that_is_closed_at_any_moment_after_its_start_stops() -> None:
    with ScriptedServer([accept(), wait_for_close()]) as server:
        for number in range(100):
            feed = Feed(WebSocketApp, [server.url], copies=2, key=key_of)
            feed.start()
            if number % 2:
                threading.Event().wait(number / 20_000)
            assert feed.stop(PATIENCE)


def test_an_app_that_was_closed_before_its_start_counts_as_a_failed_attempt() -> None:
    def connect(url: str) -> WebSocketApp:
        app = WebSocketApp(url)
        app.close()
        return app

    feed = Noting(connect, ["ws://127.0.0.1:9"])
    end = feed.run_forever(persist=False)
    assert "closed before its first attempt" in str(end)
    assert feed.names() == ["connect_fail"]


def test_a_feed_that_was_closed_before_its_start_stops_at_once() -> None:
    feed = Feed(WebSocketApp, ["ws://127.0.0.1:9"])
    assert feed.stop(PATIENCE)
    assert feed.is_stopping
    assert feed.run_forever() is None


def test_what_the_factory_does_wrong_is_said_when_the_feed_starts() -> None:
    url = "ws://127.0.0.1:9"
    for factory, error, words in (
        (lambda url: 3, TypeError, "factory returned 3: expected a WebSocketApp"),
        (lambda url: WebSocketApp(url, threads=Threads()), ValueError, "pass them to the Feed instead"),
    ):
        feed = Feed(factory, [url])  # type: ignore[arg-type]
        with pytest.raises(error, match=words):
            feed.start()
        with pytest.raises(WebSocketUnavailable, match=r"call start\(\) first"):
            feed.send_text("x")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"urls": "ws://a"}, "expected a list of URLs"),
        ({"urls": []}, "urls is empty"),
        ({"urls": ["ftp://a"]}, "ftp"),
        ({"urls": ["ws://a", "ws://a"]}, "listed twice"),
        ({"copies": 3}, "copies=3: expected a whole number from 1 to 2"),
        ({"copies": 2}, "copies=2 needs key"),
        ({"order": key_of}, "order needs key"),
        ({"renew_after": 0}, "renew_after=0: expected more than 0 seconds"),
        ({"renew_on": 1001}, "renew_on=1001: expected close codes, or a function"),
        ({"renew_on": (99,)}, "renew_on=99: expected a whole number from 1000 to 4999"),
        ({"key": 3}, "key=3: expected a function of one argument"),
        ({"factory": 3}, "factory=3: expected a function of one argument"),
        ({"window": 0}, "window=0"),
        ({"drain": -1}, "drain=-1"),
        ({"threads": 3}, "threads=3: expected a lochws.Threads"),
    ],
)
def test_an_invalid_argument_is_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        Feed(**{"factory": WebSocketApp, "urls": ["ws://a"], **options})


def test_what_would_wait_for_a_handler_is_refused_in_it() -> None:
    errors: list[str] = []

    def look(event: events.Ready) -> None:
        with pytest.raises(WebSocketError) as caught:
            feed.join()
        errors.append(str(caught.value))

    with ScriptedServer([accept(), wait_for_close()]) as server:
        feed = Noting(WebSocketApp, [server.url])
        feed.on("ready")(look)
        with feed:
            eventually(lambda: bool(errors))
    assert errors == ["join() was called in a handler, and would wait for that handler's end"]
