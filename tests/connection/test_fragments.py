"""Fragments: large messages are split, and urgent control frames go between their parts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.frames import Opcode as PeerOpcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from lochws.connection.compression import Compress
from lochws.connection.outgoing import message_of
from lochws.connection.paced import Budget
from lochws.connection.receipts import Receipt, ReceiptState
from lochws.connection.room import Bound
from lochws.connection.sendqueue import SendQueue
from lochws.connection.window import SlidingWindow
from lochws.options import Deflate
from lochws.protocol.deflate import DeflateParameters, Deflater
from lochws.protocol.frames import Opcode, payload_of
from lochws.protocol.masking import MaskKeys
from lochws.protocol.sender import Sender

from ..support.queues import Clock, Hourly, Sink

MESSAGE = bytes(range(250))
#: Whether frames count, for each kind of budget; None without one.
BUDGETS = {"none": None, "messages": False, "frames": True}


class Server:
    """A server by another hand, which puts fragments together.

    Attributes:
        messages: the messages that it has read.
        pongs: the pongs that it has read.
    """

    def __init__(self, compress: bool) -> None:
        self._core = ServerProtocol(state=State.OPEN)
        if compress:
            self._core.extensions = [PerMessageDeflate(False, False, 15, 15)]
        self._parts: list[Frame] = []
        self.messages: list[str | bytes] = []
        self.pongs: list[bytes] = []

    def read(self, data: bytes) -> None:
        self._core.receive_data(data)
        for frame in self._core.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode is PeerOpcode.PONG:
                self.pongs.append(bytes(frame.data))
                continue
            self._parts.append(frame)
            if frame.fin:
                whole = b"".join(bytes(part.data) for part in self._parts)
                self.messages.append(whole.decode() if self._parts[0].opcode is PeerOpcode.TEXT else whole)
                self._parts = []
        assert self._core.parser_exc is None


def queued(sender: Sender, queue: SendQueue, message: str | bytes) -> None:
    """Send a message in the form that a connection gives it."""
    data = message.encode() if isinstance(message, str) else message
    opcode = Opcode.TEXT if isinstance(message, str) else Opcode.BINARY
    if sender.must_compress(data, True):
        queue.push_raw((opcode, data, message), len(data))
    else:
        frames = sender.text(data) if isinstance(message, str) else sender.binary(data)
        queue.push_item((frames, opcode), len(data))


def queue_of(sink: Sink, sender: Sender, budget: Budget | None = None) -> SendQueue:
    return SendQueue(
        sink, pack=sender.pack, bound=Bound(1 << 20), ask_flush=lambda _flush: None, gather=False,
        budget=budget, batch_bytes=100,
        compress=Compress(sender.compressed, sender.compressing) if sender.deflates else None,
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


class TestUsersControlFrames:
    """The user's pings and pongs, and the Close frame, with a message that is partly sent."""

    def started(self) -> tuple[Sender, Sink, SendQueue, bytes]:
        sender, sink = zero_keyed(100), Sink(room=50)
        queue = queue_of(sink, sender)
        frames = sender.binary(MESSAGE)
        queue.push_item((frames, Opcode.BINARY), len(MESSAGE))
        return sender, sink, queue, frames

    def freed(self, sink: Sink, queue: SendQueue) -> bytes:
        sink.room = None
        for _ in range(5):
            queue.flush()
        assert not queue.waiting_bytes
        return sink.taken

    def test_pings_and_pongs_go_between_two_fragments_in_order(self) -> None:
        sender, sink, queue, frames = self.started()
        controls = [sender.ping(b"1"), sender.pong(b"2"), sender.ping(b"3")]
        for control in controls:
            queue.push_item((control, None), 1)
        automatic = sender.pong(b"automatic")
        queue.put_urgent(automatic)
        assert self.freed(sink, queue) == frames[:106] + automatic + b"".join(controls) + frames[106:]

    @pytest.mark.parametrize("many", [False, True], ids=["alone", "one of many"])
    def test_they_overtake_a_large_message_that_has_not_begun(self, many: bool) -> None:
        sender, sink = zero_keyed(100), Sink(room=0)
        queue = queue_of(sink, sender)
        frames, ping = sender.binary(MESSAGE), sender.ping(b"!")
        queue.push("first", 5)
        if many:
            queue.push_many([(frames, Opcode.BINARY), "last"], len(MESSAGE) + 4)
        else:
            queue.push_item((frames, Opcode.BINARY), len(MESSAGE))
        queue.push_item((ping, None), 1)
        assert self.freed(sink, queue)[11:].startswith(ping + frames[:106])

    def test_without_a_large_message_they_keep_their_place(self) -> None:
        sender, sink = zero_keyed(100), Sink(room=0)
        queue = queue_of(sink, sender)
        ping = sender.ping(b"!")
        queue.push("first", 5)
        queue.push("second", 6)
        queue.push_item((ping, None), 1)
        queue.push("third", 5)
        assert self.freed(sink, queue).index(b"second") < sink.taken.index(ping) < sink.taken.index(b"third")

    def test_those_sent_after_a_large_message_keep_their_place_again(self) -> None:
        sender, sink, queue, frames = self.started()
        self.freed(sink, queue)
        sink.room = 0
        ping = sender.ping(b"!")
        queue.push("second", 6)
        queue.push_item((ping, None), 1)
        assert self.freed(sink, queue) == frames + sender.pack(["second"], 0, 100)[0] + ping

    def test_a_close_frame_waits_for_the_last_fragment(self) -> None:
        sender, sink, queue, frames = self.started()
        queue.push_control(sender.close, 1000, "bye", seal=True)
        assert self.freed(sink, queue).startswith(frames)
        assert sink.taken[len(frames)] == 0x88
        assert queue.finish() == ()

    @pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
    def test_a_close_frame_that_overtakes_goes_between_two_fragments(self, late: bool) -> None:
        sender, sink, queue, frames = self.started()
        queue.push("after", 5)
        queue.push_item((sender.ping(b"never"), None), 5)
        queue.push_control(sender.close, 1000, "bye", seal=True, overtakes=not late)
        if late:
            queue.overtake()
        assert not queue.is_close_taken
        assert self.freed(sink, queue).startswith(frames[:106])
        assert sink.taken[106:] == zero_keyed(None).close(1000, "bye")
        assert queue.is_close_taken
        assert queue.finish() == (MESSAGE, "after")
        assert queue.doubts is not None
        assert queue.doubts.messages == ()

    def test_what_waits_before_a_large_message_is_sent_before_a_close_frame_that_overtakes_it(self) -> None:
        sender, sink = zero_keyed(100), Sink(room=0)
        queue = queue_of(sink, sender)
        queue.push("first", 5)
        queue.push_item((sender.binary(MESSAGE), Opcode.BINARY), len(MESSAGE))
        queue.push_control(sender.close, 1000, "bye", seal=True, overtakes=True)
        sent = self.freed(sink, queue)
        assert sent == zero_keyed(None).text(b"first") + zero_keyed(None).close(1000, "bye")
        assert queue.finish() == (MESSAGE,)

    def test_receipts_of_what_a_close_frame_overtakes_are_unsent(self) -> None:
        sender, sink = zero_keyed(100), Sink(room=50)
        queue = queue_of(sink, sender)
        kept = [Receipt(queue, lambda: True) for _ in range(2)]
        queue.push_many([(sender.binary(MESSAGE), Opcode.BINARY)], len(MESSAGE), kept[0])
        queue.push_many(["after"], 5, kept[1])
        queue.push_control(sender.close, 1000, "bye", seal=True, overtakes=True)
        self.freed(sink, queue)
        assert queue.answered(None) == []
        queue.finish()
        assert queue.doubts is not None
        assert [state for _, state in queue.doubts.receipts] == [ReceiptState.UNSENT] * 2


