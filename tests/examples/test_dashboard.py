"""examples/dashboard: a real browser, controlled through lochws, shows what an app receives."""

from __future__ import annotations

import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lochws import WebSocket, events
from lochws.demo import DemoServer

from ..support.chromium import Page, chromium
from ..support.seen import PATIENCE
from .png import decode
from .running import CHROMIUM, Running, running

#: Resolves to the next texts of an element, this many of them, each different from the one before.
CHANGES = """new Promise(resolve => {
    const texts = [], element = document.querySelector('%s');
    new MutationObserver(() => {
        if (element.textContent !== texts.at(-1)) texts.push(element.textContent);
        if (texts.length === %d) resolve(texts);
    }).observe(element, {childList: true, characterData: true, subtree: true});
})"""

#: Resolves to the text of an element once it exists and its text matches a pattern.
MATCHES = """new Promise(resolve => {
    const look = () => {
        const text = document.querySelector('%s')?.textContent ?? '';
        if (/%s/.test(text)) resolve(text); else requestAnimationFrame(look);
    };
    look();
})"""

BACKGROUND, LINE = (16, 21, 28), (83, 155, 245)


@pytest.fixture
def programs() -> Iterator[ExitStack]:
    """Stops the programs that a test enters into it."""
    with ExitStack() as stack:
        yield stack


def start(programs: ExitStack, *arguments: str) -> tuple[Running, str]:
    """Start the dashboard; returns it and the URL of its page."""
    board = programs.enter_context(running("dashboard/dashboard.py", *arguments))
    return board, board.wait_for("^http://.*")[0]


def interrupt(board: Running) -> None:
    """End it by Ctrl-C."""
    board.process.send_signal(signal.SIGINT)
    assert board.end() == 0
    assert board.lines[-1] == "bye"
    assert not any("Traceback" in line for line in board.lines), board.lines


@CHROMIUM
def test_a_browser_shows_changing_prices_and_the_state_of_the_connection(programs: ExitStack) -> None:
    feed = programs.enter_context(DemoServer(interval=0.02))
    board, url = start(programs, feed.url)
    page: Any = Page(programs.enter_context(chromium()), 1000, 360)
    page.open(url)
    assert page.evaluate(MATCHES % ("#status", "^connected")).endswith("over 1 connections")
    assert page.evaluate(MATCHES % ("#SOL-USD h2", "SOL")) == "SOL-USD"
    prices = page.evaluate(CHANGES % ("#BTC-USD .price", 5))
    assert all(60_000 < float(price.replace(",", "")) < 68_000 for price in prices)
    changes = page.evaluate(CHANGES % ("#ETH-USD .change", 2))
    assert all(abs(float(change.removesuffix(" %"))) < 5 for change in changes)
    screen = decode(page.screenshot())
    assert screen.pixel(0, 0) == BACKGROUND
    assert any(LINE in screen.colors(y) for y in range(200, 300)), "no line was drawn"
    page.evaluate(f"window.lost = {MATCHES % ('#status', 'connection lost.*; trying again in')}; 0")
    feed.drop()
    page.evaluate("window.lost")
    page.evaluate(MATCHES % ("#status", "^connected .* over 2 connections"))
    page.evaluate(CHANGES % ("#SOL-USD .price", 2))
    interrupt(board)
    page.evaluate(MATCHES % ("#status", "the dashboard has ended"))


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_the_dashboard_runs_by_itself_until_ctrl_c(programs: ExitStack) -> None:
    board, url = start(programs)
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert b"<title>Prices</title>" in response.read()
    with pytest.raises(urllib.error.HTTPError, match="404") as refusal:
        urllib.request.urlopen(f"{url}elsewhere", timeout=PATIENCE)
    refusal.value.close()
    for event in (websocket := WebSocket(f"{url}prices".replace("http", "ws", 1))):
        # Only then is it connected: Ctrl-C while it is connecting would make the subscription fail.
        if isinstance(event, events.Text) and event.json["prices"]:
            assert event.json["status"] == "connected"
            websocket.close()
    interrupt(board)
