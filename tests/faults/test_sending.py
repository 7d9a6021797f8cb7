"""Faults of sending: a peer that takes nothing, connections that are lost under it, and many threads at once.

Each message that was accepted is sent whole or reported in `Disconnected.unsent`: never both, never neither.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest

from lochws import testing as t
from lochws.errors import QueueFull, TransportFail, WebSocketClosing, WebSocketUnavailable

from ..support.apps import opened
from ..support.awake import Awake
from ..support.seen import PATIENCE, Noting, eventually, in_thread
from .life import CALM, OPENED, attempts, surviving
from .registry import fault

#: Bytes that may wait in the queue of these tests, and those of one message.
ROOM, CHUNK = 200_000, 10_000
#: Seconds within which a call has returned that is not to wait, whatever else the machine is busy with.
AT_ONCE = 5.0

#: What the first server does: it accepts, and reads nothing.
DEAF = (t.accept(), t.stop_reading())

STOPS_READING = "The server stops reading"
LOSS = "The connection is lost while the queue is full"


@pytest.fixture(params=["ws", "wss"])
def tls(request: pytest.FixtureRequest, server_tls: ssl.SSLContext) -> ssl.SSLContext | None:
    """The server's TLS context, or None for a plain connection."""
    return server_tls if request.param == "wss" else None


class Calls:
    """Sends numbered messages, and notes what becomes of them.

    Args:
        app: what they are sent with.
        size: the characters of each.

    Attributes:
        accepted: the messages that were.
        dropped: how many were discarded.
        refused: what else the calls said.
        longest: the seconds that the longest call took.
    """

    def __init__(self, app: Noting, size: int = CHUNK) -> None:
        self._app = app
        self._size = size
        self.accepted: list[str] = []
        self.dropped = 0
        self.refused: list[Exception] = []
        self.longest = 0.0

    def send(self, name: str = "") -> bool:
        """Send one more message; whether it was accepted."""
        message = f"{name} {len(self.accepted)} ".ljust(self._size, "x")
        began = monotonic()
        try:
            accepted = self._app.send_text(message)
        except (QueueFull, TransportFail, WebSocketUnavailable) as error:
            self.refused.append(error)
            return False
        finally:
            self.longest = max(self.longest, monotonic() - began)
        if accepted:
            self.accepted.append(message)
        else:
            self.dropped += 1
        return accepted

    def fill(self) -> None:
        """Send until nothing is accepted any more: buffers of the kernel grow when they are full."""
        before = -1
        while before != len(self.accepted):
            before = len(self.accepted)
            while self.send():
                pass
            threading.Event().wait(0.02)


def waiting(app: Noting) -> int:
    """Return how many bytes wait in the queue."""
    return int(app._lochws.life.connection.sending.queue._outgoing.pending)  # type: ignore[union-attr]


# A peer that stops reading.


@fault("sending", STOPS_READING)
@pytest.mark.parametrize("policy", ["raise", "drop", "block"])
def test_a_peer_that_stops_reading_costs_max_queue_and_no_caller_hangs(
    policy: str, tls: ssl.SSLContext | None, ca_file: str
) -> None:
    server = t.ScriptedServer(DEAF, CALM, tls=tls, receive_buffer=50_000)
    options: Any = {"max_queue": ROOM, "when_full": policy, "send_timeout": 0.02, "ssl_cafile": ca_file}
    with server, surviving(server.url, {"ping_rate": 0.2, "ping_timeout": 0.8}, **options) as app:
        app.wait_for("ready")
        calls = Calls(app)
        calls.fill()
        most = waiting(app)
        calls.refused.clear()
        calls.dropped = 0
        for _ in range(5):
            assert not calls.send()
        end = app.wait_for("disconnected")
        app.wait_for("ready", 2)
        assert app.send_text("last")
        server.connection(1).wait_until(lambda: server.connections[1].messages == ["last"])
    assert ROOM - 2 * CHUNK < most <= ROOM + 14  # a frame's head
    assert calls.longest < AT_ONCE
    assert calls.dropped == (5 if policy == "drop" else 0)
    assert [type(error) for error in calls.refused] == ([] if policy == "drop" else [QueueFull] * 5)
    assert end.reason == "ping timeout: nothing from the server for 0.8 s"
    assert attempts(app)[0] == [*OPENED, "unresponsive", "disconnected"]
    assert calls.accepted == calls.accepted[: len(calls.accepted) - len(end.unsent)] + list(end.unsent)
    assert app.counters.messages_sent == len(calls.accepted) - len(end.unsent) + 1
    assert sum(map(len, end.unsent)) <= ROOM


