"""From an endpoint to an open stream: addresses, TCP, the tunnel through a proxy, TLS."""

from __future__ import annotations

import ssl

from ..deadline import Cancelled, Deadline
from ..errors import ConnectFail
from ..url import Endpoint
from .proxy import ProxyURL, tunnel
from .stream import Stream, TLSStream
from .tcp import connect_tcp, resolve
from .tls import handshake
from .waiting import cause


def open_stream(
    endpoint: Endpoint, proxy: ProxyURL | None, context: ssl.SSLContext | None, deadline: Deadline
) -> Stream:
    """Open a stream to the endpoint, through the proxy if there is one, all under one deadline.

    Blocks the calling thread, at most until the deadline passes or is cancelled.

    Args:
        context: for TLS with the endpoint; None for a plain stream.

    Raises:
        ConnectFail: it failed, or was cancelled. Nothing is left open.
    """
    # The beginnings of the reason are Lomond's: they tell people whom to ask.
    phase, failing = "resolve", "unable to connect"
    if proxy is not None:
        phase, failing = "proxy", "unable to connect to proxy"
    sock = None
    try:
        addresses = resolve(*_first_hop(endpoint, proxy), deadline)
        if proxy is None:
            phase = "tcp"
        sock = connect_tcp(addresses, deadline)
        if proxy is not None:
            failing = "proxy fail"
            tunnel(Stream(sock), proxy, endpoint, deadline)
        if context is None:
            return Stream(sock)
        phase, failing = "tls", "unable to connect"
        return TLSStream(handshake(sock, context, endpoint.host, deadline))
    except BaseException as error:
        if sock is not None:
            sock.close()
        if isinstance(error, ConnectFail):
            raise ConnectFail(f"{failing}; {error}", phase=phase, address=error.address) from error.__cause__
        if isinstance(error, Cancelled):
            raise ConnectFail("closed while connecting", phase=phase) from None
        if isinstance(error, OSError):  # no descriptors left, for one
            raise ConnectFail(f"{failing}; {cause(error)}", phase=phase) from error
        raise


def _first_hop(endpoint: Endpoint, proxy: ProxyURL | None) -> tuple[str, int]:
    return (endpoint.host, endpoint.port) if proxy is None else (proxy.host, proxy.port)
