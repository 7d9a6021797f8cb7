"""The apps of the soak: each is there for one thing that servers, networks or programs do."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from statistics import median
from time import monotonic
from typing import Any

from lochws import WebSocketApp, events
from lochws.errors import WebSocketError

#: Seconds that any single step may take before it counts as lost.
PATIENCE = 30.0
#: Seconds between two round trips.
BETWEEN_TRIPS = 0.02
#: After this many messages of the flood the slow handler takes this many seconds: longer than its grace, and
#: often enough for its inbox to be full on any machine, for memory to be that of a full one.
SLOW_EVERY, SLOW_SECONDS = 5_000, 0.5


class Soaked(WebSocketApp):
    """An app that keeps account of its attempts.

    Attributes:
        purpose: what it is there for.
        messages: how many it has received.
        attempts, endings: how many attempts have begun and ended.
        faults: what went wrong, in words.
        last: how the last attempt or connection ended, in words.
        over: set when the soak is.
    """

    purpose = ""

    def __init__(self, *args: Any, over: threading.Event, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.over = over
        self.messages = 0
        self.attempts = 0
        self.endings = 0
        self.faults: list[str] = []
        self.last = "none"

    def on_connecting(self, _: events.Connecting) -> None:
        if self.endings != self.attempts:
            self.faults.append("an attempt began before the last one had ended")
        self.attempts += 1

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        self.endings += 1
        self.last = f"{event.reason}; seconds by phase: {event.timings}"

    def on_disconnected(self, event: events.Disconnected) -> None:
        self.endings += 1
        self.last = f"{event.reason}; seconds by phase: {event.timings}" if event.timings else event.reason

    def on_text(self, _: events.Text) -> None:
        self.messages += 1

    def on_error(self, error: BaseException) -> None:
        self.faults.append(f"a handler failed: {error!r}")

    def judge(self) -> list[str]:
        """Return what went wrong, once the app is over."""
        if self.endings != self.attempts:
            self.faults.append(f"{self.attempts} attempts, {self.endings} endings")
        if not self.is_done():
            self.faults.append(f"it never did what it was there for; the last end: {self.last}")
        return [f"{self.purpose}: {fault}" for fault in self.faults]

    def is_done(self) -> bool:
        """Return whether it did what it was there for."""
        return self.messages > 0


class Dropped(Soaked):
    """Loses its connection every few messages."""

    purpose = "be dropped, over TLS"

    def on_ready(self, _: events.Ready) -> None:
        self._ask()

    def on_text(self, event: events.Text) -> None:
        super().on_text(event)
        self._ask()

    def _ask(self) -> None:
        # By now this connection may be lost, or the soak over and the app closing.
        with suppress(WebSocketError):
            self.send_text("next")

    def is_done(self) -> bool:
        return self.endings > 10


class Slow(Soaked):
    """Is sent more than it takes: its inbox is full all the time, and the kernel's buffers behind it."""

    purpose = "be flooded, with a slow handler"

    def on_text(self, event: events.Text) -> None:
        super().on_text(event)
        if self.messages % SLOW_EVERY == 0:
            self.over.wait(SLOW_SECONDS)


class Bursts(Soaked):
    """Gets a hundred messages at a time."""

    purpose = "get bursts, over TLS"


class Visitor(Soaked):
    """Stays for one message."""

    purpose = "come and go, over TLS"

    def on_ready(self, _: events.Ready) -> None:
        self.send_text("hello")

    def on_text(self, event: events.Text) -> None:
        super().on_text(event)
        self.close()


class Silenced(Soaked):
    """Gets no answer to its pings."""

    purpose = "meet silence, over TLS"
    unanswered = 0

    def on_unresponsive(self, _: events.Unresponsive) -> None:
        self.unanswered += 1

    def is_done(self) -> bool:
        return self.unanswered > 0