def test_where_frames_are_counted_the_wait_counts_fragments() -> None:
    sender, sink, clock = zero_keyed(100), Sink(), Clock()
    queue = queue_of(sink, sender, Budget(SlidingWindow(1, 1.0), True, clock))
    assert queue.pacing is not None
    queue.push_item((sender.binary(MESSAGE), Opcode.BINARY), len(MESSAGE))  # three frames, one of them sent
    for left in (3.0, 2.0, 1.0):
        assert queue.pacing.wait() == pytest.approx(left, abs=0.2)
        clock.now += 1.1
        queue.flush()


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("counts_frames", BUDGETS.values(), ids=BUDGETS)
def test_wherever_the_connection_is_cut_each_message_is_in_doubt_or_unsent_once_and_whole(
    compress: bool, counts_frames: bool | None
) -> None:
    messages: list[str | bytes] = ["before", "grüße " * 20, bytes(range(150)), "after"]
    room, is_whole = 0, False
    while not is_whole:
        sender = Sender(Deflater(DeflateParameters(), Deflate()) if compress else None, fragment=40)
        budget = None if counts_frames is None else Budget(SlidingWindow(1, 1.0), counts_frames, Hourly())
        sink, server = Sink(room), Server(compress)
        queue = queue_of(sink, sender, budget)
        for message in messages:
            queued(sender, queue, message)
        for _ in range(20):
            queue.flush()
        is_whole = not queue.waiting_bytes
        unsent = queue.finish()
        assert queue.doubts is not None
        server.read(sink.taken)
        assert queue.doubts.messages == tuple(server.messages)
        assert queue.messages_sent == len(server.messages)
        assert not queue.doubts.omitted
        assert [*queue.doubts.messages, *unsent] == messages
        room += 1
    assert room > 150


