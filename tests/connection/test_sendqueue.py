"""The send queue: order, batches, who writes, and what is asked of the loop."""

from __future__ import annotations

import threading
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lochws.connection.outgoing import BATCH_BYTES
from lochws.connection.sendqueue import (
    BATCHES_PER_FLUSH,
    FOLLOWS_SECONDS,
    GATHER_BYTES,
    GATHER_SECONDS,
    LEAST_GATHER_BYTES,
)

from ..support.queues import Asked, Clock, Sink, blocked_queue, make_queue, push
from ..support.seen import PATIENCE


class TestWriting:
    def test_a_lone_message_goes_at_once_in_its_senders_thread(self, clock: Clock) -> None:
        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked)
        push(queue, "one")
        clock.now += 2 * FOLLOWS_SECONDS
        push(queue, "two")
        assert sink.offered == [b"one", b"two"]
        assert asked.times == 0
        assert not queue._outgoing.pending

    def test_messages_that_follow_closely_gather_and_the_loop_is_asked_once(self, clock: Clock) -> None:
        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked)
        for text in ("a", "b", "c", "d"):
            push(queue, text)
        assert sink.offered == [b"a"]
        assert asked.times == 1
        queue.flush()
        assert sink.offered == [b"a", b"bcd"]
        push(queue, "e")
        assert asked.times == 2

    def test_a_sender_that_goes_on_writes_itself_when_the_oldest_has_waited(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        push(queue, "a")
        push(queue, "b")
        clock.now += GATHER_SECONDS / 2
        push(queue, "c")
        assert sink.offered == [b"a"]
        clock.now += GATHER_SECONDS
        push(queue, "d")
        assert sink.offered == [b"a", b"bcd"]

    def test_a_sender_writes_itself_when_a_batch_has_gathered(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        push(queue, "a")
        half = "x" * (GATHER_BYTES // 2)
        push(queue, half)
        assert sink.offered == [b"a"]
        push(queue, half)
        assert b"".join(sink.offered[1:]) == (half + half).encode()

    def test_in_a_small_queue_fewer_bytes_are_a_batch(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink, limit=8 * LEAST_GATHER_BYTES + 8)
        push(queue, "a")
        push(queue, "x" * LEAST_GATHER_BYTES)
        assert sink.offered == [b"a"]
        push(queue, "y")
        assert len(sink.taken) == LEAST_GATHER_BYTES + 2

    def test_without_a_loop_that_comes_when_asked_nothing_gathers(self, clock: Clock) -> None:
        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked, gather=False)
        for text in ("a", "b", "c"):
            push(queue, text)
        assert sink.offered == [b"a", b"b", b"c"]
        assert asked.times == 0

    def test_batches_keep_to_their_size_and_are_never_empty(self, clock: Clock) -> None:
        sink = Sink()
        queue = blocked_queue(sink)
        large = "L" * (3 * BATCH_BYTES)
        third = "t" * (BATCH_BYTES // 3 + 1)
        for text in (large, third, third, third):
            push(queue, text)
        sink.offered.clear()
        sink.room = None
        queue.flush()
        assert [len(data) for data in sink.offered] == [5, len(large), 2 * len(third), len(third)]

    def test_one_flush_makes_a_bounded_number_of_calls_and_asks_for_more(self, clock: Clock) -> None:
        sink, asked = Sink(), Asked()
        queue = blocked_queue(sink, ask_loop=asked)
        for _ in range(2 * BATCHES_PER_FLUSH):
            push(queue, "x" * BATCH_BYTES)
        sink.offered.clear()
        sink.room = None
        before = asked.times
        queue.flush()
        assert len(sink.offered) == BATCHES_PER_FLUSH
        assert asked.times == before + 1
        while queue._outgoing.pending:
            queue.flush()
        assert sink.taken == b"first" + 2 * BATCHES_PER_FLUSH * BATCH_BYTES * b"x"

    def test_partial_writes_keep_the_order(self, clock: Clock) -> None:
        sink = Sink(room=2)
        queue = make_queue(sink)
        for text in ("abc", "def", "ghi"):
            push(queue, text)
        for _ in range(9):
            sink.room = 1
            queue.flush()
        assert sink.taken == b"abcdefghi"
        assert not queue._outgoing.pending
        assert not queue.is_blocked

    def test_messages_pushed_while_a_thread_is_in_the_kernel_are_written_by_that_thread(self) -> None:
        sink = Sink()
        entered, go = threading.Event(), threading.Event()
        take = sink.send

        def slow(data: bytes | memoryview) -> int:
            if not entered.is_set():
                entered.set()
                assert go.wait(PATIENCE)
            return take(data)

        sink.send = slow  # type: ignore[method-assign]
        asked = Asked()
        queue = make_queue(sink, ask_loop=asked)
        writer = threading.Thread(target=push, args=(queue, "a"))
        writer.start()
        assert entered.wait(PATIENCE)
        push(queue, "b")
        queue.flush()  # does not wait for the writer
        push(queue, "c")
        assert sink.offered == []
        go.set()
        writer.join(PATIENCE)
        assert sink.offered == [b"a", b"bc"]
        assert asked.times == 0

    def test_a_message_that_cannot_be_encoded_is_refused_and_changes_nothing(self) -> None:
        sink = Sink()
        queue = make_queue(sink)

        with pytest.raises(UnicodeEncodeError):
            push(queue, "\ud800")
        assert not queue._outgoing.pending
        assert queue.messages_sent == 0
        push(queue, "y")
        assert sink.taken == b"y"


class TestAFullKernel:
    def test_nobody_tries_but_the_loop(self, clock: Clock) -> None:
        sink = Sink()
        queue = blocked_queue(sink)
        sink.room = None
        sink.offered.clear()
        for _ in range(3):
            clock.now += 1
            push(queue, "more")
        queue.flush(by_loop=False)
        assert sink.offered == []
        queue.flush()
        assert sink.taken == b"firstmoremoremore"

    def test_the_loop_is_asked_once_and_not_by_its_own_attempts(self, clock: Clock) -> None:
        # It waits until the socket is writable; asking it again would make it spin.
        sink, asked = Sink(), Asked()
        queue = blocked_queue(sink, ask_loop=asked)
        assert asked.times == 1
        for _ in range(5):
            queue.flush()
            push(queue, "x")
        assert asked.times == 1

    def test_the_same_bytes_are_offered_again_first_and_never_fewer(self, clock: Clock) -> None:
        # OpenSSL's rule after a write that would block.
        sink = Sink(room=3)
        queue = make_queue(sink)
        push(queue, "abcdef")
        rest = sink.offered[-1][3:]
        push(queue, "ghi")
        queue.put_urgent(b"pong")
        for _ in range(3):
            queue.flush()
            assert sink.offered[-1].startswith(rest)
            assert len(sink.offered[-1]) >= len(rest)

    def test_of_several_pongs_the_newest_waits(self, clock: Clock) -> None:
        sink = Sink()
        queue = blocked_queue(sink)
        for number in range(1000):
            queue.put_urgent(b"<%d>" % number)
        assert queue._outgoing.pending == len("first")
        push(queue, "text")
        sink.room = None
        queue.flush()
        assert sink.taken == b"first<999>text"

    def test_the_pong_that_waits_goes_before_the_close_frame(self, clock: Clock) -> None:
        sink = Sink()
        queue = blocked_queue(sink)
        queue.put_urgent(b"PONG")
        queue.push_control(bytes, b"CLOSE")
        sink.room = None
        queue.flush()
        assert sink.taken == b"firstPONGCLOSE"

    def test_pings_and_pongs_go_before_all_messages_that_wait(self, clock: Clock) -> None:
        sink = Sink(room=3)
        queue = make_queue(sink)
        push(queue, "a")
        for text in ("one", "two"):
            push(queue, text)
        queue.put_urgent(b"PONG1")
        queue.put_urgent(b"PING2")
        queue.flush()
        queue.put_urgent(b"too late")
        queue.put_urgent(b"PONG3")
        push(queue, "three")
        sink.room = None
        queue.flush()
        # What the kernel has begun to take stays first.
        assert sink.taken == b"aPONG1PING2onetwoPONG3three"

    def test_pongs_do_not_wait_for_anything_while_there_is_room(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        queue.put_urgent(b"one")
        queue.put_urgent(b"two")
        queue.flush()
        assert sink.offered == [b"onetwo"]


class TestCounting:
    def test_messages_and_bytes_count_what_the_kernel_took(self, clock: Clock) -> None:
        sink = Sink(room=4)
        queue = make_queue(sink)
        push(queue, "abc")
        push(queue, "def")
        assert (queue.messages_sent, queue.bytes_sent, queue._outgoing.pending) == (1, 3, 3)
        queue.flush()
        assert (queue.messages_sent, queue.bytes_sent, queue._outgoing.pending) == (1, 4, 2)
        sink.room = None
        queue.push_control(bytes, b"PING")
        queue.flush()
        assert (queue.messages_sent, queue.bytes_sent, queue._outgoing.pending) == (2, 10, 0)


#: One step: push so many bytes (0: a pong; negative: a control frame), or flush with so much room.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 40)),
        st.tuples(st.just("control"), st.integers(1, 9)),
        st.tuples(st.just("flush"), st.integers(0, 60)),
        st.tuples(st.just("time"), st.sampled_from([0.0, FOLLOWS_SECONDS * 2, GATHER_SECONDS * 2])),
    ),
    max_size=60,
)


@given(steps=STEPS)
@settings(deadline=None)
def test_whatever_the_kernel_takes_nothing_is_lost_and_the_order_stays(
    steps: list[tuple[str, float]]
) -> None:
    clock = Clock()
    sink = Sink(room=0)
    with pytest.MonkeyPatch.context() as patch:
        clock.rule(patch)
        queue = make_queue(sink, limit=200, when_full="drop")
        everything, messages, letter = "", [], 0
        for step, size in steps:
            letter = (letter + 1) % 26
            text = chr(97 + letter) * int(size)
            if step == "push":
                if push(queue, text):
                    everything += text
                    messages.append(text)
            elif step == "control":
                queue.push_control(text.upper().encode)
                everything += text.upper()
            elif step == "flush":
                sink.room = int(size)
                queue.flush()
            else:
                clock.now += size
        assert everything.startswith(sink.taken.decode())
        assert queue.bytes_sent == len(sink.taken)
        assert queue.bytes_sent + queue._outgoing.pending == len(everything)
        sent = queue.messages_sent
        assert queue.finish() == tuple(messages[sent:])
        assert queue.messages_sent == sent


class TestManyThreads:
    def test_every_message_of_every_thread_leaves_once_and_in_its_threads_order(self) -> None:
        threads, messages = 8, 2000
        wanted = threading.Event()
        sink = Sink()
        # A kernel that is full every now and then.
        rooms = deque([7, 64, 0, 4096, 1, 300] * 50)
        take = sink.send

        def send(data: bytes | memoryview) -> int:
            sink.room = rooms.popleft() if rooms else None
            return take(data)

        sink.send = send  # type: ignore[method-assign]
        queue = make_queue(sink, limit=2000, when_full="block", ask_loop=wanted.set)
        done = threading.Event()

        def loop() -> None:
            while not done.is_set():
                wanted.wait(0.001)
                wanted.clear()
                queue.flush()

        def sender(number: int) -> None:
            for index in range(messages):
                push(queue, f"{number}:{index};")

        looper = threading.Thread(target=loop)
        looper.start()
        senders = [threading.Thread(target=sender, args=(number,)) for number in range(threads)]
        for thread in senders:
            thread.start()
        for thread in senders:
            thread.join(PATIENCE)
        done.set()
        looper.join(PATIENCE)
        while queue._outgoing.pending:
            queue.flush()
        seen: dict[str, list[int]] = {str(number): [] for number in range(threads)}
        for entry in sink.taken.decode().split(";")[:-1]:
            number, _, index = entry.partition(":")
            seen[number].append(int(index))
        assert seen == {str(number): list(range(messages)) for number in range(threads)}
        assert queue.messages_sent == threads * messages
