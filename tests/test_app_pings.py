"""Pings of the user's, with and without automatic ones: what counts as unanswered."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from lochws.errors import QueueFull

from .apps import echo, opened, running
from .peer import CLOSE, PING, PONG, TEXT, Link, StartPeer
from .scripts import answer_close, silent
from .seen import PATIENCE, Noting, eventually


def test_a_ping_that_nobody_answers_times_out_without_any_other_timer(start_peer: StartPeer) -> None:
    app = Noting(start_peer(silent).url)
    with opened(app, poll=0, ping_rate=0, ping_timeout=0.03):
        app.send_ping(b"anybody there?")
        end = app.wait_for("disconnected")
    assert end.reason == "disconnected; exceeded 0.03s ping timeout"
    assert app.names()[-2:] == ["unresponsive", "disconnected"]


def test_a_ping_that_was_answered_does_not_time_out_later(start_peer: StartPeer) -> None:
    app = Noting(start_peer(echo).url)
    with opened(app, poll=0.02, ping_rate=0, ping_timeout=0.03):
        app.send_ping(b"there?")
        app.wait_for("pong")
        app.wait_for("poll", len(app.all("poll")) + 4)
        assert app.is_active
    assert not app.all("unresponsive")


def test_a_ping_that_was_refused_does_not_count(start_peer: StartPeer) -> None:
    read = threading.Event()

    def script(link: Link) -> None:
        link.accept()
        assert read.wait(PATIENCE)
        answer_close(link)

    app = Noting(start_peer(script).url, max_queue=100_000)
    with opened(app, poll=0.02, ping_rate=0, ping_timeout=0.03):
        with pytest.raises(QueueFull):
            fill(app)
        with pytest.raises(QueueFull):
            app.send_ping(b"x")
        read.set()
        app.wait_for("poll", len(app.all("poll")) + 4)
        assert app.is_active
    assert not app.all("unresponsive")


def fill(app: Noting) -> None:
    while True:
        with suppress(QueueFull):  # said also while a little is gathered: the queue is not full then
            app.send_binary(bytes(100_000))
        while app._lifecycle.connection.sending.queue.wants_write:  # type: ignore[union-attr]
            app.send_binary(b"x")


def test_a_server_that_takes_much_slowly_is_alive(start_peer: StartPeer) -> None:
    total = 4_000_000
    pause = threading.Event()

    def script(link: Link) -> None:
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        link.accept()
        while len(link.read(65536)) == 65536 and not pause.is_set():
            pause.wait(0.005)
        link.wait_for_end()

    app = Noting(start_peer(script).url)
    with opened(app, ping_rate=0.02, ping_timeout=0.15, close_timeout=0.1):
        connection = app._lifecycle.connection
        assert connection is not None
        connection._stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        app.send_binary(bytes(total))
        eventually(lambda: app.counters.bytes_sent > total or not app.is_active)
        assert app.is_active
        pause.set()
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
        read.set()
    assert frames.index((PONG, b"hurry")) < len(frames) / 2


def fill_with_small(app: Noting) -> None:
    """Twice as much as the kernel takes, in small messages."""
    queue = app._lifecycle.connection.sending.queue  # type: ignore[union-attr]
    count = 0
    while not queue.wants_write:
        count += app.send_binary(bytes(1000))
    for _ in range(count):
        app.send_binary(bytes(1000))


def test_the_first_automatic_ping_goes_out_at_once_and_latency_is_known(start_peer: StartPeer) -> None:
    app = Noting(start_peer(echo).url)
    with running(app, ping_rate=1000):
        pong = app.wait_for("pong")
        assert pong.latency is not None
        assert app.latency == pong.latency


def test_an_answer_to_a_later_ping_answers_the_earlier_ones(start_peer: StartPeer) -> None:
    def script(link: Link) -> None:
        link.accept()
        seen = [link.read_frame() for _ in range(3)]
        assert [opcode for opcode, _ in seen] == [PING] * 3
        link.send_frame(PONG, seen[-1][1])
        link.send_frame(TEXT, b"done")
        answer_close(link)

    app = Noting(start_peer(script).url)
    with opened(app, ping_rate=0, ping_timeout=0.05, poll=0.02):
        for number in range(3):
            app.send_ping(b"%d" % number)
        app.wait_for("text")
        app.wait_for("poll", len(app.all("poll")) + 4)
    assert not app.all("unresponsive")
