"""Ten million messages over connections that end in every way: memory must stay flat.

    python -m benchmarks.soak.flat                     # a few seconds
    LOCHWS_PURE_PYTHON=1 python -m benchmarks.soak.flat

One app receives them, and reconnects after each end: a Close frame, a broken rule, a cut, a reset, an attempt
that fails. Its handler fails now and then. Exits 1 if memory grew by more than `MOST_KIB`, if messages were
lost, or if an attempt did not end in exactly one final event.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
from statistics import median
from time import monotonic

import lochws
from lochws import Backoff, WebSocketApp, events

from ..usage import memory
from ..wire import CLOSE, frame, upgrade_answer

#: How much larger memory may be at the end than after the first fifth, in KiB.
MOST_KIB = 1024
#: Messages per connection, and from one that makes the handler fail to the next.
PER_CONNECTION, PER_FAILURE = 50_000, 9_973
#: Seconds without a message after which the run has failed.
PATIENCE = 60
_TEXT = frame(0x81, b"0123456789abcdef")
_BLOB = _TEXT * 10_000
_RESET = struct.pack("ii", 1, 0)
#: The last bytes of a connection, by what is wrong with them.
ENDINGS = {
    "Close": CLOSE,
    "Close without a code": b"\x88\x00",
    "Close with a reserved code": b"\x88\x02\x03\xed",
    "text that is not UTF-8": b"\x81\x02\xff\xff",
    "a text cut inside a character": b"\x01\x01\xc3\x80\x00",
    "a reserved opcode": b"\x83\x00",
    "a reserved bit": b"\xc1\x01a",
    "a masked frame": b"\x81\x81abcda",
    "a message of a terabyte": b"\x82\x7f" + (1 << 40).to_bytes(8, "big"),
    "a fragmented ping": b"\x09\x00",
    "a continuation of nothing": b"\x80\x00",
    "a new message inside another": b"\x01\x01a\x81\x01b",
    "a cut inside a frame": b"\x81\x7e\x04\x00abc",
    "a cut inside a large message": b"\x82\x7f" + (1 << 20).to_bytes(8, "big") + bytes(100_000),
    "a reset": CLOSE[:1],
}
#: Answers to an attempt in place of an upgrade.
REFUSALS = (
    b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", b"SSH-2.0-server\r\n\r\n", b"",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
)


def serve() -> None:
    """Print a port, and serve one connection after another. Each ends differently; a third are refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        for number in range(sys.maxsize):
            connection, _ = listener.accept()
            with connection:
                try:
                    _serve_one(connection, number)
                except OSError:
                    pass  # the client has left, as it may after a broken rule


def _serve_one(connection: socket.socket, number: int) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536)
    turn, is_refused = number // 3, number % 3 == 0
    if is_refused:
        connection.sendall(REFUSALS[turn % len(REFUSALS)])
        return
    connection.sendall(upgrade_answer(request, deflate=False))
    for _ in range(PER_CONNECTION * len(_TEXT) // len(_BLOB)):
        connection.sendall(_BLOB)
    name = list(ENDINGS)[(number - turn - 1) % len(ENDINGS)]
    connection.sendall(ENDINGS[name])
    if name == "a reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass


class Receiving(WebSocketApp):
    """Counts messages and ends, and samples memory at each end."""

    def __init__(self, url: str, wanted: int) -> None:
        super().__init__(url, {}, compress=False)
        self.wanted = wanted
        self.messages = self.failures = self.attempts = self.short = self.before = 0
        self.samples: list[float] = []
        self.ends: set[str] = set()
        self.done = threading.Event()

    def on_connecting(self, event: events.Connecting) -> None:
        self.attempts += 1

    def on_ready(self, event: events.Ready) -> None:
        self.before = self.messages

    def on_text(self, event: events.Text) -> None:
        self.messages += 1
        if self.messages == self.wanted:
            self.done.set()
        if self.messages % PER_FAILURE == 0:
            self.failures += 1
            raise ValueError(event.text)

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        self._ended(event.reason)

    def on_disconnected(self, event: events.Disconnected) -> None:
        self.short += self.messages - self.before != PER_CONNECTION
        self._ended(event.reason)

    def _ended(self, reason: str) -> None:
        self.samples.append(memory())
        self.ends.add(reason)


def measure(wanted: int) -> int:
    """Receive that many messages. Returns the exit status."""
    logging.getLogger("lochws").addHandler(logging.StreamHandler(open(os.devnull, "w", encoding="utf-8")))  # noqa: SIM115
    logging.getLogger("lochws").propagate = False
    command = [sys.executable, "-m", "benchmarks.soak.flat", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        app = Receiving(f"ws://127.0.0.1:{int(server.stdout.readline())}/", wanted)
        began = monotonic()
        app.start(ping_rate=0, persist=Backoff(min_wait=0.001, max_wait=0.002))
        seen = -1
        while not app.done.wait(PATIENCE) and app.messages > seen:
            seen = app.messages
        app.stop(PATIENCE)
        took = monotonic() - began
        server.kill()
    fifth = len(app.samples) // 5
    grown = 1024 * (median(app.samples[-fifth:]) - median(app.samples[fifth : 2 * fifth]))
    print(
        f"{app.messages:,} messages, {app.attempts} attempts that ended with {len(app.ends)} reasons, "
        f"{app.failures} failures of a handler, {'compiled' if lochws.compiled else 'Python'}: "
        f"grown by {grown:.0f} KiB to {app.samples[-1]:.1f} MiB, {took:.0f} s"
    )
    faults = []
    # A reset may overtake messages, and the last connection is closed by the app.
    if not app.done.is_set() or app.short > app.attempts // len(ENDINGS) + 2:
        faults.append(f"messages were lost on {app.short} connections")
    if len(app.samples) != app.attempts:
        faults.append(f"{app.attempts} attempts had {len(app.samples)} final events")
    if grown > MOST_KIB:
        faults.append("memory grew")
    for fault in faults:
        print(f"fault: {fault}")
    return int(bool(faults))


def main() -> int:
    """Run the command line. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak.flat", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000, help="how many (10,000,000)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return 0
    return measure(options.messages)


if __name__ == "__main__":
    sys.exit(main())
