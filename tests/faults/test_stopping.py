"""Faults of stopping: wherever an app is, it ends in time, and its last attempt in one final event."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from lochws import Threads
from lochws import testing as t
from lochws.errors import WebSocketError

from ..support.apps import AT_ONCE, running
from ..support.awake import Awake
from ..support.hang import Hang
from ..support.peer import TEXT, Link, StartPeer, frame
from ..support.programs import Run
from ..support.scripts import polite
from ..support.seen import PATIENCE, Noting, eventually, in_thread
from .life import OPENED
from .registry import fault

#: Seconds within which an app is over that nothing holds up.
SOON = 1.0


@fault("stopping", "close during DNS, TCP, TLS, the upgrade or the back-off")
@pytest.mark.parametrize("shared", [False, True], ids=["own threads", "shared threads"])
@pytest.mark.parametrize("end", ["close", "stop"])
@pytest.mark.parametrize("where", ["resolve", "tcp", "proxy", "tls", "request", "upgrade"])
def test_an_app_that_is_closed_while_it_connects_is_over_within_a_second(
    where: str, end: str, shared: bool, hang: Hang, awake: Awake
) -> None:
    reached = threading.Event()
    hang.reached = reached.set
    url, options = getattr(hang, where)()
    phase = "upgrade" if where == "request" else where
    app = Noting(url, threads=Threads() if shared else None, **options)
    with running(app, persist=AT_ONCE):
        assert reached.wait(PATIENCE)
        eventually(lambda: getattr(app._lochws.life._deadline, "phase", "") == phase)
        began = awake()
        getattr(app, end)()
        assert app.wait_closed(PATIENCE)
        assert awake() - began < SOON
    upgrading = where == "upgrade"
    assert app.names() == ["connecting", *(["connected", "disconnected"] if upgrading else ["connect_fail"])]
    last: Any = app.events[-1]
    assert app._lochws.life.final_event is last
    assert last.phase == phase


@fault("stopping", "Ten threads close at once")
def test_whoever_closes_stops_joins_or_reconnects_meanwhile_all_calls_return_and_there_is_one_end() -> None:
    calls = [Noting.close, Noting.stop, Noting.join, Noting.wait_closed, Noting.reconnect] * 2
    for _ in range(5):
        with t.ScriptedServer() as server:
            app = Noting(server.url)
            with running(app, persist=AT_ONCE):
                assert app.wait_ready(PATIENCE)
                start = threading.Barrier(len(calls))

                def call(function: Callable[[Noting], object], start: threading.Barrier = start,
                         app: Noting = app) -> None:
                    start.wait(PATIENCE)
                    with suppress(WebSocketError):  # reconnect, when it is over
                        function(app)

                threads = [in_thread(partial(call, function)) for function in calls]
                for thread in threads:
                    thread.join(PATIENCE)
                    assert not thread.is_alive()
            closes = [connection.close_frame for connection in server.connections if connection.close_frame]
        assert len(closes) <= len(app.all("ready"))  # the order of events is looked at by `running`


@fault("stopping", "The server ignores our Close frame")
def test_a_peer_that_ignores_close_and_goes_on_sending_ends_with_close_timeout() -> None:
    script = [t.accept(), t.ignore_close(), *[t.send_raw(frame(TEXT, b"more")), t.pause(0.01)] * 100]
    with t.ScriptedServer(script) as server:
        app = Noting(server.url)
        with running(app, persist=AT_ONCE, close_timeout=0.1, poll=0):
            assert app.wait_ready(PATIENCE)
            app.close()
            assert app.wait_closed(PATIENCE)
    last: Any = app.events[-1]
    assert last.reason == "the server did not answer our Close frame within 0.1 s"
    assert (last.graceful, last.ended_by) == (False, "network")
    assert (last.sent_code, last.received_code) == (1000, None)
    assert app.names("pong", "text") == [*OPENED, "disconnected"]


@fault("stopping", "Ctrl-C")
def test_ctrl_c_gets_through_though_a_handler_never_returns(run: Run, start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        link.accept()
        link.send_frame(TEXT, b"x")
        link.wait_for_end()

    program = run("""
import lochws.app
lochws.life.interruption.INTERRUPT_SECONDS = 0.1
def text(event):
    say("in the handler")
    time.sleep(1000)
app.on("text")(text)
app.run_forever()
""", start_peer(script).url)
    program.wait_for("in the handler")
    program.send(signal.SIGINT)
    status, output, errors = program.end()
    assert (status, output) == (-signal.SIGINT, "")
    assert errors.rstrip().endswith("KeyboardInterrupt")


@fault("stopping", "stop() in a handler")
def test_stop_in_a_handler_of_another_app_waits_for_that_app(start_peer: StartPeer) -> None:
    url = start_peer(polite).url
    first, second = Noting(url), Noting(url)
    stopped: list[bool] = []
    second.on("ready")(lambda _: stopped.append(first.stop(PATIENCE)))
    with running(first), running(second):
        second.wait_for("ready")
        assert second.wait_ready(PATIENCE)
        assert first.is_closed
    assert stopped == [True]
