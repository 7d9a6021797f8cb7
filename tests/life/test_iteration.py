"""Iterating a WebSocket as in Lomond, without threads: the same events, and nothing is left open."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import closing
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest

from lochws import State, WebSocket, errors, events

from ..faults.registry import fault
from ..support.peer import CLOSE, PING, PONG, TEXT, Link, StartPeer
from ..support.scripts import Ends, polite, silent
from ..support.seen import PATIENCE, names, take

LEFT = [(CLOSE, b"\x03\xe9the iteration was left"), "FIN"]


class TestConnect:
    """`connect` and its options."""

    def test_iterating_is_connecting_with_the_defaults(self, start_peer: StartPeer) -> None:
        ws = WebSocket(start_peer(polite).url)
        seen = []
        for event in ws:
            seen.append(event)
            if event.name == "ready":
                ws.close()
        assert names(seen, "poll") == ["connecting", "connected", "ready", "closed", "disconnected"]

    def test_calling_it_opens_nothing(self, start_peer: StartPeer) -> None:
        peer = start_peer(silent)
        ws = WebSocket(peer.url)
        ws.connect()
        assert peer.links == []
        assert ws.state is State.NEW

    def test_poll_says_how_often(self, start_peer: StartPeer) -> None:
        began = monotonic()
        polls = take(WebSocket(start_peer(silent).url).connect(poll=0.05), "poll", 4)  # the first at once
        assert monotonic() - began > 3 * 0.05
        # The machine may stall before any of them, but not before each.
        assert min(later.received_time - earlier.received_time for earlier, later in pairwise(polls)) < 1

    @pytest.mark.parametrize("poll", [0, None])
    def test_poll_0_is_never(self, start_peer: StartPeer, poll: float | None) -> None:
        def script(link: Link) -> None:
            link.accept()
            link.send_frame(TEXT, b"last")
            link.reset()

        assert "poll" not in names(WebSocket(start_peer(script).url).connect(poll=poll))

    def test_ping_rate_says_how_often_the_server_is_pinged(self, start_peer: StartPeer) -> None:
        """Also below `poll` (contract Q25)."""
        payloads = []

        def script(link: Link) -> None:
            link.accept()
            for _ in range(4):
                opcode, payload = link.read_frame()
                assert opcode == PING
                payloads.append(payload)
                link.send_frame(PONG, payload)
            link.reset()

        seen = list(WebSocket(start_peer(script).url).connect(poll=60, ping_rate=0.05, ping_timeout=None))
        assert names(seen).count("pong") >= 3
        assert len(set(payloads)) == 4
        assert all(0 <= event.latency < 5 for event in seen if isinstance(event, events.Pong))

    @pytest.mark.parametrize("rate", [0, None])
    def test_ping_rate_0_is_never(self, start_peer: StartPeer, rate: float | None) -> None:
        ends = Ends()
        take(WebSocket(start_peer(ends).url).connect(poll=0.02, ping_rate=rate), "poll", 5)
        assert ends.done.wait(PATIENCE)
        assert ends.seen == LEFT

    def test_ping_timeout_ends_a_silent_connection(self, start_peer: StartPeer) -> None:
        seen = list(WebSocket(start_peer(silent).url).connect(ping_rate=0.05, ping_timeout=0.15))
        assert names(seen)[-2:] == ["unresponsive", "disconnected"]
        assert seen[-1].reason == "ping timeout: nothing from the server for 0.15 s"

    def test_auto_pong_answers_before_the_event(self, start_peer: StartPeer) -> None:
        answered = threading.Event()

        def script(link: Link) -> None:
            link.accept()
            link.send_frame(PING, b"are you there")
            assert link.read_frame() == (PONG, b"are you there")
            answered.set()
            link.wait_for_end()

        for event in WebSocket(start_peer(script).url).connect(ping_rate=0):
            if event.name == "ping":
                assert event.data == b"are you there"
                assert answered.wait(PATIENCE)
                break

    def test_auto_pong_can_be_switched_off(self, start_peer: StartPeer) -> None:
        ends = Ends((PING, b"are you there"), (TEXT, b"?"))
        take(WebSocket(start_peer(ends).url).connect(ping_rate=0, auto_pong=False), "text")
        assert ends.wait() == LEFT

    def test_close_timeout_bounds_the_wait_for_the_answer(self, start_peer: StartPeer) -> None:
        ws = WebSocket(start_peer(silent).url)
        seen = []
        for event in ws.connect(close_timeout=0.1):
            seen.append(event)
            if event.name == "ready":
                ws.close()
        assert names(seen, "poll")[-1] == "disconnected"
        assert seen[-1].reason == "the server did not answer our Close frame within 0.1 s"
        assert not seen[-1].graceful


class TestLeavingEarly:
    """A loop that is left early sends a Close frame, if that is possible, and closes its socket."""

    def test_by_break(self, start_peer: StartPeer, caplog: pytest.LogCaptureFixture) -> None:
        ends = Ends((TEXT, b"hello"))
        ws = WebSocket(start_peer(ends).url)
        with caplog.at_level(logging.WARNING, "lochws"):
            for event in ws:
                if event.name == "text":
                    break
        assert ends.wait() == LEFT
        assert ws.state is State.STOPPED
        assert "was left early" in caplog.text

    def test_by_an_exception(self, start_peer: StartPeer) -> None:
        ends = Ends((TEXT, b"hello"))

        def loop() -> None:
            for event in WebSocket(start_peer(ends).url):
                if event.name == "text":
                    raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            loop()
        assert ends.wait() == LEFT

    def test_by_closing_the_generator(self, start_peer: StartPeer) -> None:
        ends = Ends()
        with closing(WebSocket(start_peer(ends).url).connect()) as connection:
            while next(connection).name != "ready":
                pass
        assert ends.wait() == LEFT

    @pytest.mark.parametrize("name", ["connecting", "connected", "ready", "poll", "text", "closing"])
    def test_at_any_event(self, start_peer: StartPeer, name: str) -> None:
        """The fixtures check that no descriptor stays open."""
        ends = Ends((TEXT, b"hello"), (CLOSE, b"\x03\xe8"))
        ws = WebSocket(start_peer(ends).url)
        take(ws.connect(), name)
        assert ws.state is State.STOPPED
        assert not ws.is_active
        if name != "connecting":
            assert ends.wait()[-1] in {"FIN", "reset"}

    def test_messages_that_were_sent_go_out_first(self, start_peer: StartPeer) -> None:
        ends = Ends()
        ws = WebSocket(start_peer(ends).url)
        for event in ws:
            if event.name == "ready":
                for number in range(100):
                    ws.send_text(str(number))
                break
        assert ends.wait() == [*((TEXT, str(number).encode()) for number in range(100)), *LEFT]

    def test_it_can_be_iterated_again(self, start_peer: StartPeer) -> None:
        peer = start_peer(Ends((TEXT, b"hello")))
        ws = WebSocket(peer.url)
        for _ in range(3):
            assert take(ws.connect(), "text")
        assert len(peer.links) == 3
        assert ws.counters.connections == 3
        assert ws.counters.messages_received == 3


class TestOneAtATime:
    """A WebSocket has one connection (contract Q43)."""

    def test_a_second_iteration_is_refused_and_the_first_goes_on(self, start_peer: StartPeer) -> None:
        peer = start_peer(polite)
        ws = WebSocket(peer.url)
        seen = []
        for event in ws:
            seen.append(event)
            with pytest.raises(errors.WebSocketError, match="being iterated already"):
                next(ws.connect())
            if event.name == "ready":
                ws.close()
        assert names(seen, "poll") == ["connecting", "connected", "ready", "closed", "disconnected"]
        assert len(peer.links) == 1

    def test_when_it_has_ended_it_can_be_iterated_again(self, start_peer: StartPeer) -> None:
        peer = start_peer(lambda link: (link.accept(), link.reset()))
        ws = WebSocket(peer.url)
        assert [names(ws)[-1] for _ in range(3)] == ["disconnected"] * 3
        assert len(peer.links) == 3

    def test_after_a_failed_attempt_too(self) -> None:
        ws = WebSocket("ws://127.0.0.1:1/")
        assert [names(ws) for _ in range(2)] == [["connecting", "connect_fail"]] * 2

    @fault("program", "No descriptor is left (EMFILE)")
    def test_no_descriptors_left_is_one_more_failure_and_not_the_end(
        self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none_left(*args: Any) -> None:
            raise OSError(24, "Too many open files")

        ws = WebSocket(start_peer(Ends()).url)
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socketpair", none_left)
            seen: list[Any] = list(ws)
        assert names(seen) == ["connecting", "connect_fail"]
        assert "Too many open files" in seen[-1].reason
        assert take(ws.connect(), "ready")


class TestWith:
    """`with` closes at its end."""

    def test_around_a_loop_that_ended(self, start_peer: StartPeer) -> None:
        with WebSocket(start_peer(lambda link: (link.accept(), link.reset())).url) as ws:
            assert names(ws)[-1] == "disconnected"

    def test_inside_a_loop_the_closing_handshake_goes_on(self, start_peer: StartPeer) -> None:
        """Contract Q37: no socket is dropped under a closing handshake."""
        ws = WebSocket(start_peer(polite).url)
        seen = []
        for event in ws:
            seen.append(event)
            if event.name == "ready":
                with ws as same:
                    assert same is ws
                    ws.send_text("last")
        assert names(seen)[-2:] == ["closed", "disconnected"]
        assert seen[-1].graceful
