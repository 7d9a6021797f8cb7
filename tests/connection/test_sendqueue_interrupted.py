"""Ctrl-C wherever Python looks for signals in the send queue: no lock stays held, nothing is lost."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lochws.connection import compression, outgoing, paced, pacing, room, sendqueue, window
from lochws.connection.sendqueue import DROP_OFF_BYTES, SendQueue
from lochws.errors import TransportFail, WebSocketClosed, WebSocketClosing
from lochws.protocol.frames import Opcode
from lochws.protocol.masking import MaskKeys
from lochws.protocol.sender import Sender

from ..support.interrupting import Interrupted, interrupt
from ..support.queues import BUDGETS, Asked, Sink, blocked_queue, make_queue, push
from ..support.seen import PATIENCE

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="opcodes are others there")

FILES = {module.__file__ for module in (compression, outgoing, paced, pacing, room, sendqueue, window)}


def entry(text: str) -> tuple[bytes, str]:
    return text.encode(), text


def compress(_opcode: int, data: bytes) -> Iterator[bytes]:
    yield b""
    yield data.upper()


def whole(_opcode: int, data: bytes) -> bytes:
    return data.upper()


ACTIONS: dict[str, Callable[[SendQueue], object]] = {
    "push": lambda queue: push(queue, "d"),
    "many": lambda queue: queue.push_many([entry("d"), entry("e")], 2),
    "control": lambda queue: queue.push_control(bytes, b"D", seal=True),
    "compressed": lambda queue: queue.push_raw((1, b"d", "d"), 1),
    "compressed in pieces": lambda queue: queue.push_item((1, b"d", "d"), 1),
    "many, some compressed": lambda queue: queue.push_many([entry("d"), (1, b"e", "e"), entry("f")], 3),
    "flush": lambda queue: queue.flush(),
}


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ACTIONS)
def test_wherever_ctrl_c_strikes_nothing_is_locked_lost_or_sent_twice(
    name: str, full: bool, budget: str
) -> None:
    point, struck = 0, True
    while struck:
        point += 1
        sink = Sink()
        queue = make_queue(
            sink, gather=False, compress=whole, compress_in_pieces=compress, budget=BUDGETS[budget]()
        )
        if full:  # more than one batch waits, a pong too
            queue.cork()
            for letter in "xyz":
                queue._outgoing.add((letter.encode() * 40_000, letter))
            queue._corks.clear()
            queue.put_urgent(b"P")
        with queue._lock:  # other threads' messages
            for letter in "abc":
                assert push(queue, letter)
        act = ACTIONS[name]
        struck = interrupt(lambda queue=queue, act=act: act(queue), point, FILES)  # type: ignore[misc]
        assert not queue._lock.locked(), point
        queue.flush()
        queue.flush()
        unsent = queue.finish()
        sent = sink.taken.decode()
        for letter in "abcxyz" if full else "abc":
            assert letter in sent or letter in unsent, (point, letter)
            assert sent.count(letter) in ((0, 40_000) if letter in "xyz" else (0, 1)), (point, letter)
    assert point > 10


@pytest.mark.parametrize("closes", [False, True], ids=["flush", "close"])
@pytest.mark.parametrize("budget", BUDGETS)
def test_wherever_ctrl_c_strikes_a_large_message_is_whole_or_unsent_and_a_ping_is_not_repeated(
    budget: str, closes: bool
) -> None:
    large, point, struck = bytes(range(250)), 0, True
    while struck:
        point += 1
        sink, sender = Sink(room=150), Sender(keys=MaskKeys(bytes), fragment=100)
        queue = make_queue(sink, pack=sender.pack, gather=False, budget=BUDGETS[budget](), batch_bytes=100)
        queue.push_item((sender.binary(large), Opcode.BINARY), len(large))
        queue.push("after", 5)
        sink.room = None

        def act(queue: SendQueue = queue, sender: Sender = sender) -> None:
            queue.push_item((sender.ping(b"<ping>"), None), 6)
            if closes:
                queue.push_control(sender.close, 1000, "<close>", seal=True, overtakes=True)
            for _ in range(4):
                queue.flush()

        struck = interrupt(act, point, FILES)
        assert not queue._lock.locked(), point
        for _ in range(6):
            queue.flush()
        unsent = queue.finish()
        assert queue.doubts is not None
        sent = sink.taken
        assert sent.count(b"<ping>") <= 1, point
        assert sent.count(b"<close>") <= closes, point
        assert (large[200:] in sent) == (large not in unsent), point
        assert (b"after" in sent) == ("after" not in unsent), point
        assert [*unsent].count(large) <= 1, point
        assert not closes or b"<close>" not in sent or sent.endswith(b"<close>"), point
    assert point > 10


def test_ctrl_c_while_waiting_for_room_does_not_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Sink()
    queue = blocked_queue(sink, limit=5, when_full="block")

    def wait(*_args: object) -> bool:
        raise Interrupted

    monkeypatch.setattr("lochws.system.waits.Waiters.wait", wait)
    with pytest.raises(Interrupted):
        push(queue, "x")
    assert queue.failure is None
    sink.room = None
    queue.flush()
    assert sink.taken == b"first"


class TestLeaving:
    def test_what_is_dropped_off_while_a_close_frame_is_refused_is_sent(self) -> None:
        sink, sender = Sink(), Sender()
        queue = make_queue(sink, gather=False)
        sender.close(1000)

        def refuse(*args: Any) -> bytes:
            other = threading.Thread(target=push, args=(queue, "left"))
            other.start()
            other.join(PATIENCE)
            return sender.close(*args)

        with pytest.raises(WebSocketClosing):
            queue.push_control(refuse, 1000, "")
        assert sink.taken == b"left"

    def test_a_message_that_comes_after_the_end_is_refused_while_others_come(self) -> None:
        queue = make_queue(Sink())
        queue.finish()

        mine = entry("mine")
        queue._dropped_off.extend([entry("mine"), mine])
        stop = threading.Event()

        def leave() -> None:
            while not stop.is_set() and len(queue._dropped_off) < 100_000:
                queue._dropped_off.append(entry("other"))

        other = threading.Thread(target=leave)
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        other.start()
        try:
            for _ in range(50):
                with pytest.raises(WebSocketClosed):
                    queue._check_dropped_off(mine)
                assert all(left is not mine for left in list(queue._dropped_off))
                queue._dropped_off.append(mine)
        finally:
            stop.set()
            sys.setswitchinterval(before)
            other.join(PATIENCE)

    def test_a_small_bound_holds_for_what_is_left_too(self) -> None:
        sink = Sink(room=0)
        queue = make_queue(sink, limit=2 * DROP_OFF_BYTES, gather=False)
        with queue._lock:
            assert queue._drop_off((b"a", "a"), 1)
            assert queue._drop_off((b"b", "b"), 1)
            assert not queue._drop_off((b"c", "c"), 1)
        assert queue.finish() == ("a", "b")


def test_of_many_messages_that_fail_none_is_reported_besides() -> None:
    sink, asked = Sink(), Asked()
    queue = make_queue(sink, ask_loop=asked)
    sink.error = OSError("reset")
    with pytest.raises(TransportFail):
        queue.push_many([entry("a"), entry("b")], 2)
    assert queue.finish() == ()
