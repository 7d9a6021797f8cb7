"""Log handlers, filters and objects of the user's that fail while lochws reports an error: apps go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lochws import Backoff, Threads, WebSocketApp
from lochws.events import Event
from lochws.life.state import State

from ..support.apps import AT_ONCE, echo, opened, running
from ..support.peer import TEXT, Link, StartPeer
from ..support.scripts import in_turn, polite
from ..support.seen import PATIENCE, Noting, await_reports, eventually


class Calling(logging.Handler):
    """A log handler that calls a function with each record."""

    def __init__(self, function: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self.emit = function  # type: ignore[assignment, method-assign]


class Failing(logging.Filter):
    """A filter that raises."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise LookupError("which request?")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to stderr about log handlers that raise."""
    monkeypatch.setattr(logging, "raiseExceptions", False)


@pytest.fixture(params=["handler of lochws", "handler of all", "filter", "exit"])
def failing(request: pytest.FixtureRequest) -> Iterator[None]:
    def fail(_: logging.LogRecord) -> None:
        raise SystemExit if request.param == "exit" else OSError("disk full")

    logger = logging.getLogger(None if request.param == "handler of all" else "lochws")
    if request.param == "filter":
        added: Any = Failing()
        logger.addFilter(added)
    else:
        added = Calling(fail)
        logger.addHandler(added)
    yield
    logger.removeFilter(added)
    logger.removeHandler(added)


def send_numbers(link: Link) -> None:
    link.accept()
    for number in range(5):
        link.send_frame(TEXT, b"%d" % number)
    echo_on(link)


def echo_on(link: Link) -> None:
    while True:
        opcode, payload = link.read_frame()
        if opcode == TEXT:
            link.send_frame(TEXT, payload)
        elif opcode == 8:
            link.send_frame(opcode, payload)
            return


def raising(_: object) -> None:
    raise ValueError("a handler's")


