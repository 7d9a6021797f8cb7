"""Socket calls that keep the interpreter lock. Both twins pass the same tests."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from lochws.system import syscalls

from ..support.seen import PATIENCE, in_thread

TWINS = {"python": (syscalls.send_python, syscalls.receive_into_python)}
if syscalls.twins is not None:
    TWINS["compiled"] = (syscalls.twins.send, syscalls.twins.receive_into)


@pytest.fixture(params=TWINS)
def calls(request: pytest.FixtureRequest) -> SimpleNamespace:
    """The two calls of one twin."""
    send, receive_into = TWINS[request.param]
    return SimpleNamespace(send=send, receive_into=receive_into)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return two connected non-blocking sockets."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


Pair = tuple[socket.socket, socket.socket]


class TestTwins:
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_what_is_sent_is_received(self, calls: Any, pair: Pair, kind: Any) -> None:
        buffer = bytearray(100)
        assert calls.send(pair[0], kind(b"hello")) == 5
        assert calls.receive_into(pair[1], memoryview(buffer)) == 5
        assert buffer[:5] == b"hello"

    def test_a_second_buffer_takes_what_the_first_has_no_room_for(self, calls: Any, pair: Pair) -> None:
        first, second = bytearray(4), bytearray(10)
        assert calls.receive_into(pair[1], first, second) is None
        calls.send(pair[0], b"firstsecond")
        assert calls.receive_into(pair[1], first, second) == 11
        assert (first, second) == (b"firs", b"tsecond\0\0\0")
        calls.send(pair[0], b"1")
        assert calls.receive_into(pair[1], first, None) == 1
        with pytest.raises((TypeError, BufferError)):
            calls.receive_into(pair[1], first, b"not to be changed")
        first.append(0)  # no view of it was left

    def test_nothing_there_is_none_and_the_end_is_0(self, calls: Any, pair: Pair) -> None:
        assert calls.receive_into(pair[0], bytearray(10)) is None
        pair[1].close()
        assert calls.receive_into(pair[0], bytearray(10)) == 0

    @pytest.mark.parametrize("size", [1000, 1 << 20])
    def test_a_full_kernel_takes_a_part_and_then_0(self, calls: Any, pair: Pair, size: int) -> None:
        data = bytes(size)
        sent = 0
        while taken := calls.send(pair[0], data):
            sent += taken
        received, buffer = 0, bytearray(1 << 20)
        while count := calls.receive_into(pair[1], buffer):
            received += count
        assert received == sent > 0

    def test_a_peer_that_is_gone_is_an_error(self, calls: Any, pair: Pair) -> None:
        pair[1].close()
        with pytest.raises(BrokenPipeError):
            calls.send(pair[0], b"x")

    def test_a_reset_is_an_error(self, calls: Any, pair: Pair) -> None:
        pair[0].send(b"never read")
        pair[1].close()
        with pytest.raises(ConnectionResetError):
            calls.receive_into(pair[0], bytearray(10))

    def test_a_closed_socket_is_an_error(self, calls: Any, pair: Pair) -> None:
        pair[0].close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            calls.send(pair[0], b"x")
        with pytest.raises(OSError, match="Bad file descriptor"):
            calls.receive_into(pair[0], bytearray(10))

    def test_wrong_arguments_are_refused(self, calls: Any, pair: Pair) -> None:
        for call in (calls.send, calls.receive_into):
            with pytest.raises(TypeError):
                call(pair[0])
            with pytest.raises(TypeError):
                call(pair[0], "text")
        with pytest.raises((TypeError, BufferError)):
            calls.receive_into(pair[0], b"not to be changed")
        with pytest.raises(AttributeError):
            calls.send(1, b"x")


@pytest.mark.skipif(syscalls.twins is None, reason="built without a compiler")
def test_the_compiled_ones_keep_the_interpreter(pair: Pair) -> None:
    assert syscalls.twins is not None
    gate, seen = threading.Lock(), []
    before = sys.getswitchinterval()
    with gate:
        other = in_thread(lambda: gate.acquire() and seen.append("the interpreter"))
        sys.setswitchinterval(PATIENCE)  # so long it is not taken from whoever has it
    try:
        # From here on the other thread waits for it, and would take it if it were let go.
        for _ in range(10_000):
            syscalls.twins.send(pair[0], b"x")
            syscalls.twins.receive_into(pair[1], bytearray(10))
            if hasattr(syscalls.twins, "random_bytes"):
                syscalls.twins.random_bytes(32)
        assert not seen
    finally:
        sys.setswitchinterval(before)
        other.join(PATIENCE)


@pytest.mark.parametrize("source", [os.urandom, syscalls.random_bytes], ids=["python", "best"])
def test_random_bytes_are_as_many_as_asked_for_and_never_the_same(source: Callable[[int], bytes]) -> None:
    assert [len(source(count)) for count in (0, 1, 32, 4096)] == [0, 1, 32, 4096]
    assert len({source(16) for _ in range(100)}) == 100
    assert len(set(source(4096))) > 200


@pytest.mark.skipif(not hasattr(syscalls.twins, "random_bytes"), reason="not built, or not on Linux")
def test_random_bytes_are_refused_in_wrong_numbers() -> None:
    assert syscalls.twins is not None
    for count in (-1, 4097):
        with pytest.raises(ValueError):
            syscalls.twins.random_bytes(count)
    with pytest.raises(TypeError):
        syscalls.twins.random_bytes("1")


class TestChoosing:
    def test_plain_sockets_get_the_fastest(self, pair: Pair) -> None:
        assert syscalls.calls_for(pair[0]) == (syscalls.send, syscalls.receive_into)

    def test_a_socket_with_methods_of_its_own_is_asked_for_them(self) -> None:
        class Own(socket.socket):
            def send(self, *_args: Any) -> int:
                raise BlockingIOError

        with Own() as sock:
            send, _ = syscalls.calls_for(sock)
            assert send(sock, b"x") == 0
