"""A live table of prices: ``python ticker_table.py [URL [PRODUCT ...]]``.

With a URL, such as wss://ws-feed.exchange.coinbase.com, it runs until Ctrl-C. Without one it runs for three
seconds, against the demo server of lochws, which drops the connection once. Needs rich: pip install
'lochws[cli]'.
"""

import sys

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lochws import Backoff, WebSocketApp, on
from lochws.demo import DemoServer

PRODUCTS = ("BTC-USD", "ETH-USD", "SOL-USD")
COLUMNS = {"Product": "left", "Price": "right", "Change": "right", "Lately": "left", "Updates": "right"}
LATELY = 24  # how many prices to draw
BARS = "▁▂▃▄▅▆▇█"


class Row:
    """The prices of one product. Only handlers change it."""

    def __init__(self, price):
        self.first = self.price = price
        self.recent = (price,)
        self.count = 1
        self.rises = None

    def take(self, price):
        """Add a price."""
        self.rises = price >= self.price
        self.price = price
        self.recent = (*self.recent, price)[-LATELY:]  # a new tuple: rich may be drawing the old one
        self.count += 1

    def cells(self, product):
        """The cells of the table's row."""
        change = f"{100 * (self.price / self.first - 1):+.3f} %"
        color = {None: "default", True: "green", False: "red"}[self.rises]
        price = Text(f"{self.price:,.2f}", f"bold {color}")
        return product, price, change, Text(bars(self.recent), "cyan"), str(self.count)


def bars(prices):
    """Draw prices as a line of bars, scaled from the lowest price to the highest."""
    low, high = min(prices), max(prices)
    return "".join(BARS[round((price - low) / (high - low or 1) * (len(BARS) - 1))] for price in prices)


class Ticker(WebSocketApp):
    """Follows the prices of some products, and can show them as a table at any time."""

    def __init__(self, url, products):
        super().__init__(url)
        self.products = products
        self.rows = {}
        self.status = Text("connecting")

    def on_ready(self, event):
        self.send_json(type="subscribe", product_ids=list(self.products), channels=["ticker"])
        self.status = Text("connected", "green")

    def on_text(self, event):
        message = event.json
        if message["type"] == "ticker":
            product, price = message["product_id"], float(message["price"])
            if product in self.rows:
                self.rows[product].take(price)
            else:
                self.rows[product] = Row(price)

    @on("connect_fail", "disconnected")
    def note(self, event):
        self.status = Text(event.reason, "red")

    def on_back_off(self, event):
        self.status = Text(f"{self.status.plain}; trying again in {event.delay:.1f} s", "yellow")

    def table(self):
        """Return the current table. Called by rich on its own thread, ten times per second."""
        table = Table(title=f"Prices from {self.url}", title_style="bold")
        for heading, side in COLUMNS.items():
            table.add_column(heading, justify=side, min_width=LATELY if heading == "Lately" else None)
        for product, row in list(self.rows.items()):
            table.add_row(*row.cells(product))
        counters = self.counters
        seen = f"{counters.messages_received} messages over {counters.connections} connections"
        return Group(table, Text.assemble(self.status, ", ", seen))


def main(url, products=PRODUCTS, seconds=None, persist=True):
    """Show the table until Ctrl-C, or for this many seconds."""
    app = Ticker(url, products)
    with Live(get_renderable=app.table, refresh_per_second=10):
        app.start(persist=persist)
        try:
            app.wait_closed(timeout=seconds)
        except KeyboardInterrupt:
            pass
        finally:
            app.stop(timeout=5)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1], sys.argv[2:] or PRODUCTS)
    else:
        with DemoServer(interval=0.05, drop_after=15) as server:
            main(server.url, seconds=3, persist=Backoff(min_wait=0.1, max_wait=0.5))
