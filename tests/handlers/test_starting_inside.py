"""An app that a finalizer starts, wherever it interrupts a ready-made handler, a feed or another app."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import sleep
from typing import Any

import pytest

import lochws
from lochws import Feed, Threads, WebSocketApp, events
from lochws.compat import websocket
from lochws.errors import WebSocketError
from lochws.handlers.metrics import Metrics
from lochws.handlers.outbox import Outbox
from lochws.handlers.recorder import Recorder
from lochws.handlers.relay import Relay
from lochws.handlers.replies import Replies
from lochws.handlers.sequence import Sequence
from lochws.handlers.subscriptions import Step, Subscriptions
from lochws.handlers.worker import Worker
from lochws.system.control import control_lock, is_held

from ..support.apps import NEVER, echo
from ..support.interrupting import enter_everywhere
from ..support.peer import StartPeer
from ..support.seen import PATIENCE
from .acking import offline

PACKAGE = Path(lochws.__file__).parent
PARTS = {"app.py", "compat", "connection", "feed", "handlers", "life", "mailbox.py"}
FILES = {str(path) for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] in PARTS}
#: Bytecodes between two interruptions: a prime number, so that repetitions hit different points.
STEP = 11

#: Makes an object, and returns calls that enter its sections.
Case = Callable[[str, Path, ExitStack], "list[Callable[[], object]]"]


def use_worker(_url: str, _path: Path, stack: ExitStack) -> list[Callable[[], object]]:
    worker = Worker(print, stack.enter_context(ThreadPoolExecutor(1)), max_events=1)
    return [lambda: worker.counts, lambda: worker.drain(0), worker.close]


def use_relay(_url: str, _path: Path, stack: ExitStack) -> list[Callable[[], object]]:
    relay = Relay(offline(), "feed", "redis://127.0.0.1:1/")
    stack.callback(relay.close, 0)
    return [lambda: relay.counts, lambda: relay.unrelayed]


def use_subscriptions(_url: str, _path: Path, _stack: ExitStack) -> list[Callable[[], object]]:
    subscriptions = Subscriptions(offline(), [Step("one")])
    return [
        lambda: subscriptions.add(Step("more")), lambda: subscriptions.steps,
        lambda: subscriptions.remove(Step("more")), lambda: subscriptions.is_session_ready,
    ]


def use_sequence(_url: str, path: Path, _stack: ExitStack) -> list[Callable[[], object]]:
    sequence = Sequence(offline(), number=len, state=path / "numbers")
    return [lambda: sequence.counts, sequence.forget, lambda: sequence.flush(0.001), sequence.last]


def use_outbox(_url: str, path: Path, stack: ExitStack) -> list[Callable[[], object]]:
    calls: list[Callable[[], object]] = []
    for place in (None, path / "box"):
        box = stack.enter_context(Outbox(offline(), place))
        calls += [partial(box.put, "x"), partial(getattr, box, "counts"), partial(box.flush, 0.001)]
    return calls


def use_metrics(_url: str, _path: Path, _stack: ExitStack) -> list[Callable[[], object]]:
    metrics = Metrics()
    return [lambda: metrics.watch(offline()), metrics.snapshot]


def use_replies(url: str, _path: Path, stack: ExitStack) -> list[Callable[[], object]]:
    app = opened_until_end(url, stack)
    replies = Replies(app)
    return [lambda: replies.request({"op": "x"}, 1000), lambda: replies.open_requests]


def use_recorder(_url: str, path: Path, stack: ExitStack) -> list[Callable[[], object]]:
    recorder = Recorder(path / "talk.jsonl")
    stack.callback(recorder.close)
    return [
        lambda: recorder.on_event(events.Text("x")), recorder.reopen, lambda: recorder.flush(0.001),
        lambda: recorder.missing,
    ]


def use_mailbox(url: str, _path: Path, stack: ExitStack) -> list[Callable[[], object]]:
    app = opened_until_end(url, stack)
    mailbox = app.mailbox("text")

    def get() -> None:
        with suppress(TimeoutError):
            mailbox.get(0.001)

    return [lambda: app.send_text("x"), get, mailbox.close]


def use_feed(url: str, _path: Path, stack: ExitStack) -> list[Callable[[], object]]:
    feed = Feed(WebSocketApp, [url])
    stack.callback(lambda: feed.stop(PATIENCE))
    return [
        feed.start, lambda: feed.wait_ready(0.001), feed.status, lambda: feed.mailbox().close(),
        lambda: feed.call_later(1000, print).cancel(), lambda: feed.join(0.001), feed.close,
    ]


def use_compat(url: str, _path: Path, stack: ExitStack) -> list[Callable[[], object]]:
    connection = websocket.create_connection(url, timeout=PATIENCE)
    stack.callback(connection.close)
    return [
        lambda: connection.send("x"), connection.recv, connection.ping, lambda: connection.connected,
        connection.fileno, connection.shutdown,
    ]


def use_app(url: str, _path: Path, stack: ExitStack) -> list[Callable[[], object]]:
    app = opened_until_end(url, stack)
    return [
        lambda: app.send_text("x"), lambda: app.send_many(["x", "y"]), lambda: app.send_ping(b"x"),
        lambda: app.send_text("x", receipt=True), lambda: app.join(0.001), lambda: app.stop(0.001),
    ]


CASES: dict[str, Case] = {
    name.removeprefix("use_"): function for name, function in globals().items() if name.startswith("use_")
}


def opened_until_end(url: str, stack: ExitStack) -> WebSocketApp:
    app = WebSocketApp(url)
    stack.callback(lambda: app.stop(PATIENCE))
    app.start(ping_rate=0, persist=NEVER)
    assert app.wait_ready(PATIENCE)
    return app


@contextmanager
def entering() -> Iterator[Callable[[], int]]:
    """Have another thread take the control lock again and again, and yield a function that says how often."""
    over, count = threading.Event(), 0

    def enter() -> None:
        nonlocal count
        while not over.is_set():
            with control_lock():
                count += 1
            sleep(0.0001)

    thread = threading.Thread(target=enter)
    thread.start()
    try:
        yield lambda: count
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("name", CASES)
def test_it_starts_and_the_section_is_not_entered_meanwhile(
    name: str, start_peer: StartPeer, tmp_path: Path
) -> None:
    url = start_peer(echo).url
    started: list[WebSocketApp] = []
    let_in: list[str] = []
    done = threading.Event()
    threads = Threads(2)

    def run() -> None:
        with ExitStack() as stack, entering() as entered:
            stack.callback(done.set)

            def start() -> None:
                app = WebSocketApp("ws://127.0.0.1:1/", threads=threads if len(started) % 2 else None)
                was_held, before = is_held(), entered()
                app.start(persist=NEVER)
                if was_held and entered() != before:
                    let_in.append(name)
                started.append(app)
                app.stop(0.001)

            for call in CASES[name](url, tmp_path, stack):
                enter_everywhere(partial(attempt, call), STEP, FILES, start)

    thread = threading.Thread(target=run)
    thread.start()
    assert done.wait(PATIENCE), "it hangs"
    thread.join()
    assert started
    for app in started:
        assert app.stop(PATIENCE)
    assert not let_in


def attempt(call: Callable[[], Any]) -> None:
    with suppress(WebSocketError, websocket.WebSocketException):
        call()
