"""The page on logging: its log of an app's life, reproduced by a scripted server; its table of fields."""

from __future__ import annotations

import logging
import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from lochws import Backoff, events
from lochws import testing as t
from lochws.engine import reader
from lochws.life import lines
from lochws.testing import StartServer

from ..support.apps import LogListener
from ..support.pages import page, rows
from ..support.seen import PATIENCE, Noting, await_reports

#: A lock that the slow handler of the page waits for.
database = threading.Lock()

_SPAN = re.compile(r"\b\d+(\.\d+)? (s|min|h|d)( \d+ (s|min|h))?(?=[ ,:;\n]|$)", re.MULTILINE)


class Feed(Noting):
    """The app of the page."""

    def on_text(self, event: events.Text) -> None:
        self.store(event.json)

    def store(self, trade: Any) -> None:
        database.acquire(timeout=30)
        database.release()


def normalised(log: str) -> list[str]:
    """Return the lines of a log without times, addresses and places in files."""
    log = re.sub(r"^\d\d:\d\d:\d\d ", "", log, flags=re.MULTILINE)
    log = re.sub(r"wss?://[^/]+/stream", "URL", log)
    log = re.sub(r"\(\d+\.\d+\.\d+\.\d+:\d+\)", "(ADDRESS)", log)
    log = re.sub(r"lochws-reader-\d+-Feed-\S+", "READER", log)
    log = re.sub(r'File "[^"]*", line \d+', "FILE", log)
    return [line for line in _SPAN.sub("SPAN", log).splitlines() if line]


def test_the_log_in_the_example_is_what_an_app_writes(
    ws_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "lochws.testing")
    caplog.set_level(logging.INFO, "lochws")
    server = ws_server(
        [t.accept(), t.wait_for("lose me"), t.reset()],
        [t.upgrade(503, body="deploying")],
        [t.accept(), t.wait_for("go on"), t.send("{}"), t.wait_for("restart"), t.close(1001, "restart")],
        [t.accept()],
    )
    is_slow = threading.Event()

    def listen(text: str) -> None:
        if "further events wait" in text and "on_text" in text and not is_slow.is_set():
            is_slow.set()
            database.release()

    database.acquire()
    app = Feed(f"{server.url}stream?token=secret")
    with LogListener(listen):
        app.start(persist=Backoff(0, 0.01))
        assert app.wait_ready(PATIENCE)
        own = app._lochws.life._crew.reader  # type: ignore[union-attr]
        own.grace, own.stuck = 0.01, 0.1
        app.send_text("lose me")
        app.wait_for("ready", 2)
        assert app.wait_ready(PATIENCE)
        app.send_text("go on")
        assert is_slow.wait(PATIENCE)
        app.send_text("restart")
        app.wait_for("ready", 3)
        assert app.stop(PATIENCE)
    await_reports()
    # If this program gets no time, the slow handler is logged again, or others are slow as well.
    slow = [one for one in caplog.records if getattr(one, "ws_event", "") == "slow_handler"]
    first = next(one for one in slow if "on_text" in one.getMessage())
    records = [one for one in caplog.records if one is first or one not in slow]
    written = "\n".join(f"{one.levelname:7} {one.getMessage()}" for one in records)
    [shown] = re.findall(r"```text\n(.*?)```", page("logging.md"), re.DOTALL)
    if sys.version_info < (3, 11):
        shown = shown.replace("Feed.on_text", "on_text")
    # A pointer below the code of a frame depends on the version of Python.
    assert [line for line in normalised(written) if set(line) - set(" ~^")] == normalised(shown)


def test_the_table_has_all_fields() -> None:
    sources = [Path(module.__file__).read_text(encoding="utf-8") for module in (lines, reader)]
    used = set(re.findall(r"\bws_\w+", "".join(sources)))
    documented = {cells[0].strip("`") for cells in rows(page("logging.md")) if cells[0].startswith("`ws_")}
    assert documented == used
