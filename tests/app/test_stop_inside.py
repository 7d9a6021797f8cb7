"""A call of `stop` that interrupts a send on its own thread, as a signal handler does: it waits for nothing.

The interrupted thread holds what the app needs in order to stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import lochws
from lochws import Threads, WebSocketApp
from lochws.errors import WebSocketError

from ..support.apps import NEVER, echo
from ..support.interrupting import enter
from ..support.peer import StartPeer
from ..support.seen import PATIENCE

PACKAGE = Path(lochws.__file__).parent
FILES = {str(path) for path in PACKAGE.rglob("connection/*.py")} | {str(PACKAGE / "transport" / "stream.py")}

SENDS: dict[str, Callable[[WebSocketApp], object]] = {
    "send_text": lambda app: app.send_text("x" * 200),
    "send_many": lambda app: app.send_many(["x", "y"]),
    "send_ping": lambda app: app.send_ping(b"x"),
}


def send_and_stop(
    app: WebSocketApp, name: str, point: int, result: list[bool], over: threading.Event
) -> None:
    """Send, and call `stop` at a bytecode of the sending; note whether that was reached."""

    def send() -> None:
        with suppress(WebSocketError):  # it is closing
            SENDS[name](app)

    result.append(enter(send, point, FILES, app.stop))
    over.set()


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("name", SENDS)
def test_it_returns_and_the_app_stops(name: str, compress: bool, start_peer: StartPeer) -> None:
    url = start_peer(echo).url
    shared = Threads(2)
    got_there, point = True, 0
    while got_there:
        point += 5
        app = WebSocketApp(url, compress=compress, threads=shared)
        app.start(ping_rate=0, close_timeout=1, persist=NEVER)
        assert app.wait_ready(PATIENCE)
        over = threading.Event()
        result: list[bool] = []

        thread = threading.Thread(target=send_and_stop, args=(app, name, point, result, over), daemon=True)
        thread.start()
        assert over.wait(PATIENCE), f"it hangs at {point}"
        thread.join()
        got_there = result[0]
        assert app.stop(PATIENCE), point
    assert point > 20
