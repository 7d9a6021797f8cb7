"""Default log lines of an app: operators see each loss, refusal and recovery, and nothing twice."""

from __future__ import annotations

import logging
import logging.config
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lochws import Backoff, Threads, WebSocketApp, events
from lochws import testing as t
from lochws.handlers.log import Log
from lochws.opening.advice import advise
from lochws.response import Response
from lochws.system import report
from lochws.testing import LogEvents, StartServer, VirtualClock

from ..support.apps import AT_ONCE, echo, opened, running
from ..support.peer import CLOSE, Link, StartPeer
from ..support.scripts import in_turn, polite
from ..support.seen import PATIENCE, Noting, await_reports

#: A duration in a log line.
SECONDS = r"\d+\.?\d* (s|min)"
TWICE = Backoff(min_wait=0, max_wait=0, max_attempts=2)
Lines = Callable[[], "list[tuple[str, str]]"]


@pytest.fixture
def dead_url() -> Iterator[str]:
    """A URL on which no server listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"ws://127.0.0.1:{sock.getsockname()[1]}/"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """The levels and texts of the lines so far, from INFO on."""
    caplog.set_level(logging.CRITICAL, "lochws.testing")
    caplog.set_level(logging.INFO, "lochws")

    def so_far() -> list[tuple[str, str]]:
        await_reports()
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    return so_far


def lose(link: Link) -> None:
    link.accept()
    link.read_frame()  # the first ping: unread, it would make a reset of the end


UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"


def refuse(link: Link) -> None:
    link.read_request()
    link.send(UNAUTHORIZED)


def closing(code: int, reason: bytes = b"") -> Callable[[Link], None]:
    def close(link: Link) -> None:
        link.accept()
        link.send_frame(CLOSE, code.to_bytes(2, "big") + reason)
        while link.read_frame()[0] != CLOSE:
            pass

    return close


class TestFailures:
    def test_each_failed_attempt_is_logged_once_with_the_url_and_without_its_secrets(
        self, dead_url: str, caplog: pytest.LogCaptureFixture, lines: Lines
    ) -> None:
        address = dead_url.removeprefix("ws://").rstrip("/")
        WebSocketApp(dead_url.replace("//", "//user:secret@") + "?token=secret").run_forever(persist=TWICE)
        advice = "Check the host and port, and that the server is running: nothing listens there."
        failed = ("WARNING", f"{dead_url}: unable to connect; {address}: Connection refused ({advice})")
        assert lines() == [
            failed, ("INFO", f"{dead_url}: trying again in 0.00 s"), failed,
            ("WARNING", f"{dead_url}: giving up: 2 failures in a row (max_attempts=2)"),
        ]
        assert {record.name for record in caplog.records} == {"lochws"}

    def test_attempts_that_fail_again_and_again_do_not_flood_the_log(
        self, dead_url: str, lines: Lines
    ) -> None:
        WebSocketApp(dead_url).run_forever(persist=Backoff(min_wait=0, max_wait=0, max_attempts=90))
        failed = [words for level, words in lines() if "unable to connect" in words]
        assert 20 <= len(failed) < 60

    def test_a_retry_hook_that_fails_each_time_does_not_flood_the_log(
        self, dead_url: str, lines: Lines
    ) -> None:
        def hook(outcome: object) -> float:
            raise ValueError

        app = WebSocketApp(dead_url)
        app.run_forever(persist=Backoff(min_wait=0, max_wait=0, max_attempts=90, retry=hook))
        assert 20 <= len([level for level, _ in lines() if level == "ERROR"]) < 60

    def test_a_refusal_is_one_line_with_the_advice(self, start_peer: StartPeer, lines: Lines) -> None:
        url = start_peer(refuse).url
        WebSocketApp(url).run_forever(persist=False)
        advice = advise("upgrade", None, Response(UNAUTHORIZED))
        assert lines() == [("WARNING", f"{url}: upgrade refused: 401 Unauthorized ({advice})")]

    def test_a_lost_connection_is_one_line(self, start_peer: StartPeer, lines: Lines) -> None:
        url = start_peer(lose).url
        WebSocketApp(url).run_forever(persist=False)
        (_, ready), (level, lost) = lines()
        assert re.match(rf"{url}: ready after {SECONDS} \(", ready)
        assert level == "WARNING"
        assert re.match(rf"{url}: connection lost after {SECONDS}: ", lost)
        assert lost.endswith(" s: ended by the server")

    @pytest.mark.parametrize("name", ["connect_fail", "event"])
    def test_a_handler_of_the_users_changes_nothing(self, name: str, dead_url: str, lines: Lines) -> None:
        app = WebSocketApp(dead_url)
        seen: list[events.Event] = []
        app.on(name)(seen.append)
        app.run_forever(persist=False)
        assert seen
        assert [level for level, _ in lines()] == ["WARNING"]

    @pytest.mark.parametrize(
        ("policy", "why"),
        [
            ({"fatal_statuses": {401}}, "status 401 is in fatal_statuses"),
            ({"retry": lambda outcome: None}, "the retry hook returned None"),
            ({"max_elapsed": 0}, "failing for 0 s (max_elapsed=0)"),
        ],
        ids=str,
    )
    def test_the_last_line_says_why_the_app_gives_up(
        self, policy: dict[str, Any], why: str, start_peer: StartPeer, lines: Lines
    ) -> None:
        url = start_peer(refuse).url
        WebSocketApp(url).run_forever(persist=Backoff(**policy))
        assert lines()[-1] == ("WARNING", f"{url}: giving up: {why}")

    def test_a_fatal_close_code_gives_up_with_the_servers_words(
        self, start_peer: StartPeer, lines: Lines
    ) -> None:
        url = start_peer(closing(4401, b"bad token")).url
        WebSocketApp(url).run_forever(persist=Backoff(fatal_codes={4401}))
        (_, _), (level, closed), last = lines()
        assert level == "WARNING"
        assert closed.endswith(' s: 4401 "bad token"; this is fatal, so there will be no further attempt')
        assert last == ("WARNING", f"{url}: giving up: close code 4401 is in fatal_codes")


class TestProperEnds:
    def test_they_are_logged_at_info(self, start_peer: StartPeer, lines: Lines) -> None:
        url = start_peer(closing(1001, b"restart")).url
        WebSocketApp(url).run_forever(persist=False)
        level, closed = lines()[-1]
        assert level == "INFO"
        assert re.match(rf"{url}: closed by the server after {SECONDS}: ", closed)
        assert closed.endswith(' s: 1001 "restart"')

    def test_an_end_that_the_user_wanted_is_ours(self, start_peer: StartPeer, lines: Lines) -> None:
        with opened(WebSocketApp(start_peer(polite).url)) as app:
            app.close()
        level, closed = lines()[-1]
        assert level == "INFO"
        assert re.search(rf"closed by us after {SECONDS}: 1000$", closed)
        app = WebSocketApp(start_peer(polite).url)
        app.on("ready")(lambda event: app.force_disconnect())
        app.run_forever(persist=False)
        level, closed = lines()[-1]
        assert level == "INFO"
        assert re.search(rf"closed by us after {SECONDS}", closed)

    @pytest.mark.parametrize("code", [1008, 1011, 1013, 4000])
    def test_a_close_code_that_is_a_complaint_is_a_warning(
        self, code: int, start_peer: StartPeer, lines: Lines
    ) -> None:
        WebSocketApp(start_peer(closing(code, b"too fast")).url).run_forever(persist=False)
        level, closed = lines()[-1]
        assert (level, closed.endswith(f's: {code} "too fast"')) == ("WARNING", True)

    def test_a_server_that_closes_cleanly_again_and_again_does_not_stay_silent(
        self, start_peer: StartPeer, lines: Lines
    ) -> None:
        app = Noting(start_peer(closing(1000)).url)
        with running(app, persist=AT_ONCE):
            app.wait_for("disconnected", 3)
        closed = [(level, words) for level, words in lines() if "closed by the server" in words][:3]
        assert [level for level, _ in closed] == ["INFO", "WARNING", "WARNING"]
        assert closed[2][1].endswith(" s: 1000; 3 connections in a row have ended this soon")

    def test_a_flood_of_clean_ends_is_suppressed_and_counted(
        self, start_peer: StartPeer, lines: Lines
    ) -> None:
        app = Noting(start_peer(closing(1000)).url)
        with running(app, persist=AT_ONCE):
            app.wait_for("disconnected", 60)
        for words in ("ready after", "closed by the server", "trying again"):
            assert 20 <= len([line for _, line in lines() if words in line]) < 30

    @pytest.mark.parametrize("moment", ["back_off", "disconnected"])
    def test_close_without_a_connection_is_logged_too(
        self, moment: str, start_peer: StartPeer, lines: Lines
    ) -> None:
        url = start_peer(lose).url
        app = WebSocketApp(url)
        app.on(moment)(lambda event: app.close())
        app.run_forever(persist=Backoff(1000, 1000))
        assert lines()[-1] == ("INFO", f"{url}: closed; there was no connection")


def test_a_recovery_line_names_the_outage_and_the_attempt(
    ws_server: StartServer, ws_events: LogEvents, ws_clock: VirtualClock, lines: Lines
) -> None:
    server = ws_server([t.accept(), t.reset()], [t.upgrade(503)], [t.accept()])
    log = ws_events(WebSocketApp(server.url))
    log.app.start(poll=0, persist=Backoff(30, 30))
    log.wait_for(events.Ready)
    log.wait_for(events.Ready, timeout=60)
    level, ready = lines()[-1]
    assert level == "INFO"
    assert ready.endswith(", 1 min after the last connection was lost, on attempt 2")


class TestBesideLog:
    """The handler Log takes over: everything is logged once, by it."""

    def test_the_default_lines_of_that_app_are_left_out_and_return_with_its_removal(
        self, dead_url: str, caplog: pytest.LogCaptureFixture, lines: Lines
    ) -> None:
        app, log = WebSocketApp(dead_url), Log("feed")
        app.add_handler(log)
        app.run_forever(persist=False)
        assert len([words for _, words in lines() if "Connection refused" in words]) == 1
        assert {record.name for record in caplog.records} == {"lochws.events"}
        caplog.clear()
        WebSocketApp(dead_url).run_forever(persist=False)
        app.remove_handler(log)
        app.run_forever(persist=False)
        assert len(lines()) == 2
        assert {record.name for record in caplog.records} == {"lochws"}

    def test_each_event_is_logged_once_at_level_debug_too(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        app = Noting(start_peer(echo).url)
        app.add_handler(Log())
        with opened(app, poll=0):
            app.send_text("x")
            app.wait_for("text")
        await_reports()
        assert len([words for words in caplog.messages if "text" in words]) == 1
        assert {record.name for record in caplog.records} == {"lochws.events"}


class TestDebug:
    def test_every_event_has_one_line_and_none_shows_a_payload(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        app = Noting(start_peer(echo).url)
        with opened(app, ping_rate=0):
            app.send_text("s3cret")
            app.send_binary(b"s3cret")
            app.send_ping(b"s3cret")
            app.wait_for("text")
            app.wait_for("binary")
            app.wait_for("pong")
        await_reports()
        assert sorted(record.ws_event for record in caplog.records) == sorted(app.names())  # type: ignore[attr-defined]
        assert any(words.endswith(": event text, length 6") for words in caplog.messages)
        assert "s3cret" not in caplog.text

    def test_a_flood_of_messages_is_suppressed_and_leaves_room_for_other_lines(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send(b"\x81\x01x" * 5000)
            link.send_frame(CLOSE, b"\x03\xf0enough")
            while link.read_frame()[0] != CLOSE:
                pass

        caplog.set_level(logging.DEBUG)
        app = WebSocketApp(start_peer(script).url)
        app.run_forever(poll=0, persist=False)
        await_reports()
        assert 100 <= len([words for words in caplog.messages if "event text" in words]) < 200
        assert caplog.messages[-1].endswith('s: 1008 "enough"')

    def test_it_can_be_switched_on_and_off_while_the_app_runs(
        self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = Noting(start_peer(echo).url)
        with opened(app, poll=0):
            for count, level in enumerate((logging.WARNING, logging.DEBUG, logging.WARNING), 1):
                await_reports()
                caplog.clear()
                caplog.set_level(level, "lochws")
                app.send_text("x")
                app.wait_for("text", count)
                await_reports()
                assert any("event text" in words for words in caplog.messages) is (level == logging.DEBUG)


def test_below_its_level_no_line_is_built(
    start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    built: list[object] = []
    for name in ("without_queries", "span", "report_aside", "_words"):
        monkeypatch.setattr(f"lochws.life.lines.{name}", lambda *args, **_: built.append(args))
    caplog.set_level(logging.CRITICAL, "lochws")
    app = Noting(start_peer(in_turn(lose, refuse, closing(1000), echo)).url)
    with running(app, persist=AT_ONCE):
        app.wait_for("ready", 3)
        app.wait_until(lambda: app.is_active)
        app.send_text("x")
        app.wait_for("text")
    assert not built


class TestBadLogHandlers:
    def test_one_that_does_not_return_holds_up_nothing(self, start_peer: StartPeer) -> None:
        entered, go = threading.Event(), threading.Event()

        class Staying(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                entered.set()
                go.wait(PATIENCE)

        logger, staying = logging.getLogger("lochws"), Staying()
        threads = Threads()
        logger.addHandler(staying)
        try:
            with (
                opened(Noting(start_peer(echo).url, threads=threads)) as other,
                running(Noting(start_peer(lose).url, threads=threads), persist=AT_ONCE) as app,
            ):
                assert entered.wait(PATIENCE)
                app.wait_for("ready", 3)
                other.send_text("x")
                other.wait_for("text")
        finally:
            go.set()
            logger.removeHandler(staying)
            await_reports()

    def test_one_that_raises_stops_no_thread(
        self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Raising(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise SystemExit

        monkeypatch.setattr(logging, "raiseExceptions", False)
        logger, raising = logging.getLogger("lochws"), Raising()
        monkeypatch.setattr(logger, "level", logging.DEBUG)
        logger.addHandler(raising)
        try:
            app = Noting(start_peer(in_turn(lose, refuse, echo)).url)
            with running(app, persist=AT_ONCE):
                app.wait_for("ready", 2)
                app.wait_until(lambda: app.is_active)
                app.send_text("x")
                app.wait_for("text")
        finally:
            logger.removeHandler(raising)
            await_reports()

    def test_one_that_connects_while_logging_is_being_configured_gets_its_connection(
        self, start_peer: StartPeer
    ) -> None:
        """A lock of `logging` is held all that time, and the level of our logger is not cached."""
        url, ready = start_peer(polite).url, []

        class Shipping(logging.Handler):
            def __init__(self) -> None:
                super().__init__()
                app = WebSocketApp(url)
                app.start()
                ready.append(app.wait_ready(PATIENCE))
                app.stop(PATIENCE)

        before = logging.getLogger().handlers[:]
        logging.config.dictConfig({
            "version": 1, "incremental": False, "disable_existing_loggers": False,
            "handlers": {"ship": {"()": Shipping}},
        })
        logging.getLogger().handlers[:] = before
        assert ready == [True]


def test_a_line_has_fields_for_structured_logging(
    start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lochws")
    url = start_peer(in_turn(closing(1001, b"rest\x1bart"), refuse)).url
    WebSocketApp(url + "?token=secret").run_forever(persist=Backoff(0, 0, max_attempts=2))
    await_reports()
    fields = [
        {name: value for name, value in vars(record).items() if name.startswith("ws_")}
        for record in caplog.records
    ]
    assert [found["ws_event"] for found in fields] == [
        "ready", "disconnected", "back_off", "rejected", "gave_up"
    ]
    assert {found["ws_url"] for found in fields} == {url}
    ready, end, wait, refusal, _ = fields
    assert (ready["ws_attempt"], ready["ws_outage"]) == (1, None)
    assert ready["ws_opening"] > 0
    assert {name: end[name] for name in end if name not in {"ws_opened_for", "ws_url"}} == {
        "ws_event": "disconnected", "ws_ended_by": "server", "ws_graceful": True, "ws_code": 1001,
        "ws_sent_code": 1001, "ws_reason": r"rest\x1bart", "ws_advice": "", "ws_phase": "open",
        "ws_fatal": False, "ws_unsent": 0, "ws_in_doubt": 0,
    }
    assert wait["ws_delay"] == 0
    assert (refusal["ws_status"], refusal["ws_phase"], refusal["ws_attempt"]) == (401, "upgrade", 1)
    assert refusal["ws_advice"].startswith("Pass credentials")


def test_no_field_is_an_attribute_that_a_record_has_anyway() -> None:
    record = logging.makeLogRecord({})
    assert not [name for name in vars(record) if name.startswith("ws_")]


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_no_query_of_a_url_is_shown_in_any_line_or_field(
    level: int, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level)
    words = b"see wss://me:s3cret@a.example/x?s3cret and ws://b/?t=s3cret"
    moved = b"HTTP/1.1 302 Found\r\nLocation: ftp://me:s3cret@b/?s3cret\r\nContent-Length: 0\r\n\r\n"

    busy = b"HTTP/1.1 503 Busy\r\nRetry-After: wss://me:s3cret@c/?s3cret\r\nContent-Length: 0\r\n\r\n"

    def answer(data: bytes) -> Callable[[Link], None]:
        def script(link: Link) -> None:
            link.read_request()
            link.send(data)

        return script

    peer = start_peer(in_turn(closing(4000, words), answer(moved), answer(busy), lose))
    app = Noting(peer.url + "?s3cret")
    app.run_forever(persist=Backoff(0, 0, max_attempts=4))
    await_reports()
    assert caplog.records
    for record in caplog.records:
        shown = [value for name, value in vars(record).items() if name.startswith("ws_")]
        assert "s3cret" not in f"{record.getMessage()} {shown}"


def test_the_lines_are_written_in_the_order_of_events_with_the_time_at_which_they_happened(
    start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app = Noting(start_peer(in_turn(lose, refuse, echo)).url)
    with running(app, persist=AT_ONCE):
        app.wait_for("ready", 2)
    await_reports()
    times = [record.created for record in caplog.records]
    assert times == sorted(times)
    names = [record.ws_event for record in caplog.records]  # type: ignore[attr-defined]
    assert [name for name in names if name != "poll"][:8] == [
        "connecting", "connected", "ready", "disconnected", "back_off", "connecting", "connected", "rejected"
    ]


def test_messages_at_level_debug_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go, seen = threading.Event(), threading.Event(), []

    class Staying(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())
            entered.set()
            go.wait(PATIENCE)

    logger, staying = logging.getLogger("lochws"), Staying()
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logger.addHandler(staying)
    try:
        report.report_aside(logging.DEBUG, "first")
        assert entered.wait(PATIENCE)
        for _ in range(report.MAX_WAITING):
            report.report_aside(logging.DEBUG, "flood")
        report.report_aside(logging.WARNING, "lost")
        go.set()
        await_reports()
    finally:
        logger.removeHandler(staying)
    assert seen.count("flood") == report.MAX_WAITING // 2
    assert "lost" in seen
