"""The send queue of a connection with a budget: what is sent when, and what is asked of the loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws.base.records import changed
from lochws.connection.paced import Budget
from lochws.connection.window import SlidingWindow
from lochws.errors import QueueFull, WebSocketClosing
from lochws.options import Deflate
from lochws.protocol.deflate import DeflateParameters, Deflater
from lochws.protocol.masking import MaskKeys
from lochws.protocol.sender import Sender

from ..support.queues import Asked, Clock, Sink, make_queue, push
from ..support.seen import PATIENCE

ZEROS = MaskKeys(bytes)


class Line(Sink):
    """A sink that notes when it took each call's bytes."""

    def __init__(self, clock: Clock, room: int | None = None) -> None:
        super().__init__(room)
        self.clock = clock
        self.times: list[float] = []

    def send(self, data: bytes | memoryview) -> int:
        self.times.append(self.clock.now)
        return super().send(data)


class Paced:
    """A queue with a budget, its sink and its clock."""

    def __init__(self, count: int, seconds: float = 1.0, *, frames: bool = False, **options: Any) -> None:
        self.clock: Clock = options.pop("clock", None) or Clock()
        self.sink = Line(self.clock)
        self.asked = Asked()
        self.sender = Sender(keys=ZEROS)
        window = options.pop("window", None) or SlidingWindow(count, seconds)
        budget = Budget(window, frames, self.clock)
        options = {"pack": self.sender.pack, **options}
        self.queue = make_queue(self.sink, ask_loop=self.asked, budget=budget, **options)
        assert self.queue.pacing is not None
        self.pacing = self.queue.pacing

    def push(self, *texts: str) -> None:
        for text in texts:
            push(self.queue, text)

    def ping(self, payload: bytes) -> None:
        self.queue.push_item((self.sender.ping(payload), None), len(payload))

    def pong(self, payload: bytes) -> None:
        """Answer a ping, as the loop does."""
        self.queue.put_urgent(self.sender.pong(payload))
        self.queue.flush()

    def close(self, *, overtakes: bool = False) -> None:
        self.queue.push_control(self.sender.close, 1000, "bye", seal=True, overtakes=overtakes)

    def pass_time(self, seconds: float) -> None:
        """Let time pass as the loop does: flush now, and at each time for which the queue asks."""
        end = self.clock.now + seconds
        self.queue.flush()
        while (when := self.pacing.wake_at()) is not None and when <= end:
            self.clock.now = when
            self.queue.flush()
        self.clock.now = end

    @property
    def sent(self) -> str:
        return self.sink.taken.decode("latin-1")


def controls(paced: Paced) -> str:
    """Return the bytes sent, with readable names of the control frames (their masking key is 0)."""
    text = paced.sent
    for opcode, name in ((0x88, "C"), (0x89, "P"), (0x8A, "p")):
        while (at := text.find(chr(opcode))) >= 0:
            length = ord(text[at + 1]) & 0x7F
            payload = text[at + 6 : at + 6 + length]
            text = f"{text[:at]}<{name}{payload if name != 'C' else ''}>{text[at + 6 + length:]}"
    return text


