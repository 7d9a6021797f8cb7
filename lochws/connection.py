"""One open WebSocket: the protocol's two halves joined to one stream.

A connection is a channel of a loop. What it receives is moved by whoever holds the loop's baton and
lines up in the inbox; what it sends goes through its queue, from any thread. The closing handshake is
two facts, each owned by its direction: our Close frame (the sender's, under the queue's lock) and the
server's (the receiver's, the baton holder's).

A message received: `on_ready` → `Receiver.receive` → (pong at once) → inbox → handler.
A message sent: `send_…` → `Sender` (deflate, mask) → `SendQueue` → the kernel, now or when writable.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from selectors import EVENT_READ, EVENT_WRITE
from time import monotonic
from typing import Protocol

from . import events
from .dial import Opened
from .errors import CriticalProtocolError, ProtocolError, TransportFail, WebSocketClosed, WebSocketClosing
from .loop import Inbox, Loop
from .options import Options, Timing
from .protocol.deflate import Deflater, Inflater
from .protocol.keepalive import Keepalive
from .protocol.receiver import Receiver
from .protocol.sender import Sender
from .sendqueue import SendQueue
from .trace import Trace

logger = logging.getLogger("lochws")

#: Receive calls in one turn, before the loop looks after its other connections.
READS_PER_TURN = 4
#: A receive call that gave less than this found the kernel's (or the TLS record's) end.
SHORT_READ = 16 * 1024
#: Bytes of events that may wait for a handler; beyond it nothing is read until they were handled.
INBOX_BYTES = 16 * 1024 * 1024
#: What an event is taken to cost besides its payload.
EVENT_BYTES = 100
#: Once all is said, the server gets this many seconds to end the connection before we do.
LINGER_SECONDS = 1.0
#: How long `close` waits for the queue's lock, which its own thread may hold under a signal handler.
LOCK_PATIENCE = 0.1


class Owner(Protocol):
    """What a connection tells whoever made it."""

    def connection_ended(self, connection: Connection, event: events.Disconnected) -> None:
        """The connection is over and `event` is about to be posted. Baton holder."""

    def ready_handled(self) -> None:
        """The handlers of Ready have run. On the handlers' thread."""

    def end_handled(self) -> None:
        """The handlers of Disconnected have run. On the handlers' thread."""

    def ask_flush(self, connection: Connection) -> None:
        """Messages wait to be flushed. Any thread, without locks."""

    def may_block(self) -> bool:
        """Whether the calling thread may wait for room in the queue."""


@dataclass(frozen=True)
class _Ending:
    """How the connection will have ended, once the server drops it or the time is up."""

    reason: str
    ended_by: str
    graceful: bool = False
    error: BaseException | None = None


