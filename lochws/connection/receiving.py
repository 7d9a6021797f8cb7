"""The receiving half of one open WebSocket: from its stream to events.

All of it is the baton holder's.
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import events
from ..options import Options
from ..protocol.deflate import DeflateParameters, Inflater
from ..protocol.receiver import Receiver
from ..transport.stream import Stream
from .trace import Trace

#: What is taken at once where it may be deflated, up to 1000:1.
DEFLATED_READ = 16 * 1024
#: What an event is taken to cost besides its payload.
EVENT_BYTES = 100


class ReceivingHalf:
    """Receives, and says what came.

    Args:
        stream: where from.
        options: the WebSocket's options.
        agreed: what was agreed on about deflate, or None.
        trace: records steps, or None.

    Attributes:
        receiver: the protocol's half.
        at_eof: whether the stream has ended.
        is_drained: whether the last `receive` has left nothing for the selector to tell of.
        messages, bytes: what was received; read by anyone.
    """

    __slots__ = (
        "_deflates", "_stream", "_trace", "_unposted",
        "at_eof", "bytes", "is_drained", "messages", "receiver",
    )

    def __init__(
        self, stream: Stream, options: Options, agreed: DeflateParameters | None, trace: Trace | None
    ) -> None:
        self._stream = stream
        self._trace = trace
        self._deflates = agreed is not None
        self.receiver = Receiver(options.max_message_size, Inflater(agreed) if agreed is not None else None)
        self.at_eof = False
        self.is_drained = False
        self.messages = 0
        self.bytes = 0
        self._unposted = 0  # bytes received since there were events

    def receive(self, buffer: memoryview) -> tuple[list[events.Event], int] | None:
        """Receive once, with the help of the buffer. Never blocks.

        Returns:
            The events and their cost, or None if nothing came.

        Raises:
            OSError: the connection failed.
        """
        receiver = self.receiver
        with receiver.room(buffer[:DEFLATED_READ] if self._deflates else buffer) as room:
            size = len(room)
            count = self._stream.receive_into(room)
            if not count:
                self.at_eof = count == 0
                return None
            self.is_drained = count < size
            if self._trace:
                self._trace("socket_recv", length=count)
            return self._counted(receiver.received(room, count), count)

    def take(self, data: bytes) -> tuple[list[events.Event], int]:
        """As `receive`, of what came with the handshake."""
        return self._counted(self.receiver.receive(data), len(data))

    def _counted(self, received: list[events.Event], count: int) -> tuple[list[events.Event], int]:
        self.bytes += count
        if not received:
            self._unposted += count
            return received, count
        self.messages += len(received) - len(self.receiver.controls)
        if self._trace:
            self._trace.messages(received)
        cost, self._unposted = self._unposted + count, 0
        if self._deflates:
            cost = _payloads(received)
        return received, cost + EVENT_BYTES * len(received)


def _payloads(received: Sequence[events.Event]) -> int:
    return sum(
        len(event.text) if isinstance(event, events.Text) else len(event.data)
        for event in received
        if isinstance(event, (events.Text, events.Binary))
    )
