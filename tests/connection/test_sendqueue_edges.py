"""The send queue just at its bounds, when it refuses, and when two come at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from lochws.connection import sendqueue
from lochws.connection.outgoing import BATCH_BYTES
from lochws.connection.sendqueue import BATCHES_PER_FLUSH, DROP_OFF_BYTES, GATHER_BYTES, SendQueue
from lochws.errors import QueueFull, TransportFail, WebSocketClosed, WebSocketClosing

from ..support.queues import Asked, Clock, Sink, blocked_queue, make_queue, push
from ..support.seen import PATIENCE, in_thread

#: Every way to push a message or a frame.
WAYS: dict[str, Callable[[SendQueue], object]] = {
    "push": lambda queue: queue.push("x", 1),
    "push_item": lambda queue: push(queue, "x"),
    "push_many": lambda queue: queue.push_many(["x"], 1),
    "push_control": lambda queue: queue.push_control(bytes, b"x"),
}


def raw(queue: SendQueue, message: str) -> bool:
    return queue.push(message, len(message))


class EndedMeanwhile(list[object]):
    """The drop-off list of a queue that ends just before a sender drops off a message."""

    def __init__(self, queue: SendQueue) -> None:
        super().__init__()
        self._queue = queue

    def append(self, item: object) -> None:
        assert self._queue.finish() == ()
        super().append(item)

    def extend(self, items: Iterable[object]) -> None:
        for item in items:
            self.append(item)


class TestWhoPushes:
    @pytest.mark.parametrize("way", WAYS)
    def test_is_refused_without_a_word_to_the_loop(self, way: str) -> None:
        asked = Asked()
        queue = make_queue(Sink(), ask_loop=asked)
        queue.finish()
        with pytest.raises(WebSocketClosed, match=r"^data not sent: the connection has ended$"):
            WAYS[way](queue)
        assert asked.times == 0

    @pytest.mark.parametrize("way", WAYS)
    def test_is_told_when_the_write_fails_and_nobody_else(self, way: str) -> None:
        sink = Sink()
        queue = make_queue(sink)
        sink.error = ConnectionResetError("reset")
        with pytest.raises(TransportFail):
            WAYS[way](queue)
        assert queue.finish() == ()

    @pytest.mark.parametrize("way", WAYS)
    def test_writes_at_once_when_nothing_was_written_just_before(self, way: str, clock: Clock) -> None:
        clock.now = 0.5  # seconds since the machine was started: that is not a write either
        sink = Sink()
        assert WAYS[way](make_queue(sink))
        assert len(sink.offered) == 1

    @pytest.mark.parametrize("way", sorted(WAYS.keys() - {"push_many"}))
    def test_leaves_it_to_the_loop_when_something_was(self, way: str, clock: Clock) -> None:
        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked)
        push(queue, "a")
        assert WAYS[way](queue)
        assert (sink.offered, asked.times) == ([b"a"], 1)

    def test_many_are_company_enough_even_when_the_machine_has_just_started(self, clock: Clock) -> None:
        clock.now = 0.5
        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked)
        push(queue, "a")
        queue.push_many([(b"b", "b"), (b"c", "c")], 2)
        assert (sink.offered, asked.times) == ([b"a", b"bc"], 0)

    def test_learns_that_a_message_was_accepted_wherever_it_was_left(self, clock: Clock) -> None:
        queue = make_queue(Sink())
        assert all(raw(queue, letter) for letter in "abc")
        assert queue._dropped_off == ["c"]
        queue.flush()
        with queue._lock:
            assert raw(queue, "d")
        assert queue._dropped_off == ["d"]

    def test_is_not_told_of_a_failed_write_if_the_end_has_reported_the_message(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sendqueue, "WRITER_SECONDS", 0.01)
        sink = Sink()
        queue = make_queue(sink)
        reported: list[str | bytes] = []

        def send(_data: object) -> int:
            queue.finish()  # which did not wait any longer
            assert queue.doubts is not None
            reported.extend(queue.doubts.messages)
            raise ConnectionResetError("reset")

        sink.send = send  # type: ignore[method-assign]
        assert raw(queue, "x")
        assert reported == ["x"]

    def test_counts_every_message_that_is_dropped(self) -> None:
        queue = blocked_queue(Sink(), limit=5, when_full="drop")
        assert not raw(queue, "x")
        assert not raw(queue, "y")
        assert queue.dropped == 2

    def test_a_control_frame_that_is_no_close_frame_ends_nothing(self) -> None:
        sink = Sink()
        queue = make_queue(sink, gather=False)
        queue.push_control(bytes, b"PING")
        assert queue.push_many([(b"a", "a")], 1)
        assert sink.taken == b"PINGa"

    def test_behind_our_close_frame_the_refusal_says_why(self) -> None:
        queue = make_queue(Sink())
        queue.push_control(bytes, b"CLOSE", seal=True)
        with pytest.raises(WebSocketClosing, match=r"^data not sent: the WebSocket is closing$"):
            raw(queue, "x")

    def test_a_ping_after_the_end_or_a_failure_is_not_kept(self) -> None:
        ended, sink = make_queue(Sink()), Sink()
        ended.finish()
        ended.put_urgent(b"PING")
        failed = blocked_queue(sink)
        sink.error = ConnectionResetError("reset")
        failed.flush()
        failed.put_urgent(b"PING")
        assert ended._outgoing.urgent == failed._outgoing.urgent == []


class TestTheBound:
    def test_holds_behind_a_batch_under_way(self) -> None:
        queue = blocked_queue(Sink(), limit=5)
        assert queue._outgoing.rest
        with pytest.raises(QueueFull):
            raw(queue, "x")

    def test_holds_behind_what_gathers(self, clock: Clock) -> None:
        queue = make_queue(Sink(), limit=DROP_OFF_BYTES)
        raw(queue, "a")
        raw(queue, "b")
        assert not queue._outgoing.rest
        with pytest.raises(QueueFull):
            raw(queue, "x" * DROP_OFF_BYTES)

    def test_holds_between_two_corks(self, clock: Clock) -> None:
        queue = make_queue(Sink(), limit=10)
        queue.cork()
        queue.cork()
        raw(queue, "abcd")
        queue.uncork()
        with pytest.raises(QueueFull):
            raw(queue, "x")

    def test_counts_what_comes_at_once_behind_what_waits(self) -> None:
        queue = blocked_queue(Sink())
        queue.push_many([(b"abc", "abc")], 3)
        queue.push_many([(b"de", "de")], 2)
        assert queue._outgoing.pending == len("firstabcde")
        assert queue.finish() == ("first", "abc", "de")
        assert queue._outgoing.pending == 0

    def test_may_be_used_to_the_last_byte_by_who_waited(self) -> None:
        sink = Sink()
        queue = blocked_queue(sink, limit=10, when_full="block", send_timeout=PATIENCE)
        push(queue, "later")
        waiter = in_thread(lambda: push(queue, "x" * 5))
        while not queue._room.waiting:
            waiter.join(0.0001)
        sink.room = 5
        queue.flush()
        waiter.join(PATIENCE / 5)
        assert queue._outgoing.pending == 10
        assert queue._room.waiting == 0

    def test_leaves_room_for_as_many_as_fit_behind_what_waits(self) -> None:
        queue = blocked_queue(Sink(), limit=2 * DROP_OFF_BYTES)
        with queue._lock:
            assert queue._drop_off("a", 1)
            assert not queue._drop_off("b", 1)

    def test_lets_a_message_of_just_so_many_bytes_be_left(self, clock: Clock) -> None:
        queue = make_queue(Sink())
        just, more = "j" * DROP_OFF_BYTES, "m" * (DROP_OFF_BYTES + 1)
        with queue._lock:
            assert queue._drop_off(just, len(just))
            assert not queue._drop_off(more, len(more))
        for message in ("a", "b", just):
            raw(queue, message)
        assert queue._dropped_off == [just]

    def test_all_who_wait_are_counted_until_they_are_through(self) -> None:
        sink = Sink()
        queue = blocked_queue(sink, limit=5, when_full="block", send_timeout=PATIENCE)
        waiters = [in_thread(lambda: push(queue, "ab")) for _ in range(2)]
        while queue._room.waiting < 2 and all(waiter.is_alive() for waiter in waiters):
            waiters[0].join(0.0001)
        sink.room = None
        queue.flush()
        for waiter in waiters:
            waiter.join(PATIENCE)
        assert queue._room.waiting == 0


class TestCorks:
    def test_the_inner_uncork_lets_messages_gather_on(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        queue.cork()
        queue.cork()
        raw(queue, "a")
        queue.uncork()
        raw(queue, "b")
        assert not sink.offered
        queue.uncork()
        assert queue.messages_sent == 2

    def test_the_last_uncork_leaves_a_full_kernel_alone(self) -> None:
        sink = Sink()
        queue = blocked_queue(sink)
        queue.cork()
        queue.uncork()
        assert len(sink.offered) == 1

    def test_a_message_after_corks_and_a_loop_that_came_for_nothing_goes_at_once(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        queue.cork()
        raw(queue, "a")
        queue.uncork()
        queue.flush()
        clock.now += 1
        raw(queue, "b")
        assert queue.messages_sent == len(sink.offered) == 2


    def test_a_batch_of_just_so_many_bytes_leaves_though_corked(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        queue.cork()
        push(queue, "x" * (GATHER_BYTES - 1))
        assert not sink.offered
        push(queue, "x")
        assert len(sink.taken) == GATHER_BYTES


class TestTheLoop:
    def test_is_not_asked_again_by_a_sender_that_finds_the_kernel_full(self, clock: Clock) -> None:
        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked)
        push(queue, "a")
        push(queue, "b")
        clock.now += 1
        sink.room = 0
        push(queue, "c")
        assert queue.is_blocked
        assert asked.times == 1

    def test_is_not_asked_again_by_who_comes_before_it(self, clock: Clock) -> None:
        sink, asked = Sink(), Asked()
        queue = blocked_queue(sink, ask_loop=asked)
        for _ in range(2 * BATCHES_PER_FLUSH):
            push(queue, "x" * BATCH_BYTES)
        sink.room = None
        queue.flush()
        assert queue._outgoing.pending
        assert asked.times == 2
        push(queue, "y")
        assert asked.times == 2

    def test_leaves_an_empty_queue_behind(self) -> None:
        sink = Sink()
        queue = blocked_queue(sink)
        queue.push_control(bytes, b"PING")
        queue.push_control(bytes, b"PONG")
        queue.put_urgent(b"PONG")
        push(queue, "one")
        push(queue, "two")
        sink.room = None
        queue.flush()
        assert queue.messages_sent == 3
        outgoing = queue._outgoing
        waiting = outgoing.items[outgoing.items_taken :]
        assert (waiting, outgoing.batch, outgoing._controls, queue._outgoing.pending) == ([], [], 0, 0)


class TestWhatWasLeft:
    def test_gathers_and_the_loop_is_asked_once(self, clock: Clock) -> None:
        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked)
        push(queue, "a")
        for letter in "bc":
            with queue._lock:
                raw(queue, letter)
            queue._look_after()
            assert (queue.messages_sent, asked.times) == (1, 1)
        assert not queue._dropped_off

    def test_is_sent_as_what_it_is_plain_or_made_to_order(self) -> None:
        queue = make_queue(Sink())
        with queue._lock:
            raw(queue, "abc")
            push(queue, "def")
            raw(queue, "ghi")
        queue.flush()
        assert queue.messages_sent == 3
        assert queue.finish() == ()

    def test_is_no_message_if_it_is_a_ping(self) -> None:
        sink = Sink()
        queue = make_queue(sink)
        with queue._lock:
            for message in (None, None, "text"):
                queue.push_item((b"data", message), 4)
        queue.flush()
        assert (queue.messages_sent, len(sink.taken), queue._outgoing._controls) == (1, 12, 0)

    def test_gives_the_stream_up_if_its_compression_is_interrupted(self) -> None:
        def interrupted(_opcode: int, _data: bytes) -> Iterator[bytes]:
            raise KeyboardInterrupt
            yield b""

        queue = make_queue(Sink(), compress_in_pieces=interrupted)
        with queue._lock:
            queue.push_item((1, b"x", "x"), 1)
        with pytest.raises(KeyboardInterrupt):
            queue.flush()
        assert str(queue.failure) == "interrupted by KeyboardInterrupt()"
        with pytest.raises(WebSocketClosed):
            raw(queue, "y")

    def test_when_the_queue_has_ended_is_refused_to_its_sender(self, clock: Clock) -> None:
        gathering = make_queue(Sink())
        gathering._drop_off_limit = 1
        gathering._dropped_off = EndedMeanwhile(gathering)
        with pytest.raises(WebSocketClosed):
            raw(gathering, "x")
        locked = make_queue(Sink())
        locked._dropped_off = EndedMeanwhile(locked)
        with pytest.raises(WebSocketClosed):
            locked._drop_off("x", 1)

    def test_when_the_queue_has_ended_stays_for_its_sender_to_find(self) -> None:
        queue = make_queue(Sink())
        queue.finish()
        queue._dropped_off.append("late")
        queue.flush()
        with pytest.raises(WebSocketClosed):
            queue._check_dropped_off("late")


def test_the_end_does_not_wait_for_ever_for_a_writer_that_never_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sendqueue, "WRITER_SECONDS", 0.01)
    queue = blocked_queue(Sink())
    queue._writer = []
    assert queue.finish() == ()
    assert queue.doubts is not None
    assert queue.doubts.messages == ("first",)  # the kernel may have taken it
