"""Floods of TLS records: each turn is short, senders get in, nothing piles up, no byte is lost."""

from __future__ import annotations

import gc
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from select import select
from selectors import EVENT_READ, EVENT_WRITE
from time import monotonic, thread_time
from typing import Any

import pytest
import trustme

from lochws import Threads, WebSocketApp
from lochws.connection.receiving import ReceivingHalf
from lochws.system.deadline import Deadline
from lochws.system.steps import Ready, Wait
from lochws.transport import layered, tls, waiting
from lochws.transport.layered import MAX_UNSENT, TLSStream
from lochws.transport.stream import Stream

from ..faults.registry import fault
from ..support.apps import echo
from ..support.driven import driven
from ..support.peer import TEXT, Link, Peer, StartPeer, frame
from ..support.seen import PATIENCE, eventually
from ..support.tls_records import Records, log_keys, send_raw
from .test_layered import relay
from .test_stream import connected

receive = driven(waiting.receive)
handshake = driven(tls.handshake)

#: The longest turn, in seconds of the thread's processor time.
MOST_SECONDS = 0.01
#: An interrupt counts towards the time of the thread that it interrupts. It may hit one flood, but not three.
FLOODS_AT_MOST = 3

#: Floods by name: the records, and the data in them.
FLOODS: dict[str, Callable[[Records], tuple[bytes, bytes]]] = {
    "key updates": lambda records: (b"".join(records.key_update() for _ in range(3_000)), b""),
    "key updates that ask for ours": lambda records: (
        b"".join(records.key_update(request=True) for _ in range(3_000)), b""
    ),
    "tickets": lambda records: (b"".join(records.tickets(1) for _ in range(3_000)), b""),
    "records full of tickets": lambda records: (b"".join(records.tickets(900) for _ in range(20)), b""),
    "single bytes": lambda records: (b"".join(records.record(b"x") for _ in range(20_000)), b"x" * 20_000),
    "data between key updates": lambda records: (
        b"".join(records.record(b"x") + records.key_update() for _ in range(5_000)), b"x" * 5_000
    ),
}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def logged_tls(authority: trustme.CA, keys: Path) -> Iterator[ssl.SSLContext]:
    """A server's context of TLS 1.3 that logs its keys. Ask for it before `start_peer`.

    CPython loses the interpreter's lock if a connection still wants to log when the file is closed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    log_keys(context, keys)
    yield context
    context.keylog_filename = None  # type: ignore[assignment]  # which closes the file


@pytest.fixture
def deadline() -> Iterator[Deadline]:
    with closing(Deadline(60)) as deadline:
        yield deadline


@pytest.fixture(params=["direct", "through a TLS proxy"])
def connect(
    request: pytest.FixtureRequest,
    logged_tls: ssl.SSLContext,
    start_peer: StartPeer,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    deadline: Deadline,
) -> Iterator[Callable[..., TLSStream]]:
    """Opens a stream to a peer with a script."""
    streams: list[Stream] = []

    def open_to(script: Callable[[Link], object]) -> TLSStream:
        peer = start_peer(script, tls=logged_tls)
        if request.param == "direct":
            stream = Stream(connected(peer))
        else:
            proxy = start_peer(relay(peer), tls=server_tls)
            stream = handshake(Stream(connected(proxy)), client_tls, "localhost", deadline)
        streams.append(handshake(stream, client_tls, "localhost", deadline))
        return streams[-1]  # type: ignore[return-value]

    yield open_to
    for stream in streams:
        stream.close()


def flooding(kind: str, keys: Path, data: list[bytes]) -> Callable[[Link], None]:
    """A script that sends a flood, notes the data in it, and ends it with a full stop."""

    def script(link: Link) -> None:
        records = Records(keys, sent=0)
        flood, content = FLOODS[kind](records)
        data.append(content + b".")
        reader = threading.Thread(target=link.wait_for_end)  # takes our answers
        reader.start()
        send_raw(link.sock, flood + records.record(b"."))
        reader.join()

    return script


def wait_for(stream: TLSStream) -> None:
    """Wait as a loop does: reading without a pause would slow down the thread that makes the flood."""
    if not stream.pending():
        select([stream], [stream] if stream.reads_want_write else [], [], PATIENCE)


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Disable the garbage collector: in a full test run it takes 40 ms, during whatever turn."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def longest_turn(flood: Callable[[], list[float]]) -> float:
    """Return the longest turn of a flood; if it is too long, the shortest of up to three attempts."""
    longest = []
    while len(longest) < FLOODS_AT_MOST and min(longest, default=MOST_SECONDS) >= MOST_SECONDS:
        longest.append(max(flood()))
    return min(longest)


@fault("open", "A flood of TLS records without data")
@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("kind", FLOODS)
def test_no_turn_takes_long_and_no_byte_is_lost(
    kind: str, connect: Callable[..., TLSStream], keys: Path
) -> None:
    end = monotonic() + 30

    def flood() -> list[float]:
        data: list[bytes] = []
        turns: list[float] = []
        stream = connect(flooding(kind, keys, data))
        received, buffer = bytearray(), bytearray(256 * 1024)
        while not received.endswith(b"."):
            assert monotonic() < end
            began = thread_time()
            count = stream.receive_into(buffer)
            turns.append(thread_time() - began)
            assert count != 0
            received += buffer[: count or 0]
            if count is None:
                wait_for(stream)
        assert received == data[0]
        return turns

    assert longest_turn(flood) < MOST_SECONDS


@fault("open", "A flood of TLS records without data")
@pytest.mark.parametrize("kind", ["key updates", "single bytes"])
def test_a_sender_waits_no_longer_than_a_share_of_a_turn(
    kind: str, connect: Callable[..., TLSStream], keys: Path
) -> None:
    stream = connect(flooding(kind, keys, []))
    came, waits = threading.Event(), []

    def read() -> None:
        received, buffer = bytearray(), bytearray(256 * 1024)
        while not received.endswith(b"."):
            count = stream.receive_into(buffer)
            received += buffer[: count or 0]
            if count is None:
                wait_for(stream)
        came.set()

    reader = threading.Thread(target=read)
    reader.start()
    while not came.is_set():
        began = monotonic()
        stream.send(b"x")
        waits.append(monotonic() - began)
        came.wait(0.002)
    reader.join()
    # The usual one: on a busy machine any of them may wait for a processor.
    assert sorted(waits)[len(waits) // 2] < MOST_SECONDS


def has_ended(stream: Stream, buffer: bytearray) -> bool:
    """Read once. The kernel resets what still arrives after a shutdown, which is an end, too."""
    try:
        return stream.receive_into(buffer) == 0
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("end", ["the server reads at last", "shutdown"])
def test_a_server_that_asks_for_keys_and_never_reads_makes_nothing_pile_up(
    end: str, logged_tls: ssl.SSLContext, start_peer: StartPeer, client_tls: ssl.SSLContext, keys: Path,
    deadline: Deadline,
) -> None:
    may_read = threading.Event()
    floods = []

    def script(link: Link) -> None:
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        records = Records(keys, sent=0)
        updates = [records.key_update(request=True) for _ in range(20_000)]
        floods.append(b"".join(updates) + records.record(b"."))
        sender = threading.Thread(target=send_raw, args=(link.sock, floods[0]))
        sender.start()
        may_read.wait(PATIENCE)
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        link.wait_for_end()
        sender.join()

    sock = connected(start_peer(script, tls=logged_tls))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with closing(handshake(Stream(sock), client_tls, "localhost", deadline)) as stream:
        buffer = bytearray(1024)
        eventually(lambda: stream.receive_into(buffer) is None and stream.reads_want_write)
        assert not stream.pending()  # it waits for room to write: going on at once would be a busy loop
        assert MAX_UNSENT < len(stream._unsent) < 2 * MAX_UNSENT < len(floods[0]) / 3
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        if end == "shutdown":
            stream.shutdown()
            # What the kernel has received may be read first; then there is the end, not room to wait for.
            eventually(lambda: has_ended(stream, buffer))
            with pytest.raises(OSError):
                stream.send(b"x")
        may_read.set()
        if end != "shutdown":
            assert receive(stream, 10, deadline) == b"."


def test_room_to_write_is_waited_for_only_while_it_is_needed(
    logged_tls: ssl.SSLContext, start_peer: StartPeer, keys: Path, ca_file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Usually there is room, so waiting for it longer than needed would be a busy loop."""
    monkeypatch.setattr(layered, "MAX_UNSENT", 0)
    for limit in ("TURN_SECONDS", "SHARE_SECONDS"):
        monkeypatch.setattr(layered, limit, PATIENCE)
    turns: list[tuple[int, bool]] = []
    paused: list[int] = []  # what a stuck connection would wait for if its reading were paused
    is_ready, is_stuck, behind, again = (threading.Event() for _ in range(4))
    on_ready = ReceivingHalf.on_ready

    def noted(self: ReceivingHalf, mask: int, *args: Any) -> bool | None:
        result = on_ready(self, mask, *args)
        turns.append((mask, self._stream.reads_want_write))
        if self._stream.reads_want_write:
            self.is_paused = True
            paused.append(self._ends.interest())  # type: ignore[attr-defined]  # it is the connection
            self.is_paused = False
            is_stuck.set()
        return result

    def script(link: Link) -> None:
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.accept()
        assert is_ready.wait(PATIENCE)  # what arrives with the answer is not received by `on_ready`
        records = Records(keys, sent=1)
        updates = b"".join(records.key_update(request=True) for _ in range(600))
        send_raw(link.sock, updates + records.record(frame(TEXT, b"behind")))
        assert is_stuck.wait(PATIENCE)
        reader = threading.Thread(target=drain, args=(link.sock,))
        reader.start()
        assert behind.wait(PATIENCE)
        send_raw(link.sock, records.record(frame(TEXT, b"again")))
        reader.join()

    def drain(sock: socket.socket) -> None:
        with suppress(OSError):
            while socket.socket.recv(sock, 65536):
                pass

    monkeypatch.setattr(ReceivingHalf, "on_ready", noted)
    options = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)]
    app = WebSocketApp(
        start_peer(script, tls=logged_tls).url, ssl_cafile=ca_file, socket_options=options
    )
    app.on("text")(lambda event: {"behind": behind, "again": again}[event.text].set())
    app.start()
    assert app.wait_ready(PATIENCE)
    is_ready.set()
    assert again.wait(PATIENCE)
    app.force_disconnect()
    assert app.stop(PATIENCE)
    assert set(paused) == {0}
    assert (EVENT_WRITE, False) in turns
    assert turns[-1][0] & EVENT_READ


