"""One accepted socket, plain or TLS, that never blocks where nobody could wake it."""

from __future__ import annotations

import selectors
import socket
import ssl
import struct
from time import monotonic

#: What one receive call takes.
_CHUNK = 64 * 1024
#: Needs no descriptor of its own and, where there is poll, has no limit to their numbers.
WaitSelector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class ClientLeftError(Exception):
    """The client has ended the connection, or it broke."""


class StoppedError(Exception):
    """The server is being closed."""


class LinkEndedError(Exception):
    """The script itself has ended the connection."""


class Link:
    """A connection's bytes. One thread at a time, but for `wake` and `stop`.

    Args:
        sock: the accepted socket; the link owns it.
        tls: the context for TLS, or None. The handshake is done by the first call that needs it.
        patience: seconds that sending and the TLS handshake may take.

    Attributes:
        piece: how many bytes one system call is given at most, or None for all there are.
        budget: how many more bytes may leave before the connection is cut, or None.
        cut_with_fin: whether it is then cut with FIN instead of a reset.
        bytes_sent: bytes that have left, before encryption.
    """

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None, patience: float) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._tls = tls
        self._patience = patience
        self._near, self._far = socket.socketpair()  # any thread writes to _far, the waiter reads _near
        self._near.setblocking(False)
        self._far.setblocking(False)
        self._stopped = False
        self.waits = 0  # so far; read by anyone
        self._waits_for: int | None = None  # the mask of the wait under way
        self._corked: bytearray | None = None
        self.piece: int | None = None
        self.budget: int | None = None
        self.cut_with_fin = False
        self.bytes_sent = 0

    def wake(self) -> None:
        """End a wait under way, or the next one. Any thread; not after `close`."""
        try:
            self._far.send(b"w")
        except BlockingIOError:
            pass  # as good as woken

    def stop(self) -> None:
        """Make this and every later wait raise `StoppedError`. Any thread; not after `close`."""
        self._stopped = True
        self.wake()

    def wait(self, *, read: bool, write: bool = False, timeout: float | None) -> bool:
        """Wait for the socket, for `wake`, or for so many seconds.

        Returns:
            Whether the socket is ready.

        Raises:
            StoppedError: the server is being closed.
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
        """How many waits there were, if one is under way that nothing ends; else None. Any thread."""
        waits, mask = self.waits, self._waits_for
        try:
            return None if mask is None or self._select(mask, 0.0) else waits
        except (OSError, ValueError):  # closed in this moment
            return None

    def _select(self, mask: int, timeout: float | None) -> list[object]:
        with WaitSelector() as selector:
            selector.register(self._near, selectors.EVENT_READ)
            if mask:
                selector.register(self._sock, mask)
            return [key.fileobj for key, _ in selector.select(timeout)]

    def receive(self) -> bytes:
        """All that is there, perhaps nothing. Does not wait, but for a TLS handshake.

        Raises:
            ClientLeftError: nothing is there, and nothing more will come.
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
                why = "it ended the connection"
            if not chunk:
                if data:
                    return bytes(data)  # the end is met again by the next call
                raise ClientLeftError(why)
            data += chunk

    def send(self, data: bytes) -> None:
        """Hand bytes to the kernel, in the pieces and up to the cut that were asked for.

        Raises:
            ClientLeftError: the connection is lost.
            TimeoutError: the client did not read for as long as the patience lasts.
            LinkEndedError: the connection was cut, as asked.
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
        """Keep what is sent from now on, until `uncork`."""
        self._corked = bytearray()

    def uncork(self) -> None:
        """Send what was kept, in one call."""
        data, self._corked = self._corked or b"", None
        self.send(bytes(data))

    def start_tls(self) -> None:
        """Do the server's side of the TLS handshake, unless it was done or there is none.

        Raises:
            ClientLeftError: it failed.
            TimeoutError: it took longer than the patience lasts.
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
        """Read and discard, as bytes of TCP, until the client leaves; say nothing."""
        self._tls = None
        while True:
            self.wait(read=True, timeout=None)
            self.receive()

    def finish(self) -> None:
        """Send FIN: nothing more comes from here. TLS gets no close_notify."""
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_WR)
        except OSError as error:
            raise ClientLeftError(str(error)) from error

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def close(self) -> None:
        """Close the socket and what wakes the waiter."""
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
            raise TimeoutError(f"the client did not let the server go on for {self._patience:g} s")
        self.wait(read=read, write=not read, timeout=left)

    def _cut(self) -> None:
        if self.cut_with_fin:
            self.finish()
        else:
            self.reset()
        raise LinkEndedError
