"""picows on uvloop: a listener whose method gets each frame."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import picows
import uvloop

from benchmarks.meter import Meter, Trips

from .asynchronous import AsyncClient
from .base import Counter

#: The largest frame it may get; the default is more than any of the works needs, but for this to be sure.
_MAX_FRAME = 1 << 26


class _Listener(picows.WSListener):
    """Ends when the server closes."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.count = 0
        self.length = 0
        self.may_write = asyncio.Event()
        self.may_write.set()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        self.end(transport, frame)

    def end(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            self.meter.stop()
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()


class _TextListener(_Listener):
    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.meter.start()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.TEXT:
            self.count += 1
            self.length += len(frame.get_payload_as_utf8_text())
        else:
            self.end(transport, frame)


class _BinaryListener(_TextListener):
    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.BINARY:
            self.count += 1
            self.length += len(frame.get_payload_as_bytes())
        else:
            self.end(transport, frame)


class _EchoListener(_Listener):
    def __init__(self, meter: Meter, trips: Trips, message: bytes) -> None:
        super().__init__(meter)
        self.trips = trips
        self.message = message

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.meter.start()
        self.trips.leave()
        transport.send(picows.WSMsgType.TEXT, self.message)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type != picows.WSMsgType.TEXT:
            self.end(transport, frame)
        elif self.trips.arrive(frame.get_payload_as_utf8_text()):
            transport.send(picows.WSMsgType.TEXT, self.message)


class _CrowdListener(picows.WSListener):
    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        self.counter.count += 1


class Client(AsyncClient):
    """Does all the works but the deflated ones and those that need threads."""

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        uvloop.run(coroutine)

    async def _connect(self, listener: picows.WSListener) -> picows.WSTransport:
        transport, _ = await picows.ws_connect(
            lambda: listener, self.job.url, ssl_context=self.tls, max_frame_size=_MAX_FRAME
        )
        return transport

    def receive(self) -> None:
        self.run(self._receive())

    async def _receive(self) -> None:
        kind = _BinaryListener if self.work.payload == "binary" else _TextListener
        listener = kind(self.meter)
        await (await self._connect(listener)).wait_disconnected()
        self.meter.take(listener)

    def send(self) -> None:
        self.run(self._send())

    async def _send(self) -> None:
        message = self.message
        kind = picows.WSMsgType.TEXT if isinstance(message, str) else picows.WSMsgType.BINARY
        listener = _Listener(self.meter)
        transport = await self._connect(listener)
        self.meter.start()
        for _ in range(self.job.count):
            transport.send(kind, message)
            if not listener.may_write.is_set():
                await listener.may_write.wait()
        await transport.wait_disconnected()
        self.meter.count = self.job.count

    def echo(self) -> None:
        self.run(self._echo())

    async def _echo(self) -> None:
        trips = Trips(self.job.count)
        listener = _EchoListener(self.meter, trips, str(self.message).encode())
        await (await self._connect(listener)).wait_disconnected()
        self.meter.take(trips)
        self.meter.latencies = trips.latencies

    async def join_crowd(self, counter: Counter) -> Any:
        return await self._connect(_CrowdListener(counter))
