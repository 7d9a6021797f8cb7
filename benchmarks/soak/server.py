"""The server of the soaks: asyncio and the package websockets, over TLS and not, in a process of its own.

``python -m benchmarks.soak.server CERTIFICATE`` prints two ports, ``wss ws``; for each line on standard input
it ends everything, begins again on the same ports and prints them again. The path of a connection says what
it gets:

========== ===========================================================================
/          an echo of everything
/drop      an echo, until after a few messages the connection is cut, reset or closed
/flood     as many messages as can be sent; nothing else
/burst     a hundred messages, ten times a second
/silence   nothing, not even pongs: nothing is read any more
========== ===========================================================================
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

#: What a message of a flood is.
_FLOOD = "a message of a flood " * 12
#: The number of messages that come back before a connection is lost.
_DROP_AFTER = 20
_ways_to_end = cycle(["cut", "close", "fail"])


async def echo(connection: ServerConnection) -> None:
    """Send everything back."""
    async for message in connection:
        await connection.send(message)


async def drop(connection: ServerConnection) -> None:
    """Send a few messages back, and lose the connection, in another way each time."""
    for _ in range(_DROP_AFTER):
        await connection.send(await connection.recv())
    how = next(_ways_to_end)
    if how == "cut":
        connection.transport.abort()
    elif how == "close":
        await connection.close(1012, "back soon")
    else:
        raise RuntimeError("which becomes 1011")


async def flood(connection: ServerConnection) -> None:
    """Send without end."""
    while True:
        for _ in range(10):
            await connection.send(_FLOOD)
        await asyncio.sleep(0)  # sending gives nobody else a turn as long as the kernel has room


async def burst(connection: ServerConnection) -> None:
    """Send a hundred messages at a time."""
    while True:
        for _ in range(100):
            await connection.send(_FLOOD)
        await asyncio.sleep(0.1)


async def silence(connection: ServerConnection) -> None:
    """Read nothing any more, and so answer nothing."""
    connection.transport.pause_reading()
    await connection.wait_closed()


_PATHS = {"/": echo, "/drop": drop, "/flood": flood, "/burst": burst, "/silence": silence}


async def _serve_one(connection: ServerConnection) -> None:
    assert connection.request is not None
    try:
        await _PATHS[connection.request.path](connection)
    except ConnectionClosed:
        pass  # the client has gone, which is its right


async def run(certificate: str) -> None:
    """Serve on free ports, and begin again at each line on standard input, until that ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    # Its pings wait behind megabytes of small messages in the kernel, longer than it would wait.
    settings: dict[str, Any] = {"compression": None, "close_timeout": 1, "ping_timeout": 120}
    ports = [0, 0]
    while True:
        async with (
            serve(_serve_one, "127.0.0.1", ports[0], ssl=context, **settings) as over_tls,
            serve(_serve_one, "127.0.0.1", ports[1], **settings) as plain,
        ):
            ports = [next(iter(server.sockets)).getsockname()[1] for server in (over_tls, plain)]
            print(*ports, flush=True)
            if not await asyncio.to_thread(sys.stdin.readline):
                return


class Server:
    """The server's process, as seen from the outside.

    Attributes:
        wss, ws: its URLs, without a path.
    """

    def __init__(self, certificate: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.soak.server", str(certificate)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            cwd=Path(__file__).parents[2],
        )
        secure, plain = self._wait()
        self.wss = f"wss://localhost:{secure}"
        self.ws = f"ws://127.0.0.1:{plain}"

    def restart(self) -> None:
        """End all connections, stop listening, and listen again on the same ports."""
        assert self._process.stdin is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        self._wait()

    def close(self) -> None:
        """End the process."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()

    def _wait(self) -> tuple[int, int]:
        assert self._process.stdout is not None
        secure, plain = self._process.stdout.readline().split()
        return int(secure), int(plain)


@contextmanager
def server() -> Iterator[tuple[Server, ssl.SSLContext, Path]]:
    """Run a server. Gives it, the TLS context that trusts it, and the folder with its certificate,
    server.pem."""
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder, "server.pem")
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        running = Server(certificate)
        try:
            yield running, context, Path(folder)
        finally:
            running.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
