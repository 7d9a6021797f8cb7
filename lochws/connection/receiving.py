"""The receiving half of one connection: from its stream to the inbox, with keepalive and flow control.

Only the baton holder calls this code, unless stated otherwise. A `Pump` receives into the loop's buffer, or
the memory of a large message, and makes the events of whole messages; the `Receiver` takes everything else.
Pings are answered and pongs recorded immediately, before any handler sees them; then the events are added to
the inbox. While too much waits in the inbox, nothing is read, so that TCP slows the server down
(backpressure).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from selectors import EVENT_WRITE
from time import monotonic
from typing import Protocol

from .. import events
from ..codec import JSON
from ..engine.inbox import Inbox
from ..errors import WebSocketClosed
from ..options import Options, Timing
from ..protocol.deflate import DeflateParameters, Inflater
from ..protocol.keepalive import Keepalive
from ..protocol.pump import DEFLATED_READ, EVENT_BYTES, EXACT_BYTES, memory_of
from ..protocol.receiver import Receiver, Streaming
from ..protocol.staleness import Staleness
from ..system.compiled import choose, load
from ..transport.stream import Stream
from .history import History
from .incoming import Handlers, IncomingStreams
from .receipts import Receipt, ReceiptState, run_calls
from .sending import SendingHalf
from .trace import Trace

#: The longest that one turn keeps receiving through TLS, in seconds: decrypting takes time.
TURN_SECONDS = 0.003
#: Bytes of events that may wait for handlers; beyond this limit nothing is read until some are handled.
INBOX_BYTES = 16 * 1024 * 1024
#: With more bytes than this in the kernel's buffer, a ping has data ahead of it and not only other pings.
PING_BYTES = 512
#: By how much TLS can multiply the bytes that are sent, at most, if each frame has a record of its own: with
#: CBC and SHA-384 in TLS 1.2, 6 bytes become 85.
TLS_FACTOR = 16


class Ends(Protocol):
    """The interface between a receiving half and its connection."""

    def flush_blocked(self, now: float) -> None:
        """Flush the queue, since the kernel has room again, or may have."""

    def server_is_done(self, now: float) -> None:
        """Handle the server's Close frame or its protocol violation: nothing else will be received."""

    def stream_ended(self, error: OSError | None) -> None:
        """Note that the stream has ended, by itself or with an error."""

    def after_reading(self, more: bool) -> None:
        """Note the end of a turn's reading; `more` is whether more can be read. Skipped without changes."""

    def touch(self) -> None:
        """Have the loop call `on_touch` soon. Any thread."""


