"""`trace`: records of what happens inside, which change nothing of it (contract section 16 and Q41)."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from lochws import WebSocket

from ..support.peer import BINARY, PING, PONG, TEXT, Link, StartPeer
from ..support.scripts import answer_close
from ..support.seen import Noting, await_reports


def talkative(link: Link) -> None:
    """Say something of each kind, then wait to be closed."""
    link.accept("Sec-WebSocket-Protocol: chat")
    for opcode, payload in ((TEXT, "\xe9".encode()), (BINARY, b"abc"), (PING, b"a"), (PONG, b"bc")):
        link.send_frame(opcode, payload)
    answer_close(link)


def live(url: str, trace: Any) -> None:
    """A life in which everything is sent once."""
    ws = WebSocket(url, protocols=["chat"], trace=trace)
    for event in ws.connect(ping_rate=0):
        if event.name == "ready":
            ws.send_text("\xe9")
            ws.send_binary(b"abcd", compress=False)
            ws.send_ping(b"x")
            ws.send_pong(b"xy")
        elif event.name == "pong":
            ws.close(1001, "enough")


def test_each_stage_has_lomonds_fields(start_peer: StartPeer) -> None:
    records: list[dict[str, Any]] = []
    live(start_peer(talkative).url, records.append)
    common = {"stage", "url", "time", "thread", "connection"}
    stages = {
        record["stage"]: {key: value for key, value in record.items() if key not in common}
        for record in records if record["stage"] != "socket_recv"
    }
    assert stages == {
        "handshake_ready": {"protocol": "chat", "extensions": []},
        "send_text": {"length": 2, "compressed": True},
        "send_binary": {"length": 4, "compressed": False},
        "send_ping": {"length": 1},
        "send_pong": {"length": 2},
        "message_text": {"length": 1},
        "message_binary": {"length": 3},
        "message_ping": {"length": 1},
        "message_pong": {"length": 2},
        "close_requested": {"code": 1001, "reason": "enough"},
        "message_close": {"code": 1001, "reason": "enough"},
        "disconnected": {"reason": "closed", "graceful": True},
    }
    assert sum(record["length"] for record in records if record["stage"] == "socket_recv") > 0


def test_every_record_says_where_when_in_which_thread_and_on_which_connection(
    start_peer: StartPeer,
) -> None:
    records: list[dict[str, Any]] = []
    url = start_peer(talkative).url
    for _ in range(2):
        live(url, records.append)
    assert {record["url"] for record in records} == {url}
    assert {record["thread"] for record in records} == {threading.current_thread().name}
    assert len({record["connection"] for record in records}) == 2
    times = [record["time"] for record in records]
    assert times == sorted(times)


def test_an_apps_records_say_where_too(start_peer: StartPeer) -> None:
    records: list[dict[str, Any]] = []
    app = Noting(start_peer(talkative).url, protocols=["chat"], trace=records.append)
    app.on("pong")(lambda event: app.close())
    app.run_forever(persist=False)
    assert {record["url"] for record in records} == {app.url}


def test_a_lost_connection_is_traced_too(start_peer: StartPeer) -> None:
    records: list[dict[str, Any]] = []
    list(WebSocket(start_peer(lambda link: (link.accept(), link.reset())).url, trace=records.append))
    assert records[-1]["stage"] == "disconnected"
    assert not records[-1]["graceful"]


def test_true_is_the_debug_log(start_peer: StartPeer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "lochws"):
        live(start_peer(talkative).url, trace=True)
    assert "'stage': 'message_text'" in caplog.text


@pytest.mark.parametrize("trace", [None, False])
def test_none_and_false_are_no_trace(
    trace: Any, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "lochws"):
        live(start_peer(talkative).url, trace)
    assert "stage" not in caplog.text


@pytest.mark.parametrize("error", [LookupError, SystemExit])
def test_what_the_function_raises_is_logged_and_changes_nothing(
    error: type[BaseException], start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    """In Lomond it turned a good send into TransportFail (Q41)."""
    def trace(record: dict[str, Any]) -> None:
        raise error

    app = Noting(start_peer(talkative).url, protocols=["chat"], trace=trace)
    app.on("ready")(lambda event: app.send_text("x"))
    app.on("pong")(lambda event: app.close())
    last: Any = app.run_forever(ping_rate=0, persist=False)
    assert last.graceful
    assert app.names("poll") == [
        "connecting", "connected", "ready", "text", "binary", "ping", "pong", "closed", "disconnected",
    ]
    await_reports()
    assert "the trace function failed on 'send_text'" in caplog.text


def test_one_that_raises_each_time_does_not_flood_the_log(
    start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    def trace(record: dict[str, Any]) -> None:
        raise ValueError

    app = Noting(start_peer(talkative).url, protocols=["chat"], trace=trace)
    app.on("ready")(lambda event: [app.send_text("x") for _ in range(90)])
    app.on("pong")(lambda event: app.close())
    app.run_forever(ping_rate=0, persist=False)
    await_reports()
    assert 0 < len(caplog.records) < 60


def test_the_function_may_send_and_close(start_peer: StartPeer) -> None:
    """No lock is held while it runs."""
    stages: list[str] = []

    def trace(record: dict[str, Any]) -> None:
        stages.append(record["stage"])
        if record["stage"] == "message_text":
            app.send_text("from the trace")
            app.close()

    app = Noting(start_peer(talkative).url, protocols=["chat"], trace=trace)
    last: Any = app.run_forever(ping_rate=0, persist=False)
    assert last.graceful
    assert stages.count("send_text") == 1
