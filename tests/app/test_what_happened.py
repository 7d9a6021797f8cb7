"""The past, as events and the app report it: attempts, outages, how long a connection was open."""

from __future__ import annotations

from lochws import Backoff, WebSocket, events
from lochws import testing as t
from lochws.persist import persist
from lochws.testing import StartServer, VirtualClock

from ..support.apps import AT_ONCE, opened
from ..support.seen import PATIENCE, Noting

#: The size of the Close frame that `reconnect` sends; the answer is no larger.
CLOSE_SIZE = 2 + 4 + 2 + len("reconnect requested")
TEN_SECONDS = Backoff(min_wait=10.0, max_wait=10.0)


def test_ready_reports_the_attempt_and_the_outage_before_it(
    ws_server: StartServer, ws_clock: VirtualClock
) -> None:
    refuse = [t.upgrade(status=503)]
    feed = [t.accept(), t.send("last"), t.wait_for("end"), t.fin()]
    server = ws_server(refuse, feed, refuse, refuse, [t.accept()])
    app = Noting(server.url)
    app.start(poll=0, persist=TEN_SECONDS)
    app.wait_for("back_off")
    ws_clock.advance(10)
    first = app.wait_for("ready")
    assert (first.attempt, first.is_reconnect, first.outage, first.last_message_at) == (2, False, None, None)
    app.wait_for("text")
    ws_clock.advance(25)
    app.send_text("end")
    end = app.wait_for("disconnected", 2)
    assert end.opened_for == 25
    for refusals in (2, 3, 4):
        app.wait_for("back_off", refusals)
        ws_clock.advance(10)
    second = app.wait_for("ready", 2)
    assert (second.attempt, second.is_reconnect, second.outage) == (3, True, 30)
    assert second.last_message_at == app.all("text")[0].received_time
    assert app.stop(PATIENCE)


def test_a_new_start_forgets_the_past(ws_server: StartServer) -> None:
    app = Noting(ws_server().url)
    for count in (1, 2):
        with opened(app):
            ready = app.wait_for("ready", count)
    assert (ready.attempt, ready.is_reconnect, ready.outage) == (1, False, None)


def test_each_connection_has_its_own_counters(ws_server: StartServer) -> None:
    app = Noting(ws_server().url)
    with opened(app, poll=0, ping_rate=0, persist=AT_ONCE):
        for count, words in enumerate(("one", "two!"), 1):
            app.wait_for("ready", count)
            assert app.wait_ready(PATIENCE)
            app.send_text(words)
            app.wait_for("text", count)
            app.reconnect()
            app.wait_for("disconnected", count)
        app.wait_for("ready", 3)
    for end, words in zip(app.all("disconnected"), ("one", "two!"), strict=False):
        found = end.counters
        assert (found.connections, found.messages_received, found.messages_sent) == (1, 1, 1)
        # The Close frames of both sides may be among the bytes.
        assert 0 <= found.bytes_received - (2 + len(words)) <= CLOSE_SIZE
        assert 0 <= found.bytes_sent - (2 + 4 + len(words)) <= CLOSE_SIZE
    total = app.counters
    assert (total.connections, total.messages_received, total.messages_sent) == (3, 2, 2)


def test_persist_reports_the_past_too(ws_server: StartServer) -> None:
    server = ws_server([t.accept(), t.send("one"), t.fin()], [t.upgrade(status=503)], [t.accept()])
    found: list[events.Ready] = []
    websocket = WebSocket(server.url)
    feed = persist(websocket, min_wait=0, max_wait=0)
    for event in feed:
        if isinstance(event, events.Ready):
            found.append(event)
            if len(found) == 2:
                websocket.close()
    first, second = found
    assert (first.attempt, first.is_reconnect) == (1, False)
    assert (second.attempt, second.is_reconnect) == (2, True)
    assert second.outage is not None
    assert second.outage >= 0
    assert second.last_message_at is not None
