"""Cuts: a feed whose connections are ended again and again, and what its handlers have seen of the stream."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

from lochws import Backoff, Feed, WebSocketApp
from lochws.feed import Switch

from ..support.ports import free_port

RATE = 500
PATIENCE = 30.0
#: The servers' host: a distant one if this program runs behind `tests.support.delayed_link`.
HOST = os.environ.get("FAR_HOST", "127.0.0.1")
IS_FAR = "FAR_HOST" in os.environ
#: Messages that every connection must have delivered before the next cut.
SETTLED = 20

#: Ends that are known before, and those that are not.
ANNOUNCED = ("asked", "age", "message")
SUDDEN = ("1001", "fin", "rst", "dead", "kill", "nginx", "haproxy")


class Process:
    """A process of the server, which can be killed and started again on its port."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.feed.server", str(self.port), str(RATE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline().split()[1])

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")

    def kill(self) -> None:
        self._process.kill()
        self.end()

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


class Proxy:
    """nginx or haproxy in front of a server; `cut` reloads or hard-stops it."""

    def __init__(self, kind: str, folder: Path, upstream: int) -> None:
        self.port = free_port()
        self._config = folder / "proxy.conf"
        self._pid = folder / "pid"
        self._is_nginx = kind == "nginx"
        if self._is_nginx:
            logs = f"error_log {folder}/error.log; pid {self._pid};"
            self._config.write_text(
                f"daemon off; {logs} worker_processes 1; worker_shutdown_timeout 200ms;\n"
                "events {}\nhttp { access_log off; "
                + "".join(f"{name}_temp_path {folder}/{name}; " for name in (
                    "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
                + f"\nserver {{ listen 0.0.0.0:{self.port}; location / {{\n"
                f"proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; proxy_buffering off;\n"
                "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; } } }\n"
            )
            self._command = ["nginx", "-p", str(folder), "-c", str(self._config)]
        else:
            self._config.write_text(
                "defaults\n mode http\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
                f" timeout tunnel 1h\nlisten feed\n bind 0.0.0.0:{self.port}\n"
                f" server s 127.0.0.1:{upstream}\n"
            )
            self._command = ["haproxy", "-db", "-f", str(self._config)]
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: accepts(self.port))

    def cut(self) -> None:
        if self._is_nginx:
            os.kill(self._process.pid, signal.SIGHUP)  # what `nginx -s reload` sends
        else:
            self.end()
            self._start()

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


@dataclass(frozen=True)
class Outcome:
    """The result of a number of cuts of one kind.

    Attributes:
        worst: the latency of the latest message in the second after each cut, in seconds, sorted.
        usual: the latency of every message, likewise.
        switches: how long each new connection took from its beginning until it was in use, likewise.
    """

    kind: str
    copies: int
    cuts: int
    messages: int
    missing: int
    duplicates: int
    backwards: int
    worst: list[float]
    usual: list[float]
    switches: list[float]

    def as_json(self) -> str:
        def at(values: list[float], share: float) -> float:
            return round(1000 * values[min(len(values) - 1, int(len(values) * share))], 2) if values else 0.0

        latency = {"p50": at(self.worst, 0.5), "p99": at(self.worst, 0.99), "max": at(self.worst, 1.0)}
        usual = {"p50": at(self.usual, 0.5), "p99": at(self.usual, 0.99)}
        took = {"p50": at(self.switches, 0.5), "p99": at(self.switches, 0.99), "max": at(self.switches, 1.0)}
        return json.dumps({
            "kind": self.kind, "copies": self.copies, "cuts": self.cuts, "messages": self.messages,
            "missing": self.missing, "duplicates": self.duplicates, "backwards": self.backwards,
            "worst_ms": latency, "usual_ms": usual, "switch_ms": took,
        })


def run(kind: str, copies: int, cuts: int) -> Outcome:
    """Cut a feed's connections that many times in one way."""
    with contextlib.ExitStack() as stack:
        servers = [Process(), Process()]
        for server in servers:
            stack.callback(server.end)
        ports = [server.port for server in servers]
        proxy = None
        if kind in {"nginx", "haproxy"}:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            proxy = Proxy(kind, folder, ports[0])
            stack.callback(proxy.end)
            ports[0] = proxy.port
        recorder = Recorder(copies)
        feed = Feed(
            WebSocketApp, [f"ws://{HOST}:{port}" for port in ports], copies=2 if copies == 2 else 1,
            key=lambda event: event.json["n"], renew_on=renew_on, cool_down=0.1,
            renew_after=1.5 if kind == "age" else None, on_switch=recorder.on_switch,
        )
        feed.on("text")(recorder.on_text)
        # Only a short limit notices silence in time; on a busy machine it would end healthy connections.
        patience = 3.0 if IS_FAR else 1.0  # where packets are lost, an answer may take several attempts
        timing: dict[str, Any] = {"ping_rate": 0.5, "ping_timeout": patience} if kind == "dead" else {}
        # Connections end sooner here than a Backoff expects, and the next cut waits for the next connection.
        feed.start(**timing, persist=Backoff(min_wait=0.01, max_wait=0.1))
        stack.callback(feed.stop, PATIENCE)
        assert feed.wait_ready(PATIENCE)
        moments = []
        for number in range(cuts):
            wait_until(lambda: is_settled(feed, copies))
            before = {leg.number for leg in feed.status().legs}
            moments.append(monotonic())
            cut(kind, copies, feed, servers, proxy, number)
            wait_until(partial(has_changed, feed, before))
        wait_until(lambda: is_settled(feed, copies))
        pause(0.3)
        assert feed.stop(PATIENCE)
        return recorder.outcome(kind, copies, moments)


def cut(
    kind: str, copies: int, feed: Feed, servers: list[Process], proxy: Proxy | None, number: int
) -> None:
    """End one connection, or announce that it ends."""
    if kind == "asked":
        feed.renew()
    elif kind == "age":
        pass  # it renews itself
    elif proxy is not None:
        proxy.cut()
    elif kind == "kill":
        server = servers[number % 2]
        server.kill()
        server.start()
    else:
        for server in servers if copies == 1 else servers[number % 2 : number % 2 + 1]:
            server.tell(kind)  # without a connection it does nothing


def has_changed(feed: Feed, before: set[int]) -> bool:
    """Return whether a connection that was there before the cut has gone."""
    return not before <= {leg.number for leg in feed.status().legs}


def is_settled(feed: Feed, copies: int) -> bool:
    """Return whether each copy has one connection, and it has delivered some messages."""
    legs = feed.status().legs
    return len(legs) == copies == len({leg.url for leg in legs}) and all(
        leg.phase == "ready" and leg.first + leg.later >= SETTLED and (leg.opened_for or 0.0) > 1.05
        for leg in legs
    )


def renew_on(event: Any) -> bool:
    """Return whether the server announces the end of a connection."""
    return event.code == 1001 if event.name == "closing" else "op" in event.json


class Recorder:
    """Records the numbers that the feed's handlers see, and when."""

    def __init__(self, copies: int) -> None:
        self.copies = copies
        self.seen: list[tuple[int, float]] = []
        self.switches: list[float] = []
        self.threads: set[int] = set()

    def on_switch(self, switch: Switch) -> None:
        if self.copies == 1:  # otherwise, to a connection that was open before
            self.switches.append(switch.seconds)

    def on_text(self, event: Any) -> None:
        number = event.json.get("n")
        if number is not None:
            self.seen.append((number, monotonic()))
            self.threads.add(threading.get_ident())

    def outcome(self, kind: str, copies: int, moments: list[float]) -> Outcome:
        numbers = [number for number, _ in self.seen]
        distinct = set(numbers)
        assert len(self.threads) == 1
        late = [(at, at - number / RATE) for number, at in self.seen]
        worst = sorted(
            max((latency for at, latency in late if moment <= at < moment + 1.0), default=0.0)
            for moment in moments
        )
        return Outcome(
            kind, copies, len(moments), len(numbers),
            max(numbers) - min(numbers) + 1 - len(distinct), len(numbers) - len(distinct),
            sum(after < before for before, after in pairwise(numbers)),
            worst, sorted(latency for _, latency in late), sorted(self.switches),
        )


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds for which there is nothing to wait on."""
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end, "the condition did not hold in time"
        pause(0.01)


def every_kind() -> Iterator[tuple[str, int]]:
    """Yield the kinds of cuts, and with how many copies nothing may be lost in them."""
    yield from ((kind, 1) for kind in ANNOUNCED)
    yield from ((kind, 2) for kind in (*SUDDEN, "asked", "message"))
