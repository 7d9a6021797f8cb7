"""Calls that interrupt a send on its own thread, as signal handlers, finalizers and trace functions do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lochws.connection import compression, outgoing, paced, pacing, room, sendqueue, window
from lochws.connection.sendqueue import SendQueue
from lochws.errors import QueueFull, WebSocketClosing

from ..faults.registry import fault
from ..support.interrupting import enter
from ..support.queues import BUDGETS, Asked, Sink, blocked_queue, make_queue, push

FILES = {module.__file__ for module in (compression, outgoing, paced, pacing, room, sendqueue, window)}


def in_pieces(_opcode: int, data: bytes) -> Iterator[bytes]:
    yield b""
    yield data


def whole(_opcode: int, data: bytes) -> bytes:
    return data


ACTIONS: dict[str, Callable[[SendQueue], object]] = {
    "push": lambda queue: queue.push_item((b"<outer>", "<outer>"), 7),
    "raw": lambda queue: queue.push_raw((1, b"<outer>", "<outer>"), 7),
    "raw in pieces": lambda queue: queue.push_item((1, b"<outer>", "<outer>"), 7),
    "many": lambda queue: queue.push_many([(b"<out", "<out"), (b"er>", "er>")], 7),
    "flush": lambda queue: queue.flush(),
    "uncork": lambda queue: (queue.cork(), queue.uncork()),
    "control": lambda queue: queue.push_control(lambda: b"<outer>"),
    "urgent": lambda queue: queue.put_urgent(b"<outer>"),
}

NESTED: dict[str, Callable[[SendQueue], object]] = {
    "push": lambda queue: push(queue, "<inner>"),
    "large": lambda queue: push(queue, f"<{'inner' * 2000}>"),
    "many": lambda queue: queue.push_many([(b"<in", "<in"), (b"ner>", "ner>")], 7),
    "raw": lambda queue: queue.push_raw((1, b"<inner>", "<inner>"), 7),
    "numbers": lambda queue: (queue.messages_sent, queue.bytes_sent, queue.dropped, queue.waiting_bytes,
                              queue.pacing and queue.pacing.wait()),
    "flush": lambda queue: queue.flush(by_loop=False),
    "corks": lambda queue: (queue.cork(), queue.uncork()),
}


@fault("sending", "A send that interrupts a send (in a signal handler or a finalizer)")
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("inner", NESTED)
@pytest.mark.parametrize("outer", ACTIONS)
def test_at_every_bytecode_any_call_goes_on_and_nothing_is_lost_or_sent_twice(
    outer: str, inner: str, budget: str
) -> None:
    point, got_there = 0, True
    while got_there:
        point += 1
        sink, asked = Sink(), Asked()
        queue = make_queue(
            sink, ask_loop=asked, gather=False, compress=whole, compress_in_pieces=in_pieces,
            budget=BUDGETS[budget](),
        )
        got_there = enter(
            lambda queue=queue: ACTIONS[outer](queue),  # type: ignore[misc]
            point, FILES,
            lambda queue=queue: NESTED[inner](queue),  # type: ignore[misc]
        )
        for _ in range(5):
            queue.flush()
        assert queue.finish() == (), point
        sent = sink.taken.decode()
        assert sent.count("<outer>") == (outer not in ("flush", "uncork")), (point, sent)
        if inner in ("push", "large", "many", "raw"):
            assert sent.count("inner>") == got_there, (point, sent)
        assert sent.count("<") == sent.count(">"), (point, sent)
        assert queue._outgoing.size == 0, point
    assert point > 20


def test_a_message_of_any_size_is_dropped_off_for_the_send_that_is_interrupted() -> None:
    sink = Sink()
    queue = make_queue(sink, gather=False)
    large = "L" * (sendqueue.DROP_OFF_BYTES + 1)
    queue.push_control(lambda: push(queue, large) and b"<first>")
    assert sink.taken.decode() == f"<first>{large}"


def test_a_close_frame_is_left_to_the_loop_by_a_call_that_interrupts_a_send() -> None:
    answers: list[bool] = []

    def encode() -> bytes:
        answers.append(queue.push_control(lambda: b"CLOSE", seal=True))
        return b"PING"

    queue = make_queue(Sink())
    assert queue.push_control(encode)
    assert answers == [False]


@fault("sending", "A send that interrupts a send (in a signal handler or a finalizer)")
@pytest.mark.parametrize("when_full", ["raise", "block"])
def test_without_room_a_call_that_interrupts_a_send_raises_whatever_the_rule(when_full: str) -> None:
    queue = blocked_queue(Sink(), limit=10, when_full=when_full)

    def encode() -> bytes:
        push(queue, "12345")
        with pytest.raises(QueueFull, match=r"10 bytes wait, 6 more .*; a call that interrupts"):
            push(queue, "67890!")
        return b"PING"

    assert queue.push_control(encode)
    assert queue.finish() == ("first", "12345")


def test_without_room_it_may_be_discarded_and_is_counted() -> None:
    queue = blocked_queue(Sink(), limit=10, when_full="drop")

    def encode() -> bytes:
        assert push(queue, "12345")
        assert not queue.push_many([(b"678", "678"), (b"90!", "90!")], 6)
        return b"PING"

    assert queue.push_control(encode)
    assert queue.dropped == 2


def test_behind_our_close_frame_it_is_refused() -> None:
    queue = make_queue(Sink())
    queue.push_control(lambda: b"CLOSE", seal=True)
    seen: list[type[BaseException]] = []

    def encode() -> bytes:
        with pytest.raises(WebSocketClosing) as refused:
            push(queue, "x")
        seen.append(refused.type)
        raise WebSocketClosing("again")

    with pytest.raises(WebSocketClosing, match="again"):
        queue.push_control(encode)
    assert seen == [WebSocketClosing]


def test_a_send_that_interrupts_the_writer_does_not_wait_for_room_that_only_the_writer_makes() -> None:
    class Nesting(Sink):
        def send(self, data: bytes | memoryview) -> int:
            if not self.offered:
                self.offered.append(bytes(data))
                with pytest.raises(QueueFull, match="cannot wait for room"):
                    push(queue, "x" * 20)
            return super().send(data)

    sink = Nesting()
    queue = make_queue(sink, limit=20, when_full="block", gather=False)
    assert push(queue, "12345")
    assert sink.taken == b"12345"
