"""The events: Lomond's names, attributes and reprs (contract section 4), and what lochws adds."""

from __future__ import annotations

import json
import pickle
import time
from typing import Any

import pytest

from lochws import events
from lochws.dispatch.naming import CLASSES
from lochws.response import Response

RESPONSE = Response(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
SHOWN = "Response(HTTP/1.1 101 Switching Protocols)"
#: What an outcome says about itself if nobody gave it more.
ABOUT: dict[str, Any] = {"address": None, "advice": "", "timings": {}}

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
        f"Rejected({SHOWN}, 'not today')",
    ),
    (
        events.Ready(RESPONSE, None, set()), "ready",
        {"response": RESPONSE, "protocol": None, "extensions": set(), "address": None, "timings": {}},
        f"Ready({SHOWN}, protocol=None, extensions=set())",
    ),
    (
        events.Ready(RESPONSE, "chat", {"permessage-deflate"}, address="1.2.3.4:80", timings={"tcp": 1.5}),
        "ready",
        {
            "response": RESPONSE, "protocol": "chat", "extensions": {"permessage-deflate"},
            "address": "1.2.3.4:80", "timings": {"tcp": 1.5},
        },
        f"Ready({SHOWN}, protocol='chat', extensions={{'permessage-deflate'}})",
    ),
    (events.Poll(), "poll", {}, "Poll()"),
    (events.Text("hello"), "text", {"text": "hello"}, "Text('hello')"),
    (events.Text("x" * 25), "text", {"text": "x" * 25}, f"Text({'x' * 24!r} + 1 chars)"),
    (events.Binary(b"\x00\x01"), "binary", {"data": b"\x00\x01"}, "Binary(b'\\x00\\x01')"),
    (events.Binary(b"x" * 30), "binary", {"data": b"x" * 30}, f"Binary({b'x' * 24!r} + 6 bytes)"),
    (events.Ping(b"a"), "ping", {"data": b"a"}, "Ping(b'a')"),
    (events.Pong(b"a", 0.5), "pong", {"data": b"a", "latency": 0.5}, "Pong(b'a')"),
    (
        events.ProtocolError("bad {frame}", critical=False), "protocol_error",
        {"error": "bad {frame}", "critical": False}, "ProtocolError('bad {frame}', critical=False)",
    ),
    (events.Unresponsive(), "unresponsive", {}, "Unresponsive()"),
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
            "sent_code": None, "received_code": None, "error": None, "unsent": (), **ABOUT,
        },
        "Disconnected(reason='closed', graceful=False)",
    ),
    (
        events.Disconnected("gone", True, unsent=("secret", b"x")), "disconnected",
        {
            "reason": "gone", "graceful": True, "phase": "open", "ended_by": "network",
            "sent_code": None, "received_code": None, "error": None, "unsent": ("secret", b"x"), **ABOUT,
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
    assert {slot: getattr(event, slot) for slot in _slots(event) if slot != "_json"} == attributes
    assert repr(event) == shown


def _slots(event: events.Event) -> set[str]:
    slots = {slot for kind in type(event).__mro__ for slot in getattr(kind, "__slots__", ())}
    return slots - {"received_time"}


def test_the_rows_are_all_events_there_are() -> None:
    assert {type(row[0]).__name__ for row in ROWS} | {"Event"} == set(events.__all__)
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

    def test_text_that_is_no_json_raises_each_time(self) -> None:
        event = events.Text("{nonsense")
        for _ in range(2):
            with pytest.raises(json.JSONDecodeError):
                _ = event.json

    def test_json_that_is_nested_too_deep_is_a_value_error_and_names_itself(self) -> None:
        event = events.Text("[" * 200_000)
        with pytest.raises(ValueError, match=r"nested too deep for Python here: Text\(.* chars\)"):
            _ = event.json


def test_both_closing_events_are_told_apart_by_class() -> None:
    assert not isinstance(events.Closing(None, ""), events.Closed)
    assert not isinstance(events.Closed(None, ""), events.Closing)
