"""Wake-up: a descriptor that one thread waits on and any thread can make readable."""

from __future__ import annotations

import socket
import threading

from ..errors import WebSocketError
from . import forks
from .control import control_lock
from .syscalls import send

#: The lock factory of `threading` when lochws was imported.
_LOCK = threading.Lock


class WakePipe:
    """A pair of sockets: `wake` writes a byte to one, and the waiting thread selects on the other.

    Both are non-blocking. A full pipe does no harm: the waiting thread has been woken already.

    Raises:
        WebSocketError: `threading` was patched, as by gevent, after lochws was imported. Some locks of lochws
            could then block all greenlets, possibly forever.
        OSError: there are no descriptors left.
    """

    def __init__(self) -> None:
        if threading.Lock is not _LOCK:
            raise WebSocketError("threading was patched after lochws was imported; patch it first")
        self._waiter, self._waker = socket.socketpair()
        self._waiter.setblocking(False)
        self._waker.setblocking(False)
        # Without the lock, a byte of wake() could go to a descriptor that was closed and opened again
        # meanwhile. The control lock, because a signal handler may call wake() while its thread holds that.
        self._lock = control_lock()
        self._closed = False  # guarded by _lock
        forks.register(self)

    def fileno(self) -> int:
        """Return the descriptor to wait on for reading."""
        return self._waiter.fileno()

    def wake(self) -> None:
        """Make the descriptor readable. May be called from any thread, also after `close`."""
        with self._lock:
            if not self._closed:
                send(self._waker, b"\0")

    def drain(self) -> None:
        """Read all bytes, so that the descriptor is no longer readable. For the waiting thread."""
        try:
            while len(self._waiter.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def reset_after_fork(self) -> None:
        """Close the copied descriptors in the child of a fork. The parent keeps its pipe."""
        self._lock = control_lock()
        self.close()

    def close(self) -> None:
        """Release both descriptors."""
        with self._lock:
            self._closed = True
            self._waiter.close()
            self._waker.close()
