"""The receiving half of one connection: from its stream to the inbox, with keepalive and flow control.

Only the baton holder calls this code, unless stated otherwise. A read fills the loop's buffer, or the memory
of a large message, and passes through the `Receiver`. Pings are answered and pongs recorded immediately,
before any handler sees them; then the events are added to the inbox. While too much waits in the inbox,
nothing is read, so that TCP slows the server down (backpressure).
"""

from __future__ import annotations

from collections.abc import Sequence
from selectors import EVENT_WRITE
from sys import getsizeof
from time import monotonic
from typing import Protocol

from .. import events
from ..engine.inbox import Inbox
from ..options import Options, Timing
from ..protocol.deflate import DeflateParameters, Inflater
from ..protocol.keepalive import Keepalive
from ..protocol.receiver import Receiver
from ..transport.stream import Stream
from .sending import SendingHalf
from .trace import Trace

#: The longest that one turn goes on receiving through TLS, in seconds: decrypting takes time.
TURN_SECONDS = 0.003
#: Bytes of events that may wait for a handler; beyond this nothing is read until some were handled.
INBOX_BYTES = 16 * 1024 * 1024
#: What is read at once where it may be compressed, up to 1000:1.
DEFLATED_READ = 16 * 1024
#: What a ping and the pings before it may take in the kernel: beyond it, a ping has data ahead of it.
PING_BYTES = 512
#: What an event is taken to cost besides its payload.
EVENT_BYTES = 100
#: While nothing else waits, messages smaller than this are not looked at for the memory that they take.
EXACT_BYTES = 16 * 1024


class Ends(Protocol):
    """The interface between a receiving half and its connection."""

    def flush_blocked(self, now: float) -> None:
        """The kernel has room again, or may have: flush the queue."""

    def server_is_done(self, now: float) -> None:
        """The server's Close frame has arrived, or it broke a rule: nothing else will be received."""

    def stream_ended(self, error: OSError | None) -> None:
        """The stream has ended, by itself or with an error."""

    def after_reading(self, more: bool) -> None:
        """A turn has read what it may; `more` tells whether there is more. Not called if nothing changed."""

    def has_handler_for(self, kind: type[events.Event]) -> bool:
        """Return whether such an event would reach anyone."""

    def touch(self) -> None:
        """Have the loop come back to the connection. Any thread."""


