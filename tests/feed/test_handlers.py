"""Handlers, mailboxes and coroutines of a feed, and its use from other threads and processes."""

from __future__ import annotations

import _thread
import asyncio
import os
import threading
from typing import Any

import pytest

from lochws import Feed, WebSocketApp, events, route
from lochws.errors import WebSocketClosed, WebSocketError
from lochws.testing import ScriptedServer, accept, send, wait_for, wait_for_close

from ..support.seen import PATIENCE, eventually
from .test_ends import STAYS, renewed
from .test_feed import Noting, key_of

NUMBERS = [f'{{"n": {number}}}' for number in range(6)]


def two_connections() -> ScriptedServer:
    """Return a server whose connections overlap: the first delivers 0 to 2, the second 1 to 5."""
    first = [accept(), wait_for("first"), *map(send, NUMBERS[:3]), wait_for_close()]
    second = [accept(), wait_for("second"), *map(send, NUMBERS[1:]), wait_for_close()]
    return ScriptedServer(first, second)


def test_a_mailbox_of_a_feed_has_one_stream_over_several_connections() -> None:
    with two_connections() as server:
        feed = Feed(WebSocketApp, [server.url], key=key_of)
        mailbox = feed.mailbox("text")
        with feed:
            assert feed.wait_ready(PATIENCE)
            feed.send_text("first")
            assert [mailbox.get(PATIENCE).text for _ in range(3)] == NUMBERS[:3]
            renewed(feed)
            feed.send_text("second")
            assert [mailbox.get(PATIENCE).text for _ in range(3)] == NUMBERS[3:]
            with pytest.raises(TimeoutError):
                mailbox.get(0)
        with pytest.raises(WebSocketClosed, match="no more events will arrive"):
            mailbox.get(PATIENCE)


def test_an_async_loop_over_a_mailbox_of_a_feed_ends_with_the_feed() -> None:
    async def collect(feed: Feed) -> list[str]:
        seen = []
        async for event in feed.mailbox("text"):
            seen.append(event.text)
            if len(seen) == 3:
                feed.close()
        return seen

    with two_connections() as server:
        feed = Feed(WebSocketApp, [server.url], key=key_of)
        feed.on("ready")(lambda event: feed.send_text("first"))
        feed.start()
        assert asyncio.run(asyncio.wait_for(collect(feed), PATIENCE)) == NUMBERS[:3]
        assert feed.stop(PATIENCE)


def test_closing_a_feed_whose_mailbox_is_full_does_not_wait_for_a_consumer() -> None:
    with two_connections() as server:
        feed = Feed(WebSocketApp, [server.url], key=key_of)
        mailbox = feed.mailbox(events.Text, size=1)
        feed.start()
        assert feed.wait_ready(PATIENCE)
        feed.send_text("first")
        eventually(lambda: len(mailbox) == 1)
        assert feed.stop(PATIENCE)
        assert mailbox.get(0).text == NUMBERS[0]


def test_a_mailbox_of_a_feed_refuses_what_that_of_an_app_does() -> None:
    feed = Feed(WebSocketApp, ["ws://127.0.0.1:9"])
    with pytest.raises(ValueError, match=r"feed.mailbox\('sent'\)"):
        feed.mailbox("sent")
    with pytest.raises(ValueError, match="size"):
        feed.mailbox(size=0)


def test_routes_of_a_feed_get_the_messages_that_match_once() -> None:
    class Routing(Noting):
        @route(n=1)
        def one(self, event: events.Text) -> None:
            seen.append(event.text)

    seen: list[str] = []
    with two_connections() as server, Routing(WebSocketApp, [server.url], key=key_of) as feed:
        feed.route(lambda message: message["n"] > 2)(lambda event: seen.append(event.text))
        assert feed.wait_ready(PATIENCE)
        feed.send_text("first")
        eventually(lambda: len(feed.texts()) == 3)
        renewed(feed)
        feed.send_text("second")
        eventually(lambda: len(feed.texts()) == 6)
        assert seen == [NUMBERS[1], *NUMBERS[3:]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ping_interval": 3}, "ping_rate"), ({"ping_rate": "3"}, "ping_rate='3'"),
        ({"persist": 3}, "persist=3"),
    ],
)
def test_an_invalid_argument_of_start_is_refused_by_name(options: dict[str, Any], words: str) -> None:
    feed = Feed(WebSocketApp, ["ws://127.0.0.1:9"])
    with pytest.raises((TypeError, ValueError), match=words):
        feed.start(**options)
    assert feed.join(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_the_child_of_a_fork_a_feed_has_stopped_and_can_be_started_and_the_parent_goes_on() -> None:
    with ScriptedServer(STAYS) as server, Noting(WebSocketApp, [server.url]) as feed:
        mailbox = feed.mailbox("text")
        assert feed.wait_ready(PATIENCE)
        child = os.fork()
        if not child:
            status = 1
            try:
                assert not feed.is_active
                assert feed.join(0)
                assert len(mailbox) == 0
                feed.start()
                assert feed.wait_ready(PATIENCE)
                assert feed.stop(PATIENCE)
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        renewed(feed)
        assert feed.status().losses == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_handler_of_a_feed_may_fork() -> None:
    codes: list[int] = []

    def fork(event: events.Ready) -> None:
        child = os.fork()
        if not child:
            os._exit(7 if not feed.is_active else 1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with ScriptedServer(STAYS) as server:
        feed = Noting(WebSocketApp, [server.url])
        feed.on("ready")(fork)
        with feed:
            eventually(lambda: codes == [7])
            renewed(feed)


def test_any_public_method_may_be_called_in_a_handler_and_during_a_switch() -> None:
    errors: list[BaseException] = []

    def call_all(_: Any) -> None:
        feed.status()
        feed.renew()
        feed.mailbox("pong").close()
        feed.call_later(0, lambda: None)
        feed.call_later(60, lambda: None).cancel()
        handler = feed.on("pong")(lambda event: None)
        feed.remove_handler(handler)
        assert feed.wait_ready(0) == feed.is_active
        for refused in (feed.start, feed.join, feed.run_forever):
            with pytest.raises(WebSocketError):
                refused()
        repr(feed)

    with ScriptedServer(STAYS) as server:
        feed = Noting(WebSocketApp, [server.url], on_switch=call_all)
        feed.on("error")(errors.append)
        feed.on("ready")(call_all)
        with feed:
            eventually(lambda: feed.status().switches >= 3)
            feed.on("disconnected")(lambda event: feed.stop())
        assert not errors


def test_a_feed_that_is_closed_during_a_switch_stops() -> None:
    for number in range(20):
        with ScriptedServer(STAYS) as server:
            feed = Noting(WebSocketApp, [server.url], key=key_of)
            feed.start()
            assert feed.wait_ready(PATIENCE)
            feed.renew()
            threading.Event().wait(number / 2000)
            assert feed.stop(PATIENCE)


def test_ctrl_c_in_run_forever_closes_the_feed_and_propagates() -> None:
    with ScriptedServer(STAYS) as server:
        feed = Noting(WebSocketApp, [server.url])
        feed.on("ready")(lambda event: _thread.interrupt_main())
        with pytest.raises(KeyboardInterrupt):
            feed.run_forever()
        assert feed.join(PATIENCE)
        assert feed.names()[-1] == "disconnected"


def test_a_feed_that_fails_to_start_in_run_forever_is_not_closed_for_later() -> None:
    feed = Noting(WebSocketApp, ["ws://127.0.0.1:9"])
    with pytest.raises(ValueError, match="ping_rate"):
        feed.run_forever(ping_rate=-1)
    assert not feed.is_stopping
