"""TCP state: what the kernel knows about a connection and no socket event reports."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

try:  # Linux and macOS; only Linux reports how much TCP has acknowledged
    import fcntl
    import termios
except ImportError:
    fcntl = termios = None  # type: ignore[assignment]

#: Where ``tcpi_bytes_acked`` stands in Linux's ``struct tcp_info`` (since 4.1), and how much of it is wanted.
_BYTES_ACKED = struct.Struct("=120xQ")


class Progress(NamedTuple):
    """The progress of the bytes sent on a connection.

    Attributes:
        acknowledged: bytes that the other side's TCP has acknowledged so far.
        waiting: bytes that the kernel has taken and that are not acknowledged yet.
    """

    acknowledged: int
    waiting: int


def progress_of(sock: socket.socket) -> Progress | None:
    """Return the progress of a socket's sent bytes, or None if the kernel does not report it."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None or fcntl is None:
        return None
    try:
        (acknowledged,) = _BYTES_ACKED.unpack(sock.getsockopt(socket.IPPROTO_TCP, option, _BYTES_ACKED.size))
        (waiting,) = struct.unpack("=i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
    except (OSError, ValueError, struct.error):  # a Unix socket, a closed one, or an older kernel
        return None
    return Progress(acknowledged, waiting)
