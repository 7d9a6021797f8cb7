"""The load of `lochws bench`: numbered messages that the server must send back unchanged."""

from __future__ import annotations

import threading
from collections import deque
from time import perf_counter

from .. import WebSocketApp, events
from ..errors import QueueFull, WebSocketUnavailable
from .exits import Ending, Exit, Failed
from .histogram import Histogram


class Load:
    """Sends messages to an echo server and times the replies. Its handlers run on the app's reader thread.

    Args:
        app: the app, not started yet.
        size: the size of each message, in characters or bytes; at least 16, because it begins with its
            number.
        is_binary: whether to send binary messages.
    """

    def __init__(self, app: WebSocketApp, size: int, *, is_binary: bool) -> None:
        self._app = app
        self._filling = "x" * (size - 16)
        self._is_binary = is_binary
        self._ending = Ending()
        app.add_handler(self._ending)
        app.add_handler(self)
        # Two threads send at the start of a run; the lock makes them send and record in the same order.
        self._lock = threading.Lock()
        self._sent: deque[tuple[str, float]] = deque()
        self._number = 0
        self._limit = 0
        self._ends_at = 0.0
        self._times = Histogram()
        self._is_over = threading.Event()
        self._failure: Failed | None = None

    def run(self, seconds: float, count: int | None, in_flight: int) -> tuple[Histogram, float]:
        """Keep messages in flight for `seconds`, or until `count` have been sent. Blocks.

        Args:
            seconds: how long to send.
            count: the maximum number of messages, or None for no limit.
            in_flight: how many messages to keep in flight.

        Returns:
            The round-trip times, and the seconds from the first send to the last reply.

        Raises:
            Failed: the server does not echo, or the connection has ended.
        """
        self._times = Histogram()
        self._is_over.clear()
        if self._failure is not None:  # set before this run
            raise self._failure
        began = perf_counter()
        self._ends_at = began + seconds
        self._limit = self._number + (1 << 62 if count is None else count)
        for _ in range(min(in_flight, count or in_flight)):
            self._send()
        patience = seconds + 30
        if not self._is_over.wait(patience) and self._failure is None:
            raise Failed(f"the server did not echo every message within {patience:g} s", Exit.LOST)
        if self._failure is not None:
            raise self._failure
        return self._times, perf_counter() - began

    @property
    def done(self) -> int:
        """The number of replies that have arrived in this run. May be read from any thread."""
        return self._times.count

    def on_text(self, event: events.Text) -> None:
        """Take a reply."""
        self._take(event.text)

    def on_binary(self, event: events.Binary) -> None:
        """Take a reply."""
        self._take(event.data.decode("ascii", "replace") if self._is_binary else "")

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Fail the run, because no more replies can arrive."""
        sentence = self._ending.sentence or "the server closed the connection"
        self._fail(Failed(sentence, self._ending.code or Exit.LOST, is_event=True))

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """Fail the run, because the attempt to connect has failed."""
        self._fail(Failed(self._ending.sentence, self._ending.code, is_event=True))

    def _send(self) -> bool:
        """Send one more message. Return False if enough have been sent."""
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
            self._fail(Failed("the send queue is full: reduce --size or --in-flight"))
        except WebSocketUnavailable:
            pass  # an event reports the end
        return True

    def _take(self, reply: str) -> None:
        now = perf_counter()
        if not self._sent or self._sent[0][0] != reply:
            text = "the server is not an echo server: a reply differs from the message sent"
            self._fail(Failed(text, Exit.PROTOCOL))
            return
        self._times.add(now - self._sent.popleft()[1])
        if (now >= self._ends_at or not self._send()) and not self._sent:
            self._is_over.set()

    def _fail(self, failed: Failed) -> None:
        self._failure = self._failure or failed
        self._is_over.set()
