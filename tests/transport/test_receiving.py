"""Receiving over TLS, without sockets: both twins of the loop that receives records and decrypts them."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lochws.system.compiled import load
from lochws.system.deadline import Deadline
from lochws.transport import layered
from lochws.transport.layered import TLSStream
from lochws.transport.stream import Stream

from ..support.driven import driven
from ..support.seen import PATIENCE

_compiled = load("TLS records")
Receive = Callable[..., int]
TWINS: dict[str, Receive] = {"python": TLSStream._receive}
if _compiled is not None:
    TWINS["compiled"] = _compiled.receive
compiled_only = pytest.mark.skipif(_compiled is None, reason="not built")

shake_hands = driven(TLSStream.shake_hands)


class Below(Stream):
    """The stream below: what a server in memory sends arrives in the given pieces."""

    def __init__(self, server_tls: ssl.SSLContext) -> None:
        self.address = ""
        self.arrived: list[bytes | OSError] = []
        self._from_client, self._to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server_tls.wrap_bio(self._from_client, self._to_client, server_side=True)
        self.shakes_hands = True

    def send(self, data: bytes | bytearray | memoryview) -> int:
        self._from_client.write(data)
        if self.shakes_hands:
            with suppress(ssl.SSLWantReadError):
                self.server.do_handshake()
                self.shakes_hands = False
            self.arrived.append(self._to_client.read())
        return len(data)

    def records(self, *contents: bytes) -> bytes:
        """Return a record for each content."""
        for content in contents:
            self.server.write(content)
        return self._to_client.read()

    def receive_into(self, buffer: bytearray | memoryview, more: memoryview | None = None) -> int | None:
        if not self.arrived:
            return None
        piece = self.arrived.pop(0)
        if isinstance(piece, OSError):
            raise piece
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        if piece[count:]:
            self.arrived.insert(0, piece[count:])
        return count


@pytest.fixture(scope="module")
def contexts(authority: Any) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a client and a server, made once for many examples."""
    client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    authority.issue_cert("localhost").configure_cert(server)
    return client, server


