"""WebSocket: an endpoint and its options; iterate it, send on it, close it."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from . import events
from .connection.sending import LARGE_BYTES, SendingHalf
from .errors import WebSocketClosed, WebSocketUnavailable
from .life.counters import Counters, Traffic
from .life.iteration import Iteration, Life
from .life.state import State, describe
from .opening.dial import Dialler
from .options import (
    MIB,
    USER_AGENT,
    Auth,
    CookieJar,
    Deflate,
    Headers,
    Options,
    Password,
    Proxies,
    SocketOption,
    Timing,
    TraceFunction,
    as_deflate,
    as_given_headers,
    as_headers,
    as_phase_timeouts,
    as_protocols,
    as_socket_options,
)
from .protocol.close import as_reason, encode_close
from .protocol.frames import BytesLike
from .protocol.sender import as_bytes, as_control_payload
from .transport.pins import Pins, as_pins
from .transport.stream import TLS
from .url import redacted

if TYPE_CHECKING:
    from typing_extensions import Self


class WebSocket:
    """A WebSocket client for use without threads: iterate it.

    ::

        for event in WebSocket("wss://feed.example.org"):
            if event.name == "ready":
                ...

    The constructor checks its arguments and opens nothing. Iterating (or `connect`, which takes
    options) connects once, yields what happens and ends after ConnectFail or Disconnected; then it
    can be iterated again. Leaving the loop early, by ``break`` or an exception, closes the socket.
    The methods that send and close may be called from any thread.

    The parameters up to `trace` are Lomond's, in Lomond's order.

    Args:
        url: ``ws://`` or ``wss://``; ``http://`` and ``https://`` stand for the same. User name and
            password in it are used for Basic authentication and shown nowhere. A function is called
            for each attempt.
        proxies: a proxy's URL; or URLs by ``"http"`` (for ws) and ``"https"`` (for wss); or a function that
            is given the URL at each attempt and returns one. None is for those of the environment, ``{}``
            for none. Proxies are http, https, socks4, socks4a, socks5 or socks5h.
        protocols: subprotocols to offer, best first; a function is called for each attempt.
        agent: the User-Agent.
        compress: offer permessage-deflate (RFC 7692): True, or a `Deflate` with details.
        ssl_verify: verify the server's certificate and name.
        ssl_cafile: a file of certificate authorities to trust besides the system's.
        ssl_context: used for TLS as it is and never altered; then the two above are ignored.
        trace: a function that gets a dict for each step, or True for the debug log.
        headers: additional headers, a mapping or pairs; they replace built-in ones of the same name.
            A function is called for each attempt, to give a fresh token for example.
        origin: the Origin header.
        subprotocols: another name for `protocols`.
        auth: user name and password for Basic authentication, or a function that is called for each
            request and returns them, or a bearer token as a str.
        cookies: a cookie jar: what it has for the URL is sent, and what the server sets goes into it.
        max_redirects: how many are followed in one attempt, never from wss to ws, without credentials
            to another origin; 0 for none.
        open_timeout: seconds for the whole opening, from name resolution to upgrade; None for no limit.
        phase_timeouts: seconds by phase: ``"dns"``, ``"tcp"``, ``"proxy"``, ``"tls"``, ``"upgrade"``.
        proxy_headers: as `headers`, for an HTTP proxy alone.
        proxy_auth: ``"basic"``, ``"digest"``, or ``"auto"``: Basic, then Digest if the proxy asks for that.
        ssl_system_store: trust the system's authorities (through truststore if that is installed);
            False for those of `ssl_cafile` alone.
        ssl_certfile, ssl_keyfile, ssl_password: our own certificate, its key if that is in a file of its
            own, and the key's password.
        ssl_pins: by host pattern, the SHA-256 of the certificates that such hosts may show.
        server_hostname: the name in the server's certificate, if it is not the URL's host.
        unix: the path of a Unix socket to connect to instead; the URL's host is only told to the server.
        sock: a connected socket to use, for one attempt; it may have done its TLS handshake.
        connect: a function from host and port to such a socket, called at each attempt in its own thread.
        source_address: IP address and port to connect from; port 0 for any.
        socket_options: arguments for `socket.setsockopt`, such as ``(SOL_SOCKET, SO_KEEPALIVE, 1)``.
        max_message_size: the largest message that is received, in bytes after decompression; a larger
            one ends the connection with close code 1009. None for no limit.
        max_queue: bytes that may wait to be sent.
        when_full: what a send does that finds no room: ``"raise"`` QueueFull, ``"block"`` until there is
            room (never in a handler or in the iterating thread), or ``"drop"`` the message.
        send_timeout: seconds that ``"block"`` waits before QueueFull is raised; None for no limit.

    Raises:
        TypeError, ValueError: an argument is wrong; the message says which and what would be right.
        FileNotFoundError: there is no file `ssl_cafile`.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        proxies: Proxies = None,
        protocols: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        agent: str | None = None,
        compress: bool | Deflate = False,
        ssl_verify: bool = True,
        ssl_cafile: str | os.PathLike[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        trace: TraceFunction | bool | None = None,
        *,
        proxy_headers: Headers | Callable[[], Headers] | None = None,
        proxy_auth: Literal["auto", "basic", "digest"] = "auto",
        headers: Headers | Callable[[], Headers] | None = None,
        origin: str | None = None,
        subprotocols: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        auth: Auth | None = None,
        cookies: CookieJar | None = None,
        max_redirects: int = 10,
        open_timeout: float | None = 30.0,
        phase_timeouts: Mapping[str, float | None] | None = None,
        ssl_system_store: bool = True,
        ssl_certfile: str | os.PathLike[str] | None = None,
        ssl_keyfile: str | os.PathLike[str] | None = None,
        ssl_password: Password | None = None,
        ssl_pins: Pins | None = None,
        server_hostname: str | None = None,
        unix: str | None = None,
        sock: socket.socket | None = None,
        connect: Callable[[str, int], socket.socket] | None = None,
        source_address: tuple[str, int] | None = None,
        socket_options: Iterable[SocketOption] | None = None,
        max_message_size: int | None = 64 * MIB,
        max_queue: int = 16 * MIB,
        when_full: Literal["raise", "block", "drop"] = "raise",
        send_timeout: float | None = 30.0,
    ) -> None:
        if subprotocols is not None:
            if protocols is not None:
                raise ValueError("protocols and subprotocols are the same: give one of them")
            protocols = subprotocols
        self._headers = as_given_headers(headers)
        self._added_headers: tuple[tuple[str, str], ...] = ()
        self._options = Options(
            proxies=proxies, proxy_auth=proxy_auth, proxy_headers=as_given_headers(proxy_headers),
            protocols=protocols if callable(protocols) else as_protocols(protocols),
            agent=USER_AGENT if agent is None else agent, deflate=as_deflate(compress), ssl_verify=ssl_verify,
            ssl_cafile=ssl_cafile, ssl_context=ssl_context, ssl_system_store=ssl_system_store,
            ssl_certfile=ssl_certfile, ssl_keyfile=ssl_keyfile, ssl_password=ssl_password,
            ssl_pins=as_pins(ssl_pins), server_hostname=server_hostname, trace=trace,
            headers=self._all_headers, origin=origin, auth=auth, cookies=cookies, max_redirects=max_redirects,
            open_timeout=open_timeout, phase_timeouts=as_phase_timeouts(phase_timeouts), unix=unix, sock=sock,
            connect=connect, source_address=source_address, socket_options=as_socket_options(socket_options),
            max_message_size=max_message_size, max_queue=max_queue, when_full=when_full,
            send_timeout=send_timeout,
        )
        self._dialler = Dialler(self._options, url)
        #: The URL without credentials; for a function as URL, its name.
        self.url: str = getattr(url, "__name__", repr(url)) if callable(url) else redacted(url)
        self._endpoint = self._dialler.endpoint
        self._traffic = Traffic()
        # The event `close_called`, once somebody has asked for it: few do, and it is large. Where two threads
        # ask at once there may be two, of which both get the first.
        self._close_events: list[threading.Event] = []
        self._life: Life = Iteration(self._dialler, self._options, self._traffic, self.url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    # Iterating.

    def connect(
        self,
        poll: float | None = 5.0,
        ping_rate: float | None = 30.0,
        ping_timeout: float | Literal["auto"] | None = "auto",
        auto_pong: bool = True,
        close_timeout: float | None = 30.0,
    ) -> Generator[events.Event, None, None]:
        """Connect once, and iterate what happens. The network is used while the caller asks for events.

        Args:
            poll: seconds between Poll events; 0 or None for none.
            ping_rate: seconds between automatic pings; 0 or None for none.
            ping_timeout: seconds that a ping may go without any byte from the server before the
                connection is given up; ``"auto"`` is twice the ping rate, 0 or None is never.
            auto_pong: whether pings are answered.
            close_timeout: seconds that the server gets to answer a Close frame and to end the
                connection; 0 or None for no limit.

        Raises:
            TypeError, ValueError: an argument is wrong.
            WebSocketError: when iterating: another iteration of this WebSocket is under way.
        """
        timing = Timing(
            poll=poll, ping_rate=ping_rate, ping_timeout=ping_timeout, auto_pong=auto_pong,
            close_timeout=close_timeout,
        )
        iteration = self._life
        assert isinstance(iteration, Iteration)  # a WebSocketApp has a method of its own
        return iteration.iterate(timing)

    def __iter__(self) -> Iterator[events.Event]:
        return self.connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close. An iteration still under way gets to finish its closing handshake when it goes on."""
        self.close()

    # For any thread, at any time.

    def send_text(self, text: str, compress: bool = True) -> bool:
        """Send a text message. May be called from any thread; never blocks in the network.

        Args:
            text: the message.
            compress: whether it is compressed if the server agreed to permessage-deflate.

        Returns:
            True; False if the message was dropped because the queue is full (``when_full="drop"``).

        Raises:
            TypeError: the text is no str.
            ValueError: it has lone surrogates and cannot be encoded as UTF-8.
            WebSocketUnavailable: the WebSocket is not open; the text says which state it is in.
                `WebSocketClosing` if our Close frame was sent.
            QueueFull: there is no room in the queue.
            TransportFail: the network failed; the message was not sent whole.
        """
        if not isinstance(text, str):
            raise TypeError(f"send_text: expected a str, not {type(text).__name__}")
        connection = self._life.sendable
        if connection is None:
            raise self._unavailable()
        sending = connection.sending
        if sending.is_plain and type(text) is str and text.isascii() and len(text) < LARGE_BYTES:
            return sending.queue.push(text, len(text))  # one step less for what is sent most
        return sending.send_text(text, compress)

    def send_binary(self, data: BytesLike, compress: bool = True) -> bool:
        """Send a binary message: any bytes-like object, copied at once. Else as `send_text`."""
        payload = as_bytes("send_binary", data)
        return self._sending().send_binary(payload, compress)

    def send_json(
        self,
        _obj: Any = ...,
        /,
        *,
        compress: bool = True,
        encoder: Callable[[Any], str] = json.dumps,
        **fields: Any,
    ) -> bool:
        """Send an object as JSON, in a text message: one positional object, or keywords.

        Fields called ``compress`` or ``encoder`` need the positional form.

        Args:
            compress: as for `send_text`.
            encoder: turns the object into text.

        Raises:
            ValueError: both an object and keywords were given.
            TypeError: the object cannot be written as JSON.
            WebSocketUnavailable, QueueFull, TransportFail: as for `send_text`.
        """
        if _obj is not ... and fields:
            raise ValueError("send_json: give one object or keywords, not both")
        return self.send_text(encoder(fields if _obj is ... else _obj), compress)

    def send_many(self, messages: Iterable[str | BytesLike], compress: bool = True) -> bool:
        """Send messages in one go, str as text and bytes-like objects as binary; nothing comes between them.

        Cheaper than one call for each. All are accepted, or none: if the network fails when some were sent
        whole, the others are in `Disconnected.unsent`. Returns and raises as `send_text`.
        """
        checked = [
            message if isinstance(message, str) else as_bytes("send_many", message) for message in messages
        ]
        return self._sending().send_many(checked, compress)

    @contextmanager
    def corked(self) -> Iterator[None]:
        """Let messages gather while the ``with`` block runs; its end sends them, in few system calls.

        For bursts that take a while to make. What any thread sends waits with them, but for full
        batches.

        Raises:
            WebSocketUnavailable: the WebSocket is not open.
        """
        queue = self._sending().queue
        queue.cork()
        try:
            yield
        finally:
            queue.uncork()

    def send_ping(self, data: BytesLike = b"") -> None:
        """Send a ping with at most 125 bytes. Its Pong tells the latency if the data is unique.

        Raises:
            TypeError: the data is not bytes-like.
            ValueError: it has more than 125 bytes.
            WebSocketUnavailable, QueueFull, TransportFail: as for `send_text`.
        """
        payload = as_control_payload("send_ping", data)
        self._past_gates().send_ping(payload)

    def send_pong(self, data: BytesLike) -> None:
        """Send a pong that nobody asked for, with at most 125 bytes. Errors as for `send_ping`."""
        payload = as_control_payload("send_pong", data)
        self._past_gates().send_pong(payload)

    def close(self, code: int | None = 1000, reason: str | bytes = "goodbye") -> None:
        """Close: send our Close frame, once; what the server still sends is received.

        May be called from any thread, in a handler or the iterating loop, in any state and any number
        of times; never blocks. An attempt to connect is called off.

        Args:
            code: 1000 to 1003, 1007 to 1014 or 3000 to 4999, or None for a Close frame without.
            reason: text, or its UTF-8; cut to 123 bytes at the end of a character.

        Raises:
            TypeError, ValueError: code or reason may not be sent.
        """
        encode_close(code, reason)
        self.close_called.set()
        self._life.close(code, as_reason(reason))

    @property
    def close_called(self) -> threading.Event:
        """Set by `close`; cleared when `persist` begins."""
        if not self._close_events:
            self._close_events.append(threading.Event())
        return self._close_events[0]

    def force_disconnect(self, reason: str = "force_disconnect was called") -> None:
        """Drop the connection without waiting for a closing handshake. May be called from any thread.

        Args:
            reason: why, for `Disconnected.reason` and for the server.
        """
        if not isinstance(reason, str):
            raise TypeError(f"force_disconnect: reason={reason!r}: expected a str")
        self._life.drop(reason)

    @property
    def state(self) -> State:
        """Where the WebSocket is in its life."""
        return self._life.state

    @property
    def is_active(self) -> bool:
        """Whether messages can be sent."""
        return self._life.sendable is not None and self._life.state is State.OPEN

    @property
    def is_closing(self) -> bool:
        """Whether our Close frame was sent and the connection has not ended yet."""
        return self._life.state is State.CLOSING

    @property
    def is_closed(self) -> bool:
        """Whether the connection, or the attempt, has ended and none is to follow."""
        return self._life.state is State.STOPPED

    @property
    def supports_compression(self) -> bool:
        """Whether there is a connection and the server agreed to permessage-deflate."""
        connection = self._life.connection
        return connection is not None and connection.supports_compression

    @property
    def tls(self) -> TLS | None:
        """What TLS has agreed on with the server when the connection was opened, and its certificate.

        None without a connection, and without TLS to the server itself: what a proxy has agreed on does not
        count. A connection may have ended before the handlers of its last events run. Any thread; never
        blocks.
        """
        connection = self._life.connection
        return None if connection is None else connection.tls

    @property
    def latency(self) -> float | None:
        """Seconds between the connection's last answered ping and its pong, or None."""
        connection = self._life.connection
        return None if connection is None else connection.latency

    @property
    def queued_bytes(self) -> int:
        """About how many accepted bytes wait for the network to take them; 0 without a connection."""
        connection = self._life.connection
        return 0 if connection is None else connection.sending.queue.waiting_bytes

    @property
    def counters(self) -> Counters:
        """What was moved since the WebSocket was made, over all its connections."""
        return self._traffic.with_open(self._life.connection)

    def add_header(self, header: str | bytes, value: str | bytes) -> None:
        """Add a header to the upgrade requests to come, besides those of the constructor.

        Raises:
            TypeError, ValueError: as for the constructor's `headers`.
        """
        self._added_headers += as_headers([(header, value)])

    @property
    def is_secure(self) -> bool:
        """Whether the URL is ``wss://``. False if the URL is a function."""
        return self._endpoint is not None and self._endpoint.is_secure

    def _all_headers(self) -> Headers:
        headers = self._headers() if callable(self._headers) else self._headers
        return (*as_headers(headers), *self._added_headers)

    def _sending(self) -> SendingHalf:
        connection = self._life.sendable
        if connection is None:
            raise self._unavailable()
        return connection.sending

    def _past_gates(self) -> SendingHalf:
        connection = self._life.connection
        if connection is None:
            raise self._unavailable()
        return connection.sending

    def _unavailable(self) -> WebSocketUnavailable:
        life = self._life
        if life.connection is not None and life.sendable is None:
            return WebSocketUnavailable("data not sent: a gate is shut until what must be said first is said")
        kind = WebSocketClosed if life.state is State.STOPPED else WebSocketUnavailable
        return kind(f"data not sent: {describe(life.state, life.is_forked_copy)}")
