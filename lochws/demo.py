"""The demonstration: a small server on loopback, and an app that stays connected to it."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING

from . import Backoff, WebSocketApp, __version__, events

if TYPE_CHECKING:
    from typing_extensions import Self
    from websockets.sync.server import ServerConnection

#: Prices shown in all, and after how many of them the server drops the connection.
PRICES = 10
DROP_AFTER = 5
#: What the server's prices begin with; other products begin with 100.
FIRST_PRICES = {"BTC-USD": 64_000.0, "ETH-USD": 3_200.0, "SOL-USD": 150.0}
#: Seconds between two prices.
INTERVAL = 0.2
#: Seconds that the whole demonstration may take.
LIMIT = 9.0


class DemoServer:
    """A WebSocket server on loopback, in threads of its own, for demonstrations and examples.

    Its `url` leads to a ticker: once the client has sent a message (its subscription), it sends a
    price every `interval` seconds, of one product after the other: those of the subscription's field
    ``product_ids``, or BTC-USD. Under `echo_url` each message comes back. Use it in a ``with``
    statement, which ends it.

    Args:
        interval: seconds between two prices.
        drop_after: drop the first connection after so many prices, without a Close frame.
        on_drop: called right before that, on a thread of the server.
        port: the port to listen on; 0 is any that is free.

    Raises:
        ImportError: websockets, which the server is made with, is not installed.
        OSError: it cannot listen there.
    """

    def __init__(
        self,
        *,
        interval: float = 0.2,
        drop_after: int | None = None,
        on_drop: Callable[[], object] = lambda: None,
        port: int = 0,
    ) -> None:
        try:
            from websockets.sync.server import serve  # noqa: PLC0415  only the extra `demo` brings it
        except ImportError as error:
            raise ImportError("the demo server needs websockets: pip install 'lochws[demo]'") from error
        self._interval = interval
        self._drop_after = drop_after
        self._on_drop = on_drop
        self._lock = threading.Lock()  # guards _sockets
        self._sockets: set[socket.socket] = set()
        self._server = serve(self._answer, "127.0.0.1", port)
        self._thread = threading.Thread(target=self._server.serve_forever, name="demo-server", daemon=True)
        self._thread.start()
        #: Where the ticker is.
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/"
        #: Where messages come back.
        self.echo_url = f"{self.url}echo"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close what is still connected, and wait until the server has ended."""
        self._server.shutdown()
        self._thread.join()

    def drop(self) -> None:
        """Drop all connections, without a Close frame. New ones are welcome. For any thread."""
        with self._lock:
            for connected in self._sockets:
                with suppress(OSError):  # the client was faster
                    connected.shutdown(socket.SHUT_RDWR)

    def _answer(self, connection: ServerConnection) -> None:
        """Serve one connection, on its thread; ends when the client does."""
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415  as above

        request = connection.request
        with self._lock:
            self._sockets.add(connection.socket)
        try:
            if request is not None and request.path == "/echo":
                for message in connection:
                    connection.send(message)
            else:
                self._tick(connection)
        except ConnectionClosed:
            return
        finally:
            with self._lock:
                self._sockets.remove(connection.socket)

    def _tick(self, connection: ServerConnection) -> None:
        prices = {product: FIRST_PRICES.get(product, 100.0) for product in _products(connection.recv())}
        connection.send(json.dumps({"type": "subscribed", "channels": ["ticker"]}))
        turns, sent = cycle(prices), 0
        while True:
            try:
                connection.recv(self._interval)
                continue  # there is nothing more to ask for
            except TimeoutError:
                pass  # time for the next price
            if sent == self._drop_after:
                break
            product = next(turns)
            prices[product] *= random.uniform(0.9997, 1.0003)
            price = round(prices[product], 2)
            connection.send(json.dumps({"type": "ticker", "product_id": product, "price": price}))
            sent += 1
        self._drop_after = None
        self._on_drop()
        connection.socket.shutdown(socket.SHUT_RDWR)


def _products(subscription: str | bytes) -> list[str]:
    """What a subscription asks for; what cannot be understood asks for the usual."""
    try:
        asked = json.loads(subscription)["product_ids"]
        products = [product for product in asked if isinstance(product, str)]
    except (ValueError, TypeError, LookupError):
        products = []
    return products or ["BTC-USD"]


class Narrator:
    """Writes what happens, one line each, with the time since it was made. For any thread."""

    def __init__(self) -> None:
        self._began = monotonic()

    def __call__(self, who: str, what: str) -> None:
        """Write a line: who or which event, and what about it."""
        print(f"{monotonic() - self._began:6.2f} s  {who:<13} {what}\n", end="", flush=True)


class Ticker(WebSocketApp):
    """Subscribes whenever there is a connection, and tells of everything that happens.

    Args:
        url: where the ticker is.
        tell: called with the name of an event and a few words about it.
        wanted: how many prices are enough.
    """

    def __init__(self, url: str, tell: Callable[[str, str], object], wanted: int) -> None:
        super().__init__(url)
        self._tell = tell
        self._wanted = wanted
        #: Prices received so far. Written by the handlers.
        self.prices = 0
        #: Set once there are enough.
        self.has_enough = threading.Event()

    def on_connecting(self, event: events.Connecting) -> None:
        self._tell(event.name, event.url)

    def on_ready(self, event: events.Ready) -> None:
        self._tell(event.name, "connected and upgraded; on_ready subscribes, on every connection")
        self.send_json(type="subscribe", channels=["ticker"])

    def on_text(self, event: events.Text) -> None:
        message = event.json
        if message["type"] != "ticker":
            self._tell(event.name, f"{message['type']} to {', '.join(message['channels'])}")
            return
        self._tell(event.name, f"price {message['price']:,.2f}")
        self.prices += 1
        if self.prices == self._wanted:
            self.has_enough.set()

    def on_closed(self, event: events.Closed) -> None:
        self._tell(event.name, f"the server answered our Close frame with code {event.code}")

    def on_disconnected(self, event: events.Disconnected) -> None:
        self._tell(event.name, f"{event.reason}; graceful={event.graceful}, ended by the {event.ended_by}")

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        self._tell(event.name, event.reason)

    def on_back_off(self, event: events.BackOff) -> None:
        self._tell(event.name, f"nobody asked for that: trying again in {event.delay:.1f} s")


def run() -> int:
    """Show an app that loses its connection and gets it back. Blocks for a few seconds.

    Returns:
        0 if all went as it should, else 1.

    Raises:
        ImportError: websockets is not installed.
    """
    tell = Narrator()

    def on_drop() -> None:
        tell("(server)", "drops the connection without a Close frame, as a network may at any time")

    with DemoServer(interval=INTERVAL, drop_after=DROP_AFTER, on_drop=on_drop) as server:
        print(f"lochws {__version__}: an app, and a price feed of its own that breaks once on purpose.\n")
        app = Ticker(server.url, tell, PRICES)
        try:
            tell("(main thread)", "start() returns at once; background threads do the rest")
            app.start(persist=Backoff(min_wait=0.4, max_wait=0.8))
            if app.has_enough.wait(LIMIT):
                tell("(main thread)", f"has seen {PRICES} prices: close()")
        finally:
            ended = app.stop(timeout=1)
    connections = app.counters.connections
    if not ended or app.prices < PRICES or connections != 2:
        print(f"\nFailed: {app.prices} of {PRICES} prices over {connections} connections in {LIMIT:g} s.")
        return 1
    print(f"\nDone: {app.prices} prices over {connections} connections; all threads and sockets are gone.")
    return 0
