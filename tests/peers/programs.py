"""Real programs, started with the configuration files beside this module, and ended again.

A configuration file is a template: ``$name`` stands for a value, as in `string.Template`. Tests that need a
program that is not installed are skipped.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import string
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pytest

from ..support.ports import free_ports

#: The time for a program to listen, and to end, in seconds.
PATIENCE = 60.0
#: The time for it to end by itself, in seconds.
_GRACE = 2.0

_HERE = Path(__file__).parent
# Daemons may be installed outside the PATH of ordinary users.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/sbin"])
_TRIES = 3


def find(name: str) -> str:
    """Return the path of a program; skip the test if it is not installed."""
    path = shutil.which(name, path=_PATH)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


class Programs:
    """Programs that run until `close`, in a folder of their own.

    Attributes:
        folder: where configuration and data are; other users may read it, since daemons give up being root.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lochws-peers-"))
        self.folder.chmod(0o755)
        self._running: list[subprocess.Popen[bytes]] = []
        self._number = 0

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file into the folder, readable by daemons."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o644)
        return path

    def start(
        self, command: Sequence[str], ports: int = 1, *, config: str | None = None, **values: object
    ) -> list[int]:
        """Start a program on free ports, and wait until it listens on all of them.

        Args:
            command: the program and its arguments, each a template; ``$config`` is the configuration file.
            ports: how many ports it needs, ``$port`` and then ``$port1``, ``$port2`` and so on.
            config: the name of its configuration file among those here.
            values: what else the templates want.
        """
        program = find(command[0])
        for attempt in range(_TRIES):
            chosen = free_ports(ports)
            self._number += 1
            work = self.folder / f"{Path(program).name}-{self._number}"
            work.mkdir()
            work.chmod(0o777)
            names = {f"port{index or ''}": port for index, port in enumerate(chosen)}
            known = {**values, **names, "folder": self.folder, "work": work}
            if config is not None:
                text = string.Template((_HERE / config).read_text(encoding="utf-8")).substitute(known)
                known["config"] = path = work / config
                path.write_text(text, encoding="utf-8")
                path.chmod(0o644)
            arguments = [string.Template(part).substitute(known) for part in command[1:]]
            if self._run([program, *arguments], work, chosen):
                return chosen
            # Another process may have taken a port before the program could bind it.
            if attempt == _TRIES - 1:
                output = (work / "output").read_text(errors="replace")
                raise RuntimeError(f"{command[0]} does not run: {output[-2000:]}")
        raise AssertionError

    def _run(self, command: Sequence[str], work: Path, ports: Sequence[int]) -> bool:
        """Start a program. Returns whether it listens on the ports."""
        with (work / "output").open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=work,
                start_new_session=True,
            )
        self._running.append(process)
        for _ in range(int(PATIENCE / 0.02)):
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                if all(_listens(port) for port in ports):
                    return True
            else:
                return False
        return False

    def close(self) -> None:
        """End all programs, at once and with their children, and delete the folder."""
        # Each is a process group of its own. Asked politely, they take their children with them.
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                pass
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait(PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Programs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
