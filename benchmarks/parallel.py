"""``python -m benchmarks.parallel``: connections whose handlers compute, with the GIL and without it.

Run it with a free-threaded Python: `python -m tests.freethreaded --throughput` finds or builds one for it.
Each connection has a thread of its own, and its handler decodes an order book and adds it up. The server is
another process that sends the same bytes over and over, so nearly all the time is the client's. A
run takes about a minute and a half on an idle machine.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

CLIENTS = ("lochws", "websocket-client", "websockets")
#: A message: 40 levels of an order book, about 1 KiB of JSON.
MESSAGE = json.dumps({"channel": "book", "bids": [[f"{100 - n / 8:.3f}", f"{n + 1}.5"] for n in range(40)]})
#: How many messages the server passes to the kernel at a time.
_BATCH = 64
_WARM_UP = 0.5


class Counter:
    """The handler of one connection: decodes its messages, adds them up and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def take(self, text: str | bytes) -> None:
        """Handle a message."""
        total = 0.0
        for price, size in json.loads(text)["bids"]:
            total += float(price) * float(size)
        assert total > 0
        self.count += 1


def main() -> int:
    """Measure everything and print the table. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parallel", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; the median counts")
    parser.add_argument("--seconds", type=float, default=1.0, help="the length of one measurement")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # what a process of its own measures
    given = parser.parse_args()
    if given.one:
        client, url, count = given.one
        print(measure(client, url, int(count), given.seconds), flush=True)
        os._exit(0)  # the connections need no goodbye
    if not hasattr(sys, "_is_gil_enabled"):
        parser.error("this Python always has a GIL: run `python -m tests.freethreaded --throughput`")
    rates: dict[tuple[str, str, int], list[float]] = {}
    with Server() as server:
        for _ in range(given.rounds):  # in turns, so that a slow minute of the machine meets them all
            for client in CLIENTS:
                for gil in ("1", "0"):
                    for count in (1, 2):
                        rate = _measure_apart(client, server.url, count, given.seconds, gil)
                        rates.setdefault((client, gil, count), []).append(rate)
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, messages of {len(MESSAGE)} bytes\n")
    print("| messages per second | GIL, 1 | GIL, 2 | no GIL, 1 | no GIL, 2 |\n|---|---|---|---|---|")
    for client in CLIENTS:
        medians = [statistics.median(rates[client, gil, count]) for gil in ("1", "0") for count in (1, 2)]
        print(f"| {client} | " + " | ".join(f"{rate:,.0f}" for rate in medians) + " |")
    return 0


def _measure_apart(client: str, url: str, count: int, seconds: float, gil: str) -> float:
    """Have a process of its own measure, with the GIL (``"1"``) or without it (``"0"``)."""
    command = [sys.executable, "-m", "benchmarks.parallel", "--seconds", str(seconds)]
    command += ["--one", client, url, str(count)]
    environment = {**os.environ, "PYTHON_GIL": gil}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def measure(client: str, url: str, count: int, seconds: float) -> float:
    """Return how many messages per second some connections handle together."""
    counters = [Counter() for _ in range(count)]
    start = {"lochws": _lochws, "websocket-client": _websocket_client, "websockets": _websockets}[client]
    for counter in counters:
        start(url, counter.take)
    while not all(counter.count for counter in counters):
        time.sleep(0.01)
    time.sleep(_WARM_UP)
    before, began = sum(counter.count for counter in counters), time.perf_counter()
    time.sleep(seconds)
    return (sum(counter.count for counter in counters) - before) / (time.perf_counter() - began)


# Each client runs on threads that end with the process.


def _lochws(url: str, take: Callable[[str], object]) -> None:
    from lochws import WebSocketApp  # noqa: PLC0415  each process loads one client
    from lochws.events import Text  # noqa: PLC0415  as above

    app = WebSocketApp(url, proxies={})

    @app.on("text")
    def handle(event: Text) -> None:
        take(event.text)

    app.start()


def _websocket_client(url: str, take: Callable[[str], object]) -> None:
    import websocket  # noqa: PLC0415  as above

    app = websocket.WebSocketApp(url, on_message=lambda _, message: take(message))
    threading.Thread(target=app.run_forever, daemon=True).start()


def _websockets(url: str, take: Callable[[str | bytes], object]) -> None:
    from websockets.sync.client import connect  # noqa: PLC0415  as above

    def receive() -> None:
        with connect(url, compression=None, proxy=None) as connection:
            for message in connection:
                take(message)

    threading.Thread(target=receive, daemon=True).start()


class Server:
    """A process that accepts connections and sends them messages for as long as they take them."""

    def __enter__(self) -> Server:
        ours, theirs = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
        self._process = spawn.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        self.url = f"ws://127.0.0.1:{ours.recv()}/"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def _serve(parent: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        parent.send(listener.getsockname()[1])
        while True:
            threading.Thread(target=_send, args=(listener.accept()[0],), daemon=True).start()


def _send(connection: socket.socket) -> None:
    payload = MESSAGE.encode()
    batch = (b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload) * _BATCH
    with connection:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        secret = key.partition(b":")[2].strip() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(secret, usedforsecurity=False).digest())
        try:
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            while True:
                connection.sendall(batch)
        except OSError:
            return  # the measurement is over


if __name__ == "__main__":
    sys.exit(main())
