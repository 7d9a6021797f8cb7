"""Quirks of Lomond that lochws does not have (docs/differences.md), if no other file tests them."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lochws import WebSocket, errors, events
from lochws.testing import VirtualClock

from .faults.registry import fault
from .support.apps import opened
from .support.peer import CLOSE, PING, PONG, TEXT, Link, StartPeer
from .support.scripts import Ends, answer_close, polite, silent
from .support.seen import PATIENCE, Noting, in_thread, names, take


class Recorded:
    """A server that records every frame except pings, and answers the Close frame once `may_close` is set."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []

    def __call__(self, link: Link) -> None:
        link.accept()
        self.frames.extend(answer_close(link))


class TestNothingAfterOurCloseFrame:
    """Q19, Q20: nothing is sent after our Close frame, not even pongs."""

    def test_a_ping_that_comes_after_it_is_delivered_and_not_answered(self, start_peer: StartPeer) -> None:
        """Lomond did not answer either; RFC 6455 section 5.5.1 allows nothing after a Close frame."""
        after = []

        def script(link: Link) -> None:
            link.accept()
            assert link.read_frame()[0] == CLOSE
            link.send_frame(PING, b"still there?")
            link.send_frame(TEXT, b"last words")
            link.send_frame(CLOSE, b"\x03\xe8")
            link.finish()
            try:
                while True:
                    after.append(link.read_frame())
            except EOFError:
                pass

        peer = start_peer(script)
        ws = WebSocket(peer.url)
        seen = []
        for event in ws.connect(ping_rate=0):
            seen.append(event)
            if event.name == "ready":
                ws.close()
        assert names(seen, "poll")[-4:] == ["ping", "text", "closed", "disconnected"]
        peer.close()
        assert after == []

    @fault("stopping", "Ten threads close at once")
    def test_ten_threads_that_close_at_once_send_one_frame(self, start_peer: StartPeer) -> None:
        ends = Ends()
        ws = WebSocket(start_peer(ends).url)
        barrier = threading.Barrier(10)

        def close(code: int) -> None:
            barrier.wait(PATIENCE)
            ws.close(code, "enough")

        for event in ws.connect(ping_rate=0, close_timeout=0.2):
            if event.name == "ready":
                closers = [in_thread(lambda code=3000 + n: close(code)) for n in range(10)]  # type: ignore[misc]
        for closer in closers:
            closer.join(PATIENCE)
        frames = ends.wait()
        assert [frame[0] for frame in frames] == [CLOSE, "F"]
        assert event.sent_code in range(3000, 3010)

    @fault("sending", "A send directly followed by close")
    def test_threads_that_send_while_another_closes_send_nothing_behind_it(
        self, start_peer: StartPeer
    ) -> None:
        ends = Ends(answers=True)
        ws = WebSocket(start_peer(ends).url)

        def send() -> None:
            try:
                while True:
                    ws.send_text("x")
            except errors.WebSocketUnavailable:
                refused.append(True)

        refused: list[bool] = []

        for event in ws.connect(poll=0.02, ping_rate=0.01, ping_timeout=None, close_timeout=PATIENCE):
            if event.name == "ready":
                senders = [in_thread(send) for _ in range(4)]
            elif event.name == "poll":
                ws.close()
        for sender in senders:
            sender.join(PATIENCE)
        assert len(refused) == 4
        opcodes = [frame[0] for frame in ends.wait()]
        assert opcodes.count(CLOSE) == 1
        assert opcodes[-2:] == [CLOSE, "F"]

    def test_close_refuses_wrong_arguments_before_anything_is_sent(self, start_peer: StartPeer) -> None:
        """Q18."""
        recorded = Recorded()
        ws = WebSocket(start_peer(recorded).url)
        for event in ws:
            if event.name == "ready":
                for code, reason, error in (
                    (1005, "", ValueError), (999, "", ValueError), (5000, "", ValueError),
                    ("1000", "", TypeError), (1000, b"\xff", ValueError), (1000, 5, TypeError),
                ):
                    with pytest.raises(error):
                        ws.close(code, reason)  # type: ignore[arg-type]
                assert ws.is_active
                ws.send_text("open as before")
                ws.close(4999, "\N{EURO SIGN}" * 100)
        assert recorded.frames == [(TEXT, b"open as before")]
        assert event.sent_code == 4999

    def test_a_long_reason_arrives_cut_at_a_character(self, start_peer: StartPeer) -> None:
        ends = Ends()
        ws = WebSocket(start_peer(ends).url)
        for event in ws.connect(ping_rate=0, close_timeout=0.1):
            if event.name == "ready":
                ws.close(1000, "\N{EURO SIGN}" * 100)
        assert ends.wait()[0] == (CLOSE, b"\x03\xe8" + "\N{EURO SIGN}".encode() * 41)


