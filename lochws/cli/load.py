"""What `lochws bench` puts on an echo server: messages, each of which has to come back as it was sent."""

from __future__ import annotations

import threading
from collections import deque
from time import perf_counter

from .. import WebSocketApp, events
from ..errors import QueueFull, WebSocketUnavailable
from .exits import Exit, Failed, Outcome
from .histogram import Histogram


class Load:
    """Messages to one echo server, so many at a time under way. Its handlers run on the app's reader.

    Args:
        app: not started yet.
        size: of each message, in characters or bytes; at least 16, for it begins with its number.
        is_binary: whether messages are binary.
    """

    def __init__(self, app: WebSocketApp, size: int, *, is_binary: bool) -> None:
        self._app = app
        self._filling = "x" * (size - 16)
        self._is_binary = is_binary
        self._outcome = Outcome()
        app.add_handler(self._outcome)
        app.add_handler(self)
        # At the beginning of a run two threads send: what is sent and what is noted have one order.
        self._lock = threading.Lock()
        self._sent: deque[tuple[str, float]] = deque()
        self._number = 0
        self._limit = 0
        self._ends_at = 0.0
        self._times = Histogram()
        self._is_over = threading.Event()
        self._failure: Failed | None = None

    def run(self, seconds: float, count: int | None, under_way: int) -> tuple[Histogram, float]:
        """Keep so many messages under way until the time or the number is over. Blocks.

        Returns:
            The times there and back, and the seconds from the first send to the last reply.

        Raises:
            Failed: the server does not echo, or the connection has ended.
        """
        self._times = Histogram()
        self._is_over.clear()
        if self._failure is not None:  # which may have come before
            raise self._failure
        began = perf_counter()
        self._ends_at = began + seconds
        self._limit = self._number + (1 << 62 if count is None else count)
        for _ in range(min(under_way, count or under_way)):
            self._send()
        patience = seconds + 30
        if not self._is_over.wait(patience) and self._failure is None:
            raise Failed(f"the server has not echoed every message within {patience:g} s", Exit.LOST)
        if self._failure is not None:
            raise self._failure
        return self._times, perf_counter() - began

    @property
    def done(self) -> int:
        """How many replies have come in this run. For any thread."""
        return self._times.count

    def on_text(self, event: events.Text) -> None:
        """A reply."""
        self._take(event.text)

    def on_binary(self, event: events.Binary) -> None:
        """A reply."""
        self._take(event.data.decode("ascii", "replace") if self._is_binary else "")

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Nothing more will come."""
        self._fail(Failed(self._outcome.sentence or "the server closed", self._outcome.code or Exit.LOST))

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """Nothing will come at all."""
        self._fail(Failed(self._outcome.sentence, self._outcome.code))

    def _send(self) -> bool:
        """Send one more. Returns False if there were enough."""
        try:
            with self._lock:
                if self._number >= self._limit:
                    return False
                message = f"{self._number:015} {self._filling}"
                self._number += 1
                self._sent.append((message, perf_counter()))
                if self._is_binary:
                    self._app.send_binary(message.encode("ascii"))
                else:
                    self._app.send_text(message)
        except QueueFull:
            self._fail(Failed("too much is under way for the queue: make --size or --in-flight smaller"))
        except WebSocketUnavailable:
            pass  # its end is told by an event
        return True

    def _take(self, reply: str) -> None:
        now = perf_counter()
        if not self._sent or self._sent[0][0] != reply:
            self._fail(Failed("this is no echo server: what came back is not what was sent", Exit.PROTOCOL))
            return
        self._times.add(now - self._sent.popleft()[1])
        if (now >= self._ends_at or not self._send()) and not self._sent:
            self._is_over.set()

    def _fail(self, failed: Failed) -> None:
        self._failure = self._failure or failed
        self._is_over.set()
