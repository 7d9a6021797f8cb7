"""examples/order_book.py: an order book that agrees with its exchange, whatever was lost on the way."""

from __future__ import annotations

import http.server
import json
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lochws.testing import ScriptedServer, accept, send

from ..support.ports import free_port
from ..support.seen import PATIENCE, eventually
from .running import load, running


class Exchange:
    """An exchange with one order book: a snapshot over HTTP, and each change over WebSocket.

    Attributes:
        snapshot_url: the URL of the snapshot.
        books: the amount at each price, for both sides.
        number: the number of the last change.
        before: what the next snapshot shows instead of the current book, once.
    """

    def __init__(self) -> None:
        self.books: dict[str, dict[float, float]] = {"bids": {99.0: 1.0}, "asks": {101.0: 1.0}}
        self.number = 0
        self.before: bytes | None = None
        self._lock = threading.Lock()  # guards `books` and `number`: snapshots are served by other threads
        self._random = random.Random(17)
        self._feed = ScriptedServer([accept()], port=free_port())
        exchange = self

        class Snapshots(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content, exchange.before = exchange.before or exchange.snapshot(), None
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Snapshots)
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()
        self.snapshot_url = f"http://127.0.0.1:{self._http.server_port}/"

    @property
    def feed_url(self) -> str:
        """The URL of the changes."""
        return self._feed.url

    def snapshot(self) -> bytes:
        """Return the whole book, as it is sent."""
        with self._lock:
            sides = {
                side: [[str(price), str(amount)] for price, amount in book.items()]
                for side, book in self.books.items()
            }
            return json.dumps({"last": self.number, **sides}).encode()

    def change(self, count: int = 1, *, is_lost: bool = False) -> None:
        """Change the book this many times, and send each change unless it is to be lost."""
        for _ in range(count):
            with self._lock:
                first = self.number + 1
                changed = self._changed()
                message = json.dumps({"first": first, "last": self.number, **changed})
            if not is_lost:
                self._feed.do(send(message))

    def _changed(self) -> dict[str, list[list[str]]]:
        changed: dict[str, list[list[str]]] = {"bids": [], "asks": []}
        for _ in range(self._random.randint(1, 3)):
            side, lowest = self._random.choice([("bids", 90), ("asks", 101)])
            price = float(lowest + self._random.randrange(10))
            amount = float(self._random.choice([0, 1, 2, 5]))
            self.books[side][price] = amount
            if not amount:
                del self.books[side][price]
            changed[side].append([str(price), str(amount)])
            self.number += 1
        return changed

    def restart(self, changes: int) -> None:
        """Close the feed, change the book in the meantime, and open the feed again at the same address."""
        self._feed.close()
        self.change(changes, is_lost=True)
        self._feed = ScriptedServer([accept()], port=self._feed.port)

    def close(self) -> None:
        """Stop serving."""
        self._feed.close()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    """An exchange."""
    exchange = Exchange()
    yield exchange
    exchange.close()


def agrees(book: Any, exchange: Exchange) -> bool:
    """Return whether the book is up to date and the same as that of the exchange."""
    return book.changes.last() == exchange.number and {"bids": book.bids, "asks": book.asks} == exchange.books


def test_the_book_agrees_after_lost_changes_and_after_a_restart(exchange: Exchange) -> None:
    book = load("order_book.py").OrderBook(exchange.snapshot_url, exchange.feed_url)
    book.on_book = lambda: None
    with book:
        assert book.wait_ready(PATIENCE)
        exchange.change(200)
        eventually(lambda: agrees(book, exchange))
        assert book.changes.counts.snapshots == 1
        exchange.change(is_lost=True)
        exchange.change(50)
        eventually(lambda: agrees(book, exchange))
        assert book.changes.counts.snapshots == 2
        exchange.restart(changes=20)
        assert book.wait_ready(PATIENCE)
        exchange.change(50)
        eventually(lambda: agrees(book, exchange))
        assert book.changes.counts.snapshots == 3


def test_a_snapshot_older_than_the_first_change_is_loaded_again(exchange: Exchange) -> None:
    book = load("order_book.py").OrderBook(exchange.snapshot_url, exchange.feed_url)
    exchange.before = exchange.snapshot()
    exchange.change(5, is_lost=True)
    with book:
        assert book.wait_ready(PATIENCE)
        exchange.change()
        eventually(lambda: agrees(book, exchange))
        assert exchange.before is None


def test_the_program_shows_the_best_prices_again_after_a_restart(exchange: Exchange) -> None:
    with running("order_book.py", exchange.snapshot_url, exchange.feed_url) as program:
        show_best_prices(exchange, program)
        exchange.restart(changes=3)
        show_best_prices(exchange, program)
        program.interrupt()


def show_best_prices(exchange: Exchange, program: Any) -> None:
    """Change the book, as soon as the program is connected, and wait until it shows a line."""
    exchange.change(10)
    program.wait_for(r"^\d+ at \d+ \| \d+ for \d+$")