class Probe(Soaked):
    """Measures round trips, one at a time."""

    purpose = "measure round trips, over TLS"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._came = threading.Event()
        self._trips: list[float] = []  # replaced by the sampling thread, appended to by the measuring one

    def on_text(self, event: events.Text) -> None:
        super().on_text(event)
        self._came.set()

    def measure(self) -> None:
        """Make round trips until the soak is over."""
        while not self.over.wait(BETWEEN_TRIPS):
            self._came.clear()
            began = monotonic()
            try:
                self.send_text("there?")
            except WebSocketError as error:
                self.faults.append(f"the connection was lost: {error}")
                return
            if not self._came.wait(PATIENCE):
                self.faults.append("an echo did not come")
                return
            self._trips.append((monotonic() - began) * 1000)

    def taken(self) -> tuple[float, float]:
        """Return the median and the longest of the round trips since the last call, in ms."""
        trips, self._trips = self._trips, []
        return (median(trips), max(trips)) if trips else (0.0, 0.0)


class Failing(Soaked):
    """Fails in every handler, which lochws logs, with log handlers that fail too."""

    purpose = "fail in handlers and in logging"

    def on_text(self, event: events.Text) -> None:
        super().on_text(event)
        raise RuntimeError("a handler failed")

    def on_error(self, error: BaseException) -> None:
        raise RuntimeError("so did the handler of errors") from error


class Updated(Soaked):
    """Gets hundreds of TLS 1.3 KeyUpdates for each message, on the threads of all others."""

    purpose = "get floods of KeyUpdates"


class BareLf(Soaked):
    """Meets response heads whose lines end in LF alone (RFC 9112 section 2.2)."""

    purpose = "read heads with bare LF"

    def is_done(self) -> bool:
        return self.messages > 10


class HalfHead(Soaked):
    """Meets response heads that stop half-way."""

    purpose = "meet half a response head"

    def on_ready(self, _: events.Ready) -> None:
        self.faults.append("half a response head opened a connection")

    def is_done(self) -> bool:
        return self.endings > 10


class LeftOpen(Soaked):
    """Meets a server that closes, but leaves TCP open: a second after both Close frames that is a graceful
    end."""

    purpose = "be closed, with TCP left open"

    def on_disconnected(self, event: events.Disconnected) -> None:
        super().on_disconnected(event)
        if not self.over.is_set() and (event.graceful, event.ended_by) != (True, "server"):
            self.faults.append(f"it ended by {event.ended_by}, graceful={event.graceful}: {event.reason}")

    def is_done(self) -> bool:
        return self.endings > 1


class Reentrant(Soaked):
    """Sends from signal handlers and finalizers, which may interrupt a send at any point. Everything comes
    back."""

    purpose = "send from signals and finalizers"

    def send(self) -> None:
        """Send a message, and read what was sent. May be called at any point, inside this method too."""
        # The app may not have connected yet, or have ended already.
        with suppress(WebSocketError):
            self.send_text(f"the message behind {self.counters.messages_sent} others")

    def send_some(self) -> None:
        """Send messages, and leave rubbish behind whose finalizers send too."""
        for _ in range(20):
            self.send()
            _Rubbish(self)

    def on_closed(self, _: events.Closed) -> None:
        sent = self.counters.messages_sent
        if self.messages != sent:
            self.faults.append(f"{sent} messages were sent, {self.messages} came back")

    def is_done(self) -> bool:
        return self.messages > 1000


class _Rubbish:
    """Sends when it is collected, which is left to the garbage collector."""

    def __init__(self, app: Reentrant) -> None:
        self.app = app
        self.itself = self

    def __del__(self) -> None:
        self.app.send()


class Raising(logging.Handler):
    """A log handler that fails, as one does whose disk is full.

    Attributes:
        raised: how often it did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.raised = 0

    def handle(self, record: logging.LogRecord) -> bool:
        """Fail."""
        self.raised += 1
        raise RuntimeError(f"cannot log {record.msg!r}")
