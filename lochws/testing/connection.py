"""One client's connection as seen by the scripted server: received data, and answers."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from time import monotonic
from typing import TypeAlias

try:
    import wsproto.events as ws
    from wsproto.connection import Connection as Frames
    from wsproto.connection import ConnectionState, ConnectionType
    from wsproto.extensions import Extension
except ImportError as error:
    raise ImportError("lochws.testing needs h11 and wsproto: pip install 'lochws[testing]'") from error

from ..clock import SYSTEM, Clock, Rest
from .describe import counted, what_was_sent
from .link import ClientLeftError, Link, LinkEndedError, StoppedError
from .request import NotHTTPError, Request, RequestReader

logger = logging.getLogger("lochws.testing")

#: An element of a script: any callable that takes the connection.
Step: TypeAlias = "Callable[[ServerConnection], object]"

#: Limits without a history, in bytes or characters: the largest message, above which the connection ends; the
#: data waiting to be received, above which reading pauses; and the data waiting to be sent, above which the
#: client is dropped.
MAX_MESSAGE = 64 * 1024 * 1024
MAX_INBOX = 1000
MAX_OUTBOX = 16 * 1024 * 1024
#: Without a history: seconds that a client has to answer the Close frame of a server that is shutting down.
GOODBYE = 1.0

#: The answer to bytes that are not an HTTP request.
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class ScriptError(AssertionError):
    """The client did not do what a server's script waits for."""


