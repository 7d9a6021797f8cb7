"""Connection: one open WebSocket, which joins the two halves of the protocol to one stream.

A connection is a channel of a loop. The thread that holds the loop's baton receives, and adds events to the
inbox; any thread may send, through the queue. The closing handshake consists of two facts: our Close frame,
which belongs to the sending half and is guarded by the queue's lock, and the server's Close frame, which
belongs to the receiving half and so to the baton holder. `ClosingHandshake` decides what follows from them.

A received message goes from the loop to `ReceivingHalf`, through `Receiver` into the inbox, and to its
handler. A sent message goes through `SendingHalf` into `SendQueue`, and to the kernel immediately or as soon
as it has room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE
from types import MethodType
from typing import Protocol

from .. import events
from ..base.records import values_of
from ..counters import Counters
from ..engine.inbox import Inbox
from ..engine.loop import Channel, Loop
from ..errors import CriticalProtocolError, ProtocolError
from ..opening.advice import advice_for_close
from ..opening.dial import Opened
from ..options import Options, Timing
from ..protocol.close import NETWORK, ClosingHandshake, Outcome
from ..protocol.keepalive import earliest
from ..sent import Tap
from ..system.control import interrupts
from ..system.report import safe_str
from ..transport.waiting import loss
from .history import Counts, History, Taps
from .incoming import IncomingStream
from .past import Past
from .poll_timer import PollTimer
from .proofs import Doubts
from .receiving import ReceivingHalf, ready
from .sending import SendingHalf
from .trace import Trace
from .window import SlidingWindow


class Listener(Protocol):
    """The interface between a connection and its creator, a `Lifecycle` or an `Iteration`."""

    def connection_ended(self, connection: Connection, event: events.Disconnected) -> None:
        """Note that the connection has ended and that `event` is about to be posted. Baton holder."""

    def ready_handled(self) -> None:
        """Note that the handlers of Ready have run. On the handlers' thread."""

    def end_handled(self) -> None:
        """Note that the handlers of Disconnected have run. On the handlers' thread."""

    def may_block(self) -> bool:
        """Return whether the calling thread may wait for room in the queue."""

    def has_handler_for(self, kind: type[events.Event]) -> bool:
        """Return whether any handler would get such an event. Any thread; a touch follows if one is added."""

    def turn_for_handler(self, until: Callable[[], bool], limit: float | None) -> bool:
        """Turn the loop once for a handler that waits; return False if that is not the calling thread's job.

        Args:
            until: called right before the loop waits; if it returns True, there is no wait.
            limit: seconds to wait at most, or None for no limit.
        """

    def stream_handled(self, stream: IncomingStream) -> None:
        """Note that the handlers of a Stream have run. On the handlers' thread."""


