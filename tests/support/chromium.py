"""A headless Chromium, controlled over its DevTools protocol through lochws."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from lochws import WebSocketApp, events
from lochws.handlers.replies import Replies


class DevToolsError(Exception):
    """The browser answered with an error, or the page threw an exception."""


def result(reply: dict[str, Any]) -> Any:
    """Return the result in a reply, or raise the error in it."""
    if "error" in reply:
        raise DevToolsError(reply["error"]["message"])
    return reply["result"]


class Browser(WebSocketApp):
    """A connection to a browser. Requests have replies; events go to the futures that expect them."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.replies = Replies(self, unwrap=result)  # matches them by "id"
        self.expected: dict[tuple[str, str | None], list[Future[Any]]] = {}
        self.lock = threading.Lock()  # guards `expected`

    def ask(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Send a request and wait for its result. Must not be called in a handler."""
        message: dict[str, Any] = {"method": method, "params": params}
        if session:
            message["sessionId"] = session
        return self.replies.request(message).result()

    def expect(self, method: str, session: str | None = None) -> Future[Any]:
        """Return a future for the next event of this name. Call it before the event can happen."""
        future: Future[Any] = Future()
        with self.lock:
            self.expected.setdefault((method, session), []).append(future)
        return future

    def on_text(self, event: events.Text) -> None:
        message = event.json
        with self.lock:
            futures = self.expected.pop((message.get("method"), message.get("sessionId")), [])
        for future in futures:
            future.set_result(message["params"])

    def on_disconnected(self, event: events.Disconnected) -> None:
        with self.lock:
            expected, self.expected = self.expected, {}
        for future in chain(*expected.values()):
            future.set_exception(DevToolsError(event.reason))


class Page:
    """A browser tab, with a session of its own on the browser's connection."""

    def __init__(self, browser: Browser, width: int = 900, height: int = 500) -> None:
        self.browser = browser
        target = browser.ask("Target.createTarget", url="about:blank")
        self.session = browser.ask("Target.attachToTarget", flatten=True, **target)["sessionId"]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Page.enable")
        self.ask("Runtime.enable")

    def ask(self, method: str, **params: Any) -> Any:
        """Send a request to this tab and wait for its result."""
        return self.browser.ask(method, self.session, **params)

    def open(self, url: str) -> None:
        """Navigate to a URL, and wait until the page is loaded."""
        loaded = self.browser.expect("Page.loadEventFired", self.session)
        if error := self.ask("Page.navigate", url=url).get("errorText"):
            raise DevToolsError(f"{url}: {error}")
        loaded.result(timeout=30)

    def evaluate(self, expression: str) -> Any:
        """Evaluate a JavaScript expression, and wait for its value if it is a promise."""
        outcome = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if details := outcome.get("exceptionDetails"):
            raise DevToolsError(details.get("exception", details).get("description", details["text"]))
        return outcome["result"].get("value")

    def screenshot(self) -> bytes:
        """Bring the tab to the foreground, where it is drawn, and take a screenshot, as PNG."""
        self.ask("Page.bringToFront")
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a headless Chromium with a temporary profile, and connect to it; cleans up afterwards."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed")
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


def address(process: subprocess.Popen[bytes], file: Path, timeout: float = 30) -> str:
    """Return the WebSocket URL of a browser, which it writes to a file once it listens."""
    pause = threading.Event()
    for _ in range(round(timeout / 0.02)):
        if file.exists() and "/devtools/" in (text := file.read_text()):
            return "ws://127.0.0.1:{}{}".format(*text.split())
        if process.poll() is not None:
            raise DevToolsError(f"Chromium ended with status {process.returncode}")
        pause.wait(0.02)
    raise DevToolsError("Chromium did not start")
