"""The recorder's files: their size, what they leave out, and what becomes of them when things go wrong."""

from __future__ import annotations

import json
import signal
import stat
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lochws import events
from lochws.handlers import recorder as recorder_module
from lochws.handlers._parts.recording_files import parts_of
from lochws.handlers.recorder import Recorder
from lochws.handlers.replay import Replay
from lochws.response import Response
from lochws.sent import ControlFrame
from lochws.system import waits

from ..support.interrupting import interrupt
from ..support.peer import Link, StartPeer
from ..support.programs import Run
from ..support.seen import PATIENCE, eventually, in_thread
from .test_recording import record

NOWHERE = "ws://127.0.0.1:1/"


def texts(path: Path, **options: Any) -> list[str]:
    return [event.text for event in Replay(path, **options) if isinstance(event, events.Text)]


def numbers(count: int) -> list[events.Text]:
    return [events.Text(f"{number:100}") for number in range(count)]


class TestSize:
    @pytest.mark.parametrize("name", ["talk.jsonl", "talk.jsonl.gz", "talk"])
    def test_files_are_numbered_from_the_oldest_and_read_as_one(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        with Recorder(path, max_bytes=4096) as recorder:
            for event in numbers(1500):
                recorder.on_event(event)
        parts = parts_of(path)
        first = {"talk.jsonl": "talk.1.jsonl", "talk.jsonl.gz": "talk.1.jsonl.gz", "talk": "talk.1"}[name]
        assert parts[0].name == first
        assert parts[-1] == path
        assert len(parts) > 1
        assert texts(path) == [event.text for event in numbers(1500)]

    def test_no_file_is_larger_unless_one_line_is(self, tmp_path: Path) -> None:
        them = [*numbers(200), events.Text("x" * 5000), *numbers(9)]
        path = record(tmp_path / "a.jsonl", *them, max_bytes=4096)
        large = [part for part in parts_of(path) if part.stat().st_size > 4096]
        assert len(large) == 1
        assert [len(text) for text in texts(large[0])] == [5000]

    def test_each_file_has_a_header_and_can_be_read_alone(self, tmp_path: Path) -> None:
        path = record(tmp_path / "a.jsonl", *numbers(100), max_bytes=4096)
        parts = parts_of(path)
        headers = [json.loads(part.read_text(encoding="utf-8").splitlines()[0]) for part in parts]
        assert [header["part"] for header in headers] == list(range(1, len(parts) + 1))
        assert len({header["began"] for header in headers}) == 1
        older = [text for part in parts[:-1] for text in texts(part)]
        assert older == texts(path)[:len(older)]
        assert len(older) > 50

    def test_the_newest_are_kept(self, tmp_path: Path) -> None:
        path = record(tmp_path / "a.jsonl", *numbers(500), max_bytes=4096, keep=3)
        assert len(parts_of(path)) == 3
        kept = texts(path)
        assert kept == [event.text for event in numbers(500)][-len(kept):]

    def test_a_recording_that_is_there_is_not_overwritten(self, tmp_path: Path) -> None:
        path = record(tmp_path / "a.jsonl", *numbers(1))
        with pytest.raises(FileExistsError, match="append=True"):
            Recorder(path)
        path.rename(tmp_path / "a.1.jsonl")
        with pytest.raises(FileExistsError, match=r"a\.1\.jsonl"):
            Recorder(path)

    def test_appending_continues_it_in_another_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        for word in ("one", "two", "three"):
            record(path, events.Text(word), append=True)
        assert texts(path) == ["one", "two", "three"]
        assert len(parts_of(path)) == 3
        times = [entry.at for entry in Replay(path).entries()]
        assert times == sorted(times)

    def test_nobody_else_may_read_it(self, tmp_path: Path) -> None:
        assert stat.S_IMODE(record(tmp_path / "a.jsonl").stat().st_mode) == 0o600


class TestLeavingOut:
    def test_payloads_can_be_left_out(self, tmp_path: Path) -> None:
        path = record(
            tmp_path / "a.jsonl", events.Text("secret"), events.Binary(b"abc"), events.Ping(b"abcd"),
            ("secret", b"abc", ControlFrame("pong", b"abcd")), events.Disconnected(unsent=("secret",)),
            payloads=False,
        )
        assert "secret" not in path.read_text(encoding="utf-8")
        assert [entry.length for entry in Replay(path).entries()] == [6, 3, 4, 6, 3, 4, None]

    def test_what_is_left_out_can_be_filled_and_is_refused_else(self, tmp_path: Path) -> None:
        path = record(tmp_path / "a.jsonl", events.Text("secret"), ("secret", b"abc"), payloads=False)
        assert texts(path, fill=True) == ["xxxxxx"]
        assert list(Replay(path, fill=True).sends()) == ["xxxxxx", b"xxx"]
        with pytest.raises(ValueError, match=r"a\.jsonl, line 2: .*left out.*fill=True"):
            texts(path)

    def test_redact_says_what_is_recorded(self, tmp_path: Path) -> None:
        def redact(direction: str, payload: str | bytes) -> str | bytes | None:
            if isinstance(payload, bytes):
                return None
            return payload.replace("secret", direction)

        path = record(
            tmp_path / "a.jsonl", events.Text("secret 1"), events.Binary(b"22"), ("secret 3",), redact=redact
        )
        assert "secret" not in path.read_text(encoding="utf-8")
        entries = list(Replay(path).entries())
        assert [entry.fields.get("text") for entry in entries] == ["in 1", None, "out 3"]
        assert entries[1].length == 2

    @pytest.mark.parametrize("result", ["raises", 7, b"bytes for text"])
    def test_a_redact_that_fails_leaves_the_payload_out(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, result: object
    ) -> None:
        def redact(_direction: str, _payload: str | bytes) -> Any:
            if result == "raises":
                raise KeyError("mistake")
            return result

        path = record(tmp_path / "a.jsonl", events.Text("secret"), redact=redact)
        assert [entry.length for entry in Replay(path).entries()] == [6]
        assert "redact failed" in caplog.text

    @pytest.mark.parametrize("secrets", [False, True])
    def test_tokens_in_urls_and_cookies_are_left_out_unless_asked_for(
        self, tmp_path: Path, secrets: bool
    ) -> None:
        url = "wss://feed.example.org/?token=S3CRET"
        head = (
            b"HTTP/1.1 302 Found\r\nLocation: /?key=S3CRET\r\nSet-Cookie: id=S3CRET; Path=/\r\n"
            b"SET-COOKIE: b=S3CRET\r\nX: y\r\n\r\n"
        )
        response = Response(head)
        path = record(
            tmp_path / "a.jsonl", events.Connecting(url), events.Connected(url, "http://u:S3CRET@proxy:1/"),
            events.Rejected(response, f"not {url}", advice=url, error=ValueError(url)), secrets=secrets,
        )
        assert ("S3CRET" in path.read_text(encoding="utf-8")) is secrets
        rejected = list(Replay(path))[-1]
        assert isinstance(rejected, events.Rejected)
        assert rejected.response.get("x") == "y"
        assert (rejected.response.raw == head) is secrets


class SlowDisk:
    """Holds the writing thread up, given as `redact`, until it may go on.

    Attributes:
        entered: set once it is held up.
        go: to be set, to let it go on.
    """

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self, _direction: str, payload: str | bytes) -> str | bytes:
        self.entered.set()
        assert self.go.wait(PATIENCE)
        return payload


