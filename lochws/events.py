"""The events of a WebSocket: small objects with Lomond's names and attributes.

Handlers and loops distinguish events by class or by `name`. New versions may add events: ignore names that
you do not know.

Events have no behavior, except `Stream`, from which its content is read. lochws keeps no reference to an
event after it has been handled.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

from .base.records import record
from .codec import JSON, Codec
from .counters import Counters
from .text import escaped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from .response import Response

__all__ = [
    "AnyEvent", "BackOff", "Binary", "Closed", "Closing", "ConnectFail", "Connected", "Connecting",
    "Disconnected", "EndedBy", "Event", "HistoryEntry", "Ping", "Poll", "Pong", "ProtocolError", "Ready",
    "Rejected", "Stale", "Stream", "Text", "Unresponsive", "UnknownMessage",
]

EndedBy: TypeAlias = Literal["client", "server", "network"]
"""Who ended a connection: `Disconnected.ended_by`."""


_loads = JSON.loads
#: The end of the text of an event after which the back-off gives up at once.
_NO_RETRY = "; this is fatal, so there will be no further attempt"


class Event:
    """The base class of all events.

    Attributes:
        name: the event's name; the method ``on_<name>`` handles it.
        received_time: when the event was created, in seconds since 1970 (`time.time`).
    """

    __slots__ = ("received_time",)
    name: ClassVar[str]
    """The event's name; the method ``on_<name>`` handles it."""
    received_time: float
    """When the event was created, in seconds since 1970 (`time.time`)."""

    def __init__(self) -> None:
        self.received_time = time()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Connecting(Event):
    """An attempt to connect begins, or continues at the URL to which the server redirected it.

    Attributes:
        url: the URL, without credentials.
    """

    __slots__ = ("url",)
    name: ClassVar[Literal["connecting"]] = "connecting"
    url: str
    """The URL, without credentials."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self.url!r})"


class _Ending(Event):
    """The base class of the events that report how an attempt to connect, or a connection, ended."""

    __slots__ = ("address", "advice", "error", "fatal", "phase", "reason", "timings")

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
        self.fatal: bool = False

    def __str__(self) -> str:
        return self._sentence() + (_NO_RETRY if self.fatal else "")

    def _sentence(self) -> str:
        return f"{self.reason} ({self.advice})" if self.advice else self.reason


class ConnectFail(_Ending):
    """An attempt to connect failed before there was a connection. It is the last event of the attempt.

    Its str is one human-readable line: the reason and the advice.

    Attributes:
        reason: why the attempt failed, in one human-readable sentence.
        phase: the step that failed: ``"prepare"`` (the request could not be made), ``"resolve"``, ``"tcp"``,
            ``"proxy"``, ``"tls"`` or ``"upgrade"`` (the request could not be written).
        address: the address on which it failed, or None.
        error: the exception that caused the failure, with its own causes chained, or None.
        advice: what would help, in one human-readable sentence; may be empty.
        timings: seconds spent in each phase that was entered, by the phase's name.
        fatal: whether no further attempt follows because `Backoff.fatal_statuses` has the proxy's status.
        response: the response of a proxy that refused to open the tunnel, or None.
    """

    __slots__ = ("response",)
    name: ClassVar[Literal["connect_fail"]] = "connect_fail"
    reason: str
    """Why the attempt failed, in one human-readable sentence."""
    phase: Literal["prepare", "resolve", "tcp", "proxy", "tls", "upgrade"]
    """The step that failed: ``"prepare"`` (the request could not be made), ``"resolve"``, ``"tcp"``,
    ``"proxy"``, ``"tls"`` or ``"upgrade"`` (the request could not be written)."""
    address: str | None
    """The address on which it failed, or None."""
    error: BaseException | None
    """The exception that caused the failure, with its own causes chained, or None."""
    advice: str
    """What would help, in one human-readable sentence; may be empty."""
    timings: dict[str, float]
    """Seconds spent in each phase that was entered, by the phase's name."""
    fatal: bool
    """Whether no further attempt follows because `Backoff.fatal_statuses` has the proxy's status."""
    response: Response | None
    """The response of a proxy that refused to open the tunnel, or None."""

    def __init__(self, reason: str, *, response: Response | None = None, **about: Any) -> None:
        super().__init__(reason, **about)
        self.response = response

    def __repr__(self) -> str:
        return f"{type(self).__name__}(reason={self.reason!r})"


