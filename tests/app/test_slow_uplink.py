"""A network that takes what is sent slowly but steadily is not one that has died."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from time import monotonic

import pytest

from ..faults.registry import fault
from ..support.apps import echo, opened
from ..support.peer import StartPeer
from ..support.seen import PATIENCE, Noting, eventually

#: Bytes a second, bytes to send, and seconds without a sign of life: four times the case that was reported.
RATE, SIZE, PING_TIMEOUT = 80_000, 200_000, 0.5

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what TCP has acknowledged")


class SlowUplink:
    """A relay that takes `RATE` bytes a second from the client, and hands back at once what is answered."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        self.is_dead = threading.Event()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run)]
        self._threads[0].start()

    def close(self) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listener.close()

    def _run(self) -> None:
        with suppress(OSError):
            near, _ = self._listener.accept()
            near.settimeout(0.05)
            far = socket.create_connection(("127.0.0.1", self._port))
            self._threads.append(threading.Thread(target=self._back, args=(far, near)))
            self._threads[1].start()
            with near, far:
                self._forth(near, far)

    def _forth(self, near: socket.socket, far: socket.socket) -> None:
        began, taken = monotonic(), 0
        while not self._ended.is_set():
            due = began + taken / RATE
            if self.is_dead.is_set() or monotonic() < due:
                self._ended.wait(0.005)
                continue
            try:
                data = near.recv(2048)
            except TimeoutError:
                began, taken = monotonic(), 0
                continue
            if not data:
                break
            taken += len(data)
            far.sendall(data)
        far.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _back(far: socket.socket, near: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(65536):
                near.sendall(data)


@pytest.fixture(params=["ws", "wss"])
def uplink(
    request: pytest.FixtureRequest, start_peer: StartPeer, server_tls: ssl.SSLContext
) -> Iterator[tuple[SlowUplink, str]]:
    tls = request.param == "wss"
    peer = start_peer(echo, tls=server_tls) if tls else start_peer(echo)
    with closing(SlowUplink(int(peer.url.rsplit(":", 1)[1].strip("/")))) as relay:
        yield relay, f"{request.param}://localhost:{relay.port}/" if tls else f"ws://127.0.0.1:{relay.port}/"


def slow_app(url: str, client_tls: ssl.SSLContext) -> Noting:
    buffer = (socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # large, so that it does not become writable
    return Noting(url, ssl_context=client_tls if url.startswith("wss") else None, socket_options=[buffer])


@fault("sending", "A slow uplink")
def test_acknowledged_bytes_are_a_sign_of_life(
    uplink: tuple[SlowUplink, str], client_tls: ssl.SSLContext
) -> None:
    _, url = uplink
    with opened(slow_app(url, client_tls), ping_rate=0.25, ping_timeout=PING_TIMEOUT) as app:
        app.send_binary(bytes(SIZE))
        eventually(lambda: bool(app.all("binary") or app.all("disconnected")))
        assert "unresponsive" not in app.names()
        (echoed,) = app.all("binary")
    assert len(echoed.data) == SIZE


@fault("sending", "A slow uplink")
def test_a_network_that_stops_taking_bytes_is_noticed(
    uplink: tuple[SlowUplink, str], client_tls: ssl.SSLContext
) -> None:
    relay, url = uplink
    with opened(slow_app(url, client_tls), ping_rate=0.25, ping_timeout=PING_TIMEOUT, close_timeout=1) as app:
        app.send_binary(bytes(SIZE))
        relay.is_dead.set()
        eventually(lambda: bool(app.all("disconnected")))
    assert app.all("unresponsive")
