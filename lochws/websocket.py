"""WebSocket: an endpoint and its options; iterate it, send on it, close it."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from . import events
from .life.counters import Traffic
from .life.iteration import Iteration, Life
from .messaging import Messaging
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
from .transport.pins import Pins, as_pins
from .url import redacted

if TYPE_CHECKING:
    from typing_extensions import Self


class WebSocket(Messaging):
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
        self._close_events = []
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
