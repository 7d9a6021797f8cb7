"""A run: takes a client through the cases of one or more fuzzing servers."""

from __future__ import annotations

import json
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Protocol
from urllib.parse import quote

from .server import FuzzingServer

NOT_RUN: dict[str, object] = {"behavior": "NOT RUN", "behaviorClose": "NOT RUN"}
_CONTROL_SECONDS = 60
_CASES_A_LINE = 50


class Client(Protocol):
    """The interface of a module ``client_<name>``."""

    def echo(self, url: str) -> None:
        """Send every message back until the server ends the connection."""

    def ask(self, url: str) -> str:
        """Return the text that the server sends."""


@dataclass
class Run:
    """One client, and the servers that test it: each takes the next case when it is through with one.

    Several servers, not several cases on one: a server is one thread, and a large case would delay
    the timing that another one judges by.

    Attributes:
        seconds: how long a case may take before it is given up.
    """

    client: Client
    servers: list[FuzzingServer]
    agent: str
    seconds: float

    def results(self) -> dict[str, dict[str, object]]:
        """Run all cases and return what the servers found, by case; blocks until they are through."""
        count = int(self._ask(self.servers[0], "getCaseCount") or 0)
        if not count:
            raise RuntimeError("no case matches, or the client cannot ask the server for its cases")
        print(f"{count} cases", flush=True)
        numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(1, count + 1):
            numbers.put(number)
        progress = Progress(count)
        workers = [
            threading.Thread(target=self._work, args=(server, numbers, progress), daemon=True)
            for server in self.servers
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return self._collect(count)

    def _work(self, server: FuzzingServer, numbers: queue.SimpleQueue[int], progress: Progress) -> None:
        while server.is_running():
            try:
                number = numbers.get_nowait()
            except queue.Empty:
                return
            url = f"{server.url}/runCase?case={number}&agent={quote(self.agent)}"
            if not within(self.seconds, partial(self.client.echo, url)):
                name = self._name(server, number)
                print(f"{name}: given up after {self.seconds:g} s", file=sys.stderr, flush=True)
            progress.count()

    def _collect(self, count: int) -> dict[str, dict[str, object]]:
        for server in self.servers:
            if not server.is_running():
                raise RuntimeError(f"a server has died; the end of its log:\n{server.log_tail()}")
        results: dict[str, dict[str, object]] = {}
        # A second time if need be: a server may learn of the end of its last case after this request.
        for _ in range(2):
            for server in self.servers:
                self._ask(server, f"updateReports?agent={quote(self.agent)}")
                results |= server.results(self.agent)
            if len(results) == count:
                return results
        names = [self._name(self.servers[0], number) for number in range(1, count + 1)]
        return {name: results.get(name, NOT_RUN) for name in names}

    def _name(self, server: FuzzingServer, number: int) -> str:
        info = self._ask(server, f"getCaseInfo?case={number}")
        if not info:
            raise RuntimeError(f"the server does not answer; the end of its log:\n{server.log_tail()}")
        return str(json.loads(info)["id"])

    def _ask(self, server: FuzzingServer, what: str) -> str:
        answers: list[str] = []
        within(_CONTROL_SECONDS, lambda: answers.append(self.client.ask(f"{server.url}/{what}")))
        return answers[0] if answers else ""


class Progress:
    """Prints now and then how far the run has come. May be called from any thread."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0  # guarded by _lock
        self._lock = threading.Lock()
        self._began = monotonic()

    def count(self) -> None:
        """Note that one more case is through."""
        with self._lock:
            self._done += 1
            if self._done % _CASES_A_LINE == 0 or self._done == self._total:
                print(f"{self._done} of {self._total}, {monotonic() - self._began:.0f} s", flush=True)


def within(seconds: float, act: Callable[[], object]) -> bool:
    """Return whether `act` ended in time; a stalled one is left behind in its daemon thread.

    What it raises is printed: the server's report tells what that means for the case.
    """

    def run() -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - any client, any fault: the next case runs all the same
            print("".join(traceback.format_exception_only(error)), end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