class Connection:
    """One open WebSocket. See the module for who may do what.

    Args:
        opened: what the dialler brought.
        options: the WebSocket's options.
        timing: how the connection is kept and ended.
        owner: who is told.
        loop: where the connection will live; the caller adds it.
        inbox: where events go.
        gather: whether messages that follow closely may leave together.
        trace: records steps, or None.
    """

    def __init__(
        self,
        opened: Opened,
        options: Options,
        timing: Timing,
        *,
        owner: Owner,
        loop: Loop,
        inbox: Inbox,
        gather: bool = True,
        trace: Trace | None = None,
    ) -> None:
        self._opened = opened
        self._timing = timing
        self._owner = owner
        self.loop = loop
        self._inbox = inbox
        self._trace = trace
        self._stream = opened.stream
        agreed, offered = opened.agreement.deflate, options.deflate
        self._deflates = agreed is not None
        self._refusal = None
        if offered is not None and offered.required and agreed is None:
            self._refusal = ProtocolError("the server did not agree to permessage-deflate", close_code=1010)

        # The sending half: the sender under the queue's lock.
        self._sender = Sender(
            Deflater(agreed, offered) if agreed is not None and offered is not None else None,
            offered.threshold if offered is not None else 0,
        )
        self.queue = SendQueue(
            opened.stream,
            limit=options.max_queue,
            when_full=options.when_full,
            send_timeout=options.send_timeout,
            ask_loop=lambda: owner.ask_flush(self),
            may_block=owner.may_block,
            gather=gather,
        )
        self._pings_sent: deque[tuple[bytes, float]] = deque()  # any thread appends, baton holder takes
        self._close_wanted: tuple[int | None, str | bytes] | None = None  # any thread writes, once
        self._abort: str | None = None  # likewise

        # The receiving half: the baton holder's.
        self._receiver = Receiver(options.max_message_size, Inflater(agreed) if agreed is not None else None)
        self._keepalive = Keepalive(timing.ping_rate or 0, timing.ping_limit)
        self._poll_at: float | None = None
        self._close_deadline: float | None = None
        self._linger_until: float | None = None
        self._ending: _Ending | None = None
        self._server_closed_first = False
        self._at_eof = False
        self._paused = False
        self._finished = False
        # Counted by the baton holder, read by anyone.
        self.messages_received = 0
        self.bytes_received = 0

    def __repr__(self) -> str:
        return f"<Connection to {self._stream.address}>"

    # Any thread.

    @property
    def is_closing(self) -> bool:
        """Whether our Close frame was sent: nothing else can be sent any more."""
        return self._sender.close_sent is not None

    @property
    def supports_compression(self) -> bool:
        """Whether permessage-deflate was agreed on."""
        return self._deflates

    @property
    def latency(self) -> float | None:
        """Seconds between the last answered ping and its pong, or None."""
        return self._keepalive.latency

    def send_text(self, text: str, compress: bool) -> bool:
        """Send a text message; see `SendQueue.push`. The caller has checked the type."""
        data = text.encode()
        if self._trace:
            self._trace("send_text", length=len(data), compressed=compress)
        return self.queue.push(text, len(data), self._sender.text, data, compress)

    def send_binary(self, data: bytes, compress: bool) -> bool:
        """Send a binary message; see `SendQueue.push`."""
        if self._trace:
            self._trace("send_binary", length=len(data), compressed=compress)
        return self.queue.push(data, len(data), self._sender.binary, data, compress)

    def send_ping(self, data: bytes) -> None:
        """Send a ping; see `SendQueue.push`."""
        if self._trace:
            self._trace("send_ping", length=len(data))
        self._pings_sent.append((data, monotonic()))
        self.queue.push(None, len(data), self._sender.ping, data)

    def send_pong(self, data: bytes) -> None:
        """Send a pong that nothing asked for (RFC 6455 section 5.5.3); see `SendQueue.push`."""
        if self._trace:
            self._trace("send_pong", length=len(data))
        self.queue.push(None, len(data), self._sender.pong, data)

    def close(self, code: int | None, reason: str | bytes) -> None:
        """Send our Close frame, unless it was sent or the connection is over. Never blocks.

        Code and reason have been checked. Also called from signal handlers: if the queue's lock
        cannot be had, since the interrupted code holds it, the loop sends the frame.
        """
        if self._trace:
            self._trace("close_requested", code=code, reason=reason)
        try:
            if not self.queue.push_control(self._sender.close, code, reason, patience=LOCK_PATIENCE):
                self._close_wanted = (code, reason)
        except (WebSocketClosing, WebSocketClosed, TransportFail):
            return  # closed before, or lost: the loop knows
        self.loop.touch(self)

    def drop(self, reason: str, code: int = 1001) -> None:
        """Send our Close frame if that is possible at once, and end the connection without waiting."""
        self.close(code, reason)
        self._abort = reason
        self._stream.shutdown()
        self.loop.touch(self)

    # The baton holder: the loop's channel.

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def is_finished(self) -> bool:
        return self._finished

    def release(self) -> None:
        self._stream.close()

    def interest(self) -> int:
        mask = 0 if self._paused or self._at_eof else EVENT_READ
        if self._stream.reads_want_write or (self.queue.wants_write and not self._stream.writes_want_read):
            mask |= EVENT_WRITE
        return mask

    def on_start(self, now: float) -> bool:
        if self._refusal is not None:
            self._fail(self._refusal, now)
            return False
        agreement = self._opened.agreement
        extensions = {"permessage-deflate"} if self._deflates else set()
        if self._trace:
            self._trace("handshake_ready", protocol=agreement.protocol, extensions=sorted(extensions))
        ready = events.Ready(self._opened.response, agreement.protocol, extensions)
        self._inbox.post([ready], after=self._owner.ready_handled)
        self._keepalive.start(now)
        if self._timing.poll:
            self._inbox.post([events.Poll()])
            self._poll_at = now + self._timing.poll
        self._ping(now)
        if self._opened.rest:
            self._take(self._opened.rest, now)
        # Users may have been here before the loop. What TLS has decrypted already no selector announces.
        return self.on_touch(now) or self._stream.pending()

    def on_touch(self, now: float) -> bool:
        if self._abort is not None:
            self._end(_Ending(self._abort, "client"))
            return False
        if self._close_wanted is not None:
            (code, reason), self._close_wanted = self._close_wanted, None
            self._send_close(code, reason)
        self.queue.flush()
        self._watch_closing(now)
        if self._paused and self._inbox.backlog <= INBOX_BYTES // 2:
            self._paused = False
            self._keepalive.resume(now)
            return True
        # If sending failed, what the server said before may still be there to be read.
        return self.queue.failure is not None

    def on_ready(self, mask: int, buffer: memoryview, now: float) -> bool:
        if self.queue.wants_write and (mask & EVENT_WRITE or self._stream.writes_want_read):
            self.queue.flush()
        more = False
        if not (self._paused or self._at_eof):
            more = self._receive(buffer, now)
        failure = self.queue.failure
        if failure is not None and not more:
            self._lost(f"socket fail; send fail; {failure}", failure)
        return more and not self._finished

    def on_timer(self, now: float) -> None:
        if self._linger_until is not None:
            if now >= self._linger_until and self._ending is not None:
                self._end(self._ending)
            return
        if self._close_deadline is not None:
            if now >= self._close_deadline:
                limit = self._timing.close_timeout
                self._end(_Ending(
                    f"disconnected; server didn't respond to close packet within {limit:g}s", "network"
                ))
                return
        elif self._keepalive.timed_out(now):
            self._inbox.post([events.Unresponsive()])
            limit = self._timing.ping_limit
            self._end(_Ending(f"disconnected; exceeded {limit:g}s ping timeout", "network"))
            return
        else:
            self._ping(now)
        if self._poll_at is not None and self._timing.poll and now >= self._poll_at:
            self._poll_at = max(self._poll_at + self._timing.poll, now)
            if not self._inbox.has_backlog:
                self._inbox.post([events.Poll()])

    def next_timer(self) -> float | None:
        if self._linger_until is not None:
            return self._linger_until
        keepalive = self._keepalive.next_deadline() if self._close_deadline is None else None
        times = [time for time in (self._poll_at, self._close_deadline, keepalive) if time is not None]
        return min(times, default=None)

    def on_error(self, error: Exception) -> None:
        self._end(_Ending(f"error; {error}", "client", error=error))

    # Receiving. The baton holder.

    def _receive(self, buffer: memoryview, now: float) -> bool:
        """Read a bounded amount. Returns whether there may be more."""
        for _ in range(READS_PER_TURN):
            try:
                count = self._stream.receive_into(buffer)
            except OSError as error:
                self._lost(f"socket fail; recv fail; {error}", error)
                return False
            if count is None:
                return False
            if count == 0:
                self._on_eof()
                return False
            self._keepalive.received(now)
            self.bytes_received += count
            if self._trace:
                self._trace("socket_recv", length=count)
            if not self._receiver.done:
                self._take(buffer[:count], now)
                if self._finished or self._paused:
                    return False
            if count < SHORT_READ and not self._stream.pending():
                return False
        return True

    def _take(self, data: bytes | memoryview, now: float) -> None:
        received = self._receiver.receive(data)
        controls = self._receiver.controls
        if controls:
            self._react(controls, now)
        if received:
            self.messages_received += len(received) - len(controls)
            if self._trace:
                self._trace_messages(received)
            self._inbox.post(received, self._cost(received, len(data)))
        if self._receiver.failure is not None:
            self._fail(self._receiver.failure, now)
        elif self._receiver.close_received is not None:
            self._on_close_frame(now)
        elif self._inbox.backlog > INBOX_BYTES:
            self._pause()

    def _cost(self, received: Sequence[events.Event], size: int) -> int:
        if self._deflates:
            size = sum(
                len(event.text) if isinstance(event, events.Text) else len(event.data)
                for event in received
                if isinstance(event, (events.Text, events.Binary))
            )
        return size + EVENT_BYTES * len(received)

    def _react(self, controls: Sequence[events.Ping | events.Pong], now: float) -> None:
        while self._pings_sent:
            self._keepalive.sent(*self._pings_sent.popleft())
        for event in controls:
            if isinstance(event, events.Pong):
                event.latency = self._keepalive.pong(event.data, now)
            elif self._timing.auto_pong and not self.is_closing:
                try:
                    self.queue.put_pong(self._sender.pong, event.data)
                except WebSocketClosing:
                    continue  # our Close frame was faster, and nothing may follow it
        self.queue.flush()

    def _pause(self) -> None:
        """Read no more until the handlers have caught up: TCP then holds the server back."""
        self._paused = True
        self._keepalive.pause()
        self._inbox.post([], after=lambda: self.loop.touch(self))

    def _ping(self, now: float) -> None:
        while self._pings_sent:
            self._keepalive.sent(*self._pings_sent.popleft())
        payload = self._keepalive.ping_due(now)
        # While the kernel takes nothing a ping would only wait; it counts as unanswered all the same.
        if payload is None or self.queue.wants_write:
            return
        try:
            self.queue.push_control(self._sender.ping, payload)
        except (WebSocketClosing, WebSocketClosed, TransportFail):
            return  # the loop will find out why

    # Closing. The baton holder, unless said otherwise.

    def _send_close(self, code: int | None, reason: str | bytes) -> None:
        """Send our Close frame, unless it was sent or cannot be. Any thread."""
        try:
            self.queue.push_control(self._sender.close, code, reason)
        except (WebSocketClosing, WebSocketClosed, TransportFail):
            return

    def _on_close_frame(self, now: float) -> None:
        frame = self._receiver.close_received
        assert frame is not None
        if self._trace:
            self._trace("message_close", code=frame.code, reason=frame.reason)
        if self.is_closing:
            self._inbox.post([events.Closed(frame.code, frame.reason)])
            # RFC 6455 section 7.1.1: the server ends the connection first, if it does so soon.
            self._linger(_Ending("closed", "client", graceful=True), now)
        else:
            self._server_closed_first = True
            self._inbox.post([events.Closing(frame.code, frame.reason)], after=self._answer_close)

    def _answer_close(self) -> None:
        """Echo the server's Close frame (RFC 6455 section 5.5.1). On the handlers' thread, after Closing."""
        frame = self._receiver.close_received
        assert frame is not None
        self._send_close(frame.code, frame.reason)
        self.loop.touch(self)

    def _watch_closing(self, now: float) -> None:
        """Bound what is left of the connection once our Close frame is out."""
        if not self.is_closing or self._linger_until is not None:
            return
        if self._at_eof:
            self._end(self._complete())
        elif self._close_deadline is None and self._timing.close_timeout:
            self._close_deadline = now + self._timing.close_timeout

    def _complete(self) -> _Ending:
        return _Ending("closed", "server" if self._server_closed_first else "client", graceful=True)

    def _fail(self, error: ProtocolError | CriticalProtocolError, now: float) -> None:
        """The server broke a rule: say so to both sides and give it a moment to read our Close frame."""
        self._inbox.post([events.ProtocolError(str(error), isinstance(error, CriticalProtocolError))])
        self._send_close(error.close_code, str(error))
        self._linger(_Ending(f"disconnected; {error}", "server", error=error), now)

    def _linger(self, ending: _Ending, now: float) -> None:
        self._ending = ending
        self._linger_until = now + min(LINGER_SECONDS, self._timing.close_timeout or LINGER_SECONDS)

    def _on_eof(self) -> None:
        if self._abort is not None:
            self._end(_Ending(self._abort, "client"))
        elif self._ending is not None:
            self._end(self._ending)
        elif self._receiver.close_received is None:
            reason = "the server ended the connection without a Close frame"
            self._lost(reason if self.is_closing else "socket fail; connection lost", None)
        elif self.is_closing:
            self._end(self._complete())
        else:
            # The server did not wait for our answer, which goes out once Closing was handled.
            self._at_eof = True

    def _lost(self, reason: str, error: OSError | None) -> None:
        """The network ended the connection. After both Close frames that is how it should end."""
        if self._abort is not None:
            self._end(_Ending(self._abort, "client"))
        elif self._ending is not None:
            self._end(self._ending)
        elif self.is_closing and self._receiver.close_received is not None:
            self._end(self._complete())
        else:
            self._end(_Ending(reason, "network", error=error))

    def _end(self, ending: _Ending) -> None:
        if self._finished:
            return
        self._finished = True
        sent, received = self._sender.close_sent, self._receiver.close_received
        event = events.Disconnected(
            ending.reason,
            ending.graceful,
            ended_by=ending.ended_by,
            sent_code=sent.code if sent is not None else None,
            received_code=received.code if received is not None else None,
            error=ending.error,
            unsent=self.queue.finish(),
        )
        if self._trace:
            self._trace("disconnected", reason=ending.reason, graceful=ending.graceful)
        self._owner.connection_ended(self, event)
        self._inbox.post([event], after=self._owner.end_handled)

    def _trace_messages(self, received: Sequence[events.Event]) -> None:
        assert self._trace is not None
        for event in received:
            if isinstance(event, events.Text):
                self._trace("message_text", length=len(event.text))
            elif isinstance(event, (events.Binary, events.Ping, events.Pong)):
                self._trace(f"message_{event.name}", length=len(event.data))
