"""The options of a WebSocket: their types, documentation, defaults and checks.

`WebSocketOptions` declares and documents the keyword options, for type checkers and for people. `Options`
holds them as lochws uses them, with a default and a check for each. Sizes are in bytes, times in seconds.
An invalid value is refused as soon as it is passed, never later.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from itertools import chain, pairwise
from math import isnan
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeGuard, TypeVar

from .base.records import field, fields_of, parameters_of, record
from .codec import JSON, Codec, Dumps, check_function
from .version import __version__

if TYPE_CHECKING:
    import ssl
    from inspect import Signature
    from types import FunctionType
    from typing import TypedDict
else:
    class TypedDict(dict):
        """Replaces `typing.TypedDict`, which takes a millisecond to compile each annotation."""

        def __init_subclass__(cls, *, total=True):
            cls.__total__ = total
            cls.__annotations__ = {**getattr(cls.__base__, "__annotations__", {}), **cls.__annotations__}

_Class = TypeVar("_Class", bound=type)

MIB = 1024 * 1024

#: The default User-Agent: names and versions of lochws and Python, and nothing about the machine.
USER_AGENT = f"lochws/{__version__} Python/{sys.version.split()[0]}"

#: A URL, or a function that returns one for each attempt.
URL: TypeAlias = str | Callable[[], str]
Headers: TypeAlias = Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[str | bytes, str | bytes]]
#: Subprotocols in order of preference, or a function that returns them for each attempt.
Protocols: TypeAlias = Iterable[str] | Callable[[], Iterable[str]]
#: A proxy URL, proxy URLs by key, a function from the endpoint's URL to a proxy URL, or None for the
#: proxies set in the environment.
Proxies: TypeAlias = str | Mapping[str, str | None] | Callable[[str], str | None] | None
#: Headers that have been checked, or a function whose headers are checked at each attempt.
GivenHeaders: TypeAlias = tuple[tuple[str, str], ...] | Callable[[], Headers]
#: User name and password for Basic authentication; or a function that returns them, a bearer token, or None.
Auth: TypeAlias = tuple[str, str] | Callable[[], tuple[str, str] | str | None]
#: For each host pattern, one or several certificate digests.
Pins: TypeAlias = Mapping[str, str | Iterable[str]]
#: The arguments of `socket.setsockopt`.
SocketOption: TypeAlias = tuple[int, int, int | bytes]
Password: TypeAlias = str | bytes | Callable[[], str | bytes]
TraceFunction: TypeAlias = Callable[[dict[str, Any]], object]
#: Converts an object to JSON, as str or UTF-8 bytes.
Encoder: TypeAlias = Dumps


class CookieJar(Protocol):
    """The part of `http.cookiejar.CookieJar` that lochws uses, declared here to avoid that large import."""

    def add_cookie_header(self, request: Any, /) -> None:
        """Add the Cookie header to a `urllib.request.Request`."""

    def extract_cookies(self, response: Any, request: Any, /) -> None:
        """Store the cookies that a response sets."""

    def __len__(self) -> int:
        """Return the number of cookies."""


PROXY_AUTH = ("auto", "basic", "digest")
WHEN_FULL = ("raise", "block", "drop")
TEXT_AS = ("str", "bytes")
REDIRECT_HEADERS = ("own", "all")
ON_HANDLER_ERROR = ("continue", "reconnect", "stop")
ON_STALE = ("reconnect", "tell")
#: The largest value of the option `history`.
MAX_HISTORY = 100_000
#: The phases of an opening that can have their own time limit.
PHASES = ("resolve", "tcp", "proxy", "tls", "upgrade")

# RFC 9110 section 5.6.2.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# Headers that are part of the upgrade itself: a user's value could only break it.
_RESERVED_HEADERS = frozenset({
    "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "sec-websocket-accept",
    "sec-websocket-protocol", "sec-websocket-extensions", "content-length", "transfer-encoding",
})
# The arguments of setsockopt are C integers; some constants have the highest bit set.
_C_INT = range(-(2**31), 2**32)
# Compiled only when pins are used.
_PIN_PREFIX = r"sha-?256[:/ ]\s*"
_PIN_DIGEST = r"[0-9a-f]{64}"


class WebSocketOptions(TypedDict, total=False):
    """The keyword options of `lochws.WebSocket` and `lochws.WebSocketApp`."""

    headers: Headers | Callable[[], Headers] | None
    """Additional request headers, a mapping or pairs; they replace built-in ones of the same name. A function
    is called for each attempt, for example to supply a fresh token. Default: None."""
    origin: str | None
    """The Origin header. Default: None, which sends none."""
    auth: Auth | None
    """User name and password for Basic authentication; or a function, called for each request, that returns
    them, or a bearer token as a str, or None. Default: None."""
    cookies: CookieJar | None
    """A cookie jar such as `http.cookiejar.CookieJar`: its cookies for the URL are sent, and cookies that the
    server sets are stored in it. Default: None."""
    require_protocol: bool
    """Whether to reject a server that agrees to none of the `protocols`. Default: False."""
    max_redirects: int
    """How many redirects to follow per attempt. Redirects from wss to ws are never followed, and credentials
    are never sent to another origin; 0 follows none. Default: 10."""
    redirect_headers: Literal["own", "all"]
    """What to send when a redirect leads to another origin: ``"own"`` sends the headers that lochws makes
    itself and those `protocols` that do not look like a credential; ``"all"`` sends all of `headers` (except
    Host) and `protocols`. `auth` and the URL's user name and password are never sent there.
    Default: 'own'."""
    open_timeout: float | None
    """Seconds for the whole opening, from name resolution to upgrade; None for no limit. Default: 30.0."""
    phase_timeouts: Mapping[str, float | None] | None
    """Seconds by phase of the opening: ``"dns"``, ``"tcp"``, ``"proxy"``, ``"tls"``, ``"upgrade"``.
    Default: None."""
    proxy_headers: Headers | Callable[[], Headers] | None
    """Additional headers that are sent only to an HTTP proxy, in the same forms as `headers`.
    Default: None."""
    proxy_auth: Literal["auto", "basic", "digest"]
    """How to authenticate to an HTTP proxy: ``"basic"``, ``"digest"``, or ``"auto"``, which uses Basic first
    and Digest if the proxy asks for it. Default: 'auto'."""
    ssl_system_store: bool
    """Whether to trust the system's certificate authorities (on macOS and Windows through truststore if that
    is installed); False trusts only those in `ssl_cafile`. Default: True."""
    ssl_certfile: str | os.PathLike[str] | None
    """A file with the client certificate, for servers that ask for one. Default: None."""
    ssl_keyfile: str | os.PathLike[str] | None
    """A file with the private key of `ssl_certfile`, if the key is not in the same file. Default: None."""
    ssl_password: Password | None
    """The password of that key, or a function that returns it. Default: None."""
    ssl_pins: Pins | None
    """Certificate pins: a mapping from host patterns (``*`` matches anything) to the SHA-256 digests, in
    hexadecimal, of the certificates that such a host may present. Default: None."""
    server_hostname: str | None
    """The name to expect in the server's certificate, if it is not the URL's host. Default: None."""
    unix: str | None
    """The path of a Unix socket to connect to; the URL's host is then only sent to the server, not looked up.
    Default: None."""
    sock: socket.socket | None
    """A connected socket to use for a single attempt; its TLS handshake may already be complete.
    Default: None."""
    connect: Callable[[str, int], socket.socket] | None
    """A function that takes a host and port and returns a connected socket. It is called for each attempt, in
    a separate thread. Default: None."""
    source_address: tuple[str, int] | None
    """The IP address and port to connect from; port 0 for any. Default: None."""
    socket_options: Iterable[SocketOption] | None
    """Arguments for `socket.setsockopt`, such as ``[(SOL_SOCKET, SO_KEEPALIVE, 1)]``. Default: None."""
    max_message_size: int | None
    """The largest message to accept, in bytes after decompression; a larger one ends the connection with
    close code 1009. None for no limit. Default: 64 MiB."""
    stream_above: int | None
    """Messages with more bytes than this, after decompression, are passed on as a `Stream` event while they
    arrive, in place of a Text or Binary. At most `max_message_size`. None for no streams. Default: None."""
    max_stream_size: int | None
    """The largest message to accept as a stream, in bytes after decompression; a larger one ends the
    connection with close code 1009. None for no limit. Default: None."""
    max_queue: int
    """How many bytes may wait to be sent. Default: 16 MiB."""
    fragment: int | None
    """The largest payload of a frame in bytes. A larger message is sent in fragments of this size (RFC 6455
    section 5.4), so that pings and pongs need not wait until all of it is sent. None sends each message in a
    single frame. Default: 256 KiB."""
    when_full: Literal["raise", "block", "drop"]
    """What a send does when the queue has no room: ``"raise"`` QueueFull, ``"block"`` until there is room
    (never in a handler or in the iterating thread), or ``"drop"`` the message. Default: 'raise'."""
    send_timeout: float | None
    """Seconds that a send with ``when_full="block"`` waits before it raises QueueFull; None for no limit.
    Default: 30.0."""
    rate: Rate | None
    """How many messages the server accepts in a given time, such as ``Rate(5, per=1.0)``: messages over that
    limit are queued and sent, in order, as soon as it allows. Default: None, for no limit."""
    encoder: Encoder | None
    """A function that converts the objects passed to `send_json` to JSON, as str or UTF-8 bytes, such as
    `orjson.dumps`. Default: None, which is `json.dumps` except that NaN and infinity are refused."""
    codec: Codec | None
    """A `Codec`, the two functions that decode received messages (`Text.json`, routes, ready-made handlers)
    and encode sent ones (`send_json`, ready-made handlers), in place of Python's `json`.
    Default: None."""
    text_as: Literal["str", "bytes"]
    """Whether text messages are kept as ``"str"``, decoded when they arrive, or as ``"bytes"``: `Text.data`
    is the UTF-8 as it arrived, validated but not decoded, `Text.text` decodes it on first use, and the
    decoder of a `codec` gets the bytes. Default: 'str'."""
    history: int
    """How many entries `Disconnected.history` keeps, with one for each message. Default: 0, for the last 32
    entries, in which messages are only counted: that costs nothing per message."""


RATE_COUNTS = ("messages", "frames")
RATE_SCOPES = ("connection", "client")
#: The default margin of a `Rate`: this part of its `per`, and at most this many seconds, which is more than
#: the shortest time after which TCP sends a lost segment again.
MARGIN_PART = 0.05
MARGIN_SECONDS = 0.25
#: The longest span of a `Rate`, in seconds.
YEAR_SECONDS = 366 * 86_400


def refusing_unknown(**meant: str) -> Callable[[_Class], _Class]:
    """Make a class refuse unknown keywords with an error that names the right one (a decorator).

    Args:
        meant: other names for an argument, under the argument's name, separated by spaces.
    """
    def decorate(cls: _Class) -> _Class:
        original: Callable[..., None] = cls.__init__  # type: ignore[misc]  # it is called with its instances
        known = list(parameters_of(cls))

        @wraps(original)
        def initialize(self: object, *args: Any, **kwargs: Any) -> None:
            if unknown := [name for name in kwargs if name not in known]:
                name = unknown[0]
                likely = [each for each, others in meant.items() if name in others.split()]
                likely += [each for each in known if name in each or each in name]
                expected = f"expected {', '.join(known[:-1])} or {known[-1]}"
                hint = f"did you mean {likely[0]!r}?" if likely else expected
                raise TypeError(f"{cls.__name__}: {name!r} is not an argument: {hint}")
            original(self, *args, **kwargs)

        cls.__init__ = initialize  # type: ignore[misc]  # it takes what the original takes
        return cls

    return decorate


@refusing_unknown(
    server_max_window_bits="server_window_bits", client_max_window_bits="client_window_bits window_bits",
    memory="mem_level memlevel", level="levle compression compresslevel", threshold="min_size minimum",
    required="require",
)
@record(frozen=True, kw_only=True)
class Deflate:
    """An offer of permessage-deflate (RFC 7692); ``compress=True`` means ``Deflate()``.

    Attributes:
        server_max_window_bits: ask the server to limit its window to 2**n bytes, n from 8 to 15; None not
            to ask.
        client_max_window_bits: the client's own window bits, 9 to 15. zlib cannot deflate with a window of 8
            bits: if the server insists on that, messages are sent uncompressed.
        server_no_context_takeover: ask the server to compress each message separately, which saves memory in
            the client.
        client_no_context_takeover: compress each message separately, which saves memory on the server.
        level: zlib's compression level, 0 to 9, or -1 for its default.
        memory: zlib's ``memLevel``, 1 to 9.
        threshold: messages with fewer bytes are sent uncompressed.
        required: whether to reject a server without permessage-deflate, with close code 1010.
    """

    server_max_window_bits: int | None = None
    """Ask the server to limit its window to 2**n bytes, n from 8 to 15; None not to ask."""
    client_max_window_bits: int = 15
    """The client's own window bits, 9 to 15. zlib cannot deflate with a window of 8 bits: if the server
    insists on that, messages are sent uncompressed."""
    server_no_context_takeover: bool = False
    """Ask the server to compress each message separately, which saves memory in the client."""
    client_no_context_takeover: bool = False
    """Compress each message separately, which saves memory on the server."""
    level: int = -1
    """Zlib's compression level, 0 to 9, or -1 for its default."""
    memory: int = 8
    """Zlib's ``memLevel``, 1 to 9."""
    threshold: int = 0
    """Messages with fewer bytes are sent uncompressed."""
    required: bool = False
    """Whether to reject a server without permessage-deflate, with close code 1010."""

    def __post_init__(self) -> None:
        if self.server_max_window_bits is not None:
            check_range("server_max_window_bits", self.server_max_window_bits, 8, 15)
        check_range("client_max_window_bits", self.client_max_window_bits, 9, 15)
        check_range("level", self.level, -1, 9)
        check_range("memory", self.memory, 1, 9)
        check_range("threshold", self.threshold, 0, None)
        for name in ("server_no_context_takeover", "client_no_context_takeover", "required"):
            check_bool(name, getattr(self, name))


