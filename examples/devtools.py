"""Control Chromium over its DevTools protocol: ``python devtools.py [URL [PICTURE.png]]``.

Prints the page's title and its console output, and takes a screenshot. Tested with Chromium 156.
"""

import base64
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory
from typing import Any

from lochws import WebSocketApp, events
from lochws.handlers.replies import Replies

PAGE = "data:text/html,<title>Hello</title><h1>Hello, lochws</h1><script>console.log('It is there')</script>"


class Browser(WebSocketApp):
    """A connection to a browser, which replies to each command."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.replies = Replies(self)  # matches them by "id"
        self.loaded = threading.Event()

    def do(self, method: str, tab: str | None = None, **params: object) -> Any:
        """Send a command to a tab or the browser, and wait for its result. Not for handlers."""
        message = {"method": method, "params": params} | ({"sessionId": tab} if tab else {})
        reply = self.replies.request(message).result()
        if "result" not in reply:
            raise RuntimeError(reply["error"]["message"])
        return reply["result"]

    def on_text(self, event: events.Text) -> None:
        match event.json:
            case {"method": "Page.loadEventFired"}:
                self.loaded.set()
            case {"method": "Runtime.consoleAPICalled", "params": {"args": words}}:
                print("console:", *(word.get("value") for word in words))


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a headless Chromium with a temporary profile, and connect to it."""
    program = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # the sandbox does not work for root
    with TemporaryDirectory(prefix="devtools-", ignore_cleanup_errors=True) as profile:
        command = [program, "--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}", *root]
        with Popen(command, stderr=PIPE, text=True, env={**os.environ, "TMPDIR": profile}) as process:
            try:
                output = process.stderr or sys.exit("no output")
                url = next(line.split()[-1] for line in output if "listening on ws:" in line)
                with Browser(url) as browser:
                    threading.Thread(target=output.read).start()  # so that it never waits for us
                    browser.wait_ready(timeout=30)
                    yield browser
            finally:
                process.terminate()


def main(url: str = PAGE, picture: str = "page.png") -> None:
    with chromium() as browser:
        target = browser.do("Target.createTarget", url="about:blank")
        tab = browser.do("Target.attachToTarget", flatten=True, **target)["sessionId"]
        browser.do("Page.enable", tab)
        browser.do("Runtime.enable", tab)
        browser.do("Page.navigate", tab, url=url)
        browser.loaded.wait(timeout=30)
        print("title:", browser.do("Runtime.evaluate", tab, expression="document.title")["result"]["value"])
        Path(picture).write_bytes(base64.b64decode(browser.do("Page.captureScreenshot", tab)["data"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