class TestWhenThingsGoWrong:
    def test_what_comes_faster_than_the_disk_is_counted_logged_and_said_in_the_file(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        slow = SlowDisk()
        entered, go = slow.entered, slow.go

        with Recorder(tmp_path / "a.jsonl", redact=slow, max_pending=1000) as recorder:
            recorder.on_event(events.Text("first"))
            assert entered.wait(PATIENCE)
            for number in range(10):
                recorder.on_event(events.Text(str(number)))
            recorder.on_sent(("a", "b"))
            assert not recorder.flush(timeout=0.0)
            lost = recorder.missing
            go.set()
            assert recorder.flush()
            recorder.on_event(events.Text("last"))
        assert 0 < lost < 12
        assert recorder.missing == lost
        replay = Replay(recorder.path)
        entries = list(replay.entries())
        assert replay.missing == lost
        assert entries[-2].missing == lost
        assert [entry.missing for entry in entries[:-2]] == [0] * (13 - lost)
        assert entries[-1].fields["text"] == "last"
        assert f"{lost} events and sends are missing" in caplog.text

    def test_handlers_can_wait_for_the_disk_so_that_no_event_is_missing(self, tmp_path: Path) -> None:
        slow = SlowDisk()
        entered, go = slow.entered, slow.go

        def leave() -> None:
            for number in range(100):
                recorder.on_event(events.Text(str(number)))

        with Recorder(tmp_path / "a.jsonl", redact=slow, max_pending=1000, when_full="block") as recorder:
            other = in_thread(leave)
            assert entered.wait(PATIENCE)
            eventually(lambda: recorder._pending > 800)
            recorder.on_sent(("never waits",))
            go.set()
            other.join()
        assert recorder.missing == 0
        assert texts(recorder.path) == list(map(str, range(100)))
        assert list(Replay(recorder.path).sends()) == ["never waits"]

    def test_what_is_missing_at_the_end_is_said_too(self, tmp_path: Path) -> None:
        slow = SlowDisk()
        entered, go = slow.entered, slow.go

        with Recorder(tmp_path / "a.jsonl", redact=slow, max_pending=1) as recorder:
            recorder.on_event(events.Text("first"))
            assert entered.wait(PATIENCE)
            recorder.on_event(events.Text("second"))
            go.set()
        assert [entry.missing for entry in Replay(recorder.path).entries()] == [0, 1]

    def test_an_event_that_cannot_be_recorded_keeps_no_other_back(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken = events.Connecting(object())  # type: ignore[arg-type]
        path = tmp_path / "a.jsonl"
        with Recorder(path) as recorder:
            for event in (events.Text("a"), broken, events.Text("b")):
                recorder.on_event(event)
            recorder.flush()
            recorder.on_event(events.Text("c"))
        assert texts(path) == ["a", "b", "c"]
        assert recorder.missing == 1
        assert Replay(path).missing == 0
        assert sum(entry.missing for entry in Replay(path).entries()) == 1
        assert "cannot record" in caplog.text

    @pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
    @pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
    def test_a_full_disk_loses_what_it_cannot_take_and_leaves_the_rest_readable(
        self, tmp_path: Path, run: Run, name: str
    ) -> None:
        path = tmp_path / name
        program = run(
            f"""
import random, resource
from lochws import events
from lochws.handlers.recorder import Recorder
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
recorder = Recorder({str(path)!r})
recorder.on_event(events.Text("first"))
recorder.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
for number in range(100):
    recorder.on_event(events.Binary(random.randbytes(1000)))
recorder.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
recorder.on_event(events.Text("last"))
recorder.close()
say(recorder.missing)
""", NOWHERE)
        status, output, errors = program.end()
        assert status == 0, errors
        replay = Replay(path)
        found = [entry.event for entry in replay.entries()]
        assert replay.missing == int(output) > 0
        assert found[0] == found[-1] == "text"
        assert found.count("binary") == 100 - replay.missing
        assert not replay.cut
        assert "could not be written" in errors

    @pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
    def test_a_process_that_is_killed_leaves_what_was_written(
        self, tmp_path: Path, run: Run, start_peer: StartPeer, name: str
    ) -> None:
        def flood(link: Link) -> None:
            link.accept()
            number = 0
            while True:
                number += 1
                link.send_frame(1, f"{number:100}".encode())

        path = tmp_path / name
        program = run(f"""
from lochws.handlers.recorder import Recorder
app.add_handler(Recorder({str(path)!r}))
app.start()
say("started")
done.wait()
""", start_peer(flood).url)
        program.wait_for("started")
        eventually(lambda: path.stat().st_size > 30_000)
        program.send(signal.SIGKILL)
        program.end()
        found = [int(text) for text in texts(path)]
        assert len(found) > 100
        assert found == list(range(1, len(found) + 1))

    def test_the_end_of_the_interpreter_waits_for_the_disk(self, tmp_path: Path, run: Run) -> None:
        path = tmp_path / "a.jsonl"
        status, _, errors = run(f"""
from lochws import events
from lochws.handlers.recorder import Recorder
recorder = Recorder({str(path)!r})
for number in range(1000):
    recorder.on_event(events.Text(str(number)))
""", NOWHERE).end()
        assert (status, errors) == (0, "")
        assert texts(path) == list(map(str, range(1000)))

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
    def test_a_fork_records_nothing(self, tmp_path: Path, run: Run) -> None:
        path = tmp_path / "a.jsonl.gz"
        status, _, errors = run(f"""
import warnings
from lochws import events
from lochws.handlers.recorder import Recorder
warnings.simplefilter("ignore")
recorder = Recorder({str(path)!r})
recorder.on_event(events.Text("parent"))
if not os.fork():
    recorder.on_event(events.Text("child"))
    assert recorder.flush() and recorder.close()
    sys.exit()
assert os.wait()[1] == 0
recorder.on_event(events.Text("after"))
""", NOWHERE).end()
        assert (status, errors) == (0, "")
        assert texts(path) == ["parent", "after"]


    def test_where_no_thread_can_be_started_close_writes(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        recorder = Recorder(tmp_path / "a.jsonl", max_pending=1000, when_full="block")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for number in range(10):  # none of which waits for room, for nobody would make it
                recorder.on_event(events.Text(str(number)))
        assert recorder.close()
        assert [int(text) for text in texts(recorder.path)] == list(range(10 - recorder.missing))
        assert recorder.missing > 0
        assert caplog.text.count("no thread can be started") == 1

    def test_a_later_entry_starts_the_thread_that_could_not_be_started(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with Recorder(tmp_path / "a.jsonl") as recorder:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                recorder.on_event(events.Text("first"))
            recorder.on_event(events.Text("second"))
            assert recorder.flush()
            assert texts(recorder.path) == ["first", "second"]

    def test_what_cannot_be_recorded_is_not_logged_either(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Recorder(tmp_path / "a.jsonl") as recorder:
            recorder.on_sent(("S3CRET", [0]))  # type: ignore[arg-type]
        assert recorder.missing == 2
        assert "cannot record" in caplog.text
        assert "S3CRET" not in caplog.text

    @pytest.mark.skipif(sys.version_info >= (3, 14), reason="opcodes are others there")
    def test_wherever_ctrl_c_strikes_others_can_go_on_recording(self, tmp_path: Path) -> None:
        point = 0
        reached = True
        while reached:
            point += 1
            recorder = Recorder(tmp_path / f"{point}.jsonl")

            def send(recorder: Recorder = recorder) -> None:
                recorder.on_sent(("interrupted",))
                recorder.flush()

            reached = interrupt(send, point, {recorder_module.__file__, waits.__file__})
            other = in_thread(partial(recorder.on_event, events.Text("after")))
            other.join()
            assert recorder.close(), f"at point {point}"
            assert texts(recorder.path) == ["after"], f"at point {point}"
        assert point > 20

    def test_a_signal_handler_may_send_and_close_while_its_thread_records(self, tmp_path: Path) -> None:
        recorder = Recorder(tmp_path / "a.jsonl")

        def interrupted() -> None:
            with recorder._lock:  # under which the signal comes
                recorder.on_sent(("last word",))
                recorder.flush(0)

        in_thread(interrupted).join()
        assert recorder.close()
        assert list(Replay(recorder.path).sends()) == ["last word"]

    @pytest.mark.parametrize("append", [False, True])
    def test_what_is_no_file_stays_what_it_is(self, tmp_path: Path, append: bool) -> None:
        (tmp_path / "mine").mkdir()
        with pytest.raises(FileExistsError, match="mine is no file"):
            Recorder(tmp_path / "mine", append=append)
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]


class TestEnding:
    def test_nothing_is_recorded_after_close_which_may_be_called_again(self, tmp_path: Path) -> None:
        recorder = Recorder(tmp_path / "a.jsonl")
        recorder.on_event(events.Text("a"))
        assert recorder.close()
        size = recorder.path.stat().st_size
        recorder.on_event(events.Text("b"))
        recorder.on_sent(("c",))
        assert recorder.close()
        assert recorder.flush()
        assert recorder.path.stat().st_size == size
        assert recorder.missing == 0

    def test_flush_waits_until_it_is_in_the_file(self, tmp_path: Path) -> None:
        with Recorder(tmp_path / "a.jsonl.gz") as recorder:
            for number in range(3):
                recorder.on_event(events.Text(str(number)))
                assert recorder.flush()
                assert texts(recorder.path) == list(map(str, range(number + 1)))

    def test_flush_does_not_wait_for_what_comes_meanwhile(self, tmp_path: Path) -> None:
        with Recorder(tmp_path / "a.jsonl", redact=lambda _direction, payload: again(payload)) as recorder:

            def again(payload: str | bytes) -> str | bytes:  # there is always something to write
                if not done:
                    recorder.on_event(events.Text("more"))
                return payload

            done: list[bool] = []
            recorder.on_event(events.Text("first"))
            assert recorder.flush(PATIENCE)
            done.append(True)

    def test_large_messages_hurry_the_writer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(recorder_module, "GATHER_SECONDS", 10 * PATIENCE)
        with Recorder(tmp_path / "a.jsonl", max_pending=1_000_000) as recorder:
            for _ in range(40):
                recorder.on_event(events.Binary(bytes(200_000)))
                eventually(lambda: recorder._pending < 500_000)
        assert recorder.missing == 0

    def test_its_thread_ends_with_it(self, tmp_path: Path) -> None:
        with Recorder(tmp_path / "a.jsonl") as recorder:
            assert "lochws recorder" not in [thread.name for thread in threading.enumerate()]
            recorder.on_event(events.Poll())
            assert "lochws recorder" in [thread.name for thread in threading.enumerate()]
        assert "lochws recorder" not in [thread.name for thread in threading.enumerate()]


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"compress": "zip"}, ValueError, "compress='zip': expected 'gzip', or None"),
            ({"max_bytes": 100}, ValueError, "max_bytes=100: expected 4096 or more"),
            ({"max_bytes": "1M"}, TypeError, "max_bytes='1M': expected a whole number"),
            ({"max_bytes": True}, TypeError, "max_bytes=True"),
            ({"keep": 0, "max_bytes": 4096}, ValueError, "keep=0: expected 1 or more"),
            ({"keep": 3}, ValueError, "keep=3 without max_bytes"),
            ({"redact": "x"}, TypeError, "redact='x': expected a function"),
            ({"max_pending": 0}, ValueError, "max_pending=0"),
            ({"when_full": "wait"}, ValueError, "when_full='wait': expected 'drop' or 'block'"),
        ],
    )
    def test_wrong_ones_are_refused_before_a_file_is_made(
        self, tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words):
            Recorder(tmp_path / "a.jsonl", **options)
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_is_not_there_is_said_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            Recorder(tmp_path / "no" / "a.jsonl")
