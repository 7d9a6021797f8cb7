"""A test of an installed lochws without anything else installed.

One argument, ``compiled`` or ``pure``, says which twins are expected.
The server is two dozen lines of its own, since nothing else is installed.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import sys
import threading
from importlib.metadata import metadata, requires
from pathlib import Path

import lochws
from lochws import WebSocketApp, events

LOADED = set(sys.modules)


def read(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += connection.recv(count - len(data)) or sys.exit("the client left")
    return data


def serve(listener: socket.socket) -> None:
    """Upgrade one connection, and say each short frame again, unmasked, until a Close frame has come."""
    connection, _ = listener.accept()
    with connection:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += read(connection, 1)
        key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        secret = key.partition(b":")[2].strip() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(secret, usedforsecurity=False).digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        first = 0
        while first != 0x88:
            first, length = read(connection, 2)
            mask = read(connection, 4)
            payload = bytes(octet ^ mask[n % 4] for n, octet in enumerate(read(connection, length & 0x7F)))
            connection.sendall(bytes([first, len(payload)]) + payload)


def main() -> None:
    """Check what is installed, and have an app say something and hear it again."""
    wants_compiled = sys.argv[1] == "compiled"
    assert Path(sys.prefix) in Path(lochws.__file__).parents, lochws.__file__
    assert metadata("lochws")["Version"] == lochws.__version__
    assert ("lochws.protocol._compiled" in LOADED) == wants_compiled
    assert lochws.compiled == wants_compiled
    needed = [line for line in requires("lochws") or [] if "extra" not in line]
    assert len(needed) == 2, needed
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,), daemon=True)
        server.start()
        heard: list[str] = []
        app = WebSocketApp(f"ws://127.0.0.1:{listener.getsockname()[1]}")

        @app.on(events.Text)
        def hear(event: events.Text) -> None:
            heard.append(event.text)
            app.close()

        app.on("ready")(lambda event: app.send_text("hello"))
        last = app.run_forever(persist=False)
        server.join(10)
    assert heard == ["hello"], heard
    assert isinstance(last, events.Disconnected), last
    assert last.graceful, last
    twins = "the compiled twins" if wants_compiled else "Python alone"
    print(f"Python {sys.version.split()[0]}, {twins}: said hello, and heard it")


main()
