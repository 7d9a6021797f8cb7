"""Programs as users write them, for type checkers alone: mypy and pyright have to agree with every line.

What is wrong on purpose bears an ignore, and an ignore that is not needed is an error too: so a mistake that
a checker stops seeing is noticed.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal

import lochws
from lochws import (
    Backoff,
    Codec,
    Counters,
    Deflate,
    Feed,
    Governor,
    State,
    Status,
    Threads,
    WebSocket,
    WebSocketApp,
    clock,
    errors,
    events,
    on,
    route,
)
from lochws.diagnosis import Finding
from lochws.feed import FeedStatus, LegStatus, Switch, UrlStatus
from lochws.handlers.jsonrpc import JsonRpc
from lochws.handlers.log import Log
from lochws.handlers.replies import Replies
from lochws.mailbox import Mailbox
from lochws.persist import USE_BACKOFF, persist
from lochws.response import Response
from lochws.testing import LogEvents, StartServer, VirtualClock, accept, send

if TYPE_CHECKING:
    from typing_extensions import assert_type


class Ticker(WebSocketApp):
    """A subclass: methods get their events without annotations of their own being needed."""

    def on_ready(self, event: events.Ready) -> None:
        assert_type(event.protocol, str | None)
        assert_type(event.extensions, set[str])
        assert_type(event.response, Response)
        assert_type(event.response.status_code, int | None)
        assert_type(self.send_json(type="subscribe"), bool)

    def on_text(self, event: events.Text) -> None:
        assert_type(event.text, str)
        assert_type(event.json, Any)
        assert_type(event.received_time, float)

    def on_binary(self, event: events.Binary) -> None:
        assert_type(event.data, bytes)

    def on_pong(self, event: events.Pong) -> None:
        assert_type(event.latency, float | None)

    def on_batch(self, messages: list[events.Text | events.Binary]) -> None:
        for message in messages:
            assert_type(message.name, Literal["text", "binary"])

    def on_disconnected(self, event: events.Disconnected) -> None:
        assert_type(event.unsent, tuple[str | bytes, ...])
        assert_type(event.graceful, bool)
        assert_type(event.received_code, int | None)
        if event.received_code == Status.GOING_AWAY:
            self.reconnect()

    def on_error(self, error: BaseException) -> None:
        assert_type(error, BaseException)

    @on("closing", events.BackOff)
    def note(self, event: events.Closing | events.BackOff) -> None:
        assert_type(self.state, State)


class Struct:
    """A class that a codec makes."""


class Routes(WebSocketApp):
    """Routes as methods."""

    @route(type="ticker")
    @route(Struct)
    def ticker(self, event: events.Text) -> None:
        assert_type(event.json, Any)

    @route(lambda message: "trade" in message, type="trade")
    def trade(self, event: events.Binary) -> None: ...


class Wrong(WebSocketApp):
    """Mistakes that a type checker reports without running anything."""

    def on_text(self, event: events.Binary) -> None:  # type: ignore[override]
        """A handler of another event."""


def of_an_app() -> None:
    app = Ticker(
        lambda: "wss://feed.example.org",
        headers={"Authorization": "Bearer token"},
        compress=Deflate(level=1),
        ssl_context=ssl.create_default_context(),
        threads=Threads(attempts=100),
        governor=Governor(per_second=20, per_host=1),
        when_full="block",
        phase_timeouts={"tcp": 1.0},
    )
    app.start(ping_rate=None, persist=Backoff(max_wait=60, retry=lambda event: USE_BACKOFF))
    assert_type(app.wait_ready(timeout=10), bool)
    assert_type(app.send_text("text"), bool)
    assert_type(app.send_binary(memoryview(b"data")), bool)
    assert_type(app.send_many(["text", b"data"]), bool)
    assert_type(app.send_stream([b"data", bytearray(b"data")]), bool)
    assert_type(app.send_stream((part for part in ("a", b"b")), text=True, receipt=True), lochws.Receipt)
    app.send_stream(5)  # type: ignore[call-overload]
    assert_type(app.counters, Counters)
    assert_type(app.latency, float | None)
    assert_type(app.stop(timeout=5), bool)
    assert_type(app.wait_ready(timeout=10, check=True), bool)
    assert_type(app.last_end, events.ConnectFail | events.Disconnected | None)
    assert_type(app.diagnose(timeout=5), list[Finding])
    assert_type(app.run_forever(persist=False), events.ConnectFail | events.Disconnected | None)
    with app.corked():
        app.send_ping(b"data")

    @app.on(events.Text, "binary")
    def show(event: events.Text | events.Binary) -> str:
        return event.name

    assert_type(show(events.Text("text")), str)

    @app.route(type="ticker", data={"side": "buy"})
    def ticker(event: events.Text) -> int:
        return len(event.text)

    @app.route(lambda message: bool(message["price"]))
    @app.route({"event-type": "packed"})
    def packed(event: events.Binary) -> None:
        assert_type(event.json, Any)

    @app.route(Struct)
    def either(event: events.Text | events.Binary) -> None: ...

    assert_type(ticker(events.Text("text")), int)
    assert_type(app.hooks.codec, Codec)
    assert_type(app.send_text(bytearray(b"text")), bool)
    assert_type(app.send_many([b"text"], text=True), bool)
    WebSocketApp("wss://feed.example.org", codec=Codec(json.loads, json.dumps))
    WebSocketApp("wss://feed.example.org", codec=Codec(bytes.hex, bytes.fromhex, binary=True))
    WebSocketApp("wss://feed.example.org", codec=json.loads)  # type: ignore[arg-type]
    app.send_text(5)  # type: ignore[call-overload]
    app.send_binary("text")  # type: ignore[call-overload]
    app.start(persist="yes")  # type: ignore[arg-type]
    Ticker()  # type: ignore[call-arg]
    Ticker("wss://feed.example.org", when_full="explode")  # type: ignore[arg-type]


def of_an_iteration() -> None:
    websocket = WebSocket("wss://feed.example.org", protocols=["v1"])
    for event in websocket:
        assert_type(event, events.AnyEvent)
        if isinstance(event, events.ConnectFail):
            assert_type(event.reason, str)
            assert_type(event.timings, dict[str, float])
        elif isinstance(event, events.Rejected):
            assert_type(event.response.get("retry-after"), str | None)
    for event in persist(websocket, min_wait=1):
        assert_type(event, events.AnyEvent)
    connected: Iterator[events.AnyEvent] = websocket.connect(ping_timeout=10)
    assert_type(next(connected), events.AnyEvent)


def of_errors() -> None:
    try:
        WebSocketApp("wss://feed.example.org").send_text("too early")
    except errors.WebSocketUnavailable as error:
        assert_type(error, errors.WebSocketUnavailable)
    except errors.WebSocketError:
        raise
    assert_type(lochws.__version__, str)


def of_handlers() -> None:
    app = WebSocketApp("wss://feed.example.org")
    app.add_handler(Log())
    future: Future[Any] = Replies(app).request({"op": "time"}, timeout=5)
    future.add_done_callback(print)
    rpc = JsonRpc(app)

    @rpc.method("add")
    def add(one: int, two: int) -> int:
        return one + two

    method: Callable[[int, int], int] = add
    assert_type(method(1, 2), int)


def of_tests(ws_server: StartServer, ws_events: LogEvents, ws_clock: VirtualClock) -> None:
    server = ws_server([accept(), send("hello")], tls=True)
    app = WebSocketApp(server.url, ssl_cafile=ws_server.ca_file)
    log = ws_events(app)
    app.start(persist=Backoff(min_wait=30))
    assert_type(log.wait_for(events.Text, where=lambda event: event.text == "hello").text, str)
    assert_type(log.wait_for(events.BackOff, count=2, timeout=300).delay, float)
    assert_type(log.wait_for_error(ValueError), ValueError)
    assert_type(ws_clock.settle(), float | None)
    with clock.using(ws_clock):
        shared = Threads(clock=ws_clock)
    assert_type(shared, Threads)
    assert_type(app.hooks.handles(events.Text), bool)


def of_narrowing() -> None:
    for event in WebSocket("wss://feed.example.org"):
        if event.name == "text":
            assert_type(event, events.Text)
            assert_type(event.json, Any)
        elif event.name == "disconnected":
            assert_type(event, events.Disconnected)
            assert_type(event.ended_by, Literal["client", "server", "network"])
            assert_type(event.phase, Literal["upgrade", "open"])
        elif event.name in ("ping", "pong"):
            assert_type(event.name, Literal["ping", "pong"])
    for event in persist(WebSocket("wss://feed.example.org")):
        match event:
            case events.Binary(data=data):
                assert_type(data, bytes)
            case events.ConnectFail():
                assert_type(event.phase, Literal["prepare", "resolve", "tcp", "proxy", "tls", "upgrade"])
            case _:
                assert_type(event.received_time, float)


def of_functions(app: WebSocketApp) -> None:
    """Functions keep their types, and may take more than their event."""

    @app.on("text")
    @app.on("binary")
    def stacked(event: events.Text | events.Binary, times: int = 1) -> int:
        return times

    assert_type(stacked(event=events.Binary(b""), times=2), int)

    @app.on("stream")
    def download(stream: events.Stream) -> None:
        assert_type(stream.read(5, timeout=1), str | bytes)
        for part in stream:
            assert_type(part, str | bytes)

    @app.on(events.Stream)
    def also(stream: events.Stream, times: int = 1) -> int:
        return times

    assert_type(app.mailbox(events.Stream), Mailbox[events.Stream])

    @app.on("event")
    def every(event: events.AnyEvent) -> None:
        if event.name == "binary":
            assert_type(event.data, bytes)

    @app.on("event", "text")
    def wide(event: events.Event) -> None: ...

    @app.on("error")
    def failed(error: BaseException) -> None: ...

    app.on("batch")(print)
    app.on("sent")(list[Any]().append)


class Marked:
    """Methods keep their types too."""

    @on("text", "binary")
    def received(self, event: events.Text | events.Binary, times: int = 1) -> int:
        return times

    @on("poll", events.Pong)
    def lives(self, event: events.Poll | events.Pong) -> None:
        assert_type(self.received(events.Text(""), times=3), int)


def scripts() -> None:
    """A script that asks for its messages."""
    try:
        with lochws.connect("ws://127.0.0.1:1/", size=10, headers={"a": "b"}, close_timeout=1) as ws:
            assert_type(ws.receive(timeout=5), events.Text | events.Binary)
            for message in ws:
                assert_type(message, events.Text | events.Binary)
    except errors.ConnectionFailed as error:
        assert_type(error.event, events.ConnectFail | events.Rejected | events.Disconnected)
        assert_type(error.advice, str)
    except errors.WebSocketClosed as error:
        assert_type(error.event, events.ConnectFail | events.Disconnected | None)


def mailboxes(app: WebSocketApp) -> None:
    """Mailboxes know which events they hold."""
    assert_type(app.mailbox("text"), Mailbox[events.Text])
    assert_type(app.mailbox(events.Binary, size=5).get(timeout=1), events.Binary)
    assert_type(app.mailbox(), Mailbox[events.Text | events.Binary])
    assert_type(app.mailbox("text", "binary"), Mailbox[events.Text | events.Binary])
    assert_type(app.mailbox(events.Pong), Mailbox[events.Pong])
    assert_type(app.mailbox("ready", "text"), Mailbox[Any])
    assert_type(len(app.mailbox("text", when_full="latest", key=lambda event: event.text)), int)
    for message in app.mailbox("text"):
        assert_type(message, events.Text)
    app.mailbox("text", when_full="drop")  # type: ignore[call-overload]


async def coroutines(app: WebSocketApp, loop: asyncio.AbstractEventLoop) -> None:
    """An app in a program with an event loop."""
    async with app as same:
        assert_type(same, WebSocketApp)
    assert_type(await app.closed(), events.ConnectFail | events.Disconnected | None)
    async for message in app.mailbox("text"):
        assert_type(message, events.Text)
    assert_type(await JsonRpc(app).call("add", 1, 2), Any)

    @app.on("text", loop=loop)
    async def handle(event: events.Text) -> None:
        await app.ready(timeout=5)

    assert_type(await handle(events.Text("")), None)

    @app.on("text", loop=loop)  # type: ignore[type-var]
    def plain(event: events.Text) -> None: ...


class Trades(Feed):
    """A feed with methods as handlers."""

    def on_text(self, event: events.Text) -> None:
        assert_type(event.json, Any)

    def on_ready(self, event: events.Ready) -> None:
        assert_type(self.send_text("x"), bool)
        assert_type(self.send_json(op="subscribe"), bool)
        assert_type(self.app, WebSocketApp)
        self.app.send_text("x", receipt=True)


async def feed_in_a_loop(feed: Feed, loop: asyncio.AbstractEventLoop) -> None:
    """A feed from a running event loop."""

    @feed.on("text", loop=loop)
    async def show(event: events.Text) -> None:
        assert_type(event.text, str)

    @feed.on("text", loop=loop)  # type: ignore[type-var]
    def plain(event: events.Text) -> None: ...

    @feed.on("text")  # type: ignore[type-var]
    def wrong(event: events.Binary) -> None: ...

    async with feed as running:
        assert_type(running, Feed)
        assert_type(await feed.ready(5), None)
    assert_type(await feed.closed(), events.ConnectFail | events.Disconnected | None)


def feeds() -> None:
    """Feeds: factories, options, handlers, mailboxes, reports."""

    def switched(switch: Switch) -> None:
        assert_type(switch.seconds, float)
        assert_type(switch.is_overlapping, bool)

    feed = Feed(WebSocketApp, ["wss://a", "wss://b"], renew_after=3600, on_switch=switched)
    Feed(Ticker, urls=("wss://a",), key=lambda event: event.json["id"], copies=2, renew_on={1001, 1012})
    Feed(lambda url: WebSocketApp(url, compress=True), ["wss://a"], renew_on=lambda event: False)
    Feed(WebSocketApp, ["wss://a"], copies=3)  # type: ignore[arg-type]
    Feed(len, ["wss://a"])  # type: ignore[arg-type]

    @feed.on("text", events.Binary)
    def show(event: events.Text | events.Binary) -> None:
        assert_type(event.received_time, float)

    @feed.route(type="trade")
    def trade(event: events.Text) -> None:
        assert_type(event.text, str)

    feed.remove_handler(show)
    feed.remove_handler(trade)
    assert_type(feed.send_stream([b"x"]), bool)
    assert_type(feed.mailbox("text"), Mailbox[events.Text | events.Binary])
    assert_type(feed.mailbox(events.Ready), Mailbox[events.Ready])
    with feed as running:
        assert_type(running, Feed)
        assert_type(feed.wait_ready(5), bool)
    feed.start(ping_rate=5, ping_timeout="auto", on_stale="tell", persist=Backoff(max_wait=5))
    feed.start(ping_rate="5")  # type: ignore[arg-type]
    feed.start(on_stale="ignore")  # type: ignore[arg-type]
    feed.start(pong_rate=5)  # type: ignore[call-arg]
    assert_type(feed.run_forever(poll=1), events.ConnectFail | events.Disconnected | None)
    status = feed.status()
    assert_type(status, FeedStatus)
    assert_type(status.legs, tuple[LegStatus, ...])
    assert_type(status.urls, tuple[UrlStatus, ...])
    assert_type(feed.stop(timeout=5), bool)
