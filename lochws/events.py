"""What happens on a WebSocket, one small object each, with Lomond's names and attributes.

Handlers and loops tell events apart by class or by `name`. New events may come with new versions:
code should ignore names that it does not know.

Events carry no behaviour and lochws keeps no reference to one after it was handled.
"""

from __future__ import annotations

import json
from time import time
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .response import Response

__all__ = [
    "BackOff", "Binary", "Closed", "Closing", "ConnectFail", "Connected", "Connecting", "Disconnected",
    "Event", "Ping", "Poll", "Pong", "ProtocolError", "Ready", "Rejected", "Text", "Unresponsive",
    "UnknownMessage",
]


class Event:
    """The base of all events.

    Attributes:
        name: what the event is called in handlers: a method ``on_<name>`` gets it.
        received_time: when the event was made, in seconds of the wall clock (`time.time`).
    """

    __slots__ = ("received_time",)
    name: ClassVar[str]

    def __init__(self) -> None:
        self.received_time: float = time()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Connecting(Event):
    """An attempt to connect begins, or goes on where the server has redirected it.

    Attributes:
        url: where to, without credentials.
    """

    __slots__ = ("url",)
    name = "connecting"

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url: str = url

    def __repr__(self) -> str:
        return f"Connecting(url={self.url!r})"


