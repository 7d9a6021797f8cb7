"""Sending from any thread: in order, refused at once, and accounted for."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from lochws import WebSocketApp
from lochws.errors import QueueFull, WebSocketClosed, WebSocketClosing, WebSocketUnavailable

from ..faults.registry import fault
from ..support.apps import NEVER, echo, opened, running
from ..support.peer import BINARY, CLOSE, PING, PONG, TEXT, Link, StartPeer
from ..support.scripts import answer_close, polite
from ..support.seen import PATIENCE, Noting, eventually, in_thread

WRONG: list[tuple[str, object, type[Exception], str]] = [
    ("send_text", 5, TypeError, "expected a str or UTF-8 bytes, not int"),
    ("send_text", None, TypeError, "expected a str or UTF-8 bytes, not NoneType"),
    ("send_text", b"a\xff", ValueError, r"b'a\\xff' is not valid UTF-8 \(byte 0xff at position 1\)"),
    ("send_text", bytearray(b"\xed\xa0\x80"), ValueError, "is not valid UTF-8"),
    ("send_text", memoryview(b"\xe2\x82"), ValueError, "is not valid UTF-8"),
    ("send_text", "\ud800", ValueError, "surrogates"),
    ("send_binary", "text", TypeError, "expected a bytes-like object, not str"),
    ("send_binary", 5, TypeError, "expected a bytes-like object, not int"),
    ("send_ping", "text", TypeError, "expected a bytes-like object, not str"),
    ("send_ping", bytes(126), ValueError, "expected at most 125 bytes, got 126"),
    ("send_pong", bytes(126), ValueError, "expected at most 125 bytes, got 126"),
    ("send_json", {1, 2}, TypeError, "JSON"),
]


class Received:
    """A script that records the client's messages and answers its Close frame."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []

    def __call__(self, link: Link) -> None:
        link.accept()
        self.frames = answer_close(link)


@pytest.fixture
def received() -> Received:
    return Received()


class TestAnyThread:
    def test_each_threads_messages_arrive_once_and_in_its_order(
        self, start_peer: StartPeer, received: Received
    ) -> None:
        def send(number: int) -> None:
            for count in range(500):
                app.send_text(f"{number} {count}")

        with opened(WebSocketApp(start_peer(received).url)) as app:
            threads = [in_thread(lambda number=number: send(number)) for number in range(6)]  # type: ignore[misc]
            for thread in threads:
                thread.join(PATIENCE)
        payloads = [payload for _, payload in received.frames]
        assert len(payloads) == 3000
        for number in range(6):
            mine = [payload for payload in payloads if payload.startswith(b"%d " % number)]
            assert mine == [b"%d %d" % (number, count) for count in range(500)]

    def test_every_kind_of_message_arrives(self, start_peer: StartPeer, received: Received) -> None:
        with opened(WebSocketApp(start_peer(received).url), ping_rate=0) as app:
            app.send_text("text\u00e9")
            app.send_binary(b"bytes")
            app.send_binary(bytearray(b"array"))
            app.send_binary(memoryview(b"view!")[:4])
            app.send_json({"a": 1})
            app.send_json(b=None)
            app.send_json(None)
            app.send_json()
            app.send_pong(b"pong")
        assert received.frames == [
            (TEXT, "text\u00e9".encode()), (BINARY, b"bytes"), (BINARY, b"array"), (BINARY, b"view"),
            (TEXT, b'{"a": 1}'), (TEXT, b'{"b": null}'), (TEXT, b"null"), (TEXT, b"{}"), (PONG, b"pong"),
        ]

    @fault("sending", "A send in every handler")
    def test_from_every_handler_sending_works_or_says_why_not(self, start_peer: StartPeer) -> None:
        outcomes: dict[str, object] = {}

        class Sending(WebSocketApp):
            def on_event(self, event: Any) -> None:
                try:
                    outcomes[event.name] = self.send_text(event.name)
                except WebSocketUnavailable as error:
                    outcomes[event.name] = type(error)

        frames: list[tuple[int, bytes]] = []

        def script(link: Link) -> None:
            link.accept()
            for opcode in (TEXT, BINARY, PING, PONG):
                link.send_frame(opcode, b"x")
            link.send_frame(CLOSE, b"\x03\xe8")
            frames.extend(answer_close(link))

        with running(Sending(start_peer(script).url)) as app:
            assert app.wait_closed(PATIENCE)
        # The supervisor goes on while these run: the answer to the upgrade may have come by then.
        for early in ("connecting", "connected"):
            assert outcomes.pop(early) in {WebSocketUnavailable, True}
            frames = [frame for frame in frames if frame[1] != early.encode()]
        sent = ["ready", "poll", "text", "binary", "ping", "pong", "closing"]
        assert [name for name, outcome in outcomes.items() if outcome is True] == sent
        assert [payload.decode() for opcode, payload in frames if opcode == TEXT] == sent
        assert outcomes["disconnected"] is WebSocketUnavailable


