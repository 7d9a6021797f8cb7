"""A small message: sent or handed over in one step, or on the path of all others, with the same results."""

from __future__ import annotations

import math
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lochws.connection import outgoing, sendqueue
from lochws.connection.outgoing import KEPT_ITEMS
from lochws.connection.sendqueue import DROP_OFF_BYTES, GATHER_BYTES, SendQueue
from lochws.errors import QueueFull, TransportFail, WebSocketClosed, WebSocketError
from lochws.protocol.frames import build_frame
from lochws.protocol.masking import MaskKeys
from lochws.protocol.sender import Sender
from lochws.sent import Sent
from lochws.system import syscalls
from lochws.transport.stream import Stream

from ..support.interrupting import enter, interrupt
from ..support.queues import Asked, Sink, make_queue
from ..support.seen import PATIENCE, eventually

FILES = {outgoing.__file__, sendqueue.__file__}
KEY = bytes(4)

needs_compiled = pytest.mark.skipif(sendqueue.push_small is None, reason="not built, or not wanted")
LARGE = 65536
WAYS = [pytest.param(True, marks=needs_compiled, id="in one step"), pytest.param(False, id="as all others")]


def frame(message: str | bytes) -> bytes:
    if isinstance(message, str):
        return build_frame(0x81, message.encode(), KEY)
    return build_frame(0x82, message, KEY)


