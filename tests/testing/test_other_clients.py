"""The fixture ws_server with other WebSocket clients: websockets, websocket-client and aiohttp."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

import aiohttp
import pytest
import websocket
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import InvalidStatus

from lochws import WebSocketApp, events
from lochws.testing import (
    LogEvents,
    StartServer,
    accept,
    close,
    ping,
    reject,
    send,
    wait_for,
    wait_for_pong,
)

from ..support.seen import PATIENCE
from ..support.threaded_websockets import connect

# asyncio leaves the transports of aiohttp open for a moment when its session is closed over TLS.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

#: What a client has seen: the messages, and the code of the server's Close frame.
Seen = tuple[list[str | bytes], int | None]


class Client(Protocol):
    """A client that sends one message, and reads until the server closes the connection."""

    def __call__(self, url: str, message: str | bytes, tls: ssl.SSLContext | None) -> Seen: ...


def websockets_threads(url: str, message: str | bytes, tls: ssl.SSLContext | None) -> Seen:
    with connect(url, tls=tls, proxy=None) as client:
        client.send(message)
        return list(client), client.close_code


def websockets_asyncio(url: str, message: str | bytes, tls: ssl.SSLContext | None) -> Seen:
    async def run() -> Seen:
        async with connect_async(url, ssl=tls, proxy=None) as client:
            await client.send(message)
            return [received async for received in client], client.close_code

    return asyncio.run(run())


def websocket_client(url: str, message: str | bytes, tls: ssl.SSLContext | None) -> Seen:
    client = websocket.create_connection(url, timeout=PATIENCE, sslopt={"context": tls} if tls else None)
    (client.send if isinstance(message, str) else client.send_binary)(message)
    seen: list[str | bytes] = []
    while True:
        opcode, data = client.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            client.shutdown()
            return seen, int.from_bytes(data[:2], "big")
        seen.append(data.decode() if opcode == websocket.ABNF.OPCODE_TEXT else data)


def aiohttp_client(url: str, message: str | bytes, tls: ssl.SSLContext | None) -> Seen:
    async def run() -> Seen:
        async with aiohttp.ClientSession() as session, session.ws_connect(url, ssl=tls or True) as client:
            await (client.send_str(message) if isinstance(message, str) else client.send_bytes(message))
            return [received.data async for received in client], client.close_code

    return asyncio.run(run())


CLIENTS = [websockets_threads, websockets_asyncio, websocket_client, aiohttp_client]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("is_secure", [False, True], ids=["ws", "wss"])
def test_a_script_runs_whoever_the_client_is(client: Client, is_secure: bool, ws_server: StartServer) -> None:
    server = ws_server(
        [
            accept(deflate=True), ping(b"there?"), wait_for_pong(), wait_for("subscribe"), send("one"),
            send(b"two", fragment=1), close(1000, "enough"),
        ],
        tls=is_secure,
    )
    tls = ssl.create_default_context(cafile=ws_server.ca_file) if is_secure else None
    assert client(server.url, "subscribe", tls) == (["one", b"two"], 1000)
    server.connection().wait_over()
    assert server.messages == ["subscribe"]
    assert server.connection().pongs == [b"there?"]
    close_frame = server.connection().close_frame
    assert close_frame is not None
    assert close_frame[0] == 1000


@pytest.mark.parametrize("client", CLIENTS)
def test_a_rejection_is_seen_by_every_client(client: Client, ws_server: StartServer) -> None:
    server = ws_server([reject(503, headers={"Retry-After": "30"}, body="later")])
    with pytest.raises((InvalidStatus, websocket.WebSocketBadStatusException, aiohttp.WSServerHandshakeError),
                       match="503"):
        client(server.url, "subscribe", None)


def test_a_client_that_leaves_early_fails_the_script(ws_server: StartServer) -> None:
    server = ws_server([accept(), wait_for("subscribe")])
    with connect(server.url, proxy=None) as client:
        client.send("unsubscribe")
    server.connection().wait_over()
    with pytest.raises(AssertionError, match=r"steps left: wait_for\('subscribe'\); the client sent 'unsub"):
        server.check_done()
    server.connections.clear()  # or the fixture would fail this test


async def gather(*runs: Callable[[], Awaitable[object]]) -> list[object]:
    """Run coroutines side by side."""
    return await asyncio.gather(*(run() for run in runs))


def test_several_clients_are_served_at_the_same_time_as_an_app(
    ws_server: StartServer, ws_events: LogEvents
) -> None:
    server = ws_server()
    app = WebSocketApp(server.url)
    log = ws_events(app)
    app.start()
    assert app.wait_ready(10)
    app.send_text("from the app")

    async def one() -> object:
        async with connect_async(server.url, proxy=None) as client:
            await client.send("from websockets")
            return await client.recv()

    async def two() -> object:
        async with aiohttp.ClientSession() as session, session.ws_connect(server.url) as client:
            await client.send_str("from aiohttp")
            return await client.receive_str()

    assert asyncio.run(gather(one, two)) == ["from websockets", "from aiohttp"]
    assert log.wait_for(events.Text).text == "from the app"
