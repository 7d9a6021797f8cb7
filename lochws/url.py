"""WebSocket URLs (RFC 6455 section 3): parsing, validation, and removal of secrets."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import SplitResult, quote, unquote, urlsplit

from .base.records import field, record

#: http and https are aliases, as in the WHATWG's WebSocket interface.
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_UNIX_SCHEMES = {"ws+unix": "ws", "wss+unix": "wss"}
_DEFAULT_PORTS = {"ws": 80, "wss": 443}
# The space, control characters and DEL.
_FORBIDDEN = r"[\x00-\x20\x7f]"
# The characters that a path or query may contain (RFC 3986 section 3.3); all others are percent-encoded.
_SAFE = "/?:@!$&'()*+,;=-._~%[]"
# Characters that a host name may contain (RFC 3986 section 3.2.2), and the zone of an IPv6 address. The
# percent sign is missing because no resolver looks up names with escapes.
_NAME = r"[A-Za-z0-9\-._~!$&'()*+,;=]+"
# Host and port: brackets, if any, must enclose the whole host. urllib is more lenient.
_HOST_AND_PORT = r"(?:(?P<address>\[[^\[\]]*\])|[^\[\]:]*)(?::[^\[\]]*)?"
# A name contains no delimiter, so that matching takes linear time: servers choose some of these texts.
_VALUES = r"([?&;][^?&;=\s]*=)[^&;#\s]+"
_QUERIES = r"(://[^\s?\"'<>]*)\?[^\s\"'<>]*"
_MAX_SEARCHED = 2000  # characters: room for any URL and for any sentence of ours
# Socket paths are bytes; those that are not valid UTF-8 are decoded the way Python decodes file names.
_ANY_BYTES = "surrogateescape"


@record(frozen=True, slots=True)
class Endpoint:
    """The endpoint that a WebSocket URL names.

    Attributes:
        scheme: ``"ws"`` or ``"wss"``.
        host: the host in lower case, ASCII, without the brackets of an IPv6 address.
        port: the port; the scheme's default (80 or 443) if the URL has none.
        resource: path and query, as written in the request line.
        credentials: user name and password from the URL, percent-decoded, or None; never shown.
        unix: the path of the Unix socket that the URL names, or None.
    """

    scheme: str
    host: str
    port: int
    resource: str
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    unix: str | None = None

    @property
    def is_secure(self) -> bool:
        """True if the connection uses TLS."""
        return self.scheme == "wss"

    @property
    def host_header(self) -> str:
        """The Host header: an IPv6 address in brackets, and the port unless it is the scheme's default."""
        # The zone of an IPv6 address has a meaning only on this machine (RFC 6874 section 4).
        host = bracketed(self.host.partition("%")[0])
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def authority(self) -> str:
        """The authority ``host:port``, always with the port."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int, str | None]:
        """The origin (RFC 6454 section 4); endpoints with the same origin may share secrets."""
        return self.scheme, self.host, self.port, self.unix

    def __str__(self) -> str:
        if self.unix is not None:
            path = quote(self.unix, safe="/", errors=_ANY_BYTES)
            return f"{self.scheme}+unix://{path}:{self.resource}"
        return f"{self.scheme}://{self.host_header}{self.resource}"


def parse_url(url: str) -> Endpoint:
    """Parse a WebSocket URL.

    The fragment is dropped. Non-ASCII characters are encoded: the host as IDNA, the rest as percent-encoded
    UTF-8. ``ws+unix:///path:/resource`` names the Unix socket at that path.

    Raises:
        TypeError: the URL is not a str.
        ValueError: the URL is not a ``ws://`` or ``wss://`` URL with a host, or contains forbidden
            characters.
    """
    if not isinstance(url, str):
        raise TypeError(f"url: expected a str, not {type(url).__name__}")
    # Thousands of apps may have the same URL. A password or token is not kept for longer than its app.
    url = str.__str__(url)  # a subclass may find different URLs equal
    return _parse(url) if "@" in url or "?" in url else _parse_once(url)


def _parse(url: str) -> Endpoint:
    if re.search(_FORBIDDEN, url):
        raise ValueError(f"{_named(url)} contains a space or control character: percent-encode it")
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may contain the credentials
        raise ValueError(f"{_named(url)} has no valid host") from None
    scheme = _SCHEMES.get(parts.scheme.lower()) or _UNIX_SCHEMES.get(parts.scheme.lower())
    if scheme is None:
        found = f"the scheme {parts.scheme!r}" if parts.scheme else "no scheme"
        raise ValueError(f"{_named(url)} has {found}: expected ws:// or wss://")
    if parts.scheme.lower() in _UNIX_SCHEMES:
        return _unix_endpoint(parts, url)
    try:
        host = host_of(parts)
    except ValueError as error:
        raise ValueError(f"{_named(url)} has no valid host: {error}") from error
    if not host:
        raise ValueError(f"{_named(url)} has no host: expected {scheme}://host[:port]/path")
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"{_named(url)} has no valid port: expected a number from 0 to 65535") from None
    return Endpoint(
        scheme=scheme,
        host=host,
        port=port or _DEFAULT_PORTS[scheme],
        resource=_resource(parts.path, parts.query),
        credentials=_credentials(parts),
    )


_parse_once = lru_cache(maxsize=64)(_parse)


def redacted(url: str) -> str:
    """Return the URL without user names and passwords, including those in URLs embedded in it."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url)