class Connected(Event):
    """The network connection is open and the upgrade request has been written. Messages cannot be sent yet.

    Attributes:
        url: the URL, without credentials.
        proxy: the proxy's URL, without credentials, or None.
    """

    __slots__ = ("proxy", "url")
    name: ClassVar[Literal["connected"]] = "connected"
    url: str
    """The URL, without credentials."""
    proxy: str | None
    """The proxy's URL, without credentials, or None."""

    def __init__(self, url: str, proxy: str | None = None) -> None:
        super().__init__()
        self.url = url
        self.proxy = proxy

    def __repr__(self) -> str:
        proxy = "" if self.proxy is None else f", proxy={self.proxy!r}"
        return f"{type(self).__name__}(url={self.url!r}{proxy})"


class Rejected(_Ending):
    """The server did not upgrade to WebSocket. Disconnected follows.

    Its str is one human-readable line: the reason and the advice.

    Attributes:
        response: the server's response, with the beginning of its body.
        reason: what is wrong with the response, in one human-readable sentence.
        phase: ``"upgrade"``.
        address: the server's address.
        error: the exception with the same reason.
        advice: what would help, in one human-readable sentence; may be empty.
        timings: seconds spent in each phase of the opening, by the phase's name.
        fatal: whether no further attempt follows because `Backoff.fatal_statuses` has the response's status.
    """

    __slots__ = ("response",)
    name: ClassVar[Literal["rejected"]] = "rejected"
    response: Response
    """The server's response, with the beginning of its body."""
    reason: str
    """What is wrong with the response, in one human-readable sentence."""
    phase: Literal["upgrade"]
    """``"upgrade"``."""
    address: str | None
    """The server's address."""
    error: BaseException | None
    """The exception with the same reason."""
    advice: str
    """What would help, in one human-readable sentence; may be empty."""
    timings: dict[str, float]
    """Seconds spent in each phase of the opening, by the phase's name."""
    fatal: bool
    """Whether no further attempt follows because `Backoff.fatal_statuses` has the response's status."""

    def __init__(self, response: Response, reason: str, *, phase: str = "upgrade", **about: Any) -> None:
        super().__init__(reason, phase=phase, **about)
        self.response = response

    def __repr__(self) -> str:
        return f"{type(self).__name__}(response={self.response!r}, reason={self.reason!r})"


