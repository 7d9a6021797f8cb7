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
from lochws.handlers.sequence import Sequence, Snapshot


class OrderBook(WebSocketApp):
    """The bids and asks of one product.

    Attributes:
        bids, asks: the amount offered at each price.
        changes: passes the changes on in order, and loads the whole book when one is missing.
    """

    def __init__(self, snapshot_url: str, feed_url: str) -> None:
        super().__init__(feed_url)
        self.snapshot_url = snapshot_url
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}
        self.changes = Sequence(
            self, number=lambda event: (event.json["first"], event.json["last"]),
            resync=self.load, on_snapshot=self.replace,
        )

    def load(self, _key: None) -> Snapshot:
        """Load the whole book. Called on a thread of its own; changes that arrive meanwhile wait."""
        with urllib.request.urlopen(self.snapshot_url, timeout=10) as response:
            snapshot = json.load(response)
        return Snapshot(snapshot["last"], snapshot)

    def replace(self, _key: None, snapshot: Snapshot) -> None:
        self.bids.clear()
        self.asks.clear()
        self.update(snapshot.data)
        self.on_book()

    def on_text(self, event: events.Text) -> None:
        self.update(event.json)
        self.on_book()

    def update(self, change: dict[str, Any]) -> None:
        """Set the amounts that are listed. An amount of 0 removes the price."""
        for side in ("bids", "asks"):
            book = getattr(self, side)
            for price, amount in change[side]:
                book[float(price)] = float(amount)
                if book[float(price)] == 0:
                    del book[float(price)]

    def on_book(self) -> None:
        """Print the best prices. Called whenever the book has changed."""
        if self.bids and self.asks:
            bid, ask = max(self.bids), min(self.asks)
            print(f"{self.bids[bid]:g} at {bid:g} | {ask:g} for {self.asks[ask]:g}", flush=True)


if __name__ == "__main__":
    OrderBook(*sys.argv[1:]).run_forever()
