"""The server of many connections: accepts, upgrades, answers pings, and floods them all if the work says so.

``python -m benchmarks.crowd_server JOB`` prints its port and serves until its standard input ends.
Linux only (epoll).
"""

from __future__ import annotations

import resource
import select
import socket
import ssl
import sys

from .job import Job
from .wire import flood_frames, frame, upgrade_answer

_PING = 0x89
#: What one connection gets before it is another's turn. No more than that lies in the server's hand.
_TURN_BYTES = 64 * 1024


class CrowdServer:
    """One loop over all connections, each of which is upgraded as soon as it asks for it."""

    def __init__(self, listener: socket.socket, job: Job) -> None:
        self._listener = listener
        self._job = job
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._waiting: dict[int, bytes] = {}  # requests, until they are whole
        self._tls = server_context(job) if job.work.tls else None
        self._flood = b"".join(flood_frames(job.work)) if job.work.kind == "crowd" else b""
        self._sent: dict[int, int] = {}  # where in the flood a connection is

    def run(self) -> None:
        """Serve until standard input ends."""
        listening, stdin = self._listener.fileno(), sys.stdin.fileno()
        self._listener.setblocking(False)
        self._poll.register(listening, select.EPOLLIN)
        self._poll.register(stdin, select.EPOLLIN)
        while True:
            for descriptor, event in self._poll.poll():
                if descriptor == stdin:
                    return
                if descriptor == listening:
                    self._accept()
                else:
                    self._serve(descriptor, event)

    def _accept(self) -> None:
        try:
            while True:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                if self._tls is not None:
                    connection = self._tls.wrap_socket(
                        connection, server_side=True, do_handshake_on_connect=False
                    )
                descriptor = connection.fileno()
                self._sockets[descriptor] = connection
                self._waiting[descriptor] = b""
                self._poll.register(descriptor, select.EPOLLIN)
        except BlockingIOError:
            pass

    def _serve(self, descriptor: int, event: int) -> None:
        try:
            if event & select.EPOLLOUT:
                self._send_more(descriptor)
            if event & ~select.EPOLLOUT:
                self._read(descriptor)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError:
            self._forget(descriptor)

    def _read(self, descriptor: int) -> None:
        connection = self._sockets[descriptor]
        received = connection.recv(65536)  # with TLS, the handshake comes first
        if not received:
            self._forget(descriptor)
        elif descriptor in self._waiting:
            self._waiting[descriptor] += received
            if self._waiting[descriptor].endswith(b"\r\n\r\n"):
                connection.send(upgrade_answer(self._waiting.pop(descriptor), self._job.work.deflate))
                self._begin_flood()
        elif received[0] == _PING and not self._flood:  # a pong amid the flood might fall into a frame
            length = received[1] & 0x7F
            key, masked = received[2:6], received[6 : 6 + length]
            connection.send(frame(0x8A, bytes(byte ^ key[i % 4] for i, byte in enumerate(masked))))

    def _begin_flood(self) -> None:
        """Start the flood on all connections at once, when the last one stands."""
        if self._flood and not self._sent and len(self._sockets) - len(self._waiting) == self._job.count:
            for descriptor in self._sockets:
                self._sent[descriptor] = 0
                self._poll.modify(descriptor, select.EPOLLIN | select.EPOLLOUT)

    def _send_more(self, descriptor: int) -> None:
        position = self._sent[descriptor]
        position += self._sockets[descriptor].send(self._flood[position : position + _TURN_BYTES])
        self._sent[descriptor] = position % len(self._flood)

    def _forget(self, descriptor: int) -> None:
        self._sockets.pop(descriptor).close()
        self._waiting.pop(descriptor, None)
        self._sent.pop(descriptor, None)


def server_context(job: Job) -> ssl.SSLContext:
    """Create the TLS context of a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{job.certificates}/server.pem")
    return context


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets this process have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Serve as the job on the command line says."""
    job = Job.from_text(sys.argv[1])
    job.pin(job.server_core)
    raise_descriptor_limit()
    with socket.create_server(("" if job.work.delay else job.host, 0), backlog=4096) as listener:
        print(listener.getsockname()[1], flush=True)
        CrowdServer(listener, job).run()


if __name__ == "__main__":
    main()
