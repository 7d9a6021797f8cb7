"""The log handler: its lines, its levels, what it leaves out."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from lochws import WebSocketApp, events
from lochws.handlers.log import Log
from lochws.response import Response

from ..support.apps import echo, running
from ..support.peer import StartPeer
from ..support.seen import PATIENCE


class Lines(logging.Handler):
    """A logger's lines, each as its level and its words."""

    def __init__(self, level: int = logging.DEBUG) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []
        self.logger = logging.getLogger(f"test.{id(self)}")
        self.logger.setLevel(level)
        self.logger.propagate = False
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelname, record.getMessage()))


@pytest.fixture
def lines() -> Lines:
    return Lines()


def told(log: Log, event: events.Event) -> None:
    getattr(log, f"on_{event.name}")(event)


REFUSAL = Response(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")


@pytest.mark.parametrize(
    ("event", "level", "words"),
    [
        (events.Connecting("wss://a.example/x"), "INFO", "connecting to wss://a.example/x"),
        (events.ConnectFail("dead", advice="Is it up?"), "WARNING", "could not connect: dead; Is it up?"),
        (events.Connected("ws://a/"), "DEBUG", "connected, waiting for the upgrade"),
        (events.Connected("ws://a/", "http://p:1"), "DEBUG",
         "connected through http://p:1, waiting for the upgrade"),
        (events.Rejected(REFUSAL, "no 101"), "WARNING",
         "the server did not upgrade (503 Service Unavailable): no 101"),
        (events.Ready(REFUSAL, "chat", {"permessage-deflate"}), "INFO", "ready (chat, permessage-deflate)"),
        (events.Ready(REFUSAL, None, set()), "INFO", "ready"),
        (events.Text("secret"), "DEBUG", "text, 6 characters"),
        (events.Binary(b"secret"), "DEBUG", "binary, 6 bytes"),
        (events.Ping(b"12"), "DEBUG", "ping, 2 bytes"),
        (events.Pong(b"12", 0.0123), "DEBUG", "pong after 12.3 ms"),
        (events.Pong(b"12"), "DEBUG", "unsolicited pong"),
        (events.ProtocolError("bad", critical=True), "ERROR", "the server broke the protocol: bad"),
        (events.Unresponsive(), "WARNING", "the server does not answer any more"),
        (events.Closing(1001, "restart"), "INFO", "the server closes: 1001 restart"),
        (events.Closing(None, ""), "INFO", "the server closes: no code"),
        (events.Closed(1000, ""), "DEBUG", "the server has answered our Close frame: 1000"),
        (events.Disconnected("closed", graceful=True), "INFO", "disconnected: closed"),
        (events.Disconnected("reset", unsent=("a", b"b")), "WARNING",
         "connection lost: reset; 2 messages were not sent"),
        (events.BackOff(2.34), "INFO", "trying again in 2.3 s"),
    ],
    ids=repr,
)
def test_each_event_has_its_line_and_level(
    event: events.Event, level: str, words: str, lines: Lines
) -> None:
    told(Log(logger=lines.logger), event)
    assert lines.lines == [(level, words)]


def test_every_event_but_poll_has_a_line() -> None:
    kinds = {kind.name for kind in vars(events).values() if isinstance(kind, type) and hasattr(kind, "name")}
    assert {name for name in kinds if hasattr(Log, f"on_{name}")} == kinds - {"poll", "unknown"}


@pytest.mark.parametrize("separator", ["?", "?a=1&", "?a=1;"])
def test_values_in_a_query_are_left_out(separator: str, lines: Lines) -> None:
    told(Log(logger=lines.logger), events.Connecting(f"wss://a.example/x{separator}token=s3cret"))
    assert "s3cret" not in lines.lines[0][1]
    assert "token=…" in lines.lines[0][1]


def test_the_server_cannot_forge_a_line(lines: Lines) -> None:
    told(Log(logger=lines.logger), events.Closing(1000, "bye\nERROR all is lost\x1b[2J\u2028"))
    assert lines.lines[0][1] == r"the server closes: 1000 bye\nERROR all is lost\x1b[2J\u2028"


def test_a_line_has_an_end(lines: Lines) -> None:
    told(Log(logger=lines.logger), events.ProtocolError("x" * 5000, critical=False))
    assert len(lines.lines[0][1]) <= 301


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (events.Text("héllo\nworld"), r"text, 11 characters: 'héll'…"),
        (events.Text("hé"), "text, 2 characters: 'hé'"),
        (events.Binary(b"\x00\x01\x02\x03\x04"), r"binary, 5 bytes: b'\x00\x01\x02\x03'…"),
    ],
    ids=repr,
)
def test_as_much_of_a_message_is_shown_as_was_asked_for(
    event: events.Event, words: str, lines: Lines
) -> None:
    told(Log(logger=lines.logger, payload=4), event)
    assert lines.lines == [("DEBUG", words)]


def test_the_label_begins_each_line(lines: Lines) -> None:
    told(Log("feed", logger=lines.logger), events.Unresponsive())
    assert lines.lines[0][1].startswith("feed: ")


def test_a_flood_is_counted_and_told_with_the_next_line(lines: Lines) -> None:
    now = 0.0

    def clock() -> float:
        return now

    log = Log(logger=lines.logger, burst=3, per_second=2, clock=clock)
    for _ in range(100):
        told(log, events.Ping(b""))
    assert len(lines.lines) == 3
    told(log, events.Closing(1000, ""))
    assert len(lines.lines) == 4, "another kind of event has an allowance of its own"
    now = 0.5
    told(log, events.Ping(b""))
    told(log, events.Ping(b""))
    assert lines.lines[4:] == [("DEBUG", "ping, 0 bytes (97 more of this kind left out)")]


def test_what_the_logger_does_not_want_takes_nothing_of_the_allowance() -> None:
    lines = Lines(logging.INFO)
    log = Log(logger=lines.logger, burst=1, per_second=1e-9)
    told(log, events.Text("x"))
    lines.logger.setLevel(logging.DEBUG)
    told(log, events.Text("x"))
    assert lines.lines == [("DEBUG", "text, 1 characters")]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Log(payload=-1), "payload=-1"),
        (lambda: Log(burst=0), "burst=0"),
        (lambda: Log(per_second=0), "per_second=0"),
    ],
)
def test_limits_that_make_no_sense_are_refused(make: Callable[[], Log], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_the_life_of_an_app_stands_in_the_log(start_peer: StartPeer) -> None:
    lines = Lines(logging.INFO)
    peer = start_peer(echo)
    app = WebSocketApp(peer.url)
    app.add_handler(Log("feed", logger=lines.logger))
    with running(app):
        assert app.wait_ready(PATIENCE)
        app.close()
        assert app.wait_closed(PATIENCE)
    assert [words for _, words in lines.lines] == [
        f"feed: connecting to {peer.url}", "feed: ready", "feed: disconnected: closed",
    ]
