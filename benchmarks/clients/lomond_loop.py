"""Lomond: its loop over events; sends come from other threads."""

from __future__ import annotations

import threading

import lomond

from benchmarks.meter import Trips

from .base import BaseClient


class Client(BaseClient):
    """Receives, sends and echoes."""

    threaded = True
    deflates = True

    def _events(self) -> tuple[lomond.WebSocket, lomond.events.Event]:
        websocket = lomond.WebSocket(
            self.job.url, proxies={}, compress=self.work.deflate, ssl_cafile=self.job.authorities
        )
        return websocket, websocket.connect(ping_rate=0)

    def receive(self) -> None:
        _, events = self._events()
        meter = self.meter
        for event in events:
            if event.name == "text":
                meter.count += 1
                meter.length += len(event.text)
            elif event.name == "binary":
                meter.count += 1
                meter.length += len(event.data)
            elif event.name == "ready":
                meter.start()
            elif event.name in ("closing", "closed", "disconnected"):
                meter.stop()

    def send(self) -> None:
        websocket, events = self._events()
        message = self.message
        send = websocket.send_text if isinstance(message, str) else websocket.send_binary

        def share(count: int) -> None:
            for _ in range(count):
                send(message)

        for event in events:
            if event.name == "ready":
                self.meter.start()
                threading.Thread(target=self.send_by_threads, args=(share,), daemon=True).start()
            elif event.name in ("closing", "closed", "disconnected"):
                self.meter.stop()
        self.meter.count = self.job.count

    def echo(self) -> None:
        websocket, events = self._events()
        message, trips = self.message, Trips(self.job.count)
        for event in events:
            if event.name == "text":
                if trips.arrive(event.text):
                    websocket.send_text(message)
            elif event.name == "ready":
                self.meter.start()
                trips.leave()
                websocket.send_text(message)
            elif event.name in ("closing", "closed", "disconnected"):
                self.meter.stop()
        self.meter.take(trips)
        self.meter.latencies = trips.latencies
