"""Pings of the user, with and without automatic ones, and when they count as unanswered."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from lochws import WebSocketApp, events
from lochws import testing as t
from lochws.errors import QueueFull
from lochws.testing import LogEvents, StartServer, VirtualClock

from ..support.apps import echo, opened, running
from ..support.peer import CLOSE, PING, PONG, Link, StartPeer
from ..support.seen import PATIENCE, Noting

#: No timer of its own: only pings of the user's count.
QUIET = {"poll": 0, "ping_rate": 0, "persist": False}
#: The size of a message in `fill_with_small`.
SMALL = 1000


def test_a_ping_that_nobody_answers_times_out_without_any_other_timer(
    ws_server: StartServer, ws_events: LogEvents, ws_clock: VirtualClock
) -> None:
    app = WebSocketApp(ws_server([t.accept(), t.silence()]).url)
    log = ws_events(app)
    app.start(**QUIET, ping_timeout=30)
    log.wait_for(events.Ready)
    app.send_ping(b"anybody there?")
    ws_clock.advance(29.9)
    log.assert_exhausted()
    ws_clock.advance(0.1)
    log.wait_for(events.Unresponsive)
    end = log.wait_for(events.Event)
    assert end.reason == "ping timeout: nothing from the server for 30 s"  # type: ignore[attr-defined]
    log.assert_exhausted()


def test_a_ping_that_was_answered_does_not_time_out_later(
    ws_server: StartServer, ws_events: LogEvents, ws_clock: VirtualClock
) -> None:
    app = WebSocketApp(ws_server().url)
    log = ws_events(app)
    app.start(**QUIET, ping_timeout=30)
    log.wait_for(events.Ready)
    app.send_ping(b"there?")
    log.wait_for(events.Pong)
    ws_clock.advance(120)
    log.assert_exhausted()
    assert app.is_active


def test_a_ping_that_was_refused_does_not_count(
    ws_server: StartServer, ws_events: LogEvents, ws_clock: VirtualClock
) -> None:
    server = ws_server([t.accept(), t.stop_reading()])
    app = WebSocketApp(server.url, max_queue=100_000)
    log = ws_events(app)
    app.start(**QUIET, ping_timeout=30)
    log.wait_for(events.Ready)
    with pytest.raises(QueueFull):
        fill(app)
    with pytest.raises(QueueFull):
        app.send_ping(b"x")
    server.do(t.read_on())
    ws_clock.advance(120)
    log.assert_exhausted()
    assert app.is_active


def fill(app: WebSocketApp) -> None:
    while True:
        with suppress(QueueFull):  # said also while a little is gathered: the queue is not full then
            app.send_binary(bytes(100_000))
        while app._lochws.life.connection.sending.queue.is_blocked:  # type: ignore[union-attr]
            app.send_binary(b"x")


def test_a_server_that_takes_much_slowly_is_alive(start_peer: StartPeer, ws_clock: VirtualClock) -> None:
    total = 4_000_000
    is_over = threading.Event()
    may_read = threading.Event()  # not more than once in advance, even if the app's threads are held up

    def script(link: Link) -> None:
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        link.accept()
        while may_read.wait(PATIENCE) and not is_over.is_set():
            may_read.clear()
            link.read(65536)

    app = Noting(start_peer(script).url)
    with opened(app, ping_rate=30, ping_timeout=60, close_timeout=1):
        connection = app._lochws.life.connection
        assert connection is not None
        connection._stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        app.send_binary(bytes(total))
        began = ws_clock.monotonic()
        while app.counters.bytes_sent < total:
            before = app.counters.bytes_sent
            while app.counters.bytes_sent == before:
                may_read.set()
                threading.Event().wait(0.002)
            ws_clock.advance(20)
        assert ws_clock.monotonic() - began > 120
        app.force_disconnect()
        is_over.set()
        may_read.set()
    assert not app.all("unresponsive")


def test_a_ping_overtakes_the_messages_that_wait(start_peer: StartPeer) -> None:
    read = threading.Event()
    frames: list[tuple[int, bytes]] = []

    def script(link: Link) -> None:
        link.accept()
        link.send_frame(PING, b"hurry")
        assert read.wait(PATIENCE)
        while (received := link.read_frame())[0] != CLOSE:
            frames.append(received)
        link.send_frame(*received)

    app = Noting(start_peer(script).url)
    app.on("ready")(lambda _: fill_with_small(app))
    with running(app, ping_rate=0):
        app.wait_for("ping")
        waiting = app.queued_bytes // SMALL
        read.set()
    # A batch that is being written goes first.
    assert frames.index((PONG, b"hurry")) < len(frames) - waiting / 2


def fill_with_small(app: Noting) -> None:
    """Queue much more than the kernel takes, in small messages."""
    queue = app._lochws.life.connection.sending.queue  # type: ignore[union-attr]
    count = 0
    while not queue.is_blocked:
        count += app.send_binary(bytes(SMALL))
    for _ in range(2 * count):  # the kernel's buffers may grow
        app.send_binary(bytes(SMALL))


def test_the_first_automatic_ping_goes_out_at_once_and_latency_is_known(start_peer: StartPeer) -> None:
    app = Noting(start_peer(echo).url)
    with running(app, ping_rate=1000):
        pong = app.wait_for("pong")
        assert pong.latency is not None
        assert app.latency == pong.latency


def test_an_answer_to_a_later_ping_answers_the_earlier_ones(
    ws_server: StartServer, ws_events: LogEvents, ws_clock: VirtualClock
) -> None:
    def wait_for_three(connection: t.ServerConnection) -> None:
        connection.expect(lambda: len(connection.pings) == 3, "three pings")

    server = ws_server([t.accept(), t.answer_ping(None), wait_for_three, t.send_frame(PONG, b"2")])
    app = WebSocketApp(server.url)
    log = ws_events(app)
    app.start(**QUIET, ping_timeout=30)
    log.wait_for(events.Ready)
    for number in range(3):
        app.send_ping(b"%d" % number)
    assert log.wait_for(events.Pong).data == b"2"
    ws_clock.advance(120)
    log.assert_exhausted()
    assert app.is_active
