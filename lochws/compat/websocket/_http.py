"""The part of `websocket._http` that does not need the network connection, which lochws owns."""

from __future__ import annotations

from typing import Any, NoReturn

from ._exceptions import WebSocketProxyException
from ._options import PROXY_TYPES

__all__ = ["proxy_info"]


class proxy_info:
    """The proxy arguments of `WebSocket.connect`, under shorter names.

    Args:
        options: arguments of `WebSocket.connect`.

    Raises:
        WebSocketProxyException: `proxy_type` is not a kind of proxy.
    """

    def __init__(self, **options: Any) -> None:
        self.proxy_host = options.get("http_proxy_host")
        given = options if self.proxy_host else {}
        self.proxy_port = given.get("http_proxy_port", 0)
        self.auth = given.get("http_proxy_auth")
        self.no_proxy = given.get("http_no_proxy")
        self.proxy_protocol = given.get("proxy_type", "http")
        self.proxy_timeout = given.get("http_proxy_timeout")
        if self.proxy_protocol not in PROXY_TYPES:
            raise WebSocketProxyException(
                f"proxy_type={self.proxy_protocol!r}: expected one of {', '.join(PROXY_TYPES)}"
            )


def __getattr__(name: str) -> NoReturn:
    if name in {"connect", "read_headers"}:
        raise ImportError(
            f"websocket._http.{name} needs the network connection, which lochws owns: use "
            "create_connection() with socket= or with the proxy arguments"
        )
    raise AttributeError(f"module 'websocket._http' has no attribute {name!r}")
