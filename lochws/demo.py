"""The demonstration: a price feed on loopback that drops its client once, and an app that reconnects."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections.abc import Callable
from itertools import cycle
from time import monotonic, sleep
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, TextIO

from . import Backoff, WebSocketApp, __version__, events

if TYPE_CHECKING:
    from typing_extensions import Self

    from .testing import ServerConnection

#: The number of prices to show, and the number after which the server drops the connection.
PRICES = 10
DROP_AFTER = 5
#: The initial prices of these products; those of other products start at 100.
FIRST_PRICES = {"BTC-USD": 64_000.0, "ETH-USD": 3_200.0, "SOL-USD": 150.0}
#: Seconds between two prices.
INTERVAL = 0.2
#: The time limit of the demonstration, in seconds.
LIMIT = 9.0


class Feed:
    """A ticker of made-up prices, which runs whether or not clients listen; a step for `ScriptedServer`.

    A client subscribes with ``{"type": "subscribe", "channels": ["ticker"]}``, optionally with
    ``product_ids`` and an ``id``, and is answered with ``{"type": "subscribed", …}``. (Any other first
    message also works.) Then it receives one price per interval, for each product in turn: ``{"type":
    "ticker", "sequence": 7, "product_id": "BTC-USD", "price": 64012.5}``. The sequence number increases by
    one with each interval, so that a client can count the prices that it missed.

    Args:
        interval: seconds between two prices.
        drop_after: drop the first connection after this many prices, without a Close frame; None for never.
        on_drop: called right before that, on the connection's thread.
        waits: whether a client gets prices only once it has sent a message.
    """

    def __init__(
        self, interval: float, *, drop_after: int | None = None, on_drop: Callable[[], object] = lambda: None,
        waits: bool = True,
    ) -> None:
        self._interval = interval
        self._drop_after = drop_after
        self._on_drop = on_drop
        self._waits = waits
        self._began = monotonic()

    def __call__(self, connection: ServerConnection) -> None:
        """Serve one client, on its connection's thread, until it leaves."""
        turns, sent = cycle(["BTC-USD"]), 0
        if self._waits:
            turns = cycle(self._subscribe(connection, connection.receive(), always=True))
        number = self._now + 1
        while True:
            if (left := self._began + number * self._interval - monotonic()) > 0:
                message = connection.receive(left)
                if message is not None and (wanted := self._subscribe(connection, message)):
                    turns = cycle(wanted)
                continue
            if sent == self._drop_after:
                self._drop_after = None
                self._on_drop()
                connection.drop()
            product = next(turns)
            price = {"product_id": product, "price": _price(product, number)}
            connection.send(json.dumps({"type": "ticker", "sequence": number, **price}))
            sent += 1
            number += 1

    @property
    def _now(self) -> int:
        """The sequence number of the newest price."""
        return int((monotonic() - self._began) / self._interval)

    def _subscribe(
        self, connection: ServerConnection, message: str | bytes | None, *, always: bool = False
    ) -> list[str]:
        """Answer a message if it is a subscription, and return the products that it requests, or none.

        Args:
            always: treat any message as a subscription.
        """
        try:
            asked = json.loads(message or "")
        except (ValueError, RecursionError):  # deeply nested JSON raises RecursionError
            asked = None
        if not isinstance(asked, dict):
            asked = {}
        if always:
            asked = {"channels": ["ticker"], **asked}
        elif asked.get("type") != "subscribe":
            return []
        repeated = {name: asked[name] for name in ("id", "channels") if name in asked}
        connection.send(json.dumps({"type": "subscribed", **repeated}))
        names = asked.get("product_ids")
        products = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
        return products or ["BTC-USD"]


def _price(product: str, number: int) -> float:
    """Return a price that fluctuates, and is the same for every client."""
    wave = math.sin(number / 7) + 0.6 * math.sin(number / 2.3) + 0.4 * math.sin(number * 1.7)
    return round(FIRST_PRICES.get(product, 100.0) * (1 + 0.0004 * wave), 2)


