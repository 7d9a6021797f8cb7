"""Measures: counts and histograms of one app's events, sent messages and handlers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import accumulate
from time import perf_counter
from typing import Any

from ... import events
from ...sent import Streamed

#: Upper bounds for the sizes of messages, in bytes.
SIZES = (64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216)
#: Upper bounds for the times of handlers and pongs, in seconds.
SECONDS = (0.00001, 0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)

#: Upper bounds for the lengths of outages, in seconds.
OUTAGES = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)


class Histogram:
    """A histogram of values. One thread at a time may add values; any thread may read.

    Args:
        bounds: the upper bounds of the buckets, ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def buckets(self) -> list[tuple[str, int]]:
        """The number of values up to each bound; the last bound is ``+Inf``."""
        names = [*(f"{bound:g}" if bound < 1 else str(bound) for bound in self._bounds), "+Inf"]
        return list(zip(names, accumulate(self._counts.copy()), strict=True))

    @property
    def total(self) -> float:
        """The sum of all values."""
        return self._sum

    def as_dict(self) -> dict[str, Any]:
        """Return count, sum and buckets as plain values."""
        buckets = dict(self.buckets)
        return {"count": buckets["+Inf"], "sum": self._sum, "buckets": buckets}


class Measures:
    """The handlers that measure one app, and what they have measured.

    Attributes:
        received_sizes, sent_sizes: sizes of text and binary messages, in bytes of payload before compression.
        pings: seconds from pings to their pongs.
        handlers: seconds that handlers took, keyed by the event that they are registered for.
        reconnects: the number of new attempts, keyed by the cause that made them necessary.
        handler_errors: exceptions raised by handlers.
        unsent: messages that were accepted but not sent.
        in_doubt: messages that were sent without proof that the server has read them.
        stale: how often the server sent no message for `stale_after` seconds.
        last_message: the `received_time` of the last message; None before the first one.
        outages: seconds from the end of a connection to the next Ready.
    """

    def __init__(self) -> None:
        self.received_sizes = Histogram(SIZES)
        self.sent_sizes = Histogram(SIZES)
        self.pings = Histogram(SECONDS)
        self.handlers: dict[str, Histogram] = {}
        self.reconnects: dict[str, int] = {}
        self.handler_errors = 0
        self.unsent = self.in_doubt = 0
        self.stale = 0
        self.last_message: float | None = None
        self.outages = Histogram(OUTAGES)
        self._cause: str | None = None  # of the end of the connection, once known

    # The handlers' thread.

    def on_event(self, event: events.Event) -> None:
        """Count an event."""
        if isinstance(event, events.Text):
            self.received_sizes.observe(_size(event.text))
            self.last_message = event.received_time
        elif isinstance(event, events.Binary):
            self.received_sizes.observe(len(event.data))
            self.last_message = event.received_time
        elif isinstance(event, events.Stream):
            self.last_message = event.received_time
        elif isinstance(event, events.Pong):
            if event.latency is not None:
                self.pings.observe(event.latency)
        else:
            self._note(event)

    def on_error(self, _error: BaseException) -> None:
        """Count an exception raised by a handler."""
        self.handler_errors += 1

    def _note(self, event: events.Event) -> None:
        if isinstance(event, events.Connecting):
            if self._cause is not None:  # otherwise it is the first attempt, or a redirect
                self.reconnects[self._cause] = self.reconnects.get(self._cause, 0) + 1
            self._cause = None
        elif isinstance(event, (events.Rejected, events.Unresponsive, events.Stale, events.ProtocolError)):
            self._cause = event.name
            self.stale += isinstance(event, events.Stale)
        elif isinstance(event, events.Ready):
            if event.outage is not None:
                self.outages.observe(event.outage)
        elif isinstance(event, (events.ConnectFail, events.Disconnected)):
            fallback = event.phase if isinstance(event, events.ConnectFail) else event.ended_by
            if self._cause == events.Stale.name and fallback != "client":
                self._cause = None  # it was only reported; the connection ended for another reason
            self._cause = self._cause or fallback
            if isinstance(event, events.Disconnected):
                self.unsent += len(event.unsent)
                self.in_doubt += len(event.in_doubt) + event.in_doubt_omitted

    # The writing thread, one at a time.

    def on_sent(self, sent: tuple[object, ...]) -> None:
        """Count the messages among the sent items."""
        for one in sent:
            if isinstance(one, str):
                self.sent_sizes.observe(_size(one))
            elif isinstance(one, bytes):
                self.sent_sizes.observe(len(one))
            elif isinstance(one, Streamed):
                self.sent_sizes.observe(one.size)

    # Any thread.

    def wrapped(self, name: str, handler: Callable[[Any], object]) -> Callable[[Any], object]:
        """Wrap a handler to time it, for `Hooks.wrap_handlers`. Skip our own, and those of sends."""
        if name == "sent" or getattr(handler, "__self__", None) is self:
            return handler
        observe = self.handlers.setdefault(name, Histogram(SECONDS)).observe

        @wraps(handler)
        def timed(argument: Any) -> object:
            began = perf_counter()
            try:
                return handler(argument)
            finally:
                observe(perf_counter() - began)

        return timed


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
