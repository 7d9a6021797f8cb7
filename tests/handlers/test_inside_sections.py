"""Signal handlers and finalizers that interrupt a section under the control lock never wait there.

A wait would release the lock, and other threads would find the section half done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from lochws import WebSocketApp, events
from lochws.connection.incoming import IncomingStream
from lochws.errors import QueueFull, WebSocketError
from lochws.handlers.outbox import Outbox
from lochws.handlers.recorder import Recorder
from lochws.handlers.relay import Relay
from lochws.handlers.worker import Worker
from lochws.system.control import control_lock

from ..support.apps import opened
from ..support.peer import CLOSE, Link, StartPeer
from ..support.seen import PATIENCE, in_thread
from .acking import offline

#: A context manager that returns the call to make, and what it raises, or None.
Case = tuple[Callable[[Path], Any], type[Exception] | None]


@contextmanager
def full_worker(method: str) -> Iterator[Callable[[], object]]:
    """Make a worker that has one event in work and one waiting."""
    release = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        worker = Worker(lambda _: release.wait(PATIENCE), pool, max_events=1, parallel=1)
        worker.take(events.Text("first"))
        worker.take(events.Text("second"))
        try:
            if method == "take":
                yield lambda: worker.take(events.Text("third"))
                assert worker.counts.waiting == 2
            else:
                yield worker.drain
        finally:
            release.set()


@contextmanager
def busy_relay() -> Iterator[Callable[[], object]]:
    """Make a relay that cannot reach Redis."""
    relay = Relay(offline(), "feed", "redis://127.0.0.1:1/", close_timeout=PATIENCE)
    relay._take(events.Ready(None, None, frozenset()))
    try:
        yield relay.close
    finally:
        relay.close(0)


@contextmanager
def busy_recorder(path: Path, method: str) -> Iterator[Callable[[], object]]:
    """Make a recorder whose writer is held up by the user's function."""
    held, release = threading.Event(), threading.Event()

    def hold(_direction: str, payload: str | bytes) -> str | bytes:
        held.set()
        release.wait(PATIENCE)
        return payload

    recorder = Recorder(path / "talk.jsonl", redact=hold, max_pending=1, when_full="pause")
    recorder.on_event(events.Text("x"))
    assert held.wait(PATIENCE)
    try:
        if method == "on_event":
            yield lambda: recorder.on_event(events.Text("y"))
            assert recorder.missing == 1
        else:
            yield getattr(recorder, method)
    finally:
        release.set()
        recorder.close()


@contextmanager
def full_outbox(method: str) -> Iterator[Callable[[], object]]:
    """Make an outbox without room."""
    outbox = Outbox(offline(), max_messages=1, when_full="block", put_timeout=3 * PATIENCE)
    outbox.put("first")
    yield (lambda: outbox.put("second")) if method == "put" else (lambda: outbox.flush(PATIENCE))
    outbox.close()


@contextmanager
def empty_mailbox() -> Iterator[Callable[[], object]]:
    """Make a mailbox in which nothing will arrive."""
    mailbox = offline().mailbox("text")
    yield lambda: mailbox.get(PATIENCE)


@contextmanager
def idle_stream() -> Iterator[Callable[[], object]]:
    """Make a stream of which nothing has arrived."""

    class Handlers:
        def turn_for_handler(self, *_: object) -> bool:
            return False

    stream = IncomingStream(True, lambda: None, Handlers())  # type: ignore[arg-type]  # it needs no more
    yield lambda: stream.read(1, PATIENCE)


CASES: dict[str, Case] = {
    "worker.take": (lambda path: full_worker("take"), None),
    "worker.drain": (lambda path: full_worker("drain"), WebSocketError),
    "relay.close": (lambda path: busy_relay(), WebSocketError),
    "recorder.on_event": (lambda path: busy_recorder(path, "on_event"), None),
    "recorder.flush": (lambda path: busy_recorder(path, "flush"), WebSocketError),
    "recorder.close": (lambda path: busy_recorder(path, "close"), WebSocketError),
    "outbox.put": (lambda path: full_outbox("put"), QueueFull),
    "outbox.flush": (lambda path: full_outbox("flush"), WebSocketError),
    "mailbox.get": (lambda path: empty_mailbox(), WebSocketError),
    "stream.read": (lambda path: idle_stream(), WebSocketError),
}


def check_inside(call: Callable[[], object], error: type[Exception] | None) -> None:
    """Make a call under the control lock, and check that no other thread gets the lock meanwhile."""
    inside, outcome = threading.Event(), []
    has_entered = threading.Event()

    def enter() -> None:
        inside.wait(PATIENCE)
        with control_lock():
            has_entered.set()

    def interrupted() -> None:
        with control_lock():
            inside.set()
            with suppress(WebSocketError, TimeoutError):
                try:
                    call()
                except Exception as raised:
                    outcome.append(type(raised))
                    raise
                else:
                    outcome.append(None)
            outcome.append(has_entered.is_set())

    threads = [in_thread(enter), in_thread(interrupted)]
    for thread in threads:
        thread.join(2 * PATIENCE)
    assert outcome == [error, False]


@pytest.mark.parametrize("name", CASES)
def test_a_call_that_interrupts_a_section_neither_waits_nor_lets_others_in(name: str, tmp_path: Path) -> None:
    make, error = CASES[name]
    with make(tmp_path) as call:
        check_inside(call, error)


def answering_no_pings(link: Link) -> None:
    """Accept, and answer nothing but the Close frame."""
    link.accept()
    while (frame := link.read_frame())[0] != CLOSE:
        pass
    link.send_frame(*frame)


def test_a_receipt_is_not_waited_for_there(start_peer: StartPeer) -> None:
    with opened(WebSocketApp(start_peer(answering_no_pings).url), ping_rate=0) as app:
        receipt = app.send_text("x", receipt=True)
        check_inside(lambda: receipt.result(PATIENCE), WebSocketError)


def test_a_put_interrupts_a_section_while_a_finalizer_of_another_put_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = WebSocketApp("ws://127.0.0.1:1/")
    outbox = Outbox(app)
    table = outbox._keeper.ledger.table
    commit, inside = table.commit, threading.Event()

    def commit_with_finalizer() -> None:
        inside.set()
        with control_lock():  # as a finalizer does that calls a method of an app
            commit()

    monkeypatch.setattr(table, "commit", commit_with_finalizer)

    def interrupted_section() -> None:
        with control_lock():
            other.start()
            inside.wait(0.2)  # unless putting needs the lock
            outbox.put("second")

    other = threading.Thread(target=outbox.put, args=("first",))
    section = in_thread(interrupted_section)
    section.join(PATIENCE)
    assert not section.is_alive()
    other.join(PATIENCE)
    assert outbox.pending == 2
    outbox.close()