class Ready(Event):
    """The WebSocket is open: messages can be sent from now on.

    Attributes:
        response: the server's response to the upgrade request.
        protocol: the subprotocol that the server chose, or None.
        extensions: the names of the extensions in use: ``{"permessage-deflate"}`` or empty.
        address: the address of the server, or of the proxy if there is one, as ``ip:port``; a path for a
            Unix socket.
        timings: seconds spent in each phase of the opening that was entered, by its name: ``"resolve"``,
            ``"tcp"``, ``"proxy"``, ``"tls"``, ``"upgrade"``.
        attempt: the number of attempts that this connection took, since `start` or since the previous
            connection; 1 if the first one succeeded.
        is_reconnect: whether there was an earlier connection since `start` (for a WebSocket that is iterated:
            since it was created).
        outage: seconds since the previous connection ended, by the monotonic clock; None if there was none.
        last_message_at: the `received_time` of the last message that arrived over earlier connections, by the
            wall clock, in seconds since 1970; None if there was none.
    """

    __slots__ = (
        "address", "attempt", "extensions", "is_reconnect", "last_message_at", "outage", "protocol",
        "response", "timings",
    )
    name: ClassVar[Literal["ready"]] = "ready"
    response: Response
    """The server's response to the upgrade request."""
    protocol: str | None
    """The subprotocol that the server chose, or None."""
    extensions: set[str]
    """The names of the extensions in use: ``{"permessage-deflate"}`` or empty."""
    address: str | None
    """The address of the server, or of the proxy if there is one, as ``ip:port``; a path for a Unix
    socket."""
    timings: dict[str, float]
    """Seconds spent in each phase of the opening that was entered, by its name: ``"resolve"``, ``"tcp"``,
    ``"proxy"``, ``"tls"``, ``"upgrade"``."""
    attempt: int
    """The number of attempts that this connection took, since `start` or since the previous connection; 1 if
    the first one succeeded."""
    is_reconnect: bool
    """Whether there was an earlier connection since `start` (for a WebSocket that is iterated: since it was
    created)."""
    outage: float | None
    """Seconds since the previous connection ended, by the monotonic clock; None if there was none."""
    last_message_at: float | None
    """The `received_time` of the last message that arrived over earlier connections, by the wall clock, in
    seconds since 1970; None if there was none."""

    def __init__(
        self, response: Response, protocol: str | None, extensions: set[str], *,
        address: str | None = None, timings: Mapping[str, float] | None = None,
        attempt: int = 1, is_reconnect: bool = False, outage: float | None = None,
        last_message_at: float | None = None,
    ) -> None:
        super().__init__()
        self.response = response
        self.protocol = protocol
        self.extensions = extensions
        self.address = address
        self.timings = dict(timings or {})
        self.attempt = attempt
        self.is_reconnect = is_reconnect
        self.outage = outage
        self.last_message_at = last_message_at

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(response={self.response!r}, protocol={self.protocol!r}, "
            f"extensions={self.extensions!r})"
        )


class Poll(Event):
    """A regular event for periodic work: once after Ready, then every `poll` seconds."""

    __slots__ = ()
    name: ClassVar[Literal["poll"]] = "poll"


class Text(Event):
    """A text message.

    Attributes:
        text: the message. With ``text_as="bytes"`` it is decoded on first use.
    """

    __slots__ = ("_json", "text")
    name: ClassVar[Literal["text"]] = "text"
    _json: Any
    text: str
    """The message. With ``text_as="bytes"`` it is decoded on first use."""

    # Text and Binary are created for each message, so they save the call of super().__init__().
    def __init__(self, text: str) -> None:
        self.received_time: float = time()
        self.text = text

    @property
    def data(self) -> bytes:
        """The message in UTF-8: with ``text_as="bytes"`` as it arrived, otherwise encoded on each use."""
        return self.text.encode()

    @property
    def json(self) -> Any:
        """The message parsed as JSON, or by the option `codec`. It is parsed on first use.

        Raises:
            ValueError: the text is not valid JSON (`json.JSONDecodeError`), or it is nested more deeply than
                the recursion limit allows at this point.
            Exception: whatever the codec's `loads` raised.
        """
        found: Any = getattr(self, "_json", JSON)
        if found is JSON:  # without calls of our own, since this is read for each message
            try:
                self._json = found = _loads(self.text)
            except RecursionError:
                raise _too_deep(self) from None
        elif isinstance(found, Codec):
            # json.loads gets a str: it would guess the encoding of bytes.
            message = self.text if found.loads is _loads else content_of(self)
            self._json = found = _decoded(self, found, message)
        return found

    def __repr__(self) -> str:
        return f"Text(text={_shortened(self.text, 'chars')})"


