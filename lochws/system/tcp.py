"""TCP state: what the kernel knows about a connection and no socket event reports."""

from __future__ import annotations

import socket
import struct
import sys

from ..base.records import record

try:  # Linux and macOS; only Linux reports how much TCP has acknowledged
    import fcntl
    import termios
except ImportError:
    fcntl = termios = None  # type: ignore[assignment]

#: Where ``tcpi_bytes_acked`` stands in Linux's ``struct tcp_info`` (since 4.1), and how much of it is wanted.
_BYTES_ACKED = struct.Struct("=120xQ")


#: Where ``tcpi_retransmits`` and ``tcpi_notsent_bytes`` stand there (since 4.6).
_UNSENT = struct.Struct("=2xB141xL")


@record(frozen=True)
class Progress:
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


def is_behind(sock: socket.socket) -> bool:
    """Return whether the kernel holds bytes that it has not sent yet, or waits for lost ones to get through.

    False if the kernel does not report it.
    """
    option = getattr(socket, "TCP_INFO", None)
    if option is None or sys.platform != "linux":
        return False
    try:
        retransmits, unsent = _UNSENT.unpack(sock.getsockopt(socket.IPPROTO_TCP, option, _UNSENT.size))
    except (OSError, struct.error):  # a Unix socket, a closed one, or an older kernel
        return False
    return bool(retransmits or unsent)
