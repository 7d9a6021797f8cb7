"""Memory of an idle connection, and of an attempt to connect."""

from __future__ import annotations

import gc
import os
import ssl
import subprocess
import sys
import threading
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest

import lochws
from lochws import Threads, WebSocketApp

from ..support.apps import echo
from ..support.peer import Link, StartPeer
from ..support.seen import PATIENCE

#: The bound that docs/performance.md gives is on all memory; this is on what lochws itself asks for.
MOST_BYTES = 12 * 1024

#: Starts apps whose server does not answer the upgrade request, and stops them. During each round of attempts
#: it prints by how many KiB per app its memory has grown since the first one. OpenSSL's memory counts.
ATTEMPTS = """
import gc, sys
from lochws import Threads, WebSocketApp
url, count, options = sys.argv[1], int(sys.argv[2]), {"ssl_cafile": sys.argv[3], "ssl_system_store": False}
threads = Threads()
def memory():
    gc.collect()
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))
before = []
def round_of(number):
    apps = [WebSocketApp(url, {}, threads=threads, **options) for _ in range(number)]
    before.append(memory())
    for app in apps:
        app.start(persist=False)
    print("started", flush=True)
    sys.stdin.readline()
    during = memory()
    for app in apps:
        app.close()
    assert all(app.join(60) for app in apps)
    print((during - before[0]) / number, flush=True)
round_of(4)  # with what all share
before.clear()
for _ in range(6):
    round_of(count)
"""


def test_an_idle_connection_takes_little_memory(start_peer: StartPeer) -> None:
    url, shared, count = start_peer(echo).url, Threads(), 40
    own = tracemalloc.Filter(True, str(Path(lochws.__file__).parent / "*"))
    pongs = threading.Semaphore(0)

    def open_some(number: int) -> list[WebSocketApp]:
        apps = [WebSocketApp(url, {}, threads=shared) for _ in range(number)]
        for app in apps:
            app.on("pong")(lambda _: pongs.release())
            app.start(persist=False)
        for _ in apps:
            assert pongs.acquire(timeout=PATIENCE)
        return apps

    apps = open_some(4)  # what all share comes with the first
    gc.collect()
    tracemalloc.start()
    try:
        apps += open_some(count)
        gc.collect()
        snapshot = tracemalloc.take_snapshot().filter_traces([own])
    finally:
        tracemalloc.stop()
    for app in apps:
        app.close()
    for app in apps:
        assert app.join(PATIENCE)
    each = sum(trace.size for trace in snapshot.traces) / count
    largest = "\n".join(map(str, snapshot.statistics("lineno")[:10]))
    assert each < MOST_BYTES, f"{each:.0f} bytes a connection:\n{largest}"


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="its memory cannot be measured")
@pytest.mark.parametrize(("scheme", "most_kib"), [("ws", 24), ("wss", 68)])
def test_an_attempt_takes_little_memory_and_leaves_none(
    scheme: str, most_kib: int, start_peer: StartPeer, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    asked = threading.Semaphore(0)

    def script(link: Link) -> None:
        link.read_request()
        asked.release()
        link.wait_for_end()

    peer = start_peer(script, tls=server_tls if scheme == "wss" else None)
    count = 100
    program = subprocess.Popen(
        [sys.executable, "-c", ATTEMPTS, peer.url, str(count), ca_file], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        # Of the threads, the one that stands in for the reader would have memory of its own.
        env={**os.environ, "MALLOC_ARENA_MAX": "1", "PYTHONPATH": str(Path(lochws.__file__).parent.parent)},
    )
    grown = []
    try:
        assert program.stdin is not None
        assert program.stdout is not None
        for number in (4, *[count] * 6):
            assert program.stdout.readline() == "started\n"
            for _ in range(number):
                assert asked.acquire(timeout=PATIENCE)
            program.stdin.write("go on\n")
            program.stdin.flush()
            grown.append(float(program.stdout.readline()))
    finally:
        program.kill()
        program.communicate()
    rounds = grown[1:]
    assert 2 < rounds[0] < most_kib, f"{rounds[0]:.1f} KiB for each attempt"
    # A leak of every attempt would add about as much in each round. The allocator keeps some, and that
    # of a Python without a GIL keeps more in some rounds than in others.
    least = min(after - before for before, after in pairwise(rounds))
    assert least < rounds[0] / 2, f"memory is left: {rounds} KiB"



@pytest.mark.parametrize("end", ["closed", "too slow", "not TLS"])
def test_a_failed_tls_handshake_leaves_no_tls_object(end: str, start_peer: StartPeer) -> None:
    asked = threading.Event()

    def script(link: Link) -> None:
        link.sock.recv(1)  # of the ClientHello
        asked.set()
        if end == "not TLS":
            link.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        link.wait_for_end()

    def tls_objects() -> int:
        gc.collect()
        return sum(isinstance(thing, ssl.SSLObject) for thing in gc.get_objects())

    before = tls_objects()
    url = start_peer(script).url.replace("ws:", "wss:")
    app = WebSocketApp(url, {}, open_timeout=0.2 if end == "too slow" else PATIENCE)
    app.start(persist=False)
    assert asked.wait(PATIENCE)
    if end == "closed":
        app.close()
    assert app.join(PATIENCE)
    assert tls_objects() <= before
