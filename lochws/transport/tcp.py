"""Names to addresses, and addresses to connected sockets."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
from typing import Any, ClassVar, TypeAlias

from ..deadline import Deadline
from ..errors import ConnectFail
from ..wakeup import WakePipe
from .stream import address_text
from .waiting import cause, wait

#: As `socket.getaddrinfo` gives it: family, type, protocol, canonical name, socket address.
AddressInfo: TypeAlias = "tuple[int, int, int, str, tuple[Any, ...]]"

#: What names are looked up with. It may block for minutes, so it only ever runs in a thread of its own.
getaddrinfo = socket.getaddrinfo

_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR}


def resolve(host: str, port: int, deadline: Deadline) -> list[AddressInfo]:
    """The addresses of a host, in the order of preference.

    A look-up that hangs is left to itself when the deadline ends the wait: nothing can interrupt it.
    Whoever asks for the same name meanwhile shares it, so that one name never has more than one thread.

    Raises:
        ConnectFail: there are none, or not in time (phase ``"resolve"``).
        Cancelled: the deadline was cancelled.
    """
    try:
        return _resolve_numeric(host, port)
    except (OSError, ValueError):
        pass  # not numeric
    pipe = WakePipe()
    try:
        lookup = _Lookup.share(host, port, pipe)
        wait(pipe, selectors.EVENT_READ, deadline)
    except (TimeoutError, RuntimeError) as error:  # RuntimeError: no thread can be started
        raise _unresolved(host, error) from error
    finally:
        pipe.close()
    if lookup.error is not None:
        raise _unresolved(host, lookup.error) from lookup.error
    if not lookup.addresses:
        raise ConnectFail(f"cannot resolve {host!r}: it has no address", phase="resolve")
    return lookup.addresses


class _Lookup(threading.Thread):
    """One call of `getaddrinfo`, and those who wait for it."""

    # Look-ups under way by host and port; this and the lists of waiters are guarded by _lock.
    _running: ClassVar[dict[tuple[str, int], _Lookup]] = {}
    _lock: ClassVar = threading.Lock()

    def __init__(self, host: str, port: int) -> None:
        super().__init__(name=f"lochws-resolver-{host}", daemon=True)
        self._key = (host, port)
        self._waiters: list[WakePipe] = []
        # Written before the waiters are woken, read after.
        self.addresses: list[AddressInfo] = []
        self.error: Exception | None = None

    @classmethod
    def share(cls, host: str, port: int, pipe: WakePipe) -> _Lookup:
        """The look-up under way for this name, or a new one; it wakes the pipe when it has ended."""
        with cls._lock:
            lookup = cls._running.get((host, port))
            if lookup is None:
                lookup = cls(host, port)
                lookup.start()
                cls._running[host, port] = lookup
            lookup._waiters.append(pipe)
            return lookup

    def run(self) -> None:
        host, port = self._key
        try:
            self.addresses = list(getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, ValueError) as error:  # ValueError: a name that IDNA cannot encode, or with a NUL
            self.error = error
        with self._lock:
            del self._running[self._key]
        # No one joins any more. Pipes of those who gave up are closed, and waking them does nothing.
        for pipe in self._waiters:
            pipe.wake()


def connect_tcp(addresses: list[AddressInfo], deadline: Deadline) -> socket.socket:
    """Connect to the first of the addresses that accepts, one after another.

    Each attempt gets its fair share of the time left, so that a dead address leaves time for the rest.

    Returns:
        A connected, non-blocking socket with TCP_NODELAY set.

    Raises:
        ConnectFail: none accepted; the text has every address with its cause (phase ``"tcp"``).
        Cancelled: the deadline was cancelled.
    """
    failures: list[tuple[str, OSError]] = []
    for index, address in enumerate(addresses):
        try:
            left = deadline.remaining()
            share = None if left is None else left / (len(addresses) - index)
            return _connect(address, deadline, share)
        except OSError as error:
            failures.append((address_text(address[4]), error))
    tried, last = failures[-1]
    causes = "; ".join(f"{where}: {cause(error)}" for where, error in failures)
    raise ConnectFail(causes, phase="tcp", address=tried) from last


def _resolve_numeric(host: str, port: int) -> list[AddressInfo]:
    # Neither network nor file is asked for this, so it may run in any thread.
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))


def _unresolved(host: str, error: Exception) -> ConnectFail:
    return ConnectFail(f"cannot resolve {host!r}: {cause(error)}", phase="resolve")


def _connect(address: AddressInfo, deadline: Deadline, share: float | None) -> socket.socket:
    family, kind, proto, _, sockaddr = address
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(sockaddr)
        if code in _IN_PROGRESS:
            if not wait(sock, selectors.EVENT_WRITE, deadline, share):
                raise TimeoutError(f"no answer within {share:.3g} s")
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0 and sock.getsockname() == sock.getpeername():
            # Nobody listens, and the kernel drew the target's port for our own end: TCP then
            # connects a socket to itself. Reconnecting to a local server meets this.
            code = errno.ECONNREFUSED
        if code:
            raise OSError(code, os.strerror(code))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock
