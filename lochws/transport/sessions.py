"""TLS sessions, kept from one connection to shorten the handshake of the next."""

from __future__ import annotations

import ssl
from time import monotonic
from typing import TypeAlias

from ..system import forks
from ..system.control import control_lock

#: A server: the name in its certificate, its port, and whether it is that of the WebSocket's own URL.
Server: TypeAlias = tuple[str, int, bool]

#: How often per process a server's session is requested, and the seconds after which one more is allowed.
ASKED_AT_ONCE = 16
ASKED_AGAIN = 3600.0

_MAX_SESSIONS = 16
_MAX_SERVERS = 1024


class Askings:
    """A budget, per server, for requesting the session of TLS objects. May be called from any thread.

    CPython leaks some 6 KB each time a TLS object is asked for its session. That would slowly kill a process
    that reconnects for weeks to a server that resumes no session, or that makes a new WebSocket each time.
    So each server has a budget of `ASKED_AT_ONCE`, which grows by one every `ASKED_AGAIN` seconds: enough
    for a server whose old sessions expire.
    """

    def __init__(self) -> None:
        self._lock = control_lock()  # guards _credit
        # The remaining budget of each server, and the time at which it was computed, in monotonic seconds.
        self._credit: dict[tuple[str, int], tuple[float, float]] = {}
        forks.register(self)

    def reset_after_fork(self) -> None:
        """Replace a lock that a thread of the parent may hold, in the child of a fork."""
        self._lock = control_lock()

    def spend(self, host: str, port: int, now: float) -> bool:
        """Take one from the server's budget. Return False if the budget is used up."""
        with self._lock:
            left, at = self._credit.pop((host, port), (float(ASKED_AT_ONCE), now))
            left = min(ASKED_AT_ONCE, left + (now - at) / ASKED_AGAIN)
            granted = left >= 1
            if len(self._credit) >= _MAX_SERVERS:
                self._credit.pop(next(iter(self._credit)))  # the least recently used one
            self._credit[host, port] = (left - granted, now)
            return granted


#: The budget of this process: a program that makes a new WebSocket for each connection has only one.
ASKINGS = Askings()


class Sessions:
    """The TLS sessions of one WebSocket; no other uses them.

    One thread at a time opens connections and offers a session; another may close them.
    """

    def __init__(self) -> None:
        self._sessions: dict[Server, ssl.SSLSession] = {}  # items are only ever read or replaced

    def of(self, server: Server) -> ssl.SSLSession | None:
        """Return the session to offer to a server, or None."""
        return self._sessions.get(server)

    def take_from(self, tls: ssl.SSLObject, server: Server) -> None:
        """Keep the session of a connection that is about to be closed, unless it was resumed itself.

        Not earlier: in TLS 1.3 the session arrives some time after the handshake (RFC 8446 section 4.6.1).
        The caller holds the stream's lock.
        """
        if tls.session_reused:
            return
        host, port, _ = server
        session = tls.session if ASKINGS.spend(host, port, monotonic()) else None
        if session is not None and session.has_ticket:
            if len(self._sessions) >= _MAX_SESSIONS:  # only redirects lead to that many servers
                self._sessions.clear()
            self._sessions[server] = session
