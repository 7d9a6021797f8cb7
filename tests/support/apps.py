"""Apps in tests: started for the length of a block, and stopped for certain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from lochws import Backoff, WebSocketApp
from lochws.system.report import flush_reports

from .peer import BINARY, CLOSE, PING, PONG, TEXT, Link
from .seen import PATIENCE, Noting

App = TypeVar("App", bound=WebSocketApp)

#: Reconnects at once, as often as it takes.
AT_ONCE = Backoff(min_wait=0.0, max_wait=0.0)
#: Backs off for longer than any test runs.
NEVER = Backoff(min_wait=1000.0, max_wait=1000.0)


@contextmanager
def running(app: App, **options: Any) -> Iterator[App]:
    """Start an app, without persistence unless asked for, and stop it at the end."""
    app.start(**{"persist": False, **options})
    try:
        yield app
    finally:
        assert app.stop(PATIENCE), f"{app!r} did not stop: it is {app.state.value}"
        if isinstance(app, Noting):
            check_order(app.names())


@contextmanager
def opened(app: App, **options: Any) -> Iterator[App]:
    """Start an app as `running` does, and wait until it is ready."""
    with running(app, **options):
        assert app.wait_ready(PATIENCE)
        yield app


def hurry(app: WebSocketApp, grace: float = 0.01) -> None:
    """Shorten the grace period of a running app: the seconds after which a handler counts as slow."""
    app._lochws.life._crew.reader.grace = grace  # type: ignore[union-attr]


def check_order(names: Sequence[str]) -> None:
    """Check the order of events: each attempt has one beginning and one end, and its events between them."""
    attempt: list[str] = []
    for name in names:
        if name == "connecting":
            assert not attempt, f"an attempt inside another: {names}"
        elif name == "back_off":
            assert not attempt, f"a pause inside an attempt: {names}"
            continue
        else:
            assert attempt, f"{name} outside of an attempt: {names}"
            once = ("connected", "rejected", "ready", "unresponsive", "protocol_error", "closing", "closed")
            assert name not in once or name not in attempt, f"{name} twice: {names}"
            early = ("connected", "rejected", "protocol_error", "connect_fail", "disconnected")
            assert name in early or "connected" in attempt, f"{name} before the connection: {names}"
            assert name in (*early, "ready") or "ready" in attempt, f"{name} before ready: {names}"
        attempt.append(name)
        if name in ("connect_fail", "disconnected"):
            attempt = []
    assert not attempt, f"an attempt without an end: {names}"


def echo(link: Link) -> None:
    """Accept, send every message back, and answer pings and the Close frame."""
    link.accept()
    answers = {TEXT: TEXT, BINARY: BINARY, PING: PONG, CLOSE: CLOSE}
    while True:
        opcode, payload = link.read_frame()
        if opcode in answers:
            link.send_frame(answers[opcode], payload)
        if opcode == CLOSE:
            return


class LogListener(logging.Handler):
    """Calls a function with the text of each log record of the library, while it is entered."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())

    def __enter__(self) -> LogListener:
        logging.getLogger("lochws").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        flush_reports()
        logging.getLogger("lochws").removeHandler(self)
