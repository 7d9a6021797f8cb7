"""TLS inside TLS: a wss endpoint behind an https proxy."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

from lochws.errors import ConnectFail
from lochws.system.deadline import Cancelled, Deadline
from lochws.transport import tls, waiting
from lochws.transport.layered import TLSStream
from lochws.transport.sslsocket import SSLSocketStream
from lochws.transport.stream import Stream

from ..support.driven import driven
from ..support.peer import Link, Peer, StartPeer
from ..support.seen import PATIENCE

receive, send_all = driven(waiting.receive), driven(waiting.send_all)
handshake = driven(tls.handshake)

Connect = Callable[[Callable[[Link], object]], TLSStream]


@pytest.fixture
def deadline() -> Iterator[Deadline]:
    deadline = Deadline(PATIENCE)
    yield deadline
    deadline.close()


def relay(target: Peer) -> Callable[[Link], None]:
    """A script: a proxy that has connected, with TLS towards the client."""

    def script(link: Link) -> None:
        behind = socket.create_connection((target.host, target.port))
        for sock in (link.sock, behind):
            sock.setblocking(False)
        # Both threads use the client's TLS at once, which only a stream of ours allows.
        client, server = SSLSocketStream(link.sock), Stream(behind)  # type: ignore[arg-type]
        limits = Deadline(PATIENCE), Deadline(PATIENCE)
        inbound = threading.Thread(target=pump, args=(server, client, limits[0]))
        inbound.start()
        pump(client, server, limits[1])
        inbound.join()
        server.close()
        for limit in limits:
            limit.close()

    def pump(source: Stream, sink: Stream, limit: Deadline) -> None:
        try:
            while data := receive(source, 20_000, limit):  # regardless of the bounds of records
                send_all(sink, data, limit)
        except OSError:
            pass
        source.shutdown()
        sink.shutdown()

    return script


@pytest.fixture
def connect(
    start_peer: StartPeer, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, deadline: Deadline
) -> Iterator[Connect]:
    """Opens a stream through TLS to a relay, with a scripted peer behind it."""
    streams: list[Stream] = []

    def open_to(script: Callable[[Link], object], *, inner_tls: bool = True) -> TLSStream:
        target = start_peer(script, tls=server_tls if inner_tls else None)
        proxy = start_peer(relay(target), tls=server_tls)
        sock = socket.create_connection((proxy.host, proxy.port))
        sock.setblocking(False)
        streams.append(handshake(Stream(sock), client_tls, "localhost", deadline))
        return streams[-1]  # type: ignore[return-value]

    yield open_to
    for stream in streams:
        stream.close()


def test_bytes_go_both_ways_at_once(
    connect: Connect, client_tls: ssl.SSLContext, deadline: Deadline
) -> None:
    message = bytes(range(256)) * 150
    count = 60

    def echo(link: Link) -> None:
        for _ in range(count):
            link.send(link.read(len(message)))

    stream = handshake(connect(echo), client_tls, "localhost", deadline)
    other = Deadline(PATIENCE)
    sender = threading.Thread(target=lambda: [send_all(stream, message, other) for _ in range(count)])
    sender.start()
    received = hashlib.sha256()
    size = 0
    while size < count * len(message):
        data = receive(stream, 65536, deadline)
        assert data, "the connection broke"
        received.update(data)
        size += len(data)
    sender.join()
    other.close()
    assert received.digest() == hashlib.sha256(message * count).digest()


def test_a_full_connection_takes_nothing_and_the_rest_goes_later(
    connect: Connect, client_tls: ssl.SSLContext, deadline: Deadline
) -> None:
    may_read = threading.Event()
    heard = hashlib.sha256()

    def script(link: Link) -> None:
        may_read.wait(PATIENCE)
        left = 32 * 1024 * 1024
        while left:
            part = link.read(min(left, 65536))
            heard.update(part)
            left -= len(part)
        link.send(b"done")

    stream = handshake(connect(script), client_tls, "localhost", deadline)
    data = bytes(range(256)) * 128 * 1024  # 32 MiB: more than all buffers on the way
    sent = 0
    while taken := stream.send(memoryview(data)[sent:]):
        sent += taken
    assert 0 < sent < len(data)
    may_read.set()
    send_all(stream, data[sent:], deadline)
    assert receive(stream, 4, deadline) == b"done"
    assert heard.digest() == hashlib.sha256(data).digest()


def test_a_certificate_inside_is_verified(
    connect: Connect, client_tls: ssl.SSLContext, deadline: Deadline
) -> None:
    stream = connect(Link.wait_for_end)
    with pytest.raises(ConnectFail, match=r"^the certificate of 'other\.example' was not accepted: it is"):
        handshake(stream, client_tls, "other.example", deadline)


def test_plain_bytes_inside_are_named(
    connect: Connect, client_tls: ssl.SSLContext, deadline: Deadline
) -> None:
    stream = connect(lambda link: link.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), inner_tls=False)
    with pytest.raises(ConnectFail, match="does not speak TLS"):
        handshake(stream, client_tls, "localhost", deadline)


def test_an_end_inside_the_handshake_is_named(
    connect: Connect, client_tls: ssl.SSLContext, deadline: Deadline
) -> None:
    stream = connect(lambda link: link.read(5), inner_tls=False)
    with pytest.raises(ConnectFail, match="the server ended the connection during the TLS handshake"):
        handshake(stream, client_tls, "localhost", deadline)


def test_silence_inside_ends_with_the_deadline_and_by_cancelling(
    connect: Connect, client_tls: ssl.SSLContext
) -> None:
    limit = Deadline(0.05)
    with pytest.raises(ConnectFail, match=r"timed out after 0\.05 s"):
        handshake(connect(Link.wait_for_end, inner_tls=False), client_tls, "localhost", limit)
    limit.close()
    limit = Deadline(None)
    stream = connect(lambda link: (link.read(5), limit.cancel(), link.wait_for_end()), inner_tls=False)
    with pytest.raises(Cancelled):
        handshake(stream, client_tls, "localhost", limit)
    limit.close()


def test_the_end_of_the_tunnel_is_the_end(
    connect: Connect, client_tls: ssl.SSLContext, deadline: Deadline
) -> None:
    stream = handshake(connect(lambda link: link.send(b"bye")), client_tls, "localhost", deadline)
    assert receive(stream, 3, deadline) == b"bye"
    assert receive(stream, 3, deadline) == b""
    assert stream.receive_into(bytearray(3)) == 0


def test_what_was_received_below_is_pending(
    connect: Connect, client_tls: ssl.SSLContext, deadline: Deadline
) -> None:
    stream = handshake(
        connect(lambda link: (link.send(b"x" * 1000), link.wait_for_end())), client_tls, "localhost", deadline
    )
    assert receive(stream, 100, deadline) == b"x" * 100
    assert stream.pending()
    assert receive(stream, 1000, deadline) == b"x" * 900
    assert not stream.pending()
