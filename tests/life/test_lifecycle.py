"""The life of an app: attempts that wait, calls between two of its steps, and its decisions."""

from __future__ import annotations

import re
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.utils import formatdate
from threading import enumerate as enumerate_threads
from time import time
from traceback import walk_stack
from typing import Any, NamedTuple

import pytest

from lochws import Backoff, Threads, WebSocketApp
from lochws.connection.connection import Connection
from lochws.engine import reader
from lochws.engine.tasks import Tasks
from lochws.engine.threads import Crew
from lochws.life import unattended
from lochws.life.state import State
from lochws.transport import contexts

from ..faults.registry import fault
from ..support.apps import AT_ONCE, NEVER, LogListener, opened, running
from ..support.peer import Link, StartPeer
from ..support.scripts import dropping, in_turn, polite, refusing
from ..support.seen import PATIENCE, Noting, await_reports, eventually, in_thread

#: How an app comes to an attempt: what its server does first, the event to wait for, and what begins it.
WAYS: dict[str, tuple[Callable[[Link], object], str, Callable[[Noting], object]]] = {
    "start": (Link.wait_for_end, "", lambda app: app.start(persist=NEVER)),
    "reconnect while open": (polite, "ready", Noting.reconnect),
    "reconnect during a back-off": (Link.accept, "back_off", Noting.reconnect),
}


class Crowd(NamedTuple):
    """Apps that share one slot: one backs off, the attempt of another hangs, and a third waits for that."""

    rests: Noting
    hangs: Noting
    waits: Noting


@pytest.fixture(params=WAYS)
def crowd(
    request: pytest.FixtureRequest, start_peer: StartPeer
) -> Iterator[Crowd]:
    """The attempts begin in each of the ways."""
    first, event, begin = WAYS[request.param]
    shared = Threads(attempts=1)
    url = start_peer(in_turn(first, first, Link.wait_for_end, Link.wait_for_end)).url
    with ExitStack() as stack:
        rests = stack.enter_context(running(Noting("ws://127.0.0.1:1", threads=shared), persist=NEVER))
        rests.wait_for("back_off")
        apps = [Noting(url, threads=shared) for _ in range(2)]
        for app in apps:
            stack.callback(app.stop, PATIENCE)
            if event:
                app.start(persist=NEVER)
                app.wait_for(event)
        for app in apps:
            begin(app)
        attempts = 2 if event else 1
        eventually(lambda: any(len(app.all("connected")) == attempts for app in apps))
        if event == "ready":
            eventually(lambda: all(app.all("disconnected") for app in apps))
        apps.sort(key=lambda app: -len(app.all("connected")))
        yield Crowd(rests, *apps)


def test_an_app_that_backs_off_is_closed_at_once_while_attempts_of_others_hang(crowd: Crowd) -> None:
    crowd.rests.close()
    assert crowd.rests.wait_closed(1)
    assert not crowd.hangs.is_closed


@fault("stopping", "close during DNS, TCP, TLS, the upgrade or the back-off")
def test_an_app_whose_attempt_waits_for_that_of_another_is_closed_at_once(crowd: Crowd) -> None:
    before = crowd.waits.names()
    crowd.waits.close()
    assert crowd.waits.wait_closed(1)
    assert crowd.waits.names() == before
    assert not crowd.hangs.is_closed


@pytest.mark.parametrize("crowd", ["reconnect while open"], indirect=True)
def test_an_app_told_to_reconnect_is_connecting_while_it_waits_for_its_turn(crowd: Crowd) -> None:
    eventually(lambda: crowd.waits.state is State.CONNECTING)
    assert not crowd.waits.all("back_off")