class TestAStuckServer:
    """Q22: a server that does not read blocks neither senders nor the reader."""

    @pytest.fixture
    def stuck(self, start_peer: StartPeer) -> Iterator[str]:
        """The URL of a server that accepts and then does not read until the end of the test."""
        over = threading.Event()

        def script(link: Link) -> None:
            link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.accept()
            link.send_frame(PING, b"you?")
            over.wait(3 * PATIENCE)

        yield start_peer(script).url
        over.set()

    def test_sends_return_at_once_until_the_queue_is_full(self, stuck: str) -> None:
        ws = WebSocket(stuck, max_queue=1 << 20)
        for event in ws:
            if event.name == "ready":
                ws.send_binary(bytes(12 << 20))  # more than the kernel takes
                with pytest.raises(errors.QueueFull, match="max_queue=1048576"):
                    ws.send_binary(bytes(1 << 18))
                break

    def test_polls_pings_and_close_go_on(self, stuck: str) -> None:
        ws = WebSocket(stuck)
        seen: list[Any] = []
        for event in ws.connect(poll=0.02, ping_rate=0.02, ping_timeout=None, close_timeout=0.2):
            seen.append(event)
            if event.name == "ready":
                ws.send_binary(bytes(12 << 20))
            elif names(seen).count("poll") == 4:
                ws.close()
        assert "ping" in names(seen)
        assert seen[-1].reason == "the server did not answer our Close frame within 0.2 s"
        assert seen[-1].unsent == (bytes(12 << 20),)

    def test_the_ping_timeout_counts_unsent_pings_too(self, stuck: str) -> None:
        ws = WebSocket(stuck)
        seen: list[Any] = []
        for event in ws.connect(ping_rate=0.05, ping_timeout=0.15):
            seen.append(event)
            if event.name == "ready":
                ws.send_binary(bytes(12 << 20))
        assert names(seen)[-2:] == ["unresponsive", "disconnected"]


def test_half_a_tls_record_stops_no_timer(
    start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    """Q24: a socket that is readable while nothing can be decrypted."""
    def script(link: Link) -> None:
        link.accept()
        # The head of a record of 16 KiB and a few of its bytes, past the TLS of the server.
        socket.socket.send(link.sock, b"\x17\x03\x03\x40\x00" + bytes(100))
        link.wait_for_end()

    ws = WebSocket(start_peer(script, tls=server_tls).url, ssl_cafile=ca_file)
    polls = take(ws.connect(poll=0.03, ping_rate=0), "poll", 6)
    assert polls[-1].received_time - polls[0].received_time < PATIENCE


def test_any_received_byte_is_a_sign_of_life(ws_clock: VirtualClock, start_peer: StartPeer) -> None:
    """Q26: a server that sends messages but answers no ping is alive; Lomond gave it up."""
    def script(link: Link) -> None:
        link.accept()
        for _ in range(8):
            assert link.read_frame()[0] == PING
            link.send_frame(TEXT, b"busy")
        link.finish()

    app = Noting(start_peer(script).url)
    with opened(app, ping_rate=30, ping_timeout=70, poll=0):
        for number in range(1, 9):
            ws_clock.advance(30)
            app.wait_for("text", number)
        app.wait_for("disconnected")
    assert app.names() == ["connecting", "connected", "ready", *["text"] * 8, "disconnected"]


def test_ping_timeout_without_pings_gives_nothing_up(start_peer: StartPeer) -> None:
    """Q26: with ``ping_rate=0`` Lomond always timed out."""
    ws = WebSocket(start_peer(silent).url)
    assert take(ws.connect(ping_rate=0, ping_timeout=0.05, poll=0.05), "poll", 5)


def test_a_pong_in_advance_answers_nothing_and_has_no_latency(start_peer: StartPeer) -> None:
    """Q26, Q27."""
    def script(link: Link) -> None:
        link.accept()
        link.send_frame(PONG, b"")
        opcode, payload = link.read_frame()
        assert opcode == PING
        link.send_frame(PONG, payload)
        link.finish()

    ws = WebSocket(start_peer(script).url)
    pongs = []
    for event in ws.connect(ping_rate=30, poll=0):
        if isinstance(event, events.Pong):
            pongs.append(event)
            latency = ws.latency
    assert [pong.latency is None for pong in pongs] == [True, False]
    assert latency == pongs[1].latency


class TestSendJSON:
    """Q32: `send_json` has parameters of its own."""

    @pytest.mark.parametrize(
        ("arguments", "keywords", "expected"),
        [
            ((), {}, {}), ((None,), {}, None), (([1],), {}, [1]), ((), {"a": 1}, {"a": 1}),
            (({"compress": 1, "encoder": 2},), {}, {"compress": 1, "encoder": 2}),
            ((), {"_obj": 5}, {"_obj": 5}), ((), {"self": 5}, {"self": 5}),
            (({"a": 1},), {"compress": False}, {"a": 1}),
            ((), {"a": 1, "encoder": lambda what: json.dumps({"wrapped": what})}, {"wrapped": {"a": 1}}),
        ],
    )
    def test_an_object_or_keywords(
        self, arguments: Any, keywords: Any, expected: Any, start_peer: StartPeer
    ) -> None:
        recorded = Recorded()
        ws = WebSocket(start_peer(recorded).url)
        for event in ws:
            if event.name == "ready":
                ws.send_json(*arguments, **keywords)
                ws.close()
        assert [json.loads(payload) for _, payload in recorded.frames] == [expected]

    def test_both_are_refused(self) -> None:
        with pytest.raises(ValueError, match="one object or keywords, not both"):
            WebSocket("ws://host/").send_json({"a": 1}, b=2)

    def test_what_is_no_json_is_refused(self) -> None:
        with pytest.raises(TypeError, match="not JSON serializable"):
            WebSocket("ws://host/").send_json(object())


class TestSendTypes:
    """Q32: any bytes-like object can be sent; anything else is refused by the call."""

    @pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"xabc")[1:]])
    def test_binary_takes_what_is_bytes_like_and_copies_it(self, data: Any, start_peer: StartPeer) -> None:
        recorded = Recorded()
        ws = WebSocket(start_peer(recorded).url)
        for event in ws:
            if event.name == "ready":
                ws.send_binary(data)
                if isinstance(data, bytearray):
                    data[:] = b"xyz"
                ws.close()
        assert recorded.frames == [(2, b"abc")]

    @pytest.mark.parametrize(
        ("method", "data", "error"),
        [
            ("send_text", b"\xff", ValueError), ("send_text", None, TypeError), ("send_text", 5, TypeError),
            ("send_binary", "str", TypeError), ("send_binary", [1], TypeError), ("send_binary", 5, TypeError),
            ("send_ping", "str", TypeError), ("send_ping", bytes(126), ValueError),
            ("send_pong", None, TypeError), ("send_pong", bytes(126), ValueError),
        ],
    )
    def test_the_wrong_type_or_size_is_refused_in_any_state(
        self, method: str, data: Any, error: type[Exception]
    ) -> None:
        with pytest.raises(error, match=method):
            getattr(WebSocket("ws://host/"), method)(data)

    def test_text_that_cannot_be_encoded_is_refused_and_the_connection_survives(
        self, start_peer: StartPeer
    ) -> None:
        recorded = Recorded()
        ws = WebSocket(start_peer(recorded).url)
        for event in ws:
            if event.name == "ready":
                with pytest.raises(ValueError, match="surrogate"):
                    ws.send_text("\ud800")
                ws.send_text("fine")
                ws.close()
        assert recorded.frames == [(TEXT, b"fine")]


