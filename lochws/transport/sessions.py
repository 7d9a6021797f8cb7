"""TLS sessions: what one connection got from its server lets the next one skip half of the handshake."""

from __future__ import annotations

import ssl
from threading import Lock
from time import monotonic
from typing import TypeAlias

from ..system import forks

#: Whose session it is: the name in the certificate, the port, and whether it is the WebSocket's own server.
Server: TypeAlias = tuple[str, int, bool]

#: How often a server is asked for its session at once, in one process; and after how many seconds once more.
ASKED_AT_ONCE = 16
ASKED_AGAIN = 3600.0

_MAX_SESSIONS = 16
_MAX_SERVERS = 1024


class Askings:
    """How often each server may still be asked for a session. Any thread may call.

    CPython leaks some 6 KB each time a TLS object is asked for its session: a slow death of a process
    that for weeks reconnects to a server that never resumes one, or makes a new WebSocket each time. So
    each server has a credit of `ASKED_AT_ONCE` askings, and gets one of them back every `ASKED_AGAIN`
    seconds: enough for a server whose old sessions expire.
    """

    def __init__(self) -> None:
        self._lock = Lock()  # guards _credit; a leaf, held for these lines alone
        # What each server had left, and when that was, in monotonic seconds.
        self._credit: dict[tuple[str, int], tuple[float, float]] = {}
        forks.register(self)

    def reset_after_fork(self) -> None:
        """In the child of a fork: the credit goes on from here."""
        self._lock = Lock()

    def spend(self, host: str, port: int, now: float) -> bool:
        """Take one asking off the server's credit. Returns False if there is none left."""
        with self._lock:
            left, at = self._credit.pop((host, port), (float(ASKED_AT_ONCE), now))
            left = min(ASKED_AT_ONCE, left + (now - at) / ASKED_AGAIN)
            granted = left >= 1
            if len(self._credit) >= _MAX_SERVERS:
                self._credit.pop(next(iter(self._credit)))  # nobody asked it for the longest time
            self._credit[host, port] = (left - granted, now)
            return granted


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

    def take_from(self, tls: ssl.SSLObject, server: Server) -> None:
        """Keep the session of a connection that is about to be closed, unless it was a resumed one itself.

        Call it as late as that: with TLS 1.3 the session arrives some time after the handshake (RFC 8446
        section 4.6.1). The caller holds the lock of the stream.
        """
        if tls.session_reused:
            return
        host, port, _ = server
        session = tls.session if ASKINGS.spend(host, port, monotonic()) else None
        if session is not None and session.has_ticket:
            if len(self._sessions) >= _MAX_SESSIONS:  # only redirects lead to so many servers
                self._sessions.clear()
            self._sessions[server] = session