def test_the_end_follows_a_record_that_was_divided_between_two_buffers(
    logged_tls: ssl.SSLContext, start_peer: StartPeer, client_tls: ssl.SSLContext, keys: Path,
    deadline: Deadline, monkeypatch: pytest.MonkeyPatch,
) -> None:
    has_ended = threading.Event()

    def script(link: Link) -> None:
        records = Records(keys, sent=0)
        # As many bytes as are received at once, so that the end is received while half a record is left.
        send_raw(link.sock, records.record(b"x" * 16_384) + records.record(b"y" * 2_572))
        socket.socket.shutdown(link.sock, socket.SHUT_RDWR)
        has_ended.set()

    with closing(handshake(
        Stream(connected(start_peer(script, tls=logged_tls))), client_tls, "localhost", deadline
    )) as stream:
        monkeypatch.setattr(layered, "TURN_SECONDS", PATIENCE)
        monkeypatch.setattr(layered, "SHARE_SECONDS", 0.0)
        assert has_ended.wait(PATIENCE)
        assert stream.receive_into(bytearray(18_000), memoryview(bytearray(1_000))) == 18_956
        assert stream.pending()  # the selector may not report the end again
        assert stream.receive_into(bytearray(10)) == 0


def test_a_signal_handler_inside_a_read_finds_no_room_and_breaks_nothing(
    connect: Callable[..., TLSStream], deadline: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finalizer that interrupts a call into OpenSSL on the same thread must not enter it."""
    stream = connect(lambda link: (link.send(b"a"), link.send(link.read(1)), link.wait_for_end()))
    read, sent = stream.tls.read, []

    class Interrupted:
        def read(self, *args: Any) -> Any:
            sent.append(stream.send(b"b"))
            return read(*args)

        def __getattr__(self, name: str) -> Any:
            return getattr(tls, name)

    tls = stream.tls
    monkeypatch.setattr(stream, "tls", Interrupted())
    assert receive(stream, 10, deadline) == b"a"
    assert set(sent) == {0}
    assert stream.send(b"b") == 1
    assert receive(stream, 10, deadline) == b"b"


@fault("open", "A flood of TLS records without data")
@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("compress", [False, True])
def test_a_turn_of_a_connection_is_short_whatever_the_size_of_the_records(
    compress: bool, logged_tls: ssl.SSLContext, start_peer: StartPeer, keys: Path, ca_file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A turn of a deflated connection consists of many calls, each of which has a limit of its own."""
    payload = b"x" * 400_000
    turns: list[float] = []
    on_ready = ReceivingHalf.on_ready

    def timed(self: ReceivingHalf, *args: Any) -> bool:
        began = thread_time()
        try:
            return on_ready(self, *args)
        finally:
            turns.append(thread_time() - began)

    def script(link: Link) -> None:
        link.accept(*["Sec-WebSocket-Extensions: permessage-deflate"] if compress else [])
        records, message = Records(keys, sent=1), frame(TEXT, payload)
        pieces = (message[start:start + 20] for start in range(0, len(message), 20))
        send_raw(link.sock, b"".join(map(records.record, pieces)))
        link.wait_for_end()

    def flood() -> list[float]:
        turns.clear()
        texts: list[str] = []
        came = threading.Event()
        app = WebSocketApp(start_peer(script, tls=logged_tls).url, ssl_cafile=ca_file, compress=compress)
        app.on("text")(lambda event: (texts.append(event.text), came.set()))
        app.start()
        assert came.wait(PATIENCE)
        app.force_disconnect()
        assert app.stop(PATIENCE)
        assert texts == [payload.decode()]
        return turns

    monkeypatch.setattr(ReceivingHalf, "on_ready", timed)
    assert longest_turn(flood) < MOST_SECONDS


def test_a_flood_on_one_connection_does_not_keep_another_from_its_messages(
    logged_tls: ssl.SSLContext, start_peer: StartPeer, keys: Path, ca_file: str
) -> None:
    """Both on the same threads. The text behind the flood arrives, too."""
    may_flood = threading.Event()

    def script(link: Link) -> None:
        link.accept()
        records = Records(keys, sent=1)
        flood = b"".join(records.key_update() for _ in range(20_000))
        may_flood.wait(PATIENCE)
        send_raw(link.sock, flood + records.record(frame(TEXT, b"behind")))
        link.wait_for_end()

    flooded: Peer = start_peer(script, tls=logged_tls)
    threads = Threads()
    victim = WebSocketApp(flooded.url, threads=threads, ssl_cafile=ca_file)
    other = WebSocketApp(start_peer(echo).url, threads=threads)
    texts, echoes = threading.Event(), threading.Semaphore(0)
    victim.on("text")(lambda event: texts.set())
    other.on("text")(lambda event: echoes.release())
    for app in (victim, other):
        app.start()
        assert app.wait_ready(PATIENCE)
    may_flood.set()
    rounds = 0
    while not texts.is_set():
        other.send_text("x")
        assert echoes.acquire(timeout=PATIENCE)
        rounds += 1
        texts.wait(0.001)
    assert rounds > 10
    for app in (victim, other):
        app.force_disconnect()
        app.stop(PATIENCE)


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("kind", ["tickets", "records full of tickets"])
def test_tickets_before_the_answer_are_read_in_many_short_steps(
    kind: str, connect: Callable[..., TLSStream], keys: Path, deadline: Deadline
) -> None:
    counts: list[int] = []
    received: list[bytes] = []

    def flood() -> list[float]:
        stream = connect(flooding(kind, keys, []))
        took: list[float] = []
        steps = waiting.receive(stream, 16 * 1024, deadline)
        ready: Ready | None = None
        try:
            while True:
                began = thread_time()
                wait = steps.send(ready)  # type: ignore[arg-type]  # None begins
                took.append(thread_time() - began)
                ready = tuple(channel for channel, _ in wait.channels)
                select(ready, [], [], PATIENCE if ready else 0)
        except StopIteration as end:
            received.append(end.value)
        counts.append(len(took))
        return took

    assert longest_turn(flood) < MOST_SECONDS
    assert set(received) == {b"."}
    assert min(counts) > 5


def test_a_handshake_full_of_hello_requests_is_read_in_many_turns(client_tls: ssl.SSLContext) -> None:
    near, far = socket.socketpair()
    with near, far, closing(Deadline(PATIENCE)) as deadline:
        near.setblocking(False)
        far.sendall(b"\x16\x03\x03\0\4\0\0\0\0" * 1_600)  # OpenSSL ignores them
        far.shutdown(socket.SHUT_WR)
        steps = TLSStream(Stream(near), client_tls, "localhost").shake_hands(deadline)
        waits: list[Wait] = []
        with pytest.raises(OSError, match="EOF"):
            waits.extend(steps)
    assert len(waits) >= 100
    assert not any(wait.channels for wait in waits)
