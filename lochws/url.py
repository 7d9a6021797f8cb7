"""WebSocket URLs (RFC 6455 section 3), taken apart and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, urlsplit

#: http and https are aliases, as in the WHATWG's WebSocket interface.
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_UNIX_SCHEMES = {"ws+unix": "ws", "wss+unix": "wss"}
_DEFAULT_PORTS = {"ws": 80, "wss": 443}
# What may stand in a path or query as it is (RFC 3986 section 3.3); the rest is percent-encoded.
_SAFE = "/?:@!$&'()*+,;=-._~%[]"
# What may stand in a name (RFC 3986 section 3.2.2), and here in the zone of an IPv6 address. No percent sign:
# a name with escapes in it is looked up by nobody.
_NAME = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=]+")
# Host and port: brackets, if there are any, are round the whole host. urllib finds a host in more than that.
_HOST_AND_PORT = re.compile(r"(?:(?P<address>\[[^\[\]]*\])|[^\[\]:]*)(?::[^\[\]]*)?")
# No name has a delimiter in it, so that each character is looked at once: servers choose some of these texts.
_VALUES = re.compile(r"([?&;][^?&;=\s]*=)[^&;#\s]+")
# Paths of sockets are bytes; those that are no UTF-8 become what Python's own file names have for them.
_ANY_BYTES = "surrogateescape"


@dataclass(frozen=True)
class Endpoint:
    """Where a WebSocket URL leads.

    Attributes:
        scheme: ``"ws"`` or ``"wss"``.
        host: the host in lower case, ASCII, without the brackets of an IPv6 address.
        port: the port, the scheme's own (80, 443) if the URL has none.
        resource: path and query as they go into the request line.
        credentials: user name and password from the URL, percent-decoded, or None; never shown.
        unix: the path of the Unix socket that it leads to, or None.
    """

    scheme: str
    host: str
    port: int
    resource: str
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    unix: str | None = None

    @property
    def is_secure(self) -> bool:
        """Whether the connection goes through TLS."""
        return self.scheme == "wss"

    @property
    def host_header(self) -> str:
        """The Host header: brackets round IPv6, the port only if it is not the scheme's own."""
        # The zone of an IPv6 address means something on this machine only (RFC 6874 section 4).
        host = bracketed(self.host.partition("%")[0])
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def authority(self) -> str:
        """``host:port``, always with the port."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int, str | None]:
        """What two endpoints have in common that may share secrets (RFC 6454 section 4)."""
        return self.scheme, self.host, self.port, self.unix

    def __str__(self) -> str:
        if self.unix is not None:
            path = quote(self.unix, safe="/", errors=_ANY_BYTES)
            return f"{self.scheme}+unix://{path}:{self.resource}"
        return f"{self.scheme}://{self.host_header}{self.resource}"


def parse_url(url: str) -> Endpoint:
    """Take a WebSocket URL apart.

    The fragment is dropped, other characters than ASCII are encoded (IDNA in the host, percent-encoded
    UTF-8 behind it). ``ws+unix:///path:/resource`` leads to the Unix socket at that path.

    Raises:
        TypeError: the URL is no str.
        ValueError: it is no ``ws://`` or ``wss://`` URL with a host, or has forbidden characters.
    """
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str, not {type(url).__name__}")
    if any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise ValueError(f"{_named(url)} has a space or control character in it: percent-encode it")
    try:
        parts = urlsplit(url)
    except ValueError:  # whose text may have the credentials in it
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
        raise ValueError(f"{_named(url)} has no valid port: expected a number up to 65535") from None
    return Endpoint(
        scheme=scheme,
        host=host,
        port=port or _DEFAULT_PORTS[scheme],
        resource=_resource(parts.path, parts.query),
        credentials=_credentials(parts),
    )


def redacted(url: str) -> str:
    """The URL without user name and password, and those of URLs in it, for all that people may see."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url)


