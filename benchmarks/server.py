"""The server of one connection, in a process of its own: a flood, a sink or an echo, on blocking sockets.

``python -m benchmarks.server JOB`` prints its port, serves one client, and ends.
"""

from __future__ import annotations

import socket
import ssl
import sys

from .crowd_server import server_context
from .job import Job
from .wire import CLOSE, encoded, first_byte, flood_frames, frame, masked_frame, upgrade_answer
from .works import Work

_READ_BYTES = 1 << 20
#: A sink checks the frames of one read in that many: checking them all would make it slower than its clients.
_LOOK_EVERY = 100


def main() -> None:
    """Serve one connection, as the job on the command line says."""
    job = Job.from_text(sys.argv[1])
    job.pin(job.server_core)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        accepted, _ = listener.accept()
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with (_over_tls(accepted, job) if job.work.tls else accepted) as connection:
        request = b""
        while b"\r\n\r\n" not in request:
            request += _some(connection)
        connection.sendall(upgrade_answer(request, job.work.deflate))
        {"receive": flood, "memory": flood, "send": sink, "echo": echo}[job.work.kind](connection, job)
        try:
            connection.recv(_READ_BYTES)  # the client's Close, after which the server has to leave first
        except OSError:
            pass  # the client is gone, as it may be by now


def flood(connection: socket.socket, job: Job) -> None:
    """Send the messages as fast as the client takes them, then Close."""
    frames = flood_frames(job.work)
    blob = b"".join(frames)
    whole, rest = divmod(job.count, len(frames))
    for _ in range(whole):
        connection.sendall(blob)
    connection.sendall(b"".join(frames[:rest]) + CLOSE)


def sink(connection: socket.socket, job: Job) -> None:
    """Take all messages, look at the heads of some, then say so with Close.

    It does next to nothing, and so sleeps until the next bytes come: a sender that makes a system call
    for each message pays for waking it, as it does with any server that is not overloaded.

    Raises:
        ValueError: something else came.
    """
    head, size = _expected_head(job.work)
    wanted = size * job.count
    buffer = bytearray(_READ_BYTES)
    taken = reads = 0
    while taken < wanted:
        got = connection.recv_into(buffer)
        if not got:
            raise ValueError(f"the client left after {taken} of {wanted} bytes")
        if not reads % _LOOK_EVERY:
            _check_heads(memoryview(buffer)[:got], -taken % size, head, size)
        taken += got
        reads += 1
    if taken != wanted:
        raise ValueError(f"{taken - wanted} bytes too many")
    connection.sendall(CLOSE)


def _check_heads(received: memoryview, first: int, head: bytes, size: int) -> None:
    """See that frames begin at `first` and every `size` bytes from there."""
    for index, value in enumerate(head):
        seen = bytes(received[first + index :: size])
        if seen.count(value) != len(seen):
            raise ValueError(f"a frame's byte {index} is wrong")


def echo(connection: socket.socket, job: Job) -> None:
    """Send each message back, then Close. (The answer is made beforehand: the messages are all the same.)"""
    head, size = _expected_head(job.work)
    message = job.work.messages()[0]
    answer = frame(first_byte(message), encoded(message))
    for _ in range(job.count):
        received = connection.recv(size)
        while len(received) < size:
            received += _some(connection)
        if not received.startswith(head):
            raise ValueError(f"a frame begins with {received[:4]!r}")
        connection.sendall(answer)
    connection.sendall(CLOSE)


def _expected_head(work: Work) -> tuple[bytes, int]:
    """Return what each frame of the client begins with, and its length."""
    message = work.messages()[0]
    whole = masked_frame(first_byte(message), encoded(message))
    return whole[: len(whole) - len(encoded(message)) - 4], len(whole)


def _some(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise ValueError("the client left")
    return received


def _over_tls(accepted: socket.socket, job: Job) -> ssl.SSLSocket:
    return server_context(job).wrap_socket(accepted, server_side=True)


if __name__ == "__main__":
    main()
