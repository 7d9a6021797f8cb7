"""Servers in a process of their own: ``python -m tests.crowds.server KIND HOST PORT CERTIFICATE``.

Each prints its port, answers every line of its standard input with the times at which it has seen upgrade
requests (monotonic seconds, as JSON), and ends with its standard input. The kinds:

* ``open``: answers upgrade requests (picows on uvloop);
* ``silent``: accepts connections and reads, but never answers;
* ``flood``: one connection that gets messages as fast as it takes them, some of which have a time.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
import threading
from array import array
from time import monotonic

import picows
import uvloop

from benchmarks.wire import frame, upgrade_answer

BACKLOG = 4096
#: A message of a flood with a time is shorter than this; the others are longer.
STAMP_LENGTH = 32
_FILLER = frame(0x81, b"x" * 128) * 120


class Seen:
    """The times of upgrade requests."""

    def __init__(self) -> None:
        self.times = array("d")

    def note(self) -> None:
        """Note a request."""
        self.times.append(monotonic())

    def answer(self) -> bool:
        """Answer one line of the standard input, and return whether there was one."""
        if not sys.stdin.readline():
            return False
        say(json.dumps(self.times.tolist()))
        return True


class Open(picows.WSListener):  # type: ignore[misc]  # it has no types
    """A connection that answers Close."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Answer Close."""
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()


class Silent(asyncio.Protocol):
    """A connection that is never answered."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._is_noted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Note the first bytes."""
        if not self._is_noted:
            self._is_noted = True
            self._seen.note()


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def serve(kind: str, host: str, port: int, certificate: str) -> None:
    """Serve until the standard input ends."""
    seen = Seen()
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

    def listener(_request: picows.WSUpgradeRequest) -> picows.WSListener:
        seen.note()
        return Open()

    server: asyncio.AbstractServer
    if kind == "open":
        server = await picows.ws_create_server(
            listener, host, port, ssl=context, backlog=BACKLOG, read_buffer_init_size=1024,
            websocket_handshake_timeout=None,
        )
    else:
        server = await asyncio.get_running_loop().create_server(
            lambda: Silent(seen), host, port, ssl=context, backlog=BACKLOG
        )
    sockets = server.sockets  # type: ignore[attr-defined]  # of both
    say(str(sockets[0].getsockname()[1]))
    while await asyncio.to_thread(seen.answer):
        pass


def flood(host: str, port: int) -> None:
    """Flood one connection until it ends."""
    with socket.create_server((host, port)) as listener:
        say(str(listener.getsockname()[1]))
        connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += connection.recv(65536)
        connection.sendall(upgrade_answer(request, deflate=False))
        try:
            while True:
                connection.sendall(frame(0x81, b"%.6f" % monotonic()) + _FILLER)
        except OSError:
            return  # the client is gone


def main(kind: str, host: str, port: str, certificate: str = "") -> None:
    """Run a server."""
    if kind == "flood":
        threading.Thread(target=flood, args=(host, int(port)), daemon=True).start()
        sys.stdin.read()
    else:
        uvloop.run(serve(kind, host, int(port), certificate))


if __name__ == "__main__":
    main(*sys.argv[1:])