class _EncodedText(Text):
    """A text message that is kept in UTF-8: with ``text_as="bytes"``, texts are of this class.

    It is a class of its own because `__getattr__` makes each attribute of a class slower to find.
    """

    __slots__ = ("_data",)
    _data: bytes

    @property
    def data(self) -> bytes:
        return self._data

    if not TYPE_CHECKING:  # else type checkers would accept any attribute

        def __getattr__(self, name: str) -> Any:
            # Python calls this only for names that are not found, such as those of empty slots.
            if name == "text":
                self.text = text = self._data.decode()
                return text
            raise AttributeError(f"'Text' object has no attribute {name!r}")


class Binary(Event):
    """A binary message.

    Attributes:
        data: the message.
    """

    __slots__ = ("_json", "data")
    name: ClassVar[Literal["binary"]] = "binary"
    data: bytes
    """The message."""

    def __init__(self, data: bytes) -> None:
        self.received_time: float = time()
        self.data = data

    @property
    def json(self) -> Any:
        """The message parsed as JSON, or by the option `codec` if that is for binary messages.

        It is parsed on first use.

        Raises:
            ValueError: the data is not valid JSON (`json.JSONDecodeError` or `UnicodeDecodeError`), or it is
                nested more deeply than the recursion limit allows at this point.
            Exception: whatever the codec's `loads` raised.
        """
        found: Any = getattr(self, "_json", JSON)
        if isinstance(found, Codec):
            self._json = found = _decoded(self, found, self.data)
        return found

    def __repr__(self) -> str:
        return f"{type(self).__name__}(data={_shortened(self.data, 'bytes')})"


class StreamSource(Protocol):
    """The interface between a `Stream` and its content."""

    def read(self, size: int | None, timeout: float | None, /) -> str | bytes:
        """Return the next part of the content."""

    def chunk(self) -> str | bytes:
        """Return the content that has arrived, after a wait if there is none; empty at the end."""

    def chunks(self, owner: object, /) -> AsyncIterator[str | bytes]:
        """Return an iterator over the parts for a coroutine. It keeps the owner alive."""

    def close(self) -> None:
        """Skip the rest of the content."""

    def abandon(self) -> None:
        """Skip the rest of the content, without waiting for any lock."""


class Stream(Event):
    """A large message that is still arriving: its content is read in parts.

    With the option `stream_above`, messages that are larger are passed on as a stream when they begin. Read
    the stream in a ``for`` loop or with `read`; in a coroutine, in an ``async for`` loop. The parts are str
    if the message is a text, otherwise bytes. They may be read in the handler, or in another thread that the
    handler passed the stream to. Each part is read once, however many threads read.

    Later messages wait until the stream has been read to its end or closed. About 1 MiB of it is kept in
    memory: if it is read more slowly than it arrives, lochws stops reading from the network, and TCP slows
    the server down. A stream is closed when the last reference to it is gone, so one that no handler keeps is
    skipped once its handlers have returned. When a WebSocket is iterated, only the iterating thread should
    read the stream, and asking for the next event closes it.

    Attributes:
        is_text: whether the message is a text. If so, it is decoded and validated while it arrives.
    """

    __slots__ = ("_source", "is_text")
    name: ClassVar[Literal["stream"]] = "stream"
    is_text: bool
    """Whether the message is a text. If so, it is decoded and validated while it arrives."""

    def __init__(self, is_text: bool, source: StreamSource) -> None:
        super().__init__()
        self.is_text = is_text
        self._source = source

    def read(self, size: int | None = None, timeout: float | None = None) -> str | bytes:
        """Return the next `size` characters or bytes, and wait until that many have arrived. Any thread.

        Args:
            size: how many to return; fewer are returned only at the end of the message, and none after it.
                None or -1 returns all that is left, which is then in memory at once.
            timeout: the longest time to wait, in seconds; 0 to return or raise at once; None for no limit.

        Raises:
            TimeoutError: too few have arrived in time. None are lost: the next call may return them.
            WebSocketClosed: the connection ended, or the server violated the protocol, before the message was
                complete, and fewer than `size` have arrived; `WebSocketClosed.event` is the final event of
                the connection, or None if it has not ended yet. Loops return what has arrived first.
            WebSocketError: the stream was closed; or the call would have to wait, and was made by code that
                interrupts lochws, such as a signal handler, or that lochws calls while it moves data, such as
                a handler of ``"sent"``.
            TypeError, ValueError: an argument is not a number, or `size` is negative.
        """
        return self._source.read(size, timeout)

    def __iter__(self) -> Iterator[str | bytes]:
        """Iterate over the content, in parts of any size, as they arrive. Raises as `read` does."""
        while part := self._source.chunk():
            yield part

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Iterate in a coroutine, without blocking its event loop. Cancelling loses nothing."""
        return self._source.chunks(self)

    def close(self) -> None:
        """Skip the rest of the message. Any thread; never blocks. Pending and later reads raise an error."""
        self._source.close()

    def __del__(self) -> None:
        if hasattr(self, "_source"):
            self._source.abandon()

    def __copy__(self) -> Stream:
        return self  # two objects would share the content, and the end of one would close the other

    def __repr__(self) -> str:
        return f"{type(self).__name__}(is_text={self.is_text!r})"


class Ping(Event):
    """The server sent a ping. It has already been answered, unless `auto_pong` is off.

    Attributes:
        data: the ping's payload, at most 125 bytes.
    """

    __slots__ = ("data",)
    name: ClassVar[Literal["ping"]] = "ping"
    data: bytes
    """The ping's payload, at most 125 bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(data={self.data!r})"


