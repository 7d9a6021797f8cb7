"""Messages that are queued as they are: left without the lock while they gather, framed when written."""

from __future__ import annotations

import random
import threading

import pytest

from lochws.connection.sendqueue import (
    DROP_OFF_BYTES,
    DROP_OFF_MESSAGES,
    GATHER_BYTES,
    GATHER_SECONDS,
    SendQueue,
)
from lochws.errors import QueueFull, TransportFail, WebSocketClosed, WebSocketClosing, WebSocketError
from lochws.protocol.masking import mask_python
from lochws.protocol.sender import Sender

from ..support.interrupting import interrupt
from ..support.queues import Asked, Clock, Sink, blocked_queue, make_queue
from ..support.seen import PATIENCE, in_thread
from .test_sendqueue_interrupted import FILES


def push(queue: SendQueue, message: str | bytes) -> bool:
    return queue.push(message, len(message))


def is_accepted(queue: SendQueue, message: str) -> bool:
    try:
        return push(queue, message)
    except QueueFull:
        return False


def payloads(data: bytes) -> list[str | bytes]:
    """Return the payloads of some frames, each of which must be final, masked and complete."""
    found: list[str | bytes] = []
    while data:
        size, head = data[1] & 127, 2
        assert data[1] & 128
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[2:10], "big"), 10
        payload = mask_python(data[head + 4 : head + 4 + size], data[head : head + 4])
        assert len(payload) == size
        found.append({0x81: payload.decode, 0x82: lambda payload=payload: payload,
                      0x88: lambda: "CLOSE"}[data[0]]())
        data = data[head + 4 + size :]
    return found


