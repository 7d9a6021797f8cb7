"""Common parts of the evidence about fleets: servers, apps, and the observations of the servers."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import psutil

from lochws import Threads, WebSocketApp
from lochws.handlers.heartbeat import Every

from .cluster import ROOT


def raise_limit() -> None:
    """Allow as many descriptors as the system lets this process have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def make_app(url: str, threads: Threads) -> WebSocketApp:
    """Return an app that sends something every few seconds."""
    raise_limit()
    app = WebSocketApp(f"{url}?pid={os.getpid()}", threads=threads)
    Every(app, float(os.environ["LOCHWS_FLEET_BEAT"]), "here")
    return app


class Servers:
    """Several counting servers, none of which has more than 8,000 connections.

    Args:
        count: how many sources there are.
        host: their address; None for several of loopback, each of which has its own ephemeral ports.
    """

    def __init__(self, count: int, host: str | None = None) -> None:
        self._each = [Server() for _ in range(1 + count // 8000)]
        self._host = host

    def url(self, number: int) -> str:
        """Return the URL of a source."""
        port = self._each[number % len(self._each)].port
        return f"ws://{self._host or f'127.0.0.{1 + number % 7}'}:{port}/{number}"

    def look(self) -> dict[str, Any]:
        """Return what they have seen since the last call."""
        states = [each.look() for each in self._each]
        state = {name: sum(each[name] for each in states) for name in states[0] if name not in _OTHERS}
        state["longest_gap"] = max(each["longest_gap"] for each in states)
        state["handovers"] = [
            each["shortest_handover"] for each in states if each["shortest_handover"] is not None
        ]
        state["by_pid"] = {int(pid): 0 for each in states for pid in each["by_pid"]}
        for each in states:
            for pid, connections in each["by_pid"].items():
                state["by_pid"][int(pid)] += connections
        return state

    def close(self) -> None:
        """Stop them."""
        for each in self._each:
            each.close()


_OTHERS = {"by_pid", "longest_gap", "shortest_handover"}


class Server:
    """A counting server."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fleet.counting_server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        self.port = int(self._out.readline())
        self.pid = self._process.pid

    @property
    def _out(self) -> Any:
        return self._process.stdout

    def look(self) -> dict[str, Any]:
        """Return what it has seen since the last call."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        state: dict[str, Any] = json.loads(self._out.readline())
        return state

    def close(self) -> None:
        """Stop it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a block took, or that it was not finished in time."""
    began = monotonic()
    try:
        yield
    except TimeoutError:
        print(f"{what}: not within {monotonic() - began:.0f} s", flush=True)
    else:
        print(f"{what}: {monotonic() - began:.1f} s", flush=True)


#: All waits of one run end this many seconds after its start, so that it ends within a quarter of an hour.
_LONGEST = 720.0
_began = monotonic()


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds. Raise TimeoutError when the whole run has taken too long."""
    while not condition():
        if monotonic() > _began + _LONGEST:
            raise TimeoutError("the run has taken too long")
        threading.Event().wait(0.2)


def memory_of(pid: int) -> int:
    """Return the memory of a process, in bytes."""
    return int(psutil.Process(pid).memory_info().rss)


def settled(server: Servers, count: int, pids: set[int]) -> bool:
    """Return whether each source has one connection, from one of these processes."""
    state = look(server)
    return bool(state["open"] == state["sources"] == count and state["by_pid"].keys() == pids)


def look(server: Servers) -> dict[str, Any]:
    """Return what the servers have seen since the last call, and add it to what `told` prints."""
    state = server.look()
    for name in ("together", "stale_messages"):
        totals[name] = totals.get(name, 0) + state[name]
    gaps.append(state["longest_gap"])
    handovers.extend(state["handovers"])
    return state


totals: dict[str, int] = {}
gaps: list[float] = []
handovers: list[float] = []


def told(what: str) -> None:
    """Print what the servers have seen since the last call."""
    shortest = f"; shortest time between two owners {min(handovers):.2f} s" if handovers else ""
    print(
        f"  {what}: longest time without an owner {max(gaps, default=0):.1f} s{shortest}; connections while "
        f"another process had one: {totals.get('together', 0)}; messages of an earlier owner after a later "
        f"one had connected: {totals.get('stale_messages', 0)}", flush=True,
    )
    totals.clear()
    gaps.clear()
    handovers.clear()
