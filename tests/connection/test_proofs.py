"""Proofs and receipts: what a pong confirms, and what is in doubt at the end."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lochws.connection import outgoing, proofs
from lochws.connection.compression import Compress
from lochws.connection.paced import Budget
from lochws.connection.proofs import MAX_BARRIERS, Proofs
from lochws.connection.receipts import NOWHERE, Receipt, ReceiptState
from lochws.connection.room import Bound
from lochws.connection.sendqueue import SendQueue
from lochws.connection.window import SlidingWindow
from lochws.errors import QueueFull
from lochws.options import Deflate
from lochws.protocol.deflate import DeflateParameters, Deflater
from lochws.protocol.frames import Opcode, payload_of
from lochws.protocol.sender import Sender

from ..support.queues import Clock, Hourly, Sink

CONFIRMED, IN_DOUBT, UNSENT = ReceiptState.CONFIRMED, ReceiptState.IN_DOUBT, ReceiptState.UNSENT


class Line:
    """A queue of which only this is known: how much the kernel has taken."""

    items_taken = 0


def receipt(line: Any = None) -> Receipt:
    return Receipt(line or Line(), lambda: True)


def numbered() -> Callable[[int], bytes]:
    """Return a source of random bytes that counts instead."""
    numbers = count(1)
    return lambda _size: b"%d" % next(numbers)


def make_proofs() -> Proofs:
    return Proofs(lambda payload: b"PING" + payload, numbered())


class TestProofs:
    def test_a_pong_confirms_what_was_queued_before_its_ping_and_nothing_else(self) -> None:
        known, first, second = make_proofs(), receipt(), receipt()
        known.add(first, 0, 1)
        assert known.barrier(1) == b"PING1"
        known.add(second, 2, 3)
        assert known.answered(b"1")
        assert known.take_confirmed() == [first]
        assert known.take_all(3) == [(second, IN_DOUBT)]

    def test_the_pong_of_a_later_ping_confirms_what_was_before_earlier_ones(self) -> None:
        known, first, second = make_proofs(), receipt(), receipt()
        known.add(first, 0, 1)
        known.barrier(1)
        known.add(second, 2, 3)
        known.barrier(3)
        assert known.answered(b"2")
        assert known.take_confirmed() == [first, second]
        assert not known.answered(b"1")

    def test_whether_a_barrier_is_wanted_can_be_asked_while_a_thread_takes_the_last_receipt(self) -> None:
        class TakenWhenCounted(list[Receipt]):
            def __len__(self) -> int:
                count = super().__len__()
                self.clear()
                return count

        known = make_proofs()
        known._receipts = TakenWhenCounted([receipt()])
        assert known.wants_barrier in (True, False)

    @pytest.mark.parametrize("payload", [b"", b"0", b"2", b"PING1"])
    def test_a_pong_that_answers_no_ping_of_ours_confirms_nothing(self, payload: bytes) -> None:
        known = make_proofs()
        known.add(receipt(), 0, 1)
        known.barrier(1)
        assert not known.answered(payload)
        assert not known.take_confirmed()

    def test_an_automatic_ping_that_overtook_waiting_messages_confirms_only_what_was_sent(self) -> None:
        known, first, second = make_proofs(), receipt(), receipt()
        known.add(first, 0, 1)
        known.add(second, 1, 2)
        known.pinged(b"automatic", 1)
        assert known.answered(b"automatic")
        assert known.take_confirmed() == [first]

    def test_few_barriers_wait_at_a_time_and_the_next_pong_lets_one_follow(self) -> None:
        known = make_proofs()
        for position in range(0, 20, 2):
            known.add(receipt(), position, position + 1)
            if known.wants_barrier:
                known.barrier(position + 1)
        assert not known.wants_barrier
        assert known.answered(b"%d" % MAX_BARRIERS)
        assert known.wants_barrier
        known.barrier(20)
        assert not known.wants_barrier
        assert known.answered(b"%d" % (MAX_BARRIERS + 1))
        assert len(known.take_confirmed()) == 10

    def test_an_item_that_is_queued_ahead_moves_the_receipts_behind_it(self) -> None:
        known, before, behind = make_proofs(), receipt(), receipt()
        known.add(before, 0, 1)
        known.add(behind, 1, 2)
        known.barrier(2)
        known.inserted(1)
        assert (behind._first, behind._end) == (2, 3)
        known.prove(2)
        assert known.take_confirmed() == [before]
        assert known.answered(b"1")
        assert known.take_confirmed() == [behind]

    def test_a_batch_is_unsent_only_if_none_of_it_was_sent(self) -> None:
        known, whole, part, none = make_proofs(), receipt(), receipt(), receipt()
        known.add(whole, 0, 10)
        known.add(part, 10, 20)
        known.add(none, 20, 30)
        assert known.take_all(11) == [(whole, IN_DOUBT), (part, IN_DOUBT), (none, UNSENT)]

    def test_the_same_object_dropped_off_twice_counts_in_both_places(self) -> None:
        known, nested, text = make_proofs(), receipt(), "same"
        known.nested.append(([text], nested))
        known.place_nested([text, "other", text], 100)
        assert (nested._first, nested._end) == (100, 103)
        assert not known.nested

    def test_a_nested_receipt_waits_until_its_message_is_dropped_off(self) -> None:
        known, nested = make_proofs(), receipt()
        known.nested.append((["late"], nested))
        known.place_nested(["other"], 100)
        assert known.nested
        assert known.take_all(NOWHERE) == [(nested, UNSENT)]

    def test_a_server_that_never_answers_pings_cannot_take_all_memory(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(proofs, "MAX_RECEIPTS", 3)
        known = make_proofs()
        for position in range(3):
            known.check_room()
            known.add(receipt(), position, position + 1)
        with pytest.raises(QueueFull, match=r"^not sent: 3 receipts of this connection are open already$"):
            known.check_room()
        for number in range(100):
            known.pinged(b"%d" % number, 3)
        assert len(known._pings) == proofs.MAX_PINGS


class TestReceipt:
    def test_its_state_is_also_a_string(self) -> None:
        line = Line()
        one = receipt(line)
        assert (one.state, f"{one.state}", str(one.state), repr(one)) == (
            "queued", "queued", "queued", "<Receipt: queued>",
        )
        one._first, one._end, line.items_taken = 0, 1, 1
        assert one.state is ReceiptState.WRITTEN
        one._settled(IN_DOUBT)
        assert (one.state, one.done(), one.result(0)) == ("in doubt", True, IN_DOUBT)

    def test_result_says_how_far_the_message_is_when_the_time_is_up(self) -> None:
        with pytest.raises(TimeoutError, match=r"^the message is still queued after 0 s$"):
            receipt().result(0)

    @pytest.mark.parametrize("timeout", ["1", True, float("nan")])
    def test_a_timeout_that_is_not_a_number_is_refused(self, timeout: Any) -> None:
        with pytest.raises((TypeError, ValueError), match=r"^result: timeout=.*: expected seconds, or None$"):
            receipt().result(timeout)

    @pytest.mark.parametrize("function", [None, lambda: None])
    def test_a_callback_that_cannot_be_called_with_it_is_refused(self, function: Any) -> None:
        with pytest.raises(TypeError, match="add_done_callback"):
            receipt().add_done_callback(function)

    def test_a_callback_is_called_once_whether_it_is_added_before_or_after(self) -> None:
        one, called = receipt(), []
        one.add_done_callback(called.append)
        for call in one._settled(CONFIRMED):
            call()
        one.add_done_callback(called.append)
        assert called == [one, one]


class Conversation:
    """A queue, and a server that reads part of what it sends and answers some pings."""

    def __init__(self, *, budget: str, compress: bool) -> None:
        self.sink = Sink()
        parameters = DeflateParameters()
        self.sender = Sender(Deflater(parameters, Deflate()) if compress else None)
        self.compress = compress
        paced = Budget(SlidingWindow(1, 1.0), budget == "frames", Hourly()) if budget else None
        self.queue = SendQueue(
            self.sink, pack=self.sender.pack, bound=Bound(1 << 24), ask_flush=lambda _: None, budget=paced,
            compress=Compress(self.sender.compressed, self.sender.compressing) if compress else None,
            proofs=Proofs(self.sender.ping, numbered()),
        )
        self.read = 0  # how much of what was taken the server has read
        self.pings: list[bytes] = []  # those it has read
        self.messages = 0  # as many has it read
        self.sent: list[list[str]] = []
        self.receipts: list[tuple[Receipt, int, int]] = []  # with the numbers of its messages
        self.confirmed: list[Receipt] = []
        self.number = 0

    def send(self, many: int, has_receipt: bool) -> None:
        texts = [f"{self.number + index}" for index in range(many)]
        items: list[Any] = texts
        if self.compress:
            items = [(Opcode.TEXT, text.encode(), text) for text in texts]
        mine = receipt(self.queue) if has_receipt else None
        assert self.queue.push_many(items, sum(map(len, texts)), mine)
        if mine is not None:
            self.receipts.append((mine, self.number, self.number + many))
        self.number += many

    def ping(self) -> None:
        """Send an automatic ping."""
        payload = b"automatic %d" % self.number
        self.queue.pinged(payload)
        self.queue.put_urgent(self.sender.ping(payload))
        self.queue.flush()

    def user_ping(self) -> None:
        """Send a ping of the user's, which may overtake messages that wait for the budget."""
        self.queue.push_item((self.sender.ping(b"user"), None), 4)

    def server_reads(self, share: float) -> None:
        """Have the server read a part of the bytes on the way, and keep the pings that it finds."""
        until = self.read + int(share * (len(self.sink.taken) - self.read) + 0.5)
        while (end := self._frame_end(self.read)) is not None and end <= until:
            frame = self.sink.taken[self.read : end]
            opcode = frame[0] & 0x0F
            if opcode == Opcode.PING:
                self.pings.append(payload_of(frame))
            elif opcode == Opcode.TEXT:
                self.messages += 1
            self.read = end

    def server_reads_to_a_ping(self) -> None:
        """Have the server read frames up to and including the next ping."""
        while not self.pings:
            end = self._frame_end(self.read)
            assert end is not None
            self.server_reads((end - self.read) / (len(self.sink.taken) - self.read))

    def _frame_end(self, start: int) -> int | None:
        data = self.sink.taken
        if len(data) < start + 2:
            return None
        return start + 6 + (data[start + 1] & 0x7F)

    def server_answers(self, which: float) -> None:
        """Have the server answer one of the pings that it has read, not necessarily the oldest or newest."""
        if self.pings:
            payload = self.pings.pop(int(which * len(self.pings)) % len(self.pings))
            for one in self.queue.answered(payload):
                self.confirmed.append(one)
                one._settled(CONFIRMED)
            self.queue.push_barrier()


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 3), st.booleans()),
        st.tuples(st.just("room"), st.one_of(st.none(), st.integers(0, 60))),
        st.tuples(st.just("ping")),
        st.tuples(st.just("user_ping")),
        st.tuples(st.just("server_reads"), st.floats(0, 1)),
        st.tuples(st.just("server_answers"), st.floats(0, 1)),
        st.tuples(st.just("flush")),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(
    actions=ACTIONS, budget=st.sampled_from(["", "messages", "frames"]), compress=st.booleans(),
    kept=st.sampled_from([2, 5, 4096]),
)
def test_confirmed_messages_were_read_unsent_ones_never_left_and_the_rest_is_in_doubt(
    actions: list[Any], budget: str, compress: bool, kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outgoing, "KEPT_ITEMS", kept)
        conversation = Conversation(budget=budget, compress=compress)
        queue, sink = conversation.queue, conversation.sink
        for name, *arguments in actions:
            if name == "room":
                sink.room = arguments[0]
                queue.flush()
            elif name == "flush":
                queue.flush()
            else:
                getattr(conversation, name)(*arguments)
            assert [state for one, _, _ in conversation.receipts if (state := one.state) == "confirmed"] == (
                ["confirmed"] * len(conversation.confirmed)
            )
        unsent = queue.finish()
    doubts = queue.doubts
    assert doubts is not None
    for one, state in doubts.receipts:
        one._settled(state)
    number = conversation.number
    # Messages leave in their order, so everything can be said with numbers.
    sent = number - len(unsent)
    assert unsent == tuple(map(str, range(sent, number)))
    assert doubts.messages == tuple(map(str, range(sent - len(doubts.messages), sent)))
    proven = sent - len(doubts.messages) - doubts.omitted
    assert proven <= conversation.messages <= sent
    if kept == 4096:
        assert not doubts.omitted
    for one, first, end in conversation.receipts:
        if one.state is CONFIRMED:
            assert end <= conversation.messages
        elif one.state is UNSENT:
            assert first >= sent
        else:
            assert one.state is IN_DOUBT
            assert first < sent


