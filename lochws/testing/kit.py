"""The objects behind the fixtures: servers, event logs and a clock, all closed when the test ends."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from .. import clock
from ..app import WebSocketApp
from .clock import VirtualClock
from .connection import Step
from .event_log import EventLog
from .server import ScriptedServer


class LogEvents(Protocol):
    """A callable that starts event logs: the fixture ``ws_events``."""

    def __call__(self, app: WebSocketApp, *, patience: float = 10.0) -> EventLog:
        """Log the events of an app from now on, and stop it at the end of the test.

        Args:
            app: the app; it may already be running.
            patience: the time limit for every wait, in seconds of the machine's clock.
        """


class Authority:
    """A private certificate authority, created by trustme when it is first needed.

    Args:
        folder: a function that returns the folder for its certificate.
        names: host names and addresses for the server's certificate besides localhost and the loopback ones.
    """

    def __init__(self, folder: Callable[[], Path], *names: str) -> None:
        self._folder = folder
        self._names = dict.fromkeys(("localhost", "127.0.0.1", "::1", *names))

    @cached_property
    def ca_file(self) -> Path:
        """The file with its certificate, for ``ssl_cafile``.

        Raises:
            ImportError: trustme is not installed.
        """
        path = self._folder() / "ca.pem"
        self._authority.cert_pem.write_to_path(str(path))
        return path

    @cached_property
    def server_tls(self) -> ssl.SSLContext:
        """The TLS context for a server. Raises ImportError if trustme is not installed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*self._names).configure_cert(context)
        return context

    @cached_property
    def _authority(self) -> Any:
        try:
            import trustme  # noqa: PLC0415  only TLS needs it
        except ImportError as error:
            raise ImportError("TLS needs trustme: pip install 'lochws[testing]'") from error
        return trustme.CA()


class StartServer:
    """Starts scripted servers that are closed when the test ends: the fixture ``ws_server``.

    Args:
        authority: signs the certificates of servers with TLS.
    """

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self.servers: list[ScriptedServer] = []

    @property
    def ca_file(self) -> Path:
        """The file for ``ssl_cafile``, so that an app trusts servers started with ``tls=True``."""
        return self._authority.ca_file

    def __call__(
        self,
        *scripts: Sequence[Step],
        tls: bool | ssl.SSLContext = False,
        afterwards: Literal["repeat", "refuse"] = "repeat",
        host: str = "127.0.0.1",
        port: int = 0,
        patience: float = 10.0,
    ) -> ScriptedServer:
        """Start a server that runs a script on each connection.

        Args:
            scripts: the steps for the first connection, for the second, and so on; none for an echo server.
            tls: True to serve ``wss:`` with a certificate that `ca_file` verifies; or a TLS context.
            afterwards: what happens to connections beyond the last script: ``"repeat"`` runs the last script
                for each of them, ``"refuse"`` stops listening.
            host: the address to listen on.
            port: the port to listen on; 0 picks a free one.
            patience: seconds that a step may wait for the client.

        Raises:
            TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
            OSError: the server cannot listen on this address and port.
        """
        context = self._authority.server_tls if tls is True else tls or None
        server = ScriptedServer(
            *scripts, tls=context, afterwards=afterwards, host=host, port=port, patience=patience
        )
        self.servers.append(server)
        return server


class Kit:
    """The apps, servers and clock of one test.

    Args:
        authority: the certificate authority for the servers.
    """

    def __init__(self, authority: Authority) -> None:
        self.serve = StartServer(authority)
        self._logs: list[EventLog] = []
        self._stack = ExitStack()

    def log_events(self, app: WebSocketApp, *, patience: float = 10.0) -> EventLog:
        """Log the events of an app, and stop it at the end of the test."""
        self._logs.append(EventLog(app, patience=patience, servers=self.serve.servers))
        return self._logs[-1]

    @cached_property
    def clock(self) -> VirtualClock:
        """A virtual clock, which replaces the machine's until the test ends."""
        virtual = VirtualClock()
        self._stack.enter_context(clock.using(virtual))
        self._stack.callback(virtual.release)
        return virtual

    def end(self, *, has_failed: bool = False) -> None:
        """Stop the apps, the servers and the clock, in this order, and report what went wrong.

        Args:
            has_failed: whether the test has already failed; what an event log has reported, and incomplete
                scripts, are then not reported.

        Raises:
            AssertionError: an app did not stop, a handler raised an exception, or a script was not completed.
        """
        failures: list[Exception] = []
        servers, logs = self.serve.servers, self._logs
        reported = [log.reported for log in logs] if has_failed else []
        with self._stack:
            for step in (
                *(log.finish for log in logs),
                *(server.close for server in servers),
                *(log.check for log in logs),
                *(server.check if has_failed else server.check_done for server in servers),
            ):
                try:
                    step()
                except Exception as error:  # noqa: BLE001  raised once everything has been stopped
                    if not any(error is known for known in reported):
                        failures.append(error)
        if len(failures) > 1:
            raise AssertionError("\n\n".join(map(str, failures))) from failures[0]
        for failure in failures:
            raise failure
