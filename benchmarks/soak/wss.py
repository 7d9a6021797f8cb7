"""Soak: a million messages from fifty threads, two thousand rounds, two hundred restarts, all over TLS.

    python -m benchmarks.soak.wss                     # the whole of it, some minutes
    python -m benchmarks.soak.wss --messages 20000 --rounds 50 --restarts 10

The server is that of `server`. Every message must come
back once and in its thread's order, every round must end gracefully, every restart must be survived,
and threads, descriptors and memory must stay as they were. Prints a table, and exits 1 if anything was
lost.
"""

from __future__ import annotations

import argparse
import ssl
import sys
import threading
from time import monotonic
from typing import Any

from lochws import Backoff, WebSocketApp, events

from ..usage import descriptors, memory
from .server import Server, server

#: Seconds that any single step may take before it counts as lost.
PATIENCE = 60.0


class Row:
    """One line of the table: measures from when it is made until `finish`."""

    def __init__(self, title: str, count: int) -> None:
        self._title = title
        self._count = count
        self._before = memory()
        self._quarter = self._before
        self._threads, self._descriptors = threading.active_count(), descriptors()
        self._began = monotonic()

    def quarter(self) -> None:
        """Note that a quarter is done: all buffers have their size, and memory should stay the same."""
        self._quarter = memory()

    def finish(self, faults: list[str]) -> bool:
        """Print the line, and what went wrong. Returns whether nothing did."""
        seconds = monotonic() - self._began
        left = threading.active_count() - self._threads, descriptors() - self._descriptors
        if left != (0, 0):
            faults = [*faults, f"left behind: {left[0]} threads, {left[1]} descriptors"]
        print(
            f"{self._title:<34}{self._count:>9}{seconds:>9.1f}{self._count / seconds:>11.0f}"
            f"{self._before:>9.1f}{self._quarter:>9.1f}{memory():>9.1f}   "
            + ("ok" if not faults else f"{len(faults)} FAULTS"),
            flush=True,
        )
        for fault in faults[:10]:
            print(f"    {fault}")
        return not faults


HEAD = f"{'':<34}{'count':>9}{'seconds':>9}{'per second':>11}{'MiB':>9}{'at 1/4':>9}{'after':>9}"


# The three soaks.


class Echoes(WebSocketApp):
    """Checks what comes back: for each thread, its numbers in order."""

    def __init__(self, *args: Any, threads_of_ours: int, wanted: int, row: Row, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._next = [0] * threads_of_ours
        self._wanted = wanted
        self._row = row
        self._count = 0
        self.faults: list[str] = []
        self.done = threading.Event()

    def on_text(self, event: events.Text) -> None:
        number, _, index = event.text.partition(":")
        if int(index) != self._next[int(number)]:
            self.faults.append(f"thread {number}: got {index}, expected {self._next[int(number)]}")
        self._next[int(number)] = int(index) + 1
        self._count += 1
        if self._count == self._wanted // 4:
            self._row.quarter()
        if self._count == self._wanted:
            self.done.set()

    def on_disconnected(self, event: events.Disconnected) -> None:
        if not self.done.is_set():
            self.faults.append(f"lost after {self._count} messages: {event.reason}")
            self.done.set()


def soak_messages(url: str, context: ssl.SSLContext, threads: int, messages: int) -> bool:
    """Many threads, one connection, every message echoed while others are sent."""
    each = messages // threads
    row = Row(f"messages of {threads} threads", each * threads)
    app = Echoes(
        url, ssl_context=context, when_full="block", send_timeout=PATIENCE,
        threads_of_ours=threads, wanted=each * threads, row=row,
    )

    def send(number: int) -> None:
        for index in range(each):
            app.send_text(f"{number}:{index}")

    app.start(persist=False)
    assert app.wait_ready(PATIENCE)
    senders = [threading.Thread(target=send, args=(number,)) for number in range(threads)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    if not app.done.wait(PATIENCE):
        app.faults.append(f"{each * threads - sum(app._next)} messages did not come back")
    app.stop()
    return row.finish(app.faults)


def soak_rounds(url: str, context: ssl.SSLContext, rounds: int) -> bool:
    """Connect, echo, close, as often as wanted."""
    row = Row("rounds of connect, echo, close", rounds)
    faults: list[str] = []
    for number in range(rounds):
        if number == rounds // 4:
            row.quarter()
        app = WebSocketApp(url, ssl_context=context)
        came = threading.Event()
        endings: list[events.Event] = []
        app.on("text")(lambda event, came=came, number=number: event.text == str(number) and came.set())
        app.on("connect_fail", "disconnected")(endings.append)
        app.start(persist=False)
        if app.wait_ready(PATIENCE):
            app.send_text(str(number))
            came.wait(PATIENCE)
        app.stop(PATIENCE)
        if not came.is_set() or len(endings) != 1 or not getattr(endings[0], "graceful", False):
            faults.append(f"round {number}: {endings}, echo {'came' if came.is_set() else 'did not come'}")
    return row.finish(faults)


def soak_restarts(running: Server, context: ssl.SSLContext, restarts: int) -> bool:
    """One app, a server that goes away and comes back."""
    row = Row("restarts of the server", restarts)
    faults: list[str] = []
    came = threading.Semaphore(0)
    app = WebSocketApp(running.wss + "/", ssl_context=context)
    app.on("text")(lambda _: came.release())
    gone = threading.Semaphore(0)
    app.on("disconnected")(lambda _: gone.release())
    app.start(persist=Backoff(min_wait=0.001, max_wait=0.01))
    for number in range(restarts + 1):
        if number == restarts // 4:
            row.quarter()
        if number:
            running.restart()
            if not gone.acquire(timeout=PATIENCE):
                faults.append(f"restart {number} went unnoticed")
        if not app.wait_ready(PATIENCE):
            faults.append(f"restart {number}: no connection")
            break
        app.send_text("there?")
        if not came.acquire(timeout=PATIENCE):
            faults.append(f"restart {number}: no echo")
    app.stop()
    if app.counters.connections != restarts + 1:
        faults.append(f"{app.counters.connections} connections, expected {restarts + 1}")
    return row.finish(faults)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=50)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2_000)
    parser.add_argument("--restarts", type=int, default=200)
    options = parser.parse_args()
    with server() as (running, context, _):
        print(HEAD)
        outcomes = [
            soak_messages(running.wss + "/", context, options.threads, options.messages),
            soak_rounds(running.wss + "/", context, options.rounds),
            soak_restarts(running, context, options.restarts),
        ]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