def test_a_confirmed_receipt_costs_one_ping_in_the_same_system_call() -> None:
    conversation = Conversation(budget="", compress=False)
    conversation.send(3, has_receipt=True)
    assert len(conversation.sink.offered) == 1
    conversation.server_reads(1.0)
    assert conversation.messages == 3
    assert len(conversation.pings) == 1
    conversation.server_answers(0)
    assert conversation.confirmed == [conversation.receipts[0][0]]


@pytest.mark.parametrize("counts", ["messages", "frames"])
def test_a_barrier_does_not_overtake_messages_that_wait_for_the_budget(counts: str) -> None:
    conversation = Conversation(budget=counts, compress=False)
    conversation.sink.room = 0
    conversation.send(3, has_receipt=True)
    conversation.user_ping()
    conversation.sink.room = None
    for _ in range(8):  # the budget admits something each time
        conversation.queue.flush()
    conversation.server_reads(1.0)
    assert conversation.pings[-1] == b"1"
    assert conversation.messages == 3


@pytest.mark.parametrize("counts", ["messages", "frames"])
def test_the_barrier_that_follows_a_pong_does_not_overtake_them_either(counts: str) -> None:
    conversation = Conversation(budget=counts, compress=False)
    for _ in range(MAX_BARRIERS):
        conversation.send(1, has_receipt=True)
    for _ in range(20):
        conversation.queue.flush()
    conversation.sink.room = 0
    conversation.send(3, has_receipt=True)
    conversation.server_reads(1.0)
    conversation.server_answers(0.99)
    assert len(conversation.confirmed) == MAX_BARRIERS
    conversation.sink.room = None
    for _ in range(20):
        conversation.queue.flush()
    conversation.pings.clear()
    conversation.server_reads_to_a_ping()
    assert conversation.messages == MAX_BARRIERS + 3


