"""Iterations whose WebSocket is used by other threads, which close, send and read its state."""

from __future__ import annotations

import threading

import pytest

from lochws import WebSocket, errors

from ..support.peer import BINARY, TEXT, Link, StartPeer
from ..support.scripts import answer_close, polite, silent
from ..support.seen import PATIENCE, in_thread, names, take


class TestOtherThreads:
    """Threads that do not iterate may close, send and read the state."""

    def test_close_wakes_the_loop(self, start_peer: StartPeer) -> None:
        ws = WebSocket(start_peer(polite).url)
        seen = []
        for event in ws.connect(poll=60):
            seen.append(event)
            if event.name == "poll":
                closer = in_thread(ws.close)
        closer.join(PATIENCE)
        assert names(seen)[-2:] == ["closed", "disconnected"]
        assert seen[-1].graceful
        assert seen[-1].received_time - seen[3].received_time < 50  # before the next Poll event

    def test_close_calls_off_an_attempt_to_connect(self, start_peer: StartPeer) -> None:
        ws = WebSocket(start_peer(Link.wait_for_end).url)
        seen = []
        for event in ws:
            seen.append(event)
            if event.name == "connected":
                closer = in_thread(ws.close)
        closer.join(PATIENCE)
        assert names(seen) == ["connecting", "connected", "disconnected"]
        assert seen[-1].ended_by == "client"
        assert seen[-1].received_time - seen[0].received_time < 20  # before the time limit for the upgrade

    def test_force_disconnect_ends_the_loop(self, start_peer: StartPeer) -> None:
        """Contract Q13."""
        ws = WebSocket(start_peer(silent).url)
        seen = []
        for event in ws.connect(poll=60):
            seen.append(event)
            if event.name == "poll":
                dropper = in_thread(ws.force_disconnect)
        dropper.join(PATIENCE)
        assert seen[-1].reason == "force_disconnect was called"
        assert seen[-1].ended_by == "client"
        assert not seen[-1].graceful

    def test_many_threads_send_each_in_its_order(self, start_peer: StartPeer) -> None:
        received: list[tuple[int, bytes]] = []
        ws = WebSocket(start_peer(lambda link: (link.accept(), received.extend(answer_close(link)))).url)

        def send(number: int) -> None:
            for count in range(200):
                ws.send_text(f"{number} {count}")
                ws.send_binary(b"%d %d" % (number, count))

        for event in ws.connect(poll=0.02):
            if event.name == "ready":
                senders = [in_thread(lambda number=number: send(number)) for number in range(4)]  # type: ignore[misc]
            elif event.name == "poll" and not any(sender.is_alive() for sender in senders):
                ws.close()
        for number in range(4):
            mine = [frame for frame in received if frame[1].startswith(b"%d " % number)]
            assert mine == [
                (opcode, b"%d %d" % (number, count)) for count in range(200) for opcode in (TEXT, BINARY)
            ]

    def test_more_than_the_kernel_takes_leaves_while_the_loop_turns(self, start_peer: StartPeer) -> None:
        may_read = threading.Event()
        received: list[tuple[int, bytes]] = []

        def script(link: Link) -> None:
            link.accept()
            may_read.wait(PATIENCE)
            received.extend(answer_close(link))

        ws = WebSocket(start_peer(script).url)
        for event in ws.connect(poll=0.05, ping_rate=0):
            if event.name == "ready":
                for number in range(12):
                    ws.send_binary(bytes([number]) * (1 << 20))
                may_read.set()
            elif event.name == "poll":
                ws.close()
        assert [payload[:1] for _, payload in received] == [bytes([number]) for number in range(12)]
        assert {len(payload) for _, payload in received} == {1 << 20}

    def test_the_iterating_thread_never_waits_for_room_another_may(self, start_peer: StartPeer) -> None:
        may_read = threading.Event()

        def script(link: Link) -> None:
            link.accept()
            may_read.wait(PATIENCE)
            answer_close(link)

        ws = WebSocket(start_peer(script).url, max_queue=1000, when_full="block", send_timeout=PATIENCE)
        blocked = []
        for event in ws.connect(poll=0.05, ping_rate=0):
            if event.name == "ready":
                ws.send_binary(bytes(16 << 20))
                with pytest.raises(errors.QueueFull, match="cannot wait"):
                    ws.send_binary(bytes(2000))
                sender = in_thread(lambda: blocked.append(ws.send_binary(bytes(2000))))
                may_read.set()
            elif event.name == "poll" and blocked:
                ws.close()
        sender.join(PATIENCE)
        assert blocked == [True]


class TestWithoutThreads:
    """No thread is started, except for the time of a DNS lookup."""

    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        started: list[str] = []
        start = threading.Thread.start

        def note(thread: threading.Thread) -> None:
            if not thread.name.startswith("peer"):
                started.append(thread.name)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", note)
        return started

    def test_in_a_whole_life(self, start_peer: StartPeer, started: list[str]) -> None:
        ws = WebSocket(start_peer(polite).url)
        for event in ws.connect(poll=0.02, ping_rate=0.02, ping_timeout=None):
            if event.name == "ready":
                ws.send_text("x" * 100_000)
            elif event.name == "poll":
                ws.close()
        assert started == []

    def test_a_name_is_looked_up_in_one(self, start_peer: StartPeer, started: list[str]) -> None:
        peer = start_peer(polite)
        take(WebSocket(f"ws://localhost:{peer.port}/").connect(), "ready")
        assert started == ["lochws-resolver-localhost"]
