"""Threads that cannot go on: each connection gets its final event, join() returns, the log says why once."""

from __future__ import annotations

import logging
import selectors
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lochws import Backoff, Threads, WebSocket, WebSocketApp
from lochws.clock import SYSTEM, SystemClock
from lochws.engine.poller import SelectorPoller
from lochws.life.state import State

from ..faults.registry import fault
from ..support.apps import NEVER, echo
from ..support.peer import Link, StartPeer
from ..support.scripts import silent
from ..support.seen import PATIENCE, Noting, await_reports, eventually, names

AT_ONCE = Backoff(0, 0)


class Broken(selectors.DefaultSelector):
    """A selector that can be made to fail."""

    error: BaseException | None = None

    def select(self, timeout: float | None = None) -> Any:
        if Broken.error is not None:
            raise Broken.error
        return super().select(0.02 if timeout is None else min(timeout, 0.02))


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Broken]]:
    monkeypatch.setattr(selectors, "DefaultSelector", Broken)
    monkeypatch.setattr("lochws.engine.loop.make_poller", SelectorPoller)
    monkeypatch.setattr(Broken, "error", None)
    yield Broken
    Broken.error = None


def failures(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    await_reports()
    return [record for record in caplog.records if "cannot go on" in record.getMessage()]


@fault("program", "A thread of lochws dies")
@pytest.mark.parametrize("error", [ValueError("too many"), MemoryError(), SystemExit(1), KeyboardInterrupt()])
def test_a_selector_that_fails_ends_the_app_with_its_error(
    error: BaseException, broken: type[Broken], start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    app = Noting(start_peer(echo).url)
    app.start(persist=AT_ONCE)
    assert app.wait_ready(PATIENCE)
    broken.error = error
    assert app.join(PATIENCE)
    assert app.state is State.STOPPED
    assert app.names("poll", "pong") == ["connecting", "connected", "ready", "disconnected"]
    last = app.wait_for("disconnected")
    assert (last.error, last.graceful, last.ended_by) == (error, False, "network")
    (record,) = failures(caplog)
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@fault("program", "A thread of lochws dies")
def test_an_app_whose_threads_failed_can_be_started_again(
    broken: type[Broken], start_peer: StartPeer
) -> None:
    app = Noting(start_peer(echo).url)
    app.start(persist=AT_ONCE)
    assert app.wait_ready(PATIENCE)
    broken.error = ValueError("too many")
    assert app.join(PATIENCE)
    broken.error = None
    app.start(persist=AT_ONCE)
    assert app.wait_ready(PATIENCE)
    assert app.stop(PATIENCE)


@fault("program", "A thread of lochws dies")
def test_all_apps_on_shared_threads_end_in_whatever_state_and_the_log_says_so_once(
    broken: type[Broken], start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    shared = Threads(2)
    open_app = Noting(start_peer(echo).url, threads=shared)
    resting = Noting("ws://127.0.0.1:1/", threads=shared)
    upgrading = Noting(start_peer(Link.wait_for_end).url, threads=shared)
    waiting = [Noting(upgrading.url, threads=shared) for _ in range(3)]
    open_app.start(persist=AT_ONCE)
    assert open_app.wait_ready(PATIENCE)
    resting.start(persist=NEVER)
    resting.wait_for("back_off")
    for app in (upgrading, *waiting):
        app.start(persist=NEVER)
    upgrading.wait_for("connected")
    broken.error = ValueError("too many")
    apps = [open_app, resting, upgrading, *waiting]
    assert all(app.join(PATIENCE) for app in apps)
    for app in apps:
        assert app.state is State.STOPPED
        ends = [name for name in app.names() if name in ("connect_fail", "disconnected")]
        assert len(ends) == len(app.all("connecting")), app.events
    eventually(lambda: not any("lochws-" in thread.name for thread in threading.enumerate()))
    assert len(failures(caplog)) == 1

    broken.error = None
    late = WebSocketApp(open_app.url, threads=shared)
    late.start()
    assert late.wait_ready(PATIENCE)
    assert late.stop(PATIENCE)


def test_a_connection_that_opens_when_the_loop_has_failed_ends_at_once(
    broken: type[Broken], start_peer: StartPeer
) -> None:
    upgraded, go = threading.Event(), threading.Event()

    def script(link: Link) -> None:
        upgraded.set()
        assert go.wait(PATIENCE)
        echo(link)

    def hold(event: object) -> None:
        assert go.wait(PATIENCE)

    shared = Threads()
    other = Noting("ws://127.0.0.1:1/", threads=shared)
    other.on("back_off")(hold)  # the reader is busy while the loop fails
    app = Noting(start_peer(script).url, threads=shared)
    app.start(persist=AT_ONCE)
    assert upgraded.wait(PATIENCE)
    other.start(persist=NEVER)
    other.wait_for("back_off")
    broken.error = ValueError("too many")
    go.set()
    assert app.join(PATIENCE)
    assert other.join(PATIENCE)
    assert app.names()[-1] in ("disconnected", "connect_fail")
    assert len(app.all("connecting")) == 1


def test_while_a_handler_runs_the_end_waits_for_it(
    broken: type[Broken], start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    entered, go = threading.Event(), threading.Event()

    def stay(_: object) -> None:
        entered.set()
        assert go.wait(PATIENCE)

    app = Noting(start_peer(echo).url)
    app.on("text")(stay)
    app.start(persist=AT_ONCE)
    assert app.wait_ready(PATIENCE)
    app._lochws.life._crew.reader.grace = 0.01  # type: ignore[union-attr]
    app.send_text("x")
    assert entered.wait(PATIENCE)
    broken.error = ValueError("too many")
    assert not app.join(0.2)  # the stand-in has met the failure long since
    go.set()
    assert app.join(PATIENCE)
    assert app.names("poll", "pong")[-1] == "disconnected"
    assert len(failures(caplog)) == 1


class Stopping(SystemClock):
    """A clock that can be made to fail on supervisors' threads."""

    error: BaseException | None = None

    def monotonic(self) -> float:  # type: ignore[override]
        if self.error is not None and "supervisor" in threading.current_thread().name:
            raise self.error
        return SYSTEM.monotonic()


@pytest.mark.parametrize("state", ["open", "backing off"])
def test_a_supervisor_that_cannot_go_on_ends_the_apps_too(
    state: str, start_peer: StartPeer, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Stopping()
    shared = Threads(clock=clock)
    url = start_peer(echo).url if state == "open" else "ws://127.0.0.1:1/"
    app = Noting(url, threads=shared)
    app.start(persist=NEVER)
    app.wait_for("ready" if state == "open" else "back_off")
    clock.error = ValueError("no time")
    app._lochws.life._crew.supervisor.wake()  # type: ignore[union-attr]
    assert app.join(PATIENCE)
    assert app.state is State.STOPPED
    final = app.names("poll", "pong", "back_off")[-1]
    assert final == ("disconnected" if state == "open" else "connect_fail")
    assert len(failures(caplog)) == 1
    clock.error = None
    app.start()
    app.wait_for("connecting", 2)
    assert app.stop(PATIENCE)


def test_an_iteration_ends_in_disconnected(broken: type[Broken], start_peer: StartPeer) -> None:
    seen = []
    for event in WebSocket(start_peer(silent).url).connect(ping_rate=0, poll=0):
        seen.append(event)
        if event.name == "ready":
            broken.error = ValueError("too many")
    assert names(seen) == ["connecting", "connected", "ready", "disconnected"]
    assert seen[-1].error is broken.error


def test_a_connection_too_many_for_select_fails_alone_and_says_what_to_do(
    start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.SelectSelector)  # as on Windows
    monkeypatch.setattr("lochws.engine.loop.make_poller", SelectorPoller)
    monkeypatch.setattr("lochws.engine.poller.SELECT_MOST", 3)
    shared = Threads()
    first, second, third = (Noting(start_peer(echo).url, threads=shared) for _ in range(3))
    for app in (first, second):
        app.start(persist=NEVER)
        assert app.wait_ready(PATIENCE)
    third.start(persist=False)
    assert third.join(PATIENCE)
    last: Any = third.last_end  # of the connection, or of the attempt if that had to wait
    assert last.reason.endswith("use several Threads(), each for at most 2 connections")
    assert first.stop(PATIENCE)
    third.start(persist=False)
    assert third.wait_ready(PATIENCE)
    for app in (second, third):
        app.send_text("still there")
        assert app.wait_for("text").text == "still there"
        assert app.stop(PATIENCE)
