"""Receiving: one long message through a slow relay, in bounded memory, with pings answered all the time."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from lochws import WebSocketApp, events

from ..peers.programs import Programs

HERE = Path(__file__).parent
SENDERS = {
    "websockets": [sys.executable, str(HERE / "sender.py"), "websockets"],
    "wsproto": [sys.executable, str(HERE / "sender.py"), "wsproto"],
    "ws of Node": ["node", str(HERE / "sender.js")],
}


class Received(NamedTuple):
    """The measurements of a received message.

    Attributes:
        seconds: how long the message took.
        memory: how much the memory of this process grew at most, in bytes.
        pong: the longest time that the server waited for a pong, in seconds.
        latency: the longest time that we waited for a pong, in seconds.
    """

    seconds: float
    memory: int
    pong: float
    latency: float


def memory() -> int:
    """Return the resident memory of this process, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


class Receiving(WebSocketApp):
    """Reads one stream, in its handler or in a thread."""

    def __init__(self, url: str, size: int, *, in_thread: bool) -> None:
        super().__init__(url, stream_above=1 << 20, proxies={})
        self._size = size
        self._in_thread = in_thread
        self._texts: list[str] = []
        self.done = threading.Event()
        self.grown = 0
        self.began = self.ended = self.longest = 0.0

    @property
    def pong(self) -> float:
        """The longest time that the server waited for a pong."""
        end, seconds = self._texts
        assert end == "end"
        return float(seconds)

    def on_ready(self, event: events.Ready) -> None:
        """Measure the memory before the message."""
        self._before = memory()

    def on_stream(self, stream: events.Stream) -> None:
        """Read the stream, or have it read."""
        self.began = monotonic()
        if self._in_thread:
            threading.Thread(target=self._read, args=(stream,)).start()
        else:
            self._read(stream)

    def on_text(self, event: events.Text) -> None:
        """Note the two texts after the stream."""
        self._texts.append(event.text)
        if len(self._texts) == 2:
            self.done.set()

    def on_disconnected(self, event: events.Disconnected) -> None:
        """End the wait."""
        self.done.set()

    def _read(self, stream: events.Stream) -> None:
        received, look = 0, 0
        for part in stream:
            received += len(part)
            if received >= look:
                look += 8 << 20
                self.grown = max(self.grown, memory() - self._before)
                self.longest = max(self.longest, self.latency or 0.0)
        self.ended = monotonic()
        assert received == self._size


def receive(server: str, size: int, rate: int, *, in_thread: bool) -> Received:
    """Receive a message of `size` bytes from a server, at most `rate` bytes per second."""
    with Programs() as programs:
        [port] = programs.start([*SENDERS[server], "$port", str(size)])
        [relay] = programs.start([sys.executable, str(HERE / "relay.py"), "$port", str(port), str(rate)])
        app = Receiving(f"ws://127.0.0.1:{relay}/", size, in_thread=in_thread)
        app.start(persist=False, ping_rate=0.1, ping_timeout=30)
        assert app.done.wait(60 + 2 * size / rate)
        assert app.stop(10)
    return Received(app.ended - app.began, app.grown, app.pong, app.longest)
