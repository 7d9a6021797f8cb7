"""Places where an opening can hang."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from lochws.transport import tcp

from .peer import StartPeer


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
