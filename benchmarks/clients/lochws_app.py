"""lochws: a subclass of WebSocketApp with a method for each event.

Where each byte of the client is counted, there are no pings; with many connections there are the usual ones.
"""

from __future__ import annotations

import threading
from typing import Any

from benchmarks.job import Job
from benchmarks.meter import Meter, Trips
from lochws import Threads, WebSocketApp, events

from .base import BaseClient, MemoryWatch, compute_without_pause

_OPEN_SECONDS = 120


class _Measured(WebSocketApp):
    def __init__(self, job: Job, meter: Meter, **options: Any) -> None:
        super().__init__(
            job.url, {}, compress=job.work.deflate, ssl_cafile=job.authorities, when_full="block", **options
        )
        self.meter = meter
        self.count = 0
        self.length = 0

    def on_closing(self, event: events.Closing) -> None:
        self.meter.stop()


class Receiving(_Measured):
    """Counts what comes."""

    def on_ready(self, event: events.Ready) -> None:
        self.meter.start()

    def on_text(self, event: events.Text) -> None:
        self.count += 1
        self.length += len(event.text)

    def on_binary(self, event: events.Binary) -> None:
        self.count += 1
        self.length += len(event.data)


class _Echoing(_Measured):
    def begin(self, trips: Trips, message: str) -> None:
        self.trips = trips
        self.message = message
        self.run_forever(ping_rate=0, persist=False)

    def on_ready(self, event: events.Ready) -> None:
        self.meter.start()
        self.trips.leave()
        self.send_text(self.message)

    def on_text(self, event: events.Text) -> None:
        if self.trips.arrive(event.text):
            self.send_text(self.message)


class _InCrowd(WebSocketApp):
    def __init__(self, job: Job, threads: Threads, opened: threading.Semaphore) -> None:
        super().__init__(job.url, {}, threads=threads, ssl_cafile=job.authorities)
        self.opened = opened
        self.count = 0
        self.length = 0

    def on_ready(self, event: events.Ready) -> None:
        self.opened.release()

    def on_text(self, event: events.Text) -> None:
        self.count += 1


class Client(BaseClient):
    """Does all the works."""

    threaded = True
    deflates = True
    receiver: type[_Measured] = Receiving

    def receive(self) -> None:
        app = self.receiver(self.job, self.meter)
        app.run_forever(ping_rate=0, persist=False)
        self.meter.take(app)

    def memory(self) -> None:
        watch = MemoryWatch()
        self.receive()
        self.meter.more["grown"] = watch.grown()

    def send(self) -> None:
        app = _Measured(self.job, self.meter)
        app.start(ping_rate=0, persist=False)
        app.wait_ready(10)
        self.meter.start()
        self.send_by_threads(lambda count: self.send_messages(app, count))
        app.join(60)
        self.meter.count = app.counters.messages_sent

    def send_messages(self, app: WebSocketApp, count: int) -> None:
        """One sender's share."""
        message = self.message
        if isinstance(message, str):
            for _ in range(count):
                app.send_text(message)
        else:
            for _ in range(count):
                app.send_binary(message)

    def echo(self) -> None:
        if self.work.busy:
            compute_without_pause()
        trips = Trips(self.job.count)
        _Echoing(self.job, self.meter).begin(trips, str(self.message))
        self.meter.take(trips)
        self.meter.latencies = trips.latencies

    def open(self) -> None:
        self.measure_opening(self._opened)

    def idle(self) -> None:
        apps = self.measure_idle(self._opened)
        self.meter.count = sum(app.is_active for app in apps)

    def crowd(self) -> None:
        self.watch_crowd(self._opened())

    def _opened(self) -> list[_InCrowd]:
        shared, opened = Threads(), threading.Semaphore(0)
        apps = [_InCrowd(self.job, shared, opened) for _ in range(self.job.count)]
        for app in apps:
            app.start()
        for _ in apps:
            if not opened.acquire(timeout=_OPEN_SECONDS):
                raise TimeoutError("not all connections opened")
        return apps
