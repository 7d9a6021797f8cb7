"""System calls that neither block nor release the GIL.

Python releases the GIL around every socket call, even around those that cannot block. A thread that the call
wakes, or that is computing, then takes it, and the caller gets it back when that thread is done or after
`sys.getswitchinterval` (5 ms). The compiled twins hold the GIL for those microseconds. Where they were built,
they are used for plain non-blocking sockets and for masking keys.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, TypeAlias

from .compiled import choose, load


def send_python(sock: socket.socket, data: bytes | bytearray | memoryview) -> int:
    """Send bytes. Never blocks.

    Args:
        sock: a non-blocking socket.
        data: what to send.

    Returns:
        How many bytes the kernel took; 0 if its buffer is full.

    Raises:
        OSError: the connection failed, or the socket is closed.
    """
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0


def receive_into_python(
    sock: socket.socket, buffer: bytearray | memoryview, more: bytearray | memoryview | None = None
) -> int | None:
    """Receive the bytes that have arrived, at most as many as fit. Never blocks.

    Args:
        sock: a non-blocking socket.
        buffer: the memory for the first bytes.
        more: memory for the bytes that follow, which need not be used.

    Returns:
        How many bytes were received, 0 at the end of the stream, or None if there are none yet.

    Raises:
        OSError: the connection failed, or the socket is closed.
    """
    try:
        # A socket of the user may have a recv_into of its own, which must see all bytes and may slice them.
        is_usual = type(sock).recv_into is socket.socket.recv_into
        if more is not None and is_usual and hasattr(sock, "recvmsg_into"):
            return sock.recvmsg_into((buffer, more))[0]
        with memoryview(buffer) as view:
            return sock.recv_into(view)
    except BlockingIOError:
        return None


_Send: TypeAlias = Callable[[socket.socket, bytes | bytearray | memoryview], int]
_ReceiveInto: TypeAlias = Callable[..., "int | None"]

#: The module of compiled twins, used or not; None where it was not built.
twins = load("system calls")
send: _Send = choose(twins, "send", send_python)
receive_into: _ReceiveInto = choose(twins, "receive_into", receive_into_python)
#: Returns that many unpredictable bytes, as `os.urandom` does; at most 4 KiB at a time.
random_bytes: Callable[[int], bytes] = choose(twins, "random_bytes", os.urandom)
#: Waits as `epoll.poll` does, with the epoll object as its first argument. If the last wait got the GIL back
#: late, this one keeps it for up to 100 µs. None where it is not compiled.
wait: Callable[[Any, float | None, int], list[tuple[int, int]]] | None = choose(twins, "wait", None)


def calls_for(sock: socket.socket) -> tuple[_Send, _ReceiveInto]:
    """Return the fastest `send` and `receive_into` that behave like the socket's own methods."""
    kind = type(sock)
    if kind.send is socket.socket.send and kind.recv_into is socket.socket.recv_into:
        return send, receive_into
    return send_python, receive_into_python
