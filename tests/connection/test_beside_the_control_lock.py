"""Sends by a call that holds the control lock, while the holder of the queue's lock waits for that lock.

A finalizer may run in the middle of a section under either lock, and call any public method. The holder of
the control lock waits for no other one, so the other thread gets it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from lochws.connection.sendqueue import SendQueue
from lochws.system.control import control_lock

from ..support.queues import Asked, Sink, make_queue, push
from ..support.seen import PATIENCE, in_thread


def in_pieces(_opcode: int, data: bytes) -> Iterator[bytes]:
    yield b""
    yield data


def whole(_opcode: int, data: bytes) -> bytes:
    return data


CALLS: dict[str, Callable[[SendQueue], object]] = {
    "push": lambda queue: queue.push("<x>", 3),
    "item": lambda queue: push(queue, "<x>"),
    "large": lambda queue: push(queue, f"<x{'x' * 10_000}>"),
    "many": lambda queue: queue.push_many([(b"<x", "<x"), (b">", ">")], 3),
    "raw": lambda queue: queue.push_raw((1, b"<x>", "<x>"), 3),
    "control": lambda queue: queue.push_control(lambda: b"<x>") and pytest.fail("it waits"),
    "flush": lambda queue: queue.flush(by_loop=False),
    "uncork": lambda queue: (queue.cork(), queue.push("<x>", 3), queue.uncork()),
    "overtake": lambda queue: queue.overtake(),
    "numbers": lambda queue: (queue.waiting_bytes, queue.messages_sent, queue.pacing and queue.pacing.wait()),
}

#: How many messages these send.
MESSAGES = {"push": 1, "item": 1, "large": 1, "many": 2, "raw": 1, "uncork": 1}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("is_locked", [True, False], ids=["locked", "free"])
def test_it_waits_for_nothing_and_nothing_is_lost(name: str, is_locked: bool) -> None:
    sink, asked = Sink(), Asked()
    queue = make_queue(sink, ask_loop=asked, gather=False, compress=whole, compress_in_pieces=in_pieces)
    has_lock, is_held, written = threading.Event(), threading.Event(), []

    def other() -> None:
        with queue._lock:
            has_lock.set()
            is_held.wait(PATIENCE)
            with control_lock():  # a finalizer's
                pass

    def finalizer() -> None:
        with control_lock():
            is_held.set()
            CALLS[name](queue)
            written.append(sink.taken)

    threads = []
    if is_locked:
        threads.append(in_thread(other))
        has_lock.wait(PATIENCE)
    threads.append(in_thread(finalizer))
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "it hangs"
    assert written == [b""]  # the stream, too, has a lock
    for _ in range(5):
        queue.flush()
    assert queue.messages_sent == MESSAGES.get(name, 0)
    if name == "control":  # the connection has the loop send it
        assert sink.taken == b""
    assert asked.times or is_locked or name in ("numbers", "control", "overtake")
    assert queue.finish() == ()