class Pong(Event):
    """The server answered a ping, or sent an unsolicited pong.

    Attributes:
        data: the pong's payload, at most 125 bytes.
        latency: seconds since the ping that this pong answers was sent; None if it does not answer one of
            our pings.
    """

    __slots__ = ("data", "latency")
    name: ClassVar[Literal["pong"]] = "pong"
    data: bytes
    """The pong's payload, at most 125 bytes."""
    latency: float | None
    """Seconds since the ping that this pong answers was sent; None if it does not answer one of our pings."""

    def __init__(self, data: bytes, latency: float | None = None) -> None:
        super().__init__()
        self.data = data
        self.latency = latency

    def __repr__(self) -> str:
        return f"{type(self).__name__}(data={self.data!r})"


class ProtocolError(Event):
    """The server violated the protocol. The connection ends: Disconnected follows.

    Attributes:
        error: what is wrong, in one human-readable sentence.
        critical: whether the data itself is damaged: text that is not valid UTF-8, or data that cannot be
            decompressed.
    """

    __slots__ = ("critical", "error")
    name: ClassVar[Literal["protocol_error"]] = "protocol_error"
    error: str
    """What is wrong, in one human-readable sentence."""
    critical: bool
    """Whether the data itself is damaged: text that is not valid UTF-8, or data that cannot be
    decompressed."""

    def __init__(self, error: str, critical: bool) -> None:
        super().__init__()
        self.error = error
        self.critical = critical

    def __repr__(self) -> str:
        return f"{type(self).__name__}(error={self.error!r}, critical={self.critical!r})"


class Unresponsive(Event):
    """No byte has arrived from the server for `ping_timeout` seconds after a ping. Disconnected follows."""

    __slots__ = ()
    name: ClassVar[Literal["unresponsive"]] = "unresponsive"


