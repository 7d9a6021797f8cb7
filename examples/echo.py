"""Send from the main thread and wait there for the answers: ``python echo.py [URL]``.

Without a URL it talks to the demo server of lochws.
"""

import queue
import sys

from lochws import WebSocketApp
from lochws.demo import DemoServer


class Echo(WebSocketApp):
    """Hands each answer to the thread that waits for it."""

    def __init__(self, url):
        super().__init__(url)
        self.answers = queue.Queue()

    def on_text(self, event):
        self.answers.put(event.text)


def main(url):
    """Ask three times."""
    with Echo(url) as app:  # starts it; at the end of the block it is closed
        if not app.wait_ready(timeout=10):
            sys.exit(f"no connection to {url}")
        for question in ("Is anybody there?", "Are you sure?", "Who says so?"):
            app.send_text(question)
            print(question, "->", app.answers.get(timeout=10))


if len(sys.argv) > 1:
    main(sys.argv[1])
else:
    with DemoServer() as server:
        main(server.echo_url)
