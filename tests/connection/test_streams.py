"""Streams in the send queue: one at a time is sent, in fragments, and other messages wait behind it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest

from lochws.clock import SYSTEM
from lochws.connection import compression, outgoing, room, sending, sendqueue
from lochws.connection.paced import Budget
from lochws.connection.receipts import Receipt, ReceiptState
from lochws.connection.sending import SendingHalf
from lochws.connection.sendqueue import SendQueue
from lochws.connection.window import SlidingWindow
from lochws.errors import QueueFull, TransportFail, WebSocketClosed, WebSocketClosing, WebSocketError
from lochws.options import Deflate, Options
from lochws.protocol import fragmenter
from lochws.protocol.deflate import DeflateParameters
from lochws.protocol.frames import frame_end
from lochws.sent import ControlFrame, Sent, Streamed

from ..support.interrupting import interrupt
from ..support.queues import Clock, Sink
from ..support.seen import PATIENCE, eventually
from .test_fragments import Server

FILES = {
    module.__file__ for module in (compression, fragmenter, outgoing, room, sending, sendqueue)
}


class Line(Sink):
    """A sink as a connection has it."""

    def is_behind(self) -> bool:
        return False

    def direct_socket(self) -> None:
        return None


class Half:
    """A sending half with fragments of 10 bytes, and what its server reads."""

    def __init__(self, room: int | None = None, *, compress: bool = False, **options: Any) -> None:
        self.sink, self.read, self.asked = Line(room), 0, 0
        self.told: list[Sent] = []
        self.server = Server(compress)
        self.half = SendingHalf(
            self.sink, Options(**{"fragment": 10, "deflate": Deflate(threshold=0), **options}),
            DeflateParameters() if compress else None,
            ask_flush=self._asked, may_block=lambda: True, gather=False, trace=None, clock=SYSTEM,
            taps=[self.told.extend],
        )
        self.queue = self.half.queue

    def _asked(self, _flush: object) -> None:
        self.asked += 1

    def stream(self, chunks: Iterator[Any] | list[Any], **options: Any) -> bool | Receipt:
        given = {"text": False, "compress": True, "receipt": False, **options}
        return self.half.send_stream(iter(chunks), **given)

    def messages(self) -> list[str | bytes]:
        """Return what the server has read, up to the Close frame."""
        taken = self.sink.taken
        while self.read < len(taken) and taken[self.read] != 0x88:
            end = frame_end(taken, self.read)
            self.server.read(taken[self.read : end])
            self.read = end
        return self.server.messages


class Streaming:
    """A stream on a thread of its own, which sends the chunks that a test gives it."""

    def __init__(self, half: Half, **options: Any) -> None:
        self._chunks: list[bytes] = []
        self._more, self._taken = threading.Semaphore(0), threading.Semaphore(0)
        self.outcome: object = None
        self._thread = threading.Thread(target=self._run, args=(half, options))
        self._thread.start()

    def _run(self, half: Half, options: dict[str, Any]) -> None:
        try:
            self.outcome = half.stream(self._produced(), **options)
        except Exception as error:  # noqa: BLE001  the test looks at it
            self.outcome = error

    def _produced(self) -> Iterator[bytes]:
        self._taken.release()
        while self._more.acquire(timeout=PATIENCE) and self._chunks:
            yield self._chunks.pop(0)
            self._taken.release()

    def begun(self) -> Streaming:
        assert self._taken.acquire(timeout=PATIENCE)
        return self

    def give(self, chunk: bytes, *, is_taken: bool = True) -> None:
        """Pass a chunk on, and wait until the next one is wanted."""
        self._chunks.append(chunk)
        self._more.release()
        if is_taken:
            assert self._taken.acquire(timeout=PATIENCE)

    def end(self) -> object:
        self._more.release()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.outcome


def test_a_stream_is_one_message_in_fragments() -> None:
    half = Half()
    assert half.stream([b"0123", bytes(30), b"4567"]) is True
    assert half.messages() == [b"0123" + bytes(30) + b"4567"]
    assert half.sink.taken[0] == 0x02
    assert half.queue.messages_sent == 1
    assert half.told == [Streamed("binary", 38)]
    assert half.queue.finish() == ()


@pytest.mark.parametrize("compress", [False, True])
def test_other_messages_wait_behind_it_in_order(compress: bool) -> None:
    half = Half(compress=compress)
    stream = Streaming(half).begun()
    stream.give(bytes(range(35)))
    half.half.send_text("one", True)
    half.half.send_binary(bytes(40), True)
    half.half.send_many(["two", "three"], False)
    half.half.send_text("grüße", True)
    assert half.messages() == []
    stream.give(b"end")
    assert stream.end() is True
    half.queue.flush()
    whole = bytes(range(35)) + b"end"
    assert half.messages() == [whole, "one", bytes(40), "two", "three", "grüße"]
    assert half.stream([b"again"])
    assert half.messages()[-1] == b"again"


def test_control_frames_do_not_wait() -> None:
    half = Half()
    stream = Streaming(half).begun()
    stream.give(bytes(15))
    half.half.send_pong(b"mine")
    half.half.pong(b"automatic")
    half.queue.flush()
    half.messages()
    assert half.server.pongs == [b"mine", b"automatic"]
    assert half.told == [ControlFrame("pong", b"mine"), ControlFrame("pong", b"automatic")]
    stream.end()
    assert half.messages() == [bytes(15)]


def test_close_waits_for_its_end() -> None:
    half = Half()
    stream = Streaming(half).begun()
    stream.give(bytes(15))
    half.half.send_text("behind", False)
    half.half.close(1000, "bye", overtakes=False)
    assert not half.queue.is_close_taken
    with pytest.raises(WebSocketClosing):
        half.half.send_text("too late", False)
    stream.give(bytes(15))
    assert stream.end() is True
    half.queue.flush()
    assert half.queue.is_close_taken
    assert half.sink.taken.find(b"\x88") > 0
    assert half.queue.finish() == ()


@pytest.mark.parametrize("is_closing", [False, True], ids=["at once", "later"])
def test_a_close_frame_that_overtakes_cuts_it_off(is_closing: bool) -> None:
    half = Half()
    stream = Streaming(half).begun()
    stream.give(bytes(15))
    half.half.send_text("behind", False)
    half.half.close(1000, "bye", overtakes=not is_closing)
    if is_closing:
        half.queue.overtake()
    assert half.queue.is_close_taken
    stream.give(bytes(15), is_taken=False)
    assert isinstance(stream.end(), WebSocketClosing)
    assert half.messages() == []
    assert half.queue.finish() == ("behind",)
    assert half.queue.doubts is not None
    assert half.queue.doubts.messages == ()
    assert half.queue.doubts.omitted == 0


class TestFailing:
    def test_an_iterable_that_raises_ends_the_connection_with_1011(self) -> None:
        def chunks() -> Iterator[bytes]:
            yield bytes(25)
            raise OSError("disk full")

        half = Half()
        with pytest.raises(OSError, match="disk full"):
            half.stream(chunks())
        assert half.asked
        half.half.send_owed_close()
        assert half.half.close_sent is not None
        assert half.half.close_sent.code == 1011
        assert half.queue.is_close_taken
        assert half.queue.finish() == ()
        assert half.queue.messages_sent == 0

    def test_without_progress_it_ends_the_same_way(self) -> None:
        half = Half(room=5, send_timeout=0.05)
        with pytest.raises(QueueFull, match=r"no room became free within 0\.05 s"):
            half.stream([bytes(5_000_000)])
        assert half.queue.waiting_bytes < 2_000_000
        half.half.send_owed_close()
        assert half.half.close_sent is not None

    @pytest.mark.parametrize("is_lost", [False, True], ids=["ended", "lost"])
    def test_the_end_of_the_connection_is_told_at_once(self, is_lost: bool) -> None:
        half = Half(room=5)
        stream = Streaming(half).begun()
        half_size = 3_000_000
        stream.give(bytes(half_size), is_taken=False)
        eventually(lambda: half.queue._room.streaming == 1)
        if is_lost:
            half.sink.error = OSError("reset")
            half.queue.flush()
        else:
            half.queue.finish()
        assert isinstance(stream.end(), TransportFail if is_lost else WebSocketClosed)

    @pytest.mark.parametrize("compress", [False, True])
    def test_empty_chunks_do_not_hide_the_end_of_the_connection(self, compress: bool) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"begin" * (not compress)
            half.queue.finish()
            end = monotonic() + PATIENCE
            while monotonic() < end:
                yield b""
            raise AssertionError("asked for chunks after the end")

        half = Half(compress=compress)
        with pytest.raises(WebSocketClosed, match="the connection has ended"):
            half.stream(chunks())

    def test_a_close_that_follows_is_replaced_by_1011(self) -> None:
        half = Half()
        with pytest.raises(TypeError):
            half.stream([b"right", 5])
        half.half.request_close(1000, "goodbye")
        half.half.send_owed_close()
        assert half.half.close_sent is not None
        assert half.half.close_sent.code == 1011
        assert half.queue.is_close_taken

    def test_a_chunk_of_the_wrong_type_ends_it_too(self) -> None:
        half = Half()
        with pytest.raises(TypeError, match="not str"):
            half.stream([b"right", "wrong"])
        half.half.send_owed_close()
        assert half.half.close_sent is not None


class TestOtherStreams:
    def test_raise_refuses_another_one(self) -> None:
        half = Half()
        stream = Streaming(half).begun()
        with pytest.raises(QueueFull, match="another stream is being sent"):
            half.stream([b"x"])
        stream.end()
        assert half.stream([b"x"]) is True

    def test_drop_discards_another_one(self) -> None:
        half = Half(when_full="drop")
        stream = Streaming(half).begun()
        assert half.stream([b"x"]) is False
        receipt = half.stream([b"x"], receipt=True)
        assert isinstance(receipt, Receipt)
        assert receipt.state == ReceiptState.UNSENT
        assert half.queue.dropped == 2
        assert stream.end() is True

    def test_block_lets_it_wait_for_its_turn(self) -> None:
        half = Half(when_full="block")
        first = Streaming(half).begun()
        second = Streaming(half)
        eventually(lambda: half.queue._room.streaming == 1)
        first.give(b"first")
        assert first.end() is True
        second.begun().give(b"second")
        assert second.end() is True
        assert half.messages() == [b"first", b"second"]

    def test_block_waits_for_a_limited_time(self) -> None:
        half = Half(when_full="block", send_timeout=0.05)
        first = Streaming(half).begun()
        with pytest.raises(QueueFull, match=r"still being sent after 0\.05 s"):
            half.stream([b"x"])
        first.end()

    def test_no_thread_waits_for_itself(self) -> None:
        half = Half(when_full="block", send_timeout=None, max_queue=100)
        refused: list[str] = []

        def chunks() -> Iterator[bytes]:
            yield b"one"
            for send in (lambda: half.stream([b"x"]), lambda: half.half.send_binary(bytes(60), False)):
                with suppress(QueueFull):
                    send()
                    send()
                    refused.append("nothing")
                refused.append(str(sys.exc_info()[1]))
            yield b"two"

        assert half.stream(chunks()) is True
        half.queue.flush()
        assert half.messages() == [b"onetwo", bytes(60)]
        assert "nothing" not in refused


class TestWhatIsKnown:
    def test_receipts_of_a_stream_and_of_what_waits_behind_it_are_confirmed_in_order(self) -> None:
        half = Half()
        pings: list[bytes] = []
        stream = Streaming(half, receipt=True).begun()
        stream.give(bytes(45))
        behind = half.half.send_with_receipt(["behind"], False)
        assert behind.state == ReceiptState.QUEUED
        stream.give(bytes(45))
        own = stream.end()
        assert isinstance(own, Receipt)
        half.queue.flush()
        assert (own.state, behind.state) == (ReceiptState.WRITTEN, ReceiptState.WRITTEN)
        pings = [one.data for one in half.told if isinstance(one, ControlFrame)]
        assert len(pings) == 2
        assert half.queue.answered(pings[0]) == [own]
        assert half.queue.answered(pings[1]) == [behind]

    def test_a_stream_that_was_cut_off_is_unsent_and_a_whole_one_in_doubt(self) -> None:
        half = Half()
        whole = half.stream([bytes(95)], receipt=True)
        stream = Streaming(half, receipt=True).begun()
        stream.give(bytes(95))
        half.queue.finish()
        stream.give(b"more", is_taken=False)
        assert isinstance(stream.end(), WebSocketClosed)
        assert half.queue.doubts is not None
        assert half.queue.doubts.messages == ()
        assert half.queue.doubts.omitted == 1
        states = [state for _, state in half.queue.doubts.receipts]
        assert half.queue.doubts.receipts[0][0] is whole
        assert states == [ReceiptState.IN_DOUBT, ReceiptState.UNSENT]

    def test_fragments_are_not_counted_as_messages_in_doubt(self) -> None:
        half = Half(fragment=200_000)
        for _ in range(5):
            half.stream([bytes(1_900_000)])
        half.half.send_text("last", False)
        half.queue.finish()
        assert half.queue.doubts is not None
        assert half.queue.doubts.messages == ("last",)
        assert half.queue.doubts.omitted == 5


@pytest.mark.parametrize("counts_frames", [False, True], ids=["messages", "frames"])
def test_a_budget_holds_for_streams(counts_frames: bool) -> None:
    half, clock = Half(), Clock()
    budget = Budget(SlidingWindow(1, 1.0), counts_frames, clock)
    queue = half.half.queue = half.queue = SendQueue(
        half.sink, pack=half.half._sender.pack, bound=room.Bound(1 << 20), ask_flush=lambda _flush: None,
        budget=budget, window=100,
    )
    queue.push("first", 5)
    stream = Streaming(half).begun()
    stream.give(bytes(25))
    first = len(b"first") + 6
    assert len(half.sink.taken) == first + (0 if counts_frames else 2 * 16)
    ender = threading.Thread(target=stream.end)
    ender.start()
    eventually(lambda: queue._room.streaming == 1)
    for turn in range(1, 4):
        clock.now += 1.1
        queue.flush()
        assert len(half.sink.taken) == first + (min(turn * 16, 43) if counts_frames else 43)
    ender.join(PATIENCE)
    assert stream.outcome is True
    assert half.messages() == ["first", bytes(25)]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="opcodes are others there")
@pytest.mark.parametrize("compress", [False, True])
def test_wherever_ctrl_c_strikes_the_stream_is_whole_or_the_connection_ends(compress: bool) -> None:
    point, struck = 0, True
    while struck:
        point += 1
        half = Half(compress=compress)
        struck = interrupt(lambda half=half: half.stream([bytes(12), b"x" * 12]), point, FILES)  # type: ignore[misc]
        assert not half.queue._lock.locked(), point
        with suppress(WebSocketError):
            half.half.send_text("after", False)
        half.half.send_owed_close()
        for _ in range(5):
            half.queue.flush()
        messages = half.messages()
        is_ended = half.half.close_sent is not None or half.queue.failure is not None
        assert is_ended or messages[-1] == "after", point
        assert is_ended or messages in ([bytes(12) + b"x" * 12, "after"], ["after"]), point
        unsent = half.queue.finish()
        assert [*messages, *unsent].count("after") <= 1, point
    assert point > 50


