"""The events: Lomond's names, attributes and reprs (contract section 4), and what lochws adds."""

from __future__ import annotations

import json
import pickle
import time
from typing import Any

import pytest

from lochws import Counters, events
from lochws.dispatch.naming import CLASSES
from lochws.handlers._parts.recording_lines import _NOT_RECORDED as NO_SOURCE
from lochws.response import Response

RESPONSE = Response(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
SHOWN = "<response HTTP/1.1 101 Switching Protocols>"
#: The attributes that events about endings have by default.
ABOUT: dict[str, Any] = {"address": None, "fatal": False, "advice": "", "timings": {}}
#: The attributes of the Ready of a first connection, and of a Disconnected without one.
FIRST: dict[str, Any] = {"attempt": 1, "is_reconnect": False, "outage": None, "last_message_at": None}
UNOPENED: dict[str, Any] = {"opened_for": None, "counters": Counters(), "history": ()}

#: An event, its name, its attributes without the time, its repr. One row for each class.
ROWS: list[tuple[events.Event, str, dict[str, Any], str]] = [
    (
        events.Connecting("ws://host/"), "connecting",
        {"url": "ws://host/"}, "Connecting(url='ws://host/')",
    ),
    (
        events.ConnectFail("no luck"), "connect_fail",
        {"reason": "no luck", "phase": "tcp", "error": None, **ABOUT, "response": None},
        "ConnectFail(reason='no luck')",
    ),
    (
        events.Connected("ws://host/"), "connected",
        {"url": "ws://host/", "proxy": None}, "Connected(url='ws://host/')",
    ),
    (
        events.Connected("ws://host/", "http://proxy:80"), "connected",
        {"url": "ws://host/", "proxy": "http://proxy:80"},
        "Connected(url='ws://host/', proxy='http://proxy:80')",
    ),
    (
        events.Rejected(RESPONSE, "not today"), "rejected",
        {"response": RESPONSE, "reason": "not today", "phase": "upgrade", "error": None, **ABOUT},
        f"Rejected(response={SHOWN}, reason='not today')",
    ),
    (
        events.Ready(RESPONSE, None, set()), "ready",
        {
            "response": RESPONSE, "protocol": None, "extensions": set(), "address": None, "timings": {},
            **FIRST,
        },
        f"Ready(response={SHOWN}, protocol=None, extensions=set())",
    ),
    (
        events.Ready(RESPONSE, "chat", {"permessage-deflate"}, address="1.2.3.4:80", timings={"tcp": 1.5}),
        "ready",
        {
            "response": RESPONSE, "protocol": "chat", "extensions": {"permessage-deflate"},
            "address": "1.2.3.4:80", "timings": {"tcp": 1.5}, **FIRST,
        },
        f"Ready(response={SHOWN}, protocol='chat', extensions={{'permessage-deflate'}})",
    ),
    (events.Poll(), "poll", {}, "Poll()"),
    (events.Text("hello"), "text", {"text": "hello"}, "Text(text='hello')"),
    (events.Text("x" * 25), "text", {"text": "x" * 25}, f"Text(text={'x' * 24!r} + 1 chars)"),
    (events.Binary(b"\x00\x01"), "binary", {"data": b"\x00\x01"}, "Binary(data=b'\\x00\\x01')"),
    (events.Binary(b"x" * 30), "binary", {"data": b"x" * 30}, f"Binary(data={b'x' * 24!r} + 6 bytes)"),
    (events.Stream(True, NO_SOURCE), "stream", {"is_text": True}, "Stream(is_text=True)"),
    (events.Ping(b"a"), "ping", {"data": b"a"}, "Ping(data=b'a')"),
    (events.Pong(b"a", 0.5), "pong", {"data": b"a", "latency": 0.5}, "Pong(data=b'a')"),
    (
        events.ProtocolError("bad {frame}", critical=False), "protocol_error",
        {"error": "bad {frame}", "critical": False}, "ProtocolError(error='bad {frame}', critical=False)",
    ),
    (events.Unresponsive(), "unresponsive", {}, "Unresponsive()"),
    (
        events.Stale(90.04, None), "stale",
        {"seconds": 90.04, "last_message_at": None}, "Stale(seconds=90.0, last_message_at=None)",
    ),
    (
        events.Closing(1001, "away"), "closing",
        {"code": 1001, "reason": "away"}, "Closing(code=1001, reason='away')",
    ),
    (
        events.Closed(None, ""), "closed",
        {"code": None, "reason": ""}, "Closed(code=None, reason='')",
    ),
    (
        events.Disconnected(), "disconnected",
        {
            "reason": "closed", "graceful": False, "phase": "open", "ended_by": "network",
            "sent_code": None, "received_code": None, "received_reason": "", "error": None, "unsent": (),
            "in_doubt": (), "in_doubt_omitted": 0,
            **ABOUT, **UNOPENED,
        },
        "Disconnected(reason='closed', graceful=False)",
    ),
    (
        events.Disconnected("gone", True, unsent=("secret", b"x")), "disconnected",
        {
            "reason": "gone", "graceful": True, "phase": "open", "ended_by": "network",
            "sent_code": None, "received_code": None, "received_reason": "", "error": None,
            "unsent": ("secret", b"x"), "in_doubt": (), "in_doubt_omitted": 0, **ABOUT, **UNOPENED,
        },
        "Disconnected(reason='gone', graceful=True, unsent=2)",
    ),
    (events.BackOff(2.54), "back_off", {"delay": 2.54}, "BackOff(delay=2.5)"),
    (events.UnknownMessage("?"), "unknown", {"message": "?"}, "UnknownMessage()"),
]


@pytest.mark.parametrize(("event", "name", "attributes", "shown"), ROWS, ids=lambda row: None)
def test_an_event_has_lomonds_name_attributes_and_repr(
    event: events.Event, name: str, attributes: dict[str, Any], shown: str
) -> None:
    assert event.name == name
    assert {slot: getattr(event, slot) for slot in _slots(event) if slot[0] != "_"} == attributes
    assert repr(event) == shown


def _slots(event: events.Event) -> set[str]:
    slots = {slot for kind in type(event).__mro__ for slot in getattr(kind, "__slots__", ())}
    return slots - {"received_time"}


def test_the_rows_cover_every_event() -> None:
    others = {"Event", "AnyEvent", "EndedBy", "HistoryEntry"}
    assert {type(row[0]).__name__ for row in ROWS} | others == set(events.__all__)
    assert {row[1] for row in ROWS} - {"unknown"} == set(CLASSES)


@pytest.mark.parametrize("event", [row[0] for row in ROWS], ids=lambda event: event.name)
def test_the_time_is_that_of_the_wall_clock(event: events.Event) -> None:
    assert 0 <= time.time() - event.received_time < 3600


@pytest.mark.parametrize("event", [row[0] for row in ROWS], ids=lambda event: event.name)
def test_there_is_no_room_for_misspelt_attributes(event: events.Event) -> None:
    with pytest.raises(AttributeError):
        event.recieved_time = 0.0  # type: ignore[attr-defined]


@pytest.mark.parametrize("event", [row[0] for row in ROWS], ids=lambda event: event.name)
def test_an_event_may_be_sent_to_another_process(event: events.Event) -> None:
    copy = pickle.loads(pickle.dumps(event))
    assert type(copy) is type(event)
    slots = sorted({*_slots(event), "received_time"} - {"_json", "response"})
    assert [getattr(copy, slot) for slot in slots] == [getattr(event, slot) for slot in slots]
    assert repr(copy) == repr(event), "of the response too"


def test_the_base_has_no_name_as_in_lomond() -> None:
    assert not hasattr(events.Event, "name")


class TestJSON:
    """`Text.json`."""

    def test_the_text_is_parsed_once(self) -> None:
        event = events.Text('{"a": [1, null]}')
        assert event.json == {"a": [1, None]}
        assert event.json is event.json

    def test_null_is_none_and_kept_too(self) -> None:
        event = events.Text("null")
        assert event.json is None
        event.text = "never parsed"
        assert event.json is None

    def test_text_that_is_not_json_raises_each_time(self) -> None:
        event = events.Text("{nonsense")
        for _ in range(2):
            with pytest.raises(json.JSONDecodeError):
                _ = event.json

    def test_json_that_is_nested_too_deeply_raises_a_value_error_with_its_beginning(self) -> None:
        event = events.Text("[" * 200_000)
        with pytest.raises(ValueError, match=r"nested too deeply for Python here: Text\(.* chars\)"):
            _ = event.json


def test_both_closing_events_are_told_apart_by_class() -> None:
    assert not isinstance(events.Closing(None, ""), events.Closed)
    assert not isinstance(events.Closed(None, ""), events.Closing)


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (
            events.Disconnected(
                "closed", True, ended_by="server", received_code=4000, received_reason="go away: quota"
            ),
            'the server closed the connection: 4000 "go away: quota"',
        ),
        (
            events.Disconnected("closed", True, ended_by="server", received_code=1000),
            "the server closed the connection: 1000",
        ),
        (events.Disconnected("closed", True, ended_by="server"), "the server closed the connection"),
        (
            events.Disconnected("closed", True, ended_by="client", sent_code=1000, received_code=1000),
            "we closed the connection: 1000",
        ),
        (events.Disconnected("closed", True, ended_by="client"), "we closed the connection"),
        (
            events.Disconnected("connection lost: reset by the server", unsent=("a", b"b")),
            "connection lost: reset by the server; messages not sent: 2",
        ),
        (
            events.Disconnected("no room", ended_by="server", received_code=1001, received_reason="restart"),
            'no room; the server\'s Close frame: 1001 "restart"',
        ),
        (
            events.Disconnected("upgrade refused: 404 Not Found", phase="upgrade", advice="Check the path."),
            "upgrade refused: 404 Not Found (Check the path.)",
        ),
        (events.ConnectFail("no such host", phase="resolve", advice="Check it."), "no such host (Check it.)"),
        (events.ConnectFail("no such host"), "no such host"),
        (events.Rejected(RESPONSE, "not today"), "not today"),
        (events.Text("x"), "Text(text='x')"),
    ],
)
def test_the_str_of_an_ending_is_one_line_for_people(event: events.Event, shown: str) -> None:
    assert str(event) == shown


