"""Print the prices of a feed, and reconnect when the connection is lost: ``python ticker.py [URL]``.

With a URL it runs until Ctrl-C. Without one it runs for two seconds, against the demo server of lochws.
"""

import logging
import sys

from lochws import Backoff, WebSocketApp
from lochws.demo import DemoServer
from lochws.handlers.log import Log


class Ticker(WebSocketApp):
    """Subscribes on every connection, including each one after a reconnect."""

    def __init__(self, url):
        super().__init__(url)
        self.add_handler(Log("ticker"))  # logs how the connection opens and closes

    def on_ready(self, event):
        self.send_json(type="subscribe", product_ids=["BTC-USD"], channels=["ticker"])

    def on_text(self, event):
        if event.json["type"] == "ticker":
            print(event.json["price"])


logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(message)s")
logging.getLogger("lochws").setLevel(logging.INFO)
if len(sys.argv) > 1:
    Ticker(sys.argv[1]).run_forever()
else:
    with DemoServer(drop_after=3) as server:
        app = Ticker(server.url)
        app.start(persist=Backoff(min_wait=0.1, max_wait=0.5))
        app.wait_closed(timeout=2)  # this thread is free for other work
        app.stop()
