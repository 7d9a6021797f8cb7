"""Lost connections: what the events say, and how an app reconnects, by itself or when asked to."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from lochws import Backoff, WebSocketApp
from lochws.errors import QueueFull, WebSocketError

from ..faults.registry import fault
from ..support.apps import AT_ONCE, NEVER, echo, opened, running
from ..support.awake import Awake
from ..support.peer import BINARY, CLOSE, TEXT, Link, Peer, StartPeer, frame
from ..support.scripts import answer_close, polite
from ..support.seen import PATIENCE, Noting, eventually


class Losing:
    """A server that greets, drops the connection when told to, and keeps the next one."""

    def __init__(self, lose: Callable[[Link], object]) -> None:
        self._lose = lose
        self._served = 0
        self.now = threading.Event()

    def __call__(self, link: Link) -> None:
        self._served += 1
        link.accept()
        link.send_frame(TEXT, b"hello")
        if self._served > 1:
            answer_close(link)
            return
        assert self.now.wait(PATIENCE)
        self._lose(link)


def mid_frame(link: Link) -> None:
    link.send(frame(BINARY, bytes(1000))[:500])
    link.finish()


def mid_message(link: Link) -> None:
    link.send_frame(TEXT, b"half a mess", fin=False)
    link.finish()


def half_closed(link: Link) -> None:
    link.finish()
    link.wait_for_end()  # goes on reading


LOSSES = [
    (Link.finish, "connection lost: ended by the server"),
    (Link.reset, "connection lost: reset by the server"),
    (mid_frame, "connection lost: ended by the server"),
    (mid_message, "connection lost: ended by the server"),
    (half_closed, "connection lost: ended by the server"),
]


class TestLosing:
    @pytest.mark.parametrize(("lose", "reason"), LOSSES, ids=lambda value: getattr(value, "__name__", ""))
    def test_a_lost_connection_says_why_and_another_follows(
        self, lose: Callable[[Link], object], reason: str, start_peer: StartPeer
    ) -> None:
        losing = Losing(lose)
        app = Noting(start_peer(losing).url)
        # No pings: one that the server had not read would make its end a reset.
        with running(app, persist=AT_ONCE, ping_rate=0):
            app.wait_for("text")
            losing.now.set()
            end = app.wait_for("disconnected")
            app.wait_for("text", 2)
        assert end.reason.startswith(reason)
        assert (end.ended_by, end.graceful, end.phase) == ("network", False, "open")
        assert (end.sent_code, end.received_code, end.unsent) == (None, None, ())
        assert [event.text for event in app.all("text")] == ["hello", "hello"]

    @fault("sending", "A send during a reconnect")
    def test_a_connection_reset_while_a_thread_sends_ends_once_and_accounts_for_everything(
        self, start_peer: StartPeer
    ) -> None:
        def script(link: Link) -> None:
            link.accept()
            while link.read_frame() != (TEXT, b"500"):
                pass
            link.reset()

        for _ in range(5):
            app = Noting(start_peer(script).url)
            accepted = []
            with opened(app, ping_rate=0):
                for number in range(100_000):
                    try:
                        app.send_text(str(number))
                    except WebSocketError:
                        break
                    accepted.append(str(number))
                end = app.wait_for("disconnected")
            assert end.ended_by == "network"
            unsent = list(end.unsent)
            assert unsent == accepted[len(accepted) - len(unsent):]
            assert app.counters.messages_sent == len(accepted) - len(unsent)

    def test_what_the_server_said_before_it_was_lost_is_delivered(self, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            for number in range(1000):
                link.send_frame(TEXT, b"%d" % number)

        app = Noting(start_peer(script).url)
        with running(app, ping_rate=0):
            app.wait_for("disconnected")
        assert [event.text for event in app.all("text")] == [str(number) for number in range(1000)]


class TestReconnect:
    def test_of_an_open_connection_drops_it_and_opens_another_at_once(
        self, start_peer: StartPeer, awake: Awake
    ) -> None:
        app = Noting(start_peer(polite).url)
        with opened(app, persist=NEVER):
            began = awake()
            for number in range(1, 6):
                app.reconnect()
                assert app.wait_ready(PATIENCE)
                assert len(app.all("ready")) == number + 1
            assert awake() - began < 2
        assert not app.all("back_off")
        end = app.all("disconnected")[0]
        assert (end.reason, end.ended_by, end.sent_code) == ("reconnect requested", "client", 1001)

    def test_works_without_persistence(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(polite).url)
        with opened(app, persist=False):
            app.reconnect()
            app.wait_for("ready", 2)

    def test_during_a_back_off_ends_it(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(Link.accept).url)
        with running(app, persist=NEVER):
            for number in range(1, 6):
                app.wait_for("back_off", number)
                app.reconnect()
        assert app.names().count("connecting") >= 5

    def test_while_connecting_changes_nothing(self, start_peer: StartPeer) -> None:
        go = threading.Event()

        def script(link: Link) -> None:
            assert go.wait(PATIENCE)
            polite(link)

        app = Noting(start_peer(script).url)
        with running(app, persist=NEVER):
            app.wait_for("connected")
            app.reconnect()
            go.set()
            assert app.wait_ready(PATIENCE)
        assert app.names().count("connecting") == 1

    @pytest.mark.parametrize("name", ["ready", "text", "closing", "disconnected", "back_off"])
    def test_in_a_handler(self, name: str, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"x")
            if name in ("ready", "text"):
                answer_close(link)
            elif name == "closing":
                link.send_frame(CLOSE, b"\x03\xe8")
                answer_close(link)

        app = Noting(start_peer(script).url)
        app.on(name)(lambda _: app.reconnect())
        with running(app, persist=NEVER):
            app.wait_for("connecting", 4)

    def test_after_close_does_nothing(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(polite).url)
        with opened(app, persist=AT_ONCE):
            app.close()
            try:
                app.reconnect()
            except WebSocketError:
                assert app.is_closed
            assert app.wait_closed(PATIENCE)
        assert app.names().count("connecting") == 1

    def test_of_an_app_that_does_not_run_is_refused(self, start_peer: StartPeer) -> None:
        app = WebSocketApp(start_peer(polite).url)
        with pytest.raises(WebSocketError, match="has not been started"):
            app.reconnect()
        with opened(app):
            pass
        with pytest.raises(WebSocketError, match="stopped"):
            app.reconnect()

    def test_from_many_threads_leaves_one_connection(self, start_peer: StartPeer) -> None:
        peer = start_peer(echo)
        app = Noting(peer.url)
        with opened(app, persist=AT_ONCE):
            threads = [threading.Thread(target=app.reconnect) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            assert app.wait_ready(PATIENCE)
            app.send_text("still there")
            app.wait_for("text")
        assert len(peer.links) == app.counters.connections


    def test_does_not_count_as_a_failure(self, start_peer: StartPeer) -> None:
        losing = Losing(Link.finish)
        losing._served = 1
        app = Noting(start_peer(losing).url)
        with running(app, persist=Backoff(0, 0, max_attempts=2)):
            for number in range(1, 5):
                app.wait_for("text", number)
                app.reconnect()
            app.wait_for("text", 5)
            app.force_disconnect()  # the first failure of at most two
            app.wait_for("text", 6)
        assert app.names().count("back_off") == 1


class TestForceDisconnect:
    def test_drops_the_connection_and_the_back_off_applies(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(polite).url)
        with opened(app, persist=AT_ONCE):
            app.force_disconnect()
            app.wait_for("ready", 2)
        assert app.names("poll", "pong", "closed")[3:5] == ["disconnected", "back_off"]
        assert app.all("disconnected")[0].reason == "force_disconnect was called"

    def test_needs_no_answer_and_no_room(self, start_peer: StartPeer, awake: Awake) -> None:
        def deaf(link: Link) -> None:
            link.accept()
            assert gone.wait(PATIENCE)

        gone = threading.Event()
        app = Noting(start_peer(deaf).url)
        with opened(app):
            queue = app._lochws.life.connection.sending.queue  # type: ignore[union-attr]
            while not queue.is_blocked:
                try:
                    app.send_binary(bytes(100_000))
                except QueueFull:  # the loop has yet to find out that the kernel is full
                    eventually(lambda: queue.is_blocked)
            began = awake()
            app.force_disconnect()
            app.wait_for("disconnected")
            assert awake() - began < 1
            gone.set()


def resources() -> tuple[int, int]:
    """Return the numbers of this process's threads, without the one that writes the log, and descriptors."""
    threads = [thread for thread in threading.enumerate() if thread.name != "lochws-log"]
    return len(threads), len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
