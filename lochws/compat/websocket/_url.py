"""Functions about URLs and proxies that programs import from `websocket._url`."""

from __future__ import annotations

from collections.abc import Iterable

from ... import url as urls
from ...transport.proxies.choose import choose_proxy
from ...transport.proxies.no_proxy import is_exempt
from ._exceptions import WebSocketProxyException

__all__ = ["get_proxy_info", "parse_url"]

#: Host, port, and user name with password.
Proxy = tuple[str | None, int | str, tuple[str, str] | None]

_NONE: Proxy = (None, 0, None)


def parse_url(url: str) -> tuple[str, int, str, bool]:
    """Return the host of a URL, its port, its path with the query, and whether it is ``wss``.

    Raises:
        ValueError: the URL is not valid.
    """
    endpoint = urls.parse_url(url)
    return endpoint.host, endpoint.port, endpoint.resource, endpoint.is_secure


def get_proxy_info(
    hostname: str,
    is_secure: bool,
    proxy_host: str | None = None,
    proxy_port: int | str = 0,
    proxy_auth: tuple[str, str] | None = None,
    no_proxy: Iterable[str] | None = None,
    proxy_type: str = "http",
) -> Proxy:
    """Return the proxy for a host: the one that was given, or that of the environment; else (None, 0, None).

    Args:
        hostname: the host to connect to.
        is_secure: whether the URL is ``wss``.
        proxy_host, proxy_port, proxy_auth: the proxy to use unless the host is exempt.
        no_proxy: the exempt hosts; by default those of the environment's `no_proxy`.
        proxy_type: has no effect.

    Raises:
        WebSocketProxyException: `proxy_host` was given without a port.
    """
    scheme, port = ("wss", 443) if is_secure else ("ws", 80)
    endpoint = urls.Endpoint(scheme, hostname.lower(), port, "/")
    if is_exempt(endpoint, exemptions(no_proxy)):
        return _NONE
    if proxy_host:
        if not proxy_port:
            raise WebSocketProxyException(f"proxy_host={proxy_host!r} needs proxy_port")
        return proxy_host, proxy_port, proxy_auth
    proxy = choose_proxy(endpoint, None)
    return _NONE if proxy is None else (proxy.host, proxy.port, proxy.credentials)


def exemptions(no_proxy: Iterable[str] | None) -> str:
    """Return the exempt hosts, separated by commas: those given, or else the environment's."""
    if no_proxy:
        return no_proxy if isinstance(no_proxy, str) else ",".join(no_proxy)
    from urllib.request import getproxies_environment  # noqa: PLC0415  large, and most use no proxy

    return getproxies_environment().get("no", "")
