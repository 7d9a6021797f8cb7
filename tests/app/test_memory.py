"""Memory of an idle connection."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from pathlib import Path

import lochws
from lochws import Threads, WebSocketApp

from ..support.apps import echo
from ..support.peer import StartPeer
from ..support.seen import PATIENCE

#: The bound that docs/performance.md gives is on all memory; this is on what lochws itself asks for.
MOST_BYTES = 12 * 1024


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
