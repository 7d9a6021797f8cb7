"""What a user may choose, checked at once: `Deflate`, and the options of a WebSocket by group.

Sizes are bytes, times are seconds. A wrong value is refused where it is given, never later.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, TypeGuard

from .version import __version__

MIB = 1024 * 1024

#: The default User-Agent: name and version, and nothing about the machine.
USER_AGENT = f"lochws/{__version__} Python/{sys.version.split()[0]}"

Headers: TypeAlias = Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[str | bytes, str | bytes]]
#: A proxy's URL, proxy URLs by key, a function of the endpoint's URL, or None for the environment.
Proxies: TypeAlias = str | Mapping[str, str | None] | Callable[[str], str | None] | None
#: Headers, checked, or a function that returns some to be checked.
GivenHeaders: TypeAlias = tuple[tuple[str, str], ...] | Callable[[], Headers]
#: User name and password for Basic authentication, or a function that returns them, a bearer token, or None.
Auth: TypeAlias = tuple[str, str] | Callable[[], tuple[str, str] | str | None]
#: What `socket.setsockopt` takes.
SocketOption: TypeAlias = tuple[int, int, int | bytes]
Password: TypeAlias = str | bytes | Callable[[], str | bytes]
TraceFunction: TypeAlias = Callable[[dict[str, Any]], object]


class CookieJar(Protocol):
    """What `http.cookiejar.CookieJar` is to lochws, without that module, which is as large as all of ours."""

    def add_cookie_header(self, request: Any, /) -> None:
        """Give a `urllib.request.Request` its Cookie header."""

    def extract_cookies(self, response: Any, request: Any, /) -> None:
        """Take in what an answer sets."""

    def __len__(self) -> int:
        """How many cookies there are."""


PROXY_AUTH = ("auto", "basic", "digest")
WHEN_FULL = ("raise", "block", "drop")
ON_HANDLER_ERROR = ("continue", "reconnect", "stop")
#: The phases of an opening that can have a limit of their own.
PHASES = ("resolve", "tcp", "proxy", "tls", "upgrade")

# RFC 9110 section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Headers that make the upgrade what it is: a user's value could only break it.
_RESERVED_HEADERS = frozenset({
    "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "sec-websocket-accept",
    "sec-websocket-protocol", "sec-websocket-extensions", "content-length", "transfer-encoding",
})


@dataclass(frozen=True, kw_only=True)
class Deflate:
    """What to offer for permessage-deflate (RFC 7692); ``compress=True`` stands for ``Deflate()``.

    Attributes:
        server_max_window_bits: ask the server to keep to a window of 2**n bytes, 8 to 15, or None.
        client_max_window_bits: our own window, 9 to 15. zlib cannot deflate with a window of 8 bits:
            if the server insists on that, messages are sent uncompressed.
        server_no_context_takeover: ask the server to start each message afresh. Saves us memory.
        client_no_context_takeover: start each message afresh ourselves. Saves the server memory.
        level: zlib's compression level, 0 to 9, or -1 for its default.
        memory: zlib's ``memLevel``, 1 to 9.
        threshold: messages with fewer bytes are sent uncompressed.
        required: whether a server without permessage-deflate is turned down with close code 1010.
    """

    server_max_window_bits: int | None = None
    client_max_window_bits: int = 15
    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    level: int = -1
    memory: int = 8
    threshold: int = 0
    required: bool = False

    def __post_init__(self) -> None:
        if self.server_max_window_bits is not None:
            check_range("server_max_window_bits", self.server_max_window_bits, 8, 15)
        check_range("client_max_window_bits", self.client_max_window_bits, 9, 15)
        check_range("level", self.level, -1, 9)
        check_range("memory", self.memory, 1, 9)
        check_range("threshold", self.threshold, 0, None)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Options:
    """Everything about a WebSocket but its URL. `lochws.WebSocket` documents each one."""

    proxies: Proxies = field(default=None, repr=False)
    protocols: tuple[str, ...] | Callable[[], Iterable[str]] = ()
    agent: str = USER_AGENT
    deflate: Deflate | None = None
    ssl_verify: bool = True
    ssl_cafile: str | os.PathLike[str] | None = None
    ssl_context: ssl.SSLContext | None = None
    trace: TraceFunction | bool | None = None
    proxy_headers: GivenHeaders = field(default=(), repr=False)
    proxy_auth: Literal["auto", "basic", "digest"] = "auto"
    ssl_certfile: str | os.PathLike[str] | None = None
    ssl_keyfile: str | os.PathLike[str] | None = None
    ssl_password: Password | None = field(default=None, repr=False)
    ssl_system_store: bool = True
    ssl_pins: tuple[tuple[str, str], ...] = ()
    server_hostname: str | None = None
    headers: GivenHeaders = field(default=(), repr=False)
    origin: str | None = None
    auth: Auth | None = field(default=None, repr=False)
    cookies: CookieJar | None = field(default=None, repr=False)
    max_redirects: int = 10
    unix: str | None = None
    sock: socket.socket | None = None
    connect: Callable[[str, int], socket.socket] | None = None
    source_address: tuple[str, int] | None = None
    socket_options: tuple[SocketOption, ...] = ()
    open_timeout: float | None = 30.0
    phase_timeouts: Mapping[str, float] = field(default_factory=dict)
    max_message_size: int | None = 64 * MIB
    max_queue: int = 16 * MIB
    when_full: Literal["raise", "block", "drop"] = "raise"
    send_timeout: float | None = 30.0

    def __post_init__(self) -> None:
        check_header("User-Agent", self.agent)
        if self.origin is not None:
            check_header("Origin", self.origin)
        _check_kind("ssl_verify", self.ssl_verify, bool, "True or False")
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            if getattr(self, name) is not None:
                _check_kind(name, getattr(self, name), (str, os.PathLike), "a path, or None")
        _check_kind("ssl_system_store", self.ssl_system_store, bool, "True or False")
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError("ssl_keyfile without ssl_certfile: whose key is it?")
        if self.ssl_context is not None:
            _check_kind("ssl_context", self.ssl_context, ssl.SSLContext, "an ssl.SSLContext, or None")
        if self.server_hostname is not None:
            _check_kind("server_hostname", self.server_hostname, str, "a name, or None")
        if self.trace is not None and not callable(self.trace):
            _check_kind("trace", self.trace, bool, "a function, True, False or None")
        if self.auth is not None and not callable(self.auth):
            _check_auth(self.auth)
        if self.cookies is not None and not hasattr(self.cookies, "add_cookie_header"):
            # The values may be secrets.
            raise TypeError(f"cookies: expected http.cookiejar.CookieJar, not {type(self.cookies).__name__}")
        _check_own_sockets(self)
        check_range("max_redirects", self.max_redirects, 0, None)
        check_seconds("open_timeout", self.open_timeout)
        check_seconds("send_timeout", self.send_timeout)
        if self.max_message_size is not None:
            check_range("max_message_size", self.max_message_size, 1, None)
        check_range("max_queue", self.max_queue, 1, None)
        check_choice("when_full", self.when_full, WHEN_FULL)
        check_choice("proxy_auth", self.proxy_auth, PROXY_AUTH)


@dataclass(frozen=True, kw_only=True, eq=False)
class Timing:
    """What `WebSocket.connect` takes: how a connection is kept and ended.

    Attributes:
        poll: seconds between Poll events; 0 or None for none.
        ping_rate: seconds between automatic pings; 0 or None for none.
        ping_timeout: seconds that a ping may go without a sign of life, any received byte being one;
            ``"auto"`` is twice the ping rate; 0 or None for no limit.
        auto_pong: whether pings are answered.
        close_timeout: seconds after the first Close frame until the connection is dropped; 0 or None
            for no limit.
    """

    poll: float | None = 5.0
    ping_rate: float | None = 30.0
    ping_timeout: float | Literal["auto"] | None = "auto"
    auto_pong: bool = True
    close_timeout: float | None = 30.0

    def __post_init__(self) -> None:
        check_seconds("poll", self.poll)
        check_seconds("ping_rate", self.ping_rate)
        if self.ping_timeout != "auto":
            check_seconds("ping_timeout", self.ping_timeout)
        check_seconds("close_timeout", self.close_timeout)
        _check_kind("auto_pong", self.auto_pong, bool, "True or False")

    @property
    def ping_limit(self) -> float:
        """`ping_timeout` with ``"auto"`` worked out; 0 for no limit."""
        if self.ping_timeout == "auto":
            return 2 * (self.ping_rate or 0)
        return self.ping_timeout or 0


def as_deflate(compress: bool | Deflate) -> Deflate | None:
    """The offer that `compress` stands for, or None for no compression."""
    if isinstance(compress, Deflate):
        return compress
    if isinstance(compress, bool):
        return Deflate() if compress else None
    raise TypeError(f"compress={compress!r}: expected True, False or a Deflate")


def as_headers(headers: Headers) -> tuple[tuple[str, str], ...]:
    """Header fields as pairs of str, each checked. Bytes are taken as Latin-1, as HTTP does.

    Raises:
        TypeError: a name or value is neither str nor bytes.
        ValueError: a name is no token, a value has CR, LF or NUL in it, or the header is one of those
            that make the upgrade.
    """
    if not isinstance(headers, (Mapping, Iterable)):
        raise TypeError(f"headers={headers!r}: expected a mapping, or pairs of name and value")
    pairs: list[tuple[str, str]] = []
    for given in headers.items() if isinstance(headers, Mapping) else headers:
        pair = _as_text(given)
        if not isinstance(pair, tuple) or len(pair) != 2:
            expected = "{'Name': 'value'}, or pairs of name and value"
            raise TypeError(f"headers: expected {expected}, not {type(given).__name__}")
        name, value = pair
        check_header(name, value)
        if name.lower() in _RESERVED_HEADERS:
            raise ValueError(f"header {name!r} belongs to the upgrade itself: lochws writes it")
        pairs.append((name, value))
    return tuple(pairs)


def as_given_headers(headers: Headers | Callable[[], Headers] | None) -> GivenHeaders:
    """As `as_headers`, but a function is left alone, to be called at each attempt."""
    return headers if callable(headers) else as_headers(headers or ())


def as_phase_timeouts(limits: Mapping[str, float | None] | None) -> dict[str, float]:
    """Limits by phase, each checked; ``"dns"`` stands for ``"resolve"``, and None for no limit.

    Raises:
        TypeError: it is no mapping, or a limit is no number.
        ValueError: there is no such phase, or a limit is negative.
    """
    if limits is None:
        return {}
    if not isinstance(limits, Mapping):
        raise TypeError(f"phase_timeouts={limits!r}: expected a mapping of phases to seconds")
    checked = {}
    for phase, seconds in limits.items():
        name = "resolve" if phase == "dns" else phase
        check_choice("phase_timeouts: phase", name, PHASES)
        check_seconds(f"phase_timeouts: {phase}", seconds)
        if seconds is not None:
            checked[name] = seconds
    return checked


def as_socket_options(options: Iterable[SocketOption] | None) -> tuple[SocketOption, ...]:
    """Arguments for `socket.setsockopt`, each checked.

    Raises:
        TypeError: one is no level, option and value.
    """
    checked = tuple(options or ())
    for option in checked:
        right = isinstance(option, tuple) and len(option) == 3 and isinstance(option[2], (int, bytes))
        if not right or not all(isinstance(number, int) for number in option[:2]):
            raise TypeError(f"socket_options: {option!r}: expected (level, option, value)")
    return checked


def as_protocols(protocols: Iterable[str] | None) -> tuple[str, ...]:
    """Subprotocols as a tuple, each checked (RFC 6455 section 4.1 item 10: tokens, no repetition)."""
    if isinstance(protocols, str) or not isinstance(protocols, (Iterable, type(None))):
        raise TypeError(f"protocols={protocols!r}: expected a list of str, such as [{protocols!r}]")
    names = tuple(protocols or ())
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"subprotocol {name!r}: expected a str")
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"subprotocol {name!r} is no token (RFC 9110 section 5.6.2)")
    if len(set(names)) != len(names):
        raise ValueError(f"protocols={list(names)!r} has a repetition")
    return names


def check_header(name: str, value: str) -> None:
    """Refuse a header that would break out of its line or is none (RFC 9110 section 5)."""
    if not isinstance(name, str):
        raise TypeError(f"header name {name!r}: expected a str")
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"header name {name!r} is no token (RFC 9110 section 5.6.2)")
    if not isinstance(value, str):
        raise TypeError(f"header {name!r}: expected a str as its value, not {type(value).__name__}")
    # The value may be a secret: it is not repeated in the message.
    if any(char in value for char in "\r\n\0"):
        raise ValueError(f"header {name!r} has CR, LF or NUL in its value")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}")


def _check_kind(name: str, value: object, kind: type | tuple[type, ...], expected: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name}={value!r}: expected {expected}")


def _check_auth(auth: object) -> None:
    # The values stay secret.
    if not _is_pair_of_str(auth):
        raise TypeError("auth: expected (user, password), two str, or a function")
    if ":" in auth[0]:
        raise ValueError("auth: a user name with a colon is more than Basic authentication can express")


def check_seconds(name: str, value: float | None) -> None:
    """Refuse what is neither a number of seconds, from 0 up, nor None for no limit."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r}: expected seconds, or None")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name}={value!r}: expected seconds from 0 up, or None")