def test_a_server_restarted_200_times_leaves_threads_descriptors_and_stack_as_they_were() -> None:
    restarts = 200
    depths: set[int] = set()
    peer = Peer(echo)
    app = Noting(peer.url)
    app.on("ready")(lambda _: depths.add(len(traceback.extract_stack())))
    after: list[tuple[int, int]] = []
    with opened(app, persist=Backoff(min_wait=0.001, max_wait=0.002), ping_rate=0):
        for number in range(1, restarts + 1):
            app.send_text(str(number))
            assert app.wait_for("text", number).text == str(number)
            peer.close()
            app.wait_for("disconnected", number)
            peer = Peer(echo, port=peer.port)
            assert app.wait_ready(PATIENCE)
            after.append(resources())
    peer.close()
    assert app.counters.connections == restarts + 1
    assert len(depths) == 1
    assert max(after[restarts // 2:]) <= max(after[:restarts // 2])


def test_attempts_that_fail_leave_nothing_behind(start_peer: StartPeer) -> None:
    app = Noting("ws://127.0.0.1:1")
    after: list[tuple[int, int]] = []
    with running(app, persist=Backoff(min_wait=0, max_wait=0.0001)):
        for number in range(50, 501, 50):
            app.wait_for("connect_fail", number)
            after.append(resources())
    # An attempt under way has a few descriptors of its own.
    assert max(descriptors for _, descriptors in after) - min(descriptors for _, descriptors in after) <= 6
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("lochws")])
