"""Control Firefox over WebDriver BiDi, the W3C's protocol: ``python bidi.py [URL [PICTURE.png]]``.

Opens a page, prints its title and its console output, and takes a screenshot. Tested with Firefox 153.
"""

import base64
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from tempfile import TemporaryDirectory
from typing import Any

from lochws import WebSocketApp, events
from lochws.handlers.replies import Replies

PAGE = "data:text/html,<title>Hello</title><h1>Hello, lochws</h1><script>console.log('It is there')</script>"


def result(reply: dict[str, Any]) -> Any:
    """Return the result in a reply, or raise the error in it."""
    if reply["type"] == "success":
        return reply["result"]
    raise RuntimeError(f"{reply['error']}: {reply['message']}")


class Browser(WebSocketApp):
    """A connection to a browser, which replies to each command."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.replies = Replies(self, unwrap=result)  # matches them by "id"

    def do(self, method: str, **params: object) -> Any:
        """Send a command, and wait for its result. Must not be called in a handler."""
        return self.replies.request({"method": method, "params": params}, timeout=100).result()

    def on_text(self, event: events.Text) -> None:
        if event.json["type"] == "event":
            print("console:", event.json["params"]["text"])


@contextmanager
def firefox() -> Iterator[Browser]:
    """Run a headless Firefox with a temporary profile, and connect to it."""
    program = shutil.which("firefox") or shutil.which("firefox-esr") or sys.exit("Firefox is not installed")
    with TemporaryDirectory(prefix="bidi-", ignore_cleanup_errors=True) as profile:
        command = [program, "--headless", "--remote-debugging-port=0", "--profile", profile]
        with Popen(command, stdout=PIPE, stderr=STDOUT, text=True) as process:
            assert process.stdout is not None
            try:
                lines = (re.search("BiDi listening on (.*)", line) for line in process.stdout)
                url = next(found[1] for found in lines if found)
                threading.Thread(target=process.stdout.read).start()  # so that it never waits for us
                with Browser(f"{url}/session") as browser:
                    browser.wait_ready(timeout=30)
                    browser.do("session.new", capabilities={})
                    yield browser
            finally:
                process.terminate()


def main(url: str = PAGE, picture: str = "page.png") -> None:
    """Open a page, and print some facts about it."""
    with firefox() as browser:
        tab = browser.do("browsingContext.create", type="tab")["context"]
        browser.do("session.subscribe", events=["log.entryAdded"], contexts=[tab])
        browser.do("browsingContext.navigate", context=tab, url=url, wait="complete")
        script = {"expression": "document.title", "target": {"context": tab}, "awaitPromise": True}
        print("title:", browser.do("script.evaluate", **script)["result"]["value"])
        png = browser.do("browsingContext.captureScreenshot", context=tab)["data"]
        Path(picture).write_bytes(base64.b64decode(png))


if __name__ == "__main__":
    main(*sys.argv[1:])
