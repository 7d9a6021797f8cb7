"""The Log handler: its lines, their levels, and what must not get into them."""

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


def handle(log: Log, event: events.Event) -> None:
    getattr(log, f"on_{event.name}")(event)


REFUSAL = Response(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")


@pytest.mark.parametrize(
    ("event", "level", "words"),
    [
        (events.Connecting("wss://a.example/x"), "INFO", "connecting to wss://a.example/x"),
        (events.ConnectFail("dead", advice="Is it up?"), "WARNING", "could not connect: dead. Is it up?"),
        (
            events.ConnectFail("unable to connect; 127.0.0.1:1: Connection refused", advice="Is it up?"),
            "WARNING", "could not connect: 127.0.0.1:1: Connection refused. Is it up?",
        ),
        (events.Connected("ws://a/"), "DEBUG", "connected, waiting for the upgrade"),
        (events.Connected("ws://a/", "http://p:1"), "DEBUG",
         "connected through proxy http://p:1, waiting for the upgrade"),
        (events.Rejected(REFUSAL, "no 101"), "WARNING",
         "upgrade refused (503 Service Unavailable): no 101"),
        (events.Rejected(REFUSAL, "upgrade refused: 503 Service Unavailable"), "WARNING",
         "upgrade refused: 503 Service Unavailable"),
        (events.Ready(REFUSAL, "chat", {"permessage-deflate"}), "INFO",
         "ready (subprotocol chat, permessage-deflate)"),
        (events.Ready(REFUSAL, None, set(), address="10.0.0.1:443"), "INFO", "ready (10.0.0.1:443)"),
        (events.Ready(REFUSAL, None, set()), "INFO", "ready"),
        (events.Ready(REFUSAL, None, set(), is_reconnect=True, outage=75.0, attempt=3), "INFO",
         "ready, 1 min 15 s after the last connection ended, on attempt 3"),
        (events.Text("secret"), "DEBUG", "received text, 6 characters"),
        (events.Binary(b"secret"), "DEBUG", "received binary, 6 bytes"),
        (events.Ping(b"12"), "DEBUG", "received ping, 2 bytes"),
        (events.Pong(b"12", 0.0123), "DEBUG", "received pong after 12.3 ms"),
        (events.Pong(b"12"), "DEBUG", "received unsolicited pong"),
        (events.ProtocolError("bad", critical=True), "ERROR", "protocol error: bad"),
        (events.Unresponsive(), "WARNING", "the server does not answer pings"),
        (events.Stale(90.4, None), "WARNING", "stale: no message from the server for 90 s"),
        (events.Closing(1001, "restart"), "INFO", "closed by the server: 1001 restart"),
        (events.Closing(None, ""), "INFO", "closed by the server: no code"),
        (events.Closed(1000, ""), "DEBUG", "the server answered our Close frame: 1000"),
        (events.Disconnected("closed", graceful=True, ended_by="client", sent_code=1000), "INFO",
         "disconnected: we closed the connection: 1000"),
        (events.Disconnected("closed", graceful=True, ended_by="server", received_code=4000,
                             received_reason="quota"), "INFO",
         'disconnected: the server closed the connection: 4000 "quota"'),
        (events.Disconnected("reset", unsent=("a", b"b")), "WARNING",
         "connection lost: reset; messages not sent: 2"),
        (events.Disconnected("connection lost: reset by the server"), "WARNING",
         "connection lost: reset by the server"),
        (events.BackOff(2.34), "INFO", "reconnecting in 2.3 s"),
    ],
    ids=repr,
)
def test_each_event_has_its_line_and_level(
    event: events.Event, level: str, words: str, lines: Lines
) -> None:
    handle(Log(logger=lines.logger), event)
    assert lines.lines == [(level, words)]


def test_a_refusal_is_logged_once_and_never_as_a_lost_connection(lines: Lines) -> None:
    log = Log(logger=lines.logger)
    reason = "upgrade refused: 503 Service Unavailable: too busy"
    handle(log, events.Rejected(REFUSAL, reason))
    handle(log, events.Disconnected(reason, phase="upgrade", ended_by="server"))
    assert lines.lines == [("WARNING", reason)]


def test_a_hang_up_before_the_answer_is_a_failure_to_connect(lines: Lines) -> None:
    handle(Log(logger=lines.logger), events.Disconnected("no answer", phase="upgrade"))
    assert lines.lines == [("WARNING", "could not connect: no answer")]


def test_every_event_but_poll_has_a_line() -> None:
    kinds = {kind.name for kind in vars(events).values() if isinstance(kind, type) and hasattr(kind, "name")}
    assert {name for name in kinds if hasattr(Log, f"on_{name}")} == kinds - {"poll", "unknown"}


@pytest.mark.parametrize("query", ["?token=s3cret", "?a=1&token=s3cret", "?a=1;token=s3cret", "?s3cret"])
def test_no_query_of_a_url_is_logged(query: str, lines: Lines) -> None:
    handle(Log(logger=lines.logger), events.Connecting(f"wss://me:s3cret@a.example/x{query}"))
    assert lines.lines == [("INFO", "connecting to wss://a.example/x")]


@pytest.mark.parametrize(
    "event",
    [
        events.ConnectFail("redirected to ws://me:s3cret@b/?token=s3cret", advice="try wss://b/?token=s3cret"),
        events.Rejected(REFUSAL, "redirected to ws://b/?token=s3cret"),
        events.Disconnected("gone: ws://b/?token=s3cret"),
    ],
    ids=repr,
)
def test_urls_within_a_reason_are_logged_without_their_secrets(event: events.Event, lines: Lines) -> None:
    handle(Log(logger=lines.logger), event)
    assert "ws" in lines.lines[0][1]
    assert "s3cret" not in lines.lines[0][1]


def test_a_server_cannot_forge_a_line(lines: Lines) -> None:
    handle(Log(logger=lines.logger), events.Closing(1000, "bye\nERROR all is lost\x1b[2J\u2028"))
    assert lines.lines[0][1] == r"closed by the server: 1000 bye\nERROR all is lost\x1b[2J\u2028"


def test_a_server_cannot_turn_the_text_of_a_line_around(lines: Lines) -> None:
    handle(Log(logger=lines.logger), events.Closing(1000, "\u202eevil\u2066"))
    assert lines.lines[0][1] == r"closed by the server: 1000 \u202eevil\u2066"


@pytest.mark.parametrize("character", ["x", "\u202e"])
def test_a_line_is_at_most_300_characters_long(character: str, lines: Lines) -> None:
    handle(Log(logger=lines.logger), events.ProtocolError(character * 5000, critical=False))
    assert len(lines.lines[0][1]) == 301
    assert lines.lines[0][1].endswith("…")


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (events.Text("héllo\nworld"), r"received text, 11 characters: 'héll'…"),
        (events.Text("hé"), "received text, 2 characters: 'hé'"),
        (events.Binary(b"\x00\x01\x02\x03\x04"), r"received binary, 5 bytes: b'\x00\x01\x02\x03'…"),
    ],
    ids=repr,
)
def test_payload_limits_how_much_of_a_message_is_logged(
    event: events.Event, words: str, lines: Lines
) -> None:
    handle(Log(logger=lines.logger, payload=4), event)
    assert lines.lines == [("DEBUG", words)]