class DemoServer:
    """A WebSocket server on loopback, in threads of its own, for demonstrations and examples.

    `url` is that of a `Feed`, and `echo_url` that of an echo server. Use it in a ``with`` statement, which
    closes it.

    Args:
        interval: seconds between two prices.
        drop_after: drop the first connection after this many prices, without a Close frame; None for never.
        on_drop: called right before that, on a thread of the server.
        port: the port to listen on; 0 picks a free one.

    Raises:
        ImportError: the extra ``demo`` is not installed.
        OSError: the server cannot listen on this port.

    Attributes:
        url: the URL of the feed.
        echo_url: the URL at which every message is sent back.
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
            from .testing import ScriptedServer, accept, close  # noqa: PLC0415  needs the extra `demo`
        except ImportError as error:
            raise ImportError("the demo server needs h11 and wsproto: pip install 'lochws[demo]'") from error
        self._feed = Feed(interval, drop_after=drop_after, on_drop=on_drop)
        script = [accept(deflate=True, strict=True), self._answer, close()]
        self._server = ScriptedServer(script, port=port, history=False)
        self.url = self._server.url
        self.echo_url = f"{self.url}echo"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the open connections, and wait until the server's threads have ended."""
        self._server.close()

    def drop(self) -> None:
        """Drop all connections without a Close frame, and accept new ones. Callable from any thread."""
        for connection in list(self._server.connections):
            connection.drop()

    def _answer(self, connection: ServerConnection) -> None:
        if connection.request.target == "/echo":
            for message in connection:
                connection.send(message)
        else:
            self._feed(connection)


class Narrator:
    """Prints events, one per line, with the seconds since the narrator was created. For any thread.

    A bar beside the times shows when there is a connection: it is solid while there is one, and broken where
    it was lost.

    Args:
        output: the stream to print to.
        colors: whether to use terminal colors.

    Attributes:
        is_broken: whether the reader of the output is gone; nothing is printed from then on.
        on_broken: called when that is noticed.
    """

    _COLORS: ClassVar = {"bad": "1;31", "warning": "1;33", "good": "1;32", "faint": "2", "plain": ""}
    #: The pieces of the bar, for outputs with and without Unicode, and their colors.
    _BARS: ClassVar = {
        "new": (" ", " ", "plain"), "open": ("┃", "|", "good"), "lost": ("╳", "x", "bad"),  # noqa: RUF001  not a letter
        "offline": ("┊", ":", "bad"), "closed": ("╹", "'", "good"),
    }

    def __init__(self, output: TextIO, *, colors: bool) -> None:
        self._output = output
        self._colors = colors
        self._began = monotonic()
        self._bar = "new"
        self._is_ascii = not _can_encode(output, "".join(bar for bar, _, _ in self._BARS.values()))
        self.is_broken = False
        self.on_broken: Callable[[], object] = lambda: None

    def __call__(self, who: str, what: str, color: str = "plain") -> None:
        """Print a line: the speaker or event, a description, and the color."""
        if who == "ready":
            self._bar = "open"
        elif who == "disconnected":
            self._bar = "lost" if color == "bad" else "closed"
        elif self._bar == "lost":
            self._bar = "offline"
        *bars, bar_color = self._BARS[self._bar]
        time = self._painted(f"{monotonic() - self._began:6.2f} s", color)
        bar = self._painted(bars[self._is_ascii], bar_color)
        self._print(f"{time}  {bar} {self._painted(f'{who:<12} {what}', color)}")

    def line(self, text: str, color: str = "plain") -> None:
        """Print a line without the time."""
        self._print(self._painted(text, color))

    def _painted(self, text: str, color: str) -> str:
        code = self._COLORS[color]
        return f"\x1b[{code}m{text}\x1b[0m" if self._colors and code else text

    def _print(self, line: str) -> None:
        if self.is_broken:
            return
        try:
            self._output.write(f"{line}\n")
            self._output.flush()
        except BrokenPipeError:
            self.is_broken = True
            self.on_broken()


