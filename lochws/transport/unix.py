"""Unix sockets: connected at once or not at all."""

from __future__ import annotations

import os
import socket

from ..errors import ConnectFail
from .waiting import cause


def connect_unix(path: str) -> socket.socket:
    """Connect to a Unix socket. Never blocks: a server whose queue is full refuses.

    Returns:
        A connected, non-blocking socket.

    Raises:
        ConnectFail: nobody accepts there (phase ``"tcp"``).
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ConnectFail("this system has no Unix sockets", phase="tcp", address=path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(path)
        if code:
            raise OSError(code, os.strerror(code))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        sock.close()
        raise ConnectFail(f"{path}: {cause(error)}", phase="tcp", address=path) from error
    except BaseException:
        sock.close()
        raise
    return sock
