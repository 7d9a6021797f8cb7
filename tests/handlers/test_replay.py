"""Replay: handlers, speed, and damaged files."""

from __future__ import annotations

import gzip
import json
import logging
import ssl
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from lochws import Codec, WebSocketApp, events, on, route
from lochws.handlers._parts.recording_files import PIECE_BYTES, LineReader, RecordingError
from lochws.handlers._parts.recording_lines import VERSION, RecordedError
from lochws.handlers.replay import Replay

from ..support.programs import Run
from .test_recording import record

HEADER = json.dumps({"recording": VERSION, "began": 5.0, "at": 0.0}).encode()

READY_WITHOUT_HEAD = (
    b'{"at":0,"time":0,"direction":"in","event":"ready","response":{},"protocol":null,"extensions":[],'
    b'"address":null,"timings":{},"attempt":1,"is_reconnect":false,"outage":null,"last_message_at":null}'
)
#: A disconnected, up to its counters and its history.
DISCONNECTED = (
    b'{"at":0,"time":0,"direction":"in","event":"disconnected","reason":"closed","phase":"open",'
    b'"address":null,"error":null,"advice":"","timings":{},"fatal":false,"graceful":true,"ended_by":"client",'
    b'"sent_code":null,"received_code":null,"received_reason":"","unsent":[],"in_doubt":[],'
    b'"in_doubt_omitted":0,"opened_for":1.5,'
)


def written(path: Path, *lines: bytes) -> Path:
    """Write a file of a header and some lines."""
    path.write_bytes(b"".join(line + b"\n" for line in (HEADER, *lines)))
    return path


def text_at(at: float, text: str = "x") -> bytes:
    return json.dumps({"at": at, "time": 5.0 + at, "direction": "in", "event": "text", "text": text}).encode()


