"""Outbox files: they survive the end of the program, belong to one outbox, and fail with a clear error."""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lochws import WebSocketApp
from lochws.errors import QueueFull
from lochws.handlers._parts.outbox_ledger import Put, Step
from lochws.handlers.outbox import Outbox, OutboxError, OutboxMessage

from ..support.apps import LogListener, opened
from ..support.peer import StartPeer
from ..support.seen import PATIENCE, eventually, in_thread
from .acking import Acking, Plan, acked, offline, put_numbers, reconnecting

#: Puts numbers until it is killed, and prints each once `put` has returned.
CHILD = """
import sys
from lochws import WebSocketApp
from lochws.handlers.outbox import Outbox
outbox = Outbox(WebSocketApp("ws://127.0.0.1:1/"), sys.argv[1], id_field="id")
number = 0
while True:
    outbox.put({"n": number})
    print(number, flush=True)
    number += 1
"""


def payloads(outbox: Outbox) -> list[str | bytes]:
    return [message.payload for message in outbox]


def test_the_next_outbox_sends_what_was_not_confirmed(start_peer: StartPeer, tmp_path: Path) -> None:
    server = Acking(Plan(acks=3))
    app = WebSocketApp(start_peer(server).url)
    with Outbox(app, tmp_path / "box", confirm=acked, id_field="id", window=5) as outbox, opened(app):
        put_numbers(outbox, range(19))
        outbox.put({"n": 19}, supersede="key", expires=60, id="é")
        eventually(lambda: outbox.counts.confirmed == 3 and len(server.seen) >= 5)
    with Outbox(app, tmp_path / "box", confirm=acked, id_field="id") as outbox:
        assert outbox.pending == outbox.counts.pending == 17
        *_, last = outbox
        assert (last.payload, last.supersedes, last.id) == ('{"n": 19, "id": "\\u00e9"}', "key", "é")
        assert last.expires_at is not None
        assert last.expires_at == pytest.approx(last.put_at + 60)
        outbox.put({"n": 20}, supersede="key")
        with opened(app):
            assert outbox.flush(PATIENCE)
    assert list(dict.fromkeys(server.numbers())) == [*range(19), 20]
    assert len({message["id"] for message in server.seen}) == 20, "a message has the same id each time"


def test_a_message_that_expires_while_the_program_is_not_running_is_not_sent(tmp_path: Path) -> None:
    with Outbox(offline(), tmp_path / "box") as outbox:
        outbox.put("x", expires=0.01)
        threading.Event().wait(0.02)
    with Outbox(offline(), tmp_path / "box") as outbox:
        outbox.put("y")
        assert payloads(outbox) == ["y"]
        assert outbox.counts.expired == 1


def test_what_was_in_flight_at_the_end_of_the_program_is_told(start_peer: StartPeer, tmp_path: Path) -> None:
    server = Acking(Plan(acks=3))
    app = WebSocketApp(start_peer(server).url)
    told: list[OutboxMessage] = []
    options: dict[str, Any] = {
        "confirm": acked, "id_field": "id", "in_doubt": "tell", "on_in_doubt": told.append, "window": 5,
    }
    with opened(app), Outbox(app, tmp_path / "box", **options) as outbox:  # closed before the connection ends
        ids = outbox.put_many([{"n": number} for number in range(20)])
        eventually(lambda: outbox.counts.confirmed == 3 and len(server.seen) >= 5)
    assert not told
    with Outbox(app, tmp_path / "box", **options) as outbox, opened(app):
        assert outbox.flush(PATIENCE)
        assert outbox.counts.confirmed + outbox.counts.told == 17
    in_doubt = [message.id for message in told]
    assert set(ids[3:5]) <= set(in_doubt), "it may have arrived, and was not acknowledged"
    seen = [message["id"] for message in server.seen]
    assert len(seen) == len(set(seen)), "one was sent twice"
    assert set(seen) | set(in_doubt) == set(ids)


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_kill_loses_nothing_that_put_has_accepted(tmp_path: Path, synchronous: str) -> None:
    code = CHILD.replace('id_field="id"', f'id_field="id", synchronous="{synchronous}"')
    for round_ in range(3):
        path = tmp_path / str(round_)
        child = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        printed = [child.stdout.readline() for _ in range(random.Random(round_).randrange(1, 50))]
        child.send_signal(signal.SIGKILL)
        printed += child.stdout.readlines()
        child.wait(PATIENCE)
        child.stdout.close()
        with Outbox(offline(), path) as outbox:
            kept = [f'{{"n": {n}, "id": "{message.id}"}}' for n, message in enumerate(outbox)]
            assert payloads(outbox) == kept
            assert len(kept) - len([line for line in printed if line.endswith("\n")]) in (0, 1)


