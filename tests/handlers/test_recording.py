"""Recorder and Replay together: what was recorded comes back unchanged."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lochws import Counters, WebSocketApp, errors, events
from lochws.dispatch.naming import CLASSES
from lochws.handlers._parts.recording_lines import _NOT_RECORDED as NO_SOURCE
from lochws.handlers._parts.recording_lines import fields_of
from lochws.handlers.recorder import Recorder
from lochws.handlers.replay import Replay
from lochws.response import Response
from lochws.sent import ControlFrame, Sent

from ..support.apps import AT_ONCE, echo, opened, running
from ..support.peer import CLOSE, PING, Link, StartPeer
from ..support.seen import PATIENCE, Noting, in_thread
from ..support.traffic import Listener, chatter

_ANY_TEXT = st.text(st.characters(), max_size=40)
_DATA = st.binary(max_size=40)
_MESSAGES = st.lists(_ANY_TEXT | _DATA, max_size=3).map(tuple)
_CODES = st.none() | st.integers(1000, 4999)
_HEADS = st.just(b"HTTP/1.1 101 Switching Protocols\r\nX: \xff\xe9 y\r\n\r\n")
_RESPONSES = st.builds(Response, _HEADS, _DATA)
_ERRORS: st.SearchStrategy[BaseException | None] = st.none() | st.one_of(
    st.just(ConnectionRefusedError(111, "Connection refused")), st.builds(ValueError, _ANY_TEXT),
    st.builds(errors.TransportFail, _ANY_TEXT),
)
_ABOUT: dict[str, Any] = {
    "reason": _ANY_TEXT, "phase": _ANY_TEXT, "address": st.none() | _ANY_TEXT, "error": _ERRORS,
    "advice": _ANY_TEXT, "timings": st.dictionaries(_ANY_TEXT, st.floats(0, 100)),
}
_ENTRIES = st.builds(
    events.HistoryEntry, st.floats(0, 2e9), st.sampled_from(["sent", "received", ""]),
    st.sampled_from(["ready", "ping", "close", "messages"]), st.integers(0), st.integers(0), _CODES,
)
#: Any event of each class.
EVENTS: dict[type[events.Event], st.SearchStrategy[Any]] = {
    events.Connecting: st.builds(events.Connecting, _ANY_TEXT),
    events.ConnectFail: st.builds(events.ConnectFail, response=st.none() | _RESPONSES, **_ABOUT),
    events.Connected: st.builds(events.Connected, _ANY_TEXT, st.none() | _ANY_TEXT),
    events.Rejected: st.builds(events.Rejected, response=_RESPONSES, **_ABOUT),
    events.Ready: st.builds(
        events.Ready, _RESPONSES, st.none() | _ANY_TEXT, st.sets(_ANY_TEXT), attempt=st.integers(1, 1000),
        is_reconnect=st.booleans(), outage=st.none() | st.floats(0, 1e6),
        last_message_at=st.none() | st.floats(0, 2e9),
    ),
    events.Poll: st.builds(events.Poll),
    events.Text: st.builds(events.Text, _ANY_TEXT),
    events.Binary: st.builds(events.Binary, _DATA),
    events.Stream: st.builds(events.Stream, st.booleans(), st.just(NO_SOURCE)),
    events.Ping: st.builds(events.Ping, _DATA),
    events.Pong: st.builds(events.Pong, _DATA, st.none() | st.floats(0, 10)),
    events.ProtocolError: st.builds(events.ProtocolError, _ANY_TEXT, st.booleans()),
    events.Unresponsive: st.builds(events.Unresponsive),
    events.Stale: st.builds(events.Stale, st.floats(0, 1e6), st.none() | st.floats(0, 2e9)),
    events.Closing: st.builds(events.Closing, _CODES, _ANY_TEXT),
    events.Closed: st.builds(events.Closed, _CODES, _ANY_TEXT),
    events.Disconnected: st.builds(
        events.Disconnected, graceful=st.booleans(), ended_by=_ANY_TEXT, sent_code=_CODES,
        received_code=_CODES, unsent=_MESSAGES, in_doubt=_MESSAGES, in_doubt_omitted=st.integers(0),
        opened_for=st.none() | st.floats(0, 1e6), counters=st.builds(Counters, *[st.integers(0)] * 6),
        history=st.lists(_ENTRIES, max_size=3).map(tuple), **_ABOUT,
    ),
    events.BackOff: st.builds(events.BackOff, st.floats(0, 1000)),
}
_SENT = st.one_of(
    _ANY_TEXT, _DATA, st.builds(ControlFrame, st.sampled_from(["ping", "pong"]), _DATA),
    st.builds(lambda reason: ControlFrame("close", b"\x03\xe8" + reason.encode()), st.text(max_size=20)),
    st.just(ControlFrame("close", b"")),
)


def told(event: events.Event) -> dict[str, Any]:
    """Return all attributes of an event, so that two events can be compared."""
    values = {name: getattr(event, name) for name in fields_of(type(event))}
    for name, value in values.items():
        if isinstance(value, Response):
            values[name] = (value.raw, value.body, value.headers)
        if isinstance(value, BaseException):
            values[name] = (type(value), str(value), value.args)
    return {"class": type(event), "time": event.received_time, **values}


def record(path: Path, *what: events.Event | tuple[Sent, ...], **options: Any) -> Path:
    """Record events and sends, and return the path."""
    with Recorder(path, **options) as recorder:
        for one in what:
            if isinstance(one, tuple):
                recorder.on_sent(one)
            else:
                recorder.on_event(one)
    return path


class TestWhatComesBack:
    def test_every_event_class_is_covered(self) -> None:
        assert set(EVENTS) == set(CLASSES.values())

    @given(st.lists(st.one_of(*EVENTS.values()), max_size=20), st.sampled_from(["a.jsonl", "a.jsonl.gz"]))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
    def test_any_events_come_back_equal(self, tmp_path: Path, them: list[events.Event], name: str) -> None:
        path = record(tmp_path / name, *them, secrets=True)
        assert [told(event) for event in Replay(path)] == [told(event) for event in them]
        path.unlink()

    @given(st.lists(st.lists(_SENT, min_size=1).map(tuple), max_size=10))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
    def test_what_is_sent_comes_back_equal(self, tmp_path: Path, batches: list[tuple[Sent, ...]]) -> None:
        path = record(tmp_path / "a.jsonl", *batches)
        assert list(Replay(path).sends()) == [one for batch in batches for one in batch]
        path.unlink()

    def test_a_whole_connection_is_recorded_and_replayed(
        self, tmp_path: Path, start_peer: StartPeer
    ) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(PING, b"?")
            link.read_frame()
            link.send_frame(CLOSE, b"\x03\xe8bye")
            link.read_frame()

        with Recorder(tmp_path / "life.jsonl") as recorder:
            app = Noting(start_peer(script).url)
            app.add_handler(recorder)
            app.run_forever(persist=False)
        seen: list[events.Event] = []
        played = Replay(recorder.path).run(seen.append, speed=None)
        assert [told(event) for event in seen] == [told(event) for event in app.events]
        assert played.events == len(seen)
        assert not played.errors
        assert ControlFrame("pong", b"?") in list(Replay(recorder.path).sends())

    def test_messages_of_fifty_threads_are_recorded_in_the_order_the_server_receives_them(
        self, tmp_path: Path, start_peer: StartPeer, restless: None
    ) -> None:
        listener = Listener()
        with Recorder(tmp_path / "many.jsonl") as recorder:
            app = WebSocketApp(start_peer(listener).url)
            app.add_handler(recorder)
            with opened(app, ping_rate=0):
                threads = [in_thread(lambda number=number: chatter(app, number)) for number in range(50)]
                for thread in threads:
                    thread.join()
        assert list(Replay(recorder.path).sends()) == listener.heard

    def test_a_question_is_recorded_before_its_answer(self, tmp_path: Path, start_peer: StartPeer) -> None:
        came = threading.Semaphore(0)
        with Recorder(tmp_path / "talk.jsonl") as recorder:
            app = WebSocketApp(start_peer(echo).url)
            app.add_handler(recorder)  # before the handler that sends, so that it sees each event first
            app.on("text")(lambda event: came.release())
            with opened(app):
                for number in range(50):
                    app.send_text(str(number))
                    assert came.acquire(timeout=PATIENCE)
        words = [(entry.direction, entry.fields["text"]) for entry in Replay(recorder.path).entries()
                 if entry.event == "text"]
        assert words == [(direction, str(number)) for number in range(50) for direction in ("out", "in")]

    def test_reconnects_are_recorded(self, tmp_path: Path, start_peer: StartPeer) -> None:
        with Recorder(tmp_path / "again.jsonl") as recorder:
            app = Noting(start_peer(lambda link: link.accept()).url)
            app.add_handler(recorder)
            with running(app, persist=AT_ONCE):
                app.wait_for("disconnected", 3)
        names = [event.name for event in Replay(recorder.path)]
        assert names.count("disconnected") >= 3
        assert "back_off" in names


class TestFormat:
    def test_the_lines_match_the_documentation(self, tmp_path: Path) -> None:
        now = iter([10.0, 10.0, 10.5, 11.25, 12.0, 13.0, 14.0])
        text, binary = events.Text("grün"), events.Binary(b"\x00\xff")
        text.received_time, binary.received_time = 1.5, 2.5
        recorder = Recorder(tmp_path / "a.jsonl", clock=lambda: next(now))
        recorder.on_event(text)
        recorder.on_event(binary)
        recorder.on_sent((ControlFrame("close", b"\x03\xe9"),))
        recorder.close()
        header, *lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
        assert lines[:2] == [
            '{"at":0.500000,"time":1.5,"direction":"in","event":"text","text":"grün"}',
            '{"at":1.25,"time":2.5,"direction":"in","event":"binary","data":"AP8="}',
        ]
        close = json.loads(lines[2])
        del close["time"]
        assert close == {"at": 2.0, "direction": "out", "event": "close", "code": 1001, "reason": ""}
        assert json.loads(header)["recording"] == 1

    def test_compressed_files_are_gzip(self, tmp_path: Path) -> None:
        path = record(tmp_path / "a.jsonl.gz", events.Poll())
        assert b'"event":"poll"' in gzip.decompress(path.read_bytes())

    def test_compression_does_not_depend_on_the_name(self, tmp_path: Path) -> None:
        path = record(tmp_path / "a", events.Poll(), compress="gzip")
        assert path.read_bytes().startswith(b"\x1f\x8b")
        assert [event.name for event in Replay(path)] == ["poll"]