@refusing_unknown(limit="messages count max burst n", per="seconds period interval window time duration")
@record(frozen=True)
class Rate:
    """A server's limit on the messages that a client may send: at most `limit` within any `per` seconds.

    Pass one as the option `rate`. Messages over the limit wait in the send queue and are sent in order, each
    as early as the limit allows; `max_queue`, `when_full` and `send_timeout` bound that queue as usual, and
    `WebSocket.queued_for` says how long a message would wait. Pings, pongs and the echo of the server's
    Close frame go before all waiting messages.

    The window slides: it holds for every span of `per` seconds, not only for whole seconds of a clock. A
    message counts from when TCP has sent it; messages that TCP keeps back, because it resends lost packets or
    its congestion window is full, count from when it has caught up (on Linux; elsewhere from when the
    operating system has taken them). The server sees the same spans if the network delays all messages
    equally, and `margin` covers delays that vary by less. If a network holds messages back for longer, or a
    server pauses reading, two bursts can still meet, which no client can prevent: choose a larger margin or a
    lower limit if the server still closes the connection.

    ::

        app = WebSocketApp("wss://feed.example.org", rate=Rate(5, per=1.0, counts="frames"))

    Attributes:
        limit: how many messages the server accepts within `per` seconds.
        per: the length of the span, in seconds; more than 0, and at most 366 days.
        counts: ``"messages"`` if the server counts text and binary messages only, ``"frames"`` if it counts
            pings, pongs and Close frames as well. These then wait for the limit too, though ahead of all
            messages, and only the newest pong is kept. Choose `ping_rate` such that keepalive pings leave
            room for messages.
        scope: ``"connection"`` if each connection begins with the full limit, which is how servers usually
            count; ``"client"`` if what earlier connections of the same WebSocket or app have sent still
            counts, for servers that count by address or account.
        margin: seconds added to `per`, from 0 to `per`. None adds 5 % of `per`, but at most 0.25 s.

    Raises:
        TypeError, ValueError: an attribute is invalid; the message names it and says what would be valid.
    """

    limit: int
    """How many messages the server accepts within `per` seconds."""
    per: float = field(default=1.0, kw_only=True)
    """The length of the span, in seconds; more than 0, and at most 366 days."""
    counts: Literal["messages", "frames"] = field(default="messages", kw_only=True)
    """``"messages"`` if the server counts text and binary messages only, ``"frames"`` if it counts pings,
    pongs and Close frames as well. These then wait for the limit too, though ahead of all messages, and
    only the newest pong is kept. Choose `ping_rate` such that keepalive pings leave room for messages."""
    scope: Literal["connection", "client"] = field(default="connection", kw_only=True)
    """``"connection"`` if each connection begins with the full limit, which is how servers usually count;
    ``"client"`` if what earlier connections of the same WebSocket or app have sent still counts, for
    servers that count by address or account."""
    margin: float | None = field(default=None, kw_only=True)
    """Seconds added to `per`, from 0 to `per`. None adds 5 % of `per`, but at most 0.25 s."""

    def __post_init__(self) -> None:
        check_range("Rate: limit", self.limit, 1, sys.maxsize)
        expected = "more than 0 seconds, and at most 366 days"
        check_number("Rate: per", self.per, 0, expected)
        if not 0 < self.per <= YEAR_SECONDS:
            raise ValueError(f"Rate: per={_shown(self.per)}: expected {expected}")
        check_choice("Rate: counts", self.counts, RATE_COUNTS)
        check_choice("Rate: scope", self.scope, RATE_SCOPES)
        if self.margin is not None:
            expected = "seconds from 0 to the value of per, or None"
            check_number("Rate: margin", self.margin, 0, expected)
            if self.margin > self.per:
                raise ValueError(f"Rate: margin={_shown(self.margin)}: expected {expected}")

    @property
    def seconds(self) -> float:
        """The length of the span that is kept to: `per` and the margin."""
        margin = min(MARGIN_PART * self.per, MARGIN_SECONDS) if self.margin is None else self.margin
        return self.per + margin