@pytest.mark.usefixtures("failing")
class TestWhileLoggingFails:
    @pytest.mark.parametrize("event", ["text", "event", "ready", "batch", "sent", "poll"])
    def test_handlers_that_raise_cost_no_event(self, event: str, start_peer: StartPeer) -> None:
        app = Noting(start_peer(send_numbers).url)
        app.on(event)(raising)
        app.on("error")(raising)
        with opened(app, poll=0.02):
            app.wait_for("text", 5)
            app.send_text("more")
            app.wait_for("text", 6)
        assert [one.text for one in app.all("text")] == ["0", "1", "2", "3", "4", "more"]

    def test_functions_called_later_may_raise(self, start_peer: StartPeer) -> None:
        with opened(Noting(start_peer(echo).url)) as app:
            app.call_later(0, lambda: raising(None))
            app.send_text("x")
            app.wait_for("text")

    def test_failed_attempts_are_followed_by_others(self, start_peer: StartPeer) -> None:
        # Without a handler for them, failures are logged.
        app = WebSocketApp(start_peer(in_turn(Link.read_request, Link.read_request, polite)).url)
        app.start(persist=AT_ONCE)
        assert app.wait_ready(PATIENCE)
        assert app.stop(PATIENCE)

    def test_a_retry_hook_and_a_trace_function_may_raise(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(in_turn(Link.read_request, echo)).url, trace=raising)
        app.start(persist=Backoff(0, 0, retry=raising))
        assert app.wait_ready(PATIENCE)
        assert app.stop(PATIENCE)

    def test_a_defect_in_one_connection_costs_no_other(
        self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared = Threads()
        with (
            opened(Noting(start_peer(echo).url, threads=shared)) as one,
            opened(Noting(start_peer(echo).url, threads=shared)) as other,
        ):
            connection = one._lochws.life.connection
            monkeypatch.setattr(type(connection), "on_touch", on_touch_of(connection))
            connection.loop.touch(connection)
            assert "defect" in one.wait_for("disconnected").reason
            other.send_text("x")
            other.wait_for("text")


def on_touch_of(broken: Any) -> Callable[[Any, float], bool]:
    original = type(broken).on_touch

    def on_touch(self: Any, now: float) -> bool:
        if self is broken:
            raise ZeroDivisionError("a defect")
        return bool(original(self, now))

    return on_touch


def test_a_program_may_ship_its_log_over_the_websocket(start_peer: StartPeer) -> None:
    received: list[str] = []

    def script(link: Link) -> None:
        link.accept()
        while (frame := link.read_frame())[0] != 8:
            if frame[0] == TEXT:
                received.append(frame[1].decode())
        link.send_frame(*frame)

    app = WebSocketApp(start_peer(in_turn(Link.read_request, Link.read_request, script)).url)
    handler = Calling(lambda record: app.send_text(record.getMessage()))
    logging.getLogger().addHandler(handler)
    try:
        with running(app, persist=AT_ONCE):
            assert app.wait_ready(PATIENCE)
            app.call_later(0, lambda: raising(None))
            eventually(lambda: any("<lambda> failed" in text for text in received))
    finally:
        logging.getLogger().removeHandler(handler)


def test_a_log_handler_may_stop_the_app(start_peer: StartPeer) -> None:
    results: list[bool] = []
    app = Noting(start_peer(echo).url)
    app.on("text")(raising)
    handler = Calling(lambda _: results.append(app.stop()))
    logging.getLogger("lochws").addHandler(handler)
    try:
        app.start()
        assert app.wait_ready(PATIENCE)
        app.send_text("x")
        assert app.join(PATIENCE)
    finally:
        logging.getLogger("lochws").removeHandler(handler)
    assert results == [False]


def test_a_log_handler_that_does_not_return_costs_no_connection(start_peer: StartPeer) -> None:
    """Log lines that are written while the baton is held are passed to another thread."""
    entered, go = threading.Event(), threading.Event()

    def stay(_: logging.LogRecord) -> None:
        entered.set()
        assert go.wait(PATIENCE)

    shared = Threads()
    handler = Calling(stay)
    with (
        opened(Noting(start_peer(echo).url, threads=shared, trace=raising)) as one,
        opened(Noting(start_peer(echo).url, threads=shared)) as other,
    ):
        await_reports()
        logging.getLogger("lochws").addHandler(handler)
        try:
            one.send_text("traced")
            assert entered.wait(PATIENCE)
            other.send_text("x")
            other.wait_for("text")
            one.wait_for("text")
        finally:
            go.set()
            logging.getLogger("lochws").removeHandler(handler)


class Textless(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise SystemExit("no text")

    __repr__ = __str__


@pytest.mark.parametrize("policy", ["continue", "reconnect", "stop"])
def test_an_exception_that_cannot_be_shown_is_reported_and_handled(
    policy: str, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: Event) -> None:
        if not failed:
            failed.append(event)
            raise Textless

    failed: list[Event] = []
    errors: list[BaseException] = []
    app = Noting(start_peer(echo).url, on_handler_error=policy)
    app.on("text")(fail)
    app.on("error")(errors.append)
    app.start(persist=AT_ONCE)
    assert app.wait_ready(PATIENCE)
    app.send_text("x")
    app.wait_for("text")
    if policy == "stop":
        assert app.join(PATIENCE)
        assert app.state is State.STOPPED
    elif policy == "reconnect":
        app.wait_for("ready", 2)
        assert app.stop(PATIENCE)
    else:
        app.send_text("y")
        app.wait_for("text", 2)
        assert app.stop(PATIENCE)
    assert [type(error) for error in errors] == [Textless]
    assert any("fail failed on Text" in message for message in caplog.messages)


def test_a_handler_that_raises_all_the_time_does_not_flood_the_log(
    start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    def script(link: Link) -> None:
        link.accept()
        for _ in range(1000):
            link.send_frame(TEXT, b"x")
        link.send_frame(TEXT, b"last")
        echo_on(link)

    app = Noting(start_peer(script).url)
    app.on("text")(raising)
    with opened(app):
        app.wait_for("text", 1001)
    failures = [message for message in caplog.messages if message.startswith("handler raising failed")]
    assert 20 <= len(failures) <= 30
