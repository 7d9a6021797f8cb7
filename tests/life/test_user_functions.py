"""Functions given as options, trace functions and hooks: they may stop the app, and may never return."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.cookiejar import CookieJar
from typing import Any

import pytest

from lochws import Backoff, Threads, WebSocket
from lochws.errors import WebSocketError

from ..faults.registry import fault
from ..support.apps import NEVER, check_order
from ..support.peer import StartPeer
from ..support.scripts import polite
from ..support.seen import PATIENCE, Noting, eventually

#: What each option's function returns, for a URL of the test's server.
ANSWERS: dict[str, Callable[[str], Any]] = {
    "url": lambda url: url,
    "headers": lambda _: {},
    "protocols": lambda _: (),
    "auth": lambda _: ("user", "password"),
    "proxies": lambda _: None,
    "connect": lambda url: socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2].strip("/")))),
}
#: What may not be called there, as it would wait for the app.
WAITS: dict[str, Callable[[Noting], object]] = {
    "join": Noting.join,
    "wait_ready": Noting.wait_ready,
    "wait_closed": Noting.wait_closed,
}


def app_with(option: str, url: str, function: Callable[[], Any], **options: Any) -> Noting:
    """Return an app with a function as one of its options."""
    if option == "url":
        return Noting(function, **options)
    return Noting(url, **{option: (lambda *_: function())}, **options)


@pytest.mark.parametrize("option", ANSWERS)
class TestOptions:
    def test_stop_closes_and_returns(self, option: str, start_peer: StartPeer) -> None:
        results: list[bool] = []

        def function() -> Any:
            results.append(app.stop())
            return ANSWERS[option](url)

        url = start_peer(polite).url
        app = app_with(option, url, function)
        app.start()
        assert app.join(PATIENCE)
        eventually(lambda: results == [False])  # the app may have ended before `stop` returned
        check_order(app.names())

    @pytest.mark.parametrize("method", WAITS)
    def test_what_would_wait_for_the_app_raises(
        self, option: str, method: str, start_peer: StartPeer
    ) -> None:
        errors: list[WebSocketError] = []

        def function() -> Any:
            try:
                WAITS[method](app)
            except WebSocketError as error:
                errors.append(error)
            return ANSWERS[option](url)

        url = start_peer(polite).url
        app = app_with(option, url, function)
        app.start()
        assert app.wait_ready(PATIENCE)
        assert method in str(errors[0])
        assert app.stop(PATIENCE)

    def test_another_app_may_be_waited_for(self, option: str, start_peer: StartPeer) -> None:
        def function() -> Any:
            other = Noting(url, threads=shared)
            other.start(persist=NEVER)
            assert other.wait_ready(PATIENCE)
            assert other.stop(PATIENCE)
            return ANSWERS[option](url)

        url, shared = start_peer(polite).url, Threads(2)
        app = app_with(option, url, function, threads=shared)
        app.start(persist=NEVER)
        assert app.wait_ready(PATIENCE)
        assert app.stop(PATIENCE)

    @fault("program", "A function for headers or URL never returns")
    def test_one_that_does_not_return_does_not_keep_close_from_ending_the_app(
        self, option: str, start_peer: StartPeer, stuck: Stuck
    ) -> None:
        app = app_with(option, start_peer(polite).url, stuck, open_timeout=None)
        app.start()
        assert stuck.entered.wait(PATIENCE)
        app.close()
        assert app.join(PATIENCE)
        check_order(app.names())

    @fault("program", "A function for headers or URL never returns")
    def test_one_that_does_not_return_takes_one_thread_and_fails_each_attempt(
        self, option: str, start_peer: StartPeer, stuck: Stuck
    ) -> None:
        app = app_with(option, start_peer(polite).url, stuck, open_timeout=0.1)
        app.start(persist=Backoff(0, 0))
        app.wait_for("connect_fail", 5)
        assert "timed out after 0.1 s" in app.all("connect_fail")[-1].reason
        assert stuck.calls == 1
        url = start_peer(polite).url
        stuck.answer = lambda: ANSWERS[option](url)
        assert app.stop(PATIENCE)

    def test_one_that_is_late_is_waited_for_by_the_next_attempt(
        self, option: str, start_peer: StartPeer, stuck: Stuck
    ) -> None:
        url = start_peer(polite).url
        stuck.answer = lambda: ANSWERS[option](url)
        app = app_with(option, url, stuck, open_timeout=0.3)
        app.start(persist=Backoff(0, 0))
        app.wait_for("connect_fail")
        app.wait_for("back_off")
        stuck.go.set()
        assert app.wait_ready(PATIENCE)
        assert app.stop(PATIENCE)

    @pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), OSError()])
    def test_whatever_it_raises_the_attempt_has_a_beginning_and_an_end(
        self, option: str, error: BaseException, start_peer: StartPeer
    ) -> None:
        def function() -> Any:
            raise error

        app = app_with(option, start_peer(polite).url, function)
        app.start(persist=False)
        assert app.join(PATIENCE)
        assert app.names() == ["connecting", "connect_fail"]

    def test_an_exception_whose_text_cannot_be_shown_is_reported_by_its_type(
        self, option: str, start_peer: StartPeer
    ) -> None:
        class Textless(BaseException):
            def __str__(self) -> str:
                raise self

        def function() -> Any:
            raise Textless

        app = app_with(option, start_peer(polite).url, function)
        app.start(persist=False)
        assert app.join(PATIENCE)
        assert app.names() == ["connecting", "connect_fail"]
        assert "Textless" in app.events[-1].reason


class Stuck:
    """A function that does not return before the test releases it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.calls = 0
        self.answer: Callable[[], Any] = dict

    def __call__(self) -> Any:
        self.calls += 1
        self.entered.set()
        assert self.go.wait(3 * PATIENCE)
        return self.answer()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    stuck = Stuck()
    yield stuck
    stuck.go.set()
    eventually(lambda: not [one for one in threading.enumerate() if one.name.startswith("lochws-")])