class Ends:
    """Both ends of a TCP connection.

    Args:
        is_narrow: whether the kernel has little room.
    """

    def __init__(self, is_narrow: bool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.ours = socket.socket()
            if is_narrow:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            self.ours.connect(server.getsockname())
            self.theirs, _ = server.accept()
        self.ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ours.setblocking(False)
        self._taken = bytearray()

    def taken(self, enough: int = 0) -> bytes:
        """Everything that has arrived so far; waits until it is that many bytes."""
        with suppress(BlockingIOError):
            while True:
                self.theirs.settimeout(PATIENCE if len(self._taken) < enough else 0)
                self._taken += self.theirs.recv(1 << 16)
        return bytes(self._taken)

    def whole(self) -> bytes:
        """End the connection, and return everything that has arrived."""
        with suppress(OSError):
            self.ours.shutdown(socket.SHUT_WR)
        self.theirs.settimeout(PATIENCE)
        while received := self.theirs.recv(1 << 16):
            self._taken += received
        self.close()
        return bytes(self._taken)

    def reset(self) -> None:
        """Break the connection, as a server that crashes does."""
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.theirs.close()
        poller = select.poll()
        poller.register(self.ours, 0)
        assert poller.poll(PATIENCE * 1000)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


class Line:
    """A queue on a TCP connection, whose masking keys are zeros.

    Args:
        is_direct: whether the compiled function may send.
        is_narrow: whether the kernel has little room.
    """

    def __init__(self, is_direct: bool, is_narrow: bool = False, **options: Any) -> None:
        self.ends, self.asked = Ends(is_narrow), Asked()
        self.taps, self.told = list[Any](), list[Sequence[Sent]]()
        self.stream, sender = Stream(self.ends.ours), Sender(keys=MaskKeys(bytes))
        direct = {"sock": self.stream.direct_socket(), "keys": sender.keys} if is_direct else {}
        self.queue = make_queue(
            self.stream,  # type: ignore[arg-type]  # it is a sink, but has no attributes of the other kind
            ask_loop=self.asked, pack=sender.pack, taps=self.taps, **direct, **options,
        )
        self.queue._last_write = -math.inf
        sender.keys.fill()  # without keys, the compiled function leaves the message to the others
        self.push_small = sendqueue.push_small if is_direct else None

    def push(self, message: str | bytes) -> bool:
        """Send as `WebSocket.send_text` does."""
        if self.push_small is not None and self.push_small(self.queue, message):
            return True
        return self.queue.push(message, len(message))

    def wire(self) -> bytes:
        """What arrives, once everything that the kernel has taken is there."""
        return self.ends.taken(self.queue.bytes_sent)


def gathering_line() -> Line:
    """Return a line on which one small message gathers, for as long as it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sendqueue, "FOLLOWS_SECONDS", 1e9)
        patch.setattr(sendqueue, "GATHER_SECONDS", 1e9)
        line = Line(True, gather=True)
        for text in "ab":
            line.push(text)
    return line


Make = Callable[..., Line]


@pytest.fixture(params=WAYS)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Return a function that makes a `Line`, on which nothing gathers unless asked for."""
    lines: list[Line] = []

    def make(**options: Any) -> Line:
        options.setdefault("gather", False)
        lines.append(Line(request.param, **options))
        return lines[-1]

    yield make
    for line in lines:
        line.ends.close()


class TestBothWays:
    def test_a_message_is_sent_and_counted(self, make: Make) -> None:
        line = make()
        messages: list[str | bytes] = ["", "a", "b" * 125, "c" * 126, "d" * 2000, b"", b"e" * 130]
        for message in messages:
            assert line.push(message)
        queue = line.queue
        expected = b"".join(map(frame, messages))
        assert line.wire() == expected
        assert (queue.messages_sent, queue.items_taken, queue.waiting_bytes) == (7, 7, 0)
        assert queue.bytes_sent == len(expected)
        assert line.asked.times == 0
        assert queue.finish() == ()
        assert queue.doubts is not None
        assert queue.doubts.messages == tuple(messages)

    @pytest.mark.parametrize("size", [1000, 3333, 4096])
    def test_when_the_kernel_is_full_the_rest_waits_for_the_loop(
        self, make: Make, size: int
    ) -> None:
        line, texts = make(is_narrow=True), []
        for number in range(5000):
            texts.append(str(number).ljust(size, "."))
            assert line.push(texts[-1])
            if line.queue.is_blocked:
                break
        assert line.queue.is_blocked
        assert (line.queue.messages_sent, line.queue.items_taken) == (len(texts) - 1,) * 2
        texts.append("another one")
        assert line.push(texts[-1])
        assert (line.asked.times, line.queue.messages_sent) == (1, len(texts) - 2)
        expected = b"".join(map(frame, texts))
        assert line.queue.bytes_sent + line.queue.waiting_bytes == len(expected)

        def is_flushed() -> bool:
            line.ends.taken()
            line.queue.flush()
            return not line.queue.is_blocked

        eventually(is_flushed)
        assert line.wire() == expected
        assert line.queue.messages_sent == len(texts)

    def test_a_network_error_is_raised_and_the_message_is_not_in_unsent(self, make: Make) -> None:
        line = make()
        line.push("sent")
        line.wire()
        line.ends.reset()
        with pytest.raises(TransportFail, match="reset by peer") as caught:
            line.push("lost")
        assert isinstance(line.queue.failure, ConnectionResetError)
        assert caught.value.__cause__ is line.queue.failure
        assert line.asked.times >= 1
        with pytest.raises(WebSocketClosed):
            line.push("later")
        assert line.queue.finish() == ()
        assert line.queue.doubts is not None
        assert line.queue.doubts.messages == ("sent",)

    def test_on_a_closed_socket_it_fails(self, make: Make) -> None:
        line = make()
        line.stream.close()
        with pytest.raises(TransportFail, match="Bad file descriptor"):
            line.push("lost")

    def test_a_ping_that_waits_is_sent_first(self, make: Make) -> None:
        line, ping = make(), b"\x89\x80\0\0\0\0"
        line.queue.put_urgent(ping)
        line.push("a message")
        assert line.wire() == ping + frame("a message")

    def test_in_a_cork_it_waits(self, make: Make) -> None:
        line = make()
        line.queue.cork()
        line.push("a")
        line.push("b")
        assert line.queue.bytes_sent == 0
        line.queue.uncork()
        assert line.wire() == frame("a") + frame("b")

    def test_one_that_follows_closely_gathers_and_further_ones_are_handed_over(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sendqueue, "FOLLOWS_SECONDS", 1e9)
        monkeypatch.setattr(sendqueue, "GATHER_SECONDS", 1e9)
        line = make(gather=True)
        for text in "abcd":
            assert line.push(text)
        assert (line.wire(), line.asked.times) == (frame("a"), 1)
        assert line.queue._dropped_off == ["c", "d"]
        line.queue.flush()
        assert line.wire() == b"".join(map(frame, "abcd"))
        line.queue._last_write = -math.inf
        line.push("e")
        assert line.wire().endswith(frame("e"))

    def test_large_ones_that_follow_are_queued_until_enough_have_gathered(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sendqueue, "FOLLOWS_SECONDS", 1e9)
        monkeypatch.setattr(sendqueue, "GATHER_SECONDS", 1e9)
        line, messages = make(gather=True), ["a", b"b" * LARGE, "c" * LARGE, "d"]
        for message in messages:
            assert line.push(message)
        queue = line.queue
        assert (line.wire(), line.asked.times) == (frame("a"), 1)
        assert [*queue._outgoing.items[1:], *queue._dropped_off] == messages[1:]
        assert queue.waiting_bytes == len(frame(messages[1]) + frame(messages[2]))
        while queue.messages_sent == 1:
            messages.append("e" * LARGE)
            assert line.push(messages[-1])
        assert sum(map(len, messages)) >= GATHER_BYTES
        while queue.messages_sent < len(messages):
            line.ends.taken()
            queue.flush()
        assert line.wire() == b"".join(map(frame, messages))

    def test_while_the_kernel_is_full_messages_wait_up_to_the_limit(self, make: Make) -> None:
        line = make(is_narrow=True, limit=200_000)
        while not line.queue.is_blocked:
            line.push("x" * 4000)
        asked, waiting, sizes = line.asked.times, line.queue.waiting_bytes, [LARGE, 1, LARGE]
        for size in sizes:
            assert line.push("y" * size)
            waiting += len(frame("y" * size))
            assert line.queue.waiting_bytes == waiting
        for size in (200_001 - waiting, 2 * LARGE):
            with pytest.raises(QueueFull, match="the queue is full"):
                line.push(b"z" * size)
        assert line.push(b"z" * (200_000 - waiting))
        assert line.asked.times == asked
        assert line.queue.finish()[-4:] == (*("y" * size for size in sizes), b"z" * (200_000 - waiting))

    def test_the_sender_writes_when_the_oldest_one_has_waited_for_long(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sendqueue, "FOLLOWS_SECONDS", 1e9)
        monkeypatch.setattr(sendqueue, "GATHER_SECONDS", -1.0)
        line = make(gather=True)
        for text in "abc":
            line.push(text)
        assert line.wire() == b"".join(map(frame, "abc"))

    def test_taps_are_told_before_it_is_sent(self, make: Make) -> None:
        line = make()
        line.push("a")
        line.taps.append(line.told.append)
        line.push("b")
        assert line.told == [("b",)]
        assert line.wire() == frame("a") + frame("b")

    def test_as_many_are_kept_as_of_all_others(self, make: Make) -> None:
        line = make()
        for number in range(2 * KEPT_ITEMS + 10):
            line.push(str(number))
            line.wire()
        assert line.queue.messages_sent == 2 * KEPT_ITEMS + 10
        line.queue.finish()
        doubts = line.queue.doubts
        assert doubts is not None
        assert doubts.messages == tuple(map(str, range(KEPT_ITEMS, 2 * KEPT_ITEMS + 10)))
        assert doubts.omitted == KEPT_ITEMS

    def test_no_masking_key_is_used_twice(self) -> None:
        count = 0

        def source(size: int) -> bytes:
            nonlocal count
            count += 1
            return b"".join((count * 10_000 + number).to_bytes(4, "big") for number in range(size // 4))

        line = Line(sendqueue.push_small is not None, gather=False)
        line.queue._keys = keys = MaskKeys(source)  # type: ignore[assignment]  # there are keys
        line.queue._outgoing._pack = Sender(keys=keys).pack
        for _ in range(100):
            line.push("x")
            line.wire()
        wire = line.wire()
        seen = [wire[start + 2 : start + 6] for start in range(0, len(wire), 7)]
        line.ends.close()
        assert len(seen) == len(set(seen)) == 100
        assert count == 4  # of 8, 16, 32 and 64 keys


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="opcodes are others there")
class TestInterruptions:
    def test_wherever_ctrl_c_strikes_nothing_is_locked_or_sent_twice(self, make: Make) -> None:
        point, struck = 0, True
        while struck:
            point += 1
            line = make()
            struck = interrupt(lambda line=line: line.push("message"), point, FILES)  # type: ignore[misc]
            queue = line.queue
            assert not queue._lock.locked(), point
            queue.flush()
            queue.flush()
            unsent = queue.finish()
            assert queue.doubts is not None
            wire = line.ends.whole()
            in_doubt = queue.doubts.messages.count("message")
            assert wire.count(b"message") <= 1, point
            assert in_doubt + unsent.count("message") <= 1, point
            if b"message" in wire:
                assert in_doubt == 1, point  # the user is not told that it was not sent
            assert struck or b"message" in wire, point
        assert point > 10 or line.push_small is not None

    @needs_compiled
    @pytest.mark.parametrize("is_reset", [False, True], ids=["full", "reset"])
    def test_wherever_ctrl_c_strikes_the_loop_learns_that_the_kernel_is_full_or_the_network_has_failed(
        self, is_reset: bool
    ) -> None:
        point, struck = 0, True
        while struck:
            point += 1
            line = Line(True, is_narrow=True, gather=False)
            if is_reset:
                line.ends.reset()

            def push(line: Line = line) -> None:
                assert line.push_small is not None
                while not line.queue.is_blocked:
                    line.push("x" * 4000)

            try:
                struck = interrupt(push, point, FILES)
            except TransportFail:
                struck = False
            queue = line.queue
            line.ends.close()
            # Usually the last message is taken in part. If not, it takes the path of all others.
            assert line.asked.times or not (queue.is_blocked or queue.failure), point
            assert not queue._lock.locked(), point
            assert (queue.failure is not None) == is_reset, point
            assert len(queue.finish()) >= queue.is_blocked, point
        assert point > 2

    @pytest.mark.parametrize("inner", ["push", "large", "flush", "numbers"])
    def test_a_call_that_interrupts_at_any_bytecode_returns_and_nothing_is_lost(
        self, make: Make, inner: str
    ) -> None:
        nested: dict[str, Callable[[Line], object]] = {
            "push": lambda line: line.push("<inner>"),
            "large": lambda line: line.push(f"<{'inner' * 200}>"),
            "flush": lambda line: line.queue.flush(by_loop=False),
            "numbers": lambda line: (line.queue.messages_sent, line.queue.dropped, line.queue.waiting_bytes),
        }
        point, got_there = 0, True
        while got_there:
            point += 1
            line = make()
            got_there = enter(
                lambda line=line: line.queue.push("<outer>", 7),  # type: ignore[misc]
                point, FILES,
                lambda line=line: nested[inner](line),  # type: ignore[misc]
            )
            for _ in range(3):
                line.queue.flush()
            assert line.queue.finish() == (), point
            wire = line.ends.whole()
            assert wire.count(b"<outer>") == 1, point
            if inner in ("push", "large"):
                assert wire.count(b"inner>") == got_there, point
            assert line.queue._outgoing.size == 0, point
        assert point > 20


def test_while_another_thread_holds_the_lock_nothing_is_sent_past_it(make: Make) -> None:
    line = make()
    with line.queue._lock:
        assert line.push("later")
        assert line.queue.bytes_sent == 0
    assert line.push("now")
    assert line.wire() == frame("later") + frame("now")


@needs_compiled
class TestOneStep:
    def test_only_small_plain_messages_are_taken(self) -> None:
        line = Line(True, gather=False)
        assert sendqueue.push_small is not None
        for message in ("x" * DROP_OFF_BYTES, b"x" * DROP_OFF_BYTES):
            assert sendqueue.push_small(line.queue, message) is True
            line.wire()

        class Text(str):
            __slots__ = ()

        large = "x" * (DROP_OFF_BYTES + 1)
        others: list[Any] = [large, large.encode(), "é", Text("x"), bytearray(1), 1]
        for other in others:
            assert sendqueue.push_small(line.queue, other) is None
        assert line.queue.messages_sent == 2
        line.ends.close()

    def test_messages_are_queued_in_one_step_only_if_that_is_all_there_is_to_do(self) -> None:
        line = gathering_line()
        assert line.push_small is not None
        queue, out, large = line.queue, line.queue._outgoing, b"x" * LARGE
        assert line.push_small(queue, large) is True
        # Each of these is the reason why the others have to decide.
        others: list[tuple[object, str, object]] = [
            (queue, "_asked", False), (queue, "_corks", [None]), (queue, "_dropped_off", ["a"]),
            (queue, "_due", -math.inf), (queue, "_gather_bytes", out.size + LARGE + 14),
            (queue, "_gathering", False), (queue, "_is_shut", True), (queue, "_limit", out.size + LARGE),
            (queue, "_plain_bytes", LARGE), (queue, "_writer", []), (out, "extra", queue._limit),
            (out, "plans", True), (out, "raw", ["a"]),
        ]
        for owner, name, value in others:
            usual = getattr(owner, name)
            setattr(owner, name, value)
            assert line.push_small(queue, large) is None, name
            setattr(owner, name, usual)
        with queue._lock:
            assert line.push_small(queue, large) is None
        assert (len(out.items), out.size) == (3, len(frame("b") + frame(large)))
        line.ends.close()

    @pytest.mark.parametrize("slot", [
        "_asked", "_due", "_gather_bytes", "_is_shut", "_limit", "_lock", "_outgoing", "_plain_bytes",
    ])
    def test_a_queue_that_the_collector_is_taking_apart_queues_nothing(self, slot: str) -> None:
        line = gathering_line()
        delattr(line.queue, slot)
        assert line.push_small is not None
        assert line.push_small(line.queue, b"x" * LARGE) is None
        line.ends.close()

    def test_without_memory_a_message_is_not_queued_and_nothing_is_counted(self) -> None:
        failing = pytest.importorskip("_testcapi", reason="a Python without the parts for its own tests")
        line, large, queued, failures = gathering_line(), b"x" * LARGE, 1, 0
        out = line.queue._outgoing
        assert line.push_small is not None
        line.queue._gather_bytes = sys.maxsize
        while queued < 200:
            # Five, since some Pythons ask for memory only when a list grows, at multiples of four.
            for succeeding in range(5):
                failing.set_nomemory(succeeding, 0)
                try:
                    line.push_small(line.queue, large)
                    queued += 1
                except MemoryError:
                    failures += 1
                finally:
                    failing.remove_mem_hooks()
                assert len(out.items) == queued + 1
                assert out.size == len(frame("b")) + (queued - 1) * len(frame(large))
        assert failures > 1
        line.ends.close()

    @pytest.mark.parametrize("arguments", [(), (1,), (None, "x", 1)])
    def test_other_arguments_are_refused(self, arguments: tuple[Any, ...]) -> None:
        assert sendqueue.push_small is not None
        with pytest.raises(TypeError, match="push_small"):
            sendqueue.push_small(*arguments)

    def test_a_queue_that_is_being_made_takes_nothing(self) -> None:
        assert sendqueue.push_small is not None
        assert sendqueue.push_small(SendQueue.__new__(SendQueue), "x") is None

    def test_classes_without_the_slots_are_refused_and_nothing_changes(self) -> None:
        from lochws.connection import _small

        for classes in ((SendQueue, int, MaskKeys), (int, outgoing.Outgoing, MaskKeys), (1, 2, 3)):
            with pytest.raises((TypeError, AttributeError)):
                _small.configure(*classes, 1, float, int)
        line = Line(True, gather=False)
        assert line.push_small is not None
        assert line.push_small(line.queue, "x") is True
        line.ends.close()

    @pytest.mark.parametrize("slot", ["_dropped_off", "_follows", "_keys", "_lock", "_outgoing"])
    def test_a_queue_that_the_collector_is_taking_apart_takes_nothing(self, slot: str) -> None:
        line = Line(True, gather=False)
        delattr(line.queue, slot)
        assert line.push_small is not None
        assert line.push_small(line.queue, "x") is None
        line.ends.close()

    def test_no_method_of_the_users_socket_runs_between_the_checks_and_the_records(self) -> None:
        class Own(socket.socket):
            """Has a dictionary, so its instances may have a `fileno` of their own."""

        line = Line(True, gather=False)
        own = Own(fileno=line.ends.ours.detach())
        own.fileno = lambda: line.queue.flush() or -1  # type: ignore[method-assign,func-returns-value]
        line.queue._socket = own
        assert line.push_small is not None
        assert line.push_small(line.queue, "x") is True
        assert line.ends.taken(7) == frame("x")
        own.close()
        line.ends.close()

    def test_without_memory_for_the_rest_nothing_follows_a_part_of_a_frame(self) -> None:
        failing = pytest.importorskip("_testcapi", reason="a Python without the parts for its own tests")
        for succeeding in range(20):
            line = Line(True, is_narrow=True, gather=False)
            whole, push_small = b"", line.push_small
            assert push_small is not None
            error: BaseException | None = None
            while error is None and not line.queue.is_blocked:
                whole = b"x" * 4096
                failing.set_nomemory(succeeding, 0)
                try:
                    push_small(line.queue, whole)
                except (MemoryError, TransportFail) as caught:
                    error = caught
                finally:
                    failing.remove_mem_hooks()
                if not line.queue._is_unsure and not line.queue.is_blocked:
                    error = None
                    line.queue.push(whole, len(whole))
            if error is not None:
                with pytest.raises((TransportFail, WebSocketClosed)):
                    line.queue.push("after", 5)
                assert frame("after") not in line.ends.whole()
            line.ends.close()


def test_a_connection_sends_on_when_the_module_was_reloaded() -> None:
    script = """
from importlib import reload
from lochws.connection import sendqueue
from tests.support.queues import Sink, make_queue
sink = Sink()
queue, usual = make_queue(sink), sendqueue.push_small
reload(sendqueue)
print(usual and usual(queue, "x"), queue.push("x", 1), len(sink.taken))
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout == "None True 7\n"


def test_with_a_clock_in_python_all_messages_take_the_same_path() -> None:
    script = """
import time
usual = time.monotonic
time.monotonic = lambda: usual()
from lochws.connection import sendqueue
print(sendqueue.push_small)
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout == "None\n"


def refuse(line: Line) -> None:
    queue, usual = line.queue, line.queue._stream
    queue._stream = Sink(room=0)
    queue.flush()
    queue._stream = usual


def untap(line: Line) -> None:
    line.taps.clear()


def lone(line: Line) -> None:
    line.queue._last_write = -math.inf


OTHERS: dict[str, Callable[[Line], object]] = {
    "cork": lambda line: line.queue.cork(),
    "uncork": lambda line: line.queue._corks and line.queue.uncork(),  # type: ignore[func-returns-value]  # no matter
    "flush": lambda line: line.queue.flush(),
    "the kernel is full": refuse,
    "put urgent": lambda line: line.queue.put_urgent(b"\x89\x80\0\0\0\0"),
    "close": lambda line: line.queue.push_control(bytes, b"\x88\x80\0\0\0\0", seal=True),
    "push item": lambda line: line.queue.push_item((frame("item"), 1), 4),
    "tap": lambda line: line.taps.append(line.told.append),
    "untap": untap,
    "the next one does not follow closely": lone,
}
MESSAGES = ["", "a", "b" * 125, "c" * 126, "d" * 4096, "e" * 4097, b"", b"f", b"g" * 130, b"h" * LARGE]


@needs_compiled
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*MESSAGES, *OTHERS.values()]), max_size=25), st.booleans(),
    st.sampled_from([1 << 24, 150_000]),
)
def test_whatever_happens_both_ways_lead_to_the_same_state(
    actions: list[Any], gathers: bool, limit: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sendqueue, "FOLLOWS_SECONDS", 1e9)
        patch.setattr(sendqueue, "GATHER_SECONDS", 1e9)
        one, other = (list(states_after(actions, is_direct, gathers, limit)) for is_direct in (True, False))
    assert one == other


