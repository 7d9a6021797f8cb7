"""Giving TLS records to OpenSSL one at a time, without sockets. The compiled loop: see test_receiving.py."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lochws.transport.records import read_records, record_size

#: A time limit in seconds that no call reaches.
LONG = 60.0


class Pair:
    """A client and a server after the handshake, in memory.

    Args:
        tickets: whether the client has not read the server's session tickets yet.
    """

    def __init__(
        self, client_tls: ssl.SSLContext, server_tls: ssl.SSLContext, *, tickets: bool = False
    ) -> None:
        self.incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_tls.wrap_bio(self.incoming, self._outgoing, server_hostname="localhost")
        self._from_client, self._to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._server = server_tls.wrap_bio(self._from_client, self._to_client, server_side=True)
        sides = [self.tls, self._server]
        while sides:
            for side in list(sides):
                try:
                    side.do_handshake()
                    sides.remove(side)
                except ssl.SSLWantReadError:
                    pass
                self._from_client.write(self._outgoing.read())
                if self.tls in sides:
                    self.incoming.write(self._to_client.read())
        if not tickets:
            self.incoming.write(self._to_client.read())
            with pytest.raises(ssl.SSLWantReadError):
                self.tls.read(1)

    def records(self, *contents: bytes) -> bytes:
        """Return a record for each content, after those that the server has to send by itself."""
        for content in contents:
            self._server.write(content)
        return self._to_client.read()

    def close_notify(self) -> bytes:
        """Return the server's close_notify."""
        with pytest.raises(ssl.SSLWantReadError):
            self._server.unwrap()
        return self._to_client.read()


@pytest.fixture
def pair(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext) -> Pair:
    return Pair(client_tls, server_tls)