class ReceivingHalf:
    """The half of a connection that reads from the stream and posts events to the inbox.

    Args:
        stream: the stream to read from.
        options: the WebSocket's options.
        timing: the intervals and limits of keepalive.
        agreed: the negotiated parameters of permessage-deflate, or None.
        inbox: receives the events.
        sending: the sending half, which answers pings.
        ends: the connection.
        handlers: the listener of the connection.
        history: the last things that happened.
        trace: records steps, or None.

    Attributes:
        receiver: the receiving half of the protocol.
        pump: its part for whole messages, with the numbers of messages and bytes received.
        keepalive: the schedule of pings, and the check that the server is still there.
        staleness: the check that the server still sends messages.
        at_eof: whether the stream has ended.
        is_paused: whether reading is paused until handlers have caught up.
        heard: when part of a message was last received, in monotonic seconds; 0.0 if there was none.
        post: posts what the server has sent, in order, and returns the backlog: see `Inbox.post`.
    """

    __slots__ = (
        "_acknowledged", "_auto_pong", "_codec", "_deflates", "_ends", "_handlers", "_history", "_inbox",
        "_is_plain", "_is_quick", "_may_be_quick", "_ping_at", "_pings_sent", "_prepares", "_queue",
        "_receive_into", "_sending", "_stream", "_streams", "_trace", "at_eof", "heard", "is_paused",
        "keepalive", "post", "pump", "receiver", "staleness",
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
        handlers: Handlers,
        history: History,
        trace: Trace | None,
    ) -> None:
        self._stream = stream
        self._is_plain = type(stream) is Stream  # such a stream buffers nothing
        self._receive_into = stream.receiver()
        self._inbox = inbox
        self._sending = sending
        self._queue = sending.queue
        self._pings_sent = sending.pings_sent
        self._ends = ends
        self._handlers = handlers
        self._trace = trace
        self._history = history
        self._codec = options.codec
        #: Whether received messages need something done that most apps do not ask for.
        self._prepares = history.has_messages or self._codec.binary or self._codec.loads is not JSON.loads
        self._auto_pong = timing.auto_pong
        self._deflates = agreed is not None
        #: The streams, if large messages become streams.
        self._streams: IncomingStreams | None = None
        self.post: Callable[..., int] = inbox.post
        streaming = None
        if options.stream_above is not None:
            self._streams = IncomingStreams(inbox, ends.touch, handlers)
            self.post = self._streams.post
            streaming = Streaming(options.stream_above, options.max_stream_size, self._streams.open)
        self.receiver = Receiver(
            options.max_message_size,
            Inflater(agreed) if agreed is not None else None,
            text_as_bytes=options.text_as == "bytes",
            streaming=streaming,
        )
        self.pump = self.receiver.pump
        self.pump.repeats = self._is_plain
        #: Whether each message needs nothing but to be posted; and whether that is so at the moment.
        self._may_be_quick = not (self._prepares or streaming or trace)
        self._is_quick = False
        self.keepalive = Keepalive(timing.ping_rate or 0, timing.ping_limit)
        self.staleness = Staleness(timing.stale_after or 0)
        self.heard = 0.0
        self.at_eof = False
        self.is_paused = False
        self._ping_at: int | None = None  # the stream position of a ping that has data ahead of it
        self._acknowledged = 0  # the acknowledged stream position at the last check

    def on_ready(
        self, mask: int, buffer: memoryview, now: float, is_direct: bool = False
    ) -> bool | Inbox | None:
        """Flush the queue if the kernel has room, and read a bounded amount.

        Returns:
            Whether more can be read immediately; None if not and nothing has changed that the loop must know.
            The inbox if, in addition, the reader is to handle its `last` items, which were not posted.
        """
        queue = self._queue
        if not self._is_quick or queue.is_blocked or queue.failure is not None:
            return self._go_on(mask, buffer, now)
        received: list[events.Event] = []
        try:
            is_taken = self.pump.receive(self._receive_into, buffer, received, self._inbox.batches)
        except OSError as error:
            return self._after_error(error, buffer, received, now)
        return self._after_receiving(is_taken, buffer, received, now, is_direct)

    def _after_receiving(
        self, is_taken: bool, buffer: memoryview, received: list[events.Event], now: float, is_direct: bool
    ) -> bool | Inbox | None:
        """Process what `on_ready` has received."""
        inbox = self._inbox
        if not is_taken:
            self._received(buffer, received, now)
            return self._has_read(self._has_more())
        if self._pings_sent:
            self.note_pings()
        if self.keepalive.waiting_since is not None:
            self.keepalive.received(now)
        self.heard = now
        is_done = self._is_plain or not (self._stream.pending() or self._stream.reads_want_write)
        if is_direct and received and is_done and not inbox.batches:
            inbox.last = received
            return inbox
        if received and self.post(received, self.pump.cost) > INBOX_BYTES:
            self._pause()
        elif is_done:
            return None
        return self._has_read(self._has_more())

    def _after_error(
        self, error: OSError, buffer: memoryview, received: list[events.Event], now: float
    ) -> bool | None:
        """End reading because of an error in `on_ready`, which may have received something before."""
        if received:
            self._received(buffer, received, now)
        return self._has_read(self._stream_ended(error))

    def _go_on(self, mask: int, buffer: memoryview, now: float) -> bool | None:
        """Do the same as `on_ready` in any state, and for connections with special options."""
        queue = self._queue
        was_blocked = queue.is_blocked
        has_waited = was_blocked or self._stream.reads_want_write
        if was_blocked and (mask & EVENT_WRITE or self._stream.writes_want_read):
            self._ends.flush_blocked(now)
        more = False
        if not (self.is_paused or self.at_eof):
            more = self._receive(buffer, now)
        self._is_quick = self._may_be_quick and not (self.is_paused or self.at_eof or self.receiver.done)
        return self._has_read(more, has_waited)

    def _has_read(self, more: bool, has_waited: bool = False) -> bool | None:
        """End the turn's reading. Return what `on_ready` returns.

        Args:
            more: whether more can be read immediately.
            has_waited: whether the loop has waited for room to write until now.
        """
        if not (
            more or has_waited or self._queue.is_blocked or self.is_paused or self.at_eof
            or self.receiver.done or self._queue.failure is not None or self._stream.reads_want_write
        ):
            return None
        if self._stream.reads_want_write:
            self._is_quick = False  # `_go_on` notices when that is over
        self._ends.after_reading(more)
        return more

    def take(self, data: bytes, now: float) -> None:
        """Process the bytes that arrived together with the handshake."""
        self.pump.bytes += len(data)
        self.pump.carried += len(data)
        self._take(self.receiver.receive(data), now)

    def resume_if_low(self, now: float) -> bool:
        """Resume reading if handlers have caught up. Return whether reading was paused until now."""
        streams = self._streams
        if streams is not None:
            streams.release()
        if not self.is_paused:
            return False
        if self._inbox.backlog > INBOX_BYTES // 2:
            self._inbox.call_when_low(INBOX_BYTES // 2, self._ends.touch)
            return False
        if streams is not None and not streams.is_low(INBOX_BYTES // 2):
            return False
        self.is_paused = False
        if streams is None or not streams.pauses:
            self._history.happened("resumed")
        else:
            streams.pauses = False  # a stream may do so thousands of times, which would fill the history
        self.keepalive.resume(now)
        self.staleness.restart(now)
        return True

    def note_pings(self) -> None:
        """Record the user's pings that were sent since the last call."""
        sent = self._pings_sent
        if sent and self.keepalive.waiting_since is None:
            self.wait_begins()
        while sent:
            with suppress(IndexError):  # a thread that could not send its ping has just removed it
                self.keepalive.sent(*sent.pop(0))

    def wait_begins(self) -> None:
        """Record how much data the kernel must still deliver ahead of a ping whose answer is awaited."""
        self._ping_at = None
        if self._queue.bytes_sent * TLS_FACTOR <= PING_BYTES:
            return  # the first ping: the server has read the request, since it has answered it
        progress = self._stream.progress()
        if progress is not None and progress.waiting > PING_BYTES:
            self._acknowledged = progress.acknowledged
            self._ping_at = progress.acknowledged + progress.waiting

    def is_still_sending(self, now: float) -> bool:
        """Return whether a ping is unanswered only because the server is still receiving data ahead of it.

        If so, the wait for the answer starts again. The kernel's TCP state is queried because on a slow
        network the socket may not become writable for a long time, although the server's side acknowledges
        data.
        """
        if self._ping_at is None:
            return False
        progress = self._stream.progress()
        if progress is None or progress.acknowledged <= self._acknowledged:
            return False
        self._acknowledged = progress.acknowledged
        if self._acknowledged >= self._ping_at:
            self._ping_at = None  # it has arrived, and the server gets the full time to answer it
        self.keepalive.postpone(now)
        return True

    def _receive(self, buffer: memoryview, now: float) -> bool:
        """Receive about as much as fits into the buffer. Return whether more may be readable."""
        share = len(buffer)
        until = 0.0 if self._is_plain else monotonic() + TURN_SECONDS
        room = buffer[:DEFLATED_READ] if self._deflates else buffer
        while share > 0:
            received: list[events.Event] = []
            try:
                self.pump.receive(self._receive_into, room, received, True)
            except OSError as error:
                if received:
                    self._received(room, received, now)
                return self._stream_ended(error)
            taken = self._received(room, received, now)
            if taken is None or self.pump.count < len(room):
                return self._has_more()
            share -= taken
            if until and monotonic() >= until:
                break  # a flood of small TLS records: other connections get their turn first
        return True

    def _has_more(self) -> bool:
        """Return whether the stream has buffered bytes, which no selector reports."""
        return not (self._is_plain or self.is_paused or self.at_eof) and self._stream.pending()

    def _received(self, room: memoryview, received: list[events.Event], now: float) -> int | None:
        """Take note of the bytes that the pump has received, and process those that it has left.

        Returns:
            Their share of the turn, in bytes; None if there are none, or nothing else can be received now.
        """
        pump, receiver = self.pump, self.receiver
        if pump.count <= 0:
            if pump.count == 0:
                self._stream_ended(None)
            return None  # a stream may end its part of the turn early, without having produced any data yet
        if self._pings_sent:
            self.note_pings()
        was_done, counted = receiver.done, len(received)
        receiver.receive(room[pump.start : pump.stop], received)
        if self._trace:
            self._trace("socket_recv", length=pump.count)
        if self.keepalive.waiting_since is not None:
            self.keepalive.received(now)
        share = pump.count if was_done else pump.count + self._take(received, now, counted)
        return None if self.is_paused else share

    def _stream_ended(self, error: OSError | None) -> bool:
        self.at_eof, self._is_quick = True, False
        self._ends.stream_ended(error)
        return False

    def _take(self, received: list[events.Event], now: float, counted: int = 0) -> int:
        """Count, react to and post events, of which the pump has counted some. Return their cost."""
        receiver, pump = self.receiver, self.pump
        controls = receiver.controls
        cost = pump.cost if counted else 0
        if counted or receiver.advanced:
            self.heard = now
        if received:
            others = received[counted:]
            messages = len(others) - len(controls)
            if messages:
                pump.messages += messages
                self.heard = now
                pump.last_message_at = _last_message(others).received_time
            if self._prepares:
                self._prepare(received)
            if self._trace:
                self._trace.messages(received)
            if controls:
                self._react(controls, now)
            if others:
                cost += self._cost_of(others)
            is_wanted = (
                counted or messages or any(self._handlers.has_handler_for(type(event)) for event in controls)
            )
            if is_wanted and self.post(received, cost) > INBOX_BYTES:
                self._pause()
        if self._streams is not None or receiver.done:
            self._taken(now)
        return cost

    def _cost_of(self, received: list[events.Event]) -> int:
        """Return the memory that events take which the pump has not counted."""
        carried, self.pump.carried = self.pump.carried, 0
        cost = EVENT_BYTES * len(received)
        if self._deflates:
            return cost + memory_of(received)
        is_exact = self._inbox.batches or carried >= EXACT_BYTES * len(received)
        return cost + (max(carried, memory_of(received)) if is_exact else carried)

    def _taken(self, now: float) -> None:
        """Check the streams, and whether the server is done, after something was received."""
        if self._streams is not None:
            self._check_streams(self._streams)
        if self.receiver.done:
            self._is_quick = False
            self._ends.server_is_done(now)

    def _check_streams(self, streams: IncomingStreams) -> None:
        """Release the events that wait behind a stream, and pause reading if too much waits."""
        if streams.is_arriving:
            self.pump.carried = 0  # it is counted in the stream's own buffer
        if self.receiver.done:
            failure = self.receiver.failure
            why = "closed the connection" if failure is None else f"violated the protocol: {failure}"
            error = WebSocketClosed(f"the stream is incomplete, since the server {why}")
            error.__cause__ = failure
            streams.fail(error)
        if streams.check(INBOX_BYTES) and not self.is_paused:
            streams.pauses = True
            self._pause()

    def closing(self) -> None:
        """Note that our Close frame was sent: a slow reader of a stream must not delay the answer now."""
        streams = self._streams
        if streams is not None and not streams.is_closing:
            streams.is_closing = True
            streams.check(INBOX_BYTES)

    def finish(self, end: events.Disconnected) -> None:
        """Note the end of the connection: everything received so far is posted."""
        if self._streams is not None:
            self._streams.fail(WebSocketClosed(f"the stream is incomplete: {end}", event=end))
            self._streams.release(everything=True)

    def _prepare(self, received: list[events.Event]) -> None:
        """Have the codec decode messages when asked to, and list them in the history, as the options say."""
        events.use_codec(received, self._codec)
        if self._history.has_messages:
            self._history.received(received)

    def _react(self, controls: Sequence[events.Ping | events.Pong], now: float) -> None:
        owed = False
        for kind in (events.Ping, events.Pong):
            sizes = [len(event.data) for event in controls if isinstance(event, kind)]
            if sizes:
                self._history.frames("received", kind.name, len(sizes), sum(sizes))
                if kind is events.Ping and self._auto_pong:
                    self._history.frames("sent", "pong", len(sizes), sum(sizes))
        for event in controls:
            if isinstance(event, events.Pong):
                event.latency = self.keepalive.pong(event.data, now)
                self.answered(event.data)
            elif self._auto_pong:
                self._sending.pong(event.data)
                owed = True
        if owed:
            self._queue.flush()

    def answered(self, payload: bytes | None) -> None:
        """Confirm receipts after a pong, or (None) after the answer to our Close frame."""
        if confirmed := self._sending.answered(payload):
            self.settle([(receipt, ReceiptState.CONFIRMED) for receipt in confirmed])

    def settle(self, receipts: Sequence[tuple[Receipt, ReceiptState]]) -> None:
        """Set the final states of receipts, and have their callbacks called between two handlers."""
        calls = [call for receipt, state in receipts for call in receipt._settled(state)]
        if calls:
            self._inbox.post([], after=partial(run_calls, calls))

    def _pause(self) -> None:
        if self.is_paused:
            return
        self.is_paused, self._is_quick = True, False
        if self._streams is None or not self._streams.pauses:
            self._history.happened("paused")
        self.keepalive.pause()
        self.staleness.pause()
        self._inbox.call_when_low(INBOX_BYTES // 2, self._ends.touch)


def _last_message(received: Sequence[events.Event]) -> events.Event:
    """Return the last text or binary message; there is one."""
    return next(event for event in reversed(received) if not isinstance(event, (events.Ping, events.Pong)))


def _load() -> Callable[..., bool | Inbox | None] | None:
    module = load("small messages")
    if module is not None:
        module.configure_ready(ReceivingHalf, Inbox, Keepalive)
    return choose(module, "ready", None)


#: The compiled twin of `ReceivingHalf.on_ready`, which takes the half as well; None where it is not used.
ready = _load()
