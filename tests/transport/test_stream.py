"""Streams, plain and through TLS, never block, and end in the same ways."""

from __future__ import annotations

import hashlib
import os
import selectors
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from lochws.system.deadline import Deadline
from lochws.transport import layered, sslsocket, tls, waiting
from lochws.transport.sslsocket import SSLSocketStream
from lochws.transport.stream import TLS_RECORD, TLS_SEND, Stream, address_text

from ..faults.registry import fault
from ..support.driven import driven
from ..support.peer import Link, Peer, StartPeer
from ..support.seen import PATIENCE, eventually

receive, send_all, wait = driven(waiting.receive), driven(waiting.send_all), driven(waiting.wait)
handshake = driven(tls.handshake)

Connect = Callable[[Callable[[Link], object]], Stream]


@pytest.fixture
def deadline() -> Iterator[Deadline]:
    deadline = Deadline(PATIENCE)
    yield deadline
    deadline.close()


def connected(peer: Peer) -> socket.socket:
    sock = socket.create_connection((peer.host, peer.port))
    sock.setblocking(False)
    return sock


def test_what_tls_has_agreed_on_is_told_by_streams_that_have_it(connect: Connect) -> None:
    stream = connect(Link.wait_for_end)
    tls = stream.agreed()
    if type(stream) is Stream:
        assert tls is None
    else:
        assert tls is not None
        assert tls.version.startswith("TLSv1.")
        assert ("DNS", "localhost") in tls.certificate["subjectAltName"]


def test_the_function_with_fewer_calls_does_the_same(connect: Connect) -> None:
    stream = connect(lambda link: (link.send(link.read(5)), link.wait_for_end()))
    assert stream.send(b"hello") == 5
    buffer, received = memoryview(bytearray(10)), stream.receiver()
    eventually(lambda: received(buffer) == 5)
    assert bytes(buffer[:5]) == b"hello"


def through_tls(kind: str, peer: Peer, context: ssl.SSLContext, deadline: Deadline) -> Stream:
    """Open a stream through TLS: a TLSStream, or one over an `ssl.SSLSocket`, as users may give it."""
    if kind == "tls":
        return handshake(Stream(connected(peer)), context, "localhost", deadline)
    sock = context.wrap_socket(socket.create_connection((peer.host, peer.port)), server_hostname="localhost")
    sock.setblocking(False)
    return SSLSocketStream(sock)


@pytest.fixture(params=["plain", "tls", "given"])
def connect(
    request: pytest.FixtureRequest,
    start_peer: StartPeer,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    deadline: Deadline,
) -> Iterator[Connect]:
    """Opens a stream of each kind to a peer with a script."""
    streams: list[Stream] = []

    def open_to(script: Callable[[Link], object]) -> Stream:
        if request.param == "plain":
            streams.append(Stream(connected(start_peer(script))))
        else:
            peer = start_peer(script, tls=server_tls)
            streams.append(through_tls(request.param, peer, client_tls, deadline))
        return streams[-1]

    yield open_to
    for stream in streams:
        stream.close()


def test_no_data_yet_is_none_and_the_end_is_zero(connect: Connect, deadline: Deadline) -> None:
    may_end = threading.Event()
    stream = connect(lambda link: (may_end.wait(PATIENCE), link.finish(), link.wait_for_end()))
    assert stream.receive_into(bytearray(10)) is None
    may_end.set()
    assert receive(stream, 10, deadline) == b""


def test_one_call_receives_all_that_is_there(
    connect: Connect, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stalled thread would exceed the time that one call may take.
    for module, name in ((sslsocket, "_TURN_SECONDS"), (layered, "TURN_SECONDS"), (layered, "SHARE_SECONDS")):
        monkeypatch.setattr(module, name, PATIENCE)
    records = 5

    def script(link: Link) -> None:
        for _ in range(records):
            link.send(b"x" * 10_000)
        link.wait_for_end()

    def waiting() -> int:
        with socket.socket(fileno=os.dup(stream.fileno())) as raw:
            try:
                return len(raw.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT))
            except BlockingIOError:
                return 0

    stream = connect(script)
    eventually(lambda: waiting() >= records * 10_000)
    # The kernel keeps the last record if it might not fit.
    most = 40_000 if isinstance(stream, layered.TLSStream) else 45_000
    assert stream.receive_into(bytearray(45_000)) == most
    assert stream.pending() is isinstance(stream, SSLSocketStream)
    assert stream.receive_into(bytearray(45_000)) == 50_000 - most
    assert not stream.pending()


