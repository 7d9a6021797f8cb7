"""The flight recorder: what it keeps of a connection, how much at most, and that it keeps no payload."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import pytest

from lochws import Counters, WebSocket, WebSocketApp, events
from lochws import testing as t
from lochws.connection.history import ENTRIES, History, Taps
from lochws.sent import ControlFrame
from lochws.testing import StartServer, VirtualClock

from ..support.apps import opened
from ..support.seen import Noting

SECRET = "s3cr3t"


class Noted:
    """A history without entries for messages, or with; the test sets the counts and the time."""

    def __init__(self, messages: int = 0) -> None:
        self.counts = (0, 0, 0, 0)
        self.now = 1000.0
        self.history = History(messages, self, lambda: self.now)

    @property
    def lines(self) -> list[tuple[Any, ...]]:
        """The entries without their time."""
        return [astuple(entry)[1:] for entry in self.history.taken()]


class TestCounting:
    def test_messages_are_counted_between_two_other_entries(self) -> None:
        noted = Noted()
        noted.history.happened("ready")
        noted.counts = (10, 1020, 1, 9)
        noted.history.frames("sent", "ping", size=4)
        noted.counts = (12, 1100, 1, 15)
        assert noted.lines == [
            ("", "ready", 1, 0, None),
            ("received", "messages", 10, 1020, None),
            ("sent", "messages", 1, 9, None),
            ("sent", "ping", 1, 4, None),
            ("received", "messages", 2, 80, None),
        ]

    def test_only_the_last_entries_are_kept(self) -> None:
        noted = Noted()
        for number in range(1000):
            noted.now = float(number)
            noted.history.frames("received", "ping", size=number)
        entries = noted.history.taken()
        assert len(entries) == ENTRIES
        assert entries[-1] == events.HistoryEntry(999.0, "received", "ping", 1, 999)

    @pytest.mark.parametrize("messages", [0, 10])
    def test_entries_keep_their_order_when_the_clock_is_set_back(self, messages: int) -> None:
        noted = Noted(messages)
        noted.history.happened("ready")
        noted.now -= 500
        noted.history.happened("stale")
        assert [name for _, name, *_ in noted.lines] == ["ready", "stale"]


class TestEachMessage:
    def test_each_has_an_entry_with_its_size_in_bytes(self) -> None:
        noted = Noted(messages=10)
        noted.history.received([events.Text("\N{SNOWMAN}"), events.Ping(b"x"), events.Binary(b"12345")])
        noted.history.sent(("abc", b"d", ControlFrame("close", b"\x03\xe8bye")))
        assert noted.lines == [
            ("received", "text", 1, 3, None), ("received", "binary", 1, 5, None),
            ("sent", "text", 1, 3, None), ("sent", "binary", 1, 1, None), ("sent", "close", 1, 5, 1000),
        ]

    def test_what_the_writing_thread_notes_is_not_noted_twice(self) -> None:
        noted = Noted(messages=10)
        noted.history.frames("sent", "ping", size=4)
        noted.history.frames("received", "pong", size=4)
        assert noted.lines == [("received", "pong", 1, 4, None)]

    def test_only_as_many_are_kept_as_were_asked_for(self) -> None:
        noted = Noted(messages=3)
        noted.history.received([events.Text("x" * size) for size in range(100)])
        noted.history.sent(tuple("y" * size for size in range(2)))
        assert [size for _, _, _, size, _ in noted.lines] == [99, 0, 1]

    def test_the_users_own_taps_may_change_and_come_first(self) -> None:
        taps: list[Any] = []
        both = Taps(taps, print)
        assert list(both) == [print]
        taps.append(len)
        assert (list(both), len(both), both[0]) == ([len, print], 2, len)


SCRIPT = [t.accept(), t.send(SECRET), t.wait_for(SECRET), t.ping(SECRET.encode()), t.wait_for_pong(), t.fin()]


@pytest.mark.parametrize("history", [0, 50])
def test_the_end_of_a_connection_tells_what_came_before_and_no_secret(
    ws_server: StartServer, history: int
) -> None:
    websocket = WebSocket(ws_server(SCRIPT).url, history=history)
    for event in websocket.connect(poll=0):
        if isinstance(event, events.Text):
            websocket.send_text(SECRET)
    assert isinstance(event, events.Disconnected)
    lines = [(one.direction, one.name) for one in event.history]
    message = [("received", "text"), ("sent", "text")] if history else [("received", "messages")]
    for expected in [("", "ready"), ("sent", "ping"), ("received", "pong"), ("received", "ping"), *message]:
        assert expected in lines
    assert ("sent", "pong") in lines
    assert SECRET not in repr(event.history)
    assert [one.time for one in event.history] == sorted(one.time for one in event.history)
    assert event.counters == websocket.counters


def test_close_frames_of_both_sides_are_in_it_with_their_codes(ws_server: StartServer) -> None:
    *_, end = WebSocket(ws_server([t.accept(), t.close(4000, SECRET)]).url)
    assert isinstance(end, events.Disconnected)
    closes = [(one.direction, one.code, one.size) for one in end.history if one.name == "close"]
    assert closes == [("received", 4000, 8), ("sent", 4000, 8)]


def test_what_happened_is_in_it(ws_server: StartServer, ws_clock: VirtualClock) -> None:
    app = Noting(ws_server([t.accept()]).url)
    with opened(app, poll=0, stale_after=90):
        ws_clock.suspend(3600)
        ws_clock.advance(100)
        end = app.wait_for("disconnected")
    happened = [one.name for one in end.history if not one.direction]
    assert happened == ["ready", "suspended", "stale", "dropped"]


def test_the_option_is_checked() -> None:
    for wrong, error in ((-1, ValueError), (True, TypeError), (1.5, TypeError), (10**9, ValueError)):
        with pytest.raises(error, match="history="):
            WebSocketApp("ws://example.invalid", history=wrong)  # type: ignore[arg-type]


def test_an_upgrade_that_was_refused_has_none(ws_server: StartServer) -> None:
    *_, end = WebSocket(ws_server([t.upgrade(status=503)]).url)
    assert isinstance(end, events.Disconnected)
    assert (end.history, end.opened_for, end.counters) == ((), None, Counters())