def _can_encode(output: TextIO, text: str) -> bool:
    try:
        text.encode(output.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


class Ticker(WebSocketApp):
    """An app that subscribes on every connection, and reports every event.

    Args:
        url: the URL of the feed.
        tell: called with the name of an event, a short description, and a color of `Narrator`.
        wanted: the number of prices to receive.

    Attributes:
        prices: the number of prices received. This and the other attributes are written by the handlers.
        missed: the number of prices sent while there was no connection.
        gap: seconds without a connection.
        has_enough: set once `wanted` prices have arrived.
    """

    def __init__(self, url: str, tell: Callable[[str, str, str], object], wanted: int) -> None:
        super().__init__(url)
        self._tell = tell
        self._wanted = wanted
        self._newest: int | None = None  # the sequence number of the last price
        self._lost_at: float | None = None
        self.prices = 0
        self.missed = 0
        self.gap = 0.0
        self.has_enough = threading.Event()

    def on_connecting(self, event: events.Connecting) -> None:
        self._tell("connecting", event.url, "plain")

    def on_ready(self, event: events.Ready) -> None:
        if self._lost_at is None:
            self._tell("ready", "connected; on_ready() subscribes", "good")
        else:
            self.gap += monotonic() - self._lost_at
            what = f"connected again after {self.gap:.2f} s; on_ready() subscribes again"
            self._tell("ready", what, "good")
        self.send_json(type="subscribe", channels=["ticker"])

    def on_text(self, event: events.Text) -> None:
        message = event.json
        if message["type"] != "ticker":
            self._tell("text", f"{message['type']} to {', '.join(message['channels'])}", "faint")
            return
        if self.has_enough.is_set():
            return  # the program is about to close
        number = message["sequence"]
        if self._newest is not None and number > self._newest + 1:
            self.missed += number - self._newest - 1
            lost = number - 1 - self._newest
            self._tell("(missed)", f"{lost} prices, {self._newest + 1} to {number - 1}", "warning")
        self._newest = number
        self._tell("text", f"price {number}: {message['product_id']} {message['price']:,.2f}", "plain")
        self.prices += 1
        if self.prices == self._wanted:
            self.has_enough.set()

    def on_closed(self, event: events.Closed) -> None:
        self._tell("closed", f"the server answered our Close frame with code {event.code}", "plain")

    def on_disconnected(self, event: events.Disconnected) -> None:
        if not event.graceful:
            self._lost_at = monotonic()
        self._tell("disconnected", str(event), "plain" if event.graceful else "bad")

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        self._tell("connect_fail", str(event), "bad")

    def on_back_off(self, event: events.BackOff) -> None:
        self._tell("back_off", f"trying again in {event.delay:.2f} s", "bad")


def run(colors: bool | None = None) -> int:
    """Show an app that loses its connection and reconnects. Blocks for about three seconds.

    Args:
        colors: whether to print in color; None to do so on a terminal.

    Returns:
        0 on success, otherwise 1.

    Raises:
        ImportError: the extra ``demo`` is not installed.
        BrokenPipeError: the reader of the output is gone.
    """
    tell = Narrator(sys.stdout, colors=has_colors(sys.stdout) if colors is None else colors)

    def on_drop() -> None:
        tell("(server)", "drops the connection without a Close frame, as a failing network would", "bad")

    with DemoServer(interval=INTERVAL, drop_after=DROP_AFTER, on_drop=on_drop) as server:
        tell.line(f"lochws {__version__}: an app, and a feed that drops the connection once, on purpose\n")
        app = Ticker(server.url, tell, PRICES)
        tell.on_broken = app.has_enough.set
        try:
            tell("(program)", "start() returns at once; background threads do the work", "plain")
            app.start(persist=Backoff(min_wait=0.4, max_wait=0.8))
            if app.has_enough.wait(LIMIT):
                tell("(program)", f"{PRICES} prices have arrived; close()", "plain")
        finally:
            ended = app.stop(timeout=5)
    if tell.is_broken:
        raise BrokenPipeError
    connections = app.counters.connections
    if not ended or app.prices < PRICES or connections != 2:
        found = f"{app.prices} of {PRICES} prices over {connections} connections"
        tell.line(f"\nFailed: {found} in {LIMIT:g} s.", "bad")
        return 1
    gap = f"The app was offline for {app.gap:.2f} s, and missed {app.missed} prices."
    tell.line(f"\nDone: {app.prices} prices over {connections} connections. {gap}", "good")
    return 0


def serve(port: int = 8765) -> int:
    """Serve the demo's feed to other programs until Ctrl-C. Blocks.

    Args:
        port: the port on 127.0.0.1; 0 picks a free one.

    Returns:
        130 after Ctrl-C, 1 if the server cannot listen on that port.

    Raises:
        ImportError: the extra ``demo`` is not installed.
        BrokenPipeError: the reader of the output is gone.
    """
    try:
        server = DemoServer(interval=1.0, port=port)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while attempting")[0]  # of Python 3.13
        print(f"lochws: cannot listen on 127.0.0.1 port {port}: {reason}; try --port 0", file=sys.stderr)
        return 1
    with server:
        try:
            hint = "connect to it with the first program of the README. Ctrl-C stops it."
            print(f"{server.url} sends a price every second: {hint}", flush=True)
            while True:
                sleep(3600)  # Ctrl-C interrupts this, on Windows too
        except KeyboardInterrupt:
            print("\nThe demo server has stopped.")
    return 130  # as shells report it: 128 plus the signal's number


def has_colors(output: TextIO) -> bool:
    """Return whether to print in color: only on a terminal with colors, and not if ``NO_COLOR`` is set."""
    if not output.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.platform != "win32" or "WT_SESSION" in os.environ
