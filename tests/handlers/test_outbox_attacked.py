"""Outbox under attack: exceptions in the middle of a put, restarts, odd arguments, files that go away."""

from __future__ import annotations

import enum
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from lochws import WebSocketApp
from lochws.errors import QueueFull
from lochws.handlers._parts.outbox_tables import MemoryTable
from lochws.handlers.outbox import Outbox, OutboxError, OutboxMessage

from ..support.apps import opened
from ..support.peer import StartPeer
from ..support.programs import Run
from ..support.seen import PATIENCE, Noting, eventually, in_thread
from .acking import Acking, Plan, acked, offline, reconnecting


class Name(str, enum.Enum):
    """Texts whose `format` is not their value."""

    FIRST = "first"
    SECOND = "second"


@pytest.mark.parametrize("method", ["insert", "remove", "commit", "with_key"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_exception_of_a_signal_handler_in_a_put_undoes_it_or_not(
    monkeypatch: pytest.MonkeyPatch, method: str, when: str
) -> None:
    original = getattr(MemoryTable, method)
    with Outbox(offline()) as outbox:
        for key in ("a", "b", "c"):
            outbox.put(key, supersede=key)
        before = list(outbox)

        def interrupted(*arguments: Any) -> Any:
            if when == "before":
                raise KeyboardInterrupt
            original(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(MemoryTable, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            outbox.put("other", supersede="b")
        monkeypatch.undo()
        left = list(outbox)
        assert left == before or [message.payload for message in left] == ["a", "c", "other"]
        outbox.put("new", supersede="b")
        assert [message.payload for message in outbox] == ["a", "c", "new"]
        assert outbox.pending == 3
        assert outbox.counts.pending_bytes == sum(message.size for message in outbox)


def test_an_exception_on_one_thread_does_not_end_the_puts_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with Outbox(offline()) as outbox:
        original = MemoryTable.insert
        threads = []

        def interrupted(*arguments: Any) -> None:
            monkeypatch.undo()
            threads.append(in_thread(lambda: outbox.put("of another thread")))
            threads[0].join(0.05)  # it waits for this one
            original(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(MemoryTable, "insert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            outbox.put("interrupted")
        threads[0].join(PATIENCE)
        assert not threads[0].is_alive()
        assert [message.payload for message in outbox] == ["of another thread"]


@pytest.mark.parametrize("in_file", [False, True])
def test_members_of_enums_are_texts_like_others(start_peer: StartPeer, tmp_path: Path, in_file: bool) -> None:
    server = Acking()
    app = WebSocketApp(start_peer(server).url)
    path = tmp_path / "box" if in_file else None
    with Outbox(app, path, confirm=lambda event: Name(event.json["ack"]), id_field="id") as outbox:
        outbox.put({"n": 0}, id=Name.FIRST, supersede=Name.FIRST)
        assert outbox.put({"n": 1}, id=Name.SECOND, supersede=Name.FIRST) == "second"
        assert [(message.id, message.supersedes) for message in outbox] == [("second", "first")]
        with opened(app):
            assert outbox.flush(PATIENCE)
    assert outbox.counts.confirmed == 1


def test_bytes_confirm_nothing(start_peer: StartPeer) -> None:
    server = Acking()
    app = Noting(start_peer(server).url)
    with Outbox(app, confirm=lambda event: event.text.encode(), add_id=lambda message, _: message) as outbox:
        outbox.put({"id": "x", "n": 0}, id=str(ord("a")))
        with opened(app):
            app.wait_for("text")
            assert not outbox.flush(0.05)


def test_a_batch_that_never_fits_does_not_wait_for_room() -> None:
    with Outbox(offline(), max_messages=3, when_full="block", put_timeout=None) as outbox:
        with pytest.raises(QueueFull, match="10 messages were not put into the outbox: 0 are pending"):
            outbox.put_many(["x"] * 10)
        assert outbox.pending == 0


def test_a_file_that_was_removed_or_replaced_accepts_nothing(tmp_path: Path) -> None:
    path, aside = tmp_path / "box", tmp_path / "aside"
    with Outbox(offline(), path) as outbox:
        outbox.put("kept")
        path.rename(aside)
        with pytest.raises(OutboxError, match=r"cannot be written .*: nothing was stored; .*put it back"):
            outbox.put("x")
        path.write_bytes(b"")
        with pytest.raises(OutboxError, match="another file has replaced it"):
            outbox.put("x")
        aside.replace(path)
        outbox.put("kept, too")
        assert outbox.failure is None
    with Outbox(offline(), path) as outbox:
        assert [message.payload for message in outbox] == ["kept", "kept, too"]


def test_the_timeout_counts_after_a_restart_of_the_app(start_peer: StartPeer) -> None:
    server = Acking(Plan(acks=0), Plan(acks=0))
    app = Noting(start_peer(server).url)
    with Outbox(app, confirm=acked, id_field="id", timeout=0.4) as outbox:
        outbox.put({"n": 1})
        with opened(app):
            eventually(lambda: len(server.seen) == 1)
        with reconnecting(app):
            assert outbox.flush(PATIENCE), "the second connection was not dropped"
    assert len(server.numbers()) > 2  # more than three if a confirmation took longer than the timeout
    assert set(server.numbers()) == {1}


@pytest.mark.parametrize("messages", [5, None, bytearray(b"x"), "text"])
def test_put_many_names_what_is_not_several_messages(messages: Any) -> None:
    expected = r"messages=.*: expected several messages"
    with Outbox(offline()) as outbox, pytest.raises(TypeError, match=expected):
        outbox.put_many(messages)


@pytest.mark.parametrize("expires", [math.nan, -math.inf, 10**400, True, "1"])
def test_times_that_are_none_are_refused(expires: Any) -> None:
    with Outbox(offline()) as outbox, pytest.raises((TypeError, ValueError), match="expires="):
        outbox.put("x", expires=expires)


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"path='a\\x00b': expected the path of a file"):
        Outbox(offline(), "a\0b")


#: At the end of this program, a global object is finalized when daemon threads have stopped.
LATE = """
from lochws.handlers.outbox import Outbox

box = Outbox(app, PATH)
box.put("kept")
class Late:
    def __del__(self):
        for name, call in (
            ("put", lambda: box.put("late")), ("put_many", lambda: box.put_many(["late"])),
            ("flush", lambda: box.flush(60)), ("iterate", lambda: list(box)), ("close", box.close),
        ):
            try:
                say(f"{name} returned {call()}")
            except Exception as error:
                say(f"{name} raised {type(error).__name__}: {error}")
late = Late()
"""


@pytest.mark.parametrize("in_file", [True, False], ids=["file", "memory"])
def test_a_finalizer_at_the_exit_of_the_interpreter_is_refused_at_once(
    run: Run, tmp_path: Path, in_file: bool
) -> None:
    if in_file and not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip("without a GIL the finalizer runs when CPython has cleared all modules, lochws's too")
    path = tmp_path / "box" if in_file else None
    program = run(f"PATH = {None if path is None else str(path)!r}\n{LATE}", "ws://127.0.0.1:1/")
    status, output, errors = program.end()
    assert (status, errors) == (0, "")
    *refused, closed = output.splitlines()
    assert [line.split()[0] for line in refused] == ["put", "put_many", "flush", "iterate"]
    assert all("raised OutboxError: " in line and "is shutting down" in line for line in refused)
    assert closed == "close returned 1"
    if path is not None:
        with Outbox(offline(), path) as again:
            assert [message.payload for message in again] == ["kept"]


def test_a_doubtful_message_may_be_put_again_by_the_function_that_is_told(start_peer: StartPeer) -> None:
    server = Acking(Plan(1, acks=0, pongs=False))
    app = WebSocketApp(start_peer(server).url)
    boxes: list[Outbox] = []

    def tell(message: OutboxMessage) -> None:
        boxes[0].put({"n": 2})

    with Outbox(app, confirm=acked, id_field="id", in_doubt="tell", on_in_doubt=tell) as outbox:
        boxes.append(outbox)
        outbox.put({"n": 1})
        with reconnecting(app):
            assert outbox.flush(PATIENCE)
    assert server.numbers() == [1, 2]
