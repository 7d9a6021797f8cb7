"""Streams sent by apps over real connections: one message from many chunks."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from lochws import Feed, WebSocket, WebSocketApp, events
from lochws import testing as t
from lochws.errors import (
    QueueFull,
    WebSocketClosed,
    WebSocketClosing,
    WebSocketError,
    WebSocketUnavailable,
)
from lochws.testing import StartServer, VirtualClock

from ..support.apps import opened
from ..support.seen import PATIENCE, Noting, eventually, in_thread


class Server:
    """A server made with websockets, which keeps the messages that it reads."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.changed = threading.Condition()

    def handle(self, socket: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            for message in socket:
                with self.changed:
                    self.messages.append(message)
                    self.changed.notify_all()

    def wait_for(self, count: int) -> list[str | bytes]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.messages) >= count, PATIENCE)
            return self.messages


@contextmanager
def serving() -> Iterator[tuple[str, Server]]:
    kept = Server()
    with serve(kept.handle, "127.0.0.1", 0, max_size=None) as server:
        thread = in_thread(server.serve_forever)
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/", kept
        finally:
            server.shutdown()
            thread.join(PATIENCE)


def parts(count: int, size: int = 100_000) -> Iterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * size


@pytest.mark.parametrize("compress", [False, True])
def test_the_server_reads_one_message_and_those_sent_meanwhile_behind_it(compress: bool) -> None:
    def chunks() -> Iterator[bytes]:
        yield from parts(10)
        app.send_text("behind")
        yield from parts(10)

    with serving() as (url, server), opened(Noting(url, compress=compress)) as app:
        receipt = app.send_stream(chunks(), receipt=True)
        assert receipt.result(PATIENCE) == "confirmed"
        assert app.send_stream(["grü", "ße".encode()[:1], "ße".encode()[1:]], text=True)
        assert server.wait_for(3) == [b"".join(parts(10)) * 2, "behind", "grüße"]
        assert app.counters.messages_sent == 3


def test_wsproto_reads_it_too(ws_server: StartServer) -> None:
    message = b"".join(parts(20))
    server = ws_server([t.accept(deflate=True), t.wait_for(message), t.wait_for("text"), t.send("both")])
    with opened(Noting(server.url, compress=True)) as app:
        app.send_stream(parts(20))
        app.send_stream(iter("text"), text=True)
        assert app.wait_for("text").text == "both"


class TestFailing:
    def test_an_iterable_that_raises_ends_the_connection_with_1011_and_the_app_reconnects(self) -> None:
        def chunks() -> Iterator[bytes]:
            yield from parts(3)
            raise OSError("disk full")

        with serving() as (url, server), opened(Noting(url), persist=True) as app:
            with pytest.raises(OSError, match="disk full"):
                app.send_stream(chunks())
            end = app.wait_for("disconnected")
            assert isinstance(end, events.Disconnected)
            assert (end.sent_code, end.unsent, end.in_doubt) == (1011, (), ())
            app.wait_until(lambda: [each.name for each in app.events].count("ready") == 2)
            assert app.send_stream([b"again"])
            assert server.wait_for(1) == [b"again"]

    def test_a_chunk_of_the_wrong_type_ends_it_too(self) -> None:
        with serving() as (url, _), opened(Noting(url)) as app:
            with pytest.raises(TypeError, match="expected bytes-like chunks"):
                app.send_stream(["text"])
            assert app.wait_for("disconnected").sent_code == 1011

    def test_the_end_of_the_connection_ends_the_call(self, ws_server: StartServer) -> None:
        server = ws_server([t.accept(), t.wait_for("begin"), t.close(1000, "enough")])

        def chunks() -> Iterator[bytes]:
            yield b"begin"
            while True:
                yield from parts(1)

        with opened(Noting(server.url)) as app:
            app.send_text("begin")
            with pytest.raises(WebSocketError):
                app.send_stream(chunks())
            assert app.wait_for("disconnected").received_code == 1000

    def test_close_waits_half_of_its_time_for_a_stream_that_goes_on(self, ws_clock: VirtualClock) -> None:
        stop = threading.Event()

        def chunks() -> Iterator[bytes]:
            while not stop.wait(0.01):
                yield b"x" * 100

        failed: list[BaseException] = []

        def send() -> None:
            try:
                app.send_stream(chunks())
            except WebSocketError as error:
                failed.append(error)

        with serving() as (url, _), opened(Noting(url), poll=0, close_timeout=30) as app:
            thread = in_thread(send)
            eventually(lambda: app.counters.bytes_sent > 1000)
            app.close()
            ws_clock.advance(14)
            assert app.is_closing
            assert not failed
            ws_clock.advance(2)
            end = app.wait_for("disconnected")
            stop.set()
            thread.join(PATIENCE)
            assert end.sent_code == 1000
            assert isinstance(failed[0], (WebSocketClosing, WebSocketClosed))