# Checks: each takes an option's name, for error messages, and a value; it returns nothing.


def check_range(name: str, value: int, low: int, high: int | None = None) -> None:
    """Raise TypeError or ValueError unless `value` is an int (not a bool) from `low` to `high`."""
    expected = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r}: expected {expected}")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name}={_shown(value)}: expected {expected}")


def check_number(name: str, value: float, low: float, expected: str = "") -> None:
    """Raise TypeError or ValueError unless `value` is a finite number (not a bool) of at least `low`."""
    expected = expected or f"a number of at least {low:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r}: expected {expected}")
    # An int can be larger than any float; adding a float to it would fail.
    if not (low <= value and -sys.float_info.max <= value <= sys.float_info.max):
        raise ValueError(f"{name}={_shown(value)}: expected {expected}")


def check_seconds(name: str, value: float | None) -> None:
    """Raise TypeError or ValueError unless `value` is a non-negative number of seconds, or None."""
    if value is not None:
        check_number(name, value, 0, "0 seconds or more, or None")


def as_timeout(method: str, timeout: float | None) -> float | None:
    """Return a timeout in seconds, checked and short enough for Python to wait; None for no limit.

    A negative number counts as 0, as in Python's own methods: callers pass what is left of a longer time.

    Raises:
        TypeError: the timeout is not a number.
        ValueError: the timeout is NaN.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"{method}: timeout={timeout!r}: expected seconds, or None")
    if isinstance(timeout, float) and isnan(timeout):
        raise ValueError(f"{method}: timeout={timeout!r}: expected seconds, or None")
    # An int can be beyond every float, on either side, and then nothing can be added to it.
    return None if timeout > sys.float_info.max else max(timeout, 0.0)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}")


def check_bool(name: str, value: object) -> None:
    """Raise TypeError unless `value` is True or False."""
    _check_kind(name, value, bool, "True or False")


def check_header(name: str, value: str) -> None:
    """Raise TypeError or ValueError unless a header is valid (RFC 9110 section 5) and fits on its line.

    The value may be a secret, so the error message does not repeat it.
    """
    if not isinstance(name, str):
        raise TypeError(f"header name {name!r}: expected a str")
    if not re.fullmatch(_TOKEN, name):
        raise ValueError(f"header name {name!r} is not a valid HTTP token (RFC 9110 section 5.6.2)")
    if not isinstance(value, str):
        raise TypeError(f"header {name!r}: expected a str as its value, not {type(value).__name__}")
    if any(char in value for char in "\r\n\0"):
        raise ValueError(f"the value of header {name!r} contains CR, LF or NUL")


def _check_kind(name: str, value: object, kind: type | tuple[type, ...], expected: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name}={value!r}: expected {expected}")


def _shown(value: float) -> str:
    # Python refuses to convert an int of more than 4300 digits to decimal.
    return repr(value) if -1e100 < value < 1e100 or isinstance(value, float) else f"{hex(value)[:20]}…"


# Conversions: each checks a value that the user passed, and returns it in the form that lochws uses.


def as_deflate(compress: bool | Deflate | None) -> Deflate | None:
    """Return the offer that the option `compress` means, or None for no compression.

    Raises:
        TypeError: `compress` is neither a bool nor a Deflate.
    """
    if isinstance(compress, Deflate):
        return compress
    if isinstance(compress, bool):
        return Deflate() if compress else None
    raise TypeError(f"compress={compress!r}: expected True, False or a Deflate")


def as_headers(headers: Headers) -> tuple[tuple[str, str], ...]:
    """Return header fields as checked pairs of str. Bytes are decoded as Latin-1, as in HTTP.

    Raises:
        TypeError: a name or value is neither str nor bytes.
        ValueError: a name is not a valid token, a value contains CR, LF or NUL, or the header is one that
            lochws writes itself.
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
            raise ValueError(f"header {name!r} is part of the upgrade itself, and lochws writes it")
        pairs.append((name, value))
    return tuple(pairs)


