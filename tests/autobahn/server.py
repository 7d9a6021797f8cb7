"""Autobahn's fuzzing server as a child process: started, waited for, and always ended."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from types import TracebackType

from ..support.ports import free_port

_START_SECONDS = 30
_STOP_SECONDS = 5
# How long to wait between two attempts to reach a server that is still starting.
_KNOCK_SECONDS = 0.05
_INDEX = "index.json"


class FuzzingServer:
    """One `wstest -m fuzzingserver` on a free port of the loopback interface, as a context manager.

    Args:
        wstest: the command.
        patterns: which cases to offer.
        folder: where the server writes its reports and we its log; made when it is not there.
    """

    def __init__(self, wstest: str, patterns: list[str], folder: Path) -> None:
        self.folder = folder
        self._port = free_port()
        self._log = folder / "server.log"
        self._command = [wstest, "-m", "fuzzingserver", "-s", str(folder / "spec.json"), "-u", "0"]
        self._spec = {"url": self.url, "outdir": str(folder), "cases": patterns}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the URL at which the server listens."""
        return f"ws://127.0.0.1:{self._port}"

    def __enter__(self) -> FuzzingServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _INDEX).unlink(missing_ok=True)  # an earlier run's results are not ours
        (self.folder / "spec.json").write_text(json.dumps(self._spec), encoding="ascii")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._wait_until_it_listens(self._process)
        except BaseException:
            self._stop(self._process)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._stop(self._process)

    def is_running(self) -> bool:
        """Return whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def results(self, agent: str) -> dict[str, dict[str, object]]:
        """Return the server's verdicts on `agent` up to its last report, by case."""
        index = self.folder / _INDEX
        if not index.exists():
            return {}
        results: dict[str, dict[str, object]] = json.loads(index.read_bytes()).get(agent, {})
        return results

    def log_tail(self) -> str:
        """Return the last lines that the server wrote, for an error message."""
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-20:])

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        for _ in range(int(_START_SECONDS / _KNOCK_SECONDS)):
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return
            except OSError:
                pass
            try:
                process.wait(_KNOCK_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            break
        raise RuntimeError(f"the fuzzing server did not start:\n{self.log_tail()}")

    @staticmethod
    def _stop(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