class TestReading:
    def read(
        self, pair: Pair, records: bytes, room: int = 100, more: int | None = None,
        *, start: int = 0, filled: int = 0, is_through: bool = True, seconds: float = LONG,
    ) -> tuple[bytes, tuple[Any, ...]]:
        """Read into new memory. Return what was added to it, and the result without the filled size."""
        first = bytearray(room)
        second = None if more is None else bytearray(more)
        begin, count, *rest = read_records(
            pair.tls, pair.incoming, memoryview(records), start, len(records), memoryview(first),
            None if second is None else memoryview(second), filled, is_through, seconds,
        )
        # Neither may be referred to any longer: this would raise BufferError.
        first.append(0)
        data = bytes(first[:-1])
        if second is not None:
            second.append(0)
            data += bytes(second[:-1])
        return data[filled:count], (begin, *rest)

    def test_all_whole_records_are_read_and_the_rest_is_left(self, pair: Pair) -> None:
        records = pair.records(b"one", b"two", b"three")
        cut = len(records) - 1
        data, result = self.read(pair, records[:cut])
        assert data == b"onetwo"
        begin, *others = result
        assert others == [False, False, None]
        data, result = self.read(pair, records, start=begin)
        assert data == b"three"
        assert result == (len(records), False, False, None)

    def test_without_a_whole_record_nothing_is_read(self, pair: Pair) -> None:
        assert self.read(pair, b"") == (b"", (0, False, False, None))
        assert self.read(pair, pair.records(b"x")[:4]) == (b"", (0, False, False, None))

    def test_data_that_does_not_fit_into_the_buffer_goes_into_the_memory_behind_it(self, pair: Pair) -> None:
        records = pair.records(b"abcdef", b"ghi")
        data, result = self.read(pair, records, 4, 100)
        assert data == b"abcdefghi"
        assert result == (len(records), False, False, None)

    def test_bytes_that_are_filled_already_are_kept(self, pair: Pair) -> None:
        records = pair.records(b"abcdef")
        assert self.read(pair, records, 3, 9, filled=5)[0] == b"abcdef"

    def test_a_record_that_is_too_large_leaves_its_rest_in_openssl(self, pair: Pair) -> None:
        records = pair.records(b"abcdef", b"ghi")
        data, (begin, has_rest, has_record, result) = self.read(pair, records, 2, 2)
        assert (data, has_rest, has_record, result) == (b"abcd", True, True, None)
        data, rest = self.read(pair, records, start=begin, is_through=False)
        assert data == b"efghi"
        assert rest == (len(records), False, False, None)

    def test_a_record_that_fits_exactly_leaves_nothing(self, pair: Pair) -> None:
        records = pair.records(b"abcdef")
        data, result = self.read(pair, records, 6)
        assert data == b"abcdef"
        assert result == (len(records), False, False, None)

    def test_full_memory_takes_no_record(self, pair: Pair) -> None:
        records = pair.records(b"x")
        assert self.read(pair, records, 1, 1, filled=2) == (b"", (0, False, True, None))

    def test_one_record_is_read_even_if_the_time_is_up(self, pair: Pair) -> None:
        records = pair.records(b"a", b"b", b"c")
        data, (begin, *others) = self.read(pair, records, seconds=0.0)
        assert data == b"a"
        assert others == [False, True, None]
        assert self.read(pair, records, start=begin, seconds=-1.0)[0] == b"b"

    def test_a_record_without_data_ends_the_call(
        self, client_tls: ssl.SSLContext, server_tls: ssl.SSLContext
    ) -> None:
        pair = Pair(client_tls, server_tls, tickets=True)
        records = pair.records(b"x")
        begin, wanting = 0, 0
        while True:
            data, (begin, *others, result) = self.read(pair, records, start=begin)
            if data:
                break
            assert type(result) is ssl.SSLWantReadError
            assert result.__traceback__ is None
            assert others == [False, True]
            wanting += 1
        assert wanting == server_tls.num_tickets > 0
        assert (data, begin, result) == (b"x", len(records), None)

    def test_the_data_before_the_end_is_read(self, pair: Pair) -> None:
        records = pair.records(b"last") + pair.close_notify()
        data, (begin, _, has_record, result) = self.read(pair, records)
        assert (data, begin, has_record) == (b"last", len(records), False)
        assert result == 0 or type(result) is ssl.SSLZeroReturnError

    def test_an_end_without_close_notify_is_an_error(self, pair: Pair) -> None:
        pair.incoming.write_eof()
        data, (_, _, _, result) = self.read(pair, b"", is_through=False)
        assert not data
        assert type(result) is ssl.SSLEOFError

    @pytest.mark.parametrize(
        "garbage", [b"HTTP/1.1 400 Bad Request", b"\x17\x03\x03\xff\xff.", b"\x17\x03\x03\0\3abc"]
    )
    def test_bytes_that_are_not_a_record_are_an_error_after_the_data(
        self, garbage: bytes, pair: Pair
    ) -> None:
        records = pair.records(b"x") + garbage
        data, (begin, _, _, result) = self.read(pair, records)
        assert (data, begin) == (b"x", len(records))
        assert type(result) is ssl.SSLError
        assert result.__traceback__ is None

    @pytest.mark.parametrize("method", ["read", "write"])
    def test_another_exception_propagates(self, method: str, pair: Pair) -> None:
        def fail(*args: object) -> None:
            raise MemoryError

        stand_in = type("StandIn", (), {method: staticmethod(fail)})()
        tls, incoming = (stand_in, pair.incoming) if method == "read" else (pair.tls, stand_in)
        records, buffer = memoryview(pair.records(b"x")), memoryview(bytearray(9))
        with pytest.raises(MemoryError):
            read_records(tls, incoming, records, 0, len(records), buffer, None, 0, True, LONG)

    @settings(deadline=None, max_examples=50)
    @given(
        sizes=st.lists(st.one_of(st.integers(1, 40), st.integers(1, 16_384)), min_size=1, max_size=6),
        cuts=st.lists(st.integers(0, 60_000), max_size=6),
        rooms=st.lists(st.tuples(st.integers(1, 30_000), st.integers(0, 30_000)), min_size=1, max_size=4),
    )
    def test_every_byte_is_read_once_and_in_order_however_the_records_arrive(
        self, sizes: list[int], cuts: list[int], rooms: list[tuple[int, int]],
        contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    ) -> None:
        pair = Pair(*contexts)
        contents = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
        records, received = pair.records(*contents), b""
        begin, has_rest, calls = 0, False, 0
        for end in [*sorted(min(cut, len(records)) for cut in cuts), len(records)]:
            has_record = True
            while has_rest or has_record:
                room, more = rooms[calls % len(rooms)]
                calls += 1
                data, (begin, has_rest, has_record, result) = self.read(
                    pair, records[:end], room, more, start=begin, is_through=not has_rest,
                )
                assert result is None
                received += data
        assert begin == len(records)
        assert received == b"".join(contents)


@pytest.fixture(scope="module")
def contexts(authority: Any) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a client and a server, made once for many examples."""
    client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    authority.issue_cert("localhost").configure_cert(server)
    return client, server


def test_the_size_of_a_record_is_in_its_header() -> None:
    record = b"\x17\x03\x03\0\3abc"
    assert record_size(record + b"more", 0, 12) == 8
    assert record_size(b"xx" + record, 2, 10) == 8
    assert [record_size(record, 0, end) for end in range(8)] == [0] * 8


@pytest.mark.parametrize(
    "data", [b"GET / HTTP", b"\x17\x02\x03\xff\0..", b"\x17\x03\x03\xff\xff....", b"\x13\x03\x03\0\x09"]
)
def test_bytes_that_cannot_be_a_record_count_as_one(data: bytes) -> None:
    assert record_size(data, 0, len(data)) == len(data)