class Stale(Event):
    """The server has sent no message for `stale_after` seconds, although it may still answer pings.

    With ``on_stale="reconnect"`` the connection has been dropped, and Disconnected follows. With ``"tell"``
    it stays open, and there is no further Stale until another message has arrived.

    Attributes:
        seconds: how long no part of a message has arrived, by the monotonic clock: since the last part, since
            Ready, or since lochws resumed reading after a pause of its own or the machine was suspended.
        last_message_at: the `received_time` of the connection's last message, by the wall clock, in seconds
            since 1970; None if there was none.
    """

    __slots__ = ("last_message_at", "seconds")
    name: ClassVar[Literal["stale"]] = "stale"
    seconds: float
    """How long no part of a message has arrived, by the monotonic clock: since the last part, since Ready, or
    since lochws resumed reading after a pause of its own or the machine was suspended."""
    last_message_at: float | None
    """The `received_time` of the connection's last message, by the wall clock, in seconds since 1970; None if
    there was none."""

    def __init__(self, seconds: float, last_message_at: float | None) -> None:
        super().__init__()
        self.seconds = seconds
        self.last_message_at = last_message_at

    def __repr__(self) -> str:
        return f"{type(self).__name__}(seconds={self.seconds:.1f}, last_message_at={self.last_message_at!r})"


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
    """The server sent its Close frame. Handlers of this event may still send; the answer is sent after them.

    Attributes:
        code: the server's close code, or None if it gave none.
        reason: the server's reason, often empty.
    """

    __slots__ = ()
    name: ClassVar[Literal["closing"]] = "closing"
    code: int | None
    """The server's close code, or None if it gave none."""
    reason: str
    """The server's reason, often empty."""


class Closed(_CloseFrame):
    """The server answered our Close frame. Disconnected follows.

    Attributes:
        code: the server's close code, or None if it gave none.
        reason: the server's reason, often empty.
    """

    __slots__ = ()
    name: ClassVar[Literal["closed"]] = "closed"
    code: int | None
    """The server's close code, or None if it gave none."""
    reason: str
    """The server's reason, often empty."""


@record(frozen=True)
class HistoryEntry:
    """An entry of `Disconnected.history`: frames that were sent or received, or something that happened.

    Its str is one human-readable line. It has no payloads: nothing of what you or the server said.

    Attributes:
        time: when, by the wall clock, in seconds since 1970.
        direction: ``"sent"``, ``"received"``, or ``""`` for something that happened.
        name: ``"text"``, ``"binary"``, ``"ping"``, ``"pong"`` or ``"close"``; ``"messages"`` for the text and
            binary messages since the entry before, taken together. What happened is ``"ready"``, ``"paused"``
            or ``"resumed"`` (reading, while handlers are behind), ``"suspended"`` (the machine), ``"stale"``,
            ``"unresponsive"``, ``"protocol error"`` or ``"dropped"`` (by us).
        count: how many frames or messages.
        size: the bytes of their payloads; for ``"messages"``, the bytes of their frames, headers included.
        code: the code of a Close frame, or None.
    """

    time: float
    direction: Literal["sent", "received", ""]
    name: str
    count: int = 1
    size: int = 0
    code: int | None = None

    def __str__(self) -> str:
        from datetime import datetime  # noqa: PLC0415  not needed by programs that print no history

        when = f"{datetime.fromtimestamp(self.time):%H:%M:%S.%f}"[:-3]  # noqa: DTZ006  local, as in logs
        if not self.direction:
            return f"{when} {self.name}"
        many = f"{self.count:,} " if self.count != 1 or self.name == "messages" else ""
        name = "message" if many == "1 " else self.name
        code = "" if self.code is None else f" {self.code}"
        return f"{when} {self.direction} {many}{name}{code}, {self.size:,} bytes"


