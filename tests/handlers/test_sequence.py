"""Sequence: numbered messages pass once and in order, whatever the numbers are. See also tests.exchange."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lochws import testing as t
from lochws.handlers.sequence import Disorder, Gap, Sequence, Snapshot
from lochws.testing import StartServer

from ..support.apps import opened
from ..support.seen import PATIENCE, Noting, eventually, in_thread


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
        eventually(lambda: seen.passed == [8])
        assert seen.sequence.is_live("a")
    assert states == ["old", "new"]
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
    assert len(calls) >= 2  # another one may have taken too long on a busy machine


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


@pytest.mark.parametrize("batches", [False, True])
def test_late_messages_pass_once_if_the_order_does_not_matter(ws_server: StartServer, batches: bool) -> None:
    server = ws_server([t.accept(), numbered(3, 2, 2, 6, 4, 4, 5, 3, 7)])
    seen = Numbers(server.url, late="pass", batches=batches)
    with opened(seen.app):
        eventually(lambda: 7 in seen.passed)
    assert seen.passed == [3, 2, 6, 4, 5, 7]
    assert seen.gaps == [(4, 5)]
    assert seen.disorder == [
        (2, "late"), (2, "duplicate"), (4, "late"), (4, "duplicate"), (5, "late"), (3, "duplicate"),
    ]
    assert seen.sequence.counts.passed == 6


def test_ranges_follow_one_another_and_overlap(ws_server: StartServer) -> None:
    ranges = [(1, 3), (4, 4), (2, 4), (3, 6), (9, 9), (7, 8), (7, 10), (20, 25), (11, 19)]
    server = ws_server([t.accept(), *(t.send(json.dumps({"U": low, "u": high})) for low, high in ranges)])
    app = Noting(server.url)
    passed: list[list[int]] = []
    gaps: list[Gap[None]] = []
    sequence: Sequence[None] = Sequence(
        app, number=lambda event: (event.json["U"], event.json["u"]), late="pass", on_gap=gaps.append
    )
    app.on("text")(lambda event: passed.append([event.json["U"], event.json["u"]]))
    with opened(app):
        eventually(lambda: len(app.all("text")) == len(ranges))
        eventually(lambda: [11, 19] in passed)
    assert passed == [[1, 3], [4, 4], [3, 6], [9, 9], [7, 8], [7, 10], [20, 25], [11, 19]]
    assert [(gap.first, gap.last, gap.count) for gap in gaps] == [(7, 8, 2), (11, 19, 9)]
    assert sequence.last() == 25


HOSTILE = [
    "1.5", "true", '"5"', "[1, 2, 3]", "[9, 2]", "[1.0, 2.0]", '["1", "2"]', "{}", "NaN", "-Infinity",
    "1e999", "9" * 4000, "[5, " + "9" * 30 + "]", '"' + "7" * 1_000_000 + '"', "[" * 50 + "]" * 50,
]


@pytest.mark.parametrize("options", [
    {}, {"patience": 0.01}, {"resync": lambda _key: Snapshot(1), "on_snapshot": lambda *_: None},
], ids=["plain", "patience", "resync"])
def test_numbers_of_another_kind_pass_unchecked_and_do_no_harm(
    ws_server: StartServer, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f'{{"key": "a", "number": {number}}}' for number in HOSTILE]
    server = ws_server([t.accept(), numbered(1, 2), *map(t.send, texts), numbered(3, -5, 4)])
    seen = Numbers(server.url, **options)
    with opened(seen.app):
        eventually(lambda: 4 in seen.passed)
    right = [number for number in seen.passed if type(number) is int and 0 <= number < 9]
    assert right == ([2, 3, 4] if "resync" in options else [1, 2, 3, 4])
    assert len(seen.passed) == len(right) + len(HOSTILE)
    assert seen.sequence.counts.missing == 0
    assert "number returned an invalid value of type float; expected an int of at most 64 bits" in caplog.text
    assert "7" * 100 not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_huge_gap_costs_nothing(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), numbered(1, 2**63, 2**63 + 1)])
    seen = Numbers(server.url)
    with opened(seen.app):
        eventually(lambda: 2**63 + 1 in seen.passed)
    assert seen.gaps == [(2, 2**63 - 1)]
    assert seen.sequence.counts.missing == 2**63 - 2


def test_keys_beyond_the_limits_pass_unchecked(
    ws_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = ws_server([
        t.accept(), numbered(1, key="x" * 100_000), *(numbered(1, 1, key=f"key {key}") for key in range(5)),
        numbered(9, key="key 0"),
    ])
    seen = Numbers(server.url, max_keys=3)
    with opened(seen.app):
        eventually(lambda: 9 in seen.passed)
    assert seen.sequence.keys == ("key 0", "key 1", "key 2")
    assert seen.passed == [1, 1, 1, 1, 1, 1, 1, 1, 9]
    assert seen.sequence.counts.duplicates == 3
    assert "the order of a stream is not checked: its key takes more than 1024 bytes" in caplog.text
    assert "x" * 100 not in caplog.text


def test_a_key_that_cannot_be_hashed_passes_unchecked(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), t.send('{"key": [1], "number": 1}'), numbered(1, 2)])
    seen = Numbers(server.url)
    with opened(seen.app):
        eventually(lambda: 2 in seen.passed)
    assert seen.passed == [1, 1, 2]


def test_a_stream_that_cannot_be_loaded_leaves_room_to_the_others(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), numbered(*range(1, 101), key="stuck")])
    end, go_on = threading.Event(), threading.Event()

    def load(key: str) -> Snapshot:
        (end if key == "stuck" else go_on).wait(PATIENCE)
        return Snapshot(5)

    seen = Numbers(server.url, resync=load, on_snapshot=lambda *_: None, max_held=50)
    with opened(seen.app):
        eventually(lambda: seen.sequence.counts.dropped == 50)
        server.do(numbered(*range(1, 11), key="good"))
        eventually(lambda: seen.sequence.counts.dropped == 60)
        go_on.set()
        eventually(lambda: seen.sequence.is_live("good"))
        assert seen.passed == [6, 7, 8, 9, 10]
        assert seen.sequence.counts.held == 40
        end.set()


def test_held_bytes_are_bounded(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), numbered(*range(1, 101), key="k" * 900)])
    go_on = threading.Event()

    def load(_key: str) -> Snapshot:
        go_on.wait(PATIENCE)
        return Snapshot(100)

    seen = Numbers(server.url, resync=load, on_snapshot=lambda *_: None, max_held_bytes=10_000)
    with opened(seen.app):
        eventually(lambda: seen.sequence.counts.dropped + seen.sequence.counts.held == 100)
        assert seen.sequence.counts.held == 10
        go_on.set()
        eventually(lambda: seen.sequence.is_live("k" * 900))
    assert seen.sequence.counts.held == 0


def test_without_resync_nothing_is_dropped_if_there_is_no_room_but_patience_ends(
    ws_server: StartServer,
) -> None:
    server = ws_server([t.accept(), numbered(1, *range(3, 60))])
    seen = Numbers(server.url, patience=PATIENCE * 3, max_held=10)
    with opened(seen.app):
        eventually(lambda: seen.passed == [1, *range(3, 60)])
        assert seen.sequence.is_live("a")
    assert seen.gaps == [(2, 2)]
    assert seen.sequence.counts.dropped == 0


def test_the_missing_message_passes_even_if_there_is_no_room(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), numbered(1, 3, 4, 5), numbered(2, 6)])
    seen = Numbers(server.url, patience=PATIENCE * 3, max_held=3)
    with opened(seen.app):
        eventually(lambda: 6 in seen.passed)
    assert seen.passed == [1, 2, 3, 4, 5, 6]
    assert seen.gaps == []


def test_all_handlers_of_held_messages_are_called_if_some_fail(
    ws_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = ws_server([t.accept(), numbered(1, 4, 3), numbered(2)])
    errors: list[str] = []
    seen = Numbers(server.url, patience=PATIENCE * 3)
    seen.app.on("error")(lambda error: errors.append(repr(error)))

    def fail(event: Any) -> None:
        raise (SystemExit if event.json["number"] == 3 else ValueError)(event.json["number"])

    others: list[int] = []
    seen.app.on("text")(fail)
    seen.app.on("text")(lambda event: others.append(event.json["number"]))
    seen.app.on("text")(fail)
    with opened(seen.app):
        eventually(lambda: len(errors) == 8)
    assert seen.passed == others == [1, 2, 3, 4]
    assert sorted(errors) == [
        *["SystemExit(3)"] * 2, *["ValueError(1)"] * 2, *["ValueError(2)"] * 2, *["ValueError(4)"] * 2,
    ]


def test_functions_that_fail_are_reported_and_change_nothing(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), numbered(1, 5, 5, 6)])
    errors: list[str] = []
    app = Noting(server.url)
    passed: list[int] = []

    def fail(_: Any) -> None:
        raise SystemExit("no")

    sequence: Sequence[None] = Sequence(
        app, number=lambda event: event.json["number"], on_gap=fail, on_disorder=fail
    )
    app.on("text")(lambda event: passed.append(event.json["number"]))
    app.on("error")(lambda error: errors.append(repr(error)))
    with opened(app):
        eventually(lambda: 6 in passed)
    assert passed == [1, 5, 6]
    assert errors == ["SystemExit('no')"] * 2
    assert sequence.counts.gaps == sequence.counts.duplicates == 1


def test_an_on_snapshot_that_fails_is_called_again_with_the_next_snapshot(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), numbered(1, 2)])
    calls: list[Any] = []

    def replace(_key: str, snapshot: Snapshot) -> None:
        calls.append(snapshot)
        if len(calls) == 1:
            raise SystemExit("no")

    seen = Numbers(server.url, resync=lambda _key: (1, "book"), on_snapshot=replace)
    with opened(seen.app):
        eventually(lambda: seen.sequence.is_live("a"))
    assert calls == [Snapshot(1, "book")] * 2
    assert seen.passed == [2]


@pytest.mark.parametrize("executor", ["shut down", "useless", "cancels"])
def test_an_executor_that_fails_is_asked_again(
    ws_server: StartServer, executor: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = ws_server([t.accept(), numbered(1, 2)])

    class Executor:
        calls = 0

        def submit(self, function: Any, key: str) -> Any:
            self.calls += 1
            future: Future[Any] = Future()
            if self.calls > 5:
                future.set_result(function(key))
            elif executor == "shut down":
                raise RuntimeError("cannot schedule new futures after shutdown")
            elif executor == "useless":
                return None
            else:
                future.cancel()
                future.set_running_or_notify_cancel()
            return future

    seen = Numbers(
        server.url, resync=lambda _key: (1, ""), on_snapshot=lambda *_: None, executor=Executor(), parallel=1
    )
    with opened(seen.app):
        eventually(lambda: seen.sequence.is_live("a"))
    assert seen.sequence.counts.failures == 5
    assert "could not be loaded" in caplog.text


def test_calls_that_return_after_the_app_has_stopped_free_their_places(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), numbered(1)])
    go_on, returned = threading.Event(), threading.Event()

    def load(_key: str) -> Snapshot:
        if not go_on.is_set():
            go_on.wait(PATIENCE)
            threading.Timer(0.01, returned.set).start()
        return Snapshot(1)

    seen = Numbers(server.url, resync=load, on_snapshot=lambda *_: None, parallel=1)
    with opened(seen.app):
        eventually(lambda: seen.sequence.counts.held == 1)
    go_on.set()
    assert returned.wait(PATIENCE)
    with opened(seen.app):
        eventually(lambda: seen.sequence.is_live("a"))


def test_streams_are_added_and_forgotten_without_a_connection(ws_server: StartServer) -> None:
    server = ws_server([t.accept()])
    loaded: list[str] = []
    seen = Numbers(
        server.url, resync=lambda key: loaded.append(key) or (1, ""), on_snapshot=lambda *_: None, max_keys=2
    )
    for key in ("a", "b", "a"):
        seen.sequence.resync(key)
    with pytest.raises(ValueError, match=r"^resync: stream 'c' cannot be added: .* max_keys=2 streams"):
        seen.sequence.resync("c")
    seen.sequence.forget("a")
    seen.sequence.forget("unknown")
    assert seen.sequence.keys == ("b",)
    with pytest.raises(ValueError, match=r"its key takes more than 1024 bytes"):
        seen.sequence.resync("c" * 2000)
    with opened(seen.app):
        eventually(lambda: seen.sequence.is_live("b"))
        seen.sequence.forget("b")
        eventually(lambda: seen.sequence.keys == ())
    assert loaded == ["b"]


def test_many_threads_that_resync_never_add_too_many_streams(ws_server: StartServer) -> None:
    server = ws_server([t.accept()])
    seen = Numbers(
        server.url, resync=lambda _key: (1, ""), on_snapshot=lambda *_: None, max_keys=20
    )

    def add(thread: int) -> None:
        with suppress(ValueError):
            for number in range(20):
                seen.sequence.resync(f"{thread} {number}")

    with opened(seen.app):
        threads = [in_thread(partial(add, thread)) for thread in range(8)]
        for thread in threads:
            thread.join(PATIENCE)
        eventually(lambda: sum(map(seen.sequence.is_live, seen.sequence.keys)) == 20)
        assert len(seen.sequence.keys) == 20


def test_a_sequence_that_has_left_passes_all_and_tells_nothing(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), numbered(1, 2)])
    seen = Numbers(server.url)
    with opened(seen.app):
        eventually(lambda: 2 in seen.passed)
        seen.sequence.leave()
        seen.sequence.leave()
        server.do(numbered(2, 9))
        eventually(lambda: 9 in seen.passed)
    assert seen.passed == [1, 2, 2, 9]
    assert seen.gaps == []
