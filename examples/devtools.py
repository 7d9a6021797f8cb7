"""Control a headless Chromium over its DevTools protocol: ``python devtools.py [URL [PICTURE.png]]``.

Opens a page, reads its title, listens to its console and takes a screenshot. Without a URL it opens a small
page of its own. `Browser`, `Page` and `chromium` can be imported, as the test of the dashboard does.
"""

import base64
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from lochws import WebSocketApp
from lochws.handlers.replies import Replies

PAGE = """data:text/html,<title>Hello</title><body style="background:teal;color:white;font:60px sans-serif">
<h1>Hello, lochws</h1><script>console.log('The page is there')</script>"""


class DevToolsError(Exception):
    """The browser answered with an error, or the page threw an exception."""


def result(reply):
    """Return the result in a reply, or raise the error in it."""
    if "error" in reply:
        raise DevToolsError(reply["error"]["message"])
    return reply["result"]


class Browser(WebSocketApp):
    """A connection to a browser. Requests have replies; events go to the futures that expect them."""

    def __init__(self, url):
        super().__init__(url)
        self.replies = Replies(self, unwrap=result)  # matches them by "id"
        self.expected = {}
        self.lock = threading.Lock()  # guards `expected`

    def ask(self, method, session=None, **params):
        """Send a request and wait for its result. Must not be called in a handler."""
        message = {"method": method, "params": params}
        if session:
            message["sessionId"] = session
        return self.replies.request(message).result()

    def expect(self, method, session=None):
        """Return a future for the next event of this name. Call it before the event can happen."""
        future = Future()
        with self.lock:
            self.expected.setdefault((method, session), []).append(future)
        return future

    def on_text(self, event):
        message = event.json
        with self.lock:
            futures = self.expected.pop((message.get("method"), message.get("sessionId")), [])
        for future in futures:
            future.set_result(message["params"])

    def on_disconnected(self, event):
        with self.lock:
            expected, self.expected = self.expected, {}
        for future in chain(*expected.values()):
            future.set_exception(DevToolsError(event.reason))


class Page:
    """A browser tab, with a session of its own on the browser's connection."""

    def __init__(self, browser, width=900, height=500):
        self.browser = browser
        target = browser.ask("Target.createTarget", url="about:blank")
        self.session = browser.ask("Target.attachToTarget", flatten=True, **target)["sessionId"]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Page.enable")
        self.ask("Runtime.enable")

    def ask(self, method, **params):
        """Send a request to this tab and wait for its result."""
        return self.browser.ask(method, self.session, **params)

    def open(self, url):
        """Navigate to a URL, and wait until the page is loaded."""
        loaded = self.browser.expect("Page.loadEventFired", self.session)
        if error := self.ask("Page.navigate", url=url).get("errorText"):
            raise DevToolsError(f"{url}: {error}")
        loaded.result(timeout=30)

    def evaluate(self, expression):
        """Evaluate a JavaScript expression, and wait for its value if it is a promise."""
        outcome = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if details := outcome.get("exceptionDetails"):
            raise DevToolsError(details.get("exception", details).get("description", details["text"]))
        return outcome["result"].get("value")

    def screenshot(self):
        """Bring the tab to the foreground, where it is drawn, and take a screenshot, as PNG."""
        self.ask("Page.bringToFront")
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])


@contextmanager
def chromium():
    """Run a headless Chromium with a temporary profile, and connect to it; cleans up afterwards."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        sys.exit("Chromium is not installed: apt install chromium")
    with tempfile.TemporaryDirectory(prefix="devtools-", ignore_cleanup_errors=True) as profile:
        command = [program, "--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        if os.geteuid() == 0:
            command.append("--no-sandbox")  # the sandbox does not work for root
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, env={**os.environ, "TMPDIR": profile},
        )
        try:
            with Browser(address(process, Path(profile, "DevToolsActivePort"))) as browser:
                if not browser.wait_ready(timeout=30):
                    raise DevToolsError("no connection to Chromium")
                yield browser
        finally:
            process.terminate()
            process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its child processes, if they are still running


def address(process, file, timeout=30):
    """Return the WebSocket URL of a browser, which it writes to a file once it listens."""
    pause = threading.Event()
    for _ in range(round(timeout / 0.02)):
        if file.exists() and "/devtools/" in (text := file.read_text()):
            return "ws://127.0.0.1:{}{}".format(*text.split())
        if process.poll() is not None:
            raise DevToolsError(f"Chromium ended with status {process.returncode}")
        pause.wait(0.02)
    raise DevToolsError("Chromium did not start")


def main(url=PAGE, picture=None):
    """Open a page, and print some facts about it."""
    with chromium() as browser:
        print("browser:", browser.ask("Browser.getVersion")["product"])
        page = Page(browser)
        said = browser.expect("Runtime.consoleAPICalled", page.session)
        page.open(url)
        print("title:", page.evaluate("document.title"))
        if said.done():
            print("console:", *(argument.get("value") for argument in said.result()["args"]))
        png = page.screenshot()
        print("screenshot:", len(png), "bytes")
        if picture:
            Path(picture).write_bytes(png)


if __name__ == "__main__":
    main(*sys.argv[1:])