class Disconnected(_Ending):
    """The connection has ended. It is the last event of the connection.

    Its str is one human-readable line: who ended the connection, with which code and reason.

    Attributes:
        reason: why the connection ended, in one human-readable sentence.
        graceful: whether both sides sent a Close frame and the connection then ended properly.
        phase: ``"upgrade"`` if the WebSocket never opened, ``"open"`` if it did.
        ended_by: ``"client"``, ``"server"`` or ``"network"``.
        sent_code: the code of our Close frame; None if there was none, or it had no code.
        received_code: the code of the server's Close frame; None if there was none, or it had no code.
        received_reason: the reason in the server's Close frame, often empty.
        unsent: the messages that were accepted but not sent completely, oldest first, as they were passed.
            They have not arrived.
        in_doubt: the latest messages that were sent without proof that the server has read them, oldest
            first, as they were passed. They may have arrived or not.
        in_doubt_omitted: how many messages before those are in doubt too, at most: only the latest ones stay
            in memory.
        error: the exception that caused the end, or None.
        address: the server's address if the WebSocket never opened, otherwise None.
        advice: what would help, in one human-readable sentence; may be empty.
        timings: seconds spent in each phase of the opening, if the WebSocket never opened.
        fatal: whether no further attempt follows because `Backoff.fatal_codes` has the server's close code,
            or `Backoff.fatal_statuses` the status of its refusal.
        opened_for: seconds from Ready to the end, by the monotonic clock; None if the WebSocket never opened.
        counters: the messages and bytes that this connection sent and received.
        history: the last things that happened on the connection, oldest first, without any payload. Messages
            are only counted in it, unless the option `history` asks for an entry for each.
    """

    __slots__ = (
        "counters", "ended_by", "graceful", "history", "in_doubt", "in_doubt_omitted", "opened_for",
        "received_code", "received_reason", "sent_code", "unsent",
    )
    name: ClassVar[Literal["disconnected"]] = "disconnected"
    reason: str
    """Why the connection ended, in one human-readable sentence."""
    graceful: bool
    """Whether both sides sent a Close frame and the connection then ended properly."""
    phase: Literal["upgrade", "open"]
    """``"upgrade"`` if the WebSocket never opened, ``"open"`` if it did."""
    ended_by: EndedBy
    """``"client"``, ``"server"`` or ``"network"``."""
    sent_code: int | None
    """The code of our Close frame; None if there was none, or it had no code."""
    received_code: int | None
    """The code of the server's Close frame; None if there was none, or it had no code."""
    received_reason: str
    """The reason in the server's Close frame, often empty."""
    unsent: tuple[str | bytes, ...]
    """The messages that were accepted but not sent completely, oldest first, as they were passed. They have
    not arrived."""
    in_doubt: tuple[str | bytes, ...]
    """The latest messages that were sent without proof that the server has read them, oldest first, as they
    were passed. They may have arrived or not."""
    in_doubt_omitted: int
    """How many messages before those are in doubt too, at most: only the latest ones stay in memory."""
    error: BaseException | None
    """The exception that caused the end, or None."""
    address: str | None
    """The server's address if the WebSocket never opened, otherwise None."""
    advice: str
    """What would help, in one human-readable sentence; may be empty."""
    timings: dict[str, float]
    """Seconds spent in each phase of the opening, if the WebSocket never opened."""
    fatal: bool
    """Whether no further attempt follows because `Backoff.fatal_codes` has the server's close code, or
    `Backoff.fatal_statuses` the status of its refusal."""
    opened_for: float | None
    """Seconds from Ready to the end, by the monotonic clock; None if the WebSocket never opened."""
    counters: Counters
    """The messages and bytes that this connection sent and received."""
    history: tuple[HistoryEntry, ...]
    """The last things that happened on the connection, oldest first, without any payload. Messages are only
    counted in it, unless the option `history` asks for an entry for each."""

    def __init__(
        self, reason: str = "closed", graceful: bool = False, *, phase: str = "open",
        ended_by: EndedBy = "network", sent_code: int | None = None, received_code: int | None = None,
        received_reason: str = "", unsent: tuple[str | bytes, ...] = (),
        in_doubt: tuple[str | bytes, ...] = (), in_doubt_omitted: int = 0,
        opened_for: float | None = None, counters: Counters | None = None,
        history: tuple[HistoryEntry, ...] = (), **about: Any,
    ) -> None:
        super().__init__(reason, phase=phase, **about)
        self.graceful = graceful
        self.ended_by = ended_by
        self.sent_code = sent_code
        self.received_code = received_code
        self.received_reason = received_reason
        self.unsent = unsent
        self.in_doubt = in_doubt
        self.in_doubt_omitted = in_doubt_omitted
        self.opened_for = opened_for
        self.counters = counters or Counters()
        self.history = history

    def __repr__(self) -> str:
        unsent = f", unsent={len(self.unsent)}" if self.unsent else ""
        return f"{type(self).__name__}(reason={self.reason!r}, graceful={self.graceful!r}{unsent})"

    def _sentence(self) -> str:
        if self.phase != "open" or not self.graceful:
            text = super()._sentence()
            closed = self._close_frame()
            if closed and self.phase == "open":
                text = f"{text}; the server's Close frame: {closed}"
        elif self.ended_by == "server":
            closed = self._close_frame()
            text = "the server closed the connection" + (f": {closed}" if closed else "")
            text += f" ({self.advice})" if self.advice else ""
        else:
            code = "" if self.sent_code is None else f": {self.sent_code}"
            text = f"we closed the connection{code}"
        return f"{text}; messages not sent: {len(self.unsent)}" if self.unsent else text

    def _close_frame(self) -> str:
        if self.received_code is None:
            return ""
        # The server chose the reason, and this text ends up in logs and on terminals.
        reason = f' "{escaped(self.received_reason)}"' if self.received_reason else ""
        return f"{self.received_code}{reason}"


