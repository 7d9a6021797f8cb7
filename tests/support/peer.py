"""A server on loopback: a function handles each connection, byte by byte.

It knows just enough about HTTP and WebSocket frames to be a correct peer or, if a test wants that, a faulty
one. It uses none of lochws's protocol code, so that one mistake cannot hide on both sides.

::

    def script(link):
        link.accept()                     # read the upgrade request, answer 101
        link.send_frame(TEXT, b"hello")
        assert link.read_frame() == (CLOSE, b"\\x03\\xe8bye")
        link.reset()

    with Peer(script) as peer:
        connect_to(peer.url)
"""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, TypeAlias

from lochws.testing.rawframes import frame, masked

from .seen import PATIENCE

__all__ = [
    "BINARY", "CLOSE", "CONTINUATION", "PATIENCE", "PING", "PONG", "TEXT", "Link", "Peer", "Request",
    "StartPeer", "frame", "upgrade",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10



class Request(NamedTuple):
    """The head of an HTTP request: its first line, and its headers by lower-case name."""

    line: str
    headers: dict[str, str]


class Link:
    """One accepted connection, handled by a script.

    Each call blocks for at most `PATIENCE` seconds, unless it says otherwise: a script that hangs fails.

    Attributes:
        request: the last request read; available to the test as soon as the client has the answer.
    """

    request: Request

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self._fragments: list[tuple[int, bytes]] = []  # of the message that is arriving

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Perform the server's side of a TLS handshake."""
        # The socket is in place before it blocks, so that `Peer.close` can end the handshake.
        self.sock = tls = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
        tls.do_handshake()

    @property
    def has_more(self) -> bool:
        """True if some of what was received has not been read yet."""
        return bool(self._received)

    def read(self, size: int) -> bytes:
        """Read exactly this many bytes; EOFError if the connection ends before."""
        while len(self._received) < size:
            self._receive()
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def read_until(self, end: bytes) -> bytes:
        """Read everything up to and including `end`."""
        while end not in self._received:
            self._receive()
        return self.read(self._received.index(end) + len(end))

    def read_request(self) -> Request:
        """Read the head of an HTTP request."""
        line, *fields = self.read_until(b"\r\n\r\n").decode("latin-1").rstrip("\r\n").split("\r\n")
        pairs = (field.split(":", 1) for field in fields)
        self.request = Request(line, {name.strip().lower(): value.strip() for name, value in pairs})
        return self.request

    def accept(self, *headers: str, request: Request | None = None) -> Request:
        """Read the upgrade request unless it is given, and answer it with 101."""
        request = request or self.read_request()
        self.send(upgrade(request, *headers))
        return request

    def send(self, data: bytes) -> None:
        """Send bytes in one piece."""
        self.sock.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """Send bytes one by one, each in a TCP segment of its own."""
        for index in range(len(data)):
            self.sock.sendall(data[index:index + 1])

    def send_frame(
        self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, key: bytes | None = None
    ) -> None:
        """Send any frame, valid or not."""
        self.send(frame(opcode, payload, fin=fin, rsv=rsv, key=key))

    def read_frame(self) -> tuple[int, bytes]:
        """Read a control frame or a whole message; return its opcode and unmasked payload.

        Every frame must be masked. A message may be fragmented, with control frames between its fragments.
        """
        while True:
            first, payload = self._read_one_frame()
            opcode = first & 0x0F
            if opcode >= CLOSE:
                assert first & 0x80, "the client sent a fragment of a control frame"
                return opcode, payload
            assert (opcode == 0) == bool(self._fragments), "the client began or continued the wrong message"
            self._fragments.append((opcode, payload))
            if first & 0x80:
                fragments, self._fragments = self._fragments, []
                return fragments[0][0], b"".join(part for _, part in fragments)

    def _read_one_frame(self) -> tuple[int, bytes]:
        first, second = self.read(2)
        assert second & 0x80, "the client sent an unmasked frame"
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(self.read(2 if length == 126 else 8), "big")
        key = self.read(4)
        return first, masked(self.read(length), key)

    def wait_for_end(self) -> None:
        """Read and discard, in silence, until the client ends the connection, however long that takes."""
        self.sock.settimeout(None)
        try:
            while True:
                self._receive()
                self._received.clear()
        except (EOFError, ConnectionError):
            pass

    def finish(self) -> None:
        """Send FIN: nothing more will be sent. TLS gets no close_notify."""
        socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _receive(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError("the client ended the connection")
        self._received += data


class Peer:
    """A server on a free loopback port that runs `script(link)` for each connection, in a thread.

    An error of the connection ends its script and nothing else. Any other exception of a script, including a
    timeout, is raised by `close`.

    Args:
        script: called with each connection, which is closed when it returns.
        tls: the context for TLS from the first byte, or None.
        host: the address to listen on.
        port: the port to listen on; 0 picks a free one.

    Attributes:
        links: the connections, in the order in which they were accepted.
    """

    def __init__(
        self,
        script: Callable[[Link], object],
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._script = script
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family)
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self.links: list[Link] = []
        self._lock = threading.Lock()  # guards links and _closing
        self._closing = False
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self._acceptor = threading.Thread(target=self._accept, name="peer-acceptor")
        self._acceptor.start()

    @property
    def authority(self) -> str:
        """``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The WebSocket URL of this server."""
        return f"{'ws' if self._tls is None else 'wss'}://{self.authority}/"

    def close(self) -> None:
        """End all connections, wait for all threads, and raise what a script raised. Again: nothing."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        # One more connection interrupts accepting, which works on every system.
        family = self._listener.family
        with socket.socket(family) as waker:
            waker.connect(self._listener.getsockname()[:2])
            self._acceptor.join(PATIENCE)
        self._listener.close()
        for link in self.links:
            try:
                socket.socket.shutdown(link.sock, socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended already
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a script did not end"
        if self._failures:
            raise self._failures[0]

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            with self._lock:
                if self._closing:
                    sock.close()
                    return
                link = Link(sock)
                self.links.append(link)
            thread = threading.Thread(target=self._run, args=(link,), name="peer-script")
            self._threads.append(thread)
            thread.start()

    def _run(self, link: Link) -> None:
        try:
            if self._tls is not None:
                link.start_tls(self._tls)
            self._script(link)
        except TimeoutError as error:
            self._failures.append(error)
        except (OSError, EOFError):
            pass  # the client has left
        except BaseException as error:  # noqa: BLE001  close() raises it again
            self._failures.append(error)
        finally:
            link.sock.close()


#: The fixture `start_peer`: starts a `Peer`, takes its arguments, and closes it at the end of the test.
StartPeer: TypeAlias = Callable[..., Peer]


def upgrade(request: Request, *headers: str) -> bytes:
    """Return the correct answer to an upgrade request, with additional header lines."""
    key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()
