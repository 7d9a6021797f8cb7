"""Choosing a proxy for an endpoint: as given, or as the environment says."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from ...base.records import field, record
from ...options import Proxies
from ...system.lazy import ensure_whole
from ...url import Endpoint, bracketed, host_of

#: The kinds of proxies, with their default ports. With socks4a and socks5h, the proxy looks names up.
PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}

# The keys to look for, in this order. "http" for ws and "https" for wss are Lomond's; "socks" is that of the
# settings of Windows and macOS.
_KEYS = {"ws": ("ws", "http", "all", "socks"), "wss": ("wss", "https", "all", "socks")}

# The systems with proxy settings of their own that the standard library reads.
_SYSTEM_HAS_SETTINGS = sys.platform in {"darwin", "win32"}

# The longest user name, password or host name for SOCKS. PySocks encodes lengths as UTF-8, so that those over
# 127 would become two bytes.
MAX_SOCKS_TEXT = 127


@record(frozen=True)
class ProxyURL:
    """A proxy's address and our credentials for it. Its text never contains the credentials.

    Attributes:
        scheme: one of `PORTS`.
        host: without the brackets of an IPv6 address.
        credentials: user name and password, percent-decoded, or None.
        headers: additional headers for the CONNECT request.
        auth: how to authenticate to an HTTP proxy: ``"basic"``, ``"digest"``, or ``"auto"``, which is Basic
            at once, and Digest if the proxy then asks for it.
        agent: the User-Agent of the CONNECT request; empty for none.
    """

    scheme: str
    host: str
    port: int
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    auth: str = "auto"
    agent: str = ""

    @property
    def is_socks(self) -> bool:
        """True if the proxy speaks SOCKS rather than HTTP."""
        return self.scheme.startswith("socks")

    @property
    def resolves(self) -> bool:
        """True if the proxy looks up the endpoint's name."""
        return self.scheme not in {"socks4", "socks5"}

    def __str__(self) -> str:
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"


def choose_proxy(endpoint: Endpoint, proxies: Proxies) -> ProxyURL | None:
    """Return the proxy for an endpoint, or None to connect directly.

    Args:
        proxies: one of the following. A str is the URL of a proxy for every endpoint. A mapping has the URLs
            of proxies by key: the first that it has of ``"ws"``, ``"http"`` and ``"all"`` counts for ``ws``,
            and of ``"wss"``, ``"https"`` and ``"all"`` for ``wss``; without one, or if its value is None, the
            connection is direct, and so ``{}`` means no proxy at all. A function takes the endpoint's URL,
            without credentials, and returns the URL of a proxy or None. None stands for the environment (or
            the system's settings), with its `no_proxy`.

    Raises:
        TypeError: a proxy URL is not a str.
        ValueError: it is not a valid URL of a supported proxy.
        Exception: whatever a function given as `proxies` raises.
    """
    if callable(proxies):
        url = proxies(str(endpoint))
    elif isinstance(proxies, str):
        url = proxies
    elif proxies is None:
        url = _from_environment(endpoint)
    else:
        url = _by_key(endpoint, proxies)
    return None if url is None or url == "" else parse_proxy(url)


def may_block(proxies: Proxies) -> bool:
    """Return whether `choose_proxy` may block: the system's settings can exempt hosts by their addresses."""
    return proxies is None and _SYSTEM_HAS_SETTINGS and not _is_in_environment()


def check_proxies(proxies: object) -> None:
    """Refuse proxies that `choose_proxy` would refuse later.

    Raises:
        TypeError: `proxies` is not a str, a mapping, a function or None, or a proxy URL is not a str.
        ValueError: a URL is not a valid URL of a supported proxy.
    """
    if proxies is None or callable(proxies):
        return
    if isinstance(proxies, str):
        parse_proxy(proxies)
        return
    if not isinstance(proxies, Mapping):
        expected = "a proxy's URL, a mapping such as {'http': url}, or a function"
        raise TypeError(f"proxies: expected {expected}, not {type(proxies).__name__}")
    for keys in _KEYS.values():
        for key in keys:
            url = proxies.get(key)
            if url:
                parse_proxy(url)


def parse_proxy(url: str) -> ProxyURL:
    """Parse a proxy's URL. ``host:port`` means ``http://host:port``, and ``socks://`` means ``socks5h://``.

    Raises:
        TypeError: `url` is not a str.
        ValueError: it is not a valid URL of a supported proxy. The text repeats nothing of the URL but its
            scheme: in a malformed URL, a password may be anywhere.
    """
    if not isinstance(url, str):
        raise TypeError(f"a proxy URL must be a str, not {type(url).__name__}")
    if any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise ValueError("a proxy URL contains a space or a control character: percent-encode it")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = host_of(parts), parts.port
    except ValueError:
        raise ValueError("a proxy URL has no valid host and port: expected http://host[:port]") from None
    scheme = "socks5h" if parts.scheme == "socks" else parts.scheme
    if scheme not in PORTS:
        kinds = ", ".join(f"{kind}://" for kind in PORTS)
        raise ValueError(f"a proxy URL with {scheme}:// is not supported: expected one of {kinds}")
    if not host:
        raise ValueError(f"a proxy URL has no host: expected {scheme}://[user:password@]host[:port]")
    credentials = None
    if parts.username is not None:
        credentials = (unquote(parts.username), unquote(parts.password or ""))
        _check_credentials(scheme, *credentials)
    return ProxyURL(scheme, host, port or PORTS[scheme], credentials)


def _check_credentials(scheme: str, user: str, password: str) -> None:
    if not scheme.startswith("socks"):
        if ":" in user:
            raise ValueError("a proxy URL has a colon in its user name, which RFC 7617 section 2 forbids")
        return
    if "\0" in user:
        raise ValueError("a proxy URL has a NUL in its user name, which would end it there")
    if max(len(user.encode()), len(password.encode())) > MAX_SOCKS_TEXT:
        text = f"a proxy URL has a user name or password over {MAX_SOCKS_TEXT} bytes, too long for SOCKS"
        raise ValueError(text)
    if scheme.startswith("socks5") and not (user and password):
        raise ValueError(f"a proxy URL lacks a user name or password: expected {scheme}://user:password@host")


def _by_key(endpoint: Endpoint, proxies: Mapping[str, str | None]) -> str | None:
    for key in _KEYS[endpoint.scheme]:
        if key in proxies:
            return proxies[key]
    return None


def _is_in_environment() -> bool:
    return any(name.lower().endswith("_proxy") for name in os.environ)


def _from_environment(endpoint: Endpoint) -> str | None:
    if not (_SYSTEM_HAS_SETTINGS or _is_in_environment()):
        return None
    from urllib.request import (  # noqa: PLC0415  as large as all of lochws, and most use no proxy
        getproxies,
        getproxies_environment,
        proxy_bypass,
    )

    ensure_whole("lochws.transport.proxies.no_proxy")
    from .no_proxy import is_exempt  # noqa: PLC0415  likewise

    # The standard library reads the names in either case, and ignores what must not be trusted: in a CGI
    # script, HTTP_PROXY is a header that a client sent.
    environment = getproxies_environment()
    url = _by_key(endpoint, environment or getproxies())
    if not url:
        return None
    # Windows and macOS have their own lists of exceptions for their own proxies.
    exempt = is_exempt(endpoint, environment.get("no", "")) if environment else proxy_bypass(endpoint.host)
    return None if exempt else url
