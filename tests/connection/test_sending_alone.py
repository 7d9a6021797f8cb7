"""A lone small message: sent under the queue's lock or by a writer, with the same results."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lochws.connection import outgoing, sendqueue
from lochws.connection.outgoing import KEPT_ITEMS
from lochws.connection.sendqueue import ALONE_BYTES, FOLLOWS_SECONDS, SendQueue
from lochws.errors import TransportFail, WebSocketClosed
from lochws.protocol.masking import MaskKeys
from lochws.protocol.sender import Sender
from lochws.sent import Sent
from lochws.system import syscalls
from lochws.transport.stream import Stream

from ..support.interrupting import enter, interrupt
from ..support.queues import Asked, Clock, Sink, make_queue

FILES = {outgoing.__file__, sendqueue.__file__}


class Alone:
    """A queue, the sink that it writes to, and whether its lock was held during each call of the sink."""

    def __init__(self, under_lock: bool, room: int | None = None, **options: Any) -> None:
        self.sink, self.asked, self.was_locked = Sink(room), Asked(), [False][1:]
        options.setdefault("pack", Sender(keys=MaskKeys(bytes)).pack)
        self.queue = make_queue(
            self.sink, ask_loop=self.asked, send_now=self.send_now if under_lock else None, **options
        )

    def send_now(self, data: bytes) -> int:
        self.was_locked.append(self.queue._lock.locked())
        return self.sink.send(data)

    def push(self, text: str) -> bool:
        return self.queue.push(text, len(text))

    @property
    def sent(self) -> list[str]:
        """The texts that were sent whole, from frames with masking keys of zeros."""
        taken, texts, start = self.sink.taken, [], 0
        while start < len(taken):
            length = taken[start + 1] & 0x7F
            head = 6
            if length == 126:
                length, head = int.from_bytes(taken[start + 2 : start + 4], "big"), 8
            texts.append(taken[start + head : start + head + length].decode())
            start += head + length
        return texts


@pytest.fixture(params=[True, False], ids=["under the lock", "by a writer"])
def make(request: pytest.FixtureRequest, clock: Clock) -> Callable[..., Alone]:
    """Return a function that makes an `Alone`; its clock stands still, and nothing gathers."""
    def make(room: int | None = None, **options: Any) -> Alone:
        options.setdefault("gather", False)
        return Alone(request.param, room, **options)

    return make


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    clock.rule(monkeypatch)
    return clock


Make = Callable[..., Alone]


class TestBothWays:
    def test_a_message_is_sent_and_counted(self, make: Make) -> None:
        alone = make()
        for text in ("a", "b" * 125, "c" * 126, "d" * ALONE_BYTES):
            assert alone.push(text)
        queue = alone.queue
        assert alone.sent == ["a", "b" * 125, "c" * 126, "d" * ALONE_BYTES]
        assert (queue.messages_sent, queue.items_taken, queue.waiting_bytes) == (4, 4, 0)
        assert queue.bytes_sent == len(alone.sink.taken)
        assert alone.asked.times == 0
        assert queue.finish() == ()
        assert queue.doubts is not None
        assert queue.doubts.messages == ("a", "b" * 125, "c" * 126, "d" * ALONE_BYTES)

    @pytest.mark.parametrize("room", [0, 1, 8])
    def test_the_rest_of_a_message_that_the_kernel_did_not_take_waits_for_the_loop(
        self, make: Make, room: int
    ) -> None:
        alone = make(room)
        assert alone.push("a message")
        assert alone.queue.is_blocked
        assert alone.asked.times == 1
        assert alone.push("another one")
        assert (alone.queue.messages_sent, alone.asked.times) == (0, 1)
        alone.sink.room = None
        alone.queue.flush()
        assert alone.sent == ["a message", "another one"]
        assert not alone.queue.is_blocked
        assert alone.queue.messages_sent == 2

    def test_a_part_that_was_taken_is_in_doubt_and_not_unsent_once_it_is_whole(self, make: Make) -> None:
        alone = make(3)
        alone.push("a message")
        assert alone.queue.finish() == ("a message",)
        assert alone.queue.doubts is not None
        assert alone.queue.doubts.messages == ()

    def test_a_network_error_is_raised_and_the_message_is_not_in_unsent(self, make: Make) -> None:
        alone = make()
        alone.push("sent")
        alone.sink.error = ConnectionResetError("reset")
        with pytest.raises(TransportFail, match="reset"):
            alone.push("lost")
        assert isinstance(alone.queue.failure, ConnectionResetError)
        assert alone.asked.times == 1
        with pytest.raises(WebSocketClosed):
            alone.push("later")
        assert alone.queue.finish() == ()
        assert alone.queue.doubts is not None
        assert alone.queue.doubts.messages == ("sent",)

    def test_a_ping_that_waits_is_sent_first(self, make: Make) -> None:
        alone = make()
        alone.queue.put_urgent(b"\x89\x80\0\0\0\0")
        alone.push("a message")
        assert alone.sink.offered == [b"\x89\x80\0\0\0\0\x81\x89\0\0\0\0a message"]

    def test_in_a_cork_it_waits(self, make: Make) -> None:
        alone = make()
        alone.queue.cork()
        alone.push("a")
        alone.push("b")
        assert alone.sink.offered == []
        alone.queue.uncork()
        assert alone.sent == ["a", "b"]

    def test_one_that_follows_closely_gathers(self, make: Make, clock: Clock) -> None:
        alone = make(gather=True)
        alone.push("a")
        alone.push("b")
        assert (alone.sent, alone.asked.times) == (["a"], 1)
        alone.queue.flush()
        clock.now += 2 * FOLLOWS_SECONDS
        alone.push("c")
        assert alone.sent == ["a", "b", "c"]
        assert len(alone.sink.offered) == 3

    def test_taps_are_told_before_it_is_sent(self, make: Make) -> None:
        told: list[Sent] = []
        alone = make(taps=[told.extend])
        alone.push("a")
        assert told == ["a"]
        assert alone.sent == ["a"]

    def test_as_many_are_kept_as_when_they_are_queued(self, make: Make) -> None:
        alone = make()
        for number in range(2 * KEPT_ITEMS + 10):
            alone.push(str(number))
        assert alone.queue.messages_sent == 2 * KEPT_ITEMS + 10
        alone.queue.finish()
        doubts = alone.queue.doubts
        assert doubts is not None
        assert doubts.messages == tuple(map(str, range(KEPT_ITEMS, 2 * KEPT_ITEMS + 10)))
        assert doubts.omitted == KEPT_ITEMS

    def test_messages_that_are_dropped_off_meanwhile_follow(self, make: Make) -> None:
        alone = make()
        send = alone.sink.send

        def sending(data: bytes | memoryview) -> int:
            if len(alone.sink.offered) == 0:
                other = threading.Thread(target=alone.push, args=["other"])
                other.start()
                other.join()
            return send(data)

        alone.sink.send = sending  # type: ignore[method-assign]
        alone.push("first")
        assert alone.sent == ["first", "other"]
        assert not alone.queue._dropped_off


@pytest.mark.parametrize("room", [None, 3])
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="opcodes are others there")
def test_wherever_ctrl_c_strikes_nothing_is_locked_or_sent_twice(make: Make, room: int | None) -> None:
    point, struck = 0, True
    while struck:
        point += 1
        alone = make(room)
        struck = interrupt(lambda alone=alone: alone.push("message"), point, FILES)  # type: ignore[misc]
        queue = alone.queue
        assert not queue._lock.locked(), point
        alone.sink.room = None
        queue.flush()
        queue.flush()
        has_failed = queue.failure is not None
        unsent = queue.finish()
        assert queue.doubts is not None
        offered = b"message" in alone.sink.taken
        in_doubt = queue.doubts.messages.count("message")
        assert alone.sink.taken.count(b"message") <= 1, point
        assert in_doubt + unsent.count("message") <= 1, point
        if offered:
            assert in_doubt == 1, point  # the user is not told that it was not sent
        assert struck or (offered and not has_failed), point
    assert point > 10


NESTED: dict[str, Callable[[SendQueue], object]] = {
    "push": lambda queue: queue.push("<inner>", 7),
    "large": lambda queue: queue.push(f"<{'inner' * 2000}>", 10_002),
    "flush": lambda queue: queue.flush(by_loop=False),
    "numbers": lambda queue: (queue.messages_sent, queue.bytes_sent, queue.dropped, queue.waiting_bytes),
}


@pytest.mark.parametrize("inner", NESTED)
def test_a_call_that_interrupts_at_any_bytecode_returns_and_nothing_is_lost(make: Make, inner: str) -> None:
    point, got_there = 0, True
    while got_there:
        point += 1
        alone = make()
        got_there = enter(
            lambda alone=alone: alone.push("<outer>"),  # type: ignore[misc]
            point, FILES,
            lambda alone=alone: NESTED[inner](alone.queue),  # type: ignore[misc]
        )
        for _ in range(3):
            alone.queue.flush()
        assert alone.queue.finish() == (), point
        taken = alone.sink.taken
        assert taken.count(b"<outer>") == 1, point
        if inner in ("push", "large"):
            assert taken.count(b"inner>") == got_there, point
        assert alone.queue._outgoing.size == 0, point
    assert point > 20


class TestUnderTheLock:
    def test_only_small_messages_are_sent_under_the_lock(self, clock: Clock) -> None:
        alone = Alone(True, gather=False)
        alone.push("x" * ALONE_BYTES)
        alone.push("x" * (ALONE_BYTES + 1))
        assert alone.was_locked == [True]
        assert len(alone.sent) == 2


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one, other


class TestStreams:
    def test_a_plain_stream_has_a_function_that_sends_and_fails_as_it_does(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        stream = Stream(pair[0])
        send = stream.sender()
        if syscalls.send is syscalls.send_python:
            assert send is None  # the Python twin lets go of the GIL
            return
        assert send is not None
        assert send(b"hello") == 5
        assert pair[1].recv(10) == b"hello"
        while send(bytes(4096)):
            pass
        stream.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            send(b"x")

    def test_a_stream_of_another_class_or_in_pure_python_has_no_such_function(
        self, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Own(Stream):
            pass

        assert Own(pair[0]).sender() is None
        stream = Stream(pair[0])
        monkeypatch.setattr(stream, "_send", syscalls.send_python)
        assert stream.sender() is None