class BackOff(Event):
    """The wait before the next attempt to connect begins.

    Attributes:
        delay: the length of the wait, in seconds.
    """

    __slots__ = ("delay",)
    name: ClassVar[Literal["back_off"]] = "back_off"
    delay: float
    """The length of the wait, in seconds."""

    def __init__(self, delay: float) -> None:
        super().__init__()
        self.delay = delay

    def __repr__(self) -> str:
        return f"{type(self).__name__}(delay={self.delay:.1f})"


class UnknownMessage(Event):
    """An event kept for code written for Lomond; neither library ever makes one."""

    __slots__ = ("message",)
    name: ClassVar[Literal["unknown"]] = "unknown"

    def __init__(self, message: object) -> None:
        super().__init__()
        self.message: object = message


AnyEvent: TypeAlias = (
    Connecting | ConnectFail | Connected | Rejected | Ready | Poll | Text | Binary | Stream | Ping | Pong
    | ProtocolError | Unresponsive | Stale | Closing | Closed | Disconnected | BackOff
)
"""Any event that an iteration yields or a handler gets. `Event.name` and the class tell which one it is."""


def _shortened(content: str | bytes, unit: str) -> str:
    return repr(content) if len(content) <= 24 else f"{content[:24]!r} + {len(content) - 24} {unit}"


def text_of(data: bytes) -> Text:
    """Return the event of a text message in UTF-8, which has been validated and is decoded on first use."""
    event = _EncodedText.__new__(_EncodedText)
    event.received_time = time()
    event._data = data
    return event


def content_of(event: Text) -> str | bytes:
    """Return a text message as it is kept: a str, or UTF-8 that is not decoded for this."""
    return event._data if isinstance(event, _EncodedText) else event.text


def use_codec(received: Iterable[Event], codec: Codec) -> None:
    """Have `json` decode these messages with a codec, if they are of its kind. Nothing is decoded yet."""
    kind = Binary if codec.binary else Text
    for event in received:
        if isinstance(event, kind):
            event._json = codec


def _decoded(event: Text | Binary, codec: Codec, message: str | bytes) -> Any:
    try:
        return codec.loads(message)
    except RecursionError:
        raise _too_deep(event) from None


def _too_deep(event: Text | Binary) -> ValueError:
    # Usually because of the server's data, so a RecursionError would look like a bug of the caller.
    return ValueError(f"the message is nested too deeply for Python here: {event!r}")
