"""A short soak over wss for every run; ``benchmarks.soak.wss`` is the long one."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from websockets.asyncio.server import ServerConnection, serve

from lochws import WebSocketApp, events

from ..support.apps import opened
from ..support.seen import PATIENCE, Noting, in_thread

THREADS = 8
MESSAGES = 2000
ROUNDS = 50


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@pytest.fixture(scope="module")
def url(server_tls: ssl.SSLContext) -> Iterator[str]:
    """The URL of a third-party echo server over TLS.

    An asyncio one: two threads of a threaded server in one TLS object would lose connections by
    themselves.
    """
    started = threading.Event()
    ports: list[int] = []
    stops: list[Callable[[], object]] = []

    async def run() -> None:
        stopped = asyncio.Event()
        stops.append(partial(asyncio.get_running_loop().call_soon_threadsafe, stopped.set))
        async with serve(echo, "127.0.0.1", 0, ssl=server_tls) as server:
            ports.append(next(iter(server.sockets)).getsockname()[1])
            started.set()
            await stopped.wait()

    thread = in_thread(lambda: asyncio.run(run()))
    assert started.wait(PATIENCE)
    yield f"wss://localhost:{ports[0]}/"
    stops[0]()
    thread.join(PATIENCE)


class Checking(WebSocketApp):
    """Records the numbers that come back, by thread."""

    def on_ready(self, _: events.Ready) -> None:
        self.numbers: list[list[int]] = [[] for _ in range(THREADS)]
        self.faults: list[str] = []
        self.complete = threading.Event()

    def on_text(self, event: events.Text) -> None:
        thread, _, number = event.text.partition(":")
        self.numbers[int(thread)].append(int(number))
        if sum(map(len, self.numbers)) == THREADS * MESSAGES:
            self.complete.set()

    def on_disconnected(self, event: events.Disconnected) -> None:
        if not event.graceful:
            self.faults.append(event.reason)
            self.complete.set()


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "deflated"])
def test_every_message_of_every_thread_comes_back_once_and_in_its_order(
    url: str, client_tls: ssl.SSLContext, compress: bool
) -> None:
    app = Checking(url, ssl_context=client_tls, compress=compress, when_full="block")

    def send(thread: int) -> None:
        for number in range(MESSAGES):
            app.send_text(f"{thread}:{number}")

    with opened(app):
        assert app.supports_compression == compress
        senders = [in_thread(lambda thread=thread: send(thread)) for thread in range(THREADS)]  # type: ignore[misc]
        for sender in senders:
            sender.join(PATIENCE)
        assert app.complete.wait(PATIENCE)
    assert app.faults == []
    assert app.numbers == [list(range(MESSAGES))] * THREADS


def test_rounds_of_connect_echo_and_close_end_gracefully(url: str, client_tls: ssl.SSLContext) -> None:
    for number in range(ROUNDS):
        app = Noting(url, ssl_context=client_tls)
        with opened(app):
            app.send_text(str(number))
            assert app.wait_for("text").text == str(number)
        assert app.all("disconnected")[0].graceful
        assert app.names("poll", "pong") == [
            "connecting", "connected", "ready", "text", "closed", "disconnected"
        ]