class TestOtherFunctions:
    """The retry hook runs on a thread of its own; trace functions and on_sent on whatever thread acts."""

    @pytest.mark.parametrize("where", ["retry", "trace", "sent"])
    def test_stop_closes_and_returns_and_waits_raise(self, where: str, start_peer: StartPeer) -> None:
        results: list[bool] = []
        refused: list[str] = []
        begun: list[bool] = []
        done = threading.Event()

        def function(*_: object) -> float:
            if not begun and (where != "trace" or app.is_active):
                begun.append(True)  # stop() itself is traced
                results.append(app.stop())
                for name, method in WAITS.items():
                    try:
                        method(app)
                    except WebSocketError:
                        refused.append(name)
                done.set()
            return 0.0

        url = "ws://127.0.0.1:1/" if where == "retry" else start_peer(polite).url
        app = Noting(url, trace=function if where == "trace" else None)
        if where == "sent":
            app.on("sent")(function)
        app.start(persist=Backoff(0, 0, retry=function))
        if where != "retry":
            app.wait_for("ready")
            if not app.is_closing:
                try:
                    app.send_text("from this thread")
                except WebSocketError:
                    pass  # the first ping was faster
        assert done.wait(PATIENCE)
        assert app.join(PATIENCE)
        assert results == [False]
        assert [name for name in refused if name != "wait_ready"] == ["join", "wait_closed"]


class TestRetryHook:
    def test_one_that_does_not_return_does_not_keep_close_from_ending_the_app(self, stuck: Stuck) -> None:
        app = Noting("ws://127.0.0.1:1/")
        app.start(persist=Backoff(0, 0, retry=lambda _: stuck()))
        assert stuck.entered.wait(PATIENCE)
        app.close()
        assert app.join(PATIENCE)
        assert app.names() == ["connecting", "connect_fail"]
        stuck.answer = lambda: 0.0

    def test_one_that_does_not_return_gives_way_to_reconnect(self, stuck: Stuck) -> None:
        app = Noting("ws://127.0.0.1:1/")
        app.start(persist=Backoff(0, 0, retry=lambda _: stuck()))
        assert stuck.entered.wait(PATIENCE)
        app.reconnect()
        app.wait_for("connect_fail", 2)
        assert app.stop(PATIENCE)
        stuck.answer = lambda: 0.0

    def test_one_that_has_not_been_called_yet_gives_way_to_reconnect(self, stuck: Stuck) -> None:
        go = threading.Event()
        app = Noting("ws://127.0.0.1:1/")
        life = app._lochws.life

        def keep_busy(_: object) -> None:
            if not go.is_set():  # the only supervisor, which would call the hook
                life._crew.supervisor.call_soon(partial(go.wait, PATIENCE))

        app.on("connect_fail")(keep_busy)
        app.start(persist=Backoff(0, 0, retry=lambda _: stuck()))
        eventually(lambda: life._asking is not None)
        app.reconnect()
        go.set()
        app.wait_for("connect_fail", 2)
        assert app.stop(PATIENCE)
        stuck.answer = lambda: 0.0

    @pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="what is open cannot be counted")
    def test_without_a_free_descriptor_it_is_called_all_the_same(self) -> None:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        app = Noting("ws://127.0.0.1:1/")

        def use_up(_: object) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))

        app.on("connect_fail")(use_up)
        try:
            app.start(persist=Backoff(0, 0, retry=lambda _: 1000.0))
            app.wait_for("back_off")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert app.all("back_off")[0].delay == 1000
        assert app.stop(PATIENCE)

    def test_one_that_does_not_return_costs_no_other_app(self, start_peer: StartPeer, stuck: Stuck) -> None:
        shared = Threads(2)
        app = Noting("ws://127.0.0.1:1/", threads=shared)
        app.start(persist=Backoff(0, 0, retry=lambda _: stuck()))
        assert stuck.entered.wait(PATIENCE)
        good = Noting(start_peer(polite).url, threads=shared)
        good.start()
        assert good.wait_ready(PATIENCE)
        assert good.stop(PATIENCE)
        assert app.stop(PATIENCE)
        stuck.answer = lambda: 0.0

    def test_its_answer_counts_when_it_comes(self, stuck: Stuck) -> None:
        app = Noting("ws://127.0.0.1:1/")
        app.start(persist=Backoff(1000, 1000, retry=lambda _: stuck()))
        assert stuck.entered.wait(PATIENCE)
        assert app.state.value == "disconnected"
        stuck.answer = lambda: 0.0
        stuck.go.set()
        app.wait_for("connect_fail", 2)
        assert app.all("back_off")[0].delay == 0.0
        assert app.stop(PATIENCE)