def test_the_label_begins_each_line(lines: Lines) -> None:
    handle(Log("feed", logger=lines.logger), events.Unresponsive())
    assert lines.lines[0][1].startswith("feed: ")


def test_a_flood_is_suppressed_and_the_next_line_says_how_many_lines(lines: Lines) -> None:
    now = 0.0

    def clock() -> float:
        return now

    log = Log(logger=lines.logger, burst=3, per_second=2, clock=clock)
    for _ in range(100):
        handle(log, events.Ping(b""))
    assert len(lines.lines) == 3
    handle(log, events.Closing(1000, ""))
    assert len(lines.lines) == 4, "each kind of event has a limit of its own"
    now = 0.5
    handle(log, events.Ping(b""))
    handle(log, events.Ping(b""))
    assert lines.lines[4:] == [("DEBUG", "received ping, 0 bytes (97 more like this were suppressed)")]


def test_lines_below_the_level_of_the_logger_do_not_count_towards_the_limit() -> None:
    lines = Lines(logging.INFO)
    log = Log(logger=lines.logger, burst=1, per_second=1e-9)
    handle(log, events.Text("x"))
    lines.logger.setLevel(logging.DEBUG)
    handle(log, events.Text("x"))
    assert lines.lines == [("DEBUG", "received text, 1 characters")]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Log(payload=-1), "payload=-1"),
        (lambda: Log(burst=0), "burst=0"),
        (lambda: Log(per_second=0), "per_second=0"),
    ],
)
def test_invalid_limits_are_refused(make: Callable[[], Log], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_the_life_of_an_app_is_logged(start_peer: StartPeer) -> None:
    lines = Lines(logging.INFO)
    peer = start_peer(echo)
    app = WebSocketApp(peer.url)
    app.add_handler(Log("feed", logger=lines.logger))
    with running(app):
        assert app.wait_ready(PATIENCE)
        app.close()
        assert app.wait_closed(PATIENCE)
    assert [words for _, words in lines.lines] == [
        f"feed: connecting to {peer.url}",
        f"feed: ready (127.0.0.1:{peer.port})",
        "feed: disconnected: we closed the connection: 1000",
    ]