def _named(url: str) -> str:
    """How a refusal names the URL: not at all if an @ is left, behind a slash of the password, likely."""
    # Not redacted(): behind a :// in the password it would remove that @, and leave what stands before.
    shown = re.sub(r"^([^:/?#]*://)[^/?#]*@", r"\1", url)
    return "the URL" if "@" in shown else f"URL {shown!r}"


def without_secrets(url: str) -> str:
    """Return the URL without credentials, and without the values in its query, which may be tokens.

    Any text with URLs in it will do. Takes time proportional to its length.
    """
    return _VALUES.sub(r"\1…", redacted(url))


def bracketed(host: str) -> str:
    """The host as it stands in front of a port: an IPv6 address gets its brackets."""
    return f"[{host}]" if ":" in host else host


def _credentials(parts: SplitResult) -> tuple[str, str] | None:
    if parts.username is None:
        return None
    user, password = unquote(parts.username), unquote(parts.password or "")
    if ":" in user:
        raise ValueError("the URL's user name has a colon: Basic authentication cannot express that")
    try:
        (user + password).encode()
    except UnicodeEncodeError:  # whose text has a part of them in it
        raise ValueError("the URL's user name or password is no text: it has lone surrogates") from None
    return user, password


def _resource(path: str, query: str) -> str:
    resource = f"{path or '/'}?{query}" if query else path or "/"
    return quote(resource, safe=_SAFE)


def _unix_endpoint(parts: SplitResult, url: str) -> Endpoint:
    """The endpoint of ``ws+unix:///path:/resource``; the server sees the host ``localhost``."""
    socket_path, _, path = parts.path.partition(":")
    if parts.netloc or not socket_path.startswith("/") or socket_path == "/":
        raise ValueError(f"{_named(url)} has no path of a socket: expected ws+unix:///path:/resource")
    if path and not path.startswith("/"):
        raise ValueError(f"{_named(url)} has a resource that does not begin with a slash")
    scheme = _UNIX_SCHEMES[parts.scheme.lower()]
    unix = unquote(socket_path, errors=_ANY_BYTES)
    try:
        unix.encode(errors=_ANY_BYTES)
    except UnicodeEncodeError:
        raise ValueError(f"{_named(url)} has a path of a socket that is no text") from None
    return Endpoint(
        scheme=scheme,
        host="localhost",
        port=_DEFAULT_PORTS[scheme],
        resource=_resource(path, parts.query),
        unix=unix,
    )


def host_of(parts: SplitResult) -> str:
    """The host of a URL as it is looked up and sent, without the brackets of an IPv6 address; empty if none.

    Raises:
        ValueError: it is neither a valid name nor an IPv6 address in brackets.
    """
    place = _HOST_AND_PORT.fullmatch(parts.netloc.rpartition("@")[2])
    if place is None:
        raise ValueError("its brackets are not round the whole of it")
    host = parts.hostname or ""
    if place["address"]:
        return _address(host)
    return ascii_host(host) if host else ""


def ascii_host(host: str) -> str:
    """The name as it is looked up and sent: lower case, IDNA 2008 with the mapping of UTS 46.

    Raises:
        ValueError: it is no valid name.
    """
    if host.isascii():
        name = host.lower()
    else:
        import idna  # noqa: PLC0415  large, and most hosts are ASCII

        name = idna.encode(host, uts46=True, transitional=False).decode("ascii")
    if not _NAME.fullmatch(name):
        raise ValueError("it has characters in it that no name has")
    return name


def _address(host: str) -> str:
    import ipaddress  # noqa: PLC0415  few hosts are addresses of IPv6

    address, percent, zone = host.replace("%25", "%", 1).partition("%")  # RFC 6874
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise ValueError("in brackets there can be an IPv6 address only") from None
    if percent and not _NAME.fullmatch(zone):
        raise ValueError("its zone has characters in it that no name of an interface has")
    return address + percent + zone