class _Records(SSLSocketStream):
    """A stream whose records are given: the bytes of each, or an error."""

    def __init__(self, *records: bytes | OSError | None) -> None:  # there is no socket
        self.records = list(records)

    def _receive_record(self, buffer: memoryview) -> int | None:
        record = self.records.pop(0)
        if isinstance(record, OSError):
            raise record
        if record:
            buffer[: len(record)] = record
        return None if record is None else len(record)


def test_the_end_and_errors_follow_the_bytes_before_them() -> None:
    buffer = bytearray(10)
    assert [_Records(b"abc", b"de", None).receive_into(buffer), bytes(buffer[:5])] == [5, b"abcde"]
    assert _Records(b"", b"x").receive_into(buffer) == 0
    ending = _Records(b"abc", b"")
    assert ending.receive_into(buffer) == 3
    assert ending._end == 0
    assert ending.receive_into(buffer) == 0
    failing = _Records(b"abc", OSError("gone"), OSError("gone again"))
    assert failing.receive_into(buffer) == 3
    for text in ("gone", "gone again"):
        with pytest.raises(OSError, match=text):
            failing.receive_into(buffer)


def test_bytes_arrive_in_order(connect: Connect, deadline: Deadline) -> None:
    def echo(link: Link) -> None:
        while True:
            link.send(link.read(1))

    stream = connect(echo)
    send_all(stream, b"abc", deadline)
    received = b""
    while len(received) < 3:
        received += receive(stream, 10, deadline)
    assert received == b"abc"


def test_a_full_kernel_takes_nothing_and_the_rest_goes_later(connect: Connect, deadline: Deadline) -> None:
    may_read = threading.Event()
    data = bytes(range(256)) * 64 * 1024  # 16 MiB: more than the kernel holds
    digests = []

    def script(link: Link) -> None:
        may_read.wait(PATIENCE)
        digests.append(hashlib.sha256(link.read(len(data))).digest())
        link.send(b"done")

    stream = connect(script)
    sent = 0
    while taken := stream.send(memoryview(data)[sent:]):
        sent += taken
    assert 0 < sent < len(data)
    assert stream.send(memoryview(data)[sent:]) == 0
    may_read.set()
    send_all(stream, data[sent:], deadline)
    assert receive(stream, 4, deadline) == b"done"
    assert digests == [hashlib.sha256(data).digest()]


def test_a_reset_is_an_error_or_through_tls_perhaps_the_end(connect: Connect, deadline: Deadline) -> None:
    stream = connect(lambda link: (link.read(1), link.reset()))
    send_all(stream, b"x", deadline)
    try:
        assert receive(stream, 10, deadline) == b""
        assert isinstance(stream, SSLSocketStream)
    except ConnectionResetError:
        pass


def test_shutdown_from_another_thread_wakes_the_waiting_one(connect: Connect, deadline: Deadline) -> None:
    stream = connect(Link.wait_for_end)
    # TLS 1.3 tickets come after the handshake; nothing else does.
    while stream.receive_into(bytearray(10)) is None and wait(stream, selectors.EVENT_READ, deadline, 0.05):
        pass
    thread = threading.Timer(0.05, stream.shutdown)
    thread.start()
    assert wait(stream, selectors.EVENT_READ, deadline, limit=5)
    try:
        assert stream.receive_into(bytearray(10)) == 0
    except ConnectionResetError:
        pass  # the peer has closed its end already
    thread.join()


