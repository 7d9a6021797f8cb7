"""Send messages from the main thread, and wait for the replies: ``python echo.py [URL]``.

Without a URL it uses the demo server of lochws.
"""

import queue
import sys

from lochws import WebSocketApp
from lochws.demo import DemoServer


class Echo(WebSocketApp):
    """Hands each reply to the thread that waits for it."""

    def __init__(self, url):
        super().__init__(url)
        self.replies = queue.Queue()

    def on_text(self, event):
        self.replies.put(event.text)


def main(url):
    """Ask three questions."""
    with Echo(url) as app:  # started here, and stopped at the end of the block
        if not app.wait_ready(timeout=10):
            sys.exit(f"no connection to {url}")
        for question in ("Is anybody there?", "Are you sure?", "Who says so?"):
            app.send_text(question)
            print(question, "->", app.replies.get(timeout=10))


if len(sys.argv) > 1:
    main(sys.argv[1])
else:
    with DemoServer() as server:
        main(server.echo_url)
