"""The processes of a measurement: a server, a client, and what the client takes of the machine meanwhile."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: The variable that names the folder of another lochws, for the clients.
PACKAGE = "LOCHWS_CROWDS_PACKAGE"
#: Seconds between two looks at a client's process.
_PERIOD = 0.02


@dataclass(frozen=True, kw_only=True)
class Job:
    """The job of a client's process.

    Attributes:
        role: a function of `tests.crowds.client`.
        url: the server's.
        count: how many connections.
        authority: the file with the certificate that is trusted, or "".
        library: ``"lochws"`` or ``"aiohttp"``.
        other_url: a second server's; of many hosts, with {} in place of their address.
        per_second: of a Governor; 0 for none.
    """

    role: str
    url: str
    count: int
    authority: str = ""
    library: str = "lochws"
    other_url: str = ""
    per_second: int = 0


class Process:
    """A process that answers lines with lines.

    Attributes:
        peak_threads: the most threads that it was seen with.
        peak_memory: the most bytes that it had in memory, since `reset_peaks`.
    """

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.crowds.{module}", *arguments], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})},
        )
        self._status = Path(f"/proc/{self._process.pid}/status")
        self._is_over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        self.peak_threads = 0

    def line(self) -> str:
        """Return the next line that it prints.

        Raises:
            RuntimeError: it has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process has ended with status {self._process.wait()}")
        return line

    def ask(self, line: str = "") -> Any:
        """Send a line, and return what it prints in answer, from JSON."""
        self.tell(line)
        return json.loads(self.line())

    def tell(self, line: str = "") -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self._is_over.set()
        self._watch.join()
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def reset_peaks(self) -> None:
        """Forget the peaks until now."""
        self.peak_threads = 0
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5", encoding="ascii")

    @property
    def peak_memory(self) -> int:
        return 1024 * self._field("VmHWM")

    @property
    def memory(self) -> int:
        """Return the bytes that it has in memory."""
        return 1024 * self._field("VmRSS")

    @property
    def processor_seconds(self) -> float:
        """Return the processor time that it has taken, user and system."""
        words = self._status.with_name("stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def _field(self, name: str) -> int:
        lines = (line.split() for line in self._status.read_text(encoding="ascii").splitlines())
        return int(next(words[1] for words in lines if words[0] == f"{name}:"))

    def _look(self) -> None:
        while not self._is_over.wait(_PERIOD):
            try:
                self.peak_threads = max(self.peak_threads, self._field("Threads"))
            except (OSError, StopIteration):
                return  # it has ended


@contextmanager
def server(
    kind: str, certificate: str = "", host: str = "127.0.0.1", port: int = 0
) -> Iterator[tuple[Process, int]]:
    """Run a server, and yield it and its port."""
    process = Process("server", kind, host, str(port), certificate)
    try:
        yield process, int(process.line())
    finally:
        process.kill()


@contextmanager
def client(job: Job, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """Run a client."""
    process = Process("client", json.dumps(asdict(job)), environment=environment)
    try:
        yield process
    finally:
        process.kill()


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets this process and its children have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def write_certificates(directory: Path, *hosts: str) -> None:
    """Write ``ca.pem``, an authority's certificate, and ``server.pem``, a server's."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    authority.issue_cert(*hosts).private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