def check_range(name: str, value: int, low: int, high: int | None = None) -> None:
    """Refuse what is no whole number in the range; `high` None is for no upper end."""
    expected = f"from {low} up" if high is None else f"from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r}: expected a whole number {expected}")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name}={value!r}: expected a whole number {expected}")


def _is_pair_of_str(pair: object) -> TypeGuard[tuple[str, str]]:
    return isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, str) for part in pair)


def _as_text(pair: Any) -> Any:
    """A header's name and value with bytes decoded, the way of HTTP (RFC 9110 section 5.5)."""
    if not isinstance(pair, (tuple, list)):
        return pair
    return tuple(part.decode("latin-1") if isinstance(part, bytes) else part for part in pair)


def _check_own_sockets(options: Options) -> None:
    """Refuse what cannot be where the user says how the connection is made."""
    given = [name for name in ("unix", "sock", "connect") if getattr(options, name) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} were given: only one can be the connection")
    if given and options.proxies:
        raise ValueError(f"{given[0]} and proxies were given: that leads through no proxy")
    if options.unix is not None and not isinstance(options.unix, str):
        raise TypeError(f"unix={options.unix!r}: expected the path of a socket")
    if options.sock is not None and not isinstance(options.sock, socket.socket):
        raise TypeError(f"sock={options.sock!r}: expected a connected socket")
    if options.connect is not None and not callable(options.connect):
        raise TypeError(f"connect={options.connect!r}: expected a function of host and port")
    source = options.source_address
    if source is None:
        return
    if not isinstance(source, tuple) or len(source) != 2 or not isinstance(source[1], int):
        raise TypeError(f"source_address={source!r}: expected (address, port)")
    try:
        ipaddress.ip_address(source[0])
    except ValueError:
        raise ValueError(f"source_address={source!r}: expected an IP address, not a name") from None
