"""websocket-client, with wsaccel: its WebSocketApp; one thread per connection where there are many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import websocket

from benchmarks.job import Job
from benchmarks.meter import Meter, Trips

from .base import BaseClient, compute_without_pause

_OPEN_SECONDS = 120


class _Handlers:
    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.count = 0
        self.length = 0

    def on_open(self, app: websocket.WebSocketApp) -> None:
        self.meter.start()

    def on_message(self, app: websocket.WebSocketApp, message: str | bytes) -> None:
        self.count += 1
        self.length += len(message)

    def on_close(self, app: websocket.WebSocketApp, code: int | None, reason: str | None) -> None:
        self.meter.stop()

    def run(self, job: Job) -> None:
        app = websocket.WebSocketApp(
            job.url, on_open=self.on_open, on_message=self.on_message, on_close=self.on_close
        )
        app.run_forever(sslopt={"ca_certs": job.authorities} if job.authorities else None)


class _Sending(_Handlers):
    def __init__(self, meter: Meter, send_all: Callable[[Any], None]) -> None:
        super().__init__(meter)
        self.send_all = send_all

    def on_open(self, app: websocket.WebSocketApp) -> None:
        self.meter.start()
        threading.Thread(target=self.send_all, args=(app,), daemon=True).start()


class _Echoing(_Handlers):
    def __init__(self, meter: Meter, trips: Trips, text: str) -> None:
        super().__init__(meter)
        self.trips = trips
        self.text = text

    def on_open(self, app: websocket.WebSocketApp) -> None:
        self.meter.start()
        self.trips.leave()
        app.send(self.text)

    def on_message(self, app: websocket.WebSocketApp, message: str | bytes) -> None:
        if self.trips.arrive(str(message)):
            app.send(self.text)


class _InCrowd(_Handlers):
    def __init__(self, opened: threading.Semaphore) -> None:
        super().__init__(Meter())
        self.opened = opened

    def on_open(self, app: websocket.WebSocketApp) -> None:
        self.opened.release()


class Client(BaseClient):
    """Does all the works but the deflated ones, which the library does not know."""

    threaded = True

    def receive(self) -> None:
        handlers = _Handlers(self.meter)
        handlers.run(self.job)
        self.meter.take(handlers)

    def send(self) -> None:
        message = self.message
        opcode = websocket.ABNF.OPCODE_TEXT if isinstance(message, str) else websocket.ABNF.OPCODE_BINARY

        def send_all(app: websocket.WebSocketApp) -> None:
            def share(count: int) -> None:
                for _ in range(count):
                    app.send(message, opcode)

            self.send_by_threads(share)

        _Sending(self.meter, send_all).run(self.job)
        self.meter.count = self.job.count

    def echo(self) -> None:
        if self.work.busy:
            compute_without_pause()
        trips = Trips(self.job.count)
        _Echoing(self.meter, trips, str(self.message)).run(self.job)
        self.meter.take(trips)
        self.meter.latencies = trips.latencies

    def open(self) -> None:
        self.measure_opening(self._opened)

    def idle(self) -> None:
        self.measure_idle(self._opened)

    def crowd(self) -> None:
        self.watch_crowd(self._opened())

    def _opened(self) -> list[_InCrowd]:
        opened = threading.Semaphore(0)
        crowd = [_InCrowd(opened) for _ in range(self.job.count)]
        for handlers in crowd:
            threading.Thread(target=handlers.run, args=(self.job,), daemon=True).start()
        for _ in crowd:
            if not opened.acquire(timeout=_OPEN_SECONDS):
                raise TimeoutError("not all connections opened")
        return crowd