class TestRefusals:
    @pytest.mark.parametrize(
        ("chunks", "why"),
        [
            (b"data", "not bytes; send_binary sends a message"),
            (bytearray(b"data"), "not bytearray; send_binary"),
            ("text", "not str; send_text sends a message"),
            (7, "expected an iterable of chunks, not int"),
        ],
    )
    def test_what_is_not_an_iterable_of_chunks_is_refused_at_once(self, chunks: Any, why: str) -> None:
        with pytest.raises(TypeError, match=why):
            WebSocketApp("ws://127.0.0.1:1/").send_stream(chunks)

    def test_an_asynchronous_iterable_is_refused_with_advice(self) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b""

        with pytest.raises(TypeError, match="async_generator is asynchronous: pass a generator"):
            WebSocketApp("ws://127.0.0.1:1/").send_stream(chunks())  # type: ignore[call-overload]

    def test_without_a_connection_nothing_is_iterated(self) -> None:
        iterated = iter([b"x"])
        with pytest.raises(WebSocketUnavailable, match="has not been started"):
            WebSocketApp("ws://127.0.0.1:1/").send_stream(iterated)
        assert [*iterated] == [b"x"]

    def test_a_handler_cannot_wait_for_room(self) -> None:
        class Refused(Noting):
            why = ""

            def on_ready(self, _event: events.Ready) -> None:
                try:
                    self.send_stream([b"x"])
                except QueueFull as error:
                    self.why = str(error)
                self.send_text("still open")

        with serving() as (url, server), opened(Refused(url)) as app:
            assert server.wait_for(1) == ["still open"]
            assert "a handler cannot: call it on another thread" in app.why

    def test_the_iterating_thread_cannot_wait_and_others_can(self) -> None:
        with serving() as (url, server):
            websocket = WebSocket(url)
            refused: list[str] = []
            for event in websocket:
                if event.name == "ready":
                    with pytest.raises(QueueFull) as error:
                        websocket.send_stream([b"x"])
                    refused.append(str(error.value))
                    thread = in_thread(lambda: (websocket.send_stream(parts(30)), websocket.close()))
            thread.join(PATIENCE)
            assert refused
            assert server.wait_for(1) == [b"".join(parts(30))]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_child_of_a_fork_does_not_go_on_with_it() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"before"
        if (child := os.fork()) == 0:
            forked.append(0)
        else:
            os.waitpid(child, 0)
        yield b"after"

    forked: list[int] = []
    with serving() as (url, server), opened(Noting(url)) as app:
        try:
            app.send_stream(chunks())
        except WebSocketError:
            if forked:
                os._exit(0)
            raise
        if forked:
            os._exit(1)
        assert server.wait_for(1) == [b"beforeafter"]


def test_a_feed_sends_streams_on_the_app_in_use() -> None:
    with serving() as (url, server), Feed(WebSocketApp, [url]) as feed:
        assert feed.wait_ready(PATIENCE)
        assert feed.app.send_stream(parts(3))
        assert server.wait_for(1) == [b"".join(parts(3))]