class _Outcome(Event):
    """What an attempt to connect came to; `ConnectFail` says what the attributes are."""

    __slots__ = ("address", "advice", "error", "phase", "reason", "timings")

    def __init__(
        self, reason: str, *, phase: str = "tcp", address: str | None = None,
        error: BaseException | None = None, advice: str = "", timings: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.reason: str = reason
        self.phase: str = phase
        self.address: str | None = address
        self.error: BaseException | None = error
        self.advice: str = advice
        self.timings: dict[str, float] = dict(timings or {})


class ConnectFail(_Outcome):
    """The attempt failed before there was a connection. It is over: no further event belongs to it.

    Attributes:
        reason: one sentence for people.
        phase: the step that failed: ``"prepare"``, ``"resolve"``, ``"tcp"``, ``"proxy"``, ``"tls"``
            or ``"upgrade"`` (the request could not be written).
        address: the address it failed on, or None.
        error: the exception behind it, with its causes chained, or None.
        advice: one sentence on what would help; empty if there is nothing to say.
        timings: seconds by phase, for those that were entered.
        response: what a proxy answered instead of opening the tunnel, or None.
    """

    __slots__ = ("response",)
    name = "connect_fail"

    def __init__(self, reason: str, *, response: Response | None = None, **about: Any) -> None:
        super().__init__(reason, **about)
        self.response: Response | None = response

    def __repr__(self) -> str:
        return f"ConnectFail(reason={self.reason!r})"


class Connected(Event):
    """The network connection stands and the upgrade request was written.

    Attributes:
        url: where to, without credentials.
        proxy: the proxy's URL without credentials, or None.
    """

    __slots__ = ("proxy", "url")
    name = "connected"

    def __init__(self, url: str, proxy: str | None = None) -> None:
        super().__init__()
        self.url: str = url
        self.proxy: str | None = proxy

    def __repr__(self) -> str:
        proxy = "" if self.proxy is None else f", proxy={self.proxy!r}"
        return f"Connected(url={self.url!r}{proxy})"


class Rejected(_Outcome):
    """The server did not upgrade to a WebSocket. Disconnected follows.

    Attributes:
        response: what the server answered, with the beginning of its body.
        reason: what is wrong with it.
        phase, address, error, advice, timings: as of `ConnectFail`; the phase is ``"upgrade"``.
    """

    __slots__ = ("response",)
    name = "rejected"

    def __init__(self, response: Response, reason: str, *, phase: str = "upgrade", **about: Any) -> None:
        super().__init__(reason, phase=phase, **about)
        self.response: Response = response

    def __repr__(self) -> str:
        return f"Rejected({self.response!r}, {self.reason!r})"


class Ready(Event):
    """The WebSocket is open: messages may be sent from now on.

    Attributes:
        response: the server's answer to the upgrade.
        protocol: the subprotocol the server chose, or None.
        extensions: the names of the extensions in use; ``permessage-deflate`` is the only one.
        address: of the server, or of the proxy that leads there, as ``ip:port``; a path for a Unix socket.
        timings: seconds by phase of the opening, as of `ConnectFail`.
    """

    __slots__ = ("address", "extensions", "protocol", "response", "timings")
    name = "ready"

    def __init__(
        self, response: Response, protocol: str | None, extensions: set[str], *,
        address: str | None = None, timings: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.response: Response = response
        self.protocol: str | None = protocol
        self.extensions: set[str] = extensions
        self.address: str | None = address
        self.timings: dict[str, float] = dict(timings or {})

    def __repr__(self) -> str:
        return f"Ready({self.response!r}, protocol={self.protocol!r}, extensions={self.extensions!r})"


class Poll(Event):
    """Time to do what is to be done regularly: once after Ready, then every `poll` seconds."""

    __slots__ = ()
    name = "poll"


class Text(Event):
    """A text message.

    Attributes:
        text: the message.
    """

    __slots__ = ("_json", "text")
    name = "text"

    # One of the two events made for every message: it does without super().__init__().
    def __init__(self, text: str) -> None:
        self.received_time: float = time()
        self.text: str = text

    @property
    def json(self) -> Any:
        """The message parsed as JSON, once.

        Raises:
            ValueError: the text is no JSON (`json.JSONDecodeError`), or nested too deep for Python here.
        """
        if not hasattr(self, "_json"):
            try:
                self._json: Any = json.loads(self.text)
            except RecursionError:  # most often it is the peer who chose the depth
                raise ValueError(f"JSON nested too deep for Python here: {self!r}") from None
        return self._json

    def __repr__(self) -> str:
        return f"Text({_shortened(self.text)} chars)" if len(self.text) > 24 else f"Text({self.text!r})"


class Binary(Event):
    """A binary message.

    Attributes:
        data: the message.
    """

    __slots__ = ("data",)
    name = "binary"

    def __init__(self, data: bytes) -> None:
        self.received_time: float = time()
        self.data: bytes = data

    def __repr__(self) -> str:
        return f"Binary({_shortened(self.data)} bytes)" if len(self.data) > 24 else f"Binary({self.data!r})"


class Ping(Event):
    """The server sent a ping. It has been answered already, unless `auto_pong` is off.

    Attributes:
        data: the ping's payload, at most 125 bytes.
    """

    __slots__ = ("data",)
    name = "ping"

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data: bytes = data

    def __repr__(self) -> str:
        return f"Ping({self.data!r})"


class Pong(Event):
    """The server answered a ping, or sent a pong of its own accord.

    Attributes:
        data: the pong's payload, at most 125 bytes.
        latency: seconds since the ping that it answers was sent, or None if it answers no ping of ours.
    """

    __slots__ = ("data", "latency")
    name = "pong"

    def __init__(self, data: bytes, latency: float | None = None) -> None:
        super().__init__()
        self.data: bytes = data
        self.latency: float | None = latency

    def __repr__(self) -> str:
        return f"Pong({self.data!r})"


class ProtocolError(Event):
    """The server broke the protocol. The connection is given up: Disconnected follows.

    Attributes:
        error: what is wrong.
        critical: whether the data itself was damaged (text that is no UTF-8, data that does not inflate).
    """

    __slots__ = ("critical", "error")
    name = "protocol_error"

    def __init__(self, error: str, critical: bool) -> None:
        super().__init__()
        self.error: str = error
        self.critical: bool = critical

    def __repr__(self) -> str:
        return f"ProtocolError({self.error!r}, critical={self.critical!r})"


class Unresponsive(Event):
    """Nothing came from the server for `ping_timeout` seconds after a ping. Disconnected follows."""

    __slots__ = ()
    name = "unresponsive"


class _CloseFrame(Event):
    """The server's Close frame."""

    __slots__ = ("code", "reason")

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__()
        self.code: int | None = code
        self.reason: str = reason

    def __repr__(self) -> str:
        return f"{type(self).__name__}(code={self.code!r}, reason={self.reason!r})"


class Closing(_CloseFrame):
    """The server asks to close. Messages may still be sent; the answer goes out after the handlers.

    Attributes:
        code: the server's close code, or None if it gave none.
        reason: the server's reason, often empty.
    """

    __slots__ = ()
    name = "closing"


class Closed(_CloseFrame):
    """The server answered our Close frame. Disconnected follows. Attributes are those of `Closing`."""

    __slots__ = ()
    name = "closed"


class Disconnected(_Outcome):
    """The connection has ended. It is over: no further event belongs to it.

    Attributes:
        reason: one sentence for people.
        graceful: whether both sides sent a Close frame and the connection then ended by itself.
        phase: ``"upgrade"`` if the WebSocket never opened, ``"open"`` if it did.
        ended_by: ``"client"``, ``"server"`` or ``"network"``.
        sent_code: the code of our Close frame; None if we sent none, or one without a code.
        received_code: the code of the server's Close frame; None likewise.
        unsent: the messages that were accepted and not sent whole, oldest first, as they were given.
        error: the exception behind it, or None.
        address, advice, timings: as of `ConnectFail`, if the WebSocket never opened.
    """

    __slots__ = ("ended_by", "graceful", "received_code", "sent_code", "unsent")
    name = "disconnected"

    def __init__(
        self, reason: str = "closed", graceful: bool = False, *, phase: str = "open",
        ended_by: str = "network", sent_code: int | None = None, received_code: int | None = None,
        unsent: tuple[str | bytes, ...] = (), **about: Any,
    ) -> None:
        super().__init__(reason, phase=phase, **about)
        self.graceful: bool = graceful
        self.ended_by: str = ended_by
        self.sent_code: int | None = sent_code
        self.received_code: int | None = received_code
        self.unsent: tuple[str | bytes, ...] = unsent

    def __repr__(self) -> str:
        unsent = f", unsent={len(self.unsent)}" if self.unsent else ""
        return f"Disconnected(reason={self.reason!r}, graceful={self.graceful!r}{unsent})"


class BackOff(Event):
    """A pause before the next attempt to connect.

    Attributes:
        delay: how long, in seconds.
    """

    __slots__ = ("delay",)
    name = "back_off"

    def __init__(self, delay: float) -> None:
        super().__init__()
        self.delay: float = delay

    def __repr__(self) -> str:
        return f"BackOff(delay={self.delay:.1f})"


class UnknownMessage(Event):
    """Kept so that code written for Lomond imports; neither library ever makes one."""

    __slots__ = ("message",)
    name = "unknown"

    def __init__(self, message: object) -> None:
        super().__init__()
        self.message: object = message


def _shortened(content: str | bytes) -> str:
    return f"{content[:24]!r} + {len(content) - 24}"