def _named(url: str) -> str:
    """Return the URL for an error message, or just "the URL" if it may still contain a password."""
    # A remaining @ may follow a password that contains a slash. redacted() is not used because, if the
    # password contains ://, it would remove the @ and leave the beginning of the password.
    shown = re.sub(r"^([^:/?#]*://)[^/?#]*@", r"\1", url)
    return "the URL" if "@" in shown else f"URL {shown!r}"


def without_secrets(url: str) -> str:
    """Return the URL without credentials, and without the values in its query, which may be tokens.

    Also works on any text that contains URLs. Takes time proportional to the length.
    """
    return re.sub(_VALUES, r"\1…", redacted(url))


def without_queries(text: str) -> str:
    """Return a text without the credentials and the whole queries of the URLs in it.

    Also cuts a very long text, since the time needed grows faster than the length.
    """
    # Credentials first: a password may contain a question mark.
    return re.sub(_VALUES, r"\1…", re.sub(_QUERIES, r"\1", redacted(text)[:_MAX_SEARCHED]))


def bracketed(host: str) -> str:
    """Return the host in the form that precedes a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _credentials(parts: SplitResult) -> tuple[str, str] | None:
    if parts.username is None:
        return None
    user, password = unquote(parts.username), unquote(parts.password or "")
    if ":" in user:
        raise ValueError("the URL's user name contains a colon, which Basic authentication cannot send")
    try:
        (user + password).encode()
    except UnicodeEncodeError:  # its message contains part of them
        raise ValueError("the URL's user name or password contains lone surrogates") from None
    return user, password


def _resource(path: str, query: str) -> str:
    resource = f"{path or '/'}?{query}" if query else path or "/"
    return quote(resource, safe=_SAFE)


def _unix_endpoint(parts: SplitResult, url: str) -> Endpoint:
    """Return the endpoint of ``ws+unix:///path:/resource``; the server sees the host ``localhost``."""
    socket_path, _, path = parts.path.partition(":")
    if parts.netloc or not socket_path.startswith("/") or socket_path == "/":
        raise ValueError(f"{_named(url)} names no socket: expected ws+unix:///path:/resource")
    if path and not path.startswith("/"):
        raise ValueError(f"{_named(url)} has a resource without a leading slash: expected /path:/resource")
    scheme = _UNIX_SCHEMES[parts.scheme.lower()]
    unix = unquote(socket_path, errors=_ANY_BYTES)
    try:
        unix.encode(errors=_ANY_BYTES)
    except UnicodeEncodeError:
        raise ValueError(f"{_named(url)} names a socket whose path cannot be encoded") from None
    return Endpoint(
        scheme=scheme,
        host="localhost",
        port=_DEFAULT_PORTS[scheme],
        resource=_resource(path, parts.query),
        unix=unix,
    )


def host_of(parts: SplitResult) -> str:
    """Return a URL's host as looked up and sent, an IPv6 address without brackets; empty if there is none.

    Raises:
        ValueError: the host is neither a valid name nor an IPv6 address in brackets.
    """
    place = re.fullmatch(_HOST_AND_PORT, parts.netloc.rpartition("@")[2])
    if place is None:
        raise ValueError("brackets must enclose the whole host")
    host = parts.hostname or ""
    if place["address"]:
        return _address(host)
    return ascii_host(host) if host else ""


def ascii_host(host: str) -> str:
    """Return a host name as looked up and sent: in lower case, IDNA 2008 with the UTS 46 mapping.

    Raises:
        ValueError: the host is not a valid name.
    """
    if host.isascii():
        name = host.lower()
    else:
        import idna  # noqa: PLC0415  large, and most hosts are ASCII

        name = idna.encode(host, uts46=True, transitional=False).decode("ascii")
    if not re.fullmatch(_NAME, name):
        raise ValueError("it contains a character that host names cannot have")
    return name


def _address(host: str) -> str:
    import ipaddress  # noqa: PLC0415  few hosts are IPv6 addresses

    address, percent, zone = host.replace("%25", "%", 1).partition("%")  # RFC 6874
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise ValueError("only an IPv6 address can be in brackets") from None
    if percent and not re.fullmatch(_NAME, zone):
        raise ValueError("its zone contains a character that interface names cannot have")
    return address + percent + zone
