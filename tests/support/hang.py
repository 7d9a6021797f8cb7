"""Hanging openings: URLs and options with which an attempt to connect hangs at a given place."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable

import pytest

from lochws.transport import tcp

from .peer import StartPeer


class Hang:
    """Makes attempts to connect hang. Each method is named for a place, and returns a URL and options.

    Attributes:
        reached: called, in another thread, when the attempt has reached that place.
    """

    def __init__(self, start_peer: StartPeer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached: Callable[[], object] = lambda: None
        self._start_peer = start_peer
        self._monkeypatch = monkeypatch
        self._over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._fillers: dict[socket.socket, list[socket.socket]] = {}
        self._timers: list[threading.Timer] = []

    def resolve(self) -> tuple[str, dict[str, object]]:
        def never(*_: object, **__: object) -> list[tcp.AddressInfo]:
            self.reached()
            self._over.wait()
            return []

        self._monkeypatch.setattr(socket, "getaddrinfo", never)
        return "ws://slow.host/", {}

    def full_listener(self, host: str = "127.0.0.1") -> socket.socket:
        """Return a listening socket whose backlog is full: connecting to it hangs."""
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.bind((host, 0))
        listener.listen(0)
        self._sockets.append(listener)
        for _ in range(3):  # once the backlog is full, further connections get no answer
            filler = socket.socket(listener.family)
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            self._sockets.append(filler)
            self._fillers.setdefault(listener, []).append(filler)
        return listener

    def full_port(self, host: str = "127.0.0.1") -> int:
        """Return the port of a listening socket whose backlog is full."""
        return int(self.full_listener(host).getsockname()[1])

    def drain(self, listener: socket.socket) -> None:
        """Empty the backlog, so that the next connection succeeds."""
        for filler in self._fillers.pop(listener):
            filler.close()
        listener.setblocking(False)
        try:
            while True:
                self._sockets.append(listener.accept()[0])
        except BlockingIOError:
            pass

    def tcp(self) -> tuple[str, dict[str, object]]:
        port = self.full_port()
        # This place cannot be observed, but it is soon reached.
        self._timers.append(threading.Timer(0.05, self.reached))
        self._timers[-1].start()
        return f"ws://127.0.0.1:{port}/", {}

    def proxy(self) -> tuple[str, dict[str, object]]:
        peer = self._start_peer(lambda link: (link.read_request(), self.reached(), link.wait_for_end()))
        return "ws://target.invalid/", {"proxies": {"http": peer.authority}}

    def tls(self) -> tuple[str, dict[str, object]]:
        peer = self._start_peer(lambda link: (link.read(1), self.reached(), link.wait_for_end()))
        context = ssl.create_default_context()  # here, since loading its authorities takes a while
        return f"wss://{peer.authority}/", {"ssl_context": context}

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
