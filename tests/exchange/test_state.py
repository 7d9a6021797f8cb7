"""The numbers of a Sequence in a file: resumed after kills, on full disks, damaged, and interrupted."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from lochws import WebSocketApp
from lochws.handlers import sequence as module
from lochws.handlers._parts.number_file import NumberFile
from lochws.handlers.sequence import Sequence
from lochws.handlers.subscriptions import Step, Subscriptions
from lochws.testing import StartServer, accept, send, together, wait_for

from ..support.apps import AT_ONCE, opened
from ..support.seen import PATIENCE, eventually
from .kills import kill_many


def number(event: Any) -> Any:
    """Return the number of a message."""
    return event.json["number"]


def numbers(*values: Any) -> Any:
    """Return the step that sends these numbers."""
    return together(*(send(f'{{"number": {value}}}') for value in values))


def test_a_killed_program_resumes_after_a_number_that_it_had_handled(tmp_path: Path) -> None:
    [line] = kill_many(tmp_path, 3)
    assert line.startswith("3 programs killed")


def test_the_url_of_the_next_connection_has_the_last_number(ws_server: StartServer) -> None:
    server = ws_server([accept(), numbers(1, 2, 3)], [accept(), numbers(4)])
    app = WebSocketApp(lambda: f"{server.url}?after={sequence.last() or 0}")
    sequence: Sequence[None] = Sequence(app, number=number)
    with opened(app, persist=AT_ONCE):
        eventually(lambda: sequence.last() == 3)
        app.reconnect()
        eventually(lambda: sequence.last() == 4)
    assert [request.target for request in server.requests] == ["/?after=0", "/?after=3"]


def test_a_step_of_the_next_session_has_the_last_number(ws_server: StartServer) -> None:
    server = ws_server(
        [accept(), wait_for('{"resume": 0}'), send("go"), numbers(1, 2, 3)],
        [accept(), wait_for('{"resume": 3}'), send("go"), numbers(4)],
    )
    app = WebSocketApp(server.url)
    sequence: Sequence[None] = Sequence(app, number=number)
    Subscriptions(app, [Step(lambda: {"resume": sequence.last() or 0}, "go")])
    with opened(app, persist=AT_ONCE):
        eventually(lambda: sequence.last() == 3)
        app.reconnect()
        eventually(lambda: sequence.last() == 4)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_on_a_full_disk_the_error_is_logged_and_saving_is_tried_again(
    ws_server: StartServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.001)
    state, draft = tmp_path / "numbers", tmp_path / "numbers.new"
    draft.symlink_to("/dev/full")
    server = ws_server([accept(), numbers(1, 2, 3)])
    app = WebSocketApp(server.url)
    sequence: Sequence[None] = Sequence(app, number=number, state=state)
    with opened(app):
        eventually(lambda: "cannot be saved" in caplog.text)
        assert "No space left on device" in caplog.text
        assert str(state) in caplog.text
        assert not sequence.flush(PATIENCE)
        assert sequence.last() == 3, "the feed goes on"
        draft.unlink()
        server.do(numbers(4))
        eventually(lambda: NumberFile(state).load() == {None: 4})
    assert sequence.flush(PATIENCE)
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_flush_tries_again_what_could_not_be_saved(ws_server: StartServer, tmp_path: Path) -> None:
    state, draft = tmp_path / "numbers", tmp_path / "numbers.new"
    draft.symlink_to("/dev/full")
    server = ws_server([accept(), numbers(1, 2, 3)])
    app = WebSocketApp(server.url)
    sequence: Sequence[None] = Sequence(app, number=number, state=state)
    with opened(app):
        eventually(lambda: sequence.last() == 3)
    assert not sequence.flush(PATIENCE)
    assert not state.exists()
    draft.unlink()
    assert sequence.flush(PATIENCE)
    assert NumberFile(state).load() == {None: 3}


@pytest.mark.parametrize("size", range(0, 60, 7))
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, size: int) -> None:
    state = tmp_path / "numbers"
    file = NumberFile(state)
    file.save({"a": 1, "b": 2})
    assert file.flush(PATIENCE)
    whole = state.read_bytes()
    assert size < len(whole)
    state.write_bytes(whole[:size])
    with pytest.raises(ValueError, match=r"numbers' is not a valid state file .*; remove it to begin anew"):
        Sequence(WebSocketApp("ws://127.0.0.1:1/"), number=number, state=state)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe", b"null", b"5", b'{"numbers": []}', b'{"format": "lochws sequence 2", "numbers": []}',
        b'{"format": "lochws sequence 1", "numbers": [["a", true]]}',
        b'{"format": "lochws sequence 1", "numbers": [["a"]]}',
        b'{"format": "lochws sequence 1", "numbers": [[["a"], 1]]}',
        b'{"format": "lochws sequence 1", "numbers": [["a", 18446744073709551616]]}',
        b'{"format": "lochws sequence 1", "numbers": [["a", ' + b"9" * 5000 + b"]]}",
        b"[" * 100_000,
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "numbers"
    state.write_bytes(content)
    with pytest.raises(ValueError, match=r"numbers' is not a valid state file"):
        Sequence(WebSocketApp("ws://127.0.0.1:1/"), number=number, state=state)


def test_paths_that_cannot_be_used_are_refused_at_once(tmp_path: Path) -> None:
    app = WebSocketApp("ws://127.0.0.1:1/")
    for wrong in (5, b"numbers", tmp_path.open):
        with pytest.raises(TypeError, match=r"^state=.*: expected the path of a file"):
            Sequence(app, number=number, state=wrong)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match=r"the directory '.*missing' does not exist"):
        Sequence(app, number=number, state=tmp_path / "missing" / "numbers")
    with pytest.raises(OSError):
        Sequence(app, number=number, state=tmp_path)


def test_keys_of_another_type_are_not_saved_and_the_others_are(
    ws_server: StartServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = ws_server([accept(), numbers(1, 2, 3)])
    app = WebSocketApp(server.url)
    keys = iter(["a", ("b", "c"), 7])
    sequence: Sequence[Any] = Sequence(
        app, number=number, key=lambda _: next(keys), state=tmp_path / "numbers"
    )
    with opened(app):
        eventually(lambda: sequence.last(7) == 3)
    assert sequence.flush(PATIENCE)
    assert NumberFile(tmp_path / "numbers").load() == {"a": 1, 7: 3}
    assert "the number of stream ('b', 'c') is not saved" in caplog.text


def test_no_number_is_saved_before_the_handlers_of_its_message_have_returned(
    ws_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_SECONDS", 0)
    state = tmp_path / "numbers"
    server = ws_server([accept(), *(numbers(value) for value in range(1, 30))])
    app = WebSocketApp(server.url)
    sequence: Sequence[None] = Sequence(app, number=number, state=state)
    wrong: list[Any] = []

    @app.on("text")
    def look(event: Any) -> None:
        saved = NumberFile(state).load().get(None, 0)
        if saved >= event.json["number"]:
            wrong.append((saved, event.json["number"]))

    with opened(app):
        eventually(lambda: sequence.last() == 29)
    assert sequence.flush(PATIENCE)
    assert NumberFile(state).load() == {None: 29}
    assert not wrong


def test_flush_does_not_wait_for_the_call_that_it_interrupts(tmp_path: Path) -> None:
    """A finalizer or a signal handler may call it on any line of `save`, and on the thread that saves."""
    file = NumberFile(tmp_path / "numbers")
    results: list[bool] = []

    def trace(frame: Any, _event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename.endswith("number_file.py") and frame.f_code.co_name in ("_start", "_run"):
            sys.settrace(None)
            results.append(file.flush(None))
            sys.settrace(trace)
            return trace
        return None

    threading.settrace(trace)
    sys.settrace(trace)
    try:
        for value in range(3):
            file.save({"a": value})
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
    assert file.flush(PATIENCE)
    assert len(results) > 10
    assert file.load() == {"a": 2}


@pytest.mark.parametrize("wrong", ["1", True, float("nan")])
def test_flush_refuses_what_is_no_timeout(wrong: Any) -> None:
    sequence: Sequence[None] = Sequence(WebSocketApp("ws://127.0.0.1:1/"), number=number)
    with pytest.raises((TypeError, ValueError), match="timeout"):
        sequence.flush(wrong)
    assert sequence.flush(0)


def test_the_child_of_a_fork_saves_nothing(tmp_path: Path) -> None:
    sequence: Sequence[None] = Sequence(
        WebSocketApp("ws://127.0.0.1:1/"), number=number, state=tmp_path / "numbers"
    )
    child = os.fork()
    if child == 0:
        os._exit(0 if sequence.flush(0) and sequence._file is None else 1)
    assert os.waitpid(child, 0)[1] == 0
