"""Waits of months and of centuries, although system calls count milliseconds in 32 bits."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lochws import Backoff, WebSocket, WebSocketApp, events
from lochws.handlers.replies import Replies
from lochws.testing import ScriptedServer, accept, echo, fin, wait_for

from ..support.apps import running
from ..support.seen import PATIENCE, eventually

#: More milliseconds than selectors can count; more seconds than locks can wait; more than a clock has.
LONG = (3e6, 1e10, 1e300)
PHASES = ("resolve", "tcp", "proxy", "tls", "upgrade")


def timing(seconds: float) -> dict[str, Any]:
    return {"poll": seconds, "ping_rate": seconds, "ping_timeout": seconds, "close_timeout": seconds}


@pytest.mark.parametrize("seconds", LONG)
def test_an_app_opens_talks_and_backs_off_with_them(seconds: float) -> None:
    class App(WebSocketApp):
        def on_poll(self, _: events.Poll) -> None:
            """Has polls made."""

        def on_text(self, event: events.Text) -> None:
            seen.append(event.text)

    seen: list[str] = []
    with ScriptedServer([accept(), wait_for("a"), fin()], [accept(), echo()]) as server:
        app = App(
            server.url, open_timeout=seconds, phase_timeouts=dict.fromkeys(PHASES, seconds),
            when_full="block", send_timeout=seconds,
        )
        with running(app, **timing(seconds), persist=Backoff(min_wait=seconds, max_wait=seconds)):
            assert app.wait_ready(seconds)
            app.call_later(seconds, threading.Event().set)
            app.send_text("a")
            eventually(lambda: app.state.value == "backing off")
            app.reconnect()
            assert app.wait_ready(seconds)
            app.send_text("b")
            eventually(lambda: seen == ["b"])
        assert app.join(seconds)


@pytest.mark.parametrize("seconds", LONG)
def test_an_iteration_waits_with_them(seconds: float) -> None:
    with ScriptedServer() as server:
        websocket = WebSocket(server.url, open_timeout=seconds)
        for event in websocket.connect(**timing(seconds)):
            if isinstance(event, events.Ready):
                websocket.send_text("a")
            elif isinstance(event, events.Text):
                websocket.close()
    assert isinstance(event, events.Disconnected)
    assert event.graceful


@pytest.mark.parametrize("seconds", LONG)
def test_a_request_waits_with_them_for_its_reply(seconds: float) -> None:
    with ScriptedServer() as server, running(WebSocketApp(server.url)) as app:
        assert app.wait_ready(PATIENCE)
        assert Replies(app).request({"a": 1}, timeout=seconds).result(PATIENCE)["a"] == 1
