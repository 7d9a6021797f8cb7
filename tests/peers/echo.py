"""An echo server made with websockets: `python echo.py WS_PORT WSS_PORT CERTIFICATE KEY`.

It is a process of its own, like the proxies: inside the tests it would open descriptors among theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def echo(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


async def main(ws_port: str, wss_port: str, certificate: str, key: str) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    hosts = ["127.0.0.1", "::1"]
    async with (
        serve(echo, hosts, int(ws_port), max_size=None),
        serve(echo, hosts, int(wss_port), max_size=None, ssl=tls),
    ):
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