def test_an_automatic_ping_does_not_confirm_messages_that_it_has_overtaken() -> None:
    conversation = Conversation(budget="", compress=False)
    conversation.sink.room = 0
    conversation.send(1, has_receipt=False)
    conversation.send(1, has_receipt=True)  # not in the batch that the kernel has refused
    conversation.ping()
    conversation.sink.room = None
    conversation.queue.flush()
    conversation.server_reads_to_a_ping()
    assert conversation.messages == 1
    assert conversation.pings[0].startswith(b"automatic")
    conversation.server_answers(0)
    assert not conversation.confirmed
    conversation.server_reads_to_a_ping()
    conversation.server_answers(0)
    assert len(conversation.confirmed) == 1


class TestMemory:
    def test_sent_messages_are_released_when_newer_ones_have_taken_their_place(self) -> None:
        conversation = Conversation(budget="", compress=False)
        queue = conversation.queue
        message = b"x" * 1000
        for _ in range(5000):
            queue.push(message, len(message))
            queue.flush()
        assert queue.finish() == ()
        assert queue.doubts is not None
        kept = len(queue.doubts.messages)
        assert outgoing.KEPT_BYTES <= 1000 * kept <= 2.1 * outgoing.KEPT_BYTES
        assert queue.doubts.omitted == 5000 - kept

    def test_the_memory_of_compressed_messages_counts_as_it_is(self) -> None:
        conversation = Conversation(budget="", compress=True)
        text = "x" * 100_000
        for _ in range(50):
            conversation.queue.push_raw((Opcode.TEXT, text.encode(), text), len(text))
        conversation.queue.flush()
        conversation.queue.finish()
        doubts = conversation.queue.doubts
        assert doubts is not None
        assert 5 <= len(doubts.messages) <= 12

    def test_a_large_message_is_not_kept_once_it_was_sent(self) -> None:
        conversation = Conversation(budget="", compress=False)
        message = b"x" * (outgoing.KEPT_BYTES + 1)
        conversation.queue.push(b"small", 5)
        conversation.queue.flush()
        conversation.queue.push(message, len(message))
        conversation.queue.flush()
        conversation.queue.push(b"after", 5)
        conversation.queue.flush()
        conversation.queue.finish()
        assert conversation.queue.doubts is not None
        assert (conversation.queue.doubts.messages, conversation.queue.doubts.omitted) == ((b"after",), 2)

    def test_a_pong_releases_what_it_proves(self) -> None:
        conversation = Conversation(budget="", compress=False)
        conversation.send(3, has_receipt=False)
        conversation.ping()
        conversation.send(2, has_receipt=False)
        conversation.queue.flush()
        conversation.server_reads(1.0)
        conversation.server_answers(0)
        assert len(conversation.queue._outgoing.items) == 2
        assert conversation.queue.finish() == ()
        assert conversation.queue.doubts is not None
        assert (conversation.queue.doubts.messages, conversation.queue.doubts.omitted) == (("3", "4"), 0)


