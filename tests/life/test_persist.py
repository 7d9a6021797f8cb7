"""Staying connected, with `persist()` and with apps, while servers come and go."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from lochws import Backoff, State, WebSocket, errors, events
from lochws.life.backoff import USE_BACKOFF, AttemptEnd
from lochws.persist import persist

from ..support.peer import StartPeer
from ..support.scripts import closing_cleanly, dropping, in_turn, polite, refusing, silent
from ..support.seen import PATIENCE, in_thread, names, take

#: Waits that a test can wait for.
QUICK = Backoff(0, 0.01, stable_after=0)
CYCLE = ["connecting", "connected", "ready", "disconnected", "back_off"]


def until(connection: Iterable[events.Event], name: str, count: int) -> list[events.Event]:
    """Return all events up to the given number of those with that name."""
    seen = []
    for event in connection:
        seen.append(event)
        if names(seen).count(name) == count:
            break
    return seen


class TestIteration:
    """`persist(websocket)`."""

    def test_a_lost_connection_is_followed_by_back_off_and_another(self, start_peer: StartPeer) -> None:
        peer = start_peer(dropping)
        seen = until(persist(WebSocket(peer.url), poll=0, backoff=QUICK), "back_off", 3)
        assert names(seen) == CYCLE * 3
        assert len(peer.links) == 3

    def test_so_are_a_clean_close_a_refusal_and_a_failed_attempt(self, start_peer: StartPeer) -> None:
        peer = start_peer(in_turn(closing_cleanly, refusing("503 Busy"), dropping))
        ws = WebSocket(peer.url)
        seen = until(persist(ws, poll=0, backoff=QUICK), "back_off", 3)
        assert names(seen) == [
            "connecting", "connected", "ready", "closing", "disconnected", "back_off",
            "connecting", "connected", "rejected", "disconnected", "back_off",
            *CYCLE,
        ]
        peer.close()
        seen = until(persist(ws, backoff=QUICK), "back_off", 2)
        assert names(seen) == ["connecting", "connect_fail", "back_off"] * 2

    def test_the_waits_with_the_defaults_are_those_of_lomond(self) -> None:
        exit_event = threading.Event()
        seen: list[events.Event] = []
        for event in persist(WebSocket("ws://127.0.0.1:1/"), exit_event=exit_event):
            seen.append(event)
            if isinstance(event, events.BackOff):
                assert 5 <= event.delay <= 7
                exit_event.set()
        assert names(seen) == ["connecting", "connect_fail", "back_off"]

    def test_min_wait_and_max_wait_are_honoured(self) -> None:
        seen = until(persist(WebSocket("ws://127.0.0.1:1/"), min_wait=0.01, max_wait=0.02), "back_off", 5)
        delays = [event.delay for event in seen if isinstance(event, events.BackOff)]
        assert all(0.01 <= delay <= 0.02 for delay in delays)
        assert len(set(delays)) > 1
        gaps = [
            after.received_time - before.received_time
            for before, after in pairwise(seen) if before.name == "back_off"
        ]
        assert all(gap >= 0.009 for gap in gaps)

    def test_retry_after_is_honoured_and_can_be_ignored(self, start_peer: StartPeer) -> None:
        peer = start_peer(refusing("429 Slow Down", "Retry-After: 77"))
        (heeded,) = take(persist(WebSocket(peer.url), 0, 0, 1), "back_off")
        assert heeded.delay == 77
        (ignored,) = take(persist(WebSocket(peer.url), 0, 0, 1, respect_retry_after=False), "back_off")
        assert ignored.delay <= 1

    def test_options_of_connect_reach_every_connection(self, start_peer: StartPeer) -> None:
        """All of them, `auto_pong` and `close_timeout` too (contract Q42)."""
        ws = WebSocket(start_peer(silent).url)
        seen = until(
            persist(ws, poll=0.03, ping_rate=0.05, ping_timeout=0.15, backoff=QUICK), "disconnected", 3
        )
        ends = [event.reason for event in seen if isinstance(event, events.Disconnected)]
        assert ends == ["ping timeout: nothing from the server for 0.15 s"] * 3
        assert names(seen).count("poll") >= 3

        ends = []
        ws = WebSocket(start_peer(in_turn(dropping, silent)).url)
        for event in persist(ws, ping_rate=0, auto_pong=False, close_timeout=0.1, backoff=QUICK):
            if isinstance(event, events.Disconnected):
                ends.append(event.reason)
            elif event.name == "ready" and ends:
                ws.close()
        assert ends[1] == "the server did not answer our Close frame within 0.1 s"

    def test_the_back_off_gives_up(self) -> None:
        policy = Backoff(0, 0, max_attempts=3)
        seen = names(persist(WebSocket("ws://127.0.0.1:1/"), backoff=policy))
        assert seen == ["connecting", "connect_fail", "back_off"] * 2 + ["connecting", "connect_fail"]

    def test_the_retry_hook_sees_the_refusal_itself(self, start_peer: StartPeer) -> None:
        outcomes: list[AttemptEnd] = []

        def retry(outcome: AttemptEnd) -> Any:
            outcomes.append(outcome)
            return None if len(outcomes) == 3 else USE_BACKOFF

        peer = start_peer(in_turn(refusing("401 Who"), dropping, closing_cleanly))
        list(persist(WebSocket(peer.url), backoff=Backoff(0, 0, retry=retry)))
        assert names(outcomes) == ["rejected", "disconnected", "disconnected"]
        assert outcomes[0].response.status_code == 401  # type: ignore[union-attr]
        assert outcomes[2].received_code == 1000  # type: ignore[union-attr]

    def test_a_fatal_status_or_close_code_ends_it(self, start_peer: StartPeer) -> None:
        peer = start_peer(in_turn(closing_cleanly, refusing("401 Who")))
        seen = list(persist(WebSocket(peer.url), poll=0, backoff=Backoff(0, 0, fatal_statuses={401})))
        assert [(event.name, event.fatal) for event in seen if hasattr(event, "fatal")] == [
            ("disconnected", False), ("rejected", True), ("disconnected", True)
        ]
        assert seen[-1].name == "disconnected"
        peer = start_peer(closing_cleanly)
        seen = list(persist(WebSocket(peer.url), poll=0, backoff=Backoff(0, 0, fatal_codes={1000})))
        assert names(seen)[-1:] == ["disconnected"]
        assert len(peer.links) == 1

    def test_leaving_early_closes_the_connection(self, start_peer: StartPeer) -> None:
        ended = threading.Event()
        peer = start_peer(lambda link: (link.accept(), link.wait_for_end(), ended.set()))
        ws = WebSocket(peer.url)
        take(persist(ws), "ready")
        assert ended.wait(PATIENCE)
        assert ws.state is State.STOPPED

    def test_while_it_lasts_another_iteration_is_refused(self, start_peer: StartPeer) -> None:
        ws = WebSocket(start_peer(polite).url)
        for event in persist(ws):
            if event.name == "ready":
                with pytest.raises(errors.WebSocketError, match="iterated already"):
                    next(persist(ws))
                ws.close()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"min_wait": -1}, "min_wait=-1"), ({"max_wait": 1}, "max_wait=1: expected at least min_wait=5"),
            ({"poll": "x"}, "poll='x'"), ({"backoff": 5}, "backoff=5"),
            ({"respect_retry_after": 2}, "respect_retry_after=2"),
        ],
    )
    def test_wrong_arguments_are_refused_at_the_call(self, arguments: Any, message: str) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            persist(WebSocket("ws://127.0.0.1:1/"), **arguments)


class TestEnding:
    """`close` and `exit_event` end `persist()` at any moment."""

    def test_close_while_open_ends_it_after_the_closing_handshake(self, start_peer: StartPeer) -> None:
        ws = WebSocket(start_peer(polite).url)
        seen: list[Any] = []
        for event in persist(ws, poll=0):
            seen.append(event)
            if event.name == "ready":
                ws.close()
        assert names(seen) == ["connecting", "connected", "ready", "closed", "disconnected"]
        assert seen[-1].graceful

    @pytest.mark.parametrize("exit_event", [None, threading.Event()])
    def test_close_from_another_thread_ends_the_wait(self, exit_event: threading.Event | None) -> None:
        ws = WebSocket("ws://127.0.0.1:1/")
        seen = []
        for event in persist(ws, min_wait=60, max_wait=60, exit_event=exit_event):
            seen.append(event)
            if event.name == "back_off":
                closer = in_thread(ws.close)
        closer.join(PATIENCE)
        assert names(seen) == ["connecting", "connect_fail", "back_off"]

    @pytest.mark.parametrize("moment", ["connecting", "connect_fail", "back_off"])
    @pytest.mark.parametrize("how", ["close", "exit_event"])
    def test_at_any_event_no_further_attempt_is_made(self, moment: str, how: str) -> None:
        ws, exit_event = WebSocket("ws://127.0.0.1:1/"), threading.Event()
        seen = []
        for event in persist(ws, min_wait=0.01, max_wait=0.02, exit_event=exit_event):
            seen.append(event)
            if event.name == moment:
                exit_event.set() if how == "exit_event" else ws.close()
        assert names(seen).count("connecting") == 1

    def test_exit_event_is_looked_at_while_open_and_closes_cleanly(self, start_peer: StartPeer) -> None:
        """Contract Q42: not only during the wait; within `poll` seconds."""
        ws, exit_event = WebSocket(start_peer(polite).url), threading.Event()
        seen: list[Any] = []
        for event in persist(ws, poll=0.05, exit_event=exit_event):
            seen.append(event)
            if event.name == "ready":
                exit_event.set()
        assert names(seen, "poll") == ["connecting", "connected", "ready", "closed", "disconnected"]
        assert seen[-1].graceful

    def test_exit_event_from_another_thread_ends_the_wait(self) -> None:
        exit_event = threading.Event()
        for event in persist(
            WebSocket("ws://127.0.0.1:1/"), min_wait=60, max_wait=60, exit_event=exit_event
        ):
            if event.name == "back_off":
                setter = in_thread(exit_event.set)
        setter.join(PATIENCE)
        assert event.name == "back_off"

    def test_exit_event_that_is_set_already_connects_nowhere(self, start_peer: StartPeer) -> None:
        peer, exit_event = start_peer(polite), threading.Event()
        exit_event.set()
        assert list(persist(WebSocket(peer.url), exit_event=exit_event)) == []
        assert peer.links == []

    def test_close_before_the_first_event_is_remembered(self, start_peer: StartPeer) -> None:
        peer = start_peer(polite)
        ws = WebSocket(peer.url)
        connection = persist(ws)
        ws.close()
        assert list(connection) == []
        assert peer.links == []

    def test_after_close_it_can_be_persisted_again(self, start_peer: StartPeer) -> None:
        ws = WebSocket(start_peer(polite).url)
        for _ in range(2):
            for event in persist(ws):
                if event.name == "ready":
                    ws.close()
            assert event.name == "disconnected"