class TestItsOwnThreads:
    def test_they_are_named_after_the_app_and_its_host(self, start_peer: StartPeer) -> None:
        with opened(Noting(start_peer(polite).url)):
            own = [thread.name for thread in enumerate_threads() if thread.name.startswith("lochws-")]
        own = [name for name in own if name != "lochws-log"]  # which comes and goes
        kinds = {re.fullmatch(r"lochws-(reader|supervisor)-\d+-Noting-127\.0\.0\.1", name) for name in own}
        assert {match and match[1] for match in kinds} == {"reader", "supervisor"}

    def test_join_leaves_them_what_is_left_of_its_time(
        self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given: list[float | None] = []
        join = Crew.join

        def noting(crew: Crew, timeout: float | None) -> bool:
            given.append(timeout)
            return join(crew, timeout)

        monkeypatch.setattr(Crew, "join", noting)
        app = Noting(start_peer(polite).url)
        with opened(app):
            app.close()
            assert app.wait_closed(PATIENCE)
            app.join(0)
            assert app.join(PATIENCE)
            assert app.join(None)
        assert given[0] == 0
        assert given[1] is not None
        assert 0 < given[1] < PATIENCE
        assert given[2] is None


class TestBetweenTwoSteps:
    def test_close_between_the_end_of_the_attempt_and_the_connection_closes_the_connection(
        self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app = Noting(start_peer(polite).url)

        def connection(*args: Any, **kwargs: Any) -> Connection:
            app.close(3000, "between")
            return Connection(*args, **kwargs)

        monkeypatch.setattr("lochws.life.lifecycle.Connection", connection)
        with running(app, persist=NEVER):
            end = app.wait_for("disconnected")
        assert (end.sent_code, end.received_code, end.graceful) == (3000, 3000, True)

    def test_a_connection_that_ends_while_handlers_of_ready_run_releases_no_waiting_thread(
        self, start_peer: StartPeer
    ) -> None:
        app = WebSocketApp(start_peer(dropping).url)

        @app.on("ready")
        def ready(_: object) -> None:
            eventually(lambda: app.state is State.DISCONNECTED)

        app.start(persist=False)
        assert not app.wait_ready(PATIENCE)
        assert app.join(PATIENCE)
        assert not app.wait_ready(0)


    def test_a_connection_that_is_being_dropped_releases_no_waiting_thread(
        self, start_peer: StartPeer
    ) -> None:
        found: list[bool] = []
        app = WebSocketApp(start_peer(polite).url)

        @app.on("ready")
        def ready(_: object) -> None:
            if not found:
                app.reconnect()

        @app.on("poll")
        def poll(_: object) -> None:
            # The first comes right behind Ready, before the loop has had its turn to drop the connection.
            in_thread(lambda: found.append(app.wait_ready(0))).join(PATIENCE)

        with running(app, persist=NEVER):
            eventually(lambda: bool(found))
            assert not found[0]
            assert app.wait_ready(PATIENCE)


def test_an_attempt_that_takes_longer_than_open_timeout_is_given_up(start_peer: StartPeer) -> None:
    app = Noting(start_peer(Link.wait_for_end).url, open_timeout=0.05)
    with running(app, persist=AT_ONCE):  # an attempt may end before it comes to the upgrade
        assert app.wait_for("disconnected").phase == "upgrade"


class TestWhatComesNext:
    def test_the_hook_is_not_asked_about_an_end_that_the_user_wanted(self, start_peer: StartPeer) -> None:
        asked: list[object] = []
        app = Noting(start_peer(polite).url)
        with opened(app, persist=Backoff(retry=asked.append)):
            app.reconnect()
            assert app.wait_ready(PATIENCE)
        assert len(app.all("disconnected")) == 2
        assert asked == []

    def test_a_hook_that_reconnects_has_its_way_whatever_it_returns(self, start_peer: StartPeer) -> None:
        def retry(_: object) -> float:
            app.reconnect()
            return 1000.0

        app = Noting(start_peer(in_turn(dropping, polite)).url)
        with running(app, persist=Backoff(retry=retry)):
            app.wait_for("ready", 2)
        assert not app.all("back_off")

    def test_a_retry_after_that_is_a_date_lengthens_the_wait(self, start_peer: StartPeer) -> None:
        date = formatdate(time() + 200, usegmt=True)
        app = Noting(start_peer(refusing("503 Busy", f"Retry-After: {date}")).url)
        with running(app, persist=Backoff(0, 0)):
            assert 100 < app.wait_for("back_off").delay <= 201

    def test_within_max_elapsed_it_goes_on(self) -> None:
        app = Noting("ws://127.0.0.1:1/")
        with running(app, persist=Backoff(0, 0, max_elapsed=1000)):
            app.wait_for("connecting", 3)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_the_log_says_which_app_is_ended_by_an_exit_in_a_retry_hook(
    error: type[BaseException],
) -> None:
    def leave(*args: Any) -> Any:
        raise error("enough")

    told: list[str] = []
    with LogListener(told.append):
        Noting("ws://127.0.0.1:1/").run_forever(persist=Backoff(0, 0, retry=leave))
    await_reports()
    assert [line for line in told if "retry hook" in line] == ["the retry hook ends the app for ws://127.0.0.1:1/"]


def test_an_attempt_that_begins_before_start_has_returned_is_not_lost(
    start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_at_the_attempt() -> bool:
        crew = shared._crew
        frame = sys._current_frames().get(crew.reader._thread.ident or 0) if crew is not None else None
        return frame is not None and any(each.f_code.co_name == "_attempt" for each, _ in walk_stack(frame))

    def began(_: object) -> None:
        eventually(is_at_the_attempt)  # where it waits for the lock that start() holds

    shared = Threads()
    app = Noting(start_peer(polite).url, threads=shared)
    monkeypatch.setattr(unattended, "began", began)
    app.start(persist=NEVER)
    assert app.wait_ready(PATIENCE)
    assert app.stop(PATIENCE)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_an_app_without_functions_opens_on_the_loops_thread_alone(
    scheme: str, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # No supervisor stands in, and no file is looked at again, however slow this machine is.
    monkeypatch.setattr(contexts, "_FRESH_SECONDS", PATIENCE)
    monkeypatch.setattr(reader, "GRACE_SECONDS", 1000.0)
    shared = Threads()
    url = start_peer(polite, tls=server_tls if scheme == "wss" else None).url
    first, app = (Noting(url, threads=shared, ssl_cafile=ca_file) for _ in range(2))
    with running(first, persist=Backoff(0, 0)):
        assert first.wait_ready(PATIENCE)
        started: list[threading.Thread] = []
        stepped: set[str] = set()
        start, step = threading.Thread.start, Tasks._step

        def starting(thread: threading.Thread) -> None:
            started.append(thread)
            start(thread)

        def stepping(tasks: Tasks, *args: Any) -> None:
            stepped.add(threading.current_thread().name)
            step(tasks, *args)

        monkeypatch.setattr(threading.Thread, "start", starting)
        monkeypatch.setattr(Tasks, "_step", stepping)
        assert shared._crew is not None
        with running(app, persist=NEVER):
            assert app.wait_ready(PATIENCE)
            first.reconnect()
            first.wait_for("ready", 2)
        # Apart from supervisors, which watch over handlers, the log's thread, and the threads of the server.
        ours = {thread.name for thread in started if thread.name.startswith("lochws-")}
        assert not [name for name in ours if "supervisor" not in name and name != "lochws-log"]
        assert stepped == {shared._crew.reader._thread.name}