def test_a_broken_pipe_while_receiving_through_openssl_is_the_end(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = connect(Link.wait_for_end)
    if not isinstance(stream, SSLSocketStream):
        return  # OpenSSL does not receive anything itself

    def receive(*_: object) -> int:
        raise BrokenPipeError  # OpenSSL 3.6 reports some ends like this, and older ones as the end

    monkeypatch.setattr(ssl.SSLSocket, "recv_into", receive)
    assert stream.receive_into(bytearray(10)) == 0


def test_sending_after_shutdown_or_close_is_an_error(connect: Connect) -> None:
    stream = connect(Link.wait_for_end)
    stream.shutdown()
    with pytest.raises(OSError):
        stream.send(b"in the clear?")
    stream.close()
    with pytest.raises(OSError):
        stream.send(b"in the clear?")


def test_closing_and_shutting_down_again_does_nothing(connect: Connect) -> None:
    stream = connect(Link.wait_for_end)
    assert stream.fileno() >= 0
    stream.close()
    stream.close()
    stream.shutdown()
    assert stream.fileno() == -1
    assert not stream.pending()


def test_the_address_is_the_peers(connect: Connect) -> None:
    stream = connect(Link.wait_for_end)
    assert stream.address.startswith("127.0.0.1:")
    assert address_text(("::1", 80, 0, 0)) == "[::1]:80"


def test_a_stream_over_a_socket_pair_has_no_address() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        stream = Stream(ours)
        assert stream.address == ""
        stream.close()


class TestTLS:
    """Behavior of TLS streams alone."""

    @pytest.fixture(params=["tls", "given"])
    def connect(
        self,
        request: pytest.FixtureRequest,
        start_peer: StartPeer,
        server_tls: ssl.SSLContext,
        client_tls: ssl.SSLContext,
        deadline: Deadline,
    ) -> Iterator[Connect]:
        streams: list[Stream] = []

        def open_to(script: Callable[[Link], object]) -> Stream:
            peer = start_peer(script, tls=server_tls)
            streams.append(through_tls(request.param, peer, client_tls, deadline))
            return streams[-1]

        yield open_to
        for stream in streams:
            stream.close()

    @fault("open", "TLS has decrypted more than was read")
    def test_bytes_wait_inside_where_no_selector_sees_them(
        self, connect: Connect, deadline: Deadline
    ) -> None:
        stream = connect(lambda link: (link.send(b"x" * 1000), link.wait_for_end()))
        assert receive(stream, 100, deadline) == b"x" * 100
        assert stream.pending()
        assert receive(stream, 1000, deadline) == b"x" * 900
        assert not stream.pending()

    def test_close_notify_is_the_end(self, connect: Connect, deadline: Deadline) -> None:
        stream = connect(lambda link: (link.read(1), link.sock.unwrap()))
        send_all(stream, b"x", deadline)
        assert receive(stream, 10, deadline) == b""
        assert stream.receive_into(bytearray(10)) == 0

    def test_one_send_is_bounded(self, connect: Connect) -> None:
        stream = connect(lambda link: link.read(64 * 1024 * 1024))
        assert 0 < stream.send(bytes(64 * 1024 * 1024)) <= TLS_SEND

    def test_what_was_taken_before_the_connection_failed_counts(
        self, connect: Connect, deadline: Deadline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        came = threading.Event()
        stream = connect(lambda link: (link.read(TLS_RECORD), came.set(), link.wait_for_end()))
        below = stream if isinstance(stream, SSLSocketStream) else stream._stream  # type: ignore[attr-defined]
        name = "_send_record" if below is stream else "send"
        send = getattr(below, name)

        def send_and_fail(data: memoryview) -> int:
            taken = send(data)
            below.shutdown()
            return taken  # type: ignore[no-any-return]

        monkeypatch.setattr(below, name, send_and_fail)
        assert stream.send(bytes(3 * TLS_RECORD)) == TLS_RECORD
        assert came.wait(PATIENCE)
        with pytest.raises(OSError):
            stream.send(bytes(2 * TLS_RECORD))

    def test_a_refused_record_may_be_offered_again_with_more_behind_it(
        self, connect: Connect, deadline: Deadline
    ) -> None:
        may_read = threading.Event()
        received = bytearray()
        ended = threading.Event()

        def script(link: Link) -> None:
            may_read.wait(PATIENCE)
            while not received.endswith(b"."):
                received.extend(link.sock.recv(65536))
            ended.set()

        stream = connect(script)
        sent = 0
        while taken := stream.send(b"a" * 100):
            sent += taken
        may_read.set()
        # Other bytes in memory, and more of them: they only have to begin with the same.
        send_all(stream, b"a" * 100 + b"b" * 50_000 + b".", deadline)
        assert ended.wait(PATIENCE)
        assert received == b"a" * (sent + 100) + b"b" * 50_000 + b"."

    def test_two_threads_may_use_one_stream_at_once(self, connect: Connect, deadline: Deadline) -> None:
        """One sends while the other receives: each byte comes back once, in order."""
        message = bytes(range(256)) * 16
        count = 1000

        def echo(link: Link) -> None:
            for _ in range(count):
                link.send(link.read(len(message)))

        stream = connect(echo)
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


def test_no_descriptor_is_closed_under_a_sender() -> None:
    """Closing waits for a send in another thread; later sends see a closed stream."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream = Stream(ours)
    errors = []

    def send_until_closed() -> None:
        try:
            while True:
                stream.send(b"x")
        except OSError as error:
            errors.append(error)

    senders = [threading.Thread(target=send_until_closed) for _ in range(4)]
    with theirs:
        for sender in senders:
            sender.start()
        theirs.recv(1)
        stream.close()
        for sender in senders:
            sender.join(PATIENCE)
    assert len(errors) == len(senders)