def states_after(actions: list[Any], is_direct: bool, gathers: bool, limit: int) -> Iterator[object]:
    """Yield what is known of a queue after each of some actions, and finally what arrived."""
    line = Line(is_direct, gather=gathers, limit=limit)
    queue, out = line.queue, line.queue._outgoing
    for action in actions:
        error = None
        try:
            if callable(action):
                action(line)
            else:
                line.push(action)
        except WebSocketError as caught:
            error = str(caught)
        line.wire()
        yield error, queue._last_write == -math.inf
        yield [*out.items], out._start, out._end * bool(out.rest), out.size, bytes(out.rest), out.bytes_sent
        yield out.messages_sent, out._completed, out._base, [*queue._dropped_off], queue._drop_off_limit
        yield queue._gathering, queue.is_blocked, queue._writer, line.asked.times, [*line.told]
    yield queue.finish(), queue.doubts
    yield line.ends.whole()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one, other


class TestStreams:
    def test_a_plain_stream_lends_its_socket_where_calls_hold_the_gil(
        self, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream = Stream(pair[0])
        expected = None if syscalls.send is syscalls.send_python else pair[0]
        assert stream.direct_socket() is expected
        monkeypatch.setattr(stream, "_send", syscalls.send_python)
        assert stream.direct_socket() is None

    def test_a_stream_of_another_class_does_not(self, pair: tuple[socket.socket, socket.socket]) -> None:
        class Own(Stream):
            pass

        assert Own(pair[0]).direct_socket() is None