class Time:
    """A clock that moves only by waiting."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class TestHandlers:
    def test_objects_marked_methods_batches_and_functions_get_their_events(self, tmp_path: Path) -> None:
        class Handler:
            def __init__(self) -> None:
                self.calls: list[Any] = []

            def on_text(self, event: events.Text) -> None:
                self.calls.append(event.text)

            @on("poll", events.Binary)
            def note(self, event: events.Event) -> None:
                self.calls.append(event.name)

        class Batches:
            def __init__(self) -> None:
                self.calls: list[Any] = []

            def on_batch(self, messages: list[events.Text]) -> None:
                self.calls += messages

        handler, batches = Handler(), Batches()
        names: list[str] = []
        path = record(tmp_path / "a.jsonl", events.Text("a"), events.Poll(), events.Binary(b""), ("sent",))
        Replay(path).run(handler, lambda event: names.append(event.name), speed=None)
        assert handler.calls == ["a", "poll", "binary"]
        assert names == ["text", "poll", "binary"]
        Replay(path).run(batches, speed=None)
        assert [event.name for event in batches.calls] == ["text", "binary"]

    def test_exceptions_of_handlers_are_logged_passed_to_on_error_and_kept(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Failing:
            def __init__(self) -> None:
                self.errors: list[BaseException] = []

            def on_text(self, event: events.Text) -> None:
                raise KeyError(event.text)

            def on_error(self, error: BaseException) -> None:
                self.errors.append(error)

        handler = Failing()
        path = record(tmp_path / "a.jsonl", events.Text("a"), events.Text("b"))
        played = Replay(path).run(handler, speed=None)
        assert [str(error) for error in played.errors] == ["'a'", "'b'"]
        assert played.errors == handler.errors
        assert played.events == 2
        assert "on_text failed" in caplog.text

    def test_an_object_without_handlers_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="has no handlers"):
            Replay(record(tmp_path / "a.jsonl")).run(object())

    def test_an_app_is_refused_because_it_could_not_send(self, tmp_path: Path) -> None:
        path = record(tmp_path / "a.jsonl")
        with pytest.raises(TypeError, match=r"WebSocketApp\('ws://x'\) is an app: .*testing\.recorded"):
            Replay(path).run(WebSocketApp("ws://x"))

    def test_the_servers_messages_come_with_their_seconds(self, tmp_path: Path) -> None:
        binary = b'{"at":2.5,"time":7,"direction":"in","event":"binary","data":"AA=="}'
        sent = b'{"at":3,"time":8,"direction":"out","event":"text","text":"mine"}'
        path = written(tmp_path / "a.jsonl", text_at(0.5, "a"), binary, sent, text_at(4.0, "b"))
        assert list(Replay(path).messages()) == [(0.0, "a"), (2.0, b"\x00"), (3.5, "b")]


class TestPace:
    @pytest.mark.parametrize(
        ("speed", "expected"), [(1, [0, 2, 2.5]), (0.5, [0, 4, 5]), (10, [0, 0.2, 0.25])]
    )
    def test_events_are_played_at_the_original_speed_or_faster_or_slower(
        self, tmp_path: Path, speed: float, expected: list[float]
    ) -> None:
        time, came = Time(), []
        path = written(tmp_path / "a.jsonl", text_at(1.0), text_at(3.0), text_at(3.5))
        Replay(path).run(lambda event: came.append(time.now - 100), speed=speed, clock=time, wait=time.wait)
        assert came == pytest.approx(expected)

    def test_later_events_make_up_for_slow_handlers(self, tmp_path: Path) -> None:
        time, came = Time(), []

        def slow(_event: events.Event) -> None:
            came.append(time.now - 100)
            time.now += 1.5

        path = written(tmp_path / "a.jsonl", text_at(0.0), text_at(1.0), text_at(5.0))
        Replay(path).run(slow, clock=time, wait=time.wait)
        assert came == pytest.approx([0, 1.5, 5])

    def test_without_a_speed_there_are_no_pauses(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.jsonl", text_at(0.0), text_at(1e9))
        played = Replay(path).run(lambda event: None, speed=None, wait=lambda _: pytest.fail("it waited"))
        assert played.events == 2

    def test_a_codec_decodes_the_messages_for_handlers_and_routes(self, tmp_path: Path) -> None:
        class Routed:
            @route(list)
            def note(self, event: events.Text) -> None:
                seen.append(event.json)

        seen: list[object] = []
        path = written(tmp_path / "a.jsonl", text_at(0.0))
        Replay(path).run(Routed(), speed=None, codec=Codec(lambda text: [text], str))
        (event,) = Replay(path)
        assert isinstance(event, events.Text)
        assert seen == [[event.text]]
        with pytest.raises(TypeError, match="codec=5: expected a lochws"):
            Replay(path).run(Routed(), codec=5)  # type: ignore[arg-type]

    @pytest.mark.parametrize(("result", "played"), [(True, 1), (False, 3), (7.0, 3), (None, 3)])
    def test_a_wait_that_returns_true_ends_the_replay(
        self, tmp_path: Path, result: object, played: int
    ) -> None:
        path = written(tmp_path / "a.jsonl", text_at(0.0), text_at(1e9), text_at(2e9))
        assert Replay(path).run(lambda event: None, wait=lambda _: result).events == played

    @pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
    def test_an_invalid_speed_is_refused(self, tmp_path: Path, speed: float) -> None:
        with pytest.raises(ValueError, match="expected a number above 0"):
            Replay(record(tmp_path / "a.jsonl")).run(lambda event: None, speed=speed)

    def test_time_never_goes_back_even_if_the_clock_was_set_back_between_two_runs(
        self, tmp_path: Path
    ) -> None:
        written(tmp_path / "a.1.jsonl", text_at(0.0), text_at(9.0))
        header = json.dumps({"recording": VERSION, "began": 2.0, "at": 0.0}).encode()
        (tmp_path / "a.jsonl").write_bytes(header + b"\n" + text_at(1.0) + b"\n")
        assert [entry.at for entry in Replay(tmp_path / "a.jsonl").entries()] == [0.0, 9.0, 9.0]


class TestErrors:
    """An exception is made again only if that has no other effect, and gives the recorded text."""

    @pytest.mark.parametrize(
        ("fields", "kind"),
        [
            ({"type": "builtins.ConnectionResetError", "text": "[Errno 104] reset", "args": [104, "reset"]},
             ConnectionResetError),
            ({"type": "ssl.SSLEOFError", "text": "('eof',)", "args": ["eof"]}, ssl.SSLEOFError),
            ({"type": "builtins.ValueError", "text": "one", "args": ["another"]}, RecordedError),
            ({"type": "builtins.UnicodeDecodeError", "text": "one", "args": ["too few"]}, RecordedError),
            ({"type": "builtins.SystemExit", "text": "one", "args": ["one"]}, RecordedError),
            ({"type": "builtins.exec", "text": "one", "args": ["print(1)"]}, RecordedError),
            ({"type": "os.system", "text": "one", "args": ["true"]}, RecordedError),
            ({"type": "elsewhere.Error", "text": "one", "args": None}, RecordedError),
        ],
    )
    def test_only_harmless_exceptions_are_made_again(
        self, tmp_path: Path, fields: dict[str, Any], kind: type[Exception]
    ) -> None:
        line = {
            "at": 0, "time": 0, "direction": "in", "event": "connect_fail", "reason": "", "phase": "tcp",
            "address": None, "advice": "", "fatal": False, "timings": {}, "response": None, "error": fields,
        }
        [event] = Replay(written(tmp_path / "a.jsonl", json.dumps(line).encode()))
        assert isinstance(event, events.ConnectFail)
        assert type(event.error) is kind
        assert str(event.error) == fields["text"]
        assert getattr(event.error, "kind", fields["type"]) == fields["type"]

    def test_an_unknown_exception_keeps_its_name_through_several_recordings(self, tmp_path: Path) -> None:
        class Strange(Exception):
            pass

        path = record(tmp_path / "a.jsonl", events.Disconnected(error=Strange(object)))
        [first] = Replay(path)
        [again] = Replay(record(tmp_path / "b.jsonl", first))
        for event in (first, again):
            assert isinstance(event, events.Disconnected)
            assert isinstance(event.error, RecordedError)
            assert event.error.kind.endswith("Strange")


class TestDamage:
    @pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
    def test_a_file_cut_anywhere_is_read_up_to_the_last_whole_line(
        self, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        them = [events.Text("one"), events.Binary(b"two"), events.Text("three")]
        whole = record(tmp_path / name, *them).read_bytes()
        plain = gzip.decompress(whole) if name.endswith(".gz") else whole
        counts, cuts = set(), 0
        logging.getLogger("lochws").setLevel(logging.ERROR)
        try:
            for size in range(len(whole) + 1):
                path = tmp_path / f"cut.{name}"
                path.write_bytes(whole[:size])
                replay = Replay(path)
                found = list(replay)
                assert [event.name for event in found] == ["text", "binary", "text"][:len(found)], size
                counts.add(len(found))
                cuts += bool(replay.cut)
                if name == "a.jsonl":
                    assert bool(replay.cut) == (size > 0 and plain[size - 1:size] != b"\n")
        finally:
            logging.getLogger("lochws").setLevel(logging.NOTSET)
        assert counts >= {0, 3}
        assert cuts

    def test_a_compressed_file_cut_anywhere_yields_everything_that_inflates(self, tmp_path: Path) -> None:
        # A line ends right after the first piece that is inflated, when nothing of the file is left to read.
        for size in range(PIECE_BYTES - 36, PIECE_BYTES - 24):
            deflater = zlib.compressobj(wbits=31)
            lines = b"h" * 30 + b"\n" + b"x" * size + b"\n" + b"y" * 2000
            whole = deflater.compress(lines) + deflater.flush(zlib.Z_SYNC_FLUSH)
            for end in range(80, len(whole)):
                path = tmp_path / "cut.jsonl.gz"
                path.write_bytes(whole[:end])
                inflated = zlib.decompressobj(31).decompress(whole[:end])
                assert len(list(LineReader(path, 1 << 20))) == inflated.count(b"\n"), (size, end)

    def test_a_cut_line_is_reported(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = record(tmp_path / "a.jsonl", events.Text("one"), events.Text("two"))
        path.write_bytes(path.read_bytes()[:-3])
        replay = Replay(path)
        assert len(list(replay)) == 1
        assert replay.cut == [path]
        assert "a.jsonl ends in the middle of line 3" in caplog.text

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            (b"{", "line 3: not valid JSON"),
            (b"\xff", "line 3: not valid JSON"),
            (b"[" * 100_000, "line 3: not valid JSON"),
            (b"[]", "line 3: expected a JSON object, not list"),
            (b"{}", "line 3: 'at' is None: expected a number"),
            (b'{"at":0}', "line 3: 'time' is None"),
            (b'{"at":0,"time":true}', "line 3: 'time' is True"),
            (b'{"at":NaN,"time":0}', "line 3: 'at' is not a time"),
            (b'{"at":-1e10,"time":0}', "line 3: 'at' is not a time"),
            (b'{"at":0,"time":1' + b"0" * 400 + b"}", "line 3: 'time' is not a time"),
            (b'{"at":0,"time":0,"missing":true}', "line 3: 'missing' is True"),
            (b'{"at":0,"time":0,"missing":"x"}', "line 3: 'missing' is 'x'"),
            (b'{"at":0,"time":0,"direction":"up","event":"text"}', "line 3: expected a 'direction'"),
            (b'{"at":0,"time":0,"direction":"in","event":"noise"}', "noise: unknown event 'noise'"),
            (b'{"at":0,"time":0,"direction":"in","event":"text"}', "are all missing"),
            (b'{"at":0,"time":0,"direction":"in","event":"text","data":"AA=="}', "text: 'text' is missing"),
            (b'{"at":0,"time":0,"direction":"in","event":"text","text":1}', "line 3: text: 'text' is 1"),
            (b'{"at":0,"time":0,"direction":"in","event":"binary","data":"AA"}', "line 3: binary: "),
            (b'{"at":0,"time":0,"direction":"in","event":"binary","data":"A*A=="}', "line 3: binary: "),
            (b'{"at":0,"time":0,"direction":"in","event":"binary","data":7}', "7 is not base64"),
            (b'{"at":0,"time":0,"direction":"in","event":"closing","code":1000}', "'reason' is missing"),
            (b'{"at":0,"time":0,"direction":"in","event":"closing","code":"1","reason":""}', "'code' is '1'"),
            (READY_WITHOUT_HEAD, "line 3: ready: 'head'"),
            (DISCONNECTED + b'"counters":{"lies":1},"history":[]}', "'counters' is {'lies': 1}"),
            (DISCONNECTED + b'"counters":{"bytes_sent":"1"},"history":[]}', "'counters' is "),
            (DISCONNECTED + b'"counters":{},"history":[{"time":1}]}', "'history' has {'time': 1}"),
            (DISCONNECTED + b'"counters":{},"history":[1]}', "'history' has 1"),
        ],
    )
    def test_an_invalid_line_is_named(self, tmp_path: Path, line: bytes, words: str) -> None:
        path = written(tmp_path / "a.jsonl", text_at(0.0), line, text_at(1.0))
        with pytest.raises(RecordingError, match=r"a\.jsonl, ") as caught:
            list(Replay(path))
        assert words in str(caught.value)

    @pytest.mark.parametrize(
        "fields",
        [
            {"event": "binary", "length": 100 << 20}, {"event": "binary", "length": -1},
            {"event": "text", "length": True}, {"event": "text", "text": "x", "length": {}},
        ],
        ids=str,
    )
    def test_a_filler_is_no_longer_than_the_longest_line(
        self, tmp_path: Path, fields: dict[str, Any]
    ) -> None:
        line = json.dumps({"at": 0, "time": 0, "direction": "in", **fields}).encode()
        with pytest.raises(RecordingError, match="'length' is "):
            list(Replay(written(tmp_path / "a.jsonl", line), fill=True))

    @pytest.mark.parametrize("name", ["unsent", "in_doubt"])
    def test_neither_are_all_fillers_for_lost_messages_together(self, tmp_path: Path, name: str) -> None:
        lost: dict[str, Any] = {name: ("a", "b")}
        path = record(tmp_path / "a.jsonl", events.Disconnected(**lost), payloads=False)
        path.write_bytes(path.read_bytes().replace(b'"length":1', b'"length":400000000'))
        with pytest.raises(RecordingError, match=f"'{name}' is longer than"):
            list(Replay(path, fill=True))

    def test_a_pause_of_centuries_does_not_overflow(self, tmp_path: Path) -> None:
        waits: list[float] = []
        path = written(tmp_path / "a.jsonl", text_at(0.0), text_at(8e9))
        Replay(path).run(print, speed=1e-9, clock=lambda: 0.0, wait=waits.append)
        assert waits == [1e9]

    @pytest.mark.parametrize(
        "fields",
        [
            {"event": "closing", "text": "x"}, {"event": "binary", "text": "x"}, {"event": "ping"},
            {"event": "close", "code": "x"}, {"event": "close", "code": 1 << 20},
            {"event": "close", "reason": 1},
        ],
    )
    def test_lines_of_what_was_sent_are_checked_too(self, tmp_path: Path, fields: dict[str, Any]) -> None:
        line = json.dumps({"at": 0, "time": 0, "direction": "out", **fields}).encode()
        with pytest.raises(RecordingError, match=r"a\.jsonl, line 2: "):
            list(Replay(written(tmp_path / "a.jsonl", line)).sends())

    @pytest.mark.parametrize(
        ("first", "words"),
        [
            (b'{"recording":2}', "version 2 is unknown"), (b"{}", "there is no header"),
            (b"hello", "not valid JSON"),
        ],
    )
    def test_a_file_that_is_not_a_recording_is_refused(
        self, tmp_path: Path, first: bytes, words: str
    ) -> None:
        path = tmp_path / "a.jsonl"
        path.write_bytes(first + b"\n")
        with pytest.raises(RecordingError, match=words):
            list(Replay(path))

    def test_a_file_that_does_not_inflate_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl.gz"
        path.write_bytes(gzip.compress(HEADER + b"\n" + text_at(0) + b"\n")[:20] + bytes(50))
        with pytest.raises(RecordingError, match="does not inflate"):
            list(Replay(path))

    @pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
    def test_a_line_that_is_too_long_is_refused(self, tmp_path: Path, name: str) -> None:
        path = record(tmp_path / name, events.Text("a"), events.Text("x" * 300_000), events.Text("b"))
        with pytest.raises(RecordingError, match="line 3: it has more than max_line=200000 bytes"):
            list(Replay(path, max_line=200_000))
        assert len(list(Replay(path))) == 3

    @pytest.mark.skipif(sys.platform == "win32", reason="it does not tell how much memory was used")
    @pytest.mark.parametrize(
        ("repeated", "words"),
        [
            (b"x", "it has more than max_line=100663296 bytes"),
            (b"{},", "are outside of strings"),
            (b'"",', "are outside of strings"),
            (b"1,", "are outside of strings"),
        ],
        ids=["too long", "objects", "strings", "numbers"],
    )
    def test_a_small_compressed_file_cannot_take_all_memory(
        self, tmp_path: Path, run: Run, repeated: bytes, words: str
    ) -> None:
        path = tmp_path / "bomb.jsonl.gz"
        megabytes = 200 if repeated == b"x" else 90
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(HEADER + b"\n[")
            for _ in range(megabytes):
                file.write(repeated * (1_000_000 // len(repeated)))
            file.write(b"0]\n")
        assert path.stat().st_size < 2_000_000
        status, output, errors = run(f"""
