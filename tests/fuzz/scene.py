"""The scene of a connection: a real pair of sockets, a loop turned by hand, a clock of the test's."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import FrameDecoder, Opcode

from lochws.clock import SystemClock
from lochws.connection.connection import Connection
from lochws.connection.incoming import IncomingStream
from lochws.connection.past import Past
from lochws.engine.inbox import Inbox
from lochws.engine.loop import Loop
from lochws.events import Disconnected, Event
from lochws.opening.dial import Opened
from lochws.options import Deflate, Options, Timing
from lochws.protocol.deflate import DeflateParameters
from lochws.protocol.handshake import Agreement
from lochws.response import Response
from lochws.transport.stream import Stream

from ..support.queues import Clock

#: Seconds of the timing that the scene has.
PING_RATE, PING_TIMEOUT, CLOSE_TIMEOUT = 30.0, 60.0, 20.0
MAX_MESSAGE = 5000
MAX_QUEUE = 20_000
#: The kernel's room for what we send, in bytes: small, so that it is full at times.
KERNEL_ROOM = 8192


def peer_deflate() -> list[PerMessageDeflate]:
    """Return the extension as wsproto's server has it once it was agreed on."""
    extension = PerMessageDeflate()
    extension.accept("permessage-deflate")
    return [extension]


@dataclass
class Wire:
    """The client's bytes as the peer reads them, with wsproto.

    Attributes:
        messages: texts and binary messages, whole, in order.
        pings, pongs: their payloads.
        closes: the payloads of Close frames.
        at_end: whether we ended the connection.
    """

    messages: list[str | bytes]
    pings: list[bytes]
    pongs: list[bytes]
    closes: list[bytes]
    at_end: bool = False


class Scene:
    """One open connection whose owner, loop, handlers, time and peer are the test's.

    Args:
        compress: whether permessage-deflate was agreed on.
        gather: as of `Connection`.
        when_full: as of `Options`; ``"block"`` would have nobody who makes room.

    Attributes:
        connection: the connection.
        clock: the only clock that it sees.
        handled: the events whose handlers have run, in order.
        wire: what the peer has read.
    """

    def __init__(self, *, compress: bool, gather: bool, when_full: Any) -> None:
        self._patch = pytest.MonkeyPatch()
        self.clock = Clock()
        self.clock.rule(self._patch)
        ours, self.peer = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_ROOM)
        for end in (ours, self.peer):
            end.setblocking(False)
        agreed = DeflateParameters() if compress else None
        options = Options(
            deflate=Deflate(threshold=0) if compress else None, max_message_size=MAX_MESSAGE,
            max_queue=MAX_QUEUE, when_full=when_full,
        )
        timing = Timing(poll=0, ping_rate=PING_RATE, ping_timeout=PING_TIMEOUT, close_timeout=CLOSE_TIMEOUT)
        self.inbox = Inbox(handle=lambda _: None, notify=lambda _: None)  # the test takes
        machine = SystemClock()
        machine.monotonic = self.clock
        self.loop = Loop(machine)
        self.connection = Connection(
            Opened(Stream(ours), Response(b"HTTP/1.1 101 x\r\n\r\n"), Agreement(None, agreed), b""),
            options, timing, listener=self, loop=self.loop, inbox=self.inbox, past=Past(), gather=gather,
        )
        self.loop.add(self.connection)
        self.handled: list[Event] = []
        self.finals: list[Disconnected] = []  # what the owner was told of
        self.wire = Wire([], [], [], [])
        self._decoder = FrameDecoder(client=False, extensions=list(peer_deflate()) if compress else [])
        self._begun: tuple[Opcode, bytes] | None = None

    # The connection's listener.

    def connection_ended(self, connection: Connection, event: Disconnected) -> None:
        """Note the end."""
        assert connection is self.connection
        self.finals.append(event)

    def ready_handled(self) -> None:
        """Do nothing: no thread waits for it."""

    def end_handled(self) -> None:
        """Nothing follows."""

    def may_block(self) -> bool:
        """There is one thread."""
        return False

    def has_handler_for(self, kind: type[Event]) -> bool:
        """Every event is wanted."""
        return True

    def turn_for_handler(self, until: Callable[[], bool], limit: float | None) -> bool:
        """Refuse: streams are not read here."""
        raise NotImplementedError

    def stream_handled(self, stream: IncomingStream) -> None:
        """Nothing keeps it."""

    # The loop and the handlers.

    def turn(self) -> None:
        """One turn of the loop, without waiting."""
        self.loop.turn(until=lambda: True, limit=0)

    def handle(self) -> list[Event]:
        """Let the handlers of the oldest batch run. Returns its events."""
        batch = self.inbox.take()
        if batch is None:
            return []
        events, after = batch
        self.handled += events
        if after is not None:
            after()
        return list(events)

    # The peer.

    def send(self, data: bytes) -> int:
        """Send as the peer what the kernel takes; 0 bytes once we are gone."""
        try:
            return self.peer.send(data)
        except OSError:
            return 0

    def read(self, count: int) -> None:
        """Read at most that many bytes as the peer, and check them by the rules of a client's frames."""
        try:
            data = self.peer.recv(count)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.wire.at_end = True
            return
        self._decoder.receive_bytes(data)
        while (frame := self._decoder.process_buffer()) is not None:
            self._take(frame)

    def _take(self, frame: Any) -> None:
        assert not self.wire.closes, f"a frame follows our Close frame: {frame}"
        assert frame.message_finished, "our messages are not fragmented"
        opcode, payload = self._begun or (frame.opcode, b"")
        payload += frame.payload
        self._begun = None if frame.frame_finished else (opcode, payload)
        if not frame.frame_finished:
            return
        put: dict[Opcode, Callable[[Any], None]] = {
            Opcode.TEXT: lambda data: self.wire.messages.append(data.decode()),
            Opcode.BINARY: self.wire.messages.append,
            Opcode.PING: self.wire.pings.append,
            Opcode.PONG: self.wire.pongs.append,
            Opcode.CLOSE: self.wire.closes.append,
        }
        put[opcode](payload)

    def end(self) -> None:
        """Leave the stage."""
        self.loop.close()
        self.peer.close()
        self._patch.undo()