def test_a_second_outbox_with_the_same_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "box"
    refused = r"path='.*box' is in use: another process, or another Outbox in this one"
    with Outbox(offline(), path) as outbox:
        with pytest.raises(OutboxError, match=refused):
            Outbox(offline(), path)
        code = (
            "import sys; from lochws import WebSocketApp; from lochws.handlers.outbox import Outbox\n"
            "Outbox(WebSocketApp('ws://127.0.0.1:1/'), sys.argv[1])"
        )
        command = [sys.executable, "-c", code, path]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert "is in use: another process" in ended.stderr
        outbox.put("x")
    with Outbox(offline(), path) as outbox:
        assert payloads(outbox) == ["x"]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: path.mkdir(), "cannot be opened"),
        (lambda path: path.write_bytes(b"This is not a database. " * 100), "is damaged"),
        (lambda path: sqlite3.connect(path).execute("CREATE TABLE x (y)").connection.close(), "no.* outbox"),
        (lambda path: path.joinpath("x") and path.symlink_to(path / "x"), "cannot be opened"),
    ],
)
def test_a_file_that_is_something_else_is_refused_and_not_changed(
    tmp_path: Path, make: Callable[[Path], object], error: str
) -> None:
    path = tmp_path / "box"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(OutboxError, match=error) as caught:
        Outbox(offline(), path)
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    with Outbox(offline(), tmp_path / "box") as outbox:
        outbox.put("secret")
        if os.name == "posix":
            assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def filled(path: Path, crashed: Path | None = None) -> list[tuple[str, str | bytes]]:
    """Put messages of all kinds into a file; copy it with its log before it is closed. Return them."""
    with Outbox(offline(), path) as outbox:
        for number in range(40):
            key = None if number % 3 else f"key {number}"
            outbox.put(f"message {number}", supersede=key, expires=1e6)
            outbox.put(bytes(range(number)) * 20)
        kept = [(message.id, message.payload) for message in outbox]
        if crashed is not None:
            for file in path.parent.glob("box*"):
                shutil.copy(file, crashed)
    return kept


def outcome(path: Path) -> list[tuple[str, str | bytes]] | str:
    """Return the messages in a file, or the error."""
    try:
        with Outbox(offline(), path) as outbox:
            return [(message.id, message.payload) for message in outbox]
    except OutboxError as error:
        return str(error)


@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_a_damaged_file_is_refused_or_harmless(tmp_path: Path, damage: str) -> None:
    kept = filled(tmp_path / "box")
    content = (tmp_path / "box").read_bytes()
    rng = random.Random(5)
    refused = 0
    for number in range(150):
        offset = rng.randrange(len(content))
        damaged = bytearray(content)
        if damage == "flip":
            damaged[offset] ^= 1 << rng.randrange(8)
        else:
            del damaged[offset:]
        # Another path each time: without a GIL, SQLite's objects that belong to the thread of an outbox may
        # outlive it for a moment, and with them the lock on the file.
        path = tmp_path / f"damaged {number}"
        path.write_bytes(damaged)
        found = outcome(path)
        if isinstance(found, str):
            assert str(path) in found
            assert "move it away" in found or "move the file away" in found
            refused += 1
        elif offset or damage == "flip":
            assert found == kept, f"a damage at {offset} was not noticed"
    assert refused > 50


