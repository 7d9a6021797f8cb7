"""The exceptions that lochws raises, as one tree; the names and their places are Lomond's.

::

    WebSocketError
    ├── FrameBuildError              a frame is longer than RFC 6455 allows
    ├── HandshakeError               the server's answer to the upgrade is wrong: leads to the event Rejected
    │   └── CompressionParameterError
    ├── ProtocolError                the server broke a rule: leads to the event ProtocolError
    │   └── PayloadTooLarge
    ├── CriticalProtocolError        the server's data is damaged: leads to the event ProtocolError
    ├── ConnectFail                  opening failed: leads to the event ConnectFail
    ├── TransportFail                the network failed during a send
    ├── QueueFull                    the send queue has no room
    └── WebSocketUnavailable         there is no open connection to send on
        ├── WebSocketClosing         our Close frame has been sent
        └── WebSocketClosed          the connection has ended

Wrong arguments raise `TypeError` or `ValueError` when they are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .response import Response


class WebSocketError(Exception):
    """The base class of every exception that lochws raises.

    The message is formatted only if there are arguments to format it with, so that a message with braces
    in it stays as it is.
    """

    def __init__(self, msg: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(msg.format(*args, **kwargs) if args or kwargs else msg)

    def __reduce__(self) -> tuple[Any, ...]:
        # By its attributes, not by the arguments of __init__, which may take more than the message.
        return _again, (type(self), self.args), self.__dict__


class FrameBuildError(WebSocketError):
    """A frame cannot be built, because its payload would be 2**63 bytes or more (RFC 6455 section 5.2)."""


class HandshakeError(WebSocketError):
    """The server's answer to the upgrade request does not open a WebSocket (RFC 6455 section 4.1).

    Attributes:
        advice: one sentence, for people, on what would help; empty if the answer itself suggests it.
    """

    advice = ""

    def __init__(self, msg: str, *args: Any, advice: str = "", **kwargs: Any) -> None:
        super().__init__(msg, *args, **kwargs)
        if advice:
            self.advice = advice


class CompressionParameterError(HandshakeError):
    """The server agreed to permessage-deflate with parameters that are not allowed (RFC 7692 section 7.1)."""


class ProtocolError(WebSocketError):
    """The server broke a rule of RFC 6455 or RFC 7692.

    Attributes:
        close_code: the close code that it is told, 1002 by default.
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
        close_code: the close code that it is told, 1007 by default.
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
        address: the address on which it failed, as text, or None if there was none yet.
        advice: one sentence, for people, on what would help; empty if the cause itself suggests it.
        response: the answer of a proxy that did not open the tunnel, or None.
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
    """The message was not accepted, because the send queue has no room for it (see `max_queue`)."""


class WebSocketUnavailable(WebSocketError):
    """There is no open connection to send on; the message says why, and when to send."""


class WebSocketClosing(WebSocketUnavailable):
    """Our Close frame has been sent, and nothing may follow it (RFC 6455 section 5.5.1)."""


class WebSocketClosed(WebSocketUnavailable):
    """The connection has ended."""


def _again(kind: type[WebSocketError], args: tuple[Any, ...]) -> WebSocketError:
    return kind.__new__(kind, *args)
