"""The send queue at its bound, and at its end: who is refused, who waits, and what is reported as unsent."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lochws.base.records import changed
from lochws.connection.sendqueue import SendQueue
from lochws.errors import QueueFull, TransportFail, WebSocketClosed, WebSocketClosing
from lochws.protocol.sender import Sender
from lochws.system.waits import Waiters

from ..support.queues import Asked, Clock, Sink, blocked_queue, make_queue, push, push_quietly
from ..support.seen import PATIENCE


class TestWhenFull:
    def test_raise_refuses_the_message_and_says_how_full_it_is(self) -> None:
        sink = Sink()
        queue = blocked_queue(sink, limit=10)
        push(queue, "12345")
        with pytest.raises(QueueFull, match=r"10 bytes wait, 1 more exceed max_queue=10"):
            push(queue, "6")
        sink.room = None
        queue.flush()
        push(queue, "7")
        queue.flush()
        assert sink.taken == b"first123457"

    def test_a_message_over_the_limit_is_admitted_when_nothing_else_waits(self) -> None:
        sink = Sink(room=0)
        queue = make_queue(sink, limit=10)
        assert push(queue, "x" * 100)
        assert queue._outgoing.pending == 100

    def test_drop_discards_the_message_and_counts_it(self) -> None:
        sink = Sink()
        queue = blocked_queue(sink, limit=5, when_full="drop")
        assert not push(queue, "no")
        assert queue.dropped == 1
        sink.room = None
        queue.flush()
        assert push(queue, "yes")
        queue.flush()
        assert sink.taken == b"firstyes"
        assert queue.messages_sent == 2

    def test_control_frames_of_the_protocol_are_always_admitted(self) -> None:
        sink = Sink()
        queue = blocked_queue(sink, limit=5)
        assert queue.push_control(bytes, b"CLOSE")
        sink.room = None
        queue.flush()
        assert sink.taken == b"firstCLOSE"

    def test_block_is_refused_to_those_who_must_not_wait(self) -> None:
        queue = blocked_queue(Sink(), limit=5, when_full="block", may_block=lambda: False)
        with pytest.raises(QueueFull, match="a handler cannot wait"):
            push(queue, "x")

    def test_block_ends_with_its_time(self) -> None:
        queue = blocked_queue(Sink(), limit=5, when_full="block", send_timeout=0.01)
        with pytest.raises(QueueFull, match=r"no room became free within 0\.01 s"):
            push(queue, "x")

    def test_block_ends_when_there_is_room(self) -> None:
        sink = Sink()
        queue = blocked_queue(sink, limit=5, when_full="block", send_timeout=10)
        waiter = Waiter(queue, "later")
        sink.room = None
        queue.flush()
        assert waiter.outcome() is True
        queue.flush()
        assert sink.taken == b"firstlater"

    def test_who_waits_is_told_when_a_part_of_the_queue_is_free(self) -> None:
        # Not for each message that has left: waking somebody costs more than that.
        class LogListener(Waiters):
            times = 0

            def notify_all(self) -> None:
                self.times += 1
                super().notify_all()

        sink = Sink()
        queue = blocked_queue(sink, limit=800, when_full="block", send_timeout=10)
        told = queue._changed = queue._room._changed = LogListener(queue._lock)
        for _ in range(8):
            push(queue, "x" * 99)
        waiter = Waiter(queue, "y" * 10)
        sink.room = 90
        queue.flush()
        assert told.times == 0
        sink.room = 7  # and just an eighth is
        queue.flush()
        assert told.times == 1
        assert waiter.outcome() is True

    def test_block_ends_when_the_connection_ends(self) -> None:
        queue = blocked_queue(Sink(), limit=5, when_full="block", send_timeout=10)
        waiter = Waiter(queue, "never")
        assert queue.finish() == ("first",)
        assert isinstance(waiter.outcome(), WebSocketClosed)

    def test_block_ends_when_the_network_fails(self) -> None:
        sink = Sink()
        queue = blocked_queue(sink, limit=5, when_full="block", send_timeout=10)
        waiter = Waiter(queue, "never")
        sink.error = BrokenPipeError("gone")
        queue.flush()
        assert isinstance(waiter.outcome(), WebSocketClosed)

    def test_block_ends_when_our_close_frame_is_queued(self) -> None:
        sender = Sender()
        queue = blocked_queue(Sink(), limit=5, when_full="block", send_timeout=10)
        waiter = Waiter(queue, "never")
        assert queue.push_control(sender.close, 1000, "bye", seal=True)
        assert isinstance(waiter.outcome(), WebSocketClosing)
        assert queue.finish() == ("first",)

    @pytest.mark.parametrize("when_full", ["raise", "block", "drop"])
    def test_behind_our_close_frame_a_queue_is_not_called_full(self, when_full: str) -> None:
        sender = Sender()
        queue = blocked_queue(Sink(), limit=5, when_full=when_full, send_timeout=10)
        assert queue.push_control(sender.close, 1000, "bye", seal=True)
        with pytest.raises(WebSocketClosing):
            queue.push("x", 1)
        with pytest.raises(WebSocketClosing):
            queue.push_item((b"x", "x"), 1)
        with pytest.raises(WebSocketClosing):
            queue.push_many([(b"x", "x")], 1)
        assert queue.dropped == 0

    @pytest.mark.parametrize("when_full", ["raise", "block", "drop"])
    def test_a_connection_that_has_failed_is_not_called_full(self, when_full: str) -> None:
        sink = Sink()
        queue = blocked_queue(sink, limit=5, when_full=when_full, send_timeout=0.01)
        sink.error = BrokenPipeError("gone")
        queue.flush()
        with pytest.raises(WebSocketClosed, match="the connection is lost; gone"):
            push(queue, "x")


class Waiter:
    """A thread that pushes into a full queue, and waits in it when this is made."""

    def __init__(self, queue: SendQueue, text: str) -> None:
        self._outcome: object = None
        asked = threading.Event()

        def may_block() -> bool:
            asked.set()
            return True

        def run() -> None:
            try:
                self._outcome = push(queue, text)
            except Exception as error:  # noqa: BLE001  it is looked at by the test
                self._outcome = error

        queue._room._bound = changed(queue._room._bound, may_block=may_block)
        self._thread = threading.Thread(target=run)
        self._thread.start()
        # The thread asks whether it may wait with the lock held, and lets it go only by waiting.
        assert asked.wait(PATIENCE)
        with queue._lock:
            assert queue._room.waiting == 1

    def outcome(self) -> object:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self._outcome


class TestFailing:
    def test_the_sender_whose_write_fails_is_told_and_nobody_else_is_surprised(self, clock: Clock) -> None:
        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked)
        push(queue, "sent")
        push(queue, "gathered")
        clock.now += 1
        sink.error = ConnectionResetError("reset")
        with pytest.raises(TransportFail, match="connection lost: reset"):
            push(queue, "refused")
        assert asked.times == 2  # for the gathered message, and for the failure
        assert queue.failure is sink.error
        # "gathered" was accepted, so it is reported; "refused" was given back to its sender.
        assert queue.finish() == ("gathered",)
        assert queue.messages_sent == 1

    def test_of_many_of_which_one_was_sent_whole_the_others_are_unsent(self) -> None:
        class FailingLater(Sink):
            def send(self, data: bytes | memoryview) -> int:
                taken = super().send(data)
                self.error = ConnectionResetError("reset")
                return taken

        queue = make_queue(FailingLater())
        one, two = b"1" * 200_000, b"2" * 200_000  # more than one batch
        assert queue.push_many([one, two], 400_000)
        assert queue.finish() == (two,)
        assert queue.messages_sent == 1

    def test_a_failed_flush_raises_nothing_and_asks_the_loop_to_look(self) -> None:
        sink, asked = Sink(), Asked()
        queue = blocked_queue(sink, ask_loop=asked)
        sink.error = ConnectionResetError("reset")
        before = asked.times
        queue.flush()
        assert asked.times == before + 1
        assert queue.failure is sink.error
        queue.flush()
        assert asked.times == before + 1

    def test_after_a_failure_pushing_says_so(self) -> None:
        sink = Sink()
        queue = make_queue(sink)
        sink.error = ConnectionResetError("reset")
        with pytest.raises(TransportFail):
            push(queue, "x")
        with pytest.raises(WebSocketClosed, match="the connection is lost; reset"):
            push(queue, "y")
        with pytest.raises(WebSocketClosed):
            queue.push_control(bytes, b"z")
        queue.put_urgent(b"ignored")

    def test_a_ping_that_fails_is_not_counted_among_the_messages(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        push(queue, "sent")
        clock.now += 1
        sink.error = ConnectionResetError("reset")
        with pytest.raises(TransportFail):
            queue.push_item((b"ping", None), 4)
        assert queue.messages_sent == 1
        assert queue.finish() == ()
        assert queue.messages_sent == 1

    def test_unsent_is_what_was_not_taken_whole_oldest_first(self, clock: Clock) -> None:
        sink = Sink(room=4)
        queue = make_queue(sink)
        for text in ("ab", "cd"):
            clock.now += 1
            push(queue, text)
        clock.now += 1
        sink.room = 0
        push(queue, "ef")  # blocks
        queue.push_control(bytes, b"ping")
        queue.push_item((b"\x00binary", b"\x00binary"), 7)
        sink.room = 1
        queue.flush()
        assert sink.taken == b"abcde"
        assert queue.finish() == ("ef", b"\x00binary")
        assert queue.messages_sent == 2
        assert queue.bytes_sent == 5

    def test_finish_waits_for_the_thread_in_the_kernel(self) -> None:
        sink = Sink()
        entered, go = threading.Event(), threading.Event()
        take = sink.send

        def slow(data: bytes | memoryview) -> int:
            entered.set()
            assert go.wait(PATIENCE)
            return take(data)

        sink.send = slow  # type: ignore[method-assign]
        queue = make_queue(sink)
        writer = threading.Thread(target=push, args=(queue, "a"))
        writer.start()
        assert entered.wait(PATIENCE)
        unsent: list[tuple[str | bytes, ...]] = []
        finisher = threading.Thread(target=lambda: unsent.append(queue.finish()))
        finisher.start()
        while not queue._finished:
            push_quietly(queue, "b")
        assert finisher.is_alive()
        go.set()
        writer.join(PATIENCE)
        finisher.join(PATIENCE)
        assert sink.taken == b"a"
        assert set(unsent[0]) <= {"b"}

    def test_nothing_is_accepted_after_finish(self) -> None:
        sink = Sink()
        queue = make_queue(sink)
        assert queue.finish() == ()
        with pytest.raises(WebSocketClosed, match="the connection has ended"):
            push(queue, "x")
        queue.put_urgent(b"x")
        queue.flush()
        assert sink.offered == []

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, ZeroDivisionError])
    def test_a_write_that_a_signal_handler_interrupts_gives_the_stream_up(
        self, interruption: type[BaseException]
    ) -> None:
        # It is unknown how much was taken: going on would tear a frame apart, and the message may arrive.
        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked)
        sink.error = interruption()
        with pytest.raises(interruption):
            push(queue, "x")
        assert asked.times == 1
        assert "interrupted" in str(queue.failure)
        assert queue.finish() == ()
        assert queue.doubts is not None
        assert queue.doubts.messages == ("x",)

    def test_a_compression_that_a_signal_handler_interrupts_gives_the_stream_up(self) -> None:
        # The deflate context may have taken the message in, and the server will never see it.
        def interrupted(_opcode: int, _data: bytes) -> Iterator[bytes]:
            yield b""
            raise KeyboardInterrupt

        asked = Asked()
        queue = make_queue(Sink(), ask_loop=asked, compress_in_pieces=interrupted)
        with pytest.raises(KeyboardInterrupt):
            queue.push_item((1, b"x", "x"), 1)
        assert asked.times == 1
        assert "interrupted" in str(queue.failure)
        assert queue.finish() == ("x",)
