"""The programs of examples/: run as their reader would run them, or imported."""

from __future__ import annotations

import importlib.util
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from ..support.seen import PATIENCE

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"

#: Warnings of Dask on a busy machine.
_BUSY = re.compile(
    r".* - distributed\.\w+ - WARNING - "
    r"(Worker process still alive after|Event loop was unresponsive|full garbage collections took) .*"
)

#: Marks tests that need Debian's Chromium.
CHROMIUM = pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")

#: The environment of an example, which finds lochws whether it is installed or not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONMALLOC": "debug"}


def command(name: str, *arguments: str) -> list[str]:
    """Return the command line of an example, for a strict interpreter.

    It is not quite ``-X dev``, which also has asyncio write to stderr whenever a callback took more than 0.1
    s. On a busy machine those of Dask and websockets do.
    """
    return [sys.executable, "-X", "faulthandler", "-W", "error", str(EXAMPLES / name), *arguments]


def run(
    name: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    timeout: float = 2 * PATIENCE,
    through: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run an example until it ends, within the timeout (in seconds).

    Args:
        through: the beginning of a command that runs another.
    """
    return subprocess.run(
        [*through, *command(name, *arguments)], env={**ENVIRONMENT, **(environment or {})},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
    )


def errors_of(process: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines of stderr, without Dask's warnings that the machine is busy."""
    return [line for line in process.stderr.splitlines() if not _BUSY.fullmatch(line)]


def load(name: str) -> Any:
    """Import an example as a module."""
    path = EXAMPLES / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Running:
    """A running example: its input, and its output so far."""

    def __init__(self, process: subprocess.Popen[str], patience: float) -> None:
        self.process = process
        self._patience = patience
        self.lines: list[str] = []
        self._arrived: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._arrived.put(line.rstrip("\n"))
        self._arrived.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for a line in which a regular expression matches; skip those before it."""
        end = monotonic() + self._patience
        while True:
            try:
                line = self._arrived.get(timeout=max(0.0, end - monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {pattern!r} among {self.lines}") from None
            assert line is not None, f"ended without {pattern!r}: {self.lines}"
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found

    def skip(self) -> None:
        """Skip all lines that have arrived so far."""
        while not self._arrived.empty():
            line = self._arrived.get()
            assert line is not None, f"ended: {self.lines}"
            self.lines.append(line)

    def say(self, line: str) -> None:
        """Write a line to its input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """Close its input, wait until it has ended, and return its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        status = self.process.wait(self._patience)
        self._reader.join()
        self.lines += iter(self._arrived.get, None)
        return status

    def interrupt(self) -> None:
        """Press Ctrl-C, and expect that it ends as Python's programs do, without another error."""
        self.process.send_signal(signal.SIGINT)
        assert self.end() == -signal.SIGINT, self.lines
        assert self.lines[-1] == "KeyboardInterrupt", self.lines

    def drop(self) -> None:
        """Kill it, and release everything that belongs to it."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):  # it did not read all of its input
                stream.close()


@contextmanager
def running(name: str, *arguments: str, patience: float = PATIENCE) -> Iterator[Running]:
    """Start an example, and kill it at the end of the block. Its lines are those of stdout and stderr.

    Args:
        patience: how long to wait for one of its lines, in seconds.
    """
    process = subprocess.Popen(
        command(name, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env=ENVIRONMENT,
    )
    example = Running(process, patience)
    try:
        yield example
    finally:
        example.drop()