def as_given_headers(headers: Headers | Callable[[], Headers] | None) -> GivenHeaders:
    """Return checked header fields as pairs of str, or the function that makes them, to be called later.

    Raises:
        TypeError, ValueError: a header cannot be sent.
    """
    return headers if callable(headers) else as_headers(headers or ())


def as_phase_timeouts(limits: Mapping[str, float | None] | None) -> dict[str, float]:
    """Return checked limits in seconds by phase; ``"dns"`` means ``"resolve"``, and None means no limit.

    Raises:
        TypeError: `limits` is not a mapping, or a limit is not a number.
        ValueError: a key is not the name of a phase, or a limit is negative.
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
    """Return checked arguments for `socket.setsockopt`.

    Raises:
        TypeError: an item is not a tuple of level, option and value.
        ValueError: a number does not fit into a C int.
    """
    if not isinstance(options, (Iterable, type(None))) or isinstance(options, (str, bytes)):
        raise TypeError(f"socket_options={options!r}: expected a list of (level, option, value)")
    checked = tuple(options or ())
    for option in checked:
        right = isinstance(option, tuple) and len(option) == 3 and isinstance(option[2], (int, bytes))
        if not right or not all(isinstance(number, int) for number in option[:2]):
            raise TypeError(f"socket_options: {option!r}: expected (level, option, value)")
        if not all(number in _C_INT for number in option if isinstance(number, int)):
            raise ValueError(f"socket_options: {option!r}: a number does not fit into 32 bits")
    return checked


def as_protocols(protocols: Iterable[str] | None) -> tuple[str, ...]:
    """Return the subprotocols as a tuple, each checked (RFC 6455 section 4.1 item 10).

    Raises:
        TypeError: `protocols` is not an iterable of str.
        ValueError: a name is not a valid token, or is listed twice.
    """
    if isinstance(protocols, str) or not isinstance(protocols, (Iterable, type(None))):
        raise TypeError(f"protocols={protocols!r}: expected a list of str, such as [{str(protocols)!r}]")
    names = tuple(protocols or ())
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"protocols: {name!r}: expected a str")
        if not re.fullmatch(_TOKEN, name):
            raise ValueError(f"protocols: {name!r} is not a valid HTTP token (RFC 9110 section 5.6.2)")
        if names.count(name) > 1:
            raise ValueError(f"protocols: {name!r} is listed twice")
    return names


def as_pins(pins: Pins | tuple[tuple[str, str], ...] | None) -> tuple[tuple[str, str], ...]:
    """Return certificate pins as checked pairs of host pattern and digest; such pairs are also accepted.

    A digest is the SHA-256 of the certificate in DER form, in hexadecimal, with or without colons, as
    ``openssl x509 -fingerprint -sha256`` prints it. In a pattern, ``*`` matches any characters.

    Raises:
        TypeError: `pins` is not a mapping of str to str, or to an iterable of str.
        ValueError: a digest is not a SHA-256 digest.
    """
    if pins is None:
        return ()
    if not isinstance(pins, (Mapping, tuple)):
        raise TypeError(f"ssl_pins: expected a mapping of hosts to digests, not {type(pins).__name__}")
    pairs = []
    for pattern, given in pins.items() if isinstance(pins, Mapping) else pins:
        for digest in given if isinstance(given, Iterable) and not isinstance(given, str) else [given]:
            if not isinstance(pattern, str) or not isinstance(digest, str):
                raise TypeError(f"ssl_pins: {pattern!r}: {digest!r}: expected two str")
            plain = re.sub(_PIN_PREFIX, "", digest.strip(), count=1, flags=re.IGNORECASE)
            plain = plain.replace(":", "").lower()
            if not re.fullmatch(_PIN_DIGEST, plain):
                raise ValueError(f"ssl_pins: {digest!r} is not a SHA-256: expected 64 hexadecimal digits")
            pairs.append((pattern.lower(), plain))
    return tuple(pairs)


def _as_agent(_: str, agent: str | None) -> str:
    agent = USER_AGENT if agent is None else agent
    if not isinstance(agent, str):
        raise TypeError(f"agent={agent!r}: expected a str ('' for no User-Agent), or None for the default")
    check_header("User-Agent", agent)
    return agent


def _as_origin(_: str, origin: str | None) -> str | None:
    if origin is not None:
        check_header("Origin", origin)
    return origin


def _as_auth(_: str, auth: object) -> object:
    # The errors do not show the values, which are secret.
    if auth is not None and not callable(auth):
        if not _is_pair_of_str(auth):
            raise TypeError("auth: expected a tuple of two str, (user, password), or a function")
        if ":" in auth[0]:
            raise ValueError("auth: the user name contains a colon, which Basic authentication cannot send")
    return auth


def _as_cookies(_: str, cookies: object) -> object:
    if cookies is not None and not hasattr(cookies, "add_cookie_header"):
        # The error does not show the value, which may contain secrets.
        raise TypeError(f"cookies: expected an http.cookiejar.CookieJar, not {type(cookies).__name__}")
    return cookies


def _as_trace(name: str, trace: object) -> object:
    if trace is not None and not callable(trace):
        _check_kind(name, trace, bool, "a function, True, False or None")
    return trace


def _as_connect(name: str, connect: object) -> object:
    if connect is not None and not callable(connect):
        raise TypeError(f"{name}={connect!r}: expected a function of host and port")
    return connect


def _as_encoder(name: str, encoder: object) -> object:
    if encoder is not None:
        check_function(name, encoder, "a function from an object to JSON, such as json.dumps")
    return encoder


def _as_codec(name: str, codec: object) -> object:
    if codec is not None and not isinstance(codec, Codec):
        example = "a lochws.Codec, such as Codec(json.loads, json.dumps)"
        raise TypeError(f"{name}={codec!r}: expected {example}, or None")
    return codec


def _check_context(name: str, value: object) -> None:
    import ssl  # noqa: PLC0415  large, and those who pass a context have imported it

    _check_kind(name, value, ssl.SSLContext, "an ssl.SSLContext, or None")


def _as_source_address(name: str, source: Any) -> Any:
    if source is None:
        return None
    if not isinstance(source, tuple) or len(source) != 2:
        raise TypeError(f"{name}={source!r}: expected (address, port)")
    check_range(f"{name}: port", source[1], 0, 65535)
    import ipaddress  # noqa: PLC0415  few programs choose an address

    try:
        ipaddress.ip_address(source[0])
    except ValueError:
        raise ValueError(f"{name}={source!r}: expected an IP address, not a name") from None
    return source


def _as_text(pair: Any) -> Any:
    """Return a header's name and value, with bytes decoded as in HTTP (RFC 9110 section 5.5)."""
    if not isinstance(pair, (tuple, list)):
        return pair
    return tuple(part.decode("latin-1") if isinstance(part, bytes) else part for part in pair)


