"""Which proxy leads to an endpoint: what was given, or what the environment says."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ...options import Proxies
from ...url import Endpoint, bracketed, host_of

#: The kinds of proxies and their default ports. socks4a and socks5h look names up at the proxy.
PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}

# The keys that are looked for, in this order. "http" for ws and "https" for wss are Lomond's. "socks" is what
# Windows and macOS call theirs.
_KEYS = {"ws": ("ws", "http", "all", "socks"), "wss": ("wss", "https", "all", "socks")}

# Where the system itself has settings of proxies that the standard library knows.
_SYSTEM_HAS_SETTINGS = sys.platform in {"darwin", "win32"}

# PySocks writes the lengths of these two as UTF-8: beyond 127 they come out as two bytes.
MAX_SOCKS_TEXT = 127


@dataclass(frozen=True)
class ProxyURL:
    """Where a proxy is and who we are to it; as text it never has the credentials.

    Attributes:
        scheme: one of `PORTS`.
        host: without the brackets of an IPv6 address.
        credentials: user name and password, percent-decoded, or None.
        headers: what to add to the CONNECT request.
        auth: how an HTTP proxy learns the credentials: ``"basic"``, ``"digest"``, or ``"auto"``, which is
            Basic at once and Digest for proxies that refuse it and ask for that.
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
        """Whether it speaks SOCKS, and not HTTP."""
        return self.scheme.startswith("socks")

    @property
    def resolves(self) -> bool:
        """Whether the endpoint's name is looked up at the proxy."""
        return self.scheme not in {"socks4", "socks5"}

    def __str__(self) -> str:
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"


def choose_proxy(endpoint: Endpoint, proxies: Proxies) -> ProxyURL | None:
    """The proxy for an endpoint, or None to connect directly.

    Args:
        proxies: a proxy's URL for every endpoint; or proxy URLs by key, of which ``"ws"``, ``"http"`` and
            ``"all"`` are looked for in this order for ``ws``, and ``"wss"``, ``"https"`` and ``"all"``
            for ``wss`` (the first that is there decides; None, or none of them, is a direct connection,
            so ``{}`` is for no proxy at all); or a function that is given the endpoint's URL, without
            credentials, and returns a proxy's URL or None. None takes them from the environment (or the
            system's settings), with its `no_proxy`.

    Raises:
        TypeError: a proxy URL is no str.
        ValueError: it is no URL of a proxy that is supported.
        Exception: what a function given as `proxies` raises.
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


def check_proxies(proxies: object) -> None:
    """Refuse proxies that `choose_proxy` would refuse later.

    Raises:
        TypeError: it is nothing that `proxies` may be, or a proxy URL is no str.
        ValueError: a URL is none of a proxy that is supported.
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
    """Take a proxy's URL apart; ``host:port`` alone means ``http://host:port``.

    ``socks://``, which says no version, is taken as ``socks5h://``.

    Raises:
        TypeError: it is no str.
        ValueError: it is no URL of a proxy that is supported. The text has nothing of the URL but
            its scheme: where it goes wrong, a password may stand anywhere.
    """
    if not isinstance(url, str):
        raise TypeError(f"a proxy URL is a str, not {type(url).__name__}")
    if any(ord(char) <= 32 or ord(char) == 127 for char in url):
        raise ValueError("a proxy URL has a space or control character in it: percent-encode it")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = host_of(parts), parts.port
    except ValueError:
        raise ValueError("a proxy URL has no valid host and port: expected http://host[:port]") from None
    scheme = "socks5h" if parts.scheme == "socks" else parts.scheme
    if scheme not in PORTS:
        kinds = ", ".join(f"{kind}://" for kind in PORTS)
        raise ValueError(f"proxies of the kind {scheme}:// are not supported: expected one of {kinds}")
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
        raise ValueError("a proxy URL has NUL in its user name, which would end it")
    if max(len(user.encode()), len(password.encode())) > MAX_SOCKS_TEXT:
        text = f"a proxy URL has a user name or password over {MAX_SOCKS_TEXT} bytes, too long for SOCKS"
        raise ValueError(text)
    if scheme.startswith("socks5") and not (user and password):
        raise ValueError(f"a proxy URL lacks user name or password: expected {scheme}://user:password@host")


def _by_key(endpoint: Endpoint, proxies: Mapping[str, str | None]) -> str | None:
    for key in _KEYS[endpoint.scheme]:
        if key in proxies:
            return proxies[key]
    return None


def _from_environment(endpoint: Endpoint) -> str | None:
    if not (_SYSTEM_HAS_SETTINGS or any(name.lower().endswith("_proxy") for name in os.environ)):
        return None
    from urllib.request import (  # noqa: PLC0415  as large as all of lochws, and most use no proxy
        getproxies,
        getproxies_environment,
        proxy_bypass,
    )

    from .no_proxy import is_exempt  # noqa: PLC0415  likewise

    # The standard library knows the names in either case, and what a server must not believe (HTTP_PROXY in a
    # CGI script is a header that a client sent).
    environment = getproxies_environment()
    url = _by_key(endpoint, environment or getproxies())
    if not url:
        return None
    # Windows and macOS have lists of exceptions of their own to proxies of their own.
    exempt = is_exempt(endpoint, environment.get("no", "")) if environment else proxy_bypass(endpoint.host)
    return None if exempt else url
