"""Bare sockets, the limit: the least Python that still counts every message, without any checks."""

from __future__ import annotations

import socket
import zlib

from benchmarks.meter import Trips
from benchmarks.wire import encoded, first_byte, frame, masked_frame

from .base import BaseClient, Counter

_READ_BYTES = 256 * 1024
#: From here on a message is received straight into memory of its own.
_LARGE = 16 * 1024
_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


class _TextCounter(Counter):
    def on_text(self, text: str) -> None:
        self.count += 1
        self.length += len(text)


class Client(BaseClient):
    """Receives, sends and echoes."""

    deflates = True

    def _connect(self) -> socket.socket:
        """Return an upgraded socket."""
        connection = socket.create_connection(("127.0.0.1", self.job.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = self.tls
        if context is not None:
            connection = context.wrap_socket(connection, server_hostname="127.0.0.1")
        extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if self.work.deflate else b""
        connection.sendall(_UPGRADE + extension + b"\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += connection.recv(1)  # not a byte of what follows
        return connection

    def receive(self) -> None:
        connection = self._connect()
        with connection:
            self.meter.start()
            if self.work.size >= _LARGE:
                self._receive_large(connection)
            else:
                self._receive_small(connection)
            self.meter.stop()

    def _receive_large(self, connection: socket.socket) -> None:
        """One kept buffer, one `bytes` a message."""
        message = self.work.messages()[0]
        size = len(frame(first_byte(message), encoded(message)))
        head = size - len(message)
        view = memoryview(bytearray(size))
        filled = 0
        for _ in range(self.job.count):
            while filled < size:
                filled += connection.recv_into(view[filled:])
            self.meter.count += 1
            self.meter.length += len(bytes(view[head:]))
            filled = 0

    def _receive_small(self, connection: socket.socket) -> None:
        """The tightest loop over frames: slice, inflate where needed, decode, call a method."""
        counter = _TextCounter()
        on_text, inflate = counter.on_text, zlib.decompressobj(-15).decompress
        deflated, rest = self.work.deflate, b""
        while counter.count < self.job.count:
            data = rest + connection.recv(_READ_BYTES) if rest else connection.recv(_READ_BYTES)
            position, end = 0, len(data)
            while end - position > 3:
                length = data[position + 1]
                start = position + 2
                if length == 126:
                    length = data[start] << 8 | data[start + 1]
                    start += 2
                stop = start + length
                if stop > end or data[position] == 0x88:
                    break
                payload = data[start:stop]
                on_text((inflate(payload + b"\x00\x00\xff\xff") if deflated else payload).decode())
                position = stop
            rest = data[position:]
        self.meter.take(counter)

    def send(self) -> None:
        message = self.message
        whole = masked_frame(first_byte(message), encoded(message))
        connection = self._connect()
        with connection:
            self.meter.start()
            for _ in range(self.job.count):
                connection.sendall(whole)
            connection.recv(100)
            self.meter.stop()
        self.meter.count = self.job.count

    def echo(self) -> None:
        message, trips = self.message, Trips(self.job.count)
        whole = masked_frame(first_byte(message), encoded(message))
        size = len(whole) - 4
        connection = self._connect()
        with connection:
            self.meter.start()
            more = True
            trips.leave()
            while more:
                connection.send(whole)
                more = trips.arrive(connection.recv(size)[2:].decode())
            self.meter.stop()
        self.meter.take(trips)
        self.meter.latencies = trips.latencies