@fault("sending", STOPS_READING)
@pytest.mark.parametrize("end", ["close", "stop", "force_disconnect", "reconnect"])
def test_who_waits_for_room_is_let_go_when_the_app_ends_the_connection(end: str, awake: Awake) -> None:
    with t.ScriptedServer([*DEAF, t.wait_for_end()], CALM, receive_buffer=50_000) as server:
        app = Noting(server.url, max_queue=ROOM, when_full="block", send_timeout=None)
        with opened(app, ping_rate=0, close_timeout=0 if end == "close" else 0.01):
            outcomes: list[object] = []

            def send() -> None:
                calls = Calls(app)
                while calls.send():
                    pass
                outcomes.extend(calls.refused)

            threads = [in_thread(send) for _ in range(3)]
            queue = app._lochws.life.connection.sending.queue  # type: ignore[union-attr]
            eventually(lambda: queue._room.waiting == 3)
            began = awake()
            getattr(app, end)()
            for thread in threads:
                thread.join(PATIENCE)
            assert awake() - began < AT_ONCE
            assert len(outcomes) == 3
            if end == "close":  # with no limit: it is not the end of the connection that lets them go
                assert [type(outcome) for outcome in outcomes] == [WebSocketClosing] * 3
                assert app.is_closing
                app.force_disconnect()
            app.wait_for("disconnected")
    assert app.names("poll", "pong")[:4] == [*OPENED, "disconnected"]


@fault("sending", STOPS_READING)
def test_a_peer_that_stops_reading_cannot_keep_an_app_from_stopping(
    tls: ssl.SSLContext | None, ca_file: str
) -> None:
    with t.ScriptedServer([*DEAF, t.wait_for_end()], tls=tls, receive_buffer=50_000) as server:
        app = Noting(server.url, max_queue=ROOM, ssl_cafile=ca_file)
        with opened(app, ping_rate=0, close_timeout=0.05):
            calls = Calls(app)
            calls.fill()
            app.close()
            end = app.wait_for("disconnected")
    assert end.reason == "the server did not answer our Close frame within 0.05 s"
    assert (end.graceful, end.sent_code, end.received_code) == (False, 1000, None)
    assert list(end.unsent) == calls.accepted[len(calls.accepted) - len(end.unsent) :]


# Many threads.


@fault("sending", "50 threads send at once")
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "deflated"])
def test_of_50_threads_each_ones_messages_arrive_once_and_in_its_order(
    compress: bool, tls: ssl.SSLContext | None, ca_file: str
) -> None:
    count, each = 50, 40
    with t.ScriptedServer([t.accept(deflate=compress)], tls=tls) as server:
        app = Noting(server.url, compress=compress, ssl_cafile=ca_file)
        with opened(app):
            assert app.supports_compression is compress
            start = threading.Barrier(count)

            def send(thread: int) -> None:
                start.wait(PATIENCE)
                for number in range(each):
                    app.send_text(f"{thread} {number}")

            threads = [in_thread(lambda thread=thread: send(thread)) for thread in range(count)]  # type: ignore[misc]
            for sender in threads:
                sender.join(PATIENCE)
        end = app.wait_for("disconnected")
    received = [tuple(map(int, message.split())) for message in server.messages]  # type: ignore[arg-type]
    assert sorted(received) == [(thread, number) for thread in range(count) for number in range(each)]
    for thread in range(count):
        assert [number for sender, number in received if sender == thread] == list(range(each))
    assert (end.graceful, end.unsent) == (True, ())
    assert app.counters.messages_sent == count * each


