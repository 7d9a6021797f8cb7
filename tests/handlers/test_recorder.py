"""The recorder's files: their names, what is left out of them, and what happens when things go wrong."""

from __future__ import annotations

import gzip
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
from lochws.handlers._parts.recording_files import files_of
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


class TestFiles:
    @pytest.mark.parametrize("name", ["talk.jsonl", "talk.jsonl.gz", "talk"])
    def test_older_files_are_numbered_and_read_first(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        for word in ("one", "two", "three"):
            record(path, events.Text(word), append=True)
        expected = {
            "talk.jsonl": ["talk.1.jsonl", "talk.2.jsonl", "talk.jsonl"],
            "talk.jsonl.gz": ["talk.1.jsonl.gz", "talk.2.jsonl.gz", "talk.jsonl.gz"],
            "talk": ["talk.1", "talk.2", "talk"],
        }
        assert [file.name for file in files_of(path)] == expected[name]
        assert texts(path) == ["one", "two", "three"]
        times = [entry.at for entry in Replay(path).entries()]
        assert times == sorted(times)

    def test_an_existing_recording_is_not_overwritten(self, tmp_path: Path) -> None:
        path = record(tmp_path / "a.jsonl", *numbers(1))
        with pytest.raises(FileExistsError, match="append=True"):
            Recorder(path)
        path.rename(tmp_path / "a.1.jsonl")
        with pytest.raises(FileExistsError, match=r"a\.1\.jsonl"):
            Recorder(path)

    def test_only_its_owner_may_read_it(self, tmp_path: Path) -> None:
        assert stat.S_IMODE(record(tmp_path / "a.jsonl").stat().st_mode) == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be renamed there")
class TestReopening:
    @pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
    def test_what_happened_before_goes_to_the_old_file_and_the_rest_to_a_new_one(
        self, tmp_path: Path, name: str
    ) -> None:
        path, old = tmp_path / name, tmp_path / f"old.{name}"
        with Recorder(path) as recorder:
            recorder.on_event(events.Text("before"))
            recorder.flush()
            path.rename(old)
            recorder.on_event(events.Text("renamed"))
            recorder.reopen()
            recorder.on_event(events.Text("after"))
            assert recorder.flush()
            assert texts(old) == ["before", "renamed"]
            assert not Replay(old).cut
            recorder.on_sent(("sent",))
        assert texts(path) == ["after"]
        assert list(Replay(path).sends()) == ["sent"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_the_old_file_is_complete_once_flush_returns(self, tmp_path: Path) -> None:
        path, old = tmp_path / "a.jsonl.gz", tmp_path / "old.gz"
        with Recorder(path) as recorder:
            recorder.on_event(events.Text("before"))
            recorder.flush()
            path.rename(old)
            recorder.reopen()
            assert recorder.flush()
            assert b"before" in gzip.decompress(old.read_bytes()), "it has its end"

    def test_files_numbered_by_the_user_are_one_recording(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        with Recorder(path) as recorder:
            for number in range(1, 4):
                recorder.on_event(events.Text(str(number)))
                recorder.flush()
                path.rename(tmp_path / f"a.{number}.jsonl")
                recorder.reopen()
        assert texts(path) == ["1", "2", "3"]
        headers = [json.loads(file.read_text(encoding="utf-8").splitlines()[0]) for file in files_of(path)]
        assert [header["part"] for header in headers] == [1, 2, 3, 4]
        assert len({header["began"] for header in headers}) == 1

    def test_a_file_that_still_has_its_name_is_continued(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        with Recorder(path) as recorder:
            recorder.on_event(events.Text("one"))
            recorder.reopen()
            recorder.on_event(events.Text("two"))
        assert texts(path) == ["one", "two"]
        assert files_of(path) == [path]

    def test_a_removed_file_is_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        with Recorder(path) as recorder:
            recorder.on_event(events.Text("one"))
            recorder.flush()
            path.unlink()
            recorder.reopen()
            recorder.on_event(events.Text("two"))
        assert texts(path) == ["two"]

    def test_the_empty_file_that_logrotate_creates_is_taken_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        with Recorder(path) as recorder:
            recorder.on_event(events.Text("one"))
            recorder.flush()
            path.rename(tmp_path / "a.jsonl.1")
            path.touch(0o640)
            path.chmod(0o640)
            recorder.reopen()
            recorder.on_event(events.Text("two"))
        assert texts(path) == ["two"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    def test_somebody_elses_file_is_renamed_and_not_overwritten(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        with Recorder(path) as recorder:
            recorder.flush()
            path.rename(tmp_path / "moved")
            path.write_text("mine", encoding="utf-8")
            recorder.reopen()
            recorder.on_event(events.Text("two"))
        assert (tmp_path / "a.2.jsonl").read_text(encoding="utf-8") == "mine"
        assert "two" in path.read_text(encoding="utf-8")

    def test_if_the_new_file_cannot_be_created_the_old_one_goes_on(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        path, moved = folder / "a.jsonl", tmp_path / "moved"
        with Recorder(path) as recorder:
            recorder.on_event(events.Text("one"))
            recorder.flush()
            folder.rename(moved)
            recorder.reopen()
            recorder.on_event(events.Text("two"))
            assert recorder.flush()
            assert "the new file cannot be created" in caplog.text
            folder.mkdir()
            recorder.reopen()
            recorder.on_event(events.Text("three"))
        assert texts(moved / "a.jsonl") == ["one", "two"]
        assert texts(path) == ["three"]
        assert recorder.missing == 0

    def test_no_event_is_lost_or_torn_while_files_change(self, tmp_path: Path, restless: None) -> None:
        path = tmp_path / "a.jsonl.gz"
        with Recorder(path, max_pending=1 << 30) as recorder:
            changed = threading.Event()

            def leave() -> None:
                for number in range(20_000):
                    recorder.on_event(events.Text(str(number)))
                    if number == 10_000:  # however busy the machine is, more than one file changes meanwhile
                        changed.wait(PATIENCE)

            other = in_thread(leave)
            count = 0
            while other.is_alive():
                count += 1
                path.rename(tmp_path / f"a.{count}.jsonl.gz")
                recorder.reopen()
                assert recorder.flush(PATIENCE)
                if count > 1:
                    changed.set()
            other.join()
        assert count > 1
        replay = Replay(path)
        assert [event.text for event in replay if isinstance(event, events.Text)] == [
            str(number) for number in range(20_000)
        ]
        assert not replay.cut

    @pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no such signal")
    def test_a_signal_handler_may_reopen(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        with Recorder(path) as recorder:
            before = signal.signal(signal.SIGHUP, lambda *_: recorder.reopen())
            try:
                recorder.on_event(events.Text("one"))
                recorder.flush()
                with recorder._lock:  # under which the signal arrives
                    path.rename(tmp_path / "a.1.jsonl")
                    signal.raise_signal(signal.SIGHUP)
                recorder.on_event(events.Text("two"))
            finally:
                signal.signal(signal.SIGHUP, before)
        assert texts(path) == ["one", "two"]
        assert texts(tmp_path / "a.1.jsonl") == ["one"]

    def test_a_flood_of_requests_takes_no_memory(self, tmp_path: Path) -> None:
        slow = SlowDisk()
        with Recorder(tmp_path / "a.jsonl", redact=slow) as recorder:
            recorder.on_event(events.Text("x"))
            assert slow.entered.wait(PATIENCE)
            for _ in range(10_000):
                recorder.reopen()
            assert len(recorder._entries) == 1
            slow.go.set()
        recorder.reopen()
        assert files_of(tmp_path / "a.jsonl") == [tmp_path / "a.jsonl"]


class TestLeavingOut:
    def test_payloads_can_be_left_out(self, tmp_path: Path) -> None:
        path = record(
            tmp_path / "a.jsonl", events.Text("secret"), events.Binary(b"abc"), events.Ping(b"abcd"),
            ("secret", b"abc", ControlFrame("pong", b"abcd")),
            events.Disconnected(unsent=("secret",), in_doubt=("secret",)), payloads=False,
        )
        assert "secret" not in path.read_text(encoding="utf-8")
        assert [entry.length for entry in Replay(path).entries()] == [6, 3, 4, 6, 3, 4, None]

    def test_payloads_that_were_left_out_are_filled_on_request_and_otherwise_refused(
        self, tmp_path: Path
    ) -> None:
        path = record(tmp_path / "a.jsonl", events.Text("secret"), ("secret", b"abc"), payloads=False)
        assert texts(path, fill=True) == ["xxxxxx"]
        assert list(Replay(path, fill=True).sends()) == ["xxxxxx", b"xxx"]
        with pytest.raises(ValueError, match=r"a\.jsonl, line 2: .*left out.*fill=True"):
            texts(path)

    def test_redact_decides_what_is_recorded(self, tmp_path: Path) -> None:
        def redact(direction: str, payload: str | bytes) -> str | bytes | None:
            if isinstance(payload, bytes):
                return None
            return payload.replace("secret", direction)

        path = record(
            tmp_path / "a.jsonl", events.Text("secret 1"), events.Binary(b"22"), ("secret 3",),
            events.Disconnected(unsent=("secret 4",), in_doubt=("secret 3", b"33")), redact=redact,
        )
        assert "secret" not in path.read_text(encoding="utf-8")
        entries = list(Replay(path).entries())
        assert [entry.fields.get("text") for entry in entries] == ["in 1", None, "out 3", None]
        assert entries[1].length == 2
        assert entries[3].fields["unsent"] == [{"text": "out 4"}]
        assert entries[3].fields["in_doubt"] == [{"text": "out 3"}, {"length": 2}]

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
    @pytest.mark.parametrize(
        "header",
        [
            b"Set-Cookie: id=S3CRET; Path=/", b"SET-COOKIE: b=S3CRET", b"Set-Cookie : x=S3CRET",
            b"Set-Cookie\t: x=S3CRET", b"Set-Cookie:\r\n x=S3CRET", b"Set-Cookie: x=\r\n\tS3CRET",
            b"Set-Cookie\x00: x=S3CRET", b"Set-Cookie: S3CRET", b"Set-Cookie: a=b; Path=/, c=S3CRET",
            b"Set-Cookie2: x=S3CRET", b"Location: /?key=S3CRET", b"Location : /?a=b&key=S3CRET",
            b"Location: /\r\n ?key=S3CRET", b"Content-Location: ws://u:S3CRET@h/",
            b"Refresh: 5; url=/?k=S3CRET",
            b"Link: </x?k=S3CRET>; rel=next", b"A: b\nSet-Cookie: x=S3CRET",
        ],
        ids=repr,
    )
    def test_cookies_and_tokens_in_urls_are_left_out_of_responses_unless_asked_for(
        self, tmp_path: Path, secrets: bool, header: bytes
    ) -> None:
        head = b"HTTP/1.1 302 Found\r\nX: y\r\n" + header + b"\r\nZ: z\r\n\r\n"
        refusal = Response(head)
        for event in (events.Rejected(refusal, "no"), events.ConnectFail("no", response=refusal)):
            path = record(tmp_path / f"{event.name}.jsonl", event, secrets=secrets)
            assert ("S3CRET" in path.read_text(encoding="utf-8")) is secrets
            [replayed] = Replay(path)
            assert isinstance(replayed, (events.Rejected, events.ConnectFail))
            response = replayed.response
            assert response is not None
            assert (response.status_code, response.get("x"), response.get("z")) == (302, "y", "z")
            assert (response.raw == head) is secrets

    def test_a_response_without_secrets_is_recorded_as_it_is(self, tmp_path: Path) -> None:
        head = b"HTTP/1.1 403 Forbidden\r\nServer: NGINX\r\nX-Y: z; a=b\r\n\r\n"
        [event] = Replay(record(tmp_path / "a.jsonl", events.Rejected(Response(head), "no")))
        assert isinstance(event, events.Rejected)
        assert event.response.raw == head

    @pytest.mark.parametrize("secrets", [False, True])
    def test_tokens_in_urls_are_left_out_unless_asked_for(self, tmp_path: Path, secrets: bool) -> None:
        url = "wss://feed.example.org/?token=S3CRET"
        response = Response(b"HTTP/1.1 403 see ws://u:S3CRET@h/\r\n\r\n")
        path = record(
            tmp_path / "a.jsonl", events.Connecting(url), events.Connected(url, "http://u:S3CRET@proxy:1/"),
            events.Rejected(response, f"not {url}", advice=url, error=ValueError(url)), secrets=secrets,
        )
        assert ("S3CRET" in path.read_text(encoding="utf-8")) is secrets


class SlowDisk:
    """A `redact` function that holds up the writing thread until the test lets it continue.

    Attributes:
        entered: set once the thread is held up.
        go: the test sets it to let the thread continue.
    """

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self, _direction: str, payload: str | bytes) -> str | bytes:
        self.entered.set()
        assert self.go.wait(PATIENCE)
        return payload


class TestWhenThingsGoWrong:
    def test_what_arrives_too_fast_for_the_disk_is_counted_logged_and_noted_in_the_file(
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

        with Recorder(tmp_path / "a.jsonl", redact=slow, max_pending=1000, when_full="pause") as recorder:
            other = in_thread(leave)
            assert entered.wait(PATIENCE)
            eventually(lambda: recorder._pending > 800)
            recorder.on_sent(("never waits",))
            go.set()
            other.join()
        assert recorder.missing == 0
        assert texts(recorder.path) == list(map(str, range(100)))
        assert list(Replay(recorder.path).sends()) == ["never waits"]

    def test_what_is_missing_at_the_end_is_noted_too(self, tmp_path: Path) -> None:
        slow = SlowDisk()
        entered, go = slow.entered, slow.go

        with Recorder(tmp_path / "a.jsonl", redact=slow, max_pending=1) as recorder:
            recorder.on_event(events.Text("first"))
            assert entered.wait(PATIENCE)
            recorder.on_event(events.Text("second"))
            go.set()
        assert [entry.missing for entry in Replay(recorder.path).entries()] == [0, 1]

    def test_an_event_that_cannot_be_recorded_does_not_affect_the_others(
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
    def test_with_a_full_disk_what_was_written_stays_readable(
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
    def test_what_was_written_survives_a_killed_process(
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
    def test_the_child_of_a_fork_records_nothing(self, tmp_path: Path, run: Run) -> None:
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

        recorder = Recorder(tmp_path / "a.jsonl", max_pending=1000, when_full="pause")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for number in range(10):  # none of them waits for room, because nothing would make any
                recorder.on_event(events.Text(str(number)))
        assert recorder.close()
        assert [int(text) for text in texts(recorder.path)] == list(range(10 - recorder.missing))
        assert recorder.missing > 0
        assert caplog.text.count("cannot start a thread") == 1

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

    def test_the_content_of_what_cannot_be_recorded_is_not_logged(
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
            with recorder._lock:  # under which the signal arrives
                recorder.on_sent(("last word",))
                recorder.flush(0)

        in_thread(interrupted).join()
        assert recorder.close()
        assert list(Replay(recorder.path).sends()) == ["last word"]

    @pytest.mark.parametrize("append", [False, True])
    def test_what_is_not_a_file_is_left_alone(self, tmp_path: Path, append: bool) -> None:
        (tmp_path / "mine").mkdir()
        with pytest.raises(FileExistsError, match="mine is not a regular file"):
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

    def test_flush_waits_until_everything_is_in_the_file(self, tmp_path: Path) -> None:
        with Recorder(tmp_path / "a.jsonl.gz") as recorder:
            for number in range(3):
                recorder.on_event(events.Text(str(number)))
                assert recorder.flush()
                assert texts(recorder.path) == list(map(str, range(number + 1)))

    def test_flush_does_not_wait_for_later_events(self, tmp_path: Path) -> None:
        with Recorder(tmp_path / "a.jsonl", redact=lambda _direction, payload: again(payload)) as recorder:

            def again(payload: str | bytes) -> str | bytes:  # so there is always something to write
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
            ({"compress": "zip"}, ValueError, "compress='zip': expected .*'gzip'"),
            ({"redact": "x"}, TypeError, "redact='x': expected a function"),
            ({"redact": len}, TypeError, r"redact: len\(.* cannot be called with two arguments"),
            ({"max_pending": 0}, ValueError, "max_pending=0"),
            ({"max_pending": "1M"}, TypeError, "max_pending='1M'"),
            ({"when_full": "block"}, ValueError, "when_full='block': expected .*'drop'.*'pause'"),
        ],
    )
    def test_invalid_arguments_are_refused_before_a_file_is_created(
        self, tmp_path: Path, options: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words):
            Recorder(tmp_path / "a.jsonl", **options)
        assert not list(tmp_path.iterdir())

    def test_a_missing_folder_is_reported_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            Recorder(tmp_path / "no" / "a.jsonl")