def _is_pair_of_str(pair: object) -> TypeGuard[tuple[str, str]]:
    return isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, str) for part in pair)


def _as_path(name: str, path: object) -> str | None:
    """Return a path as text, which can be compared, and found in a table, without the user's code."""
    if path is None:
        return None
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{name}={path!r}: expected a path, or None")
    return os.fsdecode(path)


def _one_codec(codec: Codec | None, encoder: Encoder | None) -> Codec:
    """Return the codec that the options `codec` and `encoder` mean together.

    Raises:
        ValueError: both were passed, and are not the same.
    """
    if encoder is None:
        return codec or JSON
    if codec is not None and codec.dumps is not encoder:
        raise ValueError("encoder and codec: the codec encodes already; give one of them")
    return codec or Codec(JSON.loads, encoder)


#: Takes an option's name and value; returns the value as lochws uses it, or raises TypeError or ValueError.
_Conversion: TypeAlias = Callable[[str, Any], Any]


def _checked(check: Callable[..., None], *arguments: object, none: bool = False) -> _Conversion:
    """Return a conversion that only checks the value; `none` is whether None is accepted."""
    def convert(name: str, value: Any) -> Any:
        if not (none and value is None):
            check(name, value, *arguments)
        return value

    return convert


def _option(default: Any, convert: _Conversion, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"convert": convert})