class TestGathering:
    def test_a_lone_message_goes_at_once_and_those_that_follow_in_one_call(self, clock: Clock) -> None:
        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked)
        for message in ("a", "b", b"c", "d" * 126):
            push(queue, message)
        assert payloads(sink.offered[0]) == ["a"]
        assert (len(sink.offered), asked.times) == (1, 1)
        queue.flush()
        assert payloads(sink.offered[1]) == ["b", b"c", "d" * 126]
        assert (queue.messages_sent, queue._outgoing.pending) == (4, 0)

    def test_they_are_left_without_the_lock_until_the_oldest_has_waited(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        for message in "abcd":
            push(queue, message)
        assert list(queue._dropped_off) == ["c", "d"]
        clock.now += 2 * GATHER_SECONDS
        push(queue, "e")
        assert payloads(sink.taken) == list("abcde")

    def test_they_are_written_when_a_batch_has_gathered(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        push(queue, "first")
        for _ in range(GATHER_BYTES // 4000):
            push(queue, "x" * 4000)
        assert len(sink.offered) == 1
        push(queue, "x" * 4000)
        push(queue, "x" * 4000)
        assert len(sink.offered) > 1

    def test_many_small_ones_are_taken_up_before_a_batch_has_gathered(self, clock: Clock) -> None:
        queue = make_queue(Sink())
        for number in range(2 * DROP_OFF_MESSAGES):
            push(queue, str(number))
            assert len(queue._dropped_off) <= DROP_OFF_MESSAGES
        assert queue._outgoing.pending

    def test_a_large_one_does_not_overtake_those_that_were_left(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        large = "L" * (DROP_OFF_BYTES + 1)
        for message in ("a", "b", "c", large, "d"):
            push(queue, message)
        queue.flush()
        assert payloads(sink.taken) == ["a", "b", "c", large, "d"]

    def test_corked_ones_wait_for_the_last_cork_however_long(self, clock: Clock) -> None:
        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked)
        queue.cork()
        for message in "abc":
            clock.now += 1
            push(queue, message)
        assert not sink.offered
        queue.uncork()
        assert payloads(sink.taken) == list("abc")
        assert asked.times == 0

    def test_the_bound_holds_for_those_that_were_left(self, clock: Clock) -> None:
        sink = Sink()
        queue = blocked_queue(sink, limit=5000)
        accepted = len(list(iter(lambda: is_accepted(queue, "x" * 100), False)))
        assert 5000 - 200 < queue._outgoing.pending <= 5000 + 6
        sink.room = None
        queue.flush()
        assert queue.messages_sent == accepted + 1


class TestEnds:
    def test_behind_our_close_frame_they_are_refused(self, clock: Clock) -> None:
        sink, sender = Sink(), Sender()
        queue = make_queue(sink)
        for message in "abc":
            push(queue, message)
        queue.push_control(sender.close, 1000, "bye", seal=True)
        with pytest.raises(WebSocketClosing):
            push(queue, "d")
        with pytest.raises(WebSocketClosing):
            queue.push_many(["d"], 1)
        queue.flush()
        assert payloads(sink.taken) == ["a", "b", "c", "CLOSE"]
        assert queue.finish() == ()

    def test_what_our_close_frame_overtook_is_reported(self, clock: Clock) -> None:
        sink, sender = Sink(), Sender()
        queue = make_queue(sink)

        def close() -> bytes:
            queue._dropped_off.append("late")  # by another thread, that saw nothing of it
            return sender.close(1000, "")

        queue.push_control(close, seal=True)
        assert queue.finish() == ("late",)
        assert payloads(sink.taken) == ["CLOSE"]

    def test_what_is_not_sent_is_reported_in_order(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        for message in ("a", "b", b"c", "d"):
            push(queue, message)
        assert queue.finish() == ("b", b"c", "d")
        with pytest.raises(WebSocketClosed):
            push(queue, "e")

    def test_a_part_that_was_taken_is_told_from_the_rest(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        for message in "abcd":
            push(queue, message)
        sink.room = 2 * 7 + 3
        queue.flush()
        assert queue.messages_sent == 3
        assert queue.finish() == ("d",)
        assert queue.messages_sent == 3

    def test_of_the_same_object_sent_again_the_one_that_failed_is_withdrawn(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        push(queue, "same")
        push(queue, "same")
        clock.now += 1
        sink.error = ConnectionResetError("reset")
        with pytest.raises(TransportFail):
            queue.push_many(["same"], 4)
        assert queue.finish() == ("same",)
        assert queue.messages_sent == 1

    def test_after_a_failure_nothing_is_left(self, clock: Clock) -> None:
        sink = Sink()
        queue = make_queue(sink)
        push(queue, "a")
        push(queue, "b")
        push(queue, "c")
        sink.error = ConnectionResetError("reset")
        queue.flush()
        with pytest.raises(WebSocketClosed, match="reset"):
            push(queue, "d")
        assert queue.finish() == ("b", "c")


@pytest.mark.parametrize(("apart", "points"), [(0.0, 25), (GATHER_SECONDS / 3, 25), (1.0, 50)])
def test_wherever_ctrl_c_strikes_a_burst_is_whole_or_the_connection_is_given_up(
    monkeypatch: pytest.MonkeyPatch, apart: float, points: int
) -> None:
    clock = Clock()
    clock.rule(monkeypatch)
    point, struck = 0, True
    while struck:
        point += 1
        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked)
        push(queue, "a")
        done: list[str] = []

        def burst(queue: SendQueue = queue, done: list[str] = done) -> None:
            for letter in "bcdefg":
                clock.now += apart
                push(queue, letter)
                done.append(letter)

        struck = interrupt(burst, point, FILES)
        assert not queue._lock.locked(), point
        if queue._asked:
            assert asked.times, point  # else what has gathered might wait for ever
        queue.flush()
        sent = "".join(map(str, payloads(sink.taken)))
        unsent = "".join(map(str, queue.finish()))
        assert (sent + unsent).startswith("a" + "".join(done)), point
        assert all(sent.count(letter) <= 1 for letter in sent), point
        assert set(sent + unsent) <= set("abcdefg"[: len(done) + 2]), point
    assert point > points


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("seed", range(8))
def test_each_message_of_many_senders_is_sent_once_in_its_order_or_reported(seed: int) -> None:
    dice = random.Random(seed)
    sink, sender, wanted, done = Sink(), Sender(), threading.Event(), threading.Event()
    queue = make_queue(sink, ask_loop=wanted.set, limit=dice.choice([300, 50_000, 1 << 24]))
    accepted: list[list[str]] = [[] for _ in range(5)]

    def turn() -> None:
        while not done.is_set():
            wanted.wait(0.001)
            wanted.clear()
            sink.room = dice.choice([None, 0, 3, 500])
            queue.flush()

    def send(number: int) -> None:
        for index in range(400):
            message = f"<{number}:{index}>"
            try:
                push(queue, message)
            except QueueFull:
                continue
            except WebSocketError:
                return
            accepted[number].append(message)

    looper = in_thread(turn)
    senders = [in_thread(lambda number=number: send(number)) for number in range(5)]
    enough = dice.randrange(400)
    while len(accepted[0]) < enough and senders[0].is_alive():
        senders[0].join(0.0001)
    queue.push_control(sender.close, 1000, "", seal=True)
    for other in senders[: dice.randrange(6)]:
        other.join(PATIENCE)
    done.set()
    looper.join(PATIENCE)
    while queue._outgoing.pending and dice.random() < 0.9:
        sink.room = None
        queue.flush()
    unsent = queue.finish()
    for other in senders:
        other.join(PATIENCE)
        assert not other.is_alive()
    whole = sink.taken[: len(sink.taken) - torn(sink.taken)]
    sent = payloads(whole)
    assert "CLOSE" not in sent[:-1]
    for number, messages in enumerate(accepted):
        mine = [text for text in map(str, (*sent, *unsent)) if text.startswith(f"<{number}:")]
        assert mine == messages


def torn(data: bytes) -> int:
    """Return how many bytes at the end belong to an incomplete frame."""
    at = 0
    while at + 2 <= len(data) and at + 6 + (data[at + 1] & 127) <= len(data):
        at += 6 + (data[at + 1] & 127)
    return len(data) - at
