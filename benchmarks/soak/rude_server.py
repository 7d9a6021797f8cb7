"""The rude server of the soak: bytes that no WebSocket library sends, in a process of its own.

``python -m benchmarks.soak.rude_server FOLDER`` reads ``FOLDER/server.pem`` and prints two ports, ``wss ws``.
Over TLS each connection gets a text after every few hundred TLS 1.3 KeyUpdates. Otherwise the path says what
it gets:

============= ===================================================================
/bare-lf      a response whose lines end in LF, a text, and the end of the stream
/half-head    half of a response head, and the end of the stream
/left-open    a text and a Close frame; TCP is left open until the client ends it
============= ===================================================================
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha1
from pathlib import Path

from tests.support.tls_records import Records, log_keys, send_raw

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT = b"\x81\x05rude!"
_CLOSE = b"\x88\x02\x03\xe8"
#: KeyUpdates between two texts, and seconds between two such floods.
_UPDATES, _BETWEEN = 400, 0.1


def read_request(sock: socket.socket) -> tuple[str, bytes]:
    """Read an upgrade request. Return its path and the response head."""
    request = b""
    while b"\r\n\r\n" not in request:
        part = sock.recv(4096)
        if not part:
            raise ConnectionError("the client left before its request was complete")
        request += part
    lines = request.split(b"\r\n")
    key = next(line for line in lines if line.lower().startswith(b"sec-websocket-key:")).partition(b":")[2]
    accept = b64encode(sha1(key.strip() + _GUID, usedforsecurity=False).digest())
    head = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    return lines[0].split()[1].decode(), head


def serve_plain(sock: socket.socket) -> None:
    """Serve one connection without TLS."""
    path, head = read_request(sock)
    if path == "/half-head":
        sock.sendall(head[: len(head) // 2])
    elif path == "/bare-lf":
        sock.sendall(head.replace(b"\r\n", b"\n") + _TEXT)
    else:
        sock.sendall(head + _TEXT + _CLOSE)
        while sock.recv(4096):
            pass


def serve_updates(sock: socket.socket, context: ssl.SSLContext, keys: Path) -> None:
    """Serve one connection with TLS, until the client ends it."""
    with context.wrap_socket(sock, server_side=True) as tls:
        _, head = read_request(tls)
        records = Records(keys, sent=0)
        send_raw(tls, records.record(head))
        tls.settimeout(None)
        gone = threading.Event()
        threading.Thread(target=_drain, args=[tls, gone], daemon=True).start()
        while not gone.wait(_BETWEEN):
            send_raw(tls, b"".join(records.key_update() for _ in range(_UPDATES)) + records.record(_TEXT))


def _drain(tls: ssl.SSLSocket, gone: threading.Event) -> None:
    """Read what the client sends, past TLS, until it has gone."""
    with suppress(OSError):
        while socket.socket.recv(tls, 65536):
            pass
    gone.set()


def accept(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Serve each connection in a thread of its own."""
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_serve_one, args=[sock, serve], daemon=True).start()


def _serve_one(sock: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    # The client may leave at any time.
    with sock, suppress(OSError):
        sock.settimeout(60)
        serve(sock)


def main(folder: Path) -> None:
    """Serve until standard input ends."""
    keys = folder / "keys"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    log_keys(context, keys)
    serving: list[Callable[[socket.socket], None]] = [
        lambda sock: serve_updates(sock, context, keys), serve_plain
    ]
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in serving]
    for listener, serve in zip(listeners, serving, strict=True):
        threading.Thread(target=accept, args=[listener, serve], daemon=True).start()
    print(*(listener.getsockname()[1] for listener in listeners), flush=True)
    sys.stdin.read()


class RudeServer:
    """The server's process, as seen from the outside.

    Attributes:
        wss, ws: its URLs, without a path.
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.soak.rude_server", str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )
        assert self._process.stdout is not None
        secure, plain = self._process.stdout.readline().split()
        self.wss, self.ws = f"wss://localhost:{secure}", f"ws://127.0.0.1:{plain}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def rude_server(folder: Path) -> Iterator[RudeServer]:
    """Run the rude server with the certificate in a folder."""
    running = RudeServer(folder)
    try:
        yield running
    finally:
        running.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