_flag = _checked(check_bool)
_seconds = _checked(check_seconds)


@record(frozen=True, kw_only=True, eq=False, slots=True)
class Options:
    """All options of a WebSocket except its URL, checked.

    The values that users pass for `protocols`, `headers`, `deflate` (publicly named ``compress``) and the
    like are converted to one form, which is also accepted as input. `WebSocketOptions` and
    `lochws.WebSocket` document each option.
    """

    # Lomond's parameters, which may be passed by position.
    proxies: Proxies = _option(None, lambda _, given: given, secret=True)  # checked when dialling is prepared
    protocols: tuple[str, ...] | Callable[[], Iterable[str]] = _option(
        (), lambda _, given: given if callable(given) else as_protocols(given)
    )
    agent: str = _option(None, _as_agent)
    deflate: Deflate | None = _option(None, lambda _, given: given and as_deflate(given))
    ssl_verify: bool = _option(True, _flag)
    ssl_cafile: str | os.PathLike[str] | None = _option(None, _as_path)
    ssl_context: ssl.SSLContext | None = _option(None, _checked(_check_context, none=True))
    trace: TraceFunction | bool | None = _option(None, _as_trace)
    # Ours, in the order of WebSocketOptions.
    headers: GivenHeaders = _option(None, lambda _, given: as_given_headers(given), secret=True)
    origin: str | None = _option(None, _as_origin)
    auth: Auth | None = _option(None, _as_auth, secret=True)
    cookies: CookieJar | None = _option(None, _as_cookies, secret=True)
    require_protocol: bool = _option(False, _flag)
    max_redirects: int = _option(10, _checked(check_range, 0))
    redirect_headers: Literal["own", "all"] = _option("own", _checked(check_choice, REDIRECT_HEADERS))
    open_timeout: float | None = _option(30.0, _seconds)
    phase_timeouts: Mapping[str, float] = _option(None, lambda _, given: as_phase_timeouts(given))
    proxy_headers: GivenHeaders = _option(None, lambda _, given: as_given_headers(given), secret=True)
    proxy_auth: Literal["auto", "basic", "digest"] = _option("auto", _checked(check_choice, PROXY_AUTH))
    ssl_system_store: bool = _option(True, _flag)
    ssl_certfile: str | os.PathLike[str] | None = _option(None, _as_path)
    ssl_keyfile: str | os.PathLike[str] | None = _option(None, _as_path)
    ssl_password: Password | None = _option(None, lambda _, given: given, secret=True)
    ssl_pins: tuple[tuple[str, str], ...] = _option(None, lambda _, given: as_pins(given))
    server_hostname: str | None = _option(None, _checked(_check_kind, str, "a name, or None", none=True))
    unix: str | None = _option(None, _checked(_check_kind, str, "the path of a socket", none=True))
    sock: socket.socket | None = _option(
        None, _checked(_check_kind, socket.socket, "a connected socket", none=True)
    )
    connect: Callable[[str, int], socket.socket] | None = _option(None, _as_connect)
    source_address: tuple[str, int] | None = _option(None, _as_source_address)
    socket_options: tuple[SocketOption, ...] = _option(None, lambda _, given: as_socket_options(given))
    max_message_size: int | None = _option(64 * MIB, _checked(check_range, 1, sys.maxsize, none=True))
    stream_above: int | None = _option(None, _checked(check_range, 1, sys.maxsize, none=True))
    max_stream_size: int | None = _option(None, _checked(check_range, 1, sys.maxsize, none=True))
    max_queue: int = _option(16 * MIB, _checked(check_range, 1, sys.maxsize))
    fragment: int | None = _option(256 * 1024, _checked(check_range, 1, sys.maxsize, none=True))
    when_full: Literal["raise", "block", "drop"] = _option("raise", _checked(check_choice, WHEN_FULL))
    send_timeout: float | None = _option(30.0, _seconds)
    rate: Rate | None = _option(None, _checked(_check_kind, Rate, "a lochws.Rate, or None", none=True))
    encoder: Encoder | None = _option(None, _as_encoder)
    codec: Codec = _option(None, _as_codec)
    text_as: Literal["str", "bytes"] = _option("str", _checked(check_choice, TEXT_AS))
    history: int = _option(0, _checked(check_range, 0, MAX_HISTORY))

    if not TYPE_CHECKING:
        def __init__(self, **given):
            # There may be thousands of apps, which leave most options at their defaults.
            values = dict(_converted_defaults())
            if not given.keys() <= values.keys():
                type(self).__shape__.refuse((), given)
            for name, value in given.items():
                if value is not _DEFAULTS[name]:
                    values[name] = _CONVERSIONS[name](name, value)
            values["codec"] = _one_codec(values["codec"], values["encoder"])
            for name, value in values.items():
                object.__setattr__(self, name, value)
            self.__post_init__()

    def __post_init__(self) -> None:
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError(f"ssl_keyfile={self.ssl_keyfile!r} needs ssl_certfile")
        if self.require_protocol and not self.protocols:
            raise ValueError("require_protocol=True needs protocols to choose from")
        self._check_streams()
        given = [name for name in ("unix", "sock", "connect") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: only one of them can make the connection")
        if given and self.proxies:
            raise ValueError(f"{given[0]} and proxies: the connection cannot be made by both")

    def _check_streams(self) -> None:
        above, limit, whole = self.stream_above, self.max_stream_size, self.max_message_size
        if above is None:
            if limit is not None:
                raise ValueError(f"max_stream_size={limit!r} needs stream_above")
            return
        if whole is not None and above > whole:
            raise ValueError(f"stream_above={above!r}: expected at most max_message_size, which is {whole!r}")
        if limit is not None and limit < above:
            raise ValueError(f"max_stream_size={limit!r}: expected at least stream_above, which is {above!r}")


_CONVERSIONS: Mapping[str, _Conversion] = {
    name: each.metadata["convert"] for name, each in fields_of(Options).items()
}
_DEFAULTS: Mapping[str, Any] = {name: each.default for name, each in fields_of(Options).items()}


@cache
def _converted_defaults() -> Mapping[str, Any]:
    return {name: convert(name, _DEFAULTS[name]) for name, convert in _CONVERSIONS.items()}


#: The parameters that may be passed by position, in Lomond's order.
POSITIONAL = (
    "proxies", "protocols", "agent", "compress", "ssl_verify", "ssl_cafile", "ssl_context", "trace",
)
#: The names of all options.
KNOWN = frozenset(WebSocketOptions.__annotations__).union(POSITIONAL)


class TimingOptions(TypedDict, total=False):
    """The keyword options of `Timing`, which describes them."""

    poll: float | None
    ping_rate: float | None
    ping_timeout: float | Literal["auto"] | None
    auto_pong: bool
    close_timeout: float | None
    stale_after: float | None
    on_stale: Literal["reconnect", "tell"]


@record(frozen=True, kw_only=True, eq=False)
class Timing:
    """The options of `WebSocket.connect`: keepalive, Poll events and closing.

    Attributes:
        poll: seconds between Poll events; 0 or None for none.
        ping_rate: seconds between automatic pings; 0 or None for none.
        ping_timeout: seconds to wait after a ping for any byte from the server before giving up the
            connection; ``"auto"`` is twice the ping rate; 0 or None for no limit.
        auto_pong: whether to answer the server's pings automatically.
        close_timeout: seconds from the first Close frame until the connection is dropped; 0 or None for no
            limit.
        stale_after: seconds without any part of a message after which Stale is emitted; 0 or None for no
            limit.
        on_stale: what to do then: ``"reconnect"`` drops the connection, ``"tell"`` only emits Stale.
    """

    poll: float | None = 5.0
    ping_rate: float | None = 30.0
    ping_timeout: float | Literal["auto"] | None = "auto"
    auto_pong: bool = True
    close_timeout: float | None = 30.0
    stale_after: float | None = None
    on_stale: Literal["reconnect", "tell"] = "reconnect"

    def __post_init__(self) -> None:
        check_seconds("poll", self.poll)
        check_seconds("ping_rate", self.ping_rate)
        if self.ping_timeout != "auto":
            check_seconds("ping_timeout", self.ping_timeout)
        check_seconds("close_timeout", self.close_timeout)
        check_bool("auto_pong", self.auto_pong)
        check_seconds("stale_after", self.stale_after)
        if callable(self.on_stale):
            raise TypeError(
                "on_stale: expected 'reconnect' or 'tell'; to handle the event, override the method on_stale "
                "or use @app.on('stale')"
            )
        check_choice("on_stale", self.on_stale, ON_STALE)

    @property
    def ping_limit(self) -> float:
        """The value of `ping_timeout` in seconds, with ``"auto"`` resolved; 0 for no limit."""
        if self.ping_timeout == "auto":
            return min(2 * (self.ping_rate or 0), sys.float_info.max)
        return self.ping_timeout or 0


# Signatures and help texts that show every option, although the code lists the options only once.


class OptionsSignature:
    """A class's ``__signature__``, which lists the options and is made when it is read.

    Args:
        function: the constructor, a function of `self`, Lomond's parameters and ``**options``.
        declared: the TypedDict that declares its options.
        defaults: the defaults of those options that are not in `Options`.
    """

    def __init__(
        self, function: FunctionType, declared: type, defaults: Mapping[str, Any] | None = None
    ) -> None:
        self._function = function
        self._declared = declared
        self._defaults = {**_DEFAULTS, **(defaults or {})}

    def __get__(self, instance: object, owner: Any) -> Signature:
        import inspect  # noqa: PLC0415  for help alone

        if instance is not None or owner.__init__ is not self._function:
            # An object has the signature of its __call__; a subclass has a constructor of its own.
            raise AttributeError("__signature__")
        _, *own, _ = inspect.signature(self._function).parameters.values()
        listed = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=self._defaults[name],
                annotation=kind,
            )
            for name, kind in self._declared.__annotations__.items()
        ]
        return inspect.Signature(
            [each.replace(annotation=_Annotation(each.annotation)) for each in (*own, *listed)],
            return_annotation=_Annotation(None),
        )