def test_iterating_calls_an_overridden_connect(start_peer: StartPeer) -> None:
    """Q35."""
    class Quick(WebSocket):
        def connect(self, *args: Any, **kwargs: Any) -> Any:
            return super().connect(*args, **{**kwargs, "poll": 0.02})

    assert take(Quick(start_peer(silent).url), "poll", 5)


def test_parameters_are_not_attributes_of_the_same_name() -> None:
    """Lomond kept them all; here only `url` is an attribute, without credentials."""
    ws = WebSocket("ws://me:secret@host/", agent="me", compress=True)
    assert ws.url == "ws://host/"
    assert not hasattr(ws, "agent")
    assert not hasattr(ws, "compress")
    assert list(vars(ws)) == ["_lochws"]


def test_disconnected_says_who_ended_it_and_with_which_codes(start_peer: StartPeer) -> None:
    """Lomond's event did not say so."""
    ws = WebSocket(start_peer(polite).url)
    for event in ws:
        if event.name == "ready":
            ws.close(4001, "mine")
    assert (event.ended_by, event.phase) == ("client", "open")
    assert (event.sent_code, event.received_code) == (4001, 4001)
    assert (event.error, event.unsent) == (None, ())


def test_is_active_means_that_messages_can_be_sent() -> None:
    """Lomond's was True on a fresh object, and after a failed attempt."""
    ws = WebSocket("ws://127.0.0.1:1/")
    assert not ws.is_active
    assert not any(ws.is_active for _ in ws)
    assert not ws.is_active


@pytest.mark.parametrize(
    ("code", "ok"), [(1012, True), (1013, True), (1014, True), (4999, True), (5000, False)]
)
def test_received_close_codes(code: int, ok: bool, start_peer: StartPeer) -> None:
    """1014 is accepted and 5000 is refused; Lomond does the opposite."""
    ends = Ends((CLOSE, code.to_bytes(2, "big")))
    seen = names(WebSocket(start_peer(ends).url).connect(ping_rate=0, close_timeout=0.1), "poll")
    assert seen[3:] == (["closing", "disconnected"] if ok else ["protocol_error", "disconnected"])
    answer = code if ok else 1002
    assert ends.wait()[0][1][:2] == answer.to_bytes(2, "big")  # type: ignore[index, union-attr]
