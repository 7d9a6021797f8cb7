"""A server with a message budget, which closes with 1008 as soon as a client certainly exceeds it."""

from __future__ import annotations

import select
import socket
from collections import deque
from time import monotonic

from .peer import CLOSE, PING, PONG, TEXT, Link

#: The interval at which to check for arrivals, in seconds; it limits how precisely their times are known.
LOOK_SECONDS = 0.001


class Judge:
    """A script for `Peer`: echoes each text, as long as at most `limit` arrive within `per` s.

    On a busy machine this thread may have to wait, and see a message late. So it notes two times for each:
    one when it certainly had not arrived yet, and one when it certainly had. Two messages are too close only
    if they are too close by the times that are furthest apart.

    Args:
        limit, per: the rule.
        counts_frames: whether control frames count like messages.
        most: how many texts to answer before closing with 1012, or None for no end.

    Attributes:
        texts: what arrived, over all connections.
        excesses: how often a client was caught.
    """

    def __init__(
        self, limit: int, per: float, *, counts_frames: bool = False, most: int | None = None
    ) -> None:
        self.per = per
        self.counts_frames = counts_frames
        self.most = most
        self.limit = limit
        self.texts: list[str] = []
        self.excesses = 0

    def __call__(self, link: Link) -> None:
        link.accept()
        earliest: deque[float] = deque(maxlen=self.limit)
        answered = 0
        absent = emptied = monotonic()  # when the next message had not arrived yet
        while True:
            if not link.has_more:
                absent = self.wait(link.sock, emptied)
                emptied = monotonic()
            opcode, payload = link.read_frame()
            if opcode == TEXT or self.counts_frames:
                if len(earliest) == self.limit and monotonic() - earliest[0] < self.per:
                    self.excesses += 1
                    link.send_frame(CLOSE, (1008).to_bytes(2, "big") + b"Too many requests")
                    return
                earliest.append(absent)
            if opcode == CLOSE:
                link.send_frame(CLOSE, payload)
                return
            if opcode == PING:
                link.send_frame(PONG, payload)
            elif opcode == TEXT:
                self.texts.append(payload.decode())
                link.send_frame(TEXT, payload)
                answered += 1
                if answered == self.most:
                    link.send_frame(CLOSE, (1012).to_bytes(2, "big"))

    @staticmethod
    def wait(sock: socket.socket, absent: float) -> float:
        """Wait until something arrives. Take and return a time at which it had not arrived yet."""
        while True:
            now = monotonic()
            if select.select([sock], [], [], LOOK_SECONDS)[0]:
                return absent  # it may have arrived before `now`
            absent = now