class _Annotation(str):
    """An annotation that is shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


class OptionsDocumentation:
    """A class's docstring, with the whole documentation of each option when it is read.

    The options are documented next to their types, where editors find them; `help` shows the same texts. An
    editor that shows the class sees only what stands there, a line for each option.

    Args:
        text: the docstring. Its section about options is replaced by their documentation, which is inserted
            before its section "Raises".
        declared: the TypedDicts that declare the options.
    """

    def __init__(self, text: str | None, *declared: type) -> None:
        self._text = text or ""
        self._declared = declared

    def __get__(self, instance: object, owner: type | None = None) -> str:
        from inspect import cleandoc  # noqa: PLC0415  for help alone

        before, raises, after = cleandoc(self._text).partition("\nRaises:")
        before, _, _ = before.partition("\nOptions (keyword-only):")
        options = chain.from_iterable(options_documented(kind).items() for kind in self._declared)
        listed = "".join(map(_paragraph, options))
        return f"{before.rstrip()}\n{listed}{raises}{after}".rstrip() + "\n"


def options_documented(declared: type) -> dict[str, str]:
    """Return the documentation of each option in a TypedDict; empty if the source is not installed."""
    import ast  # noqa: PLC0415  for help alone
    import inspect  # noqa: PLC0415  for help alone
    import textwrap  # noqa: PLC0415  for help alone

    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(declared)))
    except (OSError, TypeError):
        return {}
    documented: dict[str, str] = {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    for statement, following in pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            text = str(ast.literal_eval(following.value))
            documented[ast.unparse(statement.target)] = " ".join(text.split())
    return documented


def _paragraph(option: tuple[str, str]) -> str:
    """Return an option and what it does as an item of a docstring's section "Args"."""
    import textwrap  # noqa: PLC0415  for help alone

    name, text = option
    item = f"    {name}: {text[:1].lower()}{text[1:]}"
    return textwrap.fill(item, 104, subsequent_indent=" " * 8) + "\n"
