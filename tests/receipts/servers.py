"""Servers that list the messages they read, and a relay that cuts the link at a given byte."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.sync.server import ServerConnection, serve
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection as Accept
from wsproto.events import CloseConnection, Ping, Request, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from ..peers.programs import PATIENCE, find
from ..support.ports import free_port

#: What a server puts into its list after the messages of a connection.
END = "end"


class Record:
    """The messages that a server reads, one connection at a time."""

    def __init__(self) -> None:
        self._read: queue.Queue[str] = queue.Queue()

    def add(self, message: str) -> None:
        self._read.put(message)

    def connection(self) -> list[str]:
        """Return the messages of the next connection, once it has ended."""
        messages = []
        while (message := self._read.get(timeout=PATIENCE)) != END:
            messages.append(message)
        return messages


class Certificate(NamedTuple):
    """A certificate for localhost.

    Attributes:
        pem: a file with the certificate and its key.
        authority: a file with that of its authority.
        context: a server's TLS context.
    """

    pem: str
    authority: str
    context: ssl.SSLContext


@contextlib.contextmanager
def certificate() -> Iterator[Certificate]:
    """Make a certificate."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    with authority.cert_pem.tempfile() as trusted, issued.private_key_and_cert_chain_pem.tempfile() as pem:
        yield Certificate(pem, trusted, context)


@contextlib.contextmanager
def websockets_server(record: Record, tls: Certificate | None = None) -> Iterator[int]:
    """Run a server made with websockets."""

    class Connection(ServerConnection):
        """Lists what the WebSocket layer reads, before it answers anything.

        Its program may not get the last messages before the connection ends: they are handed on after the
        pongs have been sent, and not at all if sending fails.
        """

        def __init__(self, sock: socket.socket, protocol: Any, server: Any, **options: Any) -> None:
            receive = protocol.recv_frame

            def note(frame: Any) -> None:
                if frame.opcode is Opcode.TEXT:
                    record.add(bytes(frame.data).decode())
                receive(frame)

            protocol.recv_frame = note
            super().__init__(sock, protocol, server, **options)

    def handle(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                connection.recv()
        connection.recv_events_thread.join(PATIENCE)
        record.add(END)

    with serve(
        handle, "127.0.0.1", 0, ping_interval=None, create_connection=Connection,
        ssl=None if tls is None else tls.context,
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join(PATIENCE)


@contextlib.contextmanager
def wsproto_server(record: Record, tls: Certificate | None = None) -> Iterator[int]:
    """Run a server made with wsproto."""

    def handle(accepted: socket.socket) -> None:
        protocol = WSConnection(ConnectionType.SERVER)
        text = ""
        with (
            contextlib.suppress(OSError, LocalProtocolError, RemoteProtocolError),
            accepted if tls is None else tls.context.wrap_socket(accepted, server_side=True) as sock,
        ):
            while data := sock.recv(65536):
                protocol.receive_data(data)
                for event in protocol.events():
                    if isinstance(event, Request):
                        sock.sendall(protocol.send(Accept()))
                    elif isinstance(event, TextMessage):
                        text += event.data
                        if event.message_finished:
                            record.add(text)
                            text = ""
                    elif isinstance(event, (Ping, CloseConnection)):
                        sock.sendall(protocol.send(event.response()))
        record.add(END)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads: list[threading.Thread] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threads.append(threading.Thread(target=handle, args=(listener.accept()[0],)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in [accepting, *threads]:
                thread.join(PATIENCE)


@contextlib.contextmanager
def node_server(record: Record, tls: Certificate | None = None) -> Iterator[int]:
    """Run a server made with the package ws of Node."""
    with node(record, tls) as (port, _):
        yield port


@contextlib.contextmanager
def node(record: Record, tls: Certificate | None = None) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run that server, and yield its port and its process. Skip the test if the package is not installed."""
    probe = [find("node"), "-e", "require('ws')"]
    if subprocess.run(probe, check=False, capture_output=True, timeout=PATIENCE).returncode:
        pytest.skip("Node's package ws is not installed (or NODE_PATH does not lead to it)")
    port = free_port()
    command = [find("node"), str(Path(__file__).with_name("recorder.js")), str(port)]
    if tls is not None:
        command.append(tls.pem)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                record.add(line.rstrip("\n"))

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield port, process
        finally:
            process.terminate()
            process.wait(PATIENCE)
            thread.join(PATIENCE)


#: The commands of proxies, and their configuration files.
PROXIES = {
    "nginx": (["nginx", "-p", "$work", "-c", "$config"], "receipts_nginx.conf"),
    "haproxy": (["haproxy", "-db", "-f", "$config"], "receipts_haproxy.cfg"),
}

SERVERS = {"websockets": websockets_server, "wsproto": wsproto_server, "Node ws": node_server}


class Cutter:
    """A relay for one connection, which ends both sides once it has relayed a number of bytes.

    Args:
        port: the port of the server.
        upstream, downstream: how many bytes to relay to the server, and to the client, from `begin` on; None
            for no limit.
        is_reset: whether to end with a reset rather than properly.
    """

    def __init__(self, port: int, upstream: int | None, downstream: int | None, is_reset: bool) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_reset = is_reset
        self._limits: list[int | None] = [None, None]
        self._wanted = [upstream, downstream]
        self._over = threading.Event()
        self._lock = threading.Lock()  # guards `relayed` and `_limits`
        self.port: int = self._listener.getsockname()[1]
        #: How many bytes were relayed in each direction, from `begin` on.
        self.relayed = [0, 0]
        self._thread = threading.Thread(target=self._run, args=(port,))
        self._thread.start()

    def begin(self) -> None:
        """Begin to count, because the WebSocket is open and nothing is on the way."""
        with self._lock:
            self.relayed, self._limits = [0, 0], self._wanted
            if 0 in self._limits:
                self._over.set()

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _run(self, port: int) -> None:
        with self._listener:
            client = self._listener.accept()[0]
        server = socket.create_connection(("127.0.0.1", port), PATIENCE)
        with client, server:
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ways = [(client, server), (server, client)]
            threads = [threading.Thread(target=self._relay, args=(way, *ways[way])) for way in range(2)]
            for thread in threads:
                thread.start()
            self._over.wait(PATIENCE)
            if self._is_reset:
                for sock in (client, server):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Wakes the threads; with the option above, closing resets what the shutdown has not ended.
            for sock in (client, server):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RD if self._is_reset else socket.SHUT_RDWR)
            for thread in threads:
                thread.join(PATIENCE)

    def _relay(self, way: int, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not self._over.is_set() and (data := source.recv(65536)):
                with self._lock:
                    limit = self._limits[way]
                    data = data if limit is None else data[: max(0, limit - self.relayed[way])]
                    self.relayed[way] += len(data)
                    is_over = self.relayed[way] == limit
                target.sendall(data)
                if is_over:
                    break
        self._over.set()
