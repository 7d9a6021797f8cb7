"""Messages that are asked for: `receive` beside websockets' threads, coroutine handlers beside aiohttp.

Run it as ``python -m benchmarks.waiting``. A server in a process of its own sends numbers in order, as text
messages; each client checks them. The latency is that of an echo: one message at a time, there and back, some
with one client and then some with the other, so that what else the machine does meets both. The coroutine
handlers run alone, and beside a coroutine that only ever waits for its next turn.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from websockets.asyncio.server import ServerConnection, serve
from websockets.sync import client

import lochws

RECEIVED, HANDLED, ECHOED = 1_000_000, 100_000, 100
#: How often the clients take turns.
ROUNDS, ECHO_ROUNDS = 3, 150


def server(port: Any) -> None:
    """Send as many numbers as the path says, then echo. In a process of its own."""

    async def talk(connection: ServerConnection) -> None:
        assert connection.request is not None
        for number in range(int(connection.request.path[1:])):
            await connection.send(str(number))  # waits while the client is behind
        async for message in connection:
            await connection.send(message)

    async def main() -> None:
        async with serve(talk, "127.0.0.1", 0, compression=None, ping_interval=None) as listening:
            port.send(listening.sockets[0].getsockname()[1])
            await asyncio.get_running_loop().create_future()

    asyncio.run(main())


def receive_all(receive: Callable[[], str], longest: Callable[[], int]) -> str:
    """Receive all numbers; return the results in words."""
    began, used, most = time.perf_counter(), time.process_time(), 0
    for number in range(RECEIVED):
        assert receive() == str(number)
        if not number % 100:
            most = max(most, longest())
    used, took = time.process_time() - used, time.perf_counter() - began
    return (
        f"{RECEIVED / took:,.0f} messages/s, {used / RECEIVED * 1e6:.1f} us CPU each, "
        f"at most {most} waiting"
    )


def text_of(message: lochws.events.Text | lochws.events.Binary) -> str:
    """Return the text of a message."""
    assert isinstance(message, lochws.events.Text)
    return message.text


def by_lochws(url: str) -> str:
    """Receive with `lochws.connect`."""
    with lochws.connect(f"{url}/{RECEIVED}") as ws:
        return receive_all(lambda: text_of(ws.receive(10)), lambda: len(ws._messages))


def by_websockets(url: str) -> str:
    """Receive with the threads of websockets."""
    with client.connect(f"{url}/{RECEIVED}", compression=None, ping_interval=None) as ws:
        return receive_all(lambda: str(ws.recv(10)), lambda: 0)


def echo_in_turn(url: str) -> tuple[str, str]:
    """Measure the echoes of both clients in turn; return the results in words."""
    with (
        lochws.connect(f"{url}/0") as ours,
        client.connect(f"{url}/0", compression=None, ping_interval=None) as theirs,
    ):
        took: tuple[list[float], list[float]] = ([], [])
        for _ in range(ECHO_ROUNDS):
            for number in range(ECHOED):
                sent = time.perf_counter()
                ours.send_text(str(number))
                assert text_of(ours.receive(10)) == str(number)
                took[0].append(time.perf_counter() - sent)
            for number in range(ECHOED):
                sent = time.perf_counter()
                theirs.send(str(number))
                assert theirs.recv(10) == str(number)
                took[1].append(time.perf_counter() - sent)
    return latency(took[0]), latency(took[1])


def latency(took: list[float]) -> str:
    """Return the median and the 99th percentile in words."""
    took.sort()
    return f"{statistics.median(took) * 1e6:.0f} us median, {took[-len(took) // 100] * 1e6:.0f} us p99"


@asynccontextmanager
async def busy() -> AsyncIterator[list[float]]:
    """Run a coroutine that never rests, and note the longest time between two of its turns."""
    longest = [0.0, 0.0]

    async def turn() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest[0], longest[1], last = max(longest[0], now - last), longest[1] + 1, now

    task = asyncio.create_task(turn())
    yield longest
    task.cancel()


async def handled(url: str, feed: Callable[[str, Callable[[str], None]], Any], *, is_busy: bool) -> str:
    """Have all numbers handled by a coroutine; return the results in words."""
    done, seen = asyncio.Event(), 0

    def note(text: str) -> None:
        nonlocal seen
        assert text == str(seen)
        seen += 1
        if seen == HANDLED:
            done.set()

    began, used = time.perf_counter(), time.process_time()
    if not is_busy:
        async with feed(f"{url}/{HANDLED}", note):
            await done.wait()
        return f"{(time.process_time() - used) / HANDLED * 1e6:.1f} us CPU each"
    async with busy() as longest, feed(f"{url}/{HANDLED}", note):
        await done.wait()
        took = time.perf_counter() - began
    return (
        f"{HANDLED / took:,.0f} messages/s beside {longest[1] / took:,.0f} turns/s, the longest "
        f"{longest[0] * 1e3:.1f} ms"
    )


@asynccontextmanager
async def feed_lochws(url: str, note: Callable[[str], None]) -> AsyncIterator[None]:
    """Handle with a coroutine handler of an app."""
    app = lochws.WebSocketApp(url)

    @app.on("text", loop=asyncio.get_running_loop())
    async def handle(event: lochws.events.Text) -> None:
        note(event.text)

    async with app:
        yield


@asynccontextmanager
async def feed_aiohttp(url: str, note: Callable[[str], None]) -> AsyncIterator[None]:
    """Handle with a coroutine that iterates aiohttp's connection."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url, compress=0) as ws:
        async def read() -> None:
            async for message in ws:
                note(message.data)

        task = asyncio.create_task(read())
        yield
        task.cancel()


def main() -> None:
    """Measure everything, and print it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=server, args=(theirs,), daemon=True)
    process.start()
    url = f"ws://127.0.0.1:{ours.recv()}"
    print(sys.version.split()[0], "lochws compiled:", lochws.compiled)
    print("receive, lochws:     ", by_lochws(url))
    print("receive, websockets: ", by_websockets(url))
    for name, words in zip(("lochws:", "websockets:"), echo_in_turn(url), strict=True):
        print("echo,", name.ljust(15), words)
    for is_busy in (False, True):
        for _ in range(ROUNDS):
            print("coroutines, lochws:  ", asyncio.run(handled(url, feed_lochws, is_busy=is_busy)))
            print("coroutines, aiohttp: ", asyncio.run(handled(url, feed_aiohttp, is_busy=is_busy)))
    process.terminate()
    process.join()


if __name__ == "__main__":
    main()
