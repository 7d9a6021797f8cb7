"""Handlers slower than the server: events wait up to a bound, then TCP's flow control stops the server."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator

import pytest

from lochws.connection import receiving
from lochws.testing import VirtualClock

from ..support.apps import opened, running
from ..support.peer import BINARY, CLOSE, Link, StartPeer, frame
from ..support.scripts import answer_close
from ..support.seen import PATIENCE, Noting, eventually

INBOX = 1 << 20
MESSAGE = bytes(100_000)
COUNT = 400


@pytest.fixture(autouse=True)
def small_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds the inbox at 1 MiB."""
    monkeypatch.setattr(receiving, "INBOX_BYTES", INBOX)


class Flood:
    """A script that sends `COUNT` messages, and says when the client stops reading."""

    def __init__(self) -> None:
        self.stalled = threading.Event()
        self.sent = 0
        self.received: list[tuple[int, bytes]] = []

    def __call__(self, link: Link) -> None:
        link.accept()
        rest = memoryview(frame(BINARY, MESSAGE) * COUNT)
        link.sock.settimeout(0.3)
        while rest:
            try:
                taken = link.sock.send(rest)
            except TimeoutError:
                self.stalled.set()
                link.sock.settimeout(PATIENCE)
                continue
            self.sent += taken
            rest = rest[taken:]
        link.sock.settimeout(PATIENCE)
        self.received = answer_close(link)


class Stopped(Noting):
    """An app that handles no binary message before it is released."""

    go = threading.Event()

    def on_event(self, event: object) -> None:
        if event.name == "binary":  # type: ignore[attr-defined]
            assert self.go.wait(PATIENCE)
        super().on_event(event)  # type: ignore[arg-type]


@pytest.fixture
def stopped(start_peer: StartPeer) -> Iterator[tuple[Flood, Stopped]]:
    flood = Flood()
    app = Stopped(start_peer(flood).url)
    app.go = threading.Event()
    yield flood, app
    app.go.set()  # if the test has failed


def wait_for_pause(flood: Flood, app: Noting) -> None:
    """Wait until the server is held back, because the client has stopped reading."""
    assert flood.stalled.wait(PATIENCE)
    eventually(lambda: is_paused(app))


def is_paused(app: Noting) -> bool:
    connection = app._lochws.life.connection  # None until the app has read the upgrade response
    return connection is not None and connection._receiving.is_paused


def test_a_server_that_is_too_fast_is_held_back_and_nothing_is_lost(
    stopped: tuple[Flood, Stopped], ws_clock: VirtualClock
) -> None:
    flood, app = stopped
    with running(app, ping_rate=30, ping_timeout=60):
        assert flood.stalled.wait(PATIENCE)
        while not is_paused(app):
            ws_clock.advance(0.1, handlers=False)  # until a stand-in has taken the reader's place
        ws_clock.advance(300, handlers=False)  # a pause is no silence of the server
        inbox = app._lochws.life._inbox
        assert inbox is not None
        assert INBOX < inbox.backlog <= INBOX + 4 * 256 * 1024 + len(MESSAGE)
        assert flood.sent < COUNT * len(MESSAGE)
        app.go.set()
        app.wait_for("binary", COUNT)
        assert inbox.backlog == 0
    assert all(event.data == MESSAGE for event in app.all("binary"))
    assert not app.all("unresponsive")


def test_reading_goes_on_when_half_is_handled(start_peer: StartPeer) -> None:
    flood, may, pause = Flood(), threading.Semaphore(0), threading.Event()
    app = Noting(start_peer(flood).url)
    app.on("binary")(lambda _: may.acquire(timeout=PATIENCE))
    with running(app, ping_rate=0):
        wait_for_pause(flood, app)
        inbox, open_connection = app._lochws.life._inbox, app._lochws.life.connection
        assert inbox is not None
        assert open_connection is not None
        while inbox.backlog > INBOX // 2:
            may.release()
            pause.wait(0.001)
        # The handler of the next message stays away, so what reads is the reader's stand-in.
        eventually(lambda: not open_connection._receiving.is_paused or inbox.backlog > INBOX)
        may.release(COUNT)
        app.wait_for("binary", COUNT)


def test_sending_goes_on_while_reading_pauses(stopped: tuple[Flood, Stopped]) -> None:
    flood, app = stopped
    with running(app, ping_rate=0):
        wait_for_pause(flood, app)
        for number in range(10):
            app.send_text(str(number))
        app.go.set()
        app.wait_for("binary", COUNT)
    assert [payload for _, payload in flood.received] == [b"%d" % number for number in range(10)]


def test_a_server_that_goes_away_while_reading_pauses_is_noticed_in_the_end(
    stopped: tuple[Flood, Stopped], start_peer: StartPeer
) -> None:
    def script(link: Link) -> None:
        link.accept()
        link.sock.settimeout(0.3)
        try:
            link.send(frame(BINARY, MESSAGE) * COUNT)
        except TimeoutError:
            stalled.set()

    stalled = threading.Event()
    app = Stopped(start_peer(script).url)
    app.go = threading.Event()
    with running(app, ping_rate=0):
        assert stalled.wait(PATIENCE)
        app.go.set()
        end = app.wait_for("disconnected")
    assert end.ended_by == "network"
    assert 0 < len(app.all("binary")) < COUNT


@pytest.mark.parametrize("end", ["close", "force_disconnect", "reconnect"])
def test_ending_the_connection_while_reading_pauses(end: str, stopped: tuple[Flood, Stopped]) -> None:
    flood, app = stopped
    with running(app, close_timeout=0.2):
        wait_for_pause(flood, app)
        getattr(app, end)()
        app.go.set()
        app.wait_for("disconnected")


def test_both_sides_may_send_more_than_the_network_holds(start_peer: StartPeer) -> None:
    # Each waits until the other reads; who reads only between sends would wait for ever.
    def script(link: Link) -> None:
        link.accept()
        for _ in range(COUNT):
            link.send_frame(BINARY, MESSAGE)
        while link.read_frame()[0] != CLOSE:
            pass
        link.send_frame(CLOSE)

    app = Noting(start_peer(script).url, max_queue=1 << 30)
    with opened(app):
        for _ in range(COUNT):
            app.send_binary(MESSAGE)
        app.wait_for("binary", COUNT)
    assert app.counters.messages_sent == COUNT


def test_small_messages_that_inflate_to_much_are_bounded_too(start_peer: StartPeer) -> None:
    deflate = zlib.compressobj(9, wbits=-15)
    bomb = (deflate.compress(bytes(INBOX)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    sent = threading.Event()

    def script(link: Link) -> None:
        link.accept("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover")
        link.read_frame()  # the first ping: nothing else comes with the handshake
        link.send(frame(BINARY, bomb, rsv=4) * 100)
        sent.set()
        answer_close(link)

    def look(_: object) -> None:
        assert sent.wait(PATIENCE)
        eventually(lambda: app.counters.messages_received > 0)
        received.append(app.counters.messages_received)

    received: list[int] = []
    app = Noting(start_peer(script).url, compress=True)
    app.on("ready")(look)
    with opened(app):
        app.wait_for("binary", 100)
    assert received[0] <= 20  # MiB
