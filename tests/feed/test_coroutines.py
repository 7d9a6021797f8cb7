"""Feeds from a running event loop, and streams that a feed sends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lochws import Feed, WebSocketApp, events
from lochws.errors import WaitFailed, WebSocketError, WebSocketUnavailable
from lochws.testing import ScriptedServer, accept, reject, send, wait_for, wait_for_close

from ..support.seen import PATIENCE, eventually
from .test_feed import key_of


def test_coroutines_wait_for_a_feed_and_its_events_and_the_loop_goes_on() -> None:
    first = [accept(), wait_for("go"), send('{"n": 1}'), send('{"n": 2}'), wait_for_close()]
    second = [accept(), send('{"n": 2}'), send('{"n": 3}'), wait_for_close()]

    async def main() -> tuple[list[Any], bool]:
        loop, seen, all_seen = asyncio.get_running_loop(), [], asyncio.Event()
        feed = Feed(WebSocketApp, [server.url], key=key_of)

        @feed.on("ready", "text", "disconnected", loop=loop)
        async def note(event: Any) -> None:
            assert asyncio.get_running_loop() is loop
            await asyncio.sleep(0)
            seen.append(event.json["n"] if isinstance(event, events.Text) else event.name)
            if seen[-1] == 3:
                all_seen.set()

        async with feed as entered:
            assert entered is feed
            await feed.ready(PATIENCE)
            feed.send_text("go")
            while 2 not in seen:
                await asyncio.sleep(0.001)
            feed.renew()
            await asyncio.wait_for(all_seen.wait(), PATIENCE)
        end = await feed.closed()
        while seen[-1] != "disconnected":
            await asyncio.sleep(0.001)
        feed.remove_handler(note)
        with pytest.raises(ValueError, match="not registered"):
            feed.remove_handler(note)
        return seen, end is feed.last_end

    with ScriptedServer(first, second) as server:
        assert asyncio.run(main()) == (["ready", 1, 2, 3, "disconnected"], True)


def test_the_waits_of_coroutines_end_with_the_reason() -> None:
    async def main() -> None:
        feed = Feed(WebSocketApp, [server.url])
        with pytest.raises(WebSocketError, match="has not been started"):
            feed.ready()
        assert await feed.closed() is None
        feed.start(persist=False)
        with pytest.raises(WaitFailed, match=r"ready\(\): the feed has stopped: .*503") as failed:
            await feed.ready(PATIENCE)
        assert isinstance(failed.value.event, events.Disconnected)
        assert isinstance(await feed.closed(PATIENCE), events.Disconnected)
        feed.start()
        with pytest.raises(WaitFailed, match=r"closed\(\): not stopped within 0.01 s: close\(\) has not"):
            await feed.closed(0.01)
        feed.close()
        await feed.closed(PATIENCE)

    with ScriptedServer([reject(503)], [accept(), wait_for_close()]) as server:
        asyncio.run(main())


@pytest.mark.parametrize(
    ("names", "function", "error"),
    [
        (("text",), lambda event: None, "leave out loop="),
        (("batch",), lambda event: None, "'batch' is not one"),
        (("sent",), lambda event: None, "register this handler with the apps"),
    ],
)
def test_what_cannot_be_a_coroutine_handler_is_refused(names: Any, function: Any, error: str) -> None:
    async def main() -> None:
        feed = Feed(WebSocketApp, ["ws://127.0.0.1:1/"])
        with pytest.raises((TypeError, ValueError), match=error):
            feed.on(*names, loop=asyncio.get_running_loop())(function)

    asyncio.run(main())


@pytest.mark.parametrize("key", [None, key_of], ids=["without a key", "with a key"])
def test_a_stream_is_sent_to_its_end_although_its_connection_is_replaced(key: Any) -> None:
    old = [accept(), send('{"n": 1}'), wait_for("abc"), wait_for_close()]
    new = [accept(), send('{"n": 1}'), wait_for("afterwards"), wait_for_close()]
    with ScriptedServer(old, new) as server, Feed(WebSocketApp, [server.url], key=key) as feed:
        assert feed.wait_ready(PATIENCE)

        def chunks() -> Iterator[str]:
            yield "ab"
            feed.renew()
            eventually(lambda: feed.status().switches == 1)
            feed.send_text("afterwards")
            server.wait_until(lambda: "afterwards" in server.messages)
            yield "c"

        assert feed.send_stream(chunks(), text=True) is True
        server.wait_until(lambda: "abc" in server.messages)
        eventually(lambda: len(feed.status().legs) == 1)


def test_a_stream_that_takes_too_long_ends_with_its_connection() -> None:
    script = [accept(), wait_for_close()]
    with ScriptedServer(script, script) as server:
        feed = Feed(WebSocketApp, [server.url], drain=0.1)
        feed.start(close_timeout=0.2)
        assert feed.wait_ready(PATIENCE)
        is_closed = threading.Event()
        feed.app.on("disconnected")(lambda event: is_closed.set())

        def chunks() -> Iterator[bytes]:
            yield b"x"
            feed.renew()
            assert is_closed.wait(PATIENCE)
            yield b"y"

        with pytest.raises(WebSocketUnavailable):
            feed.send_stream(chunks())
        assert feed.wait_ready(PATIENCE)
        assert feed.stop(PATIENCE)
    with pytest.raises(WebSocketUnavailable, match="the feed has stopped"):
        feed.send_stream([b"x"])