@contextmanager
def senders(app: Noting, count: int) -> Iterator[list[Calls]]:
    """Threads that send for as long as the block runs, whatever they are told."""
    over = threading.Event()
    all_calls = [Calls(app, 500) for _ in range(count)]

    def send(number: int) -> None:
        while not over.is_set():
            if not all_calls[number].send(str(number)):
                over.wait(0.0005)

    threads = [in_thread(lambda number=number: send(number)) for number in range(count)]  # type: ignore[misc]
    try:
        yield all_calls
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@fault("sending", "A send during a reconnect")
@pytest.mark.parametrize("lose", [t.reset, t.fin, lambda: t.close(1001)], ids=["reset", "FIN", "Close"])
def test_whoever_sends_while_connections_come_and_go_can_account_for_every_message(
    lose: Callable[[], t.Step]
) -> None:
    rounds = 12
    script = [t.accept(), t.wait_for(lambda _: True), t.wait_for(lambda _: True), lose()]
    server = t.ScriptedServer(*[script] * rounds, CALM, receive_buffer=20_000)
    with server, surviving(server.url, max_queue=20_000) as app:
        with senders(app, 5) as all_calls:
            app.wait_for("ready", rounds + 1)
            server.connection(rounds).wait_until(lambda: len(server.connections[rounds].messages) > 20)
        app.close()
        assert app.wait_closed(PATIENCE)
    accepted = [message for calls in all_calls for message in calls.accepted]
    unsent = [message for event in app.all("disconnected") for message in event.unsent]
    received = server.messages
    assert len(set(accepted)) == len(accepted)
    assert set(unsent) <= set(accepted)
    assert len(set(unsent)) == len(unsent)
    assert len(set(received)) == len(received)
    assert not set(received) & set(unsent), "reported as unsent, and delivered"
    assert app.counters.messages_sent == len(accepted) - len(unsent)
    # A write that fails says so: such a message was never whole in the kernel.
    assert set(received) <= set(accepted)
    for number, calls in enumerate(all_calls):
        assert calls.longest < AT_ONCE
        mine = [message for message in received if message.split()[0] == str(number)]  # type: ignore[union-attr]
        got = set(mine)
        assert mine == [message for message in calls.accepted if message in got]
    assert not app.all("connect_fail")


# Losing what waits.


@fault("sending", LOSS)
@pytest.mark.parametrize("lose", [t.reset, t.fin], ids=["reset", "FIN"])
@pytest.mark.parametrize("some", [False, True], ids=["none read", "some read"])
def test_when_a_connection_is_lost_with_a_full_queue_all_that_waited_is_reported(
    some: bool, lose: Callable[[], t.Step], tls: ssl.SSLContext | None, ca_file: str
) -> None:
    with t.ScriptedServer(DEAF, CALM, tls=tls, receive_buffer=50_000) as server:
        with surviving(server.url, {"ping_rate": 0}, max_queue=ROOM, ssl_cafile=ca_file) as app:
            app.wait_for("ready")
            calls = Calls(app)
            calls.fill()
            if some:
                server.do(t.together(t.read_on(), t.wait_for(has_number(5)), t.stop_reading()))
                calls.fill()
            server.do(lose())
            end = app.wait_for("disconnected")
            app.wait_for("ready", 2)
        received = server.connections[0].messages
    assert end.ended_by == "network"
    assert end.unsent
    assert list(end.unsent) == calls.accepted[len(calls.accepted) - len(end.unsent) :]
    assert received == calls.accepted[: len(received)]
    assert len(received) + len(end.unsent) <= len(calls.accepted)
    assert not some or len(received) > 5
    assert app.counters.messages_sent == len(calls.accepted) - len(end.unsent)


def has_number(number: int) -> Callable[[str | bytes], bool]:
    """Return whether a message has this number."""
    return lambda message: str(message).split()[0] == str(number)


# The end.


@fault("sending", "A send directly followed by close")
@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "deflated"])
def test_what_was_sent_before_close_arrives_before_the_close_frame(
    size: int, compress: bool, tls: ssl.SSLContext | None, ca_file: str
) -> None:
    with t.ScriptedServer([t.accept(deflate=compress)], tls=tls) as server:
        app = Noting(server.url, compress=compress, ssl_cafile=ca_file)
        with opened(app):
            sent = [f"{number} ".ljust(size, "x") for number in range(8)]
            for message in sent:
                app.send_text(message)
            app.close()
            with pytest.raises(WebSocketUnavailable):
                app.send_text("late")
            end = app.wait_for("disconnected")
        assert server.messages == sent
        assert server.connections[0].close_frame == (1000, "goodbye")
    assert (end.graceful, end.unsent) == (True, ())
    assert app.counters.messages_sent == len(sent)