@settings(max_examples=120, deadline=None)
@given(
    fragment=st.one_of(st.integers(1, 60), st.integers(1, 300), st.none()),
    messages=st.lists(
        st.one_of(st.text(max_size=80), st.binary(max_size=300), st.integers(50, 300).map("é".__mul__)),
        max_size=6,
    ),
    rooms=st.lists(st.integers(0, 200), min_size=4, max_size=12),
    reads=st.integers(1, 500),
    compress=st.booleans(),
    counts_frames=st.sampled_from([None, False, True]),
)
def test_the_server_reads_the_same_messages_whatever_the_fragments_and_the_splits(
    fragment: int | None, messages: list[str | bytes], rooms: list[int], reads: int, compress: bool,
    counts_frames: bool | None,
) -> None:
    sender = Sender(Deflater(DeflateParameters(), Deflate()) if compress else None, fragment=fragment)
    budget = None if counts_frames is None else Budget(SlidingWindow(1, 1.0), counts_frames, Hourly())
    sink, server = Sink(room=0), Server(compress)
    queue = queue_of(sink, sender, budget)
    for message in messages:
        queued(sender, queue, message)
    for number, sink.room in enumerate(rooms):
        queue.put_urgent(sender.pong(b"%d" % number))
        queue.flush()
    sink.room = None
    for _ in range(sum(map(len, messages)) * 2 + len(messages) + len(rooms)):  # more than there are frames
        queue.flush()
    assert not queue.waiting_bytes
    for start in range(0, len(sink.taken), reads):
        server.read(sink.taken[start : start + reads])
    assert server.messages == messages
    assert server.pongs == sorted(server.pongs, key=int)


def test_where_frames_are_counted_a_pong_may_take_the_turn_of_a_fragment() -> None:
    sender, sink, clock = zero_keyed(100), Sink(), Clock()
    queue = queue_of(sink, sender, Budget(SlidingWindow(1, 1.0), True, clock))
    frames, pong = sender.binary(MESSAGE), sender.pong(b"!")
    queue.push_item((frames, Opcode.BINARY), len(MESSAGE))
    queue.put_urgent(pong)
    for expected in (frames[:106] + pong, frames[:106] + pong + frames[106:212]):
        clock.now += 1.1
        queue.flush()
        assert sink.taken == expected
    clock.now += 1.1
    queue.flush()
    assert sink.taken == frames[:106] + pong + frames[106:]
    assert queue.messages_sent == 1
