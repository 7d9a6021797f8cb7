"""Servers that send one long message, as separate programs: `python sender.py KIND PORT BYTES`.

They send a ping every `PING_EVERY` seconds meanwhile, then the text "end" and, as a second text, the longest
time that a pong took, in seconds.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from time import monotonic, sleep

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
PART = 64 * 1024


def serve_websockets(port: int, size: int) -> None:
    """Serve with websockets."""

    def send(connection: ServerConnection) -> None:
        latencies, done = [0.0], threading.Event()

        def ping() -> None:
            with contextlib.suppress(ConnectionClosed):
                while not done.wait(PING_EVERY):
                    pong = connection.ping()  # waits until the part that is being sent has been sent
                    began = monotonic()
                    pong.wait(60)
                    latencies.append(monotonic() - began)

        def parts() -> Iterator[bytes]:
            for start in range(0, size, PART):
                yield bytes(min(PART, size - start))

        pinging = threading.Thread(target=ping)
        pinging.start()
        connection.send(parts())
        done.set()
        pinging.join()
        connection.send("end")
        connection.send(str(max(latencies)))
        for _ in connection:
            pass

    with serve(send, "127.0.0.1", port, compression=None, max_size=None, ping_interval=None) as server:
        server.serve_forever()


class Wsproto:
    """One connection of a server made with wsproto."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._lock = threading.Lock()
        self._pinged: dict[bytes, float] = {}
        self._latencies = [0.0]
        self._accepted = threading.Event()
        self._is_over = threading.Event()

    def run(self, size: int) -> None:
        """Send the message, and then read until the client has closed."""
        threading.Thread(target=self._read, daemon=True).start()
        self._accepted.wait()
        next_ping = monotonic()
        for start in range(0, size, PART):
            if monotonic() >= next_ping:
                next_ping = monotonic() + PING_EVERY
                payload = str(start).encode()
                self._pinged[payload] = monotonic()
                self._send(Ping(payload))
            part = bytes(min(PART, size - start))
            self._send(BytesMessage(part, message_finished=start + PART >= size))
        self._send(TextMessage("end"))
        while self._pinged:
            sleep(0.01)
        self._send(TextMessage(str(max(self._latencies))))
        self._is_over.wait()

    def _send(self, event: Event) -> None:
        with self._lock:
            self._sock.sendall(self._protocol.send(event))

    def _read(self) -> None:
        while data := self._sock.recv(65536):
            with self._lock:
                self._protocol.receive_data(data)
                events = list(self._protocol.events())
            for event in events:
                if isinstance(event, Request):
                    self._send(AcceptConnection())
                    self._accepted.set()
                elif isinstance(event, Pong):
                    began = self._pinged.pop(bytes(event.payload), None)
                    if began is not None:
                        self._latencies.append(monotonic() - began)
                elif isinstance(event, (Ping, CloseConnection)):
                    self._send(event.response())
        self._is_over.set()


def serve_wsproto(port: int, size: int) -> None:
    """Serve with wsproto."""
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Wsproto(sock).run, args=(size,), daemon=True).start()


kind, *given = sys.argv[1:]
{"websockets": serve_websockets, "wsproto": serve_wsproto}[kind](*map(int, given))
