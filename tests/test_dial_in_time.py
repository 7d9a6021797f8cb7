"""Whatever hangs while connecting, the attempt ends in time, and nothing is left open."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from time import monotonic

import pytest

from lochws.deadline import Deadline
from lochws.dial import Dialler
from lochws.options import Options
from lochws.transport import tcp

from .attempts import Attempt, Dial
from .peer import Link, StartPeer

#: Seconds within which what should not wait must be done.
SOON = 0.7


class Hang:
    """Places where an opening can hang: each method sets one up and gives URL and options.

    Attributes:
        reached: called, in some other thread, when the attempt has come to that place.
    """

    def __init__(self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached: Callable[[], object] = lambda: None
        self._start_peer = start_peer
        self._monkeypatch = monkeypatch
        self._over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._timers: list[threading.Timer] = []

    def resolve(self) -> tuple[str, dict[str, object]]:
        def never(*_: object, **__: object) -> list[tcp.AddressInfo]:
            self.reached()
            self._over.wait()
            return []

        self._monkeypatch.setattr(tcp, "getaddrinfo", never)
        return "ws://slow.host/", {}

    def tcp(self) -> tuple[str, dict[str, object]]:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        self._sockets.append(listener)
        for _ in range(3):  # whoever comes after the backlog is full gets no answer
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            self._sockets.append(filler)
        # Nobody can tell when the attempt hangs here; but it soon does.
        self._timers.append(threading.Timer(0.05, self.reached))
        self._timers[-1].start()
        return f"ws://127.0.0.1:{listener.getsockname()[1]}/", {}

    def proxy(self) -> tuple[str, dict[str, object]]:
        peer = self._start_peer(lambda link: (link.read_request(), self.reached(), link.wait_for_end()))
        return "ws://target.invalid/", {"proxies": {"http": peer.authority}}

    def tls(self) -> tuple[str, dict[str, object]]:
        peer = self._start_peer(lambda link: (link.read(1), self.reached(), link.wait_for_end()))
        return f"wss://{peer.authority}/", {}

    def upgrade(self) -> tuple[str, dict[str, object]]:
        peer = self._start_peer(lambda link: (link.read_request(), self.reached(), link.wait_for_end()))
        return peer.url, {}

    def request(self) -> tuple[str, dict[str, object]]:
        peer = self._start_peer(lambda link: (link.read(1), self.reached(), self._over.wait()))
        return peer.url, {"headers": (("X-Large", "x" * 16_000_000),)}

    def end(self) -> None:
        self._over.set()
        for sock in self._sockets:
            sock.close()
        for timer in self._timers:
            timer.join()


class TestEndingInTime:
    """Whatever hangs, the attempt ends with its deadline, and at once when it is cancelled."""

    PHASES = ("resolve", "tcp", "proxy", "tls", "request", "upgrade")

    @pytest.fixture
    def hang(self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
        hang = Hang(start_peer, monkeypatch)
        yield hang
        hang.end()

    @pytest.mark.parametrize("phase", PHASES)
    def test_silence_ends_with_open_timeout(self, dial: Dial, hang: Hang, phase: str) -> None:
        url, options = getattr(hang, phase)()
        limit = 1.0 if phase == "request" else 0.2  # so large a request takes time to make up
        attempt = dial(url, open_timeout=limit, **options)
        assert limit - 0.05 < attempt.seconds < limit + SOON
        if phase == "upgrade":
            assert attempt.names == ["connecting", "connected", "disconnected"]
            expected = "disconnected; no answer to the upgrade request: timed out after 0.2 s"
            assert attempt.last.reason == expected
            assert attempt.last.ended_by == "network"
            assert isinstance(attempt.last.error, TimeoutError)
        else:
            assert attempt.names == ["connecting", "connect_fail"]
            assert attempt.last.phase == {"request": "upgrade"}.get(phase, phase)
            assert f"{limit:g} s" in attempt.last.reason

    @pytest.mark.parametrize("phase", PHASES)
    def test_cancelling_ends_it_at_once(self, dial: Dial, hang: Hang, phase: str) -> None:
        deadline = Deadline(None)
        at = []

        def cancel() -> None:
            at.append(monotonic())
            deadline.cancel()

        hang.reached = cancel
        url, options = getattr(hang, phase)()
        attempt = dial(url, deadline=deadline, **options)
        assert monotonic() - at[0] < SOON
        if phase == "upgrade":
            assert attempt.names == ["connecting", "connected", "disconnected"]
            assert attempt.last.reason == "closed while the upgrade was under way"
            assert attempt.last.ended_by == "client"
        else:
            assert attempt.names == ["connecting", "connect_fail"]
            assert attempt.last.reason == "closed while connecting"
            assert attempt.last.phase == {"request": "upgrade"}.get(phase, phase)

    def test_cancelled_before_it_began_it_dials_nothing(self, dial: Dial, start_peer: StartPeer) -> None:
        peer = start_peer(Link.accept)
        deadline = Deadline(5)
        deadline.cancel()
        assert dial(peer.url, deadline=deadline).last.reason == "closed while connecting"

    def test_cancelling_during_the_body_of_a_refusal_keeps_what_came(
        self, dial: Dial, start_peer: StartPeer
    ) -> None:
        deadline = Deadline(None)
        kept = b"the beginning"

        def script(link: Link) -> None:
            link.read_request()
            link.send(b"HTTP/1.1 500 No\r\n\r\n" + kept)
            deadline.cancel()
            link.wait_for_end()

        attempt = dial(start_peer(script).url, deadline=deadline)
        assert attempt.seconds < SOON
        # The client may have been told to stop before it had read anything of the answer.
        assert attempt.names[2:] == ["disconnected"] or kept.startswith(attempt.events[2].response.body)

    @pytest.mark.parametrize("steps", [1, 2])
    def test_leaving_early_closes_the_connection(self, start_peer: StartPeer, steps: int) -> None:
        ended = threading.Event()
        peer = start_peer(lambda link: (link.read_request(), link.wait_for_end(), ended.set()))
        deadline = Deadline(5)
        attempt = Dialler(Options(), peer.url).dial(deadline)
        for _ in range(steps):
            next(attempt)
        attempt.close()
        deadline.close()
        assert steps == 1 or ended.wait(5)

    def test_a_thousand_failures_leave_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        dialler = Dialler(Options(), f"ws://127.0.0.1:{port}/")
        threads = threading.active_count()
        for _ in range(1000):
            with closing(Deadline(5)) as deadline:
                Attempt(dialler, deadline)
        gc.collect()
        assert threading.active_count() == threads
