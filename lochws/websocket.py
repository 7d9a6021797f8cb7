"""WebSocket: a WebSocket client that is iterated and starts no threads."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast, overload

from . import events
from .base.callables import check_runs
from .base.records import values_of
from .codec import as_message
from .connection.receipts import Receipt
from .connection.sending import SendingHalf
from .counters import Counters
from .dispatch.arguments import refusing_unknown
from .dispatch.hiding import check_class, check_instance, read_only
from .errors import WebSocketClosed, WebSocketError, WebSocketUnavailable
from .life.counters import Traffic
from .life.iteration import Iteration, Life
from .life.state import State, describe
from .opening.dial import Dialler
from .options import (
    KNOWN,
    URL,
    Deflate,
    Encoder,
    Options,
    OptionsDocumentation,
    OptionsSignature,
    Protocols,
    Proxies,
    Timing,
    TraceFunction,
    WebSocketOptions,
    as_deflate,
    as_headers,
    check_bool,
)
from .protocol.close import as_reason, encode_close
from .protocol.frames import BytesLike
from .protocol.payload import as_bytes
from .protocol.sender import as_chunks, as_control_payload, as_text
from .system.lazy import ensure_whole
from .system.waits import ReentrantEvent
from .transport.stream import TLS
from .url import Endpoint, redacted

if sys.version_info >= (3, 11):
    from typing import Self, Unpack
elif TYPE_CHECKING:
    from typing_extensions import Self, Unpack

if TYPE_CHECKING:
    import ssl


class _Uninitialized(WebSocketError, AttributeError):
    """A subclass did not initialize its base class."""


class _NotYet:
    """A placeholder for the private attribute: used before __init__ has run, it says what was forgotten.

    It is an attribute of the object, because Python looks an attribute up more slowly if the class has one of
    the same name.
    """

    def __init__(self, owner: type) -> None:
        self._owner = owner

    def __getattr__(self, name: str) -> NoReturn:
        raise _Uninitialized(f"{self._owner.__name__}.__init__ must call super().__init__(url) first")


class Internals:
    """The internals of a WebSocket.

    They are kept in a single private attribute, so that a subclass may use every other name.

    Args:
        url: the URL to connect to, as the user passed it.
        given: the options that the user passed, by their public names.

    Attributes:
        url: the URL without credentials; for a function, its name.
        options: the options, checked.
        life: the driver of the connections.
        endpoint: the endpoint that the URL names, or None if a function returns the URL.
    """

    __slots__ = (
        "_added_headers", "_close_events", "_given_url", "dialler", "endpoint", "life", "options",
        "traffic", "url",
    )
    life: Life

    def __init__(self, url: URL, given: dict[str, Any]) -> None:
        self._added_headers: list[tuple[str, str]] = []  # any thread may append
        self.options = Options(deflate=as_deflate(given.pop("compress")), **given)
        self._given_url = url
        self.dialler = Dialler(self.options, url, lambda: tuple(self._added_headers))
        self.endpoint: Endpoint | None = self.dialler.endpoint
        self.url: str = (getattr(url, "__name__", None) or repr(url)) if callable(url) else redacted(url)
        self.traffic = Traffic()
        # The event of `close_called`, created on first use because it is large and rarely needed. Two threads
        # may create two events at the same time; both then get the first.
        self._close_events: list[threading.Event] = []

    def add_header(self, header: str | bytes, value: str | bytes) -> None:
        """Add a header to future upgrade requests. Any thread."""
        self._added_headers.append(*as_headers([(header, value)]))

    def as_websocket(self, **changes: Any) -> WebSocket:
        """Return a new WebSocket for the same URL, with the same options and headers except for changes."""
        given = values_of(self.options)
        given["compress"] = given.pop("deflate") or False
        websocket = WebSocket(self._given_url, **{**given, **changes})
        websocket._lochws._added_headers.extend(self._added_headers)
        return websocket

    @property
    def close_called(self) -> threading.Event:
        """The event that `WebSocket.close` sets."""
        if not self._close_events:
            self._close_events.append(ReentrantEvent())
        return self._close_events[0]

    def sending(self) -> SendingHalf:
        """Return the sending half of the open connection.

        Raises:
            WebSocketUnavailable: there is no open connection, or a gate is closed.
        """
        connection = self.life.sendable
        if connection is None:
            self.refuse_to_send()
        return connection.sending

    def send_with_receipt(
        self, receipt: object, messages: Sequence[str | bytes], compress: bool
    ) -> Receipt:
        """Send messages in a row, and return the receipt for all of them.

        Raises:
            TypeError: `receipt` is not a bool.
            WebSocketUnavailable: there is no open connection, or a gate is closed.
        """
        check_bool("receipt", receipt)
        return self.sending().send_with_receipt(messages, compress)

    def sending_past_gates(self) -> SendingHalf:
        """Return the sending half of the open connection, even while gates are closed.

        Raises:
            WebSocketUnavailable: there is no open connection.
        """
        connection = self.life.connection
        if connection is None:
            self.refuse_to_send()
        return connection.sending

    def refuse_to_send(self) -> NoReturn:
        """Raise the error that says why nothing can be sent."""
        life = self.life
        if life.connection is not None and life.sendable is None:
            raise WebSocketUnavailable("not sent: session setup is still in progress (a gate is closed)")
        state = life.state
        kind = WebSocketClosed if state is State.STOPPED else WebSocketUnavailable
        raise kind(f"not sent: {self.why_not_open(state)}")

    def why_not_open(self, state: State) -> str:
        """Return the reason why nothing can be sent in this state, and the advice for it."""
        if self.life.is_forked_copy:
            return describe(state, is_forked_copy=True)
        if state is State.NEW:
            return "the WebSocket is not connected; send while iterating it, from Ready on"
        if state in (State.DISCONNECTED, State.STOPPED):
            return "the connection has ended"
        return "the connection is not open yet; send after the Ready event"


class WebSocket:
    """A WebSocket client (RFC 6455) without threads: iterate it to get its events.

    ::

        for event in WebSocket("wss://feed.example.org"):
            if event.name == "ready":
                ...

    The constructor checks its arguments and opens nothing. Iterating connects once, yields the events and
    ends after ConnectFail or Disconnected; then the WebSocket can be iterated again. `connect` does the same
    and takes further options. Leaving the loop early, by ``break`` or an exception, closes the socket. The
    methods that send and close may be called from any thread.

    The parameters up to `trace` may be passed by position; their names and order are Lomond's. The other
    options are keyword-only. Editors show each option's full description where it is used.

    Args:
        url: a ``ws://`` or ``wss://`` URL; ``http://`` and ``https://`` are accepted as aliases. A user name
            and password in it are used for Basic authentication and never shown. A function that returns the
            URL is called for each attempt.
        proxies: a proxy URL; or a mapping with proxy URLs under ``"http"`` (for ws) and ``"https"`` (for
            wss); or a function that receives the URL at each attempt and returns a proxy URL. None uses the
            proxies set in the environment, ``{}`` uses none. The schemes are http, https, socks4, socks4a,
            socks5 and socks5h.
        protocols: the subprotocols to offer, in order of preference; a function that returns them is called
            for each attempt. ``subprotocols=`` is accepted as another name.
        agent: the User-Agent header; None sends lochws's name and version, ``""`` sends none.
        compress: offer permessage-deflate (RFC 7692): True, or a `Deflate` with details.
        ssl_verify: verify the server's certificate and name.
        ssl_cafile: a file of certificate authorities to trust in addition to the system's.
        ssl_context: an `ssl.SSLContext` to use for TLS. It is never modified, and the two options above are
            then ignored.
        trace: a function that receives a dict for each step, or True to write the dicts to the debug log.

    Options (keyword-only):
        headers: additional request headers. Default: None.
        origin: the Origin header. Default: None.
        auth: user name and password for Basic authentication. Default: None.
        cookies: a cookie jar such as `http.cookiejar.CookieJar`. Default: None.
        require_protocol: whether to reject a server that agrees to none of the `protocols`. Default: False.
        max_redirects: how many redirects to follow per attempt. Default: 10.
        redirect_headers: what to send when a redirect leads to another origin. Default: 'own'.
        open_timeout: seconds for the whole opening. Default: 30.0.
        phase_timeouts: seconds by phase of the opening. Default: None.
        proxy_headers: additional headers that are sent only to an HTTP proxy. Default: None.
        proxy_auth: how to authenticate to an HTTP proxy. Default: 'auto'.
        ssl_system_store: whether to trust the system's certificate authorities. Default: True.
        ssl_certfile: a file with the client certificate. Default: None.
        ssl_keyfile: a file with the private key of `ssl_certfile`. Default: None.
        ssl_password: the password of that key. Default: None.
        ssl_pins: certificate pins. Default: None.
        server_hostname: the name to expect in the server's certificate. Default: None.
        unix: the path of a Unix socket to connect to. Default: None.
        sock: a connected socket to use for a single attempt. Default: None.
        connect: a function that takes a host and port and returns a connected socket. Default: None.
        source_address: the IP address and port to connect from. Default: None.
        socket_options: arguments for `socket.setsockopt`. Default: None.
        max_message_size: the largest message to accept, in bytes. Default: 64 MiB.
        stream_above: messages with more bytes than this are passed on while they arrive. Default: None.
        max_stream_size: the largest message to accept as a stream, in bytes. Default: None.
        max_queue: how many bytes may wait to be sent. Default: 16 MiB.
        fragment: the largest payload of a frame in bytes; larger messages are fragmented. Default: 256 KiB.
        when_full: what a send does when the queue has no room. Default: 'raise'.
        send_timeout: seconds that a send waits for room with ``when_full="block"``. Default: 30.0.
        rate: how many messages the server accepts in a given time. Default: None.
        encoder: a function that converts the objects passed to `send_json` to JSON. Default: None.
        codec: the functions that decode and encode messages, in place of Python's `json`. Default: None.
        text_as: whether text messages are kept as str or as UTF-8 bytes. Default: 'str'.
        history: how many messages `Disconnected.history` lists one by one. Default: 0.

    Raises:
        TypeError, ValueError: an argument is invalid; the message says which, and what would be right.
        FileNotFoundError: the file `ssl_cafile` does not exist.
    """

    if not TYPE_CHECKING:
        __doc__ = OptionsDocumentation(__doc__, WebSocketOptions)

        def __new__(cls, *args: object, **options: object) -> Self:
            make = super().__new__  # a mixin may define its own
            self = make(cls) if make is object.__new__ else make(cls, *args, **options)
            # The __setattr__ of a subclass may need attributes that its __init__ sets first.
            object.__setattr__(self, "_lochws", _NotYet(cls))
            return self

    else:
        _lochws: Internals

    def __init__(
        self,
        url: URL,
        proxies: Proxies = None,
        protocols: Protocols | None = None,
        agent: str | None = None,
        compress: bool | Deflate = False,
        ssl_verify: bool = True,
        ssl_cafile: str | os.PathLike[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        trace: TraceFunction | bool | None = None,
        **options: Unpack[WebSocketOptions],
    ) -> None:
        # No docstring: editors would show it in place of the class's.
        given: dict[str, Any] = {
            "proxies": proxies, "protocols": protocols, "agent": agent, "compress": compress,
            "ssl_verify": ssl_verify, "ssl_cafile": ssl_cafile, "ssl_context": ssl_context, "trace": trace,
            **options,
        }
        check_given(type(self), url, given, KNOWN)
        self._lochws = Internals(url, given)
        self._lochws.life = Iteration(
            self._lochws.dialler, self._lochws.options, self._lochws.traffic, self._lochws.url
        )
        check_instance(self)

    if not TYPE_CHECKING:
        __signature__ = OptionsSignature(__init__, WebSocketOptions)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a subclass that hides a public name of this class."""
        super().__init_subclass__(**kwargs)
        check_class(cls)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._lochws.url!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled."""
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled, since it owns a connection, locks and "
            "threads: make another one with the same arguments"
        )

    # Iterating.

    @refusing_unknown(is_app=False)
    def connect(
        self,
        poll: float | None = 5.0,
        ping_rate: float | None = 30.0,
        ping_timeout: float | Literal["auto"] | None = "auto",
        auto_pong: bool = True,
        close_timeout: float | None = 30.0,
        *,
        stale_after: float | None = None,
        on_stale: Literal["reconnect", "tell"] = "reconnect",
    ) -> Generator[events.AnyEvent, None, None]:
        """Connect once and yield the events. The network is used only while the caller waits for the next.

        Args:
            poll: seconds between Poll events; 0 or None for none.
            ping_rate: seconds between automatic pings; 0 or None for none.
            ping_timeout: seconds to wait after a ping for any byte from the server before giving up the
                connection; ``"auto"`` is twice the ping rate; 0 or None for no limit.
            auto_pong: whether to answer the server's pings automatically.
            close_timeout: seconds that the server has to answer a Close frame and end the connection; 0 or
                None for no limit.
            stale_after: seconds without any part of a message after which a Stale event is emitted, even if
                the server answers pings; 0 or None for no limit.
            on_stale: what happens then: ``"reconnect"`` drops the connection, as `force_disconnect` does;
                ``"tell"`` leaves it open.

        Raises:
            TypeError, ValueError: an argument is invalid.
            WebSocketError: another iteration of this WebSocket is under way; raised on the first ``next``.
        """
        timing = Timing(
            poll=poll, ping_rate=ping_rate, ping_timeout=ping_timeout, auto_pong=auto_pong,
            close_timeout=close_timeout, stale_after=stale_after, on_stale=on_stale,
        )
        check_instance(self)
        iteration = self._lochws.life
        assert isinstance(iteration, Iteration)  # WebSocketApp overrides this method
        return cast("Generator[events.AnyEvent, None, None]", iteration.iterate(timing))

    def __iter__(self) -> Iterator[events.AnyEvent]:
        """Connect once, with the default timing, and yield the events."""
        return self.connect()

    def __enter__(self) -> Self:
        """Do nothing: `__exit__` closes."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the WebSocket. To finish the closing handshake, an iteration under way must be continued."""
        self.close()

    # Sending.

    @overload
    def send_text(
        self, text: str | BytesLike, compress: bool = True, *, receipt: Literal[False] = False,
    ) -> bool: ...

    @overload
    def send_text(
        self, text: str | BytesLike, compress: bool = True, *, receipt: Literal[True],
    ) -> Receipt: ...

    @overload
    def send_text(
        self, text: str | BytesLike, compress: bool = True, *, receipt: bool,
    ) -> bool | Receipt: ...

    def send_text(
        self, text: str | BytesLike, compress: bool = True, *, receipt: bool = False
    ) -> bool | Receipt:
        """Send a text message. Any thread may call it.

        It never waits for the network; it waits for room in a full queue only with ``when_full="block"``.

        Args:
            text: the message, a str or its UTF-8 as a bytes-like object, which is checked.
            compress: whether to compress it, if the server agreed to permessage-deflate.
            receipt: whether to return a `Receipt`, which tells what becomes of the message.

        Returns:
            True; False if the message was dropped because the queue is full (``when_full="drop"``). With
            ``receipt=True``, a `Receipt` in both cases.

        Raises:
            TypeError: the text is neither a str nor bytes-like.
            ValueError: the text contains lone surrogates and cannot be encoded as UTF-8, or the bytes are not
                valid UTF-8.
            WebSocketUnavailable: the WebSocket is not open; the message says why, and when to send.
                `WebSocketClosing` if our Close frame has been sent, `WebSocketClosed` if the connection has
                ended for good.
            QueueFull: the queue has no room.
            TransportFail: the network failed; the message was not sent completely.
        """
        if not isinstance(text, str):
            data = as_bytes("send_text", text, "a str or UTF-8 bytes")
            decoded = as_text("send_text", data)
            if receipt is not False:
                return self._lochws.send_with_receipt(receipt, [decoded], compress)
            return self._lochws.sending().send_utf8(decoded, data, compress)
        internals = self._lochws
        if receipt is not False:
            return internals.send_with_receipt(receipt, [text], compress)
        connection = internals.life.sendable
        if connection is None:
            internals.refuse_to_send()
        sending = connection.sending
        push_small = sending.push_small
        if push_small is not None and push_small(sending.queue, text):
            return True
        return sending.send_text(text, compress)

    @overload
    def send_binary(
        self, data: BytesLike, compress: bool = True, *, receipt: Literal[False] = False,
    ) -> bool: ...

    @overload
    def send_binary(
        self, data: BytesLike, compress: bool = True, *, receipt: Literal[True],
    ) -> Receipt: ...

    @overload
    def send_binary(
        self, data: BytesLike, compress: bool = True, *, receipt: bool,
    ) -> bool | Receipt: ...

    def send_binary(
        self, data: BytesLike, compress: bool = True, *, receipt: bool = False
    ) -> bool | Receipt:
        """Send a binary message. Any thread may call it.

        It never waits for the network; it waits for room in a full queue only with ``when_full="block"``.

        Args:
            data: the message, a bytes-like object; anything but bytes is copied immediately.
            compress: whether to compress it, if the server agreed to permessage-deflate.
            receipt: whether to return a `Receipt`, which tells what becomes of the message.

        Returns:
            True; False if the message was dropped because the queue is full (``when_full="drop"``). With
            ``receipt=True``, a `Receipt` in both cases.

        Raises:
            TypeError: the data is not bytes-like.
            WebSocketUnavailable: the WebSocket is not open; the message says why, and when to send.
            QueueFull: the queue has no room.
            TransportFail: the network failed; the message was not sent completely.
        """
        payload = as_bytes("send_binary", data)
        if receipt is not False:
            return self._lochws.send_with_receipt(receipt, [payload], compress)
        sending = self._lochws.sending()
        push_small = sending.push_small
        if push_small is not None and push_small(sending.queue, payload):
            return True
        return sending.send_binary(payload, compress)

    @overload
    def send_json(
        self, _obj: Any = ..., /, *, compress: bool = True, encoder: Encoder | None = None,
        receipt: Literal[False] = False, **fields: Any,
    ) -> bool: ...

    @overload
    def send_json(
        self, _obj: Any = ..., /, *, compress: bool = True, encoder: Encoder | None = None,
        receipt: Literal[True], **fields: Any,
    ) -> Receipt: ...

    @overload
    def send_json(
        self, _obj: Any = ..., /, *, compress: bool = True, encoder: Encoder | None = None,
        receipt: bool, **fields: Any,
    ) -> bool | Receipt: ...

    def send_json(
        self,
        _obj: Any = ...,
        /,
        *,
        compress: bool = True,
        encoder: Encoder | None = None,
        receipt: bool = False,
        **fields: Any,
    ) -> bool | Receipt:
        """Send one object as a message: the positional argument, or a dict of the keywords.

        It is sent as JSON in a text message, unless the option `codec` says otherwise. An object with a field
        named ``compress``, ``encoder`` or ``receipt`` must be passed by position. Any thread may call this;
        it never waits for the network, and waits for room in a full queue only with ``when_full="block"``.

        Args:
            compress: whether to compress the message, if the server agreed to permessage-deflate.
            encoder: converts the object to JSON, as a str or UTF-8 bytes, which is sent as a text message;
                None uses the WebSocket's option `encoder` or `codec`.
            receipt: whether to return a `Receipt`, which tells what becomes of the message.

        Returns:
            True; False if the message was dropped because the queue is full (``when_full="drop"``). With
            ``receipt=True``, a `Receipt` in both cases.

        Raises:
            ValueError: both an object and keywords were passed; or the object contains NaN or infinity, which
                JSON does not have (``encoder=json.dumps`` sends them).
            TypeError: the object cannot be represented in JSON; or the encoder returned something else than
                a message.
            WebSocketUnavailable: the WebSocket is not open; the message says why, and when to send.
            QueueFull: the queue has no room.
            TransportFail: the network failed; the message was not sent completely.
        """
        if _obj is not ... and fields:
            raise ValueError("send_json: give one object or keywords, not both")
        given = fields if _obj is ... else _obj
        message = self._lochws.options.codec.encode(given) if encoder is None else as_message(encoder, given)
        # An override in a subclass may accept only the message, and only a str as a text.
        send: Callable[..., bool | Receipt] = (
            self.send_text if isinstance(message, str) else self.send_binary
        )
        if receipt is not False:
            return send(message, compress, receipt=receipt)
        return send(message) if compress else send(message, compress=False)

    @overload
    def send_many(
        self, messages: Iterable[str | BytesLike], compress: bool = True, *, text: bool = False,
        receipt: Literal[False] = False,
    ) -> bool: ...

    @overload
    def send_many(
        self, messages: Iterable[str | BytesLike], compress: bool = True, *, text: bool = False,
        receipt: Literal[True],
    ) -> Receipt: ...

    @overload
    def send_many(
        self, messages: Iterable[str | BytesLike], compress: bool = True, *, text: bool = False,
        receipt: bool,
    ) -> bool | Receipt: ...

    def send_many(
        self, messages: Iterable[str | BytesLike], compress: bool = True, *, text: bool = False,
        receipt: bool = False,
    ) -> bool | Receipt:
        """Send several messages in a row, with no other message between them; cheaper than one call for each.

        Either all messages are accepted or none. If the network fails after some have been sent, the others
        are in `Disconnected.unsent`. Any thread may call this; it never waits for the network, and waits for
        room in a full queue only with ``when_full="block"``.

        Args:
            messages: str for text messages, bytes-like objects for binary ones.
            compress: whether to compress them, if the server agreed to permessage-deflate.
            text: whether to send bytes-like objects as text messages too; they must be valid UTF-8.
            receipt: whether to return one `Receipt` for all of them, which costs a single ping.

        Returns:
            True; False if the messages were dropped because the queue is full (``when_full="drop"``). With
            ``receipt=True``, a `Receipt` in both cases.

        Raises:
            TypeError: a message is neither a str nor bytes-like, or `text` is not a bool.
            ValueError: a text contains lone surrogates and cannot be encoded as UTF-8, or the bytes of one
                are not valid UTF-8.
            WebSocketUnavailable: the WebSocket is not open; the message says why, and when to send.
            QueueFull: the queue does not have room for all of them.
            TransportFail: the network failed.
        """
        check_bool("text", text)
        checked: list[str | bytes] = [
            message if isinstance(message, str)
            else as_text("send_many", message) if text else as_bytes("send_many", message)
            for message in messages
        ]
        if receipt is not False:
            return self._lochws.send_with_receipt(receipt, checked, compress)
        return self._lochws.sending().send_many(checked, compress)

    @overload
    def send_stream(
        self, chunks: Iterable[str | BytesLike], text: bool = False, compress: bool = True, *,
        receipt: Literal[False] = False,
    ) -> bool: ...

    @overload
    def send_stream(
        self, chunks: Iterable[str | BytesLike], text: bool = False, compress: bool = True, *,
        receipt: Literal[True],
    ) -> Receipt: ...

    @overload
    def send_stream(
        self, chunks: Iterable[str | BytesLike], text: bool = False, compress: bool = True, *,
        receipt: bool,
    ) -> bool | Receipt: ...

    def send_stream(
        self, chunks: Iterable[str | BytesLike], text: bool = False, compress: bool = True, *,
        receipt: bool = False,
    ) -> bool | Receipt:
        """Send one message of any length in bounded memory, while its chunks are produced.

        The message is sent in fragments (RFC 6455 section 5.4) of the size that the option `fragment` sets,
        or 256 KiB. Messages that are sent meanwhile, by any thread, wait behind it; pings, pongs and the
        Close frame do not. It runs on the calling thread and blocks until the operating system has taken the
        last fragment, so it cannot be called in a handler. Other threads may call it at any time.

        With ``when_full="block"`` it first waits up to `send_timeout` seconds for room and for the end of
        another stream; otherwise it raises `QueueFull`, or returns False. Once it has begun, it waits for the
        network, `send_timeout` seconds at a time at most.

        If the message cannot be completed, because iterating raises or the network makes no progress, the
        connection ends with close code 1011. An incomplete message is not in `Disconnected.unsent`, because
        its chunks are not kept; for the same reason, `Disconnected.in_doubt_omitted` counts a complete one.

        Args:
            chunks: an iterable of the parts of the message, in order: bytes-like objects, or, with `text`,
                str and UTF-8 bytes, which may split a character. They may have any size; small ones are
                gathered.
            text: whether it is a text message.
            compress: whether to compress it, if the server agreed to permessage-deflate.
            receipt: whether to return a `Receipt`, which tells what becomes of the message.

        Returns:
            True; False if nothing was sent because there is no room (``when_full="drop"``). With
            ``receipt=True``, a `Receipt` in both cases.

        Raises:
            TypeError: `chunks` is a single message, an asynchronous iterable or not iterable, or a chunk has
                the wrong type.
            ValueError: a text is not valid UTF-8, or contains lone surrogates.
            WebSocketUnavailable: the WebSocket is not open, or closes before the message was sent to its end.
            QueueFull: there is no room, or no progress; or the calling thread runs a handler, iterates the
                WebSocket, or interrupts lochws.
            TransportFail: the network failed; the message was not sent completely.
        """
        for name, value in (("text", text), ("compress", compress), ("receipt", receipt)):
            check_bool(name, value)
        iterator = as_chunks("send_stream", chunks)
        sending = self._lochws.sending()
        return sending.send_stream(iterator, text=text, compress=compress, receipt=receipt)

    @contextmanager
    def corked(self) -> Iterator[None]:
        """Gather messages during a ``with`` block, and send them in a few system calls when it ends.

        Use it for bursts that take a while to produce. Messages from other threads wait too; a batch that is
        full is sent at once. Any thread may use it.

        Raises:
            WebSocketUnavailable: the WebSocket is not open.
        """
        queue = self._lochws.sending().queue
        queue.cork()
        try:
            yield
        finally:
            queue.uncork()

    def send_ping(self, data: BytesLike = b"") -> None:
        """Send a ping. If its data is unique, the Pong event reports the latency.

        It keeps its place among the messages, but does not wait for one that is sent in several fragments
        (RFC 6455 section 5.4), nor for the budget of the option `rate`.

        Args:
            data: the payload, at most 125 bytes.

        Raises:
            TypeError: the data is not bytes-like.
            ValueError: the data is longer than 125 bytes (RFC 6455 section 5.5).
            WebSocketUnavailable: the WebSocket is not open.
            QueueFull: the queue has no room.
            TransportFail: the network failed.
        """
        payload = as_control_payload("send_ping", data)
        self._lochws.sending_past_gates().send_ping(payload)

    def send_pong(self, data: BytesLike) -> None:
        """Send an unsolicited pong (RFC 6455 section 5.5.3). Pings are answered automatically.

        Args:
            data: the payload, at most 125 bytes.

        Raises:
            TypeError: the data is not bytes-like.
            ValueError: the data is longer than 125 bytes (RFC 6455 section 5.5).
            WebSocketUnavailable: the WebSocket is not open.
            QueueFull: the queue has no room.
            TransportFail: the network failed.
        """
        payload = as_control_payload("send_pong", data)
        self._lochws.sending_past_gates().send_pong(payload)

    def add_header(self, header: str | bytes, value: str | bytes) -> None:
        """Add a header to future upgrade requests, in addition to those passed to the constructor.

        Raises:
            TypeError: the header or its value is neither str nor bytes.
            ValueError: the header is not a valid HTTP token, its value contains CR, LF or NUL, or lochws
                writes this header itself.
        """
        self._lochws.add_header(header, value)

    # Closing.

    def close(self, code: int | None = 1000, reason: str | bytes = "goodbye") -> None:
        """Close the connection: send a Close frame, and keep receiving until the server answers it.

        May be called from any thread, handler or loop, in any state and any number of times; only the first
        call has an effect. Never blocks. If the WebSocket is still connecting, the attempt is cancelled.
        Messages that were accepted before are sent first. Those in several fragments, and those that wait for
        the budget of the option `rate`, hold the Close frame back for at most half of `close_timeout`; what
        is left then is not sent.

        Args:
            code: 1000 to 1003, 1007 to 1014 or 3000 to 4999; or None for a Close frame without a code.
            reason: a str, or UTF-8 bytes; cut to 123 bytes of UTF-8 at a character boundary.

        Raises:
            TypeError, ValueError: the code or the reason cannot be sent. In that case nothing is closed.
        """
        encode_close(code, reason)
        self._lochws.close_called.set()
        self._lochws.life.close(code, as_reason(reason))

    def force_disconnect(self, reason: str = "force_disconnect was called") -> None:
        """Drop the connection without waiting for a closing handshake. Any thread may call it; never blocks.

        Args:
            reason: the reason, for `Disconnected.reason` and for the server.

        Raises:
            TypeError: the reason is not a str.
            ValueError: the reason contains lone surrogates and cannot be encoded as UTF-8. In that case the
                connection is not dropped.
        """
        if not isinstance(reason, str):
            raise TypeError(f"force_disconnect: reason={reason!r}: expected a str")
        try:
            reason.encode()
        except UnicodeEncodeError:
            raise ValueError(f"force_disconnect: reason={reason!r} cannot be encoded as UTF-8") from None
        self._lochws.life.drop(reason)

    @read_only
    def close_called(self) -> threading.Event:
        """A `threading.Event` that `close` sets and `lochws.persist.persist` clears when it begins."""
        return self._lochws.close_called

    # State. Any thread may read these; none blocks.

    @read_only
    def url(self) -> str:
        """The URL without credentials; if a function was passed as the URL, the function's name."""
        return self._lochws.url

    @read_only
    def is_secure(self) -> bool:
        """True if the URL is ``wss://``; False if it is not, or if a function was passed as the URL."""
        endpoint = self._lochws.endpoint
        return endpoint is not None and endpoint.is_secure

    @read_only
    def state(self) -> State:
        """The state of the WebSocket, from `State.NEW` to `State.STOPPED`."""
        return self._lochws.life.state

    @read_only
    def is_active(self) -> bool:
        """True if messages can be sent."""
        life = self._lochws.life
        return life.sendable is not None and life.state is State.OPEN

    @read_only
    def is_closing(self) -> bool:
        """True if our Close frame has been sent and the connection has not ended yet."""
        return self._lochws.life.state is State.CLOSING

    @read_only
    def is_closed(self) -> bool:
        """True if the connection or the attempt has ended and no other will follow."""
        return self._lochws.life.state is State.STOPPED

    @read_only
    def supports_compression(self) -> bool:
        """True if there is a connection and its server agreed to permessage-deflate."""
        connection = self._lochws.life.connection
        return connection is not None and connection.supports_compression

    @read_only
    def tls(self) -> TLS | None:
        """The TLS version, cipher and server certificate of the connection, as negotiated when it opened.

        None if there is no connection, or if the connection to the server itself does not use TLS; TLS to a
        proxy does not count. When the handlers of a connection's last events run, it may have ended already.
        """
        connection = self._lochws.life.connection
        return None if connection is None else connection.tls

    @read_only
    def latency(self) -> float | None:
        """Seconds between the connection's last answered ping and its pong, or None if there is none yet."""
        connection = self._lochws.life.connection
        return None if connection is None else connection.latency

    @read_only
    def queued_bytes(self) -> int:
        """The approximate number of accepted bytes not yet taken by the network; 0 without a connection."""
        connection = self._lochws.life.connection
        return 0 if connection is None else connection.sending.queue.waiting_bytes

    @read_only
    def queued_for(self) -> float:
        """The seconds that a message sent now would wait for the budget that the option `rate` sets.

        0.0 if it would not wait, and without a `rate` or a connection. This is the shortest possible wait:
        control frames that go first, or a network that takes nothing, make it longer.
        """
        connection = self._lochws.life.connection
        pacing = None if connection is None else connection.sending.queue.pacing
        return 0.0 if pacing is None else pacing.wait()

    @read_only
    def counters(self) -> Counters:
        """Messages and bytes sent and received over all connections since the WebSocket was created."""
        return self._lochws.traffic.with_open(self._lochws.life.connection)


def check_given(owner: type, url: object, given: dict[str, Any], known: frozenset[str]) -> None:
    """Refuse unknown options and coroutine functions, and rename ``subprotocols`` to ``protocols``.

    Raises:
        TypeError: a name is not an option, or an option is a coroutine or generator function.
        ValueError: both `protocols` and `subprotocols` were passed.
    """
    if (protocols := given.pop("subprotocols", None)) is not None:
        if given["protocols"] is not None:
            raise ValueError("protocols and subprotocols are the same option: give one of them")
        given["protocols"] = protocols
    if not known.issuperset(given):
        ensure_whole("lochws.dispatch.foreign")
        from .dispatch.foreign import refuse_arguments  # noqa: PLC0415  for mistakes alone

        refuse_arguments(owner.__name__, given, known, is_app="threads" in known)
    for name, value in [("url", url), *given.items()]:
        if callable(value):
            check_runs(f"{name}: {getattr(value, '__qualname__', None) or repr(value)}", value)