class ServerConnection:
    """A connection of a scripted server. Steps act on it; tests look at what it has received.

    Any thread may read the attributes at any time; the lists only grow (but see `ScriptedServer`, *history*).

    Args:
        link: the byte stream of the connection.
        steps: the steps of the script, in order.
        number: how many connections were accepted before this one.
        changed: notified whenever an attribute has changed.
        patience: seconds that a step may wait for the client.
        scale: the factor for seconds in scripts.
        clock: the clock for those seconds.
        history: whether to keep everything that arrives.

    Attributes:
        number: how many connections of the server were accepted before this one.
        requests: the requests received, usually one.
        messages: the messages received, ``str`` for text and ``bytes`` for binary.
        pings: the payloads of the pings received.
        pongs: the payloads of the pongs received.
        close_frame: the code and reason of the client's Close frame, or None; code 1005 if it had no code.
        bytes_received: the number of bytes received, after decryption.
        remaining: the steps that have not been done yet.
        failure: the exception that a step raised, or None.
        is_over: whether the connection and its script have ended.
    """

    def __init__(
        self, link: Link, steps: Sequence[Step], number: int, changed: threading.Condition,
        *, patience: float, scale: float, clock: Clock = SYSTEM, history: bool = True,
    ) -> None:
        self.number = number
        self.requests: list[Request] = []
        self.messages: list[str | bytes] = []
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.close_frame: tuple[int, str] | None = None
        self.bytes_received = 0
        self.remaining: list[Step] = list(steps)
        self.failure: BaseException | None = None
        self.is_over = False
        # Set by steps, on the connection's thread.
        #: The byte stream of the connection.
        self.link = link
        #: Whether the server reads from the client.
        self.is_reading = True
        #: Whether only steps send: pings and Close frames are not answered.
        self.is_muted = False
        #: Whether every message is sent back.
        self.is_echoing = False
        #: Whether the client's Close frame is answered.
        self.answers_close = True
        #: Seconds after which a ping is answered, or None for never.
        self.pong_delay: float | None = 0.0
        self.patience = patience
        self.scale = scale
        self._clock = clock
        self._history = history
        self._until: float | None = None  # by the clock: when the wait in progress ends
        self._changed = changed
        self._thread: int | None = None
        self._orders: deque[tuple[Step, Future[None]]] = deque()  # guarded by _changed
        self._outbox: deque[str | bytes] = deque()  # messages from other threads; guarded by _changed
        self._outbox_size = 0  # in bytes or characters; guarded by _changed
        self._is_dropped = False
        self._http = RequestReader()
        self._answered = 0  # the number of requests answered
        self._passed = 0  # the number of messages that the script has received or skipped
        self._frames: Frames | None = None
        self._parts: list[str | bytes] = []  # of a message that is incomplete
        self._parts_size = 0
        self._late: deque[tuple[float, bytes]] = deque()  # the times at which pongs are due, and the pongs

    def __repr__(self) -> str:
        return f"<ServerConnection {self.number}, {counted(len(self.messages), 'message')} received>"

    # Called on any thread.

    @property
    def request(self) -> Request:
        """The first request. Raises IndexError if none has arrived."""
        return self.requests[0]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the attributes holds.

        Raises:
            TimeoutError: the condition did not hold within the server's patience.
        """
        with self._changed:
            if not self._changed.wait_for(condition, self.patience):
                raise TimeoutError(f"the condition did not hold within {self.patience:g} s; {self!r}")

    def wait_over(self) -> None:
        """Wait until the connection has ended. Raise TimeoutError if the server's patience runs out first."""
        self.wait_until(lambda: self.is_over)

    def do(self, step: Step) -> None:
        """Do one more step, after those of the script. Blocks until it is done.

        Raises:
            ScriptError: the step failed, or the connection has ended.
            TimeoutError: the script did not finish within the server's patience.
        """
        done: Future[None] = Future()
        with self._changed:
            if self.is_over:
                raise ScriptError(f"{step!r}: the connection has ended")
            self._orders.append((step, done))
            self.link.wake()
        try:
            done.result(self.patience)
        except FutureTimeoutError:
            if done.cancel():
                raise TimeoutError(f"{step!r} was not started within {self.patience:g} s") from None
            done.result()  # the step has started, and limits its own wait

    def send(self, message: str | bytes) -> bool:
        """Send a text or, given ``bytes``, a binary message. Blocks only on the connection's own thread.

        A client for which more than `MAX_OUTBOX` bytes are waiting is dropped.

        Returns:
            False if the connection has ended.
        """
        if threading.get_ident() == self._thread:
            self.send_event(_message_event(message))
            return True
        with self._changed:
            if self.is_over or self._is_dropped:
                return False
            self._outbox.append(message)
            self._outbox_size += len(message)
            if self._outbox_size > MAX_OUTBOX:
                self._is_dropped = True
                self.link.stop()
            else:
                self.link.wake()
        return True

    def drop(self) -> None:
        """End the connection without a Close frame. May be called from any thread."""
        self._is_dropped = True
        self.stop()

    def wake(self) -> None:
        """Make the script check its clock, which has been advanced."""
        with self._changed:
            if not self.is_over:
                self.link.wake()

    def rest(self) -> Rest | None:
        """Return how the script is waiting (or that it has ended); None while it is busy."""
        until = self._until
        if self.is_over:
            return Rest(self.link.waits, None)
        waits = self.link.rest()
        return None if waits is None or self._orders or self._outbox else Rest(waits, until)

    def stop(self) -> None:
        """End the script wherever it is."""
        with self._changed:
            if not self.is_over:
                self.link.stop()

    # The connection's thread.

    def run(self) -> None:
        """Do the steps, then serve the client until it leaves."""
        self._thread = threading.get_ident()
        try:
            while self.remaining:
                self.remaining[0](self)
                with self._changed:
                    del self.remaining[0]
                    self._changed.notify_all()
            self.stay()
        except (ClientLeftError, LinkEndedError, StoppedError) as end:
            if self.remaining and (
                isinstance(end, LinkEndedError) or getattr(self.remaining[0], "ends", False)
            ):
                del self.remaining[0]  # it counts as done, for instance a `send` that was cut as planned
            if isinstance(end, StoppedError) and not self._is_dropped:
                close = ws.CloseConnection(1001, "the server is shutting down")
                self._say_goodbye(close if self._is_open else None)
        except Exception as error:  # noqa: BLE001  the server raises or logs it
            self.failure = error
            self._say_goodbye(ws.CloseConnection(1011) if self._is_open else None)
        finally:
            with self._changed:
                self.is_over = True
                self.link.close()
                for step, done in self._orders:
                    if done.set_running_or_notify_cancel():
                        done.set_exception(ScriptError(f"{step!r}: the connection has ended"))
                self._changed.notify_all()

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """Return the next message; None if it does not arrive in time. Answers pings and Close meanwhile.

        Args:
            timeout: seconds to wait, by the script's clock; None for no limit.

        Raises:
            ClientLeftError: the connection has ended. A function in a script need not catch it.
        """
        found: list[str | bytes] = []

        def take(message: str | bytes) -> bool:
            found.append(message)
            return True

        self.stay(lambda: self.skip_until(take), timeout)
        return found[0] if found else None

    def __iter__(self) -> Iterator[str | bytes]:
        """Yield the messages as they arrive, until the connection ends."""
        with suppress(ClientLeftError, StoppedError):
            while (message := self.receive()) is not None:
                yield message

    def stay(
        self, until: Callable[[], bool] = lambda: False, seconds: float | None = None,
        patience: float | None = None,
    ) -> bool:
        """Serve the client until a condition holds: read, answer pings and Close, run steps passed to `do`.

        Args:
            until: the condition.
            seconds: how long to wait for it, by the script's clock; None for no limit.
            patience: how long to wait for it, by the machine's clock; None for no limit.

        Returns:
            True once the condition holds, False if the time ran out.
        """
        end = None if seconds is None else self._clock.monotonic() + seconds
        limit = None if patience is None else monotonic() + patience
        while not until():
            now = self._clock.monotonic()
            left = None if limit is None else limit - monotonic()
            if (end is not None and now >= end) or (left is not None and left <= 0):
                return False
            self._send_late_pongs(now)
            self._empty_outbox()
            if not self.remaining:
                self._obey()
            times = [time for time in (end, self._late[0][0] if self._late else None) if time is not None]
            self._until = min(times, default=None)
            if self._until is not None and self._clock.passes:
                wait = max(0.0, self._until - now)
                left = wait if left is None else min(left, wait)
            is_full = not self._history and self._is_open and len(self.messages) >= MAX_INBOX
            if self.link.wait(read=self.is_reading and not is_full, timeout=left):
                data = self.link.receive()
                if data:  # empty if only part of a TLS record has arrived
                    self._take(data)
        return True

    def expect(self, until: Callable[[], bool], what: str) -> None:
        """Serve the client until a condition holds. Raise ScriptError if the server's patience runs out."""
        if not self.stay(until, patience=self.patience):
            raise ScriptError(f"no {what} within {self.patience:g} s; {what_was_sent(self)}")

    def await_request(self) -> Request:
        """Return the request that has not been answered yet, waiting for it if necessary."""
        self.expect(lambda: len(self.requests) > self._answered, "request")
        return self.requests[self._answered]

    def answered(self, extensions: list[Extension] | None) -> None:
        """Continue after answering a request: with frames and these extensions or, if None, with HTTP."""
        if self._history:
            self._answered += 1
        if extensions is None:
            if not self._history:
                self.requests.clear()
            self._take_request(self._http.restart)
        else:
            self._answered = len(self.requests)
            self._frames = Frames(ConnectionType.SERVER, extensions, self._http.trailing)
            self._take_frames(self._frames)

    def skip_until(self, is_it: Callable[[str | bytes], bool]) -> bool:
        """Skip messages up to and including the first that matches. Return whether one did."""
        found = False
        while not found and self._passed < len(self.messages):
            self._passed += 1
            found = is_it(self.messages[self._passed - 1])
        if not self._history:
            del self.messages[:self._passed]
            self._passed = 0
        return found

    def send_event(self, event: ws.Event) -> None:
        """Send a wsproto event. Raise ScriptError before the upgrade."""
        if self._frames is None:
            raise ScriptError(f"{event!r} cannot be sent before the upgrade")
        if self.close_frame is not None and not isinstance(event, ws.CloseConnection):
            raise ClientLeftError("the client has sent its Close frame")
        if self._is_dropped:
            raise StoppedError
        self.link.send(self._frames.send(event))

    def _say_goodbye(self, close: ws.CloseConnection | None) -> None:
        """End the connection politely if no history is kept: send `close` and FIN, and await the client."""
        if not self._history:
            with suppress(ClientLeftError, StoppedError, LinkEndedError, TimeoutError, OSError):
                if close is not None:
                    self.send_event(close)
                self.link.finish()
                self.link.drain(GOODBYE)

    def _obey(self) -> None:
        """Do the steps that other threads have requested."""
        while True:
            with self._changed:
                if not self._orders:
                    return
                step, done = self._orders.popleft()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                step(self)
            except LinkEndedError:
                done.set_result(None)
                raise
            except (ClientLeftError, StoppedError) as error:
                if isinstance(error, ClientLeftError) and getattr(step, "ends", False):
                    done.set_result(None)
                else:
                    done.set_exception(ScriptError(f"{step!r}: the connection has ended"))
                raise
            except Exception as error:  # noqa: BLE001  passed to the requesting thread; the connection continues
                done.set_exception(error)
            else:
                done.set_result(None)

    def _empty_outbox(self) -> None:
        """Send the messages that other threads have queued."""
        while self._outbox and self._frames is not None:
            with self._changed:
                message = self._outbox.popleft()
                self._outbox_size -= len(message)
            self.send_event(_message_event(message))

    def _send_late_pongs(self, now: float) -> None:
        while self._late and self._late[0][0] <= now:
            _, payload = self._late.popleft()
            if not self.is_muted and self._is_open:
                self.send_event(ws.Pong(payload))

    @property
    def state(self) -> ConnectionState | None:
        """The wsproto state of the WebSocket; None before the upgrade."""
        return None if self._frames is None else self._frames.state

    @property
    def _is_open(self) -> bool:
        return self.state is ConnectionState.OPEN

    def _take(self, data: bytes) -> None:
        with self._changed:
            self.bytes_received += len(data)
        if self._frames is None:
            self._take_request(lambda: self._http.receive(data))
        elif self._frames.state in {ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING}:
            self._frames.receive_data(data)
            self._take_frames(self._frames)
        with self._changed:
            self._changed.notify_all()

    def _take_request(self, read: Callable[[], Request | None]) -> None:
        try:
            request = read()
        except NotHTTPError as error:
            self.link.send(_BAD_REQUEST)
            raise ScriptError(f"the client did not send an HTTP request: {error}") from error
        if request is not None:
            self.requests.append(request)

    def _take_frames(self, frames: Frames) -> None:
        for event in frames.events():
            if isinstance(event, (ws.TextMessage, ws.BytesMessage)):
                self._take_message(event)
            elif isinstance(event, ws.Ping):
                if self._history:
                    self.pings.append(bytes(event.payload))
                if self.pong_delay is not None and not self.is_muted:
                    now = self._clock.monotonic()
                    self._late.append((now + self.pong_delay, bytes(event.payload)))
                    self._send_late_pongs(now)
            elif isinstance(event, ws.Pong):
                if self._history:
                    self.pongs.append(bytes(event.payload))
            elif isinstance(event, ws.CloseConnection):
                self._take_close(event, frames)

    def _take_message(self, event: ws.TextMessage | ws.BytesMessage) -> None:
        self._parts.append(event.data if isinstance(event, ws.TextMessage) else bytes(event.data))
        self._parts_size += len(event.data)
        if not self._history and self._parts_size > MAX_MESSAGE:
            self.send_event(ws.CloseConnection(1009, "message too large"))
            raise ScriptError(f"the client sent a message of more than {MAX_MESSAGE:,} bytes")
        if not event.message_finished:
            return
        message = ("" if isinstance(event, ws.TextMessage) else b"").join(self._parts)  # type: ignore[arg-type]
        self._parts.clear()
        self._parts_size = 0
        if self._history or (self._is_open and not self.is_echoing):
            self.messages.append(message)
        if self.is_echoing and self._is_open:
            self.send_event(_message_event(message))

    def _take_close(self, event: ws.CloseConnection, frames: Frames) -> None:
        if frames.state in {ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING}:
            self.send_event(event)  # wsproto has put the right code in it
            raise ScriptError(f"the client broke the protocol: {event.reason}")
        with self._changed:
            self.close_frame = (int(event.code), event.reason or "")
            self._changed.notify_all()
        if frames.state is ConnectionState.REMOTE_CLOSING and self.answers_close and not self.is_muted:
            self.send_event(event.response())
            self.link.finish()  # the server ends TCP (RFC 6455 section 7.1.1)


def _message_event(message: str | bytes) -> ws.Event:
    return ws.TextMessage(message) if isinstance(message, str) else ws.BytesMessage(message)
