"""Soak: everything that makes a client grow, all at once, for as long as it is told.

    python -m benchmarks.soak                          # an hour
    python -m benchmarks.soak --minutes 2 --chart two-minutes.png

Some apps of one process live for the whole time against the server of `soak_server`: one loses its
connection every twenty messages, one is flooded and slow, one gets bursts over TLS, one meets nothing but
silence, one measures round trips; and new apps come and go all along. Memory, threads, descriptors and
latency are sampled and drawn. Exits 1 if one of them grew (`growth` has the rule), if anything was left
behind, if an attempt did not end in exactly one final event, or if an app did not do what it was there for.
"""

from __future__ import annotations

import argparse
import logging
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any, TypeVar

from lochws import Backoff, WebSocketApp, events
from lochws.errors import WebSocketError

from .growth import LIMITS, Sample, faults
from .soak_server import Server, server
from .usage import descriptors, memory

#: Seconds that any single step may take before it counts as lost.
PATIENCE = 30.0
#: Samples of one soak, however long it is; but no two are closer than half a second.
SAMPLES = 240
#: Between two of the apps that come and go, and between two round trips, in seconds.
BETWEEN_APPS = 0.2
BETWEEN_TRIPS = 0.02
#: After so many messages of the flood the slow handler takes so many seconds: longer than its grace, and
#: often enough for its inbox to be full on any machine, for memory to be that of a full one.
SLOW_EVERY, SLOW_SECONDS = 5_000, 0.5

_AT_ONCE = Backoff(min_wait=0.001, max_wait=0.01)


class Soaked(WebSocketApp):
    """An app that keeps account of its attempts.

    Attributes:
        purpose: what it is there for.
        messages: how many came.
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
        """What went wrong, once it is over."""
        if self.endings != self.attempts:
            self.faults.append(f"{self.attempts} attempts, {self.endings} endings")
        if not self.is_done():
            self.faults.append(f"it never did what it was there for; the last end: {self.last}")
        return [f"{self.purpose}: {fault}" for fault in self.faults]

    def is_done(self) -> bool:
        """Whether it did what it was there for."""
        return self.messages > 0


App = TypeVar("App", bound=Soaked)


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
        """Median and longest of the round trips since the last call, in ms."""
        trips, self._trips = self._trips, []
        return (median(trips), max(trips)) if trips else (0.0, 0.0)


class Soak:
    """The apps, and what becomes of this process meanwhile.

    Attributes:
        apps: those that live for the whole time.
        samples: what was found.
        faults: what went wrong, in words.
    """

    def __init__(self, running: Server, context: ssl.SSLContext) -> None:
        self._over = threading.Event()
        self._before = threading.active_count(), descriptors()
        self.probe = self._make(Probe, running.wss + "/", context)
        self.apps: list[Soaked] = [
            self.probe,
            self._make(Dropped, running.wss + "/drop", context),
            self._make(Slow, running.ws + "/flood", None),
            self._make(Bursts, running.wss + "/burst", context),
            self._make(Silenced, running.wss + "/silence", context),
        ]
        self._where = running.wss + "/", context
        self.visits = 0
        self.samples: list[Sample] = []
        self.faults: list[str] = []

    def run(self, seconds: float) -> None:
        """Run for so long, and a moment more."""
        for app in self.apps:
            silent = isinstance(app, Silenced)
            ping_rate, ping_timeout = (0.3, 0.6) if silent else (5, 30)
            app.start(ping_rate=ping_rate, ping_timeout=ping_timeout, close_timeout=5, persist=_AT_ONCE)
        assert self.probe.wait_ready(PATIENCE)
        threads = [_started(self.probe.measure), _started(self._receive_visitors)]
        began = monotonic()
        every = max(0.5, seconds / SAMPLES)
        while (at := monotonic() - began) < seconds:
            self._over.wait(every - at % every)
            latency, slowest = self.probe.taken()
            self.samples.append(Sample(
                monotonic() - began, memory(), threading.active_count(), descriptors(), latency, slowest
            ))
        self._over.set()
        for thread in threads:
            thread.join(PATIENCE)
        for app in self.apps:
            app.close()
        for app in self.apps:
            if not app.join(PATIENCE):
                self.faults.append(f"{app.purpose}: it did not stop")
        self._judge()

    def _receive_visitors(self) -> None:
        while not self._over.wait(BETWEEN_APPS):
            app = self._make(Visitor, *self._where)
            app.start(persist=False)
            if not app.join(PATIENCE):
                self.faults.append(f"{app.purpose}: it did not come to its end")
                app.stop()
            self.faults += app.judge()
            self.visits += 1

    def _judge(self) -> None:
        for app in self.apps:
            self.faults += app.judge()
        if not self.visits:
            self.faults.append("nobody came and went")
        left = threading.active_count() - self._before[0], descriptors() - self._before[1]
        if left != (0, 0):
            self.faults.append(f"left behind: {left[0]} threads, {left[1]} descriptors")
        self.faults += faults(self.samples)

    def _make(self, kind: type[App], url: str, context: ssl.SSLContext | None) -> App:
        return kind(url, ssl_context=context, over=self._over)


def _started(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, name=f"soak-{function.__name__}")
    thread.start()
    return thread


def report(soak: Soak) -> None:
    """Print what the apps did, what grew, and what went wrong."""
    print(f"{'':<34}{'connections':>12}{'messages':>12}")
    for app in soak.apps:
        print(f"{app.purpose:<34}{app.counters.connections:>12}{app.messages:>12}")
    print(f"{Visitor.purpose:<34}{soak.visits:>12}\n")
    print(f"{'':<16}{'first':>9}{'last':>9}{'grown':>9}{'allowed':>9}   after the warm-up")
    for limit in LIMITS:
        first, last = limit.of(soak.samples[0]), limit.of(soak.samples[-1])
        grown, allowed = limit.grown(soak.samples), limit.allowed(soak.samples)
        print(f"{limit.title:<16}{first:>9.1f}{last:>9.1f}{grown:>9.2f}{allowed:>9.1f}")
    for fault in soak.faults[:20]:
        print(f"FAULT {fault}")
    print(f"{len(soak.faults)} faults")


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--chart", type=Path, metavar="FILE.png", help="draw what was sampled")
    options = parser.parse_args()
    logging.getLogger("lochws").setLevel(logging.ERROR)  # that a handler is slow is meant
    with server() as (running, context):
        soak = Soak(running, context)
        soak.run(options.minutes * 60)
    report(soak)
    if options.chart is not None:
        from .soak_chart import draw  # noqa: PLC0415  matplotlib is heavy, and would be in the memory sampled

        draw(soak.samples, options.chart)
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
