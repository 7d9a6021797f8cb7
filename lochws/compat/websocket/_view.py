"""SocketView: the `sock` of a WebSocket, which can be selected and polled but not read or written."""

from __future__ import annotations

import errno
import socket
from typing import Any, NoReturn

from ._link import Link

_SEND = "use send(), send_binary() or send_frame() of the WebSocket"
_RECEIVE = "use recv() or recv_data_frame() of the WebSocket"


class SocketView:
    """The `sock` of an open WebSocket. Any thread may use it.

    Its descriptor is readable while a message, a control frame or the end of the connection is waiting to be
    received, so that `select`, `poll` and event loops tell when `WebSocket.recv` will not block. It is not
    the descriptor of the network connection: lochws reads that itself, to answer pings at any time.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    def fileno(self) -> int:
        """Return a descriptor for `select` and `poll`; -1 once the WebSocket is closed."""
        return self._link.fileno()

    def pending(self) -> int:
        """Return 0: everything that waits makes the descriptor readable, with TLS, too."""
        return 0

    def gettimeout(self) -> float | None:
        """Return the timeout in seconds, or None."""
        return self._link.timeout

    def settimeout(self, timeout: float | None) -> None:
        """Set the timeout of `WebSocket.recv` in seconds; None for no limit, 0 not to wait at all."""
        self._link.timeout = timeout

    def getpeername(self) -> Any:
        """Return the address of the server, or of the proxy if there is one, as a socket does.

        Raises:
            OSError: the connection has ended.
        """
        return self._socket().getpeername()

    def getsockname(self) -> Any:
        """Return the local address, as a socket does; raise OSError if the connection has ended."""
        return self._socket().getsockname()

    def getsockopt(self, level: int, option: int, *size: int) -> int | bytes:
        """Return an option of the network connection; raise OSError if that has ended."""
        return self._socket().getsockopt(level, option, *size)

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        """Set an option of the network connection; raise OSError if that has ended."""
        self._socket().setsockopt(level, option, *value)

    def _socket(self) -> socket.socket:
        connection = self._link.app._lochws.life.connection
        if connection is None or self._link.is_discarded:
            raise OSError(errno.EBADF, "the connection of the WebSocket has ended")
        return connection._stream.raw_socket

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """End the connection, without a Close frame; threads in `WebSocket.recv` wake up."""
        self._link.drop()

    def close(self) -> None:
        """End the connection, without a Close frame, and discard what has not been received."""
        self._link.discard()

    def send(self, data: object, flags: int = 0) -> NoReturn:
        """Raise NotImplementedError: bytes cannot be written past the WebSocket."""
        raise NotImplementedError(f"sock.send(): lochws writes the frames itself; {_SEND}")

    def sendall(self, data: object, flags: int = 0) -> NoReturn:
        """Raise NotImplementedError: bytes cannot be written past the WebSocket."""
        raise NotImplementedError(f"sock.sendall(): lochws writes the frames itself; {_SEND}")

    def recv(self, size: int, flags: int = 0) -> NoReturn:
        """Raise NotImplementedError: bytes cannot be read past the WebSocket."""
        raise NotImplementedError(f"sock.recv(): lochws reads the frames itself; {_RECEIVE}")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_") or not hasattr(socket.socket, name):
            raise AttributeError(f"the sock of a WebSocket has no attribute {name!r}")
        raise NotImplementedError(
            f"sock.{name}: lochws owns the network connection; to prepare a socket, pass sockopt= or socket= "
            "when you connect"
        )
