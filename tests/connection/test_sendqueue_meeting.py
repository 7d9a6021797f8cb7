"""Senders, a loop, somebody who closes and the end meet at one queue: each message has one fate."""

from __future__ import annotations

import random
import re
import threading

import pytest

from lochws.errors import QueueFull, WebSocketError
from lochws.protocol.sender import Sender

from ..support.queues import Sink, make_queue
from ..support.seen import PATIENCE, in_thread

SENDERS, MESSAGES = 5, 300


class Meeting:
    """One of them, with this dice."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._wanted = threading.Event()
        self._done = threading.Event()
        self._sender = Sender()
        self.sink = Sink()
        self.queue = make_queue(
            self.sink, ask_loop=self._wanted.set, limit=dice.choice([100, 50_000, 1 << 24])
        )
        self.accepted: list[list[str]] = [[] for _ in range(SENDERS)]

    def run(self) -> tuple[str | bytes, ...]:
        """Let it happen, and return what is reported as unsent."""
        looper = in_thread(self._turn)
        senders = [in_thread(lambda number=number: self._send(number)) for number in range(SENDERS)]
        enough = self._dice.randrange(MESSAGES)
        while len(self.accepted[0]) < enough and senders[0].is_alive():
            senders[0].join(0.0001)
        self.queue.push_control(lambda: self._sender.close(1000) and b"CLOSE", seal=True)
        for sender in senders[: self._dice.randrange(SENDERS + 1)]:
            sender.join(PATIENCE)
        self._done.set()
        looper.join(PATIENCE)
        unsent = self.queue.finish()
        for sender in senders:
            sender.join(PATIENCE)
            assert not sender.is_alive()
        return unsent

    def _send(self, number: int) -> None:
        for index in range(MESSAGES):
            text = f"<{number}:{index}>"
            try:
                self.queue.push_item((text.encode(), text), len(text))
            except QueueFull:
                continue
            except WebSocketError:
                return
            self.accepted[number].append(text)

    def _turn(self) -> None:
        while not self._done.is_set():
            self._wanted.wait(0.001)
            self._wanted.clear()
            self.sink.room = self._dice.choice([None, 0, 3, 500])
            self.queue.flush()


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("seed", range(10))
def test_each_message_is_sent_once_in_its_threads_order_or_reported(seed: int) -> None:
    meeting = Meeting(random.Random(seed))
    unsent = meeting.run()
    sent = re.findall(r"<\d+:\d+>", meeting.sink.taken.decode())
    assert b">" not in meeting.sink.taken.partition(b"CLOSE")[2]
    for number, texts in enumerate(meeting.accepted):
        assert [text for text in (*sent, *map(str, unsent)) if text.startswith(f"<{number}:")] == texts
