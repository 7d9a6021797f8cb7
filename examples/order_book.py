"""Keep an order book up to date: ``python order_book.py SNAPSHOT_URL FEED_URL``.

Exchanges send the whole book over HTTP, and each change over WebSocket. Changes are numbered: after a lost
change, and after a reconnect, the book is loaded again. The names of the fields are those of the test's
exchange (tests/examples/test_order_book.py); Binance, Kraken and others differ only in the names.
"""

import json
import sys
import urllib.request
from typing import Any

from lochws import WebSocketApp, events


class OrderBook(WebSocketApp):
    """The bids and asks of one product.

    Attributes:
        bids, asks: the amount offered at each price.
        number: the number of the last change that is included, or None while the book is not up to date.
        loads: how often the whole book was loaded.
    """

    def __init__(self, snapshot_url: str, feed_url: str) -> None:
        super().__init__(feed_url)
        self.snapshot_url = snapshot_url
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}
        self.number: int | None = None
        self.loads = 0

    def on_disconnected(self, event: events.Disconnected) -> None:
        self.number = None

    def on_text(self, event: events.Text) -> None:
        change = event.json
        if self.number is None or change["first"] > self.number + 1:
            self.load()  # changes that arrive meanwhile wait for this handler, in order
        if self.number is None or change["first"] > self.number + 1:
            self.number = None  # the snapshot is older than this change: try again with the next
            return
        if change["last"] > self.number:
            self.update(change)
            self.number = change["last"]
        self.on_book()

    def load(self) -> None:
        """Load the whole book."""
        self.bids.clear()
        self.asks.clear()
        self.number = None
        self.loads += 1
        with urllib.request.urlopen(self.snapshot_url, timeout=10) as response:
            snapshot = json.load(response)
        self.update(snapshot)
        self.number = snapshot["last"]

    def update(self, change: dict[str, Any]) -> None:
        """Set the amounts that are listed. An amount of 0 removes the price."""
        for side in ("bids", "asks"):
            book = getattr(self, side)
            for price, amount in change[side]:
                book[float(price)] = float(amount)
                if book[float(price)] == 0:
                    del book[float(price)]

    def on_book(self) -> None:
        """Print the best prices. Called after each message, when the book is up to date."""
        if self.bids and self.asks:
            bid, ask = max(self.bids), min(self.asks)
            print(f"{self.bids[bid]:g} at {bid:g} | {ask:g} for {self.asks[ask]:g}", flush=True)


if __name__ == "__main__":
    OrderBook(*sys.argv[1:]).run_forever()
