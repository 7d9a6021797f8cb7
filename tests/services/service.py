"""A real server in a process of its own, which can be killed, and started again on the same ports.

The files of a server are templates beside this module: ``$name`` stands for a value, as in `string.Template`.
Tests of a server that is not installed are skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import string
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from time import monotonic
from types import TracebackType

import pytest

from ..examples.running import Running, running
from ..peers.programs import find
from ..support.ports import free_ports

HERE = Path(__file__).parent

#: Seconds for a server to listen, and for a program to respond. RabbitMQ needs seven, or more if it is busy.
PATIENCE = 120.0

#: The environment variable with the folder of the virtual environments of the servers written in Python.
VIRTUAL_ENVIRONMENTS = "LOCHWS_SERVICES"


def example(name: str, *arguments: str) -> AbstractContextManager[Running]:
    """Start an example with more patience than usual, and kill it at the end of the block."""
    return running(name, *arguments, patience=PATIENCE)


def service_program(name: str, environment: str = "servers") -> str:
    """Return the path of a program in one of the servers' virtual environments; skip the test without it."""
    folder = os.environ.get(VIRTUAL_ENVIRONMENTS)
    if folder is None:
        pytest.skip(f"{VIRTUAL_ENVIRONMENTS} is not set to the folder of the servers' virtual environments")
    program = Path(folder, environment, "bin", name)
    if not program.exists():
        pytest.skip(f"{program} is not installed")
    return str(program)


@cache
def _has_package(program: str, package: str) -> bool:
    probe = [program, "-e", f"require('{package}')"]
    return subprocess.run(probe, check=False, capture_output=True, timeout=60).returncode == 0


def node(*packages: str) -> str:
    """Return the path of Node; skip the test unless it finds the packages through NODE_PATH."""
    program = find("node")
    for package in packages:
        if not _has_package(program, package):
            pytest.skip(f"Node's package {package} is not installed (or NODE_PATH does not lead to it)")
    return program


class Service:
    """A server with a folder and ports of its own.

    Attributes:
        port: the first of its ports.
        folder: its data, which it keeps when it is restarted.
        last_output: what it had written when it was closed.

    Args:
        command: the program and its arguments, each a template.
        ports: how many ports it needs: ``$port`` and then ``$port1``, ``$port2`` and so on.
        files: the names of its files among those here, copied to its folder with all values filled in.
        environment: variables for it, templates as well.
        values: any other values that the templates use.
        ready: returns whether it can be used; None waits until it listens on its first port.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        ports: int = 1,
        files: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        values: Mapping[str, object] | None = None,
        ready: Callable[[Service], bool] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lochws-services-"))
        chosen = free_ports(ports)
        self.port = chosen[0]
        numbers = {f"port{index or ''}": port for index, port in enumerate(chosen)}
        self._values = {**(values or {}), **numbers, "folder": self.folder, "here": HERE}
        for name in files:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._filled((HERE / name).read_text(encoding="utf-8")), encoding="utf-8")
        self._command = [self._filled(part) for part in command]
        home = {"HOME": str(self.folder), "TMPDIR": str(self.folder)}
        given = {name: self._filled(value) for name, value in (environment or {}).items()}
        self._environment = {**os.environ, **home, **given}
        self._ready = ready or (lambda service: service.listens())
        self.last_output = ""
        self._started = 0  # the length of the output when it was last started
        self._process: subprocess.Popen[bytes] | None = None

    def _filled(self, text: str) -> str:
        return string.Template(text).substitute(self._values)

    @property
    def output(self) -> str:
        """Return the output of the server so far."""
        return (self.folder / "output").read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it can be used."""
        with (self.folder / "output").open("ab") as output:
            self._started = output.tell()
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder,
                env=self._environment, start_new_session=True,
            )
        self._wait(lambda: self._ready(self))

    def _wait(self, condition: Callable[[], bool]) -> None:
        pause, end = threading.Event(), monotonic() + PATIENCE
        while not condition():
            assert self._process is None or self._process.poll() is None, f"it ended: {self.output[-2000:]}"
            assert monotonic() < end, f"not ready within {PATIENCE:g} s: {self.output[-2000:]}"
            pause.wait(0.05)

    def listens(self) -> bool:
        """Return whether something listens on its first port."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def wait_for(self, *patterns: str) -> None:
        """Wait until regular expressions match in lines that it has written since it was last started."""

        def found() -> bool:
            new = self.output[self._started :]
            return all(re.search(pattern, new, re.MULTILINE) for pattern in patterns)

        self._wait(found)

    def kill(self) -> None:
        """Kill it and its children at once, as a power cut would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE)
            self._process = None
            self._wait(lambda: not self.listens())  # its children end a little later

    def close(self) -> None:
        """Ask it to end, which takes along what it started; kill what is left, and delete its folder."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                pass
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._process.wait(PATIENCE)
            self.last_output = self.output
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