import resource
from lochws.handlers.replay import Replay
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    list(Replay({str(path)!r}))
except ValueError as error:
    say(str(error))
say((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> (20 if sys.platform == "darwin" else 10))
""", "ws://127.0.0.1:1/").end()
        assert status == 0, errors
        error, grown = output.splitlines()
        assert words in error
        assert int(grown) < 400, "MiB"

    def test_a_message_that_is_json_itself_is_not_too_complex(self, tmp_path: Path) -> None:
        text = json.dumps([{"a": "\\\"x"}] * 500_000)
        path = record(tmp_path / "a.jsonl.gz", events.Text(text), events.Text("\\" * 5_000_001 + '"'))
        assert [len(event.text) for event in Replay(path) if isinstance(event, events.Text)] == [
            len(text), 5_000_002,
        ]

    def test_several_members_of_gzip_are_one_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl.gz"
        path.write_bytes(gzip.compress(HEADER + b"\n") + gzip.compress(text_at(0) + b"\n") * 3)
        assert len(list(Replay(path))) == 3

    def test_a_missing_file_is_reported_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"nothing\.jsonl"):
            Replay(tmp_path / "nothing.jsonl")

    def test_unknown_names_are_ignored(self, tmp_path: Path) -> None:
        line = text_at(0.0)[:-1] + b',"colour":"red"}'
        assert len(list(Replay(written(tmp_path / "a.jsonl", line)))) == 1
