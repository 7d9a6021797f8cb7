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

from lochws.testing import VirtualClock

from ..faults.registry import fault
from ..support.apps import echo, opened
from ..support.peer import StartPeer
from ..support.seen import PATIENCE, Noting, eventually

#: Bytes a second, by the machine's clock, and bytes to send.
RATE, SIZE = 400_000, 200_000
#: The limit in seconds without a sign of life, by the virtual clock, and the seconds that pass while the
#: relay takes `STEP` bytes.
PING_TIMEOUT, STEP_SECONDS, STEP = 60, 20, 10_000

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
        self.taken = 0  # bytes
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
            self.taken += len(data)
            far.sendall(data)
        far.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _back(far: socket.socket, near: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(65536):
                near.sendall(data)
            near.shutdown(socket.SHUT_WR)


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
    uplink: tuple[SlowUplink, str], client_tls: ssl.SSLContext, ws_clock: VirtualClock
) -> None:
    relay, url = uplink
    with opened(slow_app(url, client_tls), ping_rate=30, ping_timeout=PING_TIMEOUT) as app:
        app.send_binary(bytes(SIZE))
        began = ws_clock.monotonic()
        for taken in range(relay.taken + STEP, SIZE - STEP, STEP):
            eventually(lambda taken=taken: relay.taken >= taken)  # type: ignore[misc]
            ws_clock.advance(STEP_SECONDS)
            assert not app.all("disconnected")
        assert ws_clock.monotonic() - began > 4 * PING_TIMEOUT
        app.wait_for("binary")
        assert "unresponsive" not in app.names()
        (echoed,) = app.all("binary")
    assert len(echoed.data) == SIZE


@fault("sending", "A slow uplink")
def test_a_network_that_stops_taking_bytes_is_noticed(
    uplink: tuple[SlowUplink, str], client_tls: ssl.SSLContext, ws_clock: VirtualClock
) -> None:
    relay, url = uplink
    with opened(slow_app(url, client_tls), ping_rate=30, ping_timeout=PING_TIMEOUT) as app:
        app.send_binary(bytes(SIZE))
        relay.is_dead.set()
        ws_clock.advance(4 * PING_TIMEOUT)
        app.wait_for("disconnected")
    assert app.all("unresponsive")
