"""A web page that shows a feed: ``python dashboard.py [URL [PORT]]``, then open the address that it prints.

One app receives the feed, whatever happens to its connection, and keeps the newest prices. Each browser that
opens the page gets them over a WebSocket of its own, as fast as it can take them: a slow browser skips some,
and delays no other. Without a URL the feed is that of the demo server of lochws, which drops the connection
once.
"""

import json
import sys
import threading
from pathlib import Path

from lochws import Backoff, WebSocketApp, on
from lochws.demo import DemoServer
from lochws.testing import ScriptedServer, accept, upgrade

PAGE = Path(__file__).with_name("index.html")
PRODUCTS = ["BTC-USD", "ETH-USD", "SOL-USD"]
KEPT = 80  # prices per product
PAUSE = 0.05  # seconds between two updates of a browser, at least


class Feed(WebSocketApp):
    """Receives the feed, and has a new version of what it knows whenever something changes."""

    def __init__(self, url):
        super().__init__(url)
        self.lock = threading.Lock()  # guards what follows
        self.version = 0
        self.prices = {}
        self.status = "connecting"

    def on_ready(self, event):
        self.send_json(type="subscribe", product_ids=PRODUCTS, channels=["ticker"])
        self.note("connected")

    def on_text(self, event):
        message = event.json
        if message["type"] == "ticker":
            with self.lock:
                prices = self.prices.get(message["product_id"], [])
                self.prices[message["product_id"]] = [*prices, float(message["price"])][-KEPT:]
            self.note(self.status)

    @on("connect_fail", "disconnected")
    def lost(self, event):
        self.note(event.reason)

    def on_back_off(self, event):
        self.note(f"{self.status}; trying again in {event.delay:.1f} s")

    def note(self, status):
        """Set the status, and count a new version."""
        with self.lock:
            self.status = status
            self.version += 1

    def newest(self):
        """The newest version: its number and its text. Any thread."""
        counters = self.counters
        with self.lock:
            return self.version, json.dumps({
                "status": self.status, "prices": self.prices,
                "messages": counters.messages_received, "connections": counters.connections,
            })

    def show(self, connection):
        """Send each new version to one browser, on the thread of its connection, until it leaves."""
        shown = None
        while True:
            if self.version != shown:
                shown, text = self.newest()
                connection.send(text)  # blocks while the browser is slow
            connection.receive(timeout=PAUSE)  # answers its Close frame; it sends no messages


def show_page(connection):
    """Answer plain requests with the page, until one asks for a WebSocket, whose path is /prices."""
    while (path := connection.await_request().target) != "/prices":
        if path == "/":
            upgrade(200, {"Content-Type": "text/html; charset=utf-8"}, PAGE.read_bytes())(connection)
        else:
            upgrade(404, body="There is only one page.\n")(connection)


def main(url, port=0):
    """Serve the page until Ctrl-C."""
    feed = Feed(url)
    script = [show_page, accept(deflate=True, strict=True), feed.show]
    with ScriptedServer(script, port=port, history=False) as server:
        feed.start(persist=Backoff(min_wait=0.5, max_wait=5))
        print(f"http://{server.authority}/", flush=True)
        try:
            feed.wait_closed()
        except KeyboardInterrupt:
            print("bye")
        finally:
            feed.stop(timeout=5)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1], *map(int, sys.argv[2:]))
    else:
        with DemoServer(interval=0.05, drop_after=150) as demo:
            main(demo.url)
