"""A page in the browser that shows a feed: ``python dashboard.py [URL [PORT]]``, then open what it prints.

One app receives the feed, whatever happens to its connection, and keeps the newest prices. Each browser that
opens the page gets them over a WebSocket of its own, as fast as it can take them: a slow one skips some, and
holds up nobody. Without a URL the feed is the demo server of lochws, which drops the connection once.
"""

import json
import sys
import threading
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from lochws import Backoff, WebSocketApp, on
from lochws.demo import DemoServer

PAGE = Path(__file__).with_name("index.html")
PRODUCTS = ["BTC-USD", "ETH-USD", "SOL-USD"]
KEPT = 80  # prices of each product


class Feed(WebSocketApp):
    """Receives the feed. Browsers wait for the next version of what it knows."""

    def __init__(self, url):
        super().__init__(url)
        self.changed = threading.Condition()  # its lock guards what follows
        self.version = 0
        self.prices = {}
        self.status = "connecting"
        self.is_over = False

    def on_ready(self, event):
        self.send_json(type="subscribe", product_ids=PRODUCTS, channels=["ticker"])
        self.note("connected")

    def on_text(self, event):
        message = event.json
        if message["type"] == "ticker":
            with self.changed:
                prices = self.prices.get(message["product_id"], [])
                self.prices[message["product_id"]] = [*prices, float(message["price"])][-KEPT:]
            self.note(self.status)

    @on("connect_fail", "disconnected")
    def lost(self, event):
        self.note(event.reason)

    def on_back_off(self, event):
        self.note(f"{self.status}; trying again in {event.delay:.1f} s")

    def note(self, status):
        """Let the browsers know that there is a new version."""
        with self.changed:
            self.status = status
            self.version += 1
            self.changed.notify_all()

    def next_version(self, seen):
        """Wait until there is another version than the one seen: its number and its text."""
        with self.changed:
            self.changed.wait_for(lambda: self.version != seen or self.is_over)
            if self.is_over:
                return None, ""
            counters = self.counters
            return self.version, json.dumps({
                "status": self.status, "prices": self.prices,
                "messages": counters.messages_received, "connections": counters.connections,
            })

    def end(self):
        """Let the browsers go."""
        with self.changed:
            self.is_over = True
            self.changed.notify_all()


def show_page(connection, request):
    """Answer a plain request with the page; the path /prices is for WebSockets."""
    if request.path == "/prices":
        return None
    if request.path != "/":
        return connection.respond(HTTPStatus.NOT_FOUND, "there is only one page\n")
    response = connection.respond(HTTPStatus.OK, PAGE.read_text(encoding="utf-8"))
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "text/html; charset=utf-8"
    return response


def main(url, port=0):
    """Serve the page until Ctrl-C."""
    feed = Feed(url)

    def show_prices(connection):
        version = 0
        with suppress(ConnectionClosed):
            while (latest := feed.next_version(version))[0]:
                version, text = latest
                connection.send(text)

    # Browsers open connections in advance and leave them idle; the end should not wait long for them.
    limits = {"open_timeout": 1, "close_timeout": 1}
    with serve(show_prices, "127.0.0.1", port, process_request=show_page, **limits) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        feed.start(persist=Backoff(min_wait=0.5, max_wait=5))
        print(f"http://127.0.0.1:{server.socket.getsockname()[1]}/", flush=True)
        try:
            feed.wait_closed()
        except KeyboardInterrupt:
            print("bye")
        finally:
            feed.stop(timeout=5)
            feed.end()
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1], *map(int, sys.argv[2:]))
    else:
        with DemoServer(interval=0.05, drop_after=150) as demo:
            main(demo.url)