class TestData:
    def test_messages_over_budget_wait_and_leave_in_order_when_the_window_opens(self) -> None:
        paced = Paced(2)
        paced.push("a", "b", "c", "d", "e")
        assert paced.sent == "ab"
        paced.pass_time(0.999)
        assert paced.sent == "ab"
        paced.pass_time(0.001)
        assert paced.sent == "abcd"
        paced.pass_time(1.0)
        assert paced.sent == "abcde"
        assert paced.pacing.wake_at() is None

    def test_the_loop_is_asked_once_for_all_messages_that_wait(self) -> None:
        paced = Paced(1)
        paced.push("a")
        assert paced.asked.times == 0
        paced.push("b", "c", "d")
        assert paced.asked.times == 1
        paced.queue.flush()  # it comes, and sets its timer
        assert paced.pacing.wake_at() == paced.clock.now + 1.0
        paced.push("e")
        assert paced.asked.times <= 2

    def test_a_sender_writes_by_itself_if_the_window_opens_before_the_loop_comes(self) -> None:
        paced = Paced(1)
        paced.push("a", "b")
        paced.clock.now += 1.0
        paced.push("c")
        assert paced.sent == "ab"
        assert paced.pacing.wake_at() == paced.clock.now + 1.0

    def test_messages_sent_together_wait_for_their_budget_one_by_one(self) -> None:
        paced = Paced(3)
        assert paced.queue.push_many(["a", "b", "c", "d", "e"], 5)
        assert paced.sent[6::7] == "abc"
        paced.pass_time(1.0)
        assert paced.sent[6::7] == "abcde"

    def test_corked_messages_wait_for_the_budget_after_the_cork(self) -> None:
        paced = Paced(2)
        paced.queue.cork()
        paced.push("a", "b", "c")
        assert paced.sent == ""
        paced.queue.uncork()
        assert paced.sent == "ab"
        paced.pass_time(1.0)
        assert paced.sent == "abc"

    def test_a_full_kernel_delays_the_count(self) -> None:
        paced = Paced(2)
        paced.sink.room = 0
        paced.push("a", "b", "c", "d")
        assert paced.queue.is_blocked
        paced.pass_time(10.0)
        paced.sink.room = None
        paced.queue.flush()
        assert paced.sent == "ab"
        paced.pass_time(0.99)
        assert paced.sent == "ab"
        paced.pass_time(0.01)
        assert paced.sent == "abcd"

    def test_what_tcp_keeps_back_counts_from_when_it_is_sent(self) -> None:
        paced = Paced(2)
        behind = [True]
        outgoing: Any = paced.queue._outgoing
        outgoing._budget = changed(outgoing._budget, is_behind=lambda: behind[0])
        paced.push("a", "b", "c", "d")
        assert paced.sent == "ab"
        assert paced.pacing.wait() == 2.0
        paced.pass_time(5.0)
        assert paced.sent == "ab"
        behind[0] = False
        paced.pass_time(0.02)  # the next look
        assert paced.pacing.wait() == pytest.approx(2.0, abs=0.02)
        paced.pass_time(0.97)
        assert paced.sent == "ab"
        paced.pass_time(0.02)
        assert paced.sent == "abcd"

    def test_the_bound_of_the_queue_holds_for_what_waits_for_the_budget(self) -> None:
        paced = Paced(1, limit=30)
        paced.push("first", "x" * 20)
        with pytest.raises(QueueFull, match="the queue is full"):
            paced.push("y" * 20)
        dropping = Paced(1, limit=30, when_full="drop")
        dropping.push("first", "x" * 20)
        assert not push(dropping.queue, "y" * 20)
        assert dropping.queue.dropped == 1

    def test_a_sender_that_blocks_gets_room_when_the_window_opens(self) -> None:
        paced = Paced(1, limit=30, when_full="block", send_timeout=10.0)
        paced.push("first", "x" * 20)
        thread = threading.Thread(target=paced.push, args=("y" * 20,))
        thread.start()
        while not paced.queue._room.waiting:
            assert thread.is_alive()
        paced.clock.now += 1.0
        paced.queue.flush()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        paced.pass_time(1.0)
        assert paced.sent == "first" + "x" * 20 + "y" * 20

    def test_compressed_messages_are_sent_in_the_order_of_their_compression(self) -> None:
        sender = Sender(Deflater(DeflateParameters(), Deflate()))
        paced = Paced(1, pack=sender.pack, compress=sender.compressed,
                      compress_in_pieces=sender.compressing)
        frames = []
        for text in (b"one one", b"two two", b"one two"):
            paced.queue.push_raw((1, text, text.decode()), len(text))
        for _ in range(3):
            frames.append(len(paced.sink.taken))
            paced.pass_time(1.0)
        assert len(set(frames)) == 3
        assert paced.queue.messages_sent == 3

    def test_what_still_waits_at_the_end_is_unsent(self) -> None:
        paced = Paced(1)
        paced.push("a", "b", "c")
        paced.ping(b"1")
        assert paced.queue.finish() == ("b", "c")

    @given(
        st.integers(1, 5),
        st.integers(1, 5).map(float),
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7), st.booleans()), max_size=25),
    )
    def test_the_sink_sees_the_window_and_the_order_and_no_needless_wait(
        self, limit: int, seconds: float, steps: list[tuple[int, int, bool]]
    ) -> None:
        paced = Paced(limit, seconds)
        wanted: list[float] = []
        for after, count, together in steps:
            paced.pass_time(after)
            texts = [chr(0x4E00 + len(wanted) + number) for number in range(count)]
            if together:
                paced.queue.push_many([(text.encode(), text) for text in texts], 3 * count)
            else:
                paced.push(*texts)
            wanted += [paced.clock.now] * count
        paced.pass_time(1000.0)
        assert paced.sink.taken.decode() == "".join(chr(0x4E00 + place) for place in range(len(wanted)))
        sent = [when for when, data in zip(paced.sink.times, paced.sink.offered, strict=True)
                for _ in range(len(data) // 3)]
        earliest: list[float] = []
        for place, when in enumerate(wanted):
            earliest.append(max(when, earliest[place - limit] + seconds if place >= limit else 0.0))
        assert sent == earliest


class Ticking(Clock):
    """A clock on which time passes whenever it is asked."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.mark.parametrize("hundredths", range(5, 205, 5))
def test_wherever_the_window_opens_in_the_meantime_the_loop_comes(hundredths: int) -> None:
    paced = Paced(1, 1.0)
    clock = Ticking(hundredths / 100)
    paced.queue._outgoing._budget = changed(paced.queue._outgoing._budget, clock=clock)  # type: ignore[attr-defined]
    for letter in "abcdefgh":
        asked = paced.asked.times
        paced.push(letter)
        is_asked = paced.asked.times > asked or paced.queue._asked
        assert is_asked or paced.pacing.has_timer or not paced.queue.waiting_bytes, letter
        if is_asked:
            paced.queue.flush()
            has_timer = paced.pacing.wake_at() is not None
            assert has_timer or paced.queue._asked or not paced.queue.waiting_bytes, letter


class TestControls:
    def test_pings_and_pongs_cost_nothing_if_messages_are_counted(self) -> None:
        paced = Paced(1)
        paced.push("a", "b")
        paced.ping(b"1")
        paced.pong(b"2")
        paced.pong(b"3")
        assert controls(paced) == "a<P1><p2><p3>"
        paced.pass_time(1.0)
        assert controls(paced) == "a<P1><p2><p3>b"

    def test_if_frames_are_counted_pings_and_pongs_go_first_and_take_from_the_budget(self) -> None:
        paced = Paced(2, frames=True)
        paced.push("a", "b", "c", "d")
        paced.ping(b"1")
        paced.pong(b"2")
        assert controls(paced) == "ab"
        paced.pass_time(1.0)
        assert controls(paced) == "ab<p2><P1>"
        paced.pass_time(1.0)
        assert controls(paced) == "ab<p2><P1>cd"

    def test_of_the_pongs_that_wait_only_the_newest_is_kept(self) -> None:
        paced = Paced(1, frames=True)
        paced.push("a")
        for number in range(1000):
            paced.pong(str(number).encode())
        assert len(paced.queue._outgoing.urgent) == 1
        paced.pass_time(1.0)
        assert controls(paced) == "a<p999>"

    def test_a_keepalive_ping_and_a_pong_do_not_displace_each_other(self) -> None:
        paced = Paced(1, frames=True)
        paced.push("a")
        paced.pong(b"1")
        paced.queue.put_urgent(paced.sender.ping(b"2"))
        paced.queue.flush()
        assert paced.pacing.holds_ping
        paced.pass_time(2.0)
        assert controls(paced) == "a<p1><P2>"
        assert not paced.pacing.holds_ping

    def test_the_users_pings_are_bounded_by_the_queue(self) -> None:
        paced = Paced(1, frames=True, limit=100)
        paced.push("a")
        for _ in range(6):  # of 14 bytes
            paced.ping(b"12345678")
        with pytest.raises(QueueFull):
            paced.ping(b"1234567890123456789")
        paced.pass_time(100.0)
        assert not paced.queue.waiting_bytes

    def test_the_predicted_wait_includes_what_goes_first(self) -> None:
        paced = Paced(2, frames=True)
        assert paced.pacing.wait() == 0.0
        paced.push("a", "b", "c")
        assert paced.pacing.wait() == 1.0
        paced.ping(b"1")
        assert paced.pacing.wait() == 2.0
        paced.pass_time(5.0)
        assert paced.pacing.wait() == 0.0


class TestOtherThreads:
    def test_the_loop_reads_the_window_under_the_lock_because_writers_change_it(self) -> None:
        clock = Watched()
        paced = Paced(1, frames=True, clock=clock)
        paced.push("a")
        paced.pong(b"1")
        held: list[bool] = []
        clock.looked = lambda: held.append(paced.queue._lock.locked())
        assert paced.pacing.holds_ping
        assert paced.pacing.wake_at() == paced.clock.now + 1.0
        assert held
        assert all(held)

    def test_a_call_that_interrupts_the_locks_holder_looks_again_soon_instead_of_waiting_for_it(self) -> None:
        paced = Paced(1, frames=True)
        paced.push("a", "b")
        seen: list[object] = []

        def interrupt() -> bytes:
            seen.extend((paced.pacing.wake_at(), paced.pacing.holds_ping, paced.pacing.wait()))
            return paced.sender.ping(b"1")

        assert paced.queue.push_control(interrupt)
        assert seen == [paced.clock.now + 0.01, False, 2.0]

    def test_a_call_that_interrupts_another_one_survives_a_change_of_the_window(self) -> None:
        window = Changing(1, 1.0)
        paced = Paced(1, window=window)
        waits: list[float] = []

        def interrupt() -> bytes:
            window.changes = 3
            waits.append(paced.pacing.wait())
            return paced.sender.ping(b"1")

        assert paced.queue.push_control(interrupt)
        assert waits == [0.0]
        assert window.changes == 0


class Watched(Clock):
    """A clock that calls a function whenever it is read."""

    looked: Callable[[], object] = staticmethod(lambda: None)

    def __call__(self) -> float:
        self.looked()
        return super().__call__()


class Changing(SlidingWindow):
    """A window that another thread changes during the next few calls of `wait`."""

    changes = 0

    def wait(self, ahead: int, now: float) -> float:
        if self.changes:
            self.changes -= 1
            raise RuntimeError("deque mutated during iteration")
        return super().wait(ahead, now)


class TestClose:
    def test_our_close_frame_waits_for_the_messages_before_it(self) -> None:
        paced = Paced(1)
        paced.push("a", "b")
        paced.close()
        assert controls(paced) == "a"
        assert not paced.queue.is_close_taken
        paced.pass_time(1.0)
        assert controls(paced) == "ab<C>"
        assert paced.queue.is_close_taken
        assert paced.queue.finish() == ()

    def test_it_overtakes_them_when_told_to_and_they_are_unsent(self) -> None:
        paced = Paced(1)
        paced.push("a", "b", "c")
        paced.close()
        paced.queue.overtake()
        assert controls(paced) == "a<C>"
        assert paced.queue.is_close_taken
        paced.pass_time(100.0)
        assert controls(paced) == "a<C>"
        assert paced.pacing.wake_at() is None
        with pytest.raises(WebSocketClosing):
            paced.push("d")
        assert paced.queue.finish() == ("b", "c")

    def test_an_echo_overtakes_immediately(self) -> None:
        paced = Paced(1)
        paced.push("a", "b")
        paced.close(overtakes=True)
        assert controls(paced) == "a<C>"
        assert paced.queue.finish() == ("b",)

    def test_if_frames_are_counted_it_takes_the_next_place_even_before_pongs(self) -> None:
        paced = Paced(1, frames=True)
        paced.push("a", "b")
        paced.pong(b"1")
        paced.close(overtakes=True)
        assert controls(paced) == "a"
        assert not paced.queue.is_close_taken
        paced.pass_time(1.0)
        assert controls(paced) == "a<C>"
        assert paced.queue.is_close_taken

    def test_a_full_kernel_gets_it_after_what_it_has_begun(self) -> None:
        paced = Paced(2)
        paced.sink.room = 1
        paced.push("abc", "d", "e")
        paced.close(overtakes=True)
        assert paced.sent == "a"
        paced.sink.room = None
        paced.queue.flush()
        assert controls(paced) == "abc<C>"
        assert paced.queue.finish() == ("d", "e")

    def test_one_that_is_being_written_is_not_sent_again(self) -> None:
        paced = Paced(2)
        paced.push("a")
        paced.sink.room = 3
        paced.close()
        paced.queue.overtake()
        paced.sink.room = None
        paced.queue.flush()
        paced.pass_time(10.0)
        assert controls(paced) == "a<C>"

    def test_it_overtakes_messages_that_are_not_compressed_yet(self) -> None:
        sender = Sender(Deflater(DeflateParameters(), Deflate()), keys=ZEROS)
        paced = Paced(1, pack=sender.pack, compress=sender.compressed,
                      compress_in_pieces=sender.compressing)
        paced.sender = sender
        paced.push("a")
        paced.queue._compressor = []  # a thread that has not come back yet
        paced.queue.push_item((1, b"later", "later"), 5)
        paced.close(overtakes=True)
        assert controls(paced) == "a<C>"
        assert paced.queue.finish() == ("later",)
