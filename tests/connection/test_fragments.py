"""Fragments: large messages are split, and urgent control frames go between their parts."""

from __future__ import annotations

import pytest

from lochws.connection.outgoing import message_of
from lochws.connection.paced import Budget
from lochws.connection.sendqueue import SendQueue
from lochws.connection.window import SlidingWindow
from lochws.protocol.frames import Opcode, payload_of
from lochws.protocol.masking import MaskKeys
from lochws.protocol.sender import Sender

from ..support.queues import Clock, Sink

MESSAGE = bytes(range(250))


def queue_of(sink: Sink, sender: Sender, budget: Budget | None = None) -> SendQueue:
    return SendQueue(
        sink, pack=sender.pack, limit=1 << 20, ask_flush=lambda _flush: None, gather=False, budget=budget,
        batch_bytes=100,
    )


def zero_keyed(fragment: int | None) -> Sender:
    return Sender(keys=MaskKeys(bytes), fragment=fragment)


@pytest.mark.parametrize("fragment", [1, 2, 64, 125, 126, 249, 250, 251, None])
def test_a_message_can_be_read_from_its_fragments(fragment: int | None) -> None:
    frames = Sender(fragment=fragment).binary(MESSAGE)
    assert payload_of(frames) == MESSAGE
    assert message_of((frames, Opcode.BINARY)) == MESSAGE


def test_the_first_fragment_names_the_kind_and_only_the_last_one_is_final() -> None:
    frames = zero_keyed(100).text(b"x" * 250)
    assert [frames[0], frames[106], frames[212]] == [0x01, 0x00, 0x80]
    assert len(frames) == 106 + 106 + 56


def test_a_pong_goes_between_two_fragments() -> None:
    sender, sink = zero_keyed(100), Sink(room=50)
    queue = queue_of(sink, sender)
    frames, pong = sender.binary(MESSAGE), sender.pong(b"!")
    queue.push_item((frames, int(Opcode.BINARY)), len(MESSAGE))
    queue.put_urgent(pong)
    sink.room = None
    queue.flush()
    assert sink.taken == frames[:106] + pong + frames[106:]
    assert queue.messages_sent == 1


def test_a_message_that_was_sent_in_part_is_unsent() -> None:
    sender, sink = zero_keyed(100), Sink(room=150)
    queue = queue_of(sink, sender)
    queue.push_item((sender.binary(MESSAGE), int(Opcode.BINARY)), len(MESSAGE))
    assert queue.finish() == (MESSAGE,)
    assert queue.messages_sent == 0


def test_where_frames_are_counted_each_fragment_counts() -> None:
    sender, sink, clock = zero_keyed(100), Sink(), Clock()
    queue = queue_of(sink, sender, Budget(SlidingWindow(2, 1.0), True, clock))
    frames = sender.binary(MESSAGE)
    queue.push_item((frames, int(Opcode.BINARY)), len(MESSAGE))
    assert sink.taken == frames[:212]
    clock.now += 1.1
    queue.flush()
    assert sink.taken == frames