class Connection:
    """One open WebSocket. Comments in the class say which thread may call which methods.

    Args:
        opened: the result of the dialler.
        options: the WebSocket's options.
        timing: the intervals and limits of keepalive, Poll and closing.
        listener: receives the connection's notifications.
        loop: the loop that will drive the connection; the caller adds the connection to it.
        ask_flush: requests a flush of the connection's queue; None to ask the loop.
        inbox: receives the events.
        past: the earlier attempts and connections, for Ready.
        gather: whether messages sent in quick succession may share a system call.
        trace: records steps, or None.
        taps: functions that receive what is about to be sent; the sequence may change at any time.
        window: the budget already partly used by an earlier connection, or None.

    Attributes:
        tls: the parameters that TLS negotiated with the server, or None without TLS.
    """

    def __init__(
        self, opened: Opened, options: Options, timing: Timing, *,
        listener: Listener, loop: Loop, inbox: Inbox, past: Past,
        ask_flush: Callable[[Channel, Callable[[], object] | None], object] | None = None,
        gather: bool = True, trace: Trace | None = None, taps: Sequence[Tap] = (),
        window: SlidingWindow | None = None,
    ) -> None:
        self._opened: Opened | None = opened  # until Ready has been posted
        self._timing = timing
        self._listener = listener
        self.loop = loop
        self._inbox = inbox
        self._trace = trace
        self._stream = opened.stream
        self.tls = opened.tls
        agreed, offered = opened.agreement.deflate, options.deflate
        self._deflates = agreed is not None
        self._refusal: ProtocolError | None = None
        if offered is not None and offered.required and agreed is None:
            self._refusal = ProtocolError("the server did not agree to permessage-deflate", close_code=1010)
        self._history = History(options.history, self, loop.clock.wall)
        if options.history:
            taps = Taps(taps, self._history.sent)
        self.sending = SendingHalf(
            opened.stream, options, agreed,
            ask_flush=partial(ask_flush or loop.ask_flush, self), may_block=listener.may_block,
            gather=gather, trace=trace, clock=loop.clock, taps=taps, window=window,
        )
        self._abort: str | None = None  # the reason passed to `drop`; any thread writes it

        # Everything below belongs to the baton holder.
        self._receiving = ReceivingHalf(
            opened.stream, options, timing, agreed, inbox=inbox, sending=self.sending, ends=self,
            handlers=listener, history=self._history, trace=trace,
        )
        self._keepalive = self._receiving.keepalive
        self._staleness = self._receiving.staleness
        #: Called by the loop, directly on the receiving half: every message takes this path.
        self.on_ready: Callable[..., bool | Inbox | None] = (
            self._receiving.on_ready if ready is None else MethodType(ready, self._receiving)
        )
        self._polls = PollTimer(timing.poll or 0)
        self._closing = ClosingHandshake(timing.close_timeout or 0)
        self._failure: ProtocolError | CriticalProtocolError | None = None
        self._ping_was_held = False  # by the budget, when last checked: the wait for its answer begins later
        self._finished = False
        self._past = past
        self._ready_at: float | None = None
        self.is_counted = False  # written by `Traffic`

    def __repr__(self) -> str:
        return f"<Connection to {self._stream.address}>"

    # Any thread.

    @property
    def is_closing(self) -> bool:
        """True if our Close frame was sent, after which nothing else can be sent."""
        return self.sending.close_sent is not None

    @property
    def supports_compression(self) -> bool:
        """True if permessage-deflate was negotiated."""
        return self._deflates

    @property
    def latency(self) -> float | None:
        """Seconds between the last answered ping and its pong, or None."""
        return self._keepalive.latency

    @property
    def counts(self) -> Counts:
        """The messages and bytes of this connection so far, for its history."""
        pump, queue = self._receiving.pump, self.sending.queue
        return pump.messages, pump.bytes, queue.messages_sent, queue.bytes_sent

    @property
    def counters(self) -> Counters:
        """The messages and bytes of this connection so far."""
        pump, queue = self._receiving.pump, self.sending.queue
        return Counters(
            connections=1,
            messages_received=pump.messages, messages_sent=queue.messages_sent,
            messages_dropped=queue.dropped,
            bytes_received=pump.bytes, bytes_sent=queue.bytes_sent,
        )

    def close(self, code: int | None, reason: str | bytes) -> None:
        """Begin the closing handshake, unless it has begun. Never blocks. Code and reason are valid."""
        self.sending.request_close(code, reason)
        self.loop.touch(self)

    def drop(self, reason: str, code: int = 1001) -> None:
        """Send our Close frame if that is possible immediately, and end the connection without waiting."""
        self._abort = reason  # set first, so that it is the reported reason however fast the server answers
        self.sending.request_close(code, reason, overtakes=True)
        if not interrupts():  # it must not wait for the stream's lock; then it is left to the loop
            self._stream.shutdown()
        self.loop.touch(self)

    # The baton holder: the loop's channel.

    def fileno(self) -> int:
        """Return the stream's descriptor."""
        return self._stream.fileno()

    @property
    def is_finished(self) -> bool:
        """True if Disconnected was posted."""
        return self._finished

    def release(self) -> None:
        """Close the stream."""
        self._stream.close()

    def interest(self) -> int:
        """Return what to wait for: reading unless the inbox is full, writing while the kernel is."""
        stream, mask = self._stream, 0
        if not (self._receiving.is_paused or self._receiving.at_eof):
            # A stream that has to write first cannot read, however much there is.
            mask = EVENT_WRITE if stream.reads_want_write else EVENT_READ
        if self.sending.queue.is_blocked and not stream.writes_want_read:
            mask |= EVENT_WRITE
        return mask

    def on_start(self, now: float) -> bool:
        """Post Ready, send the first ping, and take what arrived together with the handshake."""
        if self._refusal is not None:
            self._fail(self._refusal, now)
            return False
        assert self._opened is not None
        opened, self._opened = self._opened, None
        agreement = opened.agreement
        extensions = {"permessage-deflate"} if self._deflates else set()
        if self._trace:
            self._trace("handshake_ready", protocol=agreement.protocol, extensions=sorted(extensions))
        ready = events.Ready(
            opened.response, agreement.protocol, extensions,
            address=self._stream.address or None, timings=opened.timings,
            **values_of(self._past.opened(now)),
        )
        self._ready_at = now
        self._history.happened("ready")
        self._inbox.post([ready], after=self._listener.ready_handled)
        self._keepalive.start(now)
        self._staleness.start(now)
        if self._polls.start(now):
            self._inbox.post([events.Poll()])
        self._ping(now)
        if opened.rest:
            self._receiving.take(opened.rest, now)
        # Users may have acted before the loop. No selector reports bytes that TLS has already decrypted.
        return self.on_touch(now) or self._stream.pending()

    def on_touch(self, now: float) -> bool:
        """Do the work that other threads left to the loop."""
        self._receiving.note_pings()
        if self._listener.has_handler_for(events.Poll):
            self._polls.go_on(now)
        self.sending.send_owed_close()
        self.sending.queue.flush()
        if self.is_closing:
            self._drop_if_asked()
            self._closing.sent(now, taken=self.sending.queue.is_close_taken)
            self._receiving.closing()
        elif self.sending.queue.failure is not None:
            self._drop_if_asked()  # there is no closing handshake to wait for
        self._finish_if_over()
        # If sending failed, data that the server sent earlier may still be readable.
        return self._receiving.resume_if_low(now) or self.sending.queue.failure is not None

    def on_timer(self, now: float) -> None:
        """Act on the deadlines of closing, keepalive, staleness and Poll that have passed."""
        queue = self.sending.queue
        self.sending.send_owed_close()
        if self._closing.must_overtake(now):
            queue.overtake()
        if queue.pacing is not None:
            if self._ping_was_held:
                self._ping_was_held = False
                self._keepalive.postpone(now)
            queue.flush()
        if self.is_closing:
            self._closing.sent(now, taken=queue.is_close_taken)
        if self._closing.time_passed(now):
            self._say_why()
        elif not self._closing.is_begun:
            if self._keepalive.timed_out(now) and not self._receiving.is_still_sending(now):
                self._history.happened("unresponsive")
                self._inbox.post([events.Unresponsive()])
                # The server may be gone, but one that is merely slow learns why the connection ended.
                self.sending.close(1011, "ping timeout", overtakes=True)
                queue.flush()
                self._closing.lost(f"ping timeout: nothing from the server for {self._timing.ping_limit:g} s")
            else:
                self._ping(now)
                self._check_silence(now)
        self._finish_if_over()
        if not self._finished and self._polls.is_due(now):
            if not self._listener.has_handler_for(events.Poll):
                self._polls.rest()
            elif not self._inbox.has_backlog:
                self._inbox.post([events.Poll()])

    def on_suspension(self, now: float) -> None:
        """Ping immediately, to find out whether the server is still there."""
        self._history.happened("suspended")
        self._keepalive.probe(now)
        if not self._receiving.is_paused:
            self._staleness.restart(now)
        self.on_timer(now)

    def next_timer(self) -> float | None:
        """Return the earliest of these deadlines, or None."""
        closing = self._closing
        when = earliest(earliest(self._polls.deadline, closing.deadline), closing.overtakes_at)
        if not closing.is_begun:
            when = earliest(when, earliest(self._keepalive.next_deadline(), self._staleness.deadline))
        if (pacing := self.sending.queue.pacing) is not None:
            self._ping_was_held = self._ping_was_held or pacing.holds_ping
            when = earliest(when, pacing.wake_at())
        return when

    def on_error(self, error: BaseException) -> None:
        """End the connection after a defect in lochws, which has been logged."""
        self._end(Outcome(f"error; {safe_str(error)}", NETWORK, error=error))

    # Calls from the receiving half. Baton holder only, unless stated otherwise.

    def touch(self) -> None:
        """Have the loop call `on_touch` soon. Any thread."""
        self.loop.touch(self)

    def flush_blocked(self, now: float) -> None:
        """Flush the queue now that the kernel may have room again."""
        queue = self.sending.queue
        sent = queue.bytes_sent
        queue.flush()
        if queue.bytes_sent > sent:
            # The server has acknowledged data. On a slow network, no ping might get through in time.
            self._keepalive.received(now)
            if self.is_closing:
                self._closing.sent(now, taken=queue.is_close_taken)

    def server_is_done(self, now: float) -> None:
        """Handle the server's Close frame or its protocol violation."""
        failure = self._receiving.receiver.failure
        if failure is not None:
            self._fail(failure, now)
        else:
            self._on_close_frame(now)

    def stream_ended(self, error: OSError | None) -> None:
        """Note that the stream has ended, by itself or with an error."""
        self._drop_if_asked()
        if error is None:
            self._closing.eof()
        else:
            self._closing.lost(loss(error), error)

    def after_reading(self, more: bool) -> None:
        """End the connection if this turn found that it is over."""
        failure = self.sending.queue.failure
        if failure is not None and not more:
            self._drop_if_asked()
            self._closing.lost(loss(failure), failure)
        self._finish_if_over()

    # Pings and silence. The baton holder.

    def _ping(self, now: float) -> None:
        self._receiving.note_pings()
        was_waiting = self._keepalive.waiting_since is not None
        payload = self._keepalive.ping_due(now)
        if payload is not None:
            self.sending.ping(payload)
            self._history.frames("sent", "ping", size=len(payload))
            if not was_waiting:
                self._receiving.wait_begins()

    def _check_silence(self, now: float) -> None:
        """Post Stale if the server has sent no message for too long; drop the connection if so configured."""
        seconds = self._staleness.silence(self._receiving.heard, now)
        if seconds is not None:
            self._history.happened("stale")
            self._inbox.post([events.Stale(seconds, self._receiving.pump.last_message_at)])
            if self._timing.on_stale == "reconnect":
                self.drop(f"stale: no message from the server for {self._timing.stale_after:g} s")

    # Closing. Baton holder only, unless stated otherwise.

    def _drop_if_asked(self) -> None:
        # Checked before any other end is recorded: drop() shuts the stream, which looks like a lost one.
        if self._abort is not None:
            self._closing.dropped(self._abort)

    def _on_close_frame(self, now: float) -> None:
        frame, queue = self._receiving.receiver.close_received, self.sending.queue
        assert frame is not None
        self._history.frames("received", "close", size=frame.size, code=frame.code)
        if self._trace:
            self._trace("message_close", code=frame.code, reason=frame.reason)
        if self.is_closing:
            queue.overtake()  # the server takes no more messages, and waits for our Close frame
            self._closing.sent(now, taken=queue.is_close_taken)
            if frame.reason and frame == self.sending.close_sent:
                # It has read ours, and everything before. Without a reason of ours in it, this may be a Close
                # frame that the server sent by itself at the same time.
                self._receiving.answered(None)
            self._receiving.post([events.Closed(frame.code, frame.reason)])
        else:
            self._receiving.post([events.Closing(frame.code, frame.reason)], after=self._answer_close)
        self._closing.received(now)

    def _answer_close(self) -> None:
        """Echo the server's Close frame (RFC 6455 section 5.5.1). Handlers' thread, after Closing."""
        frame = self._receiving.receiver.close_received
        assert frame is not None
        self.sending.close(frame.code, frame.reason, overtakes=True)
        self.loop.touch(self)

    def _fail(self, error: ProtocolError | CriticalProtocolError, now: float) -> None:
        """Post ProtocolError behind earlier events; after its handlers, our Close frame gives the reason."""
        self._failure = error
        self._history.happened("protocol error")
        self._closing.failed(error, now)
        critical = isinstance(error, CriticalProtocolError)
        self._receiving.post([events.ProtocolError(str(error), critical)], after=self._say_why)

    def _say_why(self) -> None:
        """Send a Close frame with the failure's code and text. Handlers' thread or baton holder."""
        assert self._failure is not None
        self.sending.close(self._failure.close_code, str(self._failure), overtakes=True)
        self.loop.touch(self)

    def _finish_if_over(self) -> None:
        if self._closing.outcome is not None:
            self._end(self._closing.outcome)

    def _end(self, outcome: Outcome) -> None:
        if self._finished:
            return
        self._finished = True
        queue = self.sending.queue
        is_paced = queue.pacing is not None
        outcome = outcome.checked(is_taken=queue.is_close_taken if is_paced else not queue.is_blocked)
        sent, received = self.sending.close_sent, self._receiving.receiver.close_received
        now, opened_for = self.loop.clock.monotonic(), None
        if self._ready_at is not None:
            opened_for = now - self._ready_at
            self._past.ended(now, self._receiving.pump.last_message_at)
        unsent = queue.finish(self._stream.uncounted)
        doubts = queue.doubts or Doubts((), 0, [])
        if sent is not None:
            self._history.frames("sent", "close", size=sent.size, code=sent.code)
        if self._abort is not None:
            self._history.happened("dropped")
        event = events.Disconnected(
            outcome.reason,
            outcome.graceful,
            ended_by=outcome.ended_by,
            sent_code=sent.code if sent is not None else None,
            received_code=received.code if received is not None else None,
            received_reason=received.reason if received is not None else "",
            error=outcome.error,
            unsent=unsent,
            in_doubt=doubts.messages,
            in_doubt_omitted=doubts.omitted,
            opened_for=opened_for,
            counters=self.counters,
            history=self._history.taken(),
            advice=advice_for_close(
                received.reason, queue.messages_sent, opened_for, has_rate=is_paced
            ) if received is not None else "",
        )
        if self._trace:
            self._trace("disconnected", reason=outcome.reason, graceful=outcome.graceful)
        self._receiving.finish(event)
        self._receiving.settle(doubts.receipts)
        self._listener.connection_ended(self, event)
        self._inbox.post([event], after=self._listener.end_handled)
