"""Runs: clients measured at works, round by round, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tests.support.delayed_link import link_command

from .clients import CLIENTS, can
from .job import Job
from .works import Work

Measurement = dict[str, float]

_CHECKOUT = Path(__file__).parent.parent
_TIME_LIMIT = 120.0
#: Where the search for a fitting count starts: messages, and the most bytes that they may have.
_FIRST_COUNT = 20_000
_FIRST_BYTES = 32 << 20
_FIRST_TRIPS = 500
_MOST = 5_000_000
#: A run of less processor time than this many seconds says too little about how many messages fit.
_TOO_SHORT = 0.01
_IMPORTS = 3
_IMPORT_CODE = """
import json, time
cpu, wall = time.process_time(), time.perf_counter()
import {name}
print(json.dumps(dict(count=1, length=0, cpu=time.process_time() - cpu, wall=time.perf_counter() - wall)))
"""


class MeasurementError(Exception):
    """A client or server failed, or did not do what it was to do."""


@dataclass
class Results:
    """The results of one measurement.

    Attributes:
        rounds: by work and client, one measurement a round.
        failures: by work and client, what went wrong.
    """

    rounds: dict[str, dict[str, list[Measurement]]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, others: Results) -> None:
        """Take in what was measured of other works."""
        self.rounds.update(others.rounds)
        self.failures.update(others.failures)

    def extend(self, others: Results) -> None:
        """Take in more rounds of the works that are here."""
        for work, clients in others.rounds.items():
            for name, measurements in clients.items():
                self.rounds[work][name].extend(measurements)
            self.failures.setdefault(work, {}).update(others.failures.get(work, {}))


class Bench:
    """Runs jobs.

    Args:
        certificates: a directory with those of the TLS server.
        seconds: the processor time that one measurement should take.
        pin: whether server and client are kept on a processor each, if there are two.
    """

    def __init__(self, certificates: str, seconds: float, *, pin: bool = True) -> None:
        self._certificates = certificates
        self._seconds = seconds
        self.server_core, self.client_core = _two_cores() if pin else (None, None)

    def run(self, work: Work, clients: Sequence[str], rounds: int) -> Results:
        """Measure: in each round one client after the other, each round in another order."""
        able = [name for name in clients if can(name, work)]
        measured: dict[str, list[Measurement]] = {name: [] for name in able}
        failed: dict[str, str] = {}
        counts: dict[str, int] = {}
        for number in range(1 if work.once else rounds):
            first = number % max(1, len(able))
            for name in able[first:] + able[:first]:
                if name in failed:
                    continue
                _say(f"{work.name}: round {number + 1}, {name}")
                try:
                    if name not in counts:
                        counts[name] = self.fitting_count(work, name)
                    measured[name].append(self.measure(work, name, counts[name]))
                except (MeasurementError, subprocess.TimeoutExpired) as error:
                    failed[name] = str(error)
        _say("")
        return Results({work.name: measured}, {work.name: failed})

    def fitting_count(self, work: Work, name: str) -> int:
        """Return how many messages a client handles in the time that a measurement should take."""
        if work.count is not None:
            return work.count if work.fewer is None or name.startswith("lochws") else work.fewer
        count = _FIRST_TRIPS if work.kind == "echo" else min(_FIRST_COUNT, _FIRST_BYTES // work.size)
        while True:
            cpu = self.measure(work, name, count)["cpu"]
            if cpu >= _TOO_SHORT:
                return max(count, min(int(count * self._seconds / cpu), _MOST))
            count = min(count * 10, int(count * 2 * _TOO_SHORT / max(cpu, 1e-6)) + 1)

    def measure(self, work: Work, name: str, count: int) -> Measurement:
        """One measurement.

        Raises:
            MeasurementError: the client or server failed, or not every message arrived whole.
        """
        if work.kind == "import":
            return self._import(name)
        job = Job(
            work_name=work.name, client=name, count=count, certificates=self._certificates,
            server_core=self.server_core, client_core=self.client_core,
        )
        if work.delay:
            inside = [sys.executable, "-m", "benchmarks.run", job.to_text()]
            result = _last_line(link_command(inside, work.delay))
        else:
            result = measure_here(job)
        expected = work.total_length(count) if work.kind in ("receive", "memory", "echo") else None
        if work.kind != "crowd" and result["count"] != count:
            raise MeasurementError(f"{result['count']} of {count} done")
        if expected is not None and result["length"] != expected:
            raise MeasurementError(f"the messages' lengths add up to {result['length']}, not {expected}")
        return result

    def _import(self, name: str) -> Measurement:
        """Return the fastest of a few imports, without waiting for a disk and compiling."""
        code = _IMPORT_CODE.format(name=CLIENTS[name].needs[0])
        # Peers were compiled to bytecode when they were installed; a checkout is by the first of these.
        keeping = {"PYTHONDONTWRITEBYTECODE": ""}
        imports = [_last_line([sys.executable, "-c", code], keeping) for _ in range(_IMPORTS)]
        return min(imports, key=lambda result: result["wall"])


def measure_here(job: Job) -> Measurement:
    """Measure in the network that this process is in.

    Raises:
        MeasurementError: the client or server failed.
    """
    with _server(job) as port:
        command = [sys.executable, "-m", "benchmarks.client", job.at_port(port).to_text()]
        return _last_line(command, CLIENTS[job.client].environment)


def _say(text: str) -> None:
    """Show on a terminal what is being done, in place of what was."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _two_cores() -> tuple[int | None, int | None]:
    """Return a processor for the server and one for the client, or None for both if there are not two."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[-1]) if len(cores) > 1 else (None, None)


@contextmanager
def _server(job: Job) -> Iterator[int]:
    """Start a server for one job. Return it and its port."""
    module = "crowd_server" if job.work.kind in ("open", "idle", "crowd") else "server"
    with subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}", job.to_text()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_CHECKOUT,
    ) as process:
        assert process.stdout is not None
        try:
            port = process.stdout.readline()
            if not port:
                raise MeasurementError("the server does not start")
            yield int(port)
        finally:
            process.kill()


def _last_line(command: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})) -> Measurement:
    """Run a command, and read the JSON that it prints in the end."""
    done = subprocess.run(
        command, env={**os.environ, **environment}, cwd=_CHECKOUT, timeout=_TIME_LIMIT,
        capture_output=True, text=True, check=False,
    )
    if done.returncode or not done.stdout.strip():
        complaint = done.stderr.strip().splitlines() or ["no result"]
        raise MeasurementError(complaint[-1])
    result: Measurement = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":  # in a network namespace
    print(json.dumps(measure_here(Job.from_text(sys.argv[1]))))
