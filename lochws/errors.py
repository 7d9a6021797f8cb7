"""What lochws raises, as one tree; the names and their places are Lomond's.

::

    WebSocketError
    ├── FrameBuildError              a frame that RFC 6455 cannot express
    ├── HandshakeError               the server's answer to the upgrade is wrong: becomes Rejected
    │   └── CompressionParameterError
    ├── ProtocolError                the peer broke a rule: becomes the event ProtocolError
    │   └── PayloadTooLarge
    ├── CriticalProtocolError        likewise, and the data itself cannot be trusted
    ├── ConnectFail                  opening failed: becomes the event ConnectFail
    ├── TransportFail                the network failed
    ├── QueueFull                    the send queue is at its bound
    └── WebSocketUnavailable         there is no connection to send on
        ├── WebSocketClosing         our Close frame was sent
        └── WebSocketClosed          the connection has ended

Wrong arguments raise `TypeError` or `ValueError` at the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .response import Response


class WebSocketError(Exception):
    """The base of every error that lochws raises.

    The text is formatted only if there are arguments to format it with, so that foreign text
    with braces in it stays as it is.
    """

    def __init__(self, msg: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(msg.format(*args, **kwargs) if args or kwargs else msg)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled as it is, and not by what was given to __init__, which may take more than the text.
        return _again, (type(self), self.args), self.__dict__


class FrameBuildError(WebSocketError):
    """A frame cannot be built: its payload would be 2**63 bytes or more (RFC 6455 section 5.2)."""


class HandshakeError(WebSocketError):
    """The answer to the upgrade request does not open a WebSocket (RFC 6455 section 4.1)."""


class CompressionParameterError(HandshakeError):
    """The server agreed to permessage-deflate with parameters it may not use (RFC 7692 section 7.1)."""


class ProtocolError(WebSocketError):
    """The peer broke a rule of RFC 6455 or RFC 7692.

    Attributes:
        close_code: the code that our Close frame gives as the reason, 1002 unless said otherwise.
    """

    close_code = 1002

    def __init__(self, msg: str, *args: Any, close_code: int | None = None, **kwargs: Any) -> None:
        super().__init__(msg, *args, **kwargs)
        if close_code is not None:
            self.close_code = close_code


class PayloadTooLarge(ProtocolError):
    """A message is larger than `max_message_size`, or a frame longer than a frame can be."""

    close_code = 1009


class CriticalProtocolError(WebSocketError):
    """What the peer sent is damaged: text that is no UTF-8, or data that does not inflate.

    Attributes:
        close_code: the code that our Close frame gives as the reason, 1007 unless said otherwise.
    """

    close_code = 1007

    def __init__(self, msg: str, *args: Any, close_code: int | None = None, **kwargs: Any) -> None:
        super().__init__(msg, *args, **kwargs)
        if close_code is not None:
            self.close_code = close_code


class ConnectFail(WebSocketError):
    """Opening failed before there was a WebSocket. The cause, if any, is chained.

    Attributes:
        phase: the step that failed: ``"resolve"``, ``"tcp"``, ``"proxy"``, ``"tls"`` or ``"upgrade"``,
            or ``"prepare"`` if what should be sent could not be made up.
        address: the address it failed on, as text, or None if there was none yet.
        advice: one sentence on what would help, for people; empty if the event is to find one.
        response: what a proxy answered instead of opening the tunnel, or None.
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
    """The network failed while a message was handed to it. The message was not sent whole."""


class QueueFull(WebSocketError):
    """The send queue holds `max_queue` bytes, and the message was not accepted."""


class WebSocketUnavailable(WebSocketError):
    """There is no open connection to send on; the text says which state it is in."""


class WebSocketClosing(WebSocketUnavailable):
    """Our Close frame was sent, and nothing may follow it (RFC 6455 section 5.5.1)."""


class WebSocketClosed(WebSocketUnavailable):
    """The connection has ended."""


def _again(kind: type[WebSocketError], args: tuple[Any, ...]) -> WebSocketError:
    return kind.__new__(kind, *args)