class TestRefused:
    @pytest.mark.parametrize(("method", "argument", "error", "text"), WRONG)
    def test_wrong_arguments_are_refused_at_the_call_and_change_nothing(
        self, method: str, argument: object, error: type[Exception], text: str, start_peer: StartPeer
    ) -> None:
        with opened(WebSocketApp(start_peer(polite).url)) as app:
            with pytest.raises(error, match=text):
                getattr(app, method)(argument)
            assert app.is_active
            app.send_text("fine")

    @pytest.mark.parametrize(("method", "argument"), [
        ("send_text", b"\xff"), ("send_binary", "x"), ("send_ping", "x"), ("send_ping", bytes(126)),
    ])
    def test_wrong_arguments_are_refused_before_the_state_is_looked_at(
        self, method: str, argument: object
    ) -> None:
        with pytest.raises((TypeError, ValueError)):
            getattr(WebSocketApp("ws://localhost"), method)(argument)

    def test_before_the_start_it_says_so(self) -> None:
        said = r"^not sent: the app has not been started; call start\(\) first$"
        with pytest.raises(WebSocketUnavailable, match=said):
            WebSocketApp("ws://localhost").send_text("x")

    def test_while_connecting_it_says_so(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(Link.wait_for_end).url)
        with running(app):
            app.wait_for("connected")
            said = r"^not sent: the connection is not open yet; send in on_ready, or after wait_ready\(\)$"
            with pytest.raises(WebSocketUnavailable, match=said):
                app.send_text("x")

    def test_while_backing_off_it_says_so(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(Link.accept).url)
        with running(app, persist=NEVER):
            app.wait_for("back_off")
            with pytest.raises(WebSocketUnavailable, match=r"^not sent: the next connection is not open yet"):
                app.send_text("x")

    def test_after_our_close_frame_it_says_so(self, start_peer: StartPeer) -> None:
        def script(link: Link) -> None:
            link.accept()
            closing = link.read_frame()
            while closing[0] != CLOSE:
                closing = link.read_frame()
            assert refused.wait(PATIENCE)
            link.send_frame(*closing)

        refused = threading.Event()
        with opened(WebSocketApp(start_peer(script).url)) as app:
            app.close()
            assert app.is_closing
            for send in (app.send_text, app.send_json):
                with pytest.raises(WebSocketClosing, match="closing"):
                    send("x")
            for send_control in (app.send_binary, app.send_ping, app.send_pong):
                with pytest.raises(WebSocketClosing):
                    send_control(b"x")
            refused.set()

    def test_after_the_end_it_says_so(self, start_peer: StartPeer) -> None:
        with running(WebSocketApp(start_peer(polite).url)) as app:
            pass
        with pytest.raises(WebSocketClosed, match=r"^not sent: the app has stopped$"):
            app.send_text("x")


class Deaf:
    """A script that reads nothing until it is told to."""

    def __init__(self) -> None:
        self.read = threading.Event()
        self.frames: list[tuple[int, bytes]] = []

    def __call__(self, link: Link) -> None:
        link.accept()
        assert self.read.wait(PATIENCE)
        self.frames = answer_close(link)


