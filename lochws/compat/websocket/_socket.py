"""Defaults of the drop-in for websocket-client: the timeout, and the options of sockets."""

from __future__ import annotations

import socket

DEFAULT_SOCKET_OPTION: list[tuple[int, int, int]] = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
DEFAULT_SOCKET_OPTION += [
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 30),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    )
    if hasattr(socket, name)
]

_default_timeout: float | None = None


def setdefaulttimeout(timeout: float | None) -> None:
    """Set the timeout of connections that are created without one, in seconds; None for no limit."""
    global _default_timeout  # noqa: PLW0603  the setting is one per process
    _default_timeout = timeout


def getdefaulttimeout() -> float | None:
    """Return the timeout of connections that are created without one, in seconds; None for no limit."""
    return _default_timeout
