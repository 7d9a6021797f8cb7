"""An exchange: order books over HTTP, their numbered changes over WebSocket, and the faults of both."""

from __future__ import annotations

import http.server
import json
import random
import struct
import threading
from collections import deque
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

from lochws import testing as t

from ..support.seen import PATIENCE

SYMBOLS = ("BTC", "ETH")
#: What may be wrong with a snapshot. The exchange answers ``"slow"`` ones after the next changes.
HTTP_FAULTS = ("refused", "garbage", "cut", "old", "slow")
#: The ways in which a connection ends; the last one is in the middle of a message.
CUTS = ("reset", "fin", "close", "inside")

Book = dict[str, dict[str, str]]


class Exchange:
    """An exchange with a few order books. Closed at the end of a ``with`` block.

    Args:
        ranges: whether a message has a range of numbers, or a single one.

    Attributes:
        http_faults: the faults of the next snapshots.
        numbers: the number of the last change of each book.
        history: each book after each of its messages.
    """

    def __init__(self, *, ranges: bool) -> None:
        self.ranges = ranges
        self.random = random.Random()
        self.http_faults: deque[str] = deque()
        self._changed = threading.Condition()
        self._feed = t.ScriptedServer([t.accept()])
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Begin anew, with other books."""
        with self._changed:
            self.random.seed(seed)
            self.http_faults.clear()
            self.numbers = dict.fromkeys(SYMBOLS, 0)
            self._books: dict[str, Book] = {symbol: {"bids": {}, "asks": {}} for symbol in SYMBOLS}
            self.history: dict[str, dict[int, Book]] = {symbol: {} for symbol in SYMBOLS}
            self._recent: dict[str, list[str]] = {symbol: [] for symbol in SYMBOLS}
            self._stale: dict[str, dict[str, Any]] = {}
            for symbol in SYMBOLS:
                self._keep(symbol)
                self.change(symbol, self.random.randint(1, 5))

    @property
    def urls(self) -> dict[str, str]:
        """The URLs in the program, and those of this exchange."""
        return {
            "wss://feed.example.org": self._feed.url,
            "https://api.example.org": f"http://127.0.0.1:{self._http.server_port}",
        }

    @property
    def count(self) -> int:
        """The number of connections so far."""
        return len(self._feed.connections)

    def book(self, symbol: str) -> Book:
        """Return a book as it is now."""
        with self._changed:
            return self.history[symbol][self.numbers[symbol]]

    def change(self, symbol: str, count: int) -> list[str]:
        """Change a book some times. Return the messages."""
        texts = []
        with self._changed:
            for _ in range(count):
                first = self.numbers[symbol] + 1
                message: dict[str, Any] = {"s": symbol, "b": [], "a": []}
                for _ in range(self.random.randint(1, 4) if self.ranges else 1):
                    self._change(symbol, message)
                if self.ranges:
                    message["U"] = first
                texts.append(json.dumps({**message, "u": self.numbers[symbol]}))
                self._keep(symbol)
            self._changed.notify_all()
        return texts

    def merged(self, symbol: str, texts: list[str]) -> str:
        """Return one message with all changes of others, which overlaps with each of them."""
        found = [json.loads(text) for text in texts]
        sides = {side: [change for message in found for change in message[side]] for side in ("b", "a")}
        return json.dumps({"s": symbol, **sides, "U": found[0]["U"], "u": found[-1]["u"]})

    def send(self, texts: list[str], *, together: bool = True) -> None:
        """Send messages over the newest connection, in one piece or one by one."""
        if together and texts:
            self._feed.do(t.together(*map(t.send, texts)))
        else:
            for text in texts:
                self._feed.do(t.send(text))

    def cut(self, how: str, text: str) -> None:
        """End the newest connection, in one of the ways that there are; perhaps inside a message."""
        if how == "inside":
            self._feed.do(t.cut_after(self.random.randint(1, len(text) - 1)))
            how = "send"
        steps = {"reset": t.reset, "fin": t.fin, "close": lambda: t.close(1012)}
        connection = self._feed.connections[-1]
        connection.do(t.send(text) if how == "send" else steps[how]())

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self._feed.close()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(PATIENCE)

    def _change(self, symbol: str, message: dict[str, Any]) -> None:
        side = self.random.choice(["bids", "asks"])
        price, amount = str(self.random.randrange(100, 130)), str(self.random.choice([0, 0, 1, 2, 5]))
        book = self._books[symbol][side]
        book[price] = amount
        if amount == "0":
            del book[price]
        message[side[0]].append([price, amount])
        self.numbers[symbol] += 1

    def _keep(self, symbol: str) -> None:
        self.history[symbol][self.numbers[symbol]] = {
            side: dict(book) for side, book in self._books[symbol].items()
        }

    def _depth(self, symbol: str, fault: str) -> bytes:
        """Return a snapshot, as it is sent."""
        with self._changed:
            if fault == "slow":
                self._changed.wait(0.05)
            numbers = sorted(self.history[symbol])
            number = self.random.choice(numbers) if fault == "old" else numbers[-1]
            sides = {side: list(book.items()) for side, book in self.history[symbol][number].items()}
        return json.dumps({"lastUpdateId": number, **sides}).encode()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        exchange = self

        class Depth(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fault = exchange.http_faults.popleft() if exchange.http_faults else ""
                if fault == "refused":
                    self.send_error(503)
                    return
                content = exchange._depth(self.path.rpartition("=")[2], fault)
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if fault == "cut":
                    self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                    return
                self.wfile.write(b"[" * len(content) if fault == "garbage" else content)

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        return Depth
