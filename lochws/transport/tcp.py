"""TCP and Unix sockets: name resolution, and connecting to several addresses in a race."""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import zip_longest
from time import monotonic
from typing import Any, TypeAlias

from ..errors import ConnectFail
from ..system.deadline import Deadline
from ..system.steps import Steps, Wait
from .sharedcalls import SharedCalls
from .stream import address_text
from .waiting import cause

#: As `socket.getaddrinfo` gives it: family, type, protocol, canonical name, socket address.
AddressInfo: TypeAlias = "tuple[int, int, int, str, tuple[Any, ...]]"

#: What `socket.setsockopt` takes.
SocketOption: TypeAlias = "tuple[int, int, int | bytes]"

#: Seconds between the beginnings of two attempts (RFC 8305 section 5).
STAGGER = 0.25
#: How many addresses are tried at the same time. For one more, the one that began first is given up.
MAX_RACING = 16
#: How many failed addresses an error names.
_MAX_NAMED = 8

_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR}


#: How many look-ups may run at the same time in this process.
MAX_LOOKUPS = 16
_lookups: SharedCalls[list[AddressInfo]] = SharedCalls("lochws-resolver", MAX_LOOKUPS)


def resolve(host: str, port: int, deadline: Deadline) -> Steps[list[AddressInfo]]:
    """Return the addresses of a host, in the resolver's order of preference.

    A look-up cannot be interrupted. One that outlasts the deadline is left running, and other requests for
    the same name share it, so that there is never more than one thread per name, and `MAX_LOOKUPS` in all.

    Raises:
        ConnectFail: the look-up failed or took too long, or found nothing (phase ``"resolve"``).
        Cancelled: the deadline was cancelled.
    """
    numeric = _resolve_numeric(host, port)
    if numeric:
        return numeric
    try:
        lookup = yield from _lookups.call((host, port), partial(_look_up, host, port), deadline, host)
    except TimeoutError as error:
        raise _unresolved(host, error) from error
    if lookup.error is not None:
        raise _unresolved(host, lookup.error) from lookup.error
    (addresses,) = lookup.results
    if not addresses:
        raise ConnectFail(f"cannot resolve {host!r}: it has no address", phase="resolve")
    return addresses


def _look_up(host: str, port: int) -> list[AddressInfo]:
    # Programs replace this function, so it is looked up on each call. Arguments are positional,
    # because the replacements differ in the names of their parameters.
    found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    return [address for address in map(_as_stream_address, found) if address is not None]


def connect_tcp(
    addresses: list[AddressInfo],
    deadline: Deadline,
    *,
    source_address: tuple[str, int] | None = None,
    socket_options: Sequence[SocketOption] = (),
) -> Steps[socket.socket]:
    """Connect to the first of the addresses that accepts, in a race (RFC 8305, "Happy Eyeballs").

    The address families take turns, beginning with the resolver's favorite. The next address is tried as
    soon as one fails, or `STAGGER` seconds after the last attempt began, or sooner if time is short. The
    others stay in the race until one wins, or `MAX_RACING` later ones have begun.

    Args:
        source_address: the address and port to connect from; addresses of another family fail.
        socket_options: arguments for `socket.setsockopt`, applied before connecting.

    Returns:
        A connected, non-blocking socket with TCP_NODELAY set.

    Raises:
        ConnectFail: none accepted; the text names the causes for the first addresses (phase ``"tcp"``).
        Cancelled: the deadline was cancelled.
    """
    race = _Race(interleaved(addresses), deadline, source_address, socket_options)
    try:
        return (yield from race.run())
    finally:
        race.end()


