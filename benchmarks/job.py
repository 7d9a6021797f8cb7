"""One measurement's orders, for the server's process and the client's."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace

from tests.support.delayed_link import FAR_HOST

from .works import WORKS, Work


@dataclass(frozen=True, kw_only=True)
class Job:
    """Who does what how often, where.

    Attributes:
        work_name: a name in `WORKS`.
        client: a name in `benchmarks.clients.CLIENTS`.
        count: messages, trips or connections.
        port: the server's, once it is known.
        certificates: a directory with ``ca.pem`` and ``server.pem``, or None without TLS.
        server_core, client_core: the processor that each process is kept on; None for any.
    """

    work_name: str
    client: str
    count: int
    port: int = 0
    certificates: str | None = None
    server_core: int | None = None
    client_core: int | None = None

    @classmethod
    def from_text(cls, text: str) -> Job:
        """Read the job that `to_text` wrote."""
        return cls(**json.loads(text))

    def to_text(self) -> str:
        """Return the job as one line, for a command line."""
        return json.dumps(asdict(self))

    def at_port(self, port: int) -> Job:
        """Return the same job with the server's port."""
        return replace(self, port=port)

    @property
    def work(self) -> Work:
        return WORKS[self.work_name]

    @property
    def url(self) -> str:
        return f"{'wss' if self.work.tls else 'ws'}://{self.host}:{self.port}/"

    @property
    def host(self) -> str:
        """Return the server's address. If there is a delay, this is the far end of the link."""
        return FAR_HOST if self.work.delay else "127.0.0.1"

    @property
    def authorities(self) -> str | None:
        """Return the file with the certificate to trust, or None without TLS."""
        return f"{self.certificates}/ca.pem" if self.work.tls else None

    @staticmethod
    def pin(core: int | None) -> None:
        """Keep this process, with all threads it will start, on one processor, where the system can."""
        if core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})
