"""CPU per message of the drop-in for websocket-client, and of the original with and without wsaccel.

Run it as ``python -m benchmarks.drop_in``. A server in a process of its own sends text messages of 100
characters, or counts those that it receives. Each client runs in a process of its own, in turn, and the
median counts.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import statistics
import sys
import time
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

MODULES = {"drop-in": "lochws.compat.websocket", "with wsaccel": "websocket", "without": "websocket"}
MESSAGES, ROUNDS = 100_000, 3
#: The messages that the server writes at a time, so that it is faster than the clients.
AT_ONCE = 100
TEXT = "x" * 100


def server(port: Any) -> None:
    """Send messages, or count those received, as the path says. In a process of its own."""

    async def talk(connection: ServerConnection) -> None:
        assert connection.request is not None
        if connection.request.path == "/send":
            frames = (b"\x81" + bytes([len(TEXT)]) + TEXT.encode()) * AT_ONCE
            for _ in range(MESSAGES // AT_ONCE):
                connection.transport.write(frames)
                await connection.drain()
        else:
            for _ in range(MESSAGES):
                await connection.recv()
            await connection.send("done")
        await connection.wait_closed()

    async def main() -> None:
        async with serve(talk, "127.0.0.1", 0, compression=None, ping_interval=None) as listening:
            port.send(listening.sockets[0].getsockname()[1])
            await asyncio.get_running_loop().create_future()

    asyncio.run(main())


def by_recv(websocket: Any, url: str) -> None:
    """Receive with `recv`."""
    ws = websocket.create_connection(f"{url}/send")
    for _ in range(MESSAGES):
        assert ws.recv() == TEXT
    ws.close()


def by_callback(websocket: Any, url: str) -> None:
    """Receive with `on_message`."""
    seen = 0

    def on_message(app: Any, message: str) -> None:
        nonlocal seen
        seen += len(message)
        if seen == MESSAGES * len(TEXT):
            app.close()

    websocket.WebSocketApp(f"{url}/send", on_message=on_message).run_forever()


def by_send(websocket: Any, url: str) -> None:
    """Send, and wait until the server has received everything."""
    ws = websocket.create_connection(f"{url}/receive")
    for _ in range(MESSAGES):
        ws.send(TEXT)
    assert ws.recv() == "done"
    ws.close()


WORKS = {"recv()": by_recv, "on_message": by_callback, "send()": by_send}


def measure(pipe: Any, module: str, work: str, url: str) -> None:
    """Do one work, and tell how much processor time it took. In a process of its own."""
    if module == "without":  # as pip installs it
        for name in ("utf8validator", "xormask"):
            sys.modules[f"wsaccel.{name}"] = None  # type: ignore[assignment]  # an import of it fails
    websocket = importlib.import_module(MODULES[module])
    began = time.process_time()
    WORKS[work](websocket, url)
    pipe.send((time.process_time() - began) / MESSAGES * 1e6)


def main() -> None:
    """Measure everything, and print it."""
    processes = multiprocessing.get_context("spawn")
    ours, theirs = multiprocessing.Pipe()
    serving = processes.Process(target=server, args=(theirs,), daemon=True)
    serving.start()
    url = f"ws://127.0.0.1:{ours.recv()}"
    print(sys.version.split()[0])
    for work in WORKS:
        times: dict[str, list[float]] = {module: [] for module in MODULES}
        for _ in range(ROUNDS):
            for module in MODULES:
                process = processes.Process(target=measure, args=(theirs, module, work, url))
                process.start()
                times[module].append(ours.recv())
                process.join()
        medians = {module: statistics.median(times[module]) for module in MODULES}
        print(f"{work}, us per message:", ", ".join(f"{took:.1f} {name}" for name, took in medians.items()))
    serving.terminate()
    serving.join()


if __name__ == "__main__":
    main()
