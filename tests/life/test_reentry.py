"""Calls of an app that interrupt other calls of it, as signal handlers do, at bytecodes of all kinds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import lochws
from lochws import Threads
from lochws.errors import WebSocketError

from ..support.apps import NEVER, echo
from ..support.interrupting import enter_everywhere
from ..support.peer import StartPeer
from ..support.seen import PATIENCE, Noting

PACKAGE = Path(lochws.__file__).parent
#: The code that is interrupted: all of ours except the sending half, which has tests of its own, the registry
#: and the locks that it takes. The registry retries a change if another one came first: here, forever.
FILES = {
    str(path) for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] in {"life", "engine", "system", "app.py", "websocket.py"}
    and path.name != "locks.py"
}


def nothing(*_: object) -> None:
    pass


def register_and_remove(app: Noting) -> None:
    app.add_handler(handler := Handler())
    app.remove_handler(handler)


class Handler:
    """An object with a handler."""

    def on_text(self, event: object) -> None:
        pass


#: What any thread, signal handler and finalizer may call, of an app that is running.
CALLS: dict[str, Callable[[Noting], Any]] = {
    "state": lambda app: app.state,
    "counters": lambda app: app.counters,
    "is_active": lambda app: app.is_active,
    "latency": lambda app: (app.latency, app.waiting_bytes, app.queued_bytes, app.queued_for, app.tls),
    "call_later": lambda app: app.call_later(0, nothing),
    "call_later and cancel": lambda app: app.call_later(1000, nothing).cancel(),
    "gate": lambda app: app.hooks.gate().remove(),
    "handlers": register_and_remove,
    "reconnect": lambda app: app.reconnect(),
    "start": lambda app: app.start(),
    "wait_ready": lambda app: app.wait_ready(0.001),
    "join": lambda app: app.join(0.001),
    "close": lambda app: app.close(),
    "stop": lambda app: app.stop(0.001),
}
#: The calls after which the app goes on.
HARMLESS = [name for name in CALLS if name not in ("close", "stop")]


def call(name: str, app: Noting) -> None:
    with suppress(WebSocketError):
        CALLS[name](app)


@pytest.mark.parametrize("outer", CALLS)
def test_every_call_may_interrupt_every_other_one(outer: str, start_peer: StartPeer) -> None:
    app = Noting(start_peer(echo).url)
    app.start(persist=NEVER)
    assert app.wait_ready(PATIENCE)
    done = threading.Event()

    def run() -> None:
        for inner in HARMLESS if outer in HARMLESS else CALLS:
            # A prime number of bytecodes apart, so that repetitions meet other points.
            enter_everywhere(lambda: call(outer, app), 7, FILES, lambda inner=inner: call(inner, app))
        done.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert done.wait(2 * PATIENCE), "it hangs"
    thread.join()
    if outer in HARMLESS:
        app.reconnect()  # whatever has happened, the app goes on
        ready = len(app.all("ready"))
        app.wait_for("ready", ready)
        assert app.wait_ready(PATIENCE)
        app.send_text("still here")
        app.wait_for("text")
    assert app.stop(PATIENCE)


@pytest.mark.parametrize("inner", CALLS)
@pytest.mark.parametrize("is_shared", [False, True], ids=["own threads", "shared threads"])
def test_start_may_be_interrupted_by_any_call(inner: str, is_shared: bool, start_peer: StartPeer) -> None:
    url = start_peer(echo).url
    shared = Threads() if is_shared else None
    for offset in range(5):
        app = Noting(url, threads=shared)
        done = threading.Event()

        def run(app: Noting = app, done: threading.Event = done, step: int = 61 + offset) -> None:
            enter_everywhere(lambda: call("start", app), step, FILES, lambda: call(inner, app))
            done.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert done.wait(PATIENCE), "it hangs"
        thread.join()
        if inner not in ("close", "stop"):
            assert app.wait_ready(PATIENCE)
        assert app.stop(PATIENCE)
