"""What the fixtures hand to a test: servers, recorders and a clock, all closed when it ends."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from .. import clock
from ..app import WebSocketApp
from .clock import VirtualClock
from .connection import Step
from .recorder import Recorder
from .server import ScriptedServer

#: What the fixture ``ws_recorder`` is: takes an app and, as `patience`, the seconds that a wait may take.
Record: TypeAlias = Callable[..., Recorder]


class Authority:
    """A certificate authority that only its user trusts, made by trustme when it is first needed.

    Args:
        folder: returns the folder for its certificate.
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
        """A server's TLS context. Errors are those of `ca_file`."""
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
    """Starts scripted servers that end with the test: what the fixture ``ws_server`` is.

    Args:
        authority: signs the certificates of servers with TLS.
    """

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self.servers: list[ScriptedServer] = []

    @property
    def ca_file(self) -> Path:
        """What to give as ``ssl_cafile`` to trust servers that were started with ``tls=True``."""
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
        """Start a server that does to each connection what its script says; without scripts, an echo server.

        Args:
            tls: whether to serve ``wss:`` (with a certificate that `ca_file` vouches for), or a context.
            scripts, afterwards, host, port, patience: as for `ScriptedServer`.
        """
        context = self._authority.server_tls if tls is True else tls or None
        server = ScriptedServer(
            *scripts, tls=context, afterwards=afterwards, host=host, port=port, patience=patience
        )
        self.servers.append(server)
        return server


class Kit:
    """All of one test.

    Args:
        authority: for the servers.
    """

    def __init__(self, authority: Authority) -> None:
        self.serve = StartServer(authority)
        self._recorders: list[Recorder] = []
        self._stack = ExitStack()

    def record(self, app: WebSocketApp, *, patience: float = 10.0) -> Recorder:
        """Record an app, and stop it at the end of the test."""
        self._recorders.append(Recorder(app, patience=patience))
        return self._recorders[-1]

    @cached_property
    def clock(self) -> VirtualClock:
        """A virtual clock, from now to the end of the test in the place of the machine's."""
        virtual = VirtualClock()
        self._stack.enter_context(clock.using(virtual))
        self._stack.callback(virtual.release)
        return virtual

    def end(self, *, has_failed: bool = False) -> None:
        """Stop the apps, then the servers, then the clock, and look at what went wrong meanwhile.

        Args:
            has_failed: whether the test has failed anyway: then no script need have come to its end.

        Raises:
            AssertionError: an app did not stop, a handler raised, or a script was not done.
        """
        failures: list[Exception] = []
        servers, recorders = self.serve.servers, self._recorders
        with self._stack:
            for step in (
                *(recorder.finish for recorder in recorders),
                *(server.close for server in servers),
                *(recorder.check for recorder in recorders),
                *(server.check if has_failed else server.check_done for server in servers),
            ):
                try:
                    step()
                except Exception as error:  # noqa: BLE001  all is ended first
                    failures.append(error)
        if len(failures) > 1:
            raise AssertionError("\n\n".join(map(str, failures))) from failures[0]
        for failure in failures:
            raise failure
