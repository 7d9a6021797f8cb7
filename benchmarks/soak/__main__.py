"""The soak: everything that makes a client grow or hang, all at once, for as long as it is told.

    python -m benchmarks.soak                          # an hour
    python -m benchmarks.soak --minutes 2 --chart two-minutes.png

Some apps of one process live for the whole time, on threads that they share, and each meets one thing
(`apps`): lost connections, floods, silence, KeyUpdates, wrong response heads, and so on. New apps come and go
all along, signals and finalizers send, and every log handler fails. Memory, threads, descriptors and latency
are sampled and drawn. Exits 1 if one of them grew (`growth` has the rule), if anything was left behind, if an
attempt did not end in exactly one final event, or if an app did not do what it was there for.
"""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TypeVar

from lochws import Backoff

from ..usage import descriptors, memory
from .apps import (
    PATIENCE,
    BareLf,
    Bursts,
    Dropped,
    Failing,
    HalfHead,
    LeftOpen,
    Probe,
    Raising,
    Reentrant,
    Silenced,
    Slow,
    Soaked,
    Updated,
    Visitor,
)
from .growth import LIMITS, Sample, faults
from .rude_server import RudeServer, rude_server
from .server import Server, server

#: Samples of one soak, however long it is; but no two are closer than half a second.
SAMPLES = 240
#: Seconds between two of the apps that come and go.
BETWEEN_APPS = 0.2
#: Seconds between two signals, and between two rounds of messages of the app that they interrupt.
BETWEEN_SIGNALS, BETWEEN_ROUNDS = 0.01, 0.1

_AT_ONCE = Backoff(min_wait=0.001, max_wait=0.01)
#: For servers that fail at once: without a wait they would be all that happens.
_SOON = Backoff(min_wait=0.05, max_wait=0.2)

App = TypeVar("App", bound=Soaked)


class Soak:
    """The apps of a soak, and samples of this process while they run.

    Attributes:
        apps: those that live for the whole time.
        samples: what was found.
        faults: what went wrong, in words.
    """

    def __init__(self, running: Server, rude: RudeServer, context: ssl.SSLContext) -> None:
        self._over = threading.Event()
        self._before = threading.active_count(), descriptors()
        self.probe = self._make(Probe, running.wss + "/", context)
        self.apps: list[Soaked] = [
            self.probe,
            self._make(Dropped, running.wss + "/drop", context),
            self._make(Slow, running.ws + "/flood", None),
            self._make(Bursts, running.wss + "/burst", context),
            self._make(Silenced, running.wss + "/silence", context),
            self._make(Failing, running.wss + "/burst", context),
            self._make(Updated, rude.wss + "/", context),
            self._make(BareLf, rude.ws + "/bare-lf", None),
            self._make(HalfHead, rude.ws + "/half-head", None),
            self._make(LeftOpen, rude.ws + "/left-open", None),
        ]
        self.reentrant = self._make(Reentrant, running.wss + "/", context)
        self.apps.append(self.reentrant)
        self._where = running.wss + "/", context
        self.visits = 0
        self.samples: list[Sample] = []
        self.faults: list[str] = []

    def run(self, seconds: float) -> None:
        """Run for that long, and a moment more."""
        for app in self.apps:
            silent = isinstance(app, Silenced)
            ping_rate, ping_timeout = (0.3, 0.6) if silent else (5, 30)
            persist = _SOON if isinstance(app, (BareLf, HalfHead)) else _AT_ONCE
            app.start(ping_rate=ping_rate, ping_timeout=ping_timeout, close_timeout=5, persist=persist)
        assert self.probe.wait_ready(PATIENCE)
        assert self.reentrant.wait_ready(PATIENCE)
        threads = [_started(self.probe.measure), _started(self._receive_visitors)]
        began = monotonic()
        every = max(0.5, seconds / SAMPLES)
        while (at := monotonic() - began) < seconds:
            with _signals(self.reentrant.send):
                self._send_for(every - at % every)
            latency, slowest = self.probe.taken()
            self.samples.append(Sample(
                monotonic() - began, memory(), threading.active_count(), descriptors(), latency, slowest
            ))
        self._wait_for_echoes()
        self._over.set()
        for thread in threads:
            thread.join(PATIENCE)
        for app in self.apps:
            app.close()
        for app in self.apps:
            if not app.join(PATIENCE):
                self.faults.append(f"{app.purpose}: it did not stop")
        self._judge()

    def _send_for(self, seconds: float) -> None:
        end = monotonic() + seconds
        while monotonic() < end:
            self.reentrant.send_some()
            self._over.wait(BETWEEN_ROUNDS)

    def _wait_for_echoes(self) -> None:
        """Wait until everything that was sent by signals and finalizers has come back."""
        gc.collect()
        end = monotonic() + PATIENCE
        while self.reentrant.messages < self.reentrant.counters.messages_sent and monotonic() < end:
            self._over.wait(0.05)

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


@contextmanager
def _signals(function: Callable[[], object]) -> Iterator[None]:
    """Call a function from signal handlers, many times a second, as long as the block runs."""
    before = signal.signal(signal.SIGALRM, lambda *_: function())
    signal.setitimer(signal.ITIMER_REAL, BETWEEN_SIGNALS, BETWEEN_SIGNALS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
    raising, logger = Raising(), logging.getLogger("lochws")
    logger.addHandler(raising)
    # What goes wrong is meant to, and would fill the terminal.
    logger.propagate = logging.raiseExceptions = False
    with server() as (running, context, folder), rude_server(folder) as rude:
        soak = Soak(running, rude, context)
        soak.run(options.minutes * 60)
    if not raising.raised:
        soak.faults.append("no log handler was called, so none could fail")
    report(soak)
    if options.chart is not None:
        from .chart import draw  # noqa: PLC0415  matplotlib is heavy, and would be in the memory sampled

        draw(soak.samples, options.chart)
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