class ReceivingHalf:
    """Reads, and passes on what arrived.

    Args:
        stream: where the bytes come from.
        options: the WebSocket's options.
        timing: how the connection is kept.
        agreed: the parameters of permessage-deflate, or None.
        inbox: where events go.
        sending: the other half, which answers pings.
        ends: the connection.
        trace: records steps, or None.

    Attributes:
        receiver: the protocol's half.
        keepalive: when to ping, and whether the server is still there.
        at_eof: whether the stream has ended.
        is_paused: whether reading rests until handlers have caught up.
        messages, bytes: what was received; read by anyone.
    """

    __slots__ = (
        "_acknowledged", "_auto_pong", "_deflates", "_ends", "_inbox", "_is_plain", "_ping_at", "_queue",
        "_sending", "_stream", "_trace", "_unposted", "at_eof", "bytes", "is_paused", "keepalive",
        "messages", "receiver",
    )

    def __init__(
        self,
        stream: Stream,
        options: Options,
        timing: Timing,
        agreed: DeflateParameters | None,
        *,
        inbox: Inbox,
        sending: SendingHalf,
        ends: Ends,
        trace: Trace | None,
    ) -> None:
        self._stream = stream
        self._is_plain = type(stream) is Stream  # and keeps nothing inside
        self._inbox = inbox
        self._sending = sending
        self._queue = sending.queue
        self._ends = ends
        self._trace = trace
        self._auto_pong = timing.auto_pong
        self._deflates = agreed is not None
        self.receiver = Receiver(options.max_message_size, Inflater(agreed) if agreed is not None else None)
        self.keepalive = Keepalive(timing.ping_rate or 0, timing.ping_limit)
        self.at_eof = False
        self.is_paused = False
        self.messages = 0
        self.bytes = 0
        self._ping_at: int | None = None  # where in the stream a ping is that has data ahead of it
        self._acknowledged = 0  # how much of the stream was acknowledged when that was last looked at
        self._unposted = 0  # bytes received since there were events

    def on_ready(self, mask: int, buffer: memoryview, now: float) -> bool | None:
        """Flush what waits if the kernel has room, and read a bounded amount.

        Returns:
            Whether there is more to read at once; None if there is not, and nothing has changed that the loop
            must know.
        """
        queue, stream = self._queue, self._stream
        was_blocked = queue.is_blocked
        if was_blocked and (mask & EVENT_WRITE or stream.writes_want_read):
            self._ends.flush_blocked(now)
        more = False
        if not (self.is_paused or self.at_eof):
            more = self._receive(buffer, now)
        if not (
            more or was_blocked or queue.is_blocked or self.is_paused or self.at_eof or self.receiver.done
            or queue.failure is not None or stream.reads_want_write
        ):
            return None
        self._ends.after_reading(more)
        return more

    def take(self, data: bytes, now: float) -> None:
        """Pass on what arrived together with the handshake."""
        self._take(self.receiver.receive(data), len(data), now)

    def resume_if_low(self, now: float) -> bool:
        """Read on if handlers have caught up. Returns whether reading has rested until now."""
        if not self.is_paused or self._inbox.backlog > INBOX_BYTES // 2:
            return False
        self.is_paused = False
        self.keepalive.resume(now)
        return True

    def note_pings(self) -> None:
        """Note which pings of the user's were sent meanwhile."""
        sent = self._sending.pings_sent
        if sent and self.keepalive.waiting_since is None:
            self.wait_begins()
        while sent:
            self.keepalive.sent(*sent.pop(0))

    def wait_begins(self) -> None:
        """Note how much the kernel has still to deliver ahead of a ping whose answer will be waited for."""
        self._ping_at = None
        progress = self._stream.progress()
        if progress is not None and progress.waiting > PING_BYTES:
            self._acknowledged = progress.acknowledged
            self._ping_at = progress.acknowledged + progress.waiting

    def is_still_sending(self, now: float) -> bool:
        """Return whether a ping has no answer only because it is behind data that the server is still taking.

        Then the wait for the answer begins anew. TCP is asked: on a slow network the socket may not become
        writable for long, though the server's side acknowledges what arrives.
        """
        if self._ping_at is None:
            return False
        progress = self._stream.progress()
        if progress is None or progress.acknowledged <= self._acknowledged:
            return False
        self._acknowledged = progress.acknowledged
        if self._acknowledged >= self._ping_at:
            self._ping_at = None  # it has arrived, and gets the whole time for its answer
        self.keepalive.postpone(now)
        return True

    def _receive(self, buffer: memoryview, now: float) -> bool:
        """Receive about as much as there is room in the buffer. Returns whether there may be more."""
        receiver, stream, share = self.receiver, self._stream, len(buffer)
        until = 0.0 if self._is_plain else monotonic() + TURN_SECONDS
        while share > 0:
            room = buffer[:DEFLATED_READ] if self._deflates else buffer
            wants_room = receiver.wants_room
            if wants_room:
                room = receiver.room(room)
            size = len(room)
            try:
                count = stream.receive_into(room)
            except OSError as error:
                return self._stream_ended(error, room if wants_room else None)
            if not count:
                return self._nothing_received(count, room if wants_room else None)
            if self._sending.pings_sent:
                self.note_pings()
            was_done = receiver.done
            received = receiver.received(room, count) if wants_room else receiver.receive(room[:count])
            if self._trace:
                self._trace("socket_recv", length=count)
            if self.keepalive.waiting_since is not None:
                self.keepalive.received(now)
            if was_done:
                self.bytes += count
            else:
                share -= self._take(received, count, now)
            if self.is_paused:
                return False
            if count < size:
                # The selector tells of more, but not of what the stream has kept inside.
                return not self._is_plain and stream.pending()
            share -= count
            if until and monotonic() >= until:
                break  # a flood of small records through TLS: others have their turn first
        return True

    def _nothing_received(self, count: int | None, room: memoryview | None) -> bool:
        if count == 0:
            return self._stream_ended(None, room)
        if room is not None:
            room.release()
        # A stream may end its share of the turn early, with nothing to show for it yet.
        return not self._is_plain and self._stream.pending()

    def _stream_ended(self, error: OSError | None, room: memoryview | None) -> bool:
        if room is not None:
            room.release()  # a traceback would keep it, and with it the memory of the message
        self.at_eof = True
        self._ends.stream_ended(error)
        return False

    def _take(self, received: list[events.Event], count: int, now: float) -> int:
        """Count what arrived, react to it and post it. Returns what it costs besides its bytes."""
        self.bytes += count
        receiver = self.receiver
        controls = receiver.controls
        extra = 0
        if received:
            messages = len(received) - len(controls)
            self.messages += messages
            if self._trace:
                self._trace.messages(received)
            if controls:
                self._react(controls, now)
            extra = EVENT_BYTES * len(received)
            cost, self._unposted = self._unposted + count, 0
            if self._deflates:
                cost = 0
                extra += _memory_of(received)
            elif cost >= EXACT_BYTES * len(received) or self._inbox.batches:
                extra += _memory_of(received, but=cost)
            is_wanted = messages or any(self._ends.has_handler_for(type(event)) for event in received)
            if is_wanted and self._inbox.post(received, cost + extra) > INBOX_BYTES:
                self._pause()
        else:
            self._unposted += count
        if receiver.done:
            self._ends.server_is_done(now)
        return extra

    def _react(self, controls: Sequence[events.Ping | events.Pong], now: float) -> None:
        owed = False
        for event in controls:
            if isinstance(event, events.Pong):
                event.latency = self.keepalive.pong(event.data, now)
            elif self._auto_pong:
                self._sending.pong(event.data)
                owed = True
        if owed:
            self._queue.flush()

    def _pause(self) -> None:
        self.is_paused = True
        self.keepalive.pause()
        self._inbox.call_when_low(INBOX_BYTES // 2, self._ends.touch)


def _memory_of(received: Sequence[events.Event], but: int = 0) -> int:
    """Return about how many bytes of memory the payloads take; where `but` were counted already, the others.

    A text takes 1, 2 or 4 bytes for each of its characters, by the largest of them.
    """
    total = 0
    for event in received:
        if isinstance(event, events.Text):
            total += len(event.text) if event.text.isascii() else getsizeof(event.text)
        elif isinstance(event, events.Binary):
            total += len(event.data)
    return max(0, total - but)