def connect_unix(path: str) -> socket.socket:
    """Connect to a Unix socket. Never blocks: a server whose queue is full refuses the connection.

    Returns:
        A connected, non-blocking socket.

    Raises:
        ConnectFail: no server accepts there (phase ``"tcp"``).
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


def interleaved(addresses: list[AddressInfo]) -> list[AddressInfo]:
    """Reorder addresses so that the families take turns (RFC 8305 section 4)."""
    if len(addresses) == 1:
        return addresses
    families: dict[int, list[AddressInfo]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    turns = zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None]


class _Race:
    """Attempts to connect to several addresses at once. It owns the sockets until one wins."""

    def __init__(
        self,
        addresses: list[AddressInfo],
        deadline: Deadline,
        source_address: tuple[str, int] | None,
        socket_options: Sequence[SocketOption],
    ) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._source_address = source_address
        self._socket_options = socket_options
        self._begun = 0  # how many of the addresses
        self._failures: dict[int, Exception] = {}  # by the address's index
        self._racing: dict[socket.socket, int] = {}  # the address's index by socket

    def run(self) -> Steps[socket.socket]:
        """Wait until a socket is connected, or all have failed."""
        due, at_once = 0.0, 0
        while self._begun < len(self._addresses) or self._racing:
            try:
                until = self._deadline.until()
            except TimeoutError as error:
                raise self._failure(error) from error
            now = monotonic()
            if self._begun < len(self._addresses):
                if due <= now or not self._racing:
                    due = now + self._stagger(None if until is None else until - now)
                    if (winner := self._begin()) is not None:
                        return winner
                    at_once += 1
                    if at_once % MAX_RACING == 0:
                        yield Wait((), 0.0)  # there may be thousands, and the loop has other work
                    continue
                until = due if until is None else min(until, due)
            for sock in (yield Wait(tuple((sock, selectors.EVENT_WRITE) for sock in self._racing), until)):
                if (winner := self._settle(sock)) is not None:  # type: ignore[arg-type]  # one of those
                    return winner
                due = 0.0
        raise self._failure(None)

    def end(self) -> None:
        """Close the sockets that are still in the race."""
        for sock in self._racing:
            sock.close()

    def _stagger(self, left: float | None) -> float:
        # Each address gets a try, however little time is left.
        return STAGGER if left is None else min(STAGGER, left / (len(self._addresses) - self._begun))

    def _begin(self) -> socket.socket | None:
        """Start with the next address. Returns the socket if it is connected already."""
        index, self._begun = self._begun, self._begun + 1
        family, kind, proto, _, sockaddr = self._addresses[index]
        try:
            sock = socket.socket(family, kind, proto)
        except Exception as error:  # noqa: BLE001  programs replace this class, and some refuse in their own way
            self._failures[index] = error
            return None
        if len(self._racing) == MAX_RACING:
            first = next(iter(self._racing))
            self._lose(first, TimeoutError(f"no answer while {MAX_RACING} others were tried"))
        self._racing[sock] = index
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option in self._socket_options:
                sock.setsockopt(*option)
            if self._source_address is not None:
                _bind(sock, self._source_address)
            code = sock.connect_ex(sockaddr)
        except Exception as error:  # noqa: BLE001  an address of the resolver's that is none, for one
            self._lose(sock, error)
            return None
        return None if code in _IN_PROGRESS else self._settle(sock, code)

    def _settle(self, sock: socket.socket, code: int | None = None) -> socket.socket | None:
        """Finish an attempt. Returns the socket if it is connected, else None."""
        try:
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if code is None else code
            if code == 0 and sock.getsockname() == sock.getpeername():
                # Nothing listens, and the kernel chose the target's port for our own end: TCP then connects a
                # socket to itself. Reconnecting to a local server can run into this.
                code = errno.ECONNREFUSED
            if code:
                raise OSError(code, os.strerror(code))
        except OSError as error:
            self._lose(sock, error)
            return None
        del self._racing[sock]
        return sock

    def _lose(self, sock: socket.socket, error: Exception) -> None:
        self._failures[self._racing.pop(sock)] = error
        sock.close()

    def _failure(self, ending: OSError | None) -> ConnectFail:
        """Describe the failure of all addresses; `ending` is that of those that were still in the race."""
        causes = []
        for index in range(min(self._begun, _MAX_NAMED)):
            error = self._failures.get(index, ending)
            assert error is not None
            causes.append(f"{address_text(self._addresses[index][4])}: {cause(error)}")
        if self._begun > _MAX_NAMED:
            causes.append(f"and {self._begun - _MAX_NAMED} other addresses")
        last = self._failures.get(self._begun - 1, ending)
        address = address_text(self._addresses[self._begun - 1][4]) if causes else None
        fail = ConnectFail("; ".join(causes) or cause(last or OSError()), phase="tcp", address=address)
        fail.__cause__ = last
        return fail


def _resolve_numeric(host: str, port: int) -> list[AddressInfo]:
    """Return the address if the host is one, else an empty list."""
    function = socket.getaddrinfo
    if getattr(getattr(function, "__code__", None), "co_filename", None) != socket.__file__:
        return []  # it was replaced, and may block whatever it is asked
    try:
        # The zone of an IPv6 address has a number, which may change.
        return list(_numeric.__wrapped__(host, port) if "%" in host else _numeric(host, port))
    except (OSError, ValueError):
        return []


@lru_cache(maxsize=64)
def _numeric(host: str, port: int) -> tuple[AddressInfo, ...]:
    # This asks neither the network nor a file, so it may run in any thread.
    return tuple(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST))


def _as_stream_address(found: Any) -> AddressInfo | None:
    """Check one result of `socket.getaddrinfo`; None if it is malformed or not for TCP."""
    try:
        family, kind, proto, name, sockaddr = found
        ip, port, *rest = tuple(sockaddr) if isinstance(sockaddr, (tuple, list)) else ()
        kind = int(kind or socket.SOCK_STREAM)
        address = (int(family), kind, int(proto), str(name), (ip, int(port), *rest))
    except (TypeError, ValueError):
        return None
    return address if isinstance(ip, str) and kind == socket.SOCK_STREAM else None


def _unresolved(host: str, error: BaseException) -> ConnectFail:
    # The text of an error of the system's own resolver is enough. A replaced one may raise anything.
    kind = "" if isinstance(error, (OSError, ValueError, RuntimeError)) else f"{type(error).__name__}: "
    return ConnectFail(f"cannot resolve {host!r}: {kind}{cause(error)}", phase="resolve")


def _bind(sock: socket.socket, source: tuple[str, int]) -> None:
    if (sock.family == socket.AF_INET6) != (":" in source[0]):
        raise OSError(errno.EAFNOSUPPORT, f"source_address {source[0]} is of another address family")
    sock.bind(source)
