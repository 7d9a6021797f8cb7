"""Scripts made from recordings, for apps that do the same as then, and for others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lochws import WebSocketApp, events
from lochws import testing as t
from lochws.handlers.recorder import Recorder
from lochws.handlers.replay import RecordingError
from lochws.response import Response
from lochws.sent import ControlFrame

from ..support.apps import AT_ONCE
from ..support.seen import Noting


class Asking(Noting):
    """Logs in, answers questions, and closes when told to."""

    name = "Ann"

    def on_ready(self, event: events.Ready) -> None:
        self.send_json(login=self.name)

    def on_text(self, event: events.Text) -> None:
        if event.json == "leave":
            self.close()
        elif event.json == "who?":
            self.send_text(self.name)
            self.send_binary(b"\x01")


def talk(*steps: t.Step) -> list[t.Step]:
    return [t.accept(), t.wait_for(json.dumps({"login": "Ann"})), *steps]


def live(app: WebSocketApp, path: Path | None = None, **options: Any) -> None:
    """Run an app until it has stopped; record it if there is a path."""
    if path is None:
        app.run_forever(**{"persist": False, "ping_rate": 0, **options})
        return
    with Recorder(path) as recorder:
        app.add_handler(recorder)
        live(app, **options)


def check_done(server: t.ScriptedServer) -> None:
    """Check the server, once it has noticed that the app has left."""
    for connection in server.connections:
        connection.wait_over()
    server.check_done()


ENDS = {
    "the client closes": [t.send('"leave"'), t.wait_for_close()],
    "the server closes": [t.close(1001, "later")],
    "it is lost": [t.fin()],
}


@pytest.mark.parametrize("end", ENDS)
def test_the_same_app_sees_the_same_events(tmp_path: Path, end: str) -> None:
    path = tmp_path / "talk.jsonl"
    script = talk(t.send('"who?"'), t.wait_for(b"\x01"), t.ping(b"?"), t.send(b"\x02"), *ENDS[end])
    with t.ScriptedServer(script) as server:
        first = Asking(server.url)
        live(first, path)
    with t.ScriptedServer(*t.recorded(path), afterwards="refuse") as server:
        again = Asking(server.url)
        live(again)
        check_done(server)
    assert again.names("poll", "pong") == first.names("poll", "pong")
    assert server.messages == ['{"login": "Ann"}', "Ann", b"\x01"]
    for event in ("closing", "disconnected"):
        assert [vars_of(one) for one in again.all(event)] == [vars_of(one) for one in first.all(event)]


def vars_of(event: object) -> tuple[object, ...]:
    return tuple(getattr(event, name, None) for name in ("code", "reason", "graceful", "received_code"))


def test_an_app_that_sends_another_message_fails_the_test(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with t.ScriptedServer(talk(t.close())) as server:
        live(Asking(server.url), path)

    class Bob(Asking):
        name = "Bob"

    server = t.ScriptedServer(*t.recorded(path), afterwards="refuse")
    with pytest.raises(t.ScriptError, match=r"recorded message is .*Ann.* but .*Bob.* was sent"), server:
        live(Bob(server.url))
    with t.ScriptedServer(*t.recorded(path, same=lambda recorded, sent: True), afterwards="refuse") as server:
        live(Bob(server.url))
        check_done(server)


def test_each_connection_has_its_script_and_so_has_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    scripts = [
        [t.upgrade(503, {"X-Why": "later"}, "not now")],
        talk(t.fin()),
        talk(t.send('"leave"'), t.wait_for_close()),
    ]
    with t.ScriptedServer(*scripts, afterwards="refuse") as server:
        live(Asking(server.url), path, persist=AT_ONCE)
    made = t.recorded(path)
    assert len(made) == 3
    with t.ScriptedServer(*made, afterwards="refuse") as server:
        again = Asking(server.url)
        live(again, persist=AT_ONCE)
        check_done(server)
    rejected = again.all("rejected")[0]
    assert (rejected.response.status_code, rejected.response.body) == (503, b"not now")
    assert rejected.response.get("x-why") == "later"
    assert len(server.messages) == 2


def test_subprotocol_and_compression_are_agreed_on_again(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    options: dict[str, Any] = {"protocols": ["chat"], "compress": True}
    with t.ScriptedServer([t.accept(protocol="chat", deflate=True), t.close()]) as server:
        live(Noting(server.url, **options), path)
    with t.ScriptedServer(*t.recorded(path)) as server:
        again = Noting(server.url, **options)
        live(again)
    ready = again.all("ready")[0]
    assert (ready.protocol, ready.extensions) == ("chat", {"permessage-deflate"})


def test_pauses_are_those_of_the_recording_if_wanted(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    ready, first, last = events.Ready(Response(b""), None, set()), events.Text("a"), events.Text("c")
    ready.received_time, first.received_time = 1.0, 4.0
    with Recorder(path) as recorder:
        recorder.on_event(ready)
        recorder.on_event(first)
        recorder.on_sent(("b",))
        recorder.on_event(last)
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    for number, time in ((2, 4.5), (3, 9.0)):
        lines[number] = re.sub('"time":[0-9.]+', f'"time":{time}', lines[number])
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    shown = [repr(step) for step in t.recorded(path, speed=2)[0]]
    assert shown == ["accept()", "pause(1.5)", "send('a')", "next_message('b')", "pause(2.25)", "send('c')"]
    assert "pause" not in repr(t.recorded(path))


def test_messages_that_crossed_the_clients_close_frame_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with Recorder(path) as recorder:
        for _ in range(2):
            recorder.on_event(events.Ready(Response(b""), None, set()))
            recorder.on_sent((ControlFrame("close", b"\x03\xe8"),))
            recorder.on_event(events.Text("crossed it"))
            recorder.on_event(events.Closed(1000, ""))
            recorder.on_event(events.Disconnected(graceful=True, received_code=1000, sent_code=1000))
    assert repr(t.recorded(path)) == "[[accept(), wait_for_close()], [accept(), wait_for_close()]]"


def test_an_answer_recorded_before_its_event_is_put_in_order(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with Recorder(path) as recorder:
        recorder.on_event(events.Ready(Response(b""), None, set()))
        question = events.Text("question")
        recorder.on_sent(("answer",))
        recorder.on_event(question)
    shown = [repr(step) for step in t.recorded(path)[0]]
    assert shown == ["accept()", "send('question')", "next_message('answer')"]


def test_events_and_sent_items_keep_their_order_if_the_clock_is_set_back(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with Recorder(path) as recorder:
        recorder.on_event(events.Ready(Response(b""), None, set()))
        for number in range(3):
            event = events.Text(f"question {number}")
            event.received_time -= number  # the seconds of the wall clock
            recorder.on_event(event)
        for number in range(3):
            recorder.on_sent((f"answer {number}",))
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines[4:]):
        fields = json.loads(line)
        lines[4 + number] = json.dumps({**fields, "time": fields["time"] - number / 2})
    path.write_text("\n".join([first, *lines, ""]), encoding="utf-8")
    shown = [repr(step) for step in t.recorded(path)[0]]
    assert shown == [
        "accept()", "send('question 0')", "send('question 1')", "send('question 2')",
        "next_message('answer 0')", "next_message('answer 1')", "next_message('answer 2')",
    ]


def test_a_recording_that_lacks_something_makes_no_script(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_text('{"recording":1,"began":0}\n{"at":0,"time":0,"missing":3}\n', encoding="utf-8")
    with pytest.raises(RecordingError, match="line 2: 3 events and sends are missing"):
        t.recorded(path)


@pytest.mark.parametrize("speed", [0, -1.0, float("nan")])
def test_a_speed_that_is_not_above_0_is_refused(tmp_path: Path, speed: float) -> None:
    with pytest.raises(ValueError, match="expected a number above 0"):
        t.recorded(tmp_path / "talk.jsonl", speed=speed)
