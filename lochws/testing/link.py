"""One accepted socket, plain or TLS, whose waits another thread can always interrupt."""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
from contextlib import suppress
from time import monotonic

#: The maximum number of bytes received by one call.
_CHUNK = 64 * 1024
#: TCP keepalive, where the system has these options: seconds of silence before the first probe, seconds
#: between probes, and the number of probes that may remain unanswered.
_TCP_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
#: Poll needs no descriptor of its own, and accepts any descriptor number; Windows has only select.
WaitSelector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class ClientLeftError(Exception):
    """The client ended the connection, or the network lost it."""


class StoppedError(Exception):
    """The server is being closed, or this connection has been told to end."""


class LinkEndedError(Exception):
    """The script itself ended the connection."""


class Link:
    """The byte stream of one connection. For one thread at a time, except `wake` and `stop`.

    Args:
        sock: the accepted socket; the link owns it.
        tls: the TLS context, or None. The first call that needs TLS performs the handshake.
        patience: the time limit for sending and for the TLS handshake, in seconds.

    Attributes:
        piece: the maximum number of bytes passed to one system call, or None for no limit.
        budget: how many more bytes to send before the connection is cut, or None.
        cut_with_fin: whether to cut it with FIN instead of a reset.
        peer: the client's address and port as text.
        bytes_sent: bytes sent so far, before encryption.
    """

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None, patience: float) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _keep_alive(sock)
        self._sock = sock
        self.peer = _peer(sock)
        self._tls = tls
        self._patience = patience
        self._near, self._far = socket.socketpair()  # any thread writes to _far, the waiter reads _near
        self._near.setblocking(False)
        self._far.setblocking(False)
        self._stopped = False
        self.waits = 0  # the number of waits so far; read by any thread
        self._waits_for: int | None = None  # the mask of the wait in progress
        self._corked: bytearray | None = None
        self.piece: int | None = None
        self.budget: int | None = None
        self.cut_with_fin = False
        self.bytes_sent = 0

    def wake(self) -> None:
        """End the wait in progress, or the next one. Any thread; not after `close`."""
        with suppress(BlockingIOError):  # the buffer is full, so the wait ends anyway
            self._far.send(b"w")

    def stop(self) -> None:
        """Make this and every later wait raise `StoppedError`. Any thread; not after `close`."""
        self._stopped = True
        self.wake()

    def wait(self, *, read: bool, write: bool = False, timeout: float | None) -> bool:
        """Wait for the socket, for `wake`, or until the timeout (in seconds) has passed.

        Returns:
            Whether the socket is ready.

        Raises:
            StoppedError: `stop` was called.
        """
        mask = selectors.EVENT_READ * read | selectors.EVENT_WRITE * write
        self.waits += 1
        self._waits_for = mask
        ready = self._select(mask, timeout)
        self._waits_for = None
        if self._near in ready:
            self._near.recv(_CHUNK)
        if self._stopped:
            raise StoppedError
        return self._sock in ready

    def rest(self) -> int | None:
        """Return the number of waits if one is in progress and nothing is about to end it, or None."""
        waits, mask = self.waits, self._waits_for
        try:
            return None if mask is None or self._select(mask, 0.0) else waits
        except (OSError, ValueError):  # closed in the meantime
            return None

    def _select(self, mask: int, timeout: float | None) -> list[object]:
        with WaitSelector() as selector:
            selector.register(self._near, selectors.EVENT_READ)
            if mask:
                selector.register(self._sock, mask)
            return [key.fileobj for key, _ in selector.select(timeout)]

    def receive(self) -> bytes:
        """Return the bytes that have arrived, possibly none. Does not wait, except for a TLS handshake.

        Raises:
            ClientLeftError: no bytes have arrived, and no more will.
        """
        self.start_tls()
        data = bytearray()
        while True:
            try:
                chunk = self._sock.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return bytes(data)
            except OSError as error:
                chunk, why = b"", str(error)
            else:
                why = "the client ended the connection"
            if not chunk and not data:
                raise ClientLeftError(why)
            data += chunk
            # Limited, so that a client that never pauses cannot fill the memory. But the data that TLS has
            # already decrypted is read, because no selector sees it.
            if not (chunk and isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
                return bytes(data)

    def send(self, data: bytes) -> None:
        """Hand bytes to the kernel, in pieces of `piece` bytes, and cut the connection after `budget` bytes.

        Raises:
            ClientLeftError: the connection is lost.
            TimeoutError: the client did not read for longer than the patience.
            LinkEndedError: the connection was cut because the budget was used up.
        """
        if self._corked is not None:
            self._corked += data
            return
        self.start_tls()
        rest = memoryview(data)
        while rest and self.budget != 0:
            size = min(len(rest), self.piece or len(rest), self.budget or len(rest))
            sent = self._send_some(rest[:size])
            rest = rest[sent:]
            self.bytes_sent += sent
            if self.budget is not None:
                self.budget -= sent
        if self.budget == 0:
            self._cut()

    def cork(self) -> None:
        """Hold back data sent from now on, until `uncork`."""
        self._corked = bytearray()

    def uncork(self) -> None:
        """Send the data that was held back, in one call."""
        data, self._corked = self._corked or b"", None
        self.send(bytes(data))

    def start_tls(self) -> None:
        """Perform the server's side of the TLS handshake, unless it is complete or the link is plain TCP.

        Raises:
            ClientLeftError: the handshake failed.
            TimeoutError: the handshake took longer than the patience.
        """
        if self._tls is None:
            return
        context, self._tls = self._tls, None
        tls = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        self._sock = tls
        end = monotonic() + self._patience
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._wait_until(end, read=True)
            except ssl.SSLWantWriteError:
                self._wait_until(end, read=False)
            except OSError as error:
                raise ClientLeftError(f"TLS handshake: {error}") from error

    def stall(self) -> None:
        """Read and discard raw TCP bytes, and send nothing, until the client leaves."""
        self._tls = None
        while True:
            self.wait(read=True, timeout=None)
            self.receive()

    def finish(self) -> None:
        """Send FIN: nothing more will be sent. TLS gets no close_notify."""
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_WR)
        except OSError as error:
            raise ClientLeftError(str(error)) from error

    def drain(self, seconds: float) -> None:
        """Read and discard data until the client ends the connection or the time is up. Works after `stop`.

        Closing a socket with unread bytes resets the connection, which could discard the data sent last.
        """
        end = monotonic() + seconds
        with WaitSelector() as selector, suppress(ClientLeftError):
            selector.register(self._sock, selectors.EVENT_READ)
            while (left := end - monotonic()) > 0 and selector.select(left):
                self.receive()

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def close(self) -> None:
        """Close the socket, and the pair of sockets that wakes the waiter."""
        for sock in (self._sock, self._near, self._far):
            sock.close()

    def _send_some(self, data: memoryview) -> int:
        end = monotonic() + self._patience
        while True:
            try:
                return self._sock.send(data)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait_until(end, read=False)
            except ssl.SSLWantReadError:
                self._wait_until(end, read=True)
            except OSError as error:
                raise ClientLeftError(str(error)) from error

    def _wait_until(self, end: float, *, read: bool) -> None:
        left = end - monotonic()
        if left <= 0:
            raise TimeoutError(f"the client stalled the server for {self._patience:g} s")
        self.wait(read=read, write=not read, timeout=left)

    def _cut(self) -> None:
        if self.cut_with_fin:
            self.finish()
        else:
            self.reset()
        raise LinkEndedError


def _peer(sock: socket.socket) -> str:
    try:
        host, port = sock.getpeername()[:2]
    except (OSError, ValueError):  # the client has already left; Unix sockets have no port
        return "an unknown address"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _keep_alive(sock: socket.socket) -> None:
    """Enable TCP keepalive, so that the kernel detects a client that has vanished."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
