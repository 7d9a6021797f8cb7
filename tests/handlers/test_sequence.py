"""Sequence: numbered messages pass once and in order, and a book agrees with its exchange after faults."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from lochws import WebSocketApp
from lochws import testing as t
from lochws.handlers.sequence import Disorder, Gap, Sequence, Snapshot
from lochws.testing import ScriptedServer, StartServer

from ..support.apps import AT_ONCE, opened
from ..support.seen import PATIENCE, Noting, eventually


def numbered(*numbers: int, key: str = "a") -> t.Step:
    """Return the step that sends a message for each number, at once."""
    return t.together(*(t.send(json.dumps({"key": key, "number": number})) for number in numbers))


class Numbers:
    """An app with a Sequence, and what reaches its handlers."""

    def __init__(self, url: str, *, batches: bool = False, **options: Any) -> None:
        self.app = Noting(url)
        self.passed: list[int] = []
        self.gaps: list[tuple[int, int]] = []
        self.disorder: list[tuple[int, str]] = []
        self.sequence: Sequence[str] = Sequence(
            self.app, key=lambda event: event.json["key"], number=lambda event: event.json["number"],
            on_gap=self._gap, on_disorder=self._disorder, **options,
        )
        if batches:
            self.app.on("batch")(lambda messages: [self._message(message) for message in messages] and None)
        else:
            self.app.on("text")(self._message)

    def _message(self, event: Any) -> None:
        self.passed.append(event.json["number"])

    def _gap(self, gap: Gap[str]) -> None:
        self.gaps.append((gap.first, gap.last))

    def _disorder(self, disorder: Disorder[str]) -> None:
        self.disorder.append((disorder.number, disorder.kind))


@pytest.mark.parametrize("batches", [False, True])
def test_duplicates_and_late_messages_are_dropped_and_gaps_reported(
    ws_server: StartServer, batches: bool
) -> None:
    server = ws_server([t.accept(), numbered(1, 2, 2, 5, 3, 3, 6)])
    seen = Numbers(server.url, batches=batches)
    with opened(seen.app):
        eventually(lambda: 6 in seen.passed)
    assert seen.passed == [1, 2, 5, 6]
    assert seen.gaps == [(3, 4)]
    assert seen.disorder == [(2, "duplicate"), (3, "late"), (3, "duplicate")]


@pytest.mark.parametrize("batches", [False, True])
def test_with_patience_late_messages_are_put_in_order(ws_server: StartServer, batches: bool) -> None:
    server = ws_server([t.accept(), numbered(1, 4, 2, 3, 5)])
    seen = Numbers(server.url, batches=batches, patience=PATIENCE)
    with opened(seen.app):
        eventually(lambda: 5 in seen.passed)
    assert seen.passed == [1, 2, 3, 4, 5]
    assert seen.gaps == []


def test_a_gap_is_reported_when_patience_ends(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), numbered(1, 4, 5, 8)])
    seen = Numbers(server.url, patience=0.01)
    with opened(seen.app):
        eventually(lambda: 8 in seen.passed)
    assert seen.passed == [1, 4, 5, 8]
    assert seen.gaps == [(2, 3), (6, 7)]


def test_held_messages_follow_the_snapshot(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), numbered(7, 8)])
    go_on = threading.Event()

    def load(_key: str) -> Snapshot:
        go_on.wait(PATIENCE)
        return Snapshot(8, "all")

    seen = Numbers(server.url, resync=load, on_snapshot=lambda _key, snapshot: seen.passed.append(-8))
    with opened(seen.app):
        eventually(lambda: seen.sequence.counts.held == 2)
        server.do(numbered(9, 10))
        eventually(lambda: seen.sequence.counts.held == 4)
        go_on.set()
        eventually(lambda: seen.sequence.is_live("a"))
    assert seen.passed == [-8, 9, 10]


def test_a_snapshot_that_fails_or_is_too_old_is_loaded_again(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), numbered(7, 8)])
    results: list[Any] = [OSError("refused"), "nonsense", (3, "old"), (7, "new")]

    def load(_key: str) -> Any:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    states: list[Any] = []
    seen = Numbers(server.url, resync=load, on_snapshot=lambda _key, snapshot: states.append(snapshot.data))
    with opened(seen.app):
        eventually(lambda: seen.sequence.is_live("a"))
    assert states == ["old", "new"]
    assert seen.passed == [8]
    assert seen.sequence.counts.failures == 3


def test_a_snapshot_that_takes_too_long_does_not_stop_the_next(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), numbered(1)])
    end = threading.Event()
    calls: list[str] = []

    def load(key: str) -> Snapshot:
        calls.append(key)
        if len(calls) == 1:
            end.wait(PATIENCE)
        return Snapshot(1)

    seen = Numbers(server.url, resync=load, on_snapshot=lambda _key, _snapshot: None, timeout=0.05)
    try:
        with opened(seen.app):
            eventually(lambda: seen.sequence.is_live("a"))
    finally:
        end.set()
    assert len(calls) == 2


def test_held_messages_are_bounded(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), numbered(*range(1, 101))])
    go_on = threading.Event()
    newest = iter([50, 100])

    def load(_key: str) -> Snapshot:
        go_on.wait(PATIENCE)
        return Snapshot(next(newest))

    seen = Numbers(server.url, resync=load, on_snapshot=lambda _key, _snapshot: None, max_held=10)
    with opened(seen.app):
        eventually(lambda: seen.sequence.counts.dropped == 90)
        assert seen.sequence.counts.held == 10
        go_on.set()
        eventually(lambda: seen.sequence.is_live("a"))
    assert seen.passed == []
    assert seen.sequence.last("a") == 100


def test_numbers_survive_the_program(ws_server: StartServer, tmp_path: Path) -> None:
    state = tmp_path / "numbers"
    server = ws_server([t.accept(), numbered(1, 2, 3)])
    first = Numbers(server.url, state=state)
    with opened(first.app):
        eventually(lambda: 3 in first.passed)
    assert first.sequence.flush(PATIENCE)
    server = ws_server([t.accept(), numbered(3, 4, 6)])
    second = Numbers(server.url, state=state)
    assert second.sequence.last("a") == 3
    with opened(second.app):
        eventually(lambda: 6 in second.passed)
    assert second.passed == [4, 6]
    assert second.gaps == [(5, 5)]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": "lochws sequence 1", "numbers": [["a", 0.5]]}']
)
def test_a_damaged_state_file_is_refused(tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "numbers"
    state.write_bytes(content)
    with pytest.raises(ValueError, match="is not a valid state file"):
        Numbers("ws://127.0.0.1:1/", state=state)


class Exchange:
    """A book that changes, whose messages are dropped, duplicated, reordered, and cut off.

    Attributes:
        book: the amount at each price.
        number: the number of the last change.
    """

    def __init__(self, server: ScriptedServer, seed: int) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.book: dict[str, int] = {}
        self.number = 0
        self._recent: list[str] = []
        self._before: tuple[int, dict[str, int]] = (0, {})
        self._lock = threading.Lock()

    def snapshot(self, _key: str) -> Snapshot:
        """Return the book, sometimes an old one; sometimes fail."""
        with self._lock:
            chance = self.random.random()
            if chance < 0.1:
                raise OSError("503")
            if chance < 0.3:
                return Snapshot(*self._before)
            self._before = self.number, dict(self.book)
            return Snapshot(*self._before)

    def change(self, count: int, fault: str) -> None:
        """Change the book, and send the changes with a fault."""
        texts = []
        with self._lock:
            for _ in range(count):
                self.number += 1
                price, amount = str(self.random.randrange(20)), self.random.randrange(100)
                self.book[price] = amount
                texts.append(json.dumps({"key": "a", "number": self.number, "set": [price, amount]}))
        if fault == "drop":
            del texts[self.random.randrange(len(texts))]
        elif fault == "duplicate":
            texts.insert(self.random.randrange(len(texts)), self.random.choice([*texts, *self._recent]))
        elif fault == "reorder":
            self.random.shuffle(texts)
        elif fault == "cut":
            self.server.connections[-1].do(t.reset())
        self._recent = texts or self._recent
        if texts and fault != "cut":
            self.server.connections[-1].do(t.together(*map(t.send, texts)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("patience", [0.0, 0.01])
def test_the_book_agrees_with_the_exchange_after_each_fault(
    ws_server: StartServer, seed: int, patience: float
) -> None:
    server = ws_server([t.accept()])
    exchange = Exchange(server, seed)
    book: dict[str, int] = {}

    def replace(_key: str, snapshot: Snapshot) -> None:
        book.clear()
        book.update(snapshot.data)

    app = WebSocketApp(server.url)
    sequence: Sequence[str] = Sequence(
        app, key=lambda event: event.json["key"], number=lambda event: event.json["number"], on_gap=None,
        resync=exchange.snapshot, on_snapshot=replace, patience=patience,
    )
    app.on("text")(lambda event: book.update([event.json["set"]]))

    def agrees() -> bool:
        return sequence.last("a") == exchange.number and book == exchange.book

    with opened(app, persist=AT_ONCE):
        for _ in range(15):
            fault = exchange.random.choice(["drop", "duplicate", "reorder", "cut", "none"])
            count = len(server.connections)
            exchange.change(exchange.random.randint(2, 20), fault)
            if fault == "cut":
                eventually(lambda: len(server.connections) > count and app.is_active)  # noqa: B023  called at once
            exchange.change(1, "none")
            eventually(agrees)
