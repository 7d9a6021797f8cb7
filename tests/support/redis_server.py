"""Debian's redis-server for tests: with its own socket and files, it can be killed and halted."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from .seen import PATIENCE, eventually


class RedisServer:
    """A redis-server that keeps what it acknowledges (``appendonly``, ``appendfsync always``).

    Attributes:
        url: for redis-py.
        client: a client for the test.
    """

    def __init__(self) -> None:
        import redis

        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        self._folder = Path(tempfile.mkdtemp(prefix="lochws-redis-"))  # the path of a socket has to be short
        socket = self._folder / "socket"
        self.url = f"unix://{socket}"
        self._command = [
            program, "--port", "0", "--unixsocket", str(socket), "--dir", str(self._folder), "--save", "",
            "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no",
        ]
        self.client: Any = redis.Redis.from_url(self.url)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, with the data it had before, and wait until it answers."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually(self._answers)

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def halt(self) -> None:
        """Halt it, so that it does nothing, with its connections open."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        """Continue it after `halt`."""
        self._send(signal.SIGCONT)

    def entries(self, stream: str) -> list[dict[str, Any]]:
        """Return the fields of all entries of a stream, as text except for the data."""
        return [
            {name.decode(): value if name == b"data" else value.decode() for name, value in fields.items()}
            for _, fields in self.client.xrange(stream)
        ]

    def close(self) -> None:
        """Stop it, and remove its files."""
        self.client.close()
        self.kill()
        shutil.rmtree(self._folder)

    def _send(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        import redis

        assert self._process is not None
        assert self._process.poll() is None, "redis-server has ended"
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False
