"""Streams: connected, non-blocking sockets.

One thread, the loop, receives and closes. Any thread may send or shut down. No call blocks.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from types import MethodType
from typing import Any, NamedTuple

from ..system import forks
from ..system.locks import reentrant_lock
from ..system.syscalls import calls_for, send_python
from ..system.tcp import Progress, is_behind, progress_of
from ..url import bracketed

#: The maximum amount of data in a TLS record (RFC 8446 section 5.1), in bytes.
TLS_RECORD = 16 * 1024
#: The most that one `send` through TLS takes: encryption is work, and the loop has other streams. A batch of
#: the send queue fits.
TLS_SEND = 257 * 1024


class TLS(NamedTuple):
    """The parameters that TLS agreed on with the server, and the server's certificate.

    Attributes:
        version: the version of the protocol, such as ``"TLSv1.3"``.
        cipher: the name of the cipher suite.
        certificate: the server's certificate, as `ssl.SSLSocket.getpeercert` returns it: ``"subject"``,
            ``"issuer"``, ``"notAfter"``, ``"subjectAltName"`` and others. Empty if the certificate was not
            verified, as with ``ssl_verify=False``.
        der: the same certificate in DER form, as the server sent it.
    """

    version: str
    """The version of the protocol, such as ``"TLSv1.3"``."""
    cipher: str
    """The name of the cipher suite."""
    certificate: dict[str, Any]
    """The server's certificate, as `ssl.SSLSocket.getpeercert` returns it: ``"subject"``, ``"issuer"``,
    ``"notAfter"``, ``"subjectAltName"`` and others. Empty if the certificate was not verified, as with
    ``ssl_verify=False``."""
    der: bytes
    """The same certificate in DER form, as the server sent it."""

    def __repr__(self) -> str:
        return f"TLS(version={self.version!r}, cipher={self.cipher!r}, …)"


class Stream:
    """A plain stream. It owns the socket, which must be connected and non-blocking.

    Attributes:
        address: the peer as ``ip:port``; empty if the socket has no such address, or no longer.
        reads_want_write: whether the last `receive_into` waits for the socket to become writable.
        writes_want_read: whether the last `send` waits for it to become readable. Only TLS, which sometimes
            has to write in order to read, sets either.
        is_encrypted: whether this stream encrypts with TLS.
    """

    reads_want_write = False
    writes_want_read = False
    is_encrypted = False

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._send, self._receive_into = calls_for(sock)
        self.address = peer_address(sock)
        # Keeps the loop from closing the descriptor under a sender: a moment later its number may belong to
        # another socket. Held for single non-blocking calls. Reentrant, because a signal handler may shut
        # the stream down while its own thread is inside such a call.
        self._lock = reentrant_lock()
        forks.register(self)

    @property
    def raw_socket(self) -> socket.socket:
        """The socket of the network connection. It is for its options and addresses only."""
        return self._sock

    def agreed(self) -> TLS | None:
        """Return the TLS parameters, or None without TLS. Call only before other threads use the stream."""
        return None

    def receive_into(self, buffer: bytearray | memoryview, more: memoryview | None = None) -> int | None:
        """Receive available bytes, at most as many as fit. Loop thread only; never blocks.

        If the buffers are not filled afterwards, all available bytes were received, or a selector reports the
        others, or `pending` is true.

        Args:
            buffer: the memory for the first bytes.
            more: memory for the bytes that follow. Not every stream uses it.

        Returns:
            The number of bytes; 0 at the end of the stream; None if none are available yet.

        Raises:
            OSError: the connection failed.
        """
        return self._receive_into(self._sock, buffer, more)

    def receiver(self) -> Callable[..., int | None]:
        """Return a function that does the same as `receive_into`, with as few calls as possible."""
        return MethodType(self._receive_into, self._sock) if type(self) is Stream else self.receive_into

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Hand bytes to the kernel. May be called from any thread; never blocks.

        Bytes that were not taken must be offered again, in order and before any others: the data of the next
        call begins with the same bytes and is not shorter. Plain TCP needs this to keep its order, and
        OpenSSL insists on it after it has refused a record.

        Returns:
            The number of bytes taken; 0 if there was no room.

        Raises:
            OSError: the connection failed.
        """
        with self._lock:
            return self._send(self._sock, data)

    def direct_socket(self) -> socket.socket | None:
        """Return the socket if bytes may be passed to the kernel without calling `send`, otherwise None.

        The caller needs no lock, but no other thread may run, and close the descriptor, between asking for it
        and the kernel's answer. Only compiled code that holds the GIL can ensure that.
        """
        if type(self) is not Stream or self._send is send_python:
            return None
        # A socket with a `fileno` of its own, such as gevent's, would run other code in between.
        return self._sock if type(self._sock).fileno is socket.SocketType.fileno else None

    def pending(self) -> bool:
        """Return whether received bytes wait inside the stream, where a selector cannot see them."""
        return False

    def progress(self) -> Progress | None:
        """Return TCP's progress with the sent data; None if the kernel does not report it. Loop only."""
        return progress_of(self._sock)

    def is_behind(self) -> bool:
        """Return whether TCP still holds bytes to send. Any thread while it sends, and the loop."""
        return is_behind(self._sock)

    def uncounted(self) -> int:
        """Return how many bytes have been sent that the next `send` would count. While no thread sends."""
        return 0

    def fileno(self) -> int:
        """Return the descriptor to wait on; -1 after `close`."""
        return self._sock.fileno()

    def shutdown(self) -> None:
        """End the connection in both directions, which wakes the loop. Any thread; never blocks."""
        with self._lock:
            try:
                # SSLSocket's own shutdown() first drops its TLS object, and a sender that comes
                # next would write in the clear.
                raw = isinstance(self._sock, socket.SocketType)
                shutdown = partial(socket.SocketType.shutdown, self._sock) if raw else self._sock.shutdown
                shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is no longer connected, or closed, as it should be

    def close(self) -> None:
        """Release the descriptor. Loop thread only; closing again does nothing."""
        with self._lock:
            self._sock.close()

    def reset_after_fork(self) -> None:
        """Close the copy of the socket in the child of a fork. The connection itself is not affected."""
        self._lock = reentrant_lock()
        self._sock.close()


def peer_address(sock: socket.socket) -> str:
    """Return the peer's ``ip:port``, or an empty text if the socket has none."""
    try:
        peer = sock.getpeername()
    except OSError:
        return ""
    return address_text(peer) if isinstance(peer, tuple) else ""


def address_text(sockaddr: Sequence[Any]) -> str:
    """Format an address as ``ip:port``, with brackets round an IPv6 address."""
    return f"{bracketed(str(sockaddr[0]))}:{sockaddr[1]}"