@pytest.mark.parametrize("option", ["url", "headers"])
def test_apps_whose_functions_do_not_return_leave_the_supervisors_to_others(
    option: str, start_peer: StartPeer, stuck: Stuck
) -> None:
    shared = Threads(2)
    url = start_peer(polite).url
    apps = [app_with(option, url, stuck, threads=shared) for _ in range(4)]
    for app in apps:
        app.start(persist=NEVER)
    assert stuck.entered.wait(PATIENCE)
    good = Noting(start_peer(polite).url, threads=shared)
    good.start(persist=NEVER)
    assert good.wait_ready(PATIENCE)
    stuck.answer = lambda: url if option == "url" else {}
    stuck.go.set()
    for app in (good, *apps):
        assert app.stop(PATIENCE)


@pytest.mark.parametrize("option", ["url", "headers"])
def test_in_an_iteration_functions_run_on_the_iterating_thread(option: str, start_peer: StartPeer) -> None:
    threads: list[threading.Thread] = []

    def function() -> Any:
        threads.append(threading.current_thread())
        return ANSWERS[option](url)

    url = start_peer(polite).url
    websocket = WebSocket(function) if option == "url" else WebSocket(url, headers=function)
    for event in websocket:
        if event.name == "ready":
            websocket.close()
    assert threads == [threading.current_thread()]


def test_ctrl_c_in_an_iteration_goes_through_the_function_to_the_program(start_peer: StartPeer) -> None:
    def function() -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(WebSocket(start_peer(polite).url, headers=function))


def test_sys_exit_in_a_url_function_fails_the_attempt_and_not_the_program() -> None:
    app = Noting(lambda: sys.exit("no token"))
    app.start(persist=False)
    assert app.join(PATIENCE)
    assert app.names() == ["connecting", "connect_fail"]
    assert "no token" in app.events[-1].reason


class TestAJarThatBlocks:
    """``cookies=``: a jar that takes its time over the server's answer."""

    @pytest.fixture
    def jar(self) -> Iterator[CookieJar]:
        class Slow(CookieJar):
            def extract_cookies(self, response: Any, request: Any) -> None:
                asked.set()
                may_return.wait(PATIENCE)

        asked = self.asked = threading.Event()
        may_return = threading.Event()
        try:
            yield Slow()
        finally:
            may_return.set()

    def test_closing_the_app_ends_the_attempt_without_an_error(
        self, start_peer: StartPeer, jar: CookieJar, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = Noting(start_peer(polite).url, cookies=jar)
        app.start()
        assert self.asked.wait(PATIENCE)
        assert app.stop(PATIENCE)
        check_order(app.names())
        assert app.names()[-1] == "disconnected"
        assert "unexpected" not in caplog.text

    def test_the_limit_ends_the_attempt_without_an_error(
        self, start_peer: StartPeer, jar: CookieJar, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = Noting(start_peer(polite).url, cookies=jar, open_timeout=0.3)
        app.start(persist=Backoff(0, 0))  # an attempt may end before it comes to the jar
        app.wait_for("disconnected")
        assert app.stop(PATIENCE)
        check_order(app.names())
        assert self.asked.is_set()
        assert "unexpected" not in caplog.text