def connected(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> tuple[TLSStream, Below]:
    """Return a stream after the handshake that has read the session tickets, and what is below it."""
    below = Below(contexts[1])
    stream = TLSStream(below, contexts[0], "localhost")
    deadline = Deadline(PATIENCE)
    shake_hands(stream, deadline)
    deadline.close()
    assert stream.receive_into(bytearray(1)) is None
    return stream, below


@pytest.fixture
def pair(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> tuple[TLSStream, Below]:
    return connected(contexts)


@pytest.fixture(params=list(TWINS.values()), ids=list(TWINS))
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes streams use one of the twins, without time limits."""
    monkeypatch.setattr(layered, "_receive", request.param)
    for limit in ("TURN_SECONDS", "SHARE_SECONDS"):
        monkeypatch.setattr(layered, limit, PATIENCE)


@pytest.mark.usefixtures("twin")
class TestTwins:
    # The fixture chooses a twin for all examples.
    @settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        sizes=st.lists(st.one_of(st.integers(1, 40), st.integers(1, 16_384)), min_size=1, max_size=20),
        cuts=st.lists(st.integers(0, 300_000), max_size=6),
        rooms=st.lists(st.tuples(st.integers(1, 90_000), st.integers(0, 90_000)), min_size=1, max_size=4),
    )
    def test_every_byte_arrives_once_and_in_order_however_the_records_do(
        self, sizes: list[int], cuts: list[int], rooms: list[tuple[int, int]],
        contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    ) -> None:
        stream, below = connected(contexts)
        contents = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
        records, received, start, calls = below.records(*contents), b"", 0, 0
        for end in [*sorted(min(cut, len(records)) for cut in cuts), len(records)]:
            if end > start:
                below.arrived.append(records[start:end])
                start = end
            while below.arrived or stream.pending():
                room, behind = rooms[calls % len(rooms)]
                calls += 1
                first, second = bytearray(room), bytearray(behind)
                count = stream.receive_into(first, memoryview(second) if behind else None) or 0
                received += (first + second)[:count]
                first.append(0)  # would raise BufferError if something still held the memory
                second.append(0)
        assert received == b"".join(contents)
        assert stream.receive_into(bytearray(9)) is None

    def test_the_data_before_an_error_is_received(self, pair: tuple[TLSStream, Below]) -> None:
        stream, below = pair
        below.arrived += [below.records(b"x"), OSError("lost")]
        buffer = bytearray(9)
        assert stream.receive_into(buffer) == 1
        for _ in range(2):
            with pytest.raises(OSError, match="lost"):
                stream.receive_into(buffer)
        buffer.append(0)

    def test_the_data_before_an_end_is_received(self, pair: tuple[TLSStream, Below]) -> None:
        stream, below = pair
        below.arrived += [below.records(b"x", b"yz")[:-1], b""]
        received, buffer = b"", bytearray(2)
        while count := stream.receive_into(buffer):
            received += buffer[:count]
        assert (received, count) == (b"x", 0)
        assert stream.receive_into(buffer) == 0

    def test_a_damaged_record_is_an_error_after_the_data(self, pair: tuple[TLSStream, Below]) -> None:
        stream, below = pair
        good, bad = below.records(b"x"), bytearray(below.records(b"y"))
        bad[-1] ^= 1
        below.arrived.append(good + bad)
        assert stream.receive_into(bytearray(9)) == 1
        with pytest.raises(ssl.SSLError):
            stream.receive_into(bytearray(9))

    def test_the_data_before_a_close_notify_is_received(self, pair: tuple[TLSStream, Below]) -> None:
        stream, below = pair
        last = below.records(b"last")
        with pytest.raises(ssl.SSLWantReadError):
            below.server.unwrap()
        below.arrived.append(last + below.records() + b"ignored")
        assert stream.receive_into(bytearray(9)) == 4
        assert [stream.receive_into(bytearray(9)) for _ in range(2)] == [0, 0]

    @pytest.mark.parametrize(
        "garbage", [b"HTTP/1.1 400 Bad Request", b"\x17\x03\x03\xff\xff.", b"\x17\x03\x03\0\3abc"]
    )
    def test_bytes_that_are_not_a_record_are_an_error_after_the_data(
        self, garbage: bytes, pair: tuple[TLSStream, Below]
    ) -> None:
        stream, below = pair
        below.arrived.append(below.records(b"x") + garbage)
        assert stream.receive_into(bytearray(9)) == 1
        with pytest.raises(ssl.SSLError):
            stream.receive_into(bytearray(9))

    def test_after_each_share_the_lock_is_free_for_a_moment(
        self, pair: tuple[TLSStream, Below], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(layered, "SHARE_SECONDS", 0.0)
        stream, below = pair
        below.arrived.append(below.records(b"a", b"b", b"c"))
        passed = []

        class Gate:
            def acquire(self) -> None:
                passed.append(stream._is_inside)

            def release(self) -> None:
                pass

            def __enter__(self) -> None:
                self.acquire()

            def __exit__(self, *error: object) -> None:
                self.release()

        stream._gate = Gate()  # type: ignore[assignment]  # as far as it is used
        assert stream.receive_into(bytearray(9)) == 3
        assert passed == [False] * 3

    def test_a_turn_ends_when_its_time_is_up(
        self, pair: tuple[TLSStream, Below], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for limit in ("TURN_SECONDS", "SHARE_SECONDS"):
            monkeypatch.setattr(layered, limit, 0.0)
        stream, below = pair
        below.arrived.append(below.records(b"a", b"b"))
        buffer = bytearray(9)
        for letter, has_more in ((b"a", True), (b"b", False)):
            assert stream.receive_into(buffer) == 1
            assert buffer.startswith(letter)
            assert stream.pending() is has_more

    @pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
    def test_another_exception_propagates_and_leaves_the_locks_free(
        self, error: type[BaseException], pair: tuple[TLSStream, Below]
    ) -> None:
        stream, below = pair
        below.arrived.append(below.records(b"x"))

        class Failing:
            def read(self, *args: object) -> int:
                assert stream._is_inside
                raise error

        stream.tls = Failing()  # type: ignore[assignment]
        with pytest.raises(error):
            stream.receive_into(bytearray(9))
        assert not stream._is_inside
        got: list[bool] = []
        for lock in (stream._gate, stream._lock):
            thread = threading.Thread(target=lambda lock=lock: got.append(lock.acquire(blocking=False)))
            thread.start()
            thread.join()
        assert got == [True, True]


@compiled_only
class TestCompiled:
    @pytest.mark.parametrize("change", [{1: bytearray(9)}, {2: bytearray(9)}, {3: b""}, {4: "1"}, {5: None}])
    def test_an_argument_of_another_type_is_refused(
        self, change: dict[int, object], pair: tuple[TLSStream, Below]
    ) -> None:
        assert _compiled is not None
        arguments = [pair[0], memoryview(bytearray(9)), None, memoryview(bytearray(99)), 0.1, 0.1]
        for position, value in change.items():
            arguments[position] = value
        with pytest.raises(TypeError):
            _compiled.receive(*arguments)

    @pytest.mark.parametrize(
        "name", ["tls", "_incoming", "_outgoing", "_gate", "_lock", "_stream", "_records", "_unsent"]
    )
    def test_a_missing_attribute_is_an_error(self, name: str, pair: tuple[TLSStream, Below]) -> None:
        assert _compiled is not None
        stream = pair[0]
        delattr(stream, name)
        with pytest.raises(AttributeError, match=name):
            _compiled.receive(stream, memoryview(bytearray(9)), None, memoryview(bytearray(99)), 0.1, 0.1)

    @pytest.mark.parametrize("result", [-1, 10, 1 << 70, "1"])
    def test_an_impossible_result_of_read_is_refused(
        self, result: object, pair: tuple[TLSStream, Below]
    ) -> None:
        assert _compiled is not None
        stream, below = pair
        below.arrived.append(below.records(b"x"))
        stand_in = type("StandIn", (), {"read": lambda self, size, buffer: result})()
        stream.tls = stand_in
        with pytest.raises((ValueError, OverflowError, TypeError)):
            _compiled.receive(stream, memoryview(bytearray(9)), None, memoryview(bytearray(99)), 0.1, 0.1)

    def test_records_that_do_not_fit_are_refused(self, pair: tuple[TLSStream, Below]) -> None:
        assert _compiled is not None
        pair[0]._records = bytes(100)
        with pytest.raises(ValueError, match="fit"):
            _compiled.receive(pair[0], memoryview(bytearray(9)), None, memoryview(bytearray(99)), 0.1, 0.1)
