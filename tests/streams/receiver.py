"""Servers that receive one long message, as separate programs: `python receiver.py KIND PORT`.

They send a ping every `PING_EVERY` seconds meanwhile. Then they send a text: the size of the message, its
CRC-32, and the longest time that a pong took, in seconds.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import zlib
from time import monotonic

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)

PING_EVERY = 0.1


def serve_websockets(port: int) -> None:
    """Serve with websockets."""

    def receive(connection: ServerConnection) -> None:
        latencies, done = [0.0], threading.Event()

        def ping() -> None:
            with contextlib.suppress(ConnectionClosed):
                while not done.wait(PING_EVERY):
                    began = monotonic()
                    connection.ping().wait(60)
                    latencies.append(monotonic() - began)

        pinging = threading.Thread(target=ping)
        pinging.start()
        size = crc = 0
        for part in connection.recv_streaming(decode=False):
            size, crc = size + len(part), zlib.crc32(part, crc)
        done.set()
        pinging.join()
        connection.send(f"{size} {crc} {max(latencies)}")
        for _ in connection:
            pass

    with serve(receive, "127.0.0.1", port, compression=None, max_size=None, ping_interval=None) as server:
        server.serve_forever()


class Wsproto:
    """One connection of a server made with wsproto."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._pinged: dict[bytes, float] = {}
        self._longest = 0.0
        self._size = self._crc = 0
        self._is_complete = False

    def run(self) -> None:
        """Receive the message, answer, and read until the client has closed."""
        next_ping = monotonic() + PING_EVERY
        while data := self._sock.recv(256 * 1024):
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                self._handle(event)
            if monotonic() >= next_ping and not self._is_complete:
                next_ping = monotonic() + PING_EVERY
                payload = str(next_ping).encode()
                self._pinged[payload] = monotonic()
                self._send(Ping(payload))

    def _handle(self, event: Event) -> None:
        if isinstance(event, Request):
            self._send(AcceptConnection())
        elif isinstance(event, BytesMessage):
            self._size += len(event.data)
            self._crc = zlib.crc32(event.data, self._crc)
            self._is_complete = event.message_finished
        elif isinstance(event, Pong):
            self._longest = max(self._longest, monotonic() - self._pinged.pop(bytes(event.payload)))
        elif isinstance(event, (Ping, CloseConnection)):
            self._send(event.response())
        if self._is_complete and not self._pinged and isinstance(event, (BytesMessage, Pong)):
            self._send(TextMessage(f"{self._size} {self._crc} {self._longest}"))

    def _send(self, event: Event) -> None:
        self._sock.sendall(self._protocol.send(event))


def serve_wsproto(port: int) -> None:
    """Serve with wsproto."""
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Wsproto(sock).run, daemon=True).start()


kind, given = sys.argv[1:]
{"websockets": serve_websockets, "wsproto": serve_wsproto}[kind](int(given))
