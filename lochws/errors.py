"""Exceptions: the classes that lochws raises, as one tree with Lomond's names and hierarchy.

::

    WebSocketError
    ├── FrameBuildError              a frame is longer than RFC 6455 allows
    ├── HandshakeError               the response to the upgrade request is wrong: reported as event Rejected
    │   └── CompressionParameterError
    ├── ProtocolError                the server violated the protocol: reported as event ProtocolError
    │   └── PayloadTooLarge
    ├── CriticalProtocolError        the server's data is damaged: reported as event ProtocolError
    ├── ConnectFail                  connecting failed: reported as event ConnectFail
    ├── TransportFail                the network failed during a send
    ├── QueueFull                    the send queue has no room
    ├── ConnectionFailed             `lochws.connect` could not open a connection
    ├── WaitFailed                   a wait for an app failed, and was called with check=True
    └── WebSocketUnavailable         there is no open connection to send on
        ├── WebSocketClosing         our Close frame has been sent
        └── WebSocketClosed          the connection has ended

Invalid arguments raise `TypeError` or `ValueError` as soon as they are passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .events import ConnectFail as ConnectFailEvent
    from .events import Disconnected, Rejected
    from .response import Response


class WebSocketError(Exception):
    """The base class of every exception that lochws raises.

    The message is formatted only if format arguments are passed, so that a message that contains braces is
    left unchanged.
    """

    def __init__(self, msg: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(msg.format(*args, **kwargs) if args or kwargs else msg)

    def __reduce__(self) -> tuple[Any, ...]:
        # Copy the attributes instead of calling __init__, which may need more arguments than the message.
        return _again, (type(self), self.args), self.__dict__


class FrameBuildError(WebSocketError):
    """A frame cannot be built, because its payload would be 2**63 bytes or more (RFC 6455 section 5.2)."""


class HandshakeError(WebSocketError):
    """The server's response to the upgrade request does not open a WebSocket (RFC 6455 section 4.1).

    Attributes:
        advice: what would help, in one human-readable sentence; may be empty.
    """

    advice = ""

    def __init__(self, msg: str, *args: Any, advice: str = "", **kwargs: Any) -> None:
        super().__init__(msg, *args, **kwargs)
        if advice:
            self.advice = advice


class CompressionParameterError(HandshakeError):
    """The server agreed to permessage-deflate with parameters that are not allowed (RFC 7692 section 7.1)."""


class ProtocolError(WebSocketError):
    """The server violated RFC 6455 or RFC 7692.

    Attributes:
        close_code: the close code to send to the server, 1002 by default.
    """

    close_code = 1002

    def __init__(self, msg: str, *args: Any, close_code: int | None = None, **kwargs: Any) -> None:
        super().__init__(msg, *args, **kwargs)
        if close_code is not None:
            self.close_code = close_code


class PayloadTooLarge(ProtocolError):
    """A received message is larger than `max_message_size`, or a frame longer than RFC 6455 allows."""

    close_code = 1009


class CriticalProtocolError(WebSocketError):
    """The server sent damaged data: text that is not valid UTF-8, or data that cannot be decompressed.

    Attributes:
        close_code: the close code to send to the server, 1007 by default.
    """

    close_code = 1007

    def __init__(self, msg: str, *args: Any, close_code: int | None = None, **kwargs: Any) -> None:
        super().__init__(msg, *args, **kwargs)
        if close_code is not None:
            self.close_code = close_code


class ConnectFail(WebSocketError):
    """An attempt to connect failed before the WebSocket was open. The cause, if any, is chained.

    Attributes:
        phase: the step that failed: ``"resolve"``, ``"tcp"``, ``"proxy"``, ``"tls"`` or ``"upgrade"``;
            ``"prepare"`` if the request could not be made.
        address: the address on which the attempt failed, as text, or None if there was none yet.
        advice: what would help, in one human-readable sentence; may be empty.
        response: the response of a proxy that refused to open the tunnel, or None.
    """

    def __init__(
        self,
        msg: str,
        *,
        phase: str,
        address: str | None = None,
        advice: str = "",
        response: Response | None = None,
    ) -> None:
        super().__init__(msg)
        self.phase = phase
        self.address = address
        self.advice = advice
        self.response = response


class TransportFail(WebSocketError):
    """The network failed during a send. The message was not sent completely."""


class QueueFull(WebSocketError):
    """The message was not accepted: the send queue (at most `max_queue` bytes), or an outbox, has no room."""


class WaitFailed(WebSocketError):
    """A wait for an app failed: `wait_ready`, `wait_closed`, `join` or `stop`, called with ``check=True``.

    The message says why: what the app is doing instead, and how its last attempt or connection ended.

    Attributes:
        event: the final event of the last attempt or connection that has ended since the start, ConnectFail
            or Disconnected; None if none has.
        timed_out: True if the time was up; False if the app stopped, so that waiting longer is of no use.
    """

    def __init__(
        self, msg: str, *, event: ConnectFailEvent | Disconnected | None = None, timed_out: bool = True
    ) -> None:
        super().__init__(msg)
        self.event = event
        self.timed_out = timed_out


class ConnectionFailed(WebSocketError):
    """`lochws.connect` could not open a connection. The cause, if any, is chained.

    Attributes:
        event: the event that says what happened: ConnectFail if there was no connection, Rejected if the
            server did not upgrade to WebSocket (it has the `response`), else Disconnected.
        phase: the step that failed: ``"prepare"``, ``"resolve"``, ``"tcp"``, ``"proxy"``, ``"tls"`` or
            ``"upgrade"``.
        reason: why it failed, in one human-readable sentence.
        advice: what would help, in one human-readable sentence; may be empty.
    """

    def __init__(self, msg: str, *, event: ConnectFailEvent | Rejected | Disconnected) -> None:
        super().__init__(msg)
        self.event = event
        self.phase: str = event.phase
        self.reason = event.reason
        self.advice = event.advice


class WebSocketUnavailable(WebSocketError):
    """A message cannot be sent, because no connection is open; the error says why, and when to send."""


class WebSocketClosing(WebSocketUnavailable):
    """Our Close frame has been sent, and nothing may follow it (RFC 6455 section 5.5.1)."""


class WebSocketClosed(WebSocketUnavailable):
    """The connection has ended.

    Attributes:
        event: the final event of the last connection or attempt, if the error was raised by a wait for
            messages (`lochws.mailbox.Mailbox.get`, `lochws.connect`); otherwise None.
    """

    def __init__(self, msg: str, *, event: ConnectFailEvent | Disconnected | None = None) -> None:
        super().__init__(msg)
        self.event = event


def _again(kind: type[WebSocketError], args: tuple[Any, ...]) -> WebSocketError:
    return kind.__new__(kind, *args)
