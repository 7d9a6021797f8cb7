"""Batches: on_batch, send_many, corked, and senders that meet at the queue."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lochws import WebSocketApp, events
from lochws.connection.sendqueue import DROP_OFF_MESSAGES, GATHER_BYTES
from lochws.errors import QueueFull, WebSocketClosing, WebSocketUnavailable
from lochws.protocol.sender import Sender

from ..support.apps import echo, opened
from ..support.peer import CLOSE, Link, Peer
from ..support.queues import Asked, Sink, blocked_queue, make_queue, push
from ..support.seen import PATIENCE, eventually

TEXTS = [f"message {number}" for number in range(200)]


class Batching(WebSocketApp):
    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.batches: list[list[str | bytes]] = []
        self.others: list[str] = []

    def on_batch(self, messages: list[events.Text | events.Binary]) -> None:
        self.batches.append([m.text if isinstance(m, events.Text) else m.data for m in messages])

    def on_pong(self, event: events.Pong) -> None:
        self.others.append(f"pong after {sum(map(len, self.batches))}")

    def on_text(self, event: events.Text) -> None:
        self.others.append("text")

    def received(self) -> list[str | bytes]:
        return [message for batch in self.batches for message in batch]


class TestOnBatch:
    def test_it_gets_the_messages_of_a_read_as_one_list_and_on_text_gets_none(self) -> None:
        def flood(link: Link) -> None:
            link.accept()
            frames = b"".join(b"\x81" + bytes([len(t)]) + t.encode() for t in TEXTS)
            link.send(frames + b"\x82\x01z" + b"\x8a\x00" + b"\x81\x04last")
            while link.read_frame()[0] != CLOSE:
                pass

        with Peer(flood) as peer, opened(Batching(peer.url), ping_rate=0) as app:
            eventually(lambda: len(app.received()) == len(TEXTS) + 2)
        assert app.received() == [*TEXTS, b"z", "last"]
        assert len(app.batches) < 20
        # Events that are not messages keep their place among them.
        assert app.others == [f"pong after {len(TEXTS) + 1}"]

    def test_on_event_still_sees_every_message(self) -> None:
        seen: list[str] = []
        with Peer(echo) as peer, opened(Batching(peer.url)) as app:
            app.on("event")(lambda event: seen.append(event.name))
            app.send_many(TEXTS)
            eventually(lambda: len(app.received()) == len(TEXTS))
        assert seen.count("text") == len(TEXTS)

    def test_what_it_raises_goes_to_on_error(self) -> None:
        errors: list[BaseException] = []
        with Peer(echo) as peer, opened(WebSocketApp(peer.url)) as app:
            app.on("batch")(lambda messages: 1 / 0)
            app.on("error")(errors.append)
            app.send_text("x")
            eventually(lambda: errors)
        assert isinstance(errors[0], ZeroDivisionError)


class TestSendMany:
    def test_all_arrive_in_order_as_what_they_are(self) -> None:
        with Peer(echo) as peer, opened(Batching(peer.url)) as app:
            assert app.send_many(["a", b"b", bytearray(b"c"), memoryview(b"d"), "e" * 70_000])
            eventually(lambda: len(app.received()) == 5)
            assert app.counters.messages_sent == 5
        assert app.received() == ["a", b"b", b"c", b"d", "e" * 70_000]

    def test_nothing_is_fine(self) -> None:
        with Peer(echo) as peer, opened(WebSocketApp(peer.url)) as app:
            assert app.send_many([])

    def test_a_wrong_one_is_refused_and_none_is_sent(self) -> None:
        with Peer(echo) as peer, opened(WebSocketApp(peer.url)) as app:
            with pytest.raises(TypeError, match="send_many: expected a bytes-like object, not int"):
                app.send_many(["a", 5])  # type: ignore[list-item]
            assert app.counters.messages_sent == 0

    def test_it_needs_an_open_connection(self) -> None:
        with pytest.raises(WebSocketUnavailable):
            WebSocketApp("ws://127.0.0.1:9/").send_many(["a"])

    def test_they_go_in_one_system_call(self) -> None:
        sink = Sink()
        queue = make_queue(sink)
        assert queue.push_many([(text.encode(), text) for text in "abc"], 3)
        assert sink.offered == [b"abc"]

    def test_all_or_none_have_room(self) -> None:
        queue = blocked_queue(Sink(), limit=10)
        with pytest.raises(QueueFull):
            queue.push_many([(b"aaa", "aaa"), (b"bbb", "bbb")], 6)
        assert queue.finish() == ("first",)

    def test_all_or_none_are_dropped(self) -> None:
        queue = blocked_queue(Sink(), limit=10, when_full="drop")
        assert not queue.push_many([(b"aaa", "aaa"), (b"bbb", "bbb")], 6)
        assert queue.dropped == 2


class TestCorked:
    def test_nothing_is_sent_before_the_end_of_the_block(self) -> None:
        sink, asked = Sink(), Asked()
        queue = make_queue(sink, ask_loop=asked)
        queue.cork()
        for text in "abc":
            push(queue, text)
        assert (sink.offered, asked.times) == ([], 0)
        queue.uncork()
        assert sink.offered == [b"abc"]

    def test_corks_can_be_nested(self) -> None:
        sink = Sink()
        queue = make_queue(sink)
        queue.cork()
        queue.cork()
        push(queue, "a")
        queue.uncork()
        assert sink.offered == []
        queue.uncork()
        assert sink.offered == [b"a"]

    def test_a_full_batch_is_sent_at_once(self) -> None:
        sink = Sink()
        queue = make_queue(sink)
        queue.cork()
        push(queue, "x" * (GATHER_BYTES - 1))
        assert sink.offered == []
        push(queue, "y")
        assert len(sink.taken) == GATHER_BYTES
        push(queue, "z")
        queue.uncork()
        assert len(sink.taken) == GATHER_BYTES + 1

    def test_with_an_app(self) -> None:
        with Peer(echo) as peer, opened(Batching(peer.url)) as app:
            with app.corked():
                for text in TEXTS:
                    app.send_text(text)
            eventually(lambda: len(app.received()) == len(TEXTS))
        assert app.received() == TEXTS

    def test_it_needs_an_open_connection(self) -> None:
        with pytest.raises(WebSocketUnavailable), WebSocketApp("ws://127.0.0.1:9/").corked():
            pass


class TestLeavingMessagesWithTheHolder:
    """A sender that finds the queue's lock taken continues without waiting for it."""

    def test_messages_that_were_dropped_off_are_sent_in_order_by_the_next_sender(self) -> None:
        sink = Sink()
        queue = make_queue(sink, gather=False)
        with queue._lock:
            for text in "abc":
                assert push(queue, text)
        push(queue, "d")
        assert sink.taken == b"abcd"
        assert queue.messages_sent == 4

    def test_the_holder_looks_after_it_when_it_lets_go(self) -> None:
        sink = Sink()
        queue = make_queue(sink, gather=False)
        left = threading.Event()

        def encode() -> bytes:
            other = threading.Thread(target=lambda: (push(queue, "b"), left.set()))
            other.start()
            assert left.wait(PATIENCE)
            other.join(PATIENCE)
            return b"a"

        queue.push_control(encode)
        assert sink.taken == b"ab"

    def test_after_our_close_frame_every_send_is_refused(self) -> None:
        queue, sender = make_queue(Sink()), Sender()
        queue.push_control(sender.close, 1000, "", seal=True)
        refused: list[BaseException] = []

        def send() -> None:
            try:
                push(queue, "x")
            except WebSocketClosing as error:
                refused.append(error)

        other = threading.Thread(target=send)
        with queue._lock:
            other.start()  # waits for the lock: it may leave nothing
        other.join(PATIENCE)
        assert len(refused) == 1

    def test_what_our_close_frame_overtook_is_reported_as_unsent(self) -> None:
        sink, sender = Sink(), Sender()
        queue = make_queue(sink)

        def close() -> bytes:
            # The Close frame is made while another message is dropped off: that came too late.
            queue._dropped_off.append((b"late", "late"))
            return sender.close(1000, "")

        queue.push_control(close, seal=True)
        assert queue.finish() == ("late",)

    def test_what_is_left_when_the_queue_ends_is_reported_as_unsent(self) -> None:
        queue = make_queue(Sink())
        with queue._lock:
            push(queue, "a")
        assert queue.finish() == ("a",)

    def test_large_messages_and_too_many_wait_for_the_lock(self) -> None:
        queue = make_queue(Sink())
        with queue._lock:
            for _ in range(DROP_OFF_MESSAGES):
                push(queue, "x")
            assert len(queue._dropped_off) == DROP_OFF_MESSAGES
            senders = [threading.Thread(target=push, args=(queue, text)) for text in ("y", "z" * 5000)]
            for sender in senders:
                sender.start()
            assert len(queue._dropped_off) == DROP_OFF_MESSAGES
        for sender in senders:
            sender.join(PATIENCE)
        while queue._outgoing.pending:
            queue.flush()
        assert queue.messages_sent == DROP_OFF_MESSAGES + 2