class AnsweredSink(Sink):
    """Gets the answer to our Close frame, or an identical one of the server's own, while it takes bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: SendQueue | None = None
        self.confirmed: list[Receipt] = []

    def send(self, data: bytes | memoryview) -> int:
        taken = super().send(data)
        if self.queue is not None:
            self.confirmed += self.queue.answered(None)
        return taken


def closing(sink: AnsweredSink, **options: Any) -> tuple[SendQueue, Receipt]:
    """Return a queue with an open receipt, before it is closed."""
    sender = Sender()
    queue = SendQueue(
        sink, pack=sender.pack, bound=Bound(1 << 24), ask_flush=lambda _: None,
        proofs=Proofs(sender.ping, numbered()), **options,
    )
    mine = receipt(queue)
    assert queue.push_many(["before"], 6, mine)
    sink.queue = queue
    return queue, mine


@pytest.mark.parametrize("budget", [None, "frames", "messages"])
@pytest.mark.parametrize("overtakes", [False, True])
def test_the_answer_to_our_close_frame_may_arrive_before_the_writer_has_noted_that_it_was_sent(
    budget: str | None, overtakes: bool
) -> None:
    sink = AnsweredSink()
    queue, mine = closing(sink, budget=budget and Budget(SlidingWindow(5, 1.0), budget == "frames", Clock()))
    assert queue.push_control(Sender().close, 1000, "bye", seal=True, overtakes=overtakes)
    queue.flush()
    assert sink.confirmed == [mine]
    assert queue.finish() == ()
    assert queue.doubts is not None
    assert queue.doubts.messages == ()
    assert queue.doubts.receipts == []


@pytest.mark.parametrize("counts_frames", [False, True])
def test_the_answer_to_a_close_frame_that_overtook_messages_confirms_none(counts_frames: bool) -> None:
    sink, clock = AnsweredSink(), Clock()
    queue, mine = closing(sink, budget=Budget(SlidingWindow(2, 1.0), counts_frames, clock))
    sink.queue = None
    late = receipt(queue)
    assert queue.push_many(["x", "over budget"], 12, late)
    sink.queue = queue
    assert queue.push_control(Sender().close, 1000, "bye", seal=True, overtakes=True)
    clock.now += 10
    queue.flush()
    assert sink.confirmed == [mine]
    assert queue.finish() == (("over budget",) if not counts_frames else ("x", "over budget"))
    assert queue.doubts is not None
    assert [one for one, _ in queue.doubts.receipts] == [late]


def test_a_close_frame_of_the_servers_own_proves_nothing_while_ours_waits() -> None:
    sink = AnsweredSink()
    queue, mine = closing(sink)
    sink.room = 0
    assert queue.push_many(["a message that the kernel does not take"], 39)
    queue.flush()
    assert queue.is_blocked
    assert queue.push_control(Sender().close, 1000, "bye", seal=True)
    assert not queue.answered(None)
    sink.room = 20  # a part of the batch without our Close frame
    queue.flush()
    assert sink.confirmed == []
    assert len(queue.finish()) == 1
    assert queue.doubts is not None
    assert queue.doubts.receipts == [(mine, IN_DOUBT)]
