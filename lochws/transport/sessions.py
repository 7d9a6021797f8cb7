"""TLS sessions: what one connection got from its server lets the next one skip half of the handshake."""

from __future__ import annotations

import ssl
from threading import Lock
from typing import TypeAlias

from .. import forks

#: Whose session it is: the name in the certificate, the port, and whether it is the WebSocket's own server.
Server: TypeAlias = tuple[str, int, bool]

#: How often a server that never resumes is asked for its session, in one process.
ASKED_IN_VAIN = 16
#: So many resumed connections earn a server one more asking.
RESUMED_FOR_ONE = 16

_MAX_SESSIONS = 16
_MAX_SERVERS = 1024


class Askings:
    """How often each server may still be asked for a session. Any thread may call.

    CPython leaks some 6 KB each time an `ssl.SSLSocket` is asked for its session: no matter if the next
    connection resumes it, a slow death of a process that reconnects for weeks to a server that never does.
    So each server has a credit, which lasts for `ASKED_IN_VAIN` askings and grows with connections resumed.
    """

    def __init__(self) -> None:
        self._lock = Lock()  # guards _credit; a leaf, held for these lines alone
        self._credit: dict[tuple[str, int], int] = {}  # in parts, of which one asking costs RESUMED_FOR_ONE
        forks.make_known(self)

    def forget(self) -> None:
        """In the child of a fork: the credit goes on from here."""
        self._lock = Lock()

    def spend(self, host: str, port: int) -> bool:
        """Take one asking off the server's credit. Returns False if there is none left."""
        with self._lock:
            left = self._credit.get((host, port), ASKED_IN_VAIN * RESUMED_FOR_ONE)
            if left < RESUMED_FOR_ONE:
                return False
            if (host, port) not in self._credit and len(self._credit) >= _MAX_SERVERS:
                self._credit.pop(next(iter(self._credit)))  # the oldest begins anew, if it ever comes back
            self._credit[host, port] = left - RESUMED_FOR_ONE
            return True

    def earn(self, host: str, port: int) -> None:
        """Count a connection that was resumed."""
        with self._lock:
            if (host, port) in self._credit:
                most = ASKED_IN_VAIN * RESUMED_FOR_ONE
                self._credit[host, port] = min(most, self._credit[host, port] + 1)


#: Those of the process: a program that makes a new WebSocket for each connection has one credit all the same.
ASKINGS = Askings()


class Sessions:
    """The sessions of one WebSocket, which no other sees.

    One thread at a time opens connections and asks for a session to offer; another may close them.
    """

    def __init__(self) -> None:
        self._sessions: dict[Server, ssl.SSLSession] = {}  # items are only ever read or replaced

    def of(self, server: Server) -> ssl.SSLSession | None:
        """The session to offer to that server, or None."""
        return self._sessions.get(server)

    def take_from(self, sock: ssl.SSLSocket, server: Server) -> None:
        """Keep the session of a connection that is about to be closed, unless it was a resumed one itself.

        Call it as late as that: with TLS 1.3 the session comes some time after the handshake (RFC 8446
        section 4.6.1). The caller holds the lock of the stream.
        """
        if sock.fileno() < 0:
            return
        host, port, _ = server
        if sock.session_reused:
            ASKINGS.earn(host, port)
            return
        session = sock.session if ASKINGS.spend(host, port) else None
        if session is not None and session.has_ticket:
            if len(self._sessions) >= _MAX_SESSIONS:  # only redirects lead to so many servers
                self._sessions.clear()
            self._sessions[server] = session
