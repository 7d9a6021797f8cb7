"""Sending: one long message through a slow relay, in bounded memory, with pings answered all the time."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from random import Random
from time import monotonic
from typing import NamedTuple

from lochws import WebSocketApp, events
from lochws.testing import EventLog

from ..peers.programs import Programs
from .incoming import HERE, memory

RECEIVERS = {
    "websockets": [sys.executable, str(HERE / "receiver.py"), "websockets"],
    "wsproto": [sys.executable, str(HERE / "receiver.py"), "wsproto"],
    "ws of Node": ["node", str(HERE / "receiver.js")],
}
PART = 64 * 1024
#: websockets accepts 4,096 fragments of a message.
FRAGMENT = 1024 * 1024


class Sent(NamedTuple):
    """The measurements of a sent message.

    Attributes:
        seconds: how long the message took.
        memory: how much the memory of this process grew at most, in bytes.
        pong: the longest time that the server waited for a pong, in seconds.
    """

    seconds: float
    memory: int
    pong: float


class Message:
    """A long message in parts that differ, and what producing it has shown.

    Attributes:
        crc: the CRC-32 of the parts so far.
        grown: how much the memory of this process has grown at most, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.crc = self.grown = 0

    def parts(self) -> Iterator[bytes]:
        """Produce the message."""
        before, noise = memory(), Random(1).randbytes(2 * PART)
        for start in range(0, self._size, PART):
            part = noise[start % 65521 :][: min(PART, self._size - start)]
            self.crc = zlib.crc32(part, self.crc)
            if start % (8 << 20) == 0:
                self.grown = max(self.grown, memory() - before)
            yield part


def send(server: str, size: int, rate: int) -> Sent:
    """Send a message of `size` bytes to a server, at most `rate` bytes per second."""
    message = Message(size)
    with Programs() as programs:
        [port] = programs.start([*RECEIVERS[server], "$port"])
        [relay] = programs.start([sys.executable, str(HERE / "relay.py"), "$port", str(port), str(rate)])
        app = WebSocketApp(f"ws://127.0.0.1:{relay}/", proxies={}, fragment=FRAGMENT)
        log = EventLog(app, patience=60)
        app.start(persist=False, ping_rate=0)
        assert app.wait_ready(10)
        began = monotonic()
        app.send_stream(message.parts())
        received, crc, pong = log.wait_for(events.Text).text.split()
        ended = monotonic()
        assert app.stop(10)
    assert (int(received), int(crc)) == (size, message.crc)
    return Sent(ended - began, message.grown, float(pong))
