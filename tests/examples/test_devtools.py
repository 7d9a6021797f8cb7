"""examples/devtools.py: Debian's Chromium, controlled through lochws."""

from __future__ import annotations

import http.server
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.chromium import DevToolsError, Page, chromium
from ..support.seen import PATIENCE, eventually
from .png import decode
from .running import CHROMIUM, run

pytestmark = CHROMIUM

TEAL, WHITE = (0, 128, 128), (255, 255, 255)

PROGRAM_PAGE = """data:text/html,<title>Hello</title>
<body style="background:teal;color:white;font:60px sans-serif"><h1>Hello, lochws</h1>
<script>console.log('It is there')</script>"""

PAGE = b"""<!doctype html><title>A page</title><p id="word">before</p>
<script>console.log("hello from " + location.pathname)</script>"""

#: Fills the page with noise, which PNG cannot compress.
NOISE = """
    document.body.innerHTML = '<canvas width=900 height=500 style="position:fixed;top:0;left:0">';
    const paper = document.querySelector('canvas').getContext('2d');
    const picture = paper.createImageData(900, 500);
    for (let at = 0; at < picture.data.length; at += 65536)
        crypto.getRandomValues(picture.data.subarray(at, at + 65536));
    for (let at = 3; at < picture.data.length; at += 4) picture.data[at] = 255;
    paper.putImageData(picture, 0, 0);
    0
"""


@pytest.fixture
def pages() -> Iterator[str]:
    """Serve one page under every path on loopback; returns the URL."""

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def profiles() -> Iterator[str]:
    """A folder for profiles, with a short path: Chromium creates a socket in it."""
    with tempfile.TemporaryDirectory() as path:
        yield path


@pytest.fixture
def deaf() -> Iterator[str]:
    """A URL at whose port no process listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


def processes(word: str) -> list[str]:
    """Return the command lines of all processes that contain a word."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
        if word in line:
            lines.append(line)
    return lines


def test_the_program_opens_a_page_takes_a_screenshot_and_leaves_nothing_behind(
    tmp_path: Path, profiles: str
) -> None:
    picture = tmp_path / "page.png"
    process = run("devtools.py", PROGRAM_PAGE, str(picture), environment={"TMPDIR": profiles})
    assert process.returncode == 0, process.stderr
    assert not process.stderr
    assert process.stdout.splitlines() == ["console: It is there", "title: Hello"]
    screen = decode(picture.read_bytes())
    assert screen.pixel(0, 0) == screen.pixel(screen.width - 1, screen.height - 1) == TEAL
    assert WHITE in screen.colors(60), "no letters"
    eventually(lambda: not processes(profiles))
    assert not os.listdir(profiles)


def test_a_page_can_be_opened_evaluated_listened_to_and_photographed(pages: str, deaf: str) -> None:
    with chromium() as browser:
        first, second = Page(browser), Page(browser, 300, 200)
        heard = [browser.expect("Runtime.consoleAPICalled", page.session) for page in (first, second)]
        second.open(f"{pages}/two")
        assert not heard[0].done(), "an event of another session"
        first.open(f"{pages}/one")
        words = [future.result(PATIENCE)["args"][0]["value"] for future in heard]
        assert words == ["hello from /one", "hello from /two"]
        assert first.evaluate("document.title") == "A page"
        assert first.evaluate("Promise.resolve({a: [1, null]})") == {"a": [1, None]}
        assert first.evaluate("document.querySelector('#word').textContent = 'after'") == "after"
        assert second.evaluate("document.querySelector('#word').textContent") == "before"
        with pytest.raises(DevToolsError, match="nonsense is not defined"):
            first.evaluate("nonsense")
        with pytest.raises(DevToolsError, match=r"Page\.fly' wasn't found"):
            first.ask("Page.fly")
        screen = decode(second.screenshot())
        assert (screen.width, screen.height) == (300, 200)
        assert first.evaluate(NOISE) == 0
        received = browser.counters.bytes_received
        assert len(first.screenshot()) > 900 * 500 * 3 * 0.9, "noise came back smaller than it is"
        assert browser.counters.bytes_received - received > 1_500_000
        with pytest.raises(DevToolsError, match="ERR_CONNECTION_REFUSED"):
            second.open(deaf)


def test_an_expected_event_fails_when_the_connection_is_lost() -> None:
    with chromium() as browser:
        future = browser.expect("Page.loadEventFired")
        browser.ask("Browser.close")
        with pytest.raises(DevToolsError, match="connection lost"):
            future.result(PATIENCE)