class TestAFullQueue:
    """The server does not read: what the kernel cannot take is queued, up to `max_queue`."""

    CHUNK = bytes(64 * 1024)

    def fill(self, app: WebSocketApp) -> int:
        """Send until there is no room, and return the number of messages accepted."""
        for count in range(10_000):
            try:
                if not app.send_binary(self.CHUNK):
                    return count
            except QueueFull:
                return count
        raise AssertionError("the queue has no bound")

    def test_raise_refuses_and_everything_accepted_arrives(self, start_peer: StartPeer) -> None:
        deaf = Deaf()
        # The kernel's buffer does not grow, so that no room comes about in between.
        options = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)]
        app = WebSocketApp(start_peer(deaf).url, max_queue=1_000_000, socket_options=options)
        with opened(app):
            accepted = self.fill(app)
            with pytest.raises(QueueFull, match="max_queue=1000000"):
                app.send_text("x" * 1_000_000)
            deaf.read.set()
        assert deaf.frames == [(BINARY, self.CHUNK)] * accepted
        assert app.counters.messages_sent == accepted

    def test_what_is_left_of_a_single_message_follows_with_nothing_else_to_wake_the_loop(
        self, start_peer: StartPeer
    ) -> None:
        deaf = Deaf()
        with opened(WebSocketApp(start_peer(deaf).url), poll=0, ping_rate=0) as app:
            app.send_binary(bytes(12 << 20))
            assert app.counters.messages_sent == 0, "the kernel has room for all of it"
            deaf.read.set()
            eventually(lambda: app.counters.messages_sent == 1)

    def test_drop_discards_and_counts(self, start_peer: StartPeer) -> None:
        deaf = Deaf()
        with opened(WebSocketApp(start_peer(deaf).url, max_queue=1_000_000, when_full="drop")) as app:
            accepted = self.fill(app)
            assert app.counters.messages_dropped == 1
            deaf.read.set()
        assert len(deaf.frames) == accepted

    def test_block_waits_for_room_and_nothing_is_lost(self, start_peer: StartPeer) -> None:
        deaf = Deaf()
        app = WebSocketApp(
            start_peer(deaf).url, max_queue=1_000_000, when_full="block", send_timeout=PATIENCE
        )

        def send() -> None:
            for _ in range(200):
                app.send_binary(self.CHUNK)

        with opened(app):
            threads = [in_thread(send) for _ in range(2)]
            queue = app._lochws.life.connection.sending.queue  # type: ignore[union-attr]
            eventually(lambda: queue._room.waiting == 2)
            deaf.read.set()
            for thread in threads:
                thread.join(PATIENCE)
        assert len(deaf.frames) == 400

    def test_block_gives_up_after_send_timeout(self, start_peer: StartPeer) -> None:
        deaf = Deaf()
        app = WebSocketApp(start_peer(deaf).url, max_queue=1_000_000, when_full="block", send_timeout=0.02)
        with opened(app):
            self.fill(app)
            deaf.read.set()

    @fault("sending", "A send in every handler")
    def test_block_never_blocks_a_handler(self, start_peer: StartPeer) -> None:
        deaf = Deaf()
        refused = threading.Event()

        class Eager(WebSocketApp):
            def on_ready(self, _: object) -> None:
                try:
                    while True:
                        self.send_binary(TestAFullQueue.CHUNK)
                except QueueFull as error:
                    assert "a handler cannot wait" in str(error)  # noqa: PT017  it says more
                    refused.set()

        with running(Eager(start_peer(deaf).url, max_queue=1_000_000, when_full="block", send_timeout=None)):
            assert refused.wait(PATIENCE)
            deaf.read.set()

    def test_the_reader_sleeps_while_the_kernel_is_full(self, start_peer: StartPeer) -> None:
        deaf = Deaf()
        with opened(WebSocketApp(start_peer(deaf).url, max_queue=1_000_000), poll=0, ping_rate=0) as app:
            loop = app._lochws.life._crew.reader.loop  # type: ignore[union-attr]
            for _ in range(3):  # the kernel may still move data to the other side, and take more
                self.fill(app)
                eventually(lambda: loop._turn.is_asleep)
            begun = loop._turn.number
            with pytest.raises(QueueFull):
                app.send_binary(self.CHUNK)
            deaf.read.wait(0.05)  # nothing wakes it
            assert loop._turn.number - begun <= 10  # on a busy machine, a wait may end early every 5 ms
            deaf.read.set()


class TestAccounting:
    def test_counters_add_up_over_all_connections(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(echo).url)
        for number in (1, 2):
            with opened(app, ping_rate=0):
                app.send_text("four")
                app.send_binary(b"four")
                app.wait_for("binary", number)
                counters = app.counters
                assert counters.connections == number
                assert counters.messages_sent == counters.messages_received == 2 * number
        counters = app.counters
        assert counters.connections == 2
        # Two messages each way and a Close frame with "goodbye", per connection; ours have masking keys.
        assert counters.bytes_received == 2 * (6 + 6 + 11)
        assert counters.bytes_sent == 2 * (10 + 10 + 15)

    def test_a_pong_tells_the_latency_of_its_ping(self, start_peer: StartPeer) -> None:
        app = Noting(start_peer(echo).url)
        with opened(app, ping_rate=0):
            assert app.latency is None
            app.send_ping(b"mine")
            pong = app.wait_for("pong")
            assert pong.data == b"mine"
            assert 0 <= pong.latency < PATIENCE
            assert app.latency == pong.latency

    def test_what_was_accepted_and_not_sent_is_reported(self, start_peer: StartPeer) -> None:
        drop = threading.Event()

        def script(link: Link) -> None:
            link.accept()
            assert drop.wait(PATIENCE)
            link.reset()

        app, count = Noting(start_peer(script).url, max_queue=1 << 30), 300
        with opened(app):
            for number in range(count):  # far more than the kernel's buffers can grow to
                app.send_text(f"{number} " + "x" * 100_000)
            for more in ("last but one", "last"):
                app.send_text(more)
            drop.set()
            end = app.wait_for("disconnected")
        assert end.unsent[-2:] == ("last but one", "last")
        numbers = [int(message.split()[0]) for message in end.unsent[:-2]]
        assert numbers == list(range(numbers[0], count))
        assert app.counters.messages_sent == numbers[0]
