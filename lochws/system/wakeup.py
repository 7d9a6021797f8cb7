"""A descriptor that one thread waits on and any thread makes readable."""

from __future__ import annotations

import socket
import threading

from ..errors import WebSocketError
from . import forks
from .syscalls import send

#: What locks were made with when lochws was imported.
_LOCK = threading.Lock


class WakePipe:
    """A pair of sockets: `wake` writes a byte to one, the waiting thread selects on the other.

    Both ends are non-blocking. A full pipe is fine: the waiter has been woken already.

    Raises:
        WebSocketError: `threading` was patched, as gevent does, after lochws was imported: some locks of
            lochws would then stop all greenlets at once, perhaps for ever.
    """

    def __init__(self) -> None:
        if threading.Lock is not _LOCK:
            raise WebSocketError("threading was patched after lochws was imported: patch it before")
        self._waiter, self._waker = socket.socketpair()
        self._waiter.setblocking(False)
        self._waker.setblocking(False)
        # Closing under a concurrent wake() would let that byte go to whoever gets the descriptor next.
        # Reentrant, because a signal handler may wake while its own thread is inside wake().
        self._lock = threading.RLock()
        self._closed = False  # guarded by _lock
        forks.register(self)

    def fileno(self) -> int:
        """The descriptor to wait on for reading."""
        return self._waiter.fileno()

    def wake(self) -> None:
        """Make the descriptor readable. May be called from any thread, also after `close`."""
        with self._lock:
            if not self._closed:
                send(self._waker, b"\0")

    def drain(self) -> None:
        """Make the descriptor unreadable again. For the waiting thread."""
        try:
            while len(self._waiter.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def reset_after_fork(self) -> None:
        """In the child of a fork: leave the pipe to the parent."""
        self._lock = threading.RLock()
        self.close()

    def close(self) -> None:
        """Release both descriptors."""
        with self._lock:
            self._closed = True
            self._waiter.close()
            self._waker.close()