def test_the_str_of_an_ending_escapes_what_the_server_says() -> None:
    reason = "\x1b[2J\nfine \u202e"
    event = events.Disconnected("closed", True, ended_by="server", received_code=4000, received_reason=reason)
    assert str(event) == r'the server closed the connection: 4000 "\x1b[2J\nfine \u202e"'


def test_a_repr_escapes_quotes_and_control_characters() -> None:
    assert repr(events.Closing(4000, "it's\x1b[2J\n")) == r"""Closing(code=4000, reason="it's\x1b[2J\n")"""


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        (events.HistoryEntry(0.25, "", "ready"), "ready"),
        (events.HistoryEntry(0.25, "sent", "ping", 1, 10), "sent ping, 10 bytes"),
        (events.HistoryEntry(0.25, "received", "ping", 3, 30), "received 3 ping, 30 bytes"),
        (events.HistoryEntry(0.25, "received", "messages", 1, 7), "received 1 message, 7 bytes"),
        (
            events.HistoryEntry(0.25, "received", "messages", 1203, 150_000),
            "received 1,203 messages, 150,000 bytes",
        ),
        (events.HistoryEntry(0.25, "received", "close", 1, 6, 1001), "received close 1001, 6 bytes"),
    ],
)
def test_an_entry_of_a_history_is_one_line(entry: events.HistoryEntry, shown: str) -> None:
    clock, _, rest = str(entry).partition(" ")
    assert rest == shown
    assert clock.endswith(":00.250")
