"""One client's connection as the scripted server has it: what came, what is answered, what was said."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeAlias

try:
    import h11
    import wsproto.events as ws
    from wsproto.connection import Connection as Frames
    from wsproto.connection import ConnectionState, ConnectionType
    from wsproto.extensions import Extension
except ImportError as error:
    raise ImportError("lochws.testing needs wsproto: pip install 'lochws[testing]'") from error

from ..clock import SYSTEM, Clock, Rest
from .link import ClientLeftError, Link, LinkEndedError, StoppedError

#: What a script is made of: anything that can be called with the connection.
Step: TypeAlias = "Callable[[ServerConnection], object]"


class ScriptError(AssertionError):
    """The client did not do what the script of a server waits for."""


@dataclass(frozen=True)
class Request:
    """The head of an HTTP request.

    Attributes:
        method: such as ``GET``.
        target: the path, with its query.
        headers: by lower-case name; of several with one name the values are joined by commas.
    """

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)


class ServerConnection:
    """A connection of a scripted server. Steps act on it; tests look at what it has received.

    The attributes may be read by any thread at any time; lists only grow.

    Args:
        link: the bytes.
        steps: what to do, in order.
        number: how many connections came before it.
        changed: notified whenever an attribute has changed.
        patience: seconds that a step may wait for the client.
        scale: what seconds in scripts are multiplied by.
        clock: what those seconds go by.

    Attributes:
        number: how many connections of the server came before it.
        requests: the requests that came, usually one.
        messages: the messages that came, ``str`` for text and ``bytes`` for binary.
        pings: the payloads of the pings that came.
        pongs: the payloads of the pongs that came.
        close_frame: code and reason of the client's Close frame, or None; code 1005 if it had none.
        bytes_received: bytes that came, after decryption.
        remaining: the steps that have not been done (yet).
        failure: what a step raised, or None.
        is_over: whether the connection has ended and its script with it.
    """

    def __init__(
        self, link: Link, steps: Sequence[Step], number: int, changed: threading.Condition,
        *, patience: float, scale: float, clock: Clock = SYSTEM,
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
        # What steps set, on the connection's thread.
        #: What bytes go through.
        self.link = link
        #: Whether the client is read at all.
        self.is_reading = True
        #: Whether nothing is said that the script does not say: no pong, no answer to Close.
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
        self._until: float | None = None  # by the clock, when the wait under way is over
        self._changed = changed
        self._orders: deque[tuple[Step, Future[None]]] = deque()  # guarded by _changed
        self._http = h11.Connection(h11.SERVER)
        self._answered = 0  # requests
        self._passed = 0  # messages that the script has waited for, or passed over
        self._frames: Frames | None = None
        self._text: list[str] = []  # of a message that has not come whole
        self._data = bytearray()  # likewise
        self._late: deque[tuple[float, bytes]] = deque()  # pongs, and when they are due

    def __repr__(self) -> str:
        return f"<ServerConnection {self.number}, {len(self.messages)} messages received>"

    # Any thread.

    @property
    def request(self) -> Request:
        """The first request. IndexError if none has come."""
        return self.requests[0]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that depends on the attributes.

        Raises:
            TimeoutError: it did not come to be within the server's patience.
        """
        with self._changed:
            if not self._changed.wait_for(condition, self.patience):
                raise TimeoutError(f"waited {self.patience:g} s in vain; {self!r}")

    def wait_over(self) -> None:
        """Wait until the connection has ended. Raises TimeoutError as `wait_until` does."""
        self.wait_until(lambda: self.is_over)

    def do(self, step: Step) -> None:
        """Do one more step, behind those of the script. Blocks until it is done.

        Raises:
            ScriptError: it failed, or the connection had ended.
            TimeoutError: the script did not come to its end within the server's patience.
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
                raise TimeoutError(f"waited {self.patience:g} s in vain for the turn of {step!r}") from None
            done.result()  # it has begun, and knows how long to wait

    def wake(self) -> None:
        """Have the script look at its clock, which was moved on."""
        with self._changed:
            if not self.is_over:
                self.link.wake()

    def rest(self) -> Rest | None:
        """How the script waits, or is over; None while it does anything else."""
        until = self._until
        if self.is_over:
            return Rest(self.link.waits, None)
        waits = self.link.rest()
        return None if waits is None or self._orders else Rest(waits, until)

    def stop(self) -> None:
        """Make the script end where it is."""
        with self._changed:
            if not self.is_over:
                self.link.stop()

    # The connection's thread.

    def run(self) -> None:
        """Do the steps, then stay until the client leaves."""
        try:
            while self.remaining:
                self.remaining[0](self)
                with self._changed:
                    del self.remaining[0]
                    self._changed.notify_all()
            self.stay()
        except (ClientLeftError, LinkEndedError, StoppedError):
            self._skip_if_own_end()
        except Exception as error:  # noqa: BLE001  the test gets it
            self.failure = error
        finally:
            with self._changed:
                self.is_over = True
                self.link.close()
                for step, done in self._orders:
                    if done.set_running_or_notify_cancel():
                        done.set_exception(ScriptError(f"{step!r}: the connection has ended"))
                self._changed.notify_all()

    def stay(
        self, until: Callable[[], bool] = lambda: False, seconds: float | None = None,
        patience: float | None = None,
    ) -> bool:
        """Be a good peer: read, answer pings and Close, do what `do` orders, until something holds.

        Returns:
            Whether it holds; False when so many seconds have passed before by the script's clock, or
            so many by the machine's (patience).
        """
        end = None if seconds is None else self._clock.monotonic() + seconds
        limit = None if patience is None else monotonic() + patience
        while not until():
            now = self._clock.monotonic()
            left = None if limit is None else limit - monotonic()
            if (end is not None and now >= end) or (left is not None and left <= 0):
                return False
            self._send_late_pongs(now)
            if not self.remaining:
                self._obey()
            times = [time for time in (end, self._late[0][0] if self._late else None) if time is not None]
            self._until = min(times, default=None)
            if self._until is not None and self._clock.passes:
                wait = max(0.0, self._until - now)
                left = wait if left is None else min(left, wait)
            if self.link.wait(read=self.is_reading, timeout=left):
                data = self.link.receive()
                if data:  # of TLS, perhaps no more than a part of a record was there
                    self._take(data)
        return True

    def expect(self, until: Callable[[], bool], what: str) -> None:
        """As `stay`, but for no longer than the patience lasts; `what` says what is waited for."""
        if not self.stay(until, patience=self.patience):
            raise ScriptError(f"waited {self.patience:g} s in vain for {what}; {self!r}")

    def await_request(self) -> Request:
        """Wait for a request that was not answered, unless it is there."""
        self.expect(lambda: len(self.requests) > self._answered, "a request")
        return self.requests[self._answered]

    def answered(self, extensions: list[Extension] | None) -> None:
        """The request was answered: with an upgrade to frames with these extensions, or (None) without."""
        self._answered += 1
        trailing, _ = self._http.trailing_data
        if extensions is None:
            self._http = h11.Connection(h11.SERVER)
            if trailing:
                self._take_request(trailing)
        else:
            self._frames = Frames(ConnectionType.SERVER, extensions, trailing)
            self._take_frames(self._frames)

    def pass_over(self, is_it: Callable[[str | bytes], bool]) -> bool:
        """Pass over messages up to the one that is it. Returns whether it was among them."""
        while self._passed < len(self.messages):
            self._passed += 1
            if is_it(self.messages[self._passed - 1]):
                return True
        return False

    def send_event(self, event: ws.Event) -> None:
        """Send what wsproto makes of an event. ScriptError if it makes nothing of it now."""
        if self._frames is None:
            raise ScriptError(f"{event!r} cannot be sent before the upgrade")
        if self.close_frame is not None and not isinstance(event, ws.CloseConnection):
            raise ClientLeftError("it has sent its Close frame")
        self.link.send(self._frames.send(event))

    def _skip_if_own_end(self) -> None:
        # The step that ended the connection was done.
        if self.remaining and getattr(self.remaining[0], "ends", False):
            del self.remaining[0]

    def _obey(self) -> None:
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
            except Exception as error:  # noqa: BLE001  who gave the order gets it; the connection goes on
                done.set_exception(error)
            else:
                done.set_result(None)

    def _owe_pong(self, payload: bytes) -> None:
        if self.pong_delay is not None and not self.is_muted:
            self._late.append((self._clock.monotonic() + self.pong_delay, payload))
            if not self.pong_delay:
                self._send_late_pongs(self._late[-1][0])

    def _send_late_pongs(self, now: float) -> None:
        while self._late and self._late[0][0] <= now:
            _, payload = self._late.popleft()
            if not self.is_muted and self._is_open:
                self.send_event(ws.Pong(payload))

    @property
    def _is_open(self) -> bool:
        return self._frames is not None and self._frames.state is ConnectionState.OPEN

    def _take(self, data: bytes) -> None:
        with self._changed:
            self.bytes_received += len(data)
        if self._frames is None:
            self._take_request(data)
        elif self._frames.state in {ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING}:
            self._frames.receive_data(data)
            self._take_frames(self._frames)
        with self._changed:
            self._changed.notify_all()

    def _take_request(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise ScriptError(f"the client sent no HTTP request: {error}") from error
        if isinstance(event, h11.Request):
            headers: dict[str, str] = {}
            for raw_name, raw_value in event.headers:
                name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            self.requests.append(Request(event.method.decode(), event.target.decode("latin-1"), headers))
            self._http.next_event()  # the end of it: what follows is kept as trailing data

    def _take_frames(self, frames: Frames) -> None:
        for event in frames.events():
            if isinstance(event, (ws.TextMessage, ws.BytesMessage)):
                self._take_message(event)
            elif isinstance(event, ws.Ping):
                self.pings.append(bytes(event.payload))
                self._owe_pong(bytes(event.payload))
            elif isinstance(event, ws.Pong):
                self.pongs.append(bytes(event.payload))
            elif isinstance(event, ws.CloseConnection):
                self._take_close(event, frames)

    def _take_message(self, event: ws.TextMessage | ws.BytesMessage) -> None:
        whole: ws.TextMessage | ws.BytesMessage
        if isinstance(event, ws.TextMessage):
            self._text.append(event.data)
            whole = ws.TextMessage("".join(self._text))
        else:
            self._data += event.data
            whole = ws.BytesMessage(bytes(self._data))
        if event.message_finished:
            self._text.clear()
            self._data.clear()
            self.messages.append(whole.data if isinstance(whole, ws.TextMessage) else bytes(whole.data))
            if self.is_echoing and self._is_open:
                self.send_event(whole)

    def _take_close(self, event: ws.CloseConnection, frames: Frames) -> None:
        if frames.state in {ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING}:
            raise ScriptError(f"the client broke the protocol: {event.reason}")
        with self._changed:
            self.close_frame = (int(event.code), event.reason or "")
            self._changed.notify_all()
        if frames.state is ConnectionState.REMOTE_CLOSING and self.answers_close and not self.is_muted:
            self.send_event(event.response())
            self.link.finish()  # the server ends TCP (RFC 6455 section 7.1.1)
