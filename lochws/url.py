"""WebSocket URLs (RFC 6455 section 3), taken apart and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

#: http and https are aliases, as in the WHATWG's WebSocket interface.
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_DEFAULT_PORTS = {"ws": 80, "wss": 443}
# What may stand in a path or query as it is (RFC 3986 section 3.3); the rest is percent-encoded.
_SAFE = "/?:@!$&'()*+,;=-._~%[]"
# What may stand in a host (RFC 3986 section 3.2.2): a name, or an address without its brackets.
_HOST = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=%:]+")


@dataclass(frozen=True)
class Endpoint:
    """Where a WebSocket URL leads.

    Attributes:
        scheme: ``"ws"`` or ``"wss"``.
        host: the host in lower case, ASCII, without the brackets of an IPv6 address.
        port: the port, the scheme's own (80, 443) if the URL has none.
        resource: path and query as they go into the request line.
        credentials: user name and password from the URL, percent-decoded, or None; never shown.
    """

    scheme: str
    host: str
    port: int
    resource: str
    credentials: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def is_secure(self) -> bool:
        """Whether the connection goes through TLS."""
        return self.scheme == "wss"

    @property
    def host_header(self) -> str:
        """The Host header: brackets round IPv6, the port only if it is not the scheme's own."""
        host = bracketed(self.host)
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def authority(self) -> str:
        """``host:port``, always with the port."""
        return f"{bracketed(self.host)}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_header}{self.resource}"


def parse_url(url: str) -> Endpoint:
    """Take a WebSocket URL apart.

    The fragment is dropped, other characters than ASCII are encoded (IDNA in the host, percent-encoded
    UTF-8 behind it).

    Raises:
        TypeError: the URL is no str.
        ValueError: it is no ``ws://`` or ``wss://`` URL with a host, or has forbidden characters.
    """
    if not isinstance(url, str):
        raise TypeError(f"a URL is a str, not {type(url).__name__}")
    if any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise ValueError(f"URL {redacted(url)!r} has a space or control character in it: percent-encode it")
    try:
        parts = urlsplit(url)
    except ValueError:  # whose text may have the credentials in it
        raise ValueError(f"URL {redacted(url)!r} has no valid host") from None
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None:
        found = f"the scheme {parts.scheme!r}" if parts.scheme else "no scheme"
        raise ValueError(f"URL {redacted(url)!r} has {found}: expected ws:// or wss://")
    if not parts.hostname:
        raise ValueError(f"URL {redacted(url)!r} has no host: expected {scheme}://host[:port]/path")
    try:
        port = parts.port
    except ValueError:
        # Not the URL: if a slash in the password is what is wrong, redacting does not find the password.
        raise ValueError("the URL has no valid port: expected a number up to 65535") from None
    path = parts.path or "/"
    resource = f"{path}?{parts.query}" if parts.query else path
    credentials = None
    if parts.username is not None:
        credentials = (unquote(parts.username), unquote(parts.password or ""))
        if ":" in credentials[0]:
            raise ValueError("the URL's user name has a colon: Basic authentication cannot express that")
    return Endpoint(
        scheme=scheme,
        host=_ascii_host(parts.hostname, url),
        port=port or _DEFAULT_PORTS[scheme],
        resource=quote(resource, safe=_SAFE),
        credentials=credentials,
    )


def redacted(url: str) -> str:
    """The URL without user name and password, for everything that people or logs may see."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url, count=1)


def bracketed(host: str) -> str:
    """The host as it stands in front of a port: an IPv6 address gets its brackets."""
    return f"[{host}]" if ":" in host else host


def _ascii_host(host: str, url: str) -> str:
    try:
        name = host.lower() if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ValueError(f"URL {redacted(url)!r} has a host that is no valid name: {error}") from error
    # Here and not before: IDNA turns some letters into spaces and punctuation.
    if not _HOST.fullmatch(name):
        raise ValueError(f"URL {redacted(url)!r} has a host that is no valid name")
    return name
