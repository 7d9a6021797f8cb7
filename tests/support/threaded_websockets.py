"""The threaded client and server of websockets, without keepalive and without TLS 1.3 for clients.

Before Python 3.13 `threading.Thread.join` may raise when two threads wait for the end of the same one, and
the keepalive of a connection waits for the same thread as its `close`.

The client sends while another of its threads reads, which OpenSSL does not allow on one connection. After a
TLS 1.3 handshake, reading processes the server's session tickets; a request sent at that moment may be lost.
"""

from __future__ import annotations

import ssl
from functools import partial
from typing import Any

from websockets.sync import client, server

serve = partial(server.serve, ping_interval=None)
unix_serve = partial(server.unix_serve, ping_interval=None)


def connect(url: str, *, tls: ssl.SSLContext | None = None, **options: Any) -> client.ClientConnection:
    """Open a connection.

    Args:
        url: its URL.
        tls: the TLS context, which is limited to TLS 1.2 from now on; None for ``ws:`` URLs.
        options: those of websockets.
    """
    if tls is not None:
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
    return client.connect(url, ssl=tls, ping_interval=None, **options)