def test_a_damaged_log_gives_only_whole_messages(tmp_path: Path) -> None:
    (tmp_path / "crashed").mkdir()
    kept = filled(tmp_path / "box", tmp_path / "crashed")
    log = (tmp_path / "crashed" / "box-wal").read_bytes()
    assert len(log) > 10_000
    assert outcome_of_log(tmp_path, log) == kept
    rng = random.Random(5)
    for _ in range(60):
        damaged = bytearray(log)
        damaged[rng.randrange(len(log))] ^= 1 << rng.randrange(8)
        found = outcome_of_log(tmp_path, damaged)
        # As after a power cut, SQLite ends at the first transaction that is not whole.
        assert isinstance(found, str) or found == kept[:len(found)]


def outcome_of_log(tmp_path: Path, log: bytes) -> list[tuple[str, str | bytes]] | str:
    """Return the messages that are found with such a log."""
    folder = Path(tempfile.mkdtemp(dir=tmp_path))  # another one each time, as above
    shutil.copytree(tmp_path / "crashed", folder, dirs_exist_ok=True)
    (folder / "box-wal").write_bytes(log)
    return outcome(folder / "box")


def test_damage_that_is_found_later_stops_the_outbox(start_peer: StartPeer, tmp_path: Path) -> None:
    path = tmp_path / "box"
    filled(path)
    data = path.read_bytes()
    assert data.count(b"message 30") == 1
    path.write_bytes(data.replace(b"message 30", b"message 31"))
    server = Acking()
    app = WebSocketApp(start_peer(server).url)
    lines: list[str] = []
    with LogListener(lines.append), Outbox(app, path, window=1000) as outbox, opened(app):
        eventually(lambda: outbox.failure is not None)
        assert "is damaged (the checksum of message 61 is wrong)" in str(outbox.failure)
        with pytest.raises(OutboxError, match="is damaged"):
            outbox.put("x")
        with pytest.raises(OutboxError, match="is damaged"):
            outbox.flush()
        eventually(lambda: bool(lines))
    assert str(path) in lines[0]
    assert outbox.counts.confirmed == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_damaged_file_is_not_open_any_more_although_the_error_is_kept(tmp_path: Path) -> None:
    """SQLite would delete the log of a new file at the same path when it closes the old one."""
    filled(tmp_path / "box")
    with closing(sqlite3.connect(tmp_path / "box", isolation_level=None)) as database:
        database.execute("UPDATE messages SET supersedes = 'key 0'")
    with pytest.raises(OutboxError, match="is damaged") as kept:
        Outbox(offline(), tmp_path / "box")
    paths = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert not [path for path in paths if path.startswith(str(tmp_path))], kept.value


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_a_full_disk_fails_put_and_nothing_else(start_peer: StartPeer, tmp_path: Path) -> None:
    """In a program of its own: a limit on the size of files stands for the disk."""
    code = """
import resource, sys, time
from lochws import Backoff, WebSocketApp
from lochws.handlers.outbox import Outbox, OutboxError
app = WebSocketApp(sys.argv[2])
outbox = Outbox(app, sys.argv[1], confirm=lambda event: event.json["ack"], id_field="id")
for number in range(100):
    outbox.put({"n": number, "x": "x" * 1000})
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
put = 100
try:
    while True:
        outbox.put({"n": put, "x": "x" * 1000})
        put += 1
except OutboxError as error:
    print(error)
with app:
    app.wait_ready(60)
    end = time.monotonic() + 40
    while outbox.counts.sent < put and time.monotonic() < end:
        time.sleep(0.01)
    print(outbox.counts.sent == put, outbox.failure)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(outbox.flush(40))
    outbox.put({"n": put})
    print(outbox.flush(40), outbox.counts.confirmed == put + 1)
"""
    server = Acking()
    url = start_peer(server).url
    command = [sys.executable, "-c", code, tmp_path / "box", url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    lines = ended.stdout.splitlines()
    assert len(lines) == 4, ended.stderr
    assert f"the outbox file {str(tmp_path / 'box')!r} cannot be written" in lines[0]
    assert "nothing was stored; free some space" in lines[0]
    assert lines[1:] == ["True None", "True", "True True"]
    assert server.numbers() == list(range(len(server.seen)))


def test_threads_share_the_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Outbox(offline(), tmp_path / "box") as outbox:
        keeper: Any = outbox._keeper
        commits: list[int] = []
        asked: list[Step] = []
        commit, ask, go_on = keeper._table.commit, keeper.ask, threading.Event()

        def asking(step: Step) -> None:
            ask(step)
            asked.append(step)

        def slow() -> None:
            commits.append(keeper._table.count)
            if len(commits) == 1:
                go_on.wait(PATIENCE)
            commit()

        monkeypatch.setattr(keeper, "ask", asking)
        monkeypatch.setattr(keeper._table, "commit", slow)
        threads = [in_thread(lambda: outbox.put("x"))]
        eventually(lambda: len(commits) == 1)
        threads += [in_thread(lambda: outbox.put("x")) for _ in range(20)]
        eventually(lambda: sum(isinstance(step, Put) for step in list(asked)) == 21)
        go_on.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert commits[:2] == [1, 21]  # and more if it took long: see what has expired
        assert outbox.pending == 21


def test_an_outbox_that_waits_for_room_is_first_in_line(tmp_path: Path) -> None:
    order: list[str] = []
    with Outbox(offline(), tmp_path / "box", max_bytes=1000, when_full="block", put_timeout=0.3) as outbox:
        outbox.put("x" * 500)

        def large() -> None:
            with pytest.raises(QueueFull):
                outbox.put("y" * 500)
            order.append("large")

        thread = in_thread(large)
        eventually(lambda: outbox._keeper.ledger.must_retry)
        outbox.put("z")  # it would fit, and waits behind the other
        order.append("small")
        thread.join(PATIENCE)
    assert order in (["large", "small"], ["small", "large"])
    assert outbox.counts.put == 2


def test_finalizers_may_put_on_the_thread_of_the_file(tmp_path: Path) -> None:
    class Last:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            outbox.put("last words")

    with Outbox(offline(), tmp_path / "box") as outbox:
        keeper: Any = outbox._keeper
        commit = keeper._table.commit

        def collecting() -> None:
            gc.collect()
            commit()

        keeper._table.commit = collecting
        Last()
        outbox.put("x")
        eventually(lambda: outbox.pending == 2)
        assert sorted(payloads(outbox)) == ["last words", "x"]  # type: ignore[type-var]


def test_no_thread_and_no_descriptor_is_left(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    for _ in range(5):
        with Outbox(offline(), tmp_path / "box") as outbox:
            outbox.put("x", supersede="y")
    eventually(lambda: set(threading.enumerate()) == before)
    assert [file.name for file in tmp_path.iterdir()] == ["box"], "the log was not merged into the file"


def test_many_messages_do_not_wait_in_memory(start_peer: StartPeer, tmp_path: Path) -> None:
    server = Acking()
    app = WebSocketApp(start_peer(server).url)
    with Outbox(app, tmp_path / "box", synchronous="NORMAL", confirm=acked, id_field="id") as outbox:
        for first in range(0, 3000, 1000):
            outbox.put_many([{"n": number} for number in range(first, first + 1000)])
        assert [message.number for message in outbox] == list(range(1, 3001))
        with reconnecting(app):
            assert outbox.flush(PATIENCE)
    assert server.numbers() == list(range(3000))
