"""A fleet of devices in one process, a thousand on five threads: ``python fleet.py [DEVICES]``.

Each keeps a connection of its own: commands come down, telemetry goes up. In the middle the server, which is
a process beside this one, is killed and started again, and the fleet comes back: not all at once, for each
device draws how long it waits.
"""

import asyncio
import json
import random
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing, contextmanager, suppress
from time import monotonic

from websockets.asyncio.server import broadcast, serve

from lochws import Backoff, Threads, WebSocketApp
from lochws.errors import TransportFail, WebSocketUnavailable

BACKOFF = Backoff(min_wait=0.2, max_wait=4)  # each wait is drawn from a range that grows up to this
BARS = 12


class Fleet:
    """All devices, and what they have seen. Handlers of apps that share threads never overlap: no locks."""

    def __init__(self, url, size):
        self.began = monotonic()
        self.threads = Threads(name="fleet")
        self.devices = [Device(url, number, self) for number in range(size)]
        self.commands = self.telemetry = self.received = 0
        self.returns = []  # when devices were ready again, in seconds after the connection was lost

    @property
    def online(self):
        """How many devices are connected."""
        return sum(device.is_active for device in self.devices)

    def start(self):
        """Have all connect in the background."""
        for device in self.devices:
            device.start(persist=BACKOFF)

    def close(self):
        """Close all, and wait until they are."""
        for device in self.devices:
            device.close()
        for device in self.devices:
            device.join(timeout=10)

    def watch(self, condition, title, timeout=30):
        """Show how things are, twice a second, until the condition holds."""
        pause = threading.Event()
        end = monotonic() + timeout
        while not condition():
            if monotonic() > end:
                sys.exit(f"{title}: not within {timeout} s")
            pause.wait(0.5)
            print(
                f"{monotonic() - self.began:5.1f} s  {title:<12} online {self.online:5,}  "
                f"commands {self.commands:7,}  telemetry {self.telemetry:7,}", flush=True,
            )


class Device(WebSocketApp):
    """One device. All of its handlers run on the thread that the fleet shares."""

    def __init__(self, url, number, fleet):
        super().__init__(f"{url}?device={number}", threads=fleet.threads)
        self.number = number
        self.fleet = fleet
        self.lost_at = self.first_wait = None

    def on_ready(self, event):
        if self.lost_at is not None:
            self.fleet.returns.append(monotonic() - self.lost_at)

    def on_text(self, event):
        self.fleet.commands += 1
        self.fleet.received = event.json["received"]
        temperature = round(random.gauss(20, 2), 1)
        with suppress(WebSocketUnavailable, TransportFail):  # the connection was lost meanwhile
            self.send_json(device=self.number, temperature=temperature)
            self.fleet.telemetry += 1

    def on_disconnected(self, event):
        self.lost_at = monotonic()

    def on_connect_fail(self, event):
        """Nothing to add: the back-off goes on."""

    def on_back_off(self, event):
        if self.first_wait is None:
            self.first_wait = event.delay


async def answer_devices(port):
    """The server: commands all devices to measure, every two seconds, and counts what they say."""
    received = 0

    async def listen(connection):
        nonlocal received
        async for _ in connection:
            received += 1

    async with serve(listen, "127.0.0.1", port, compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        while True:
            await asyncio.sleep(2)
            broadcast(server.connections, json.dumps({"command": "measure", "received": received}))


@contextmanager
def server_process(port=0):
    """Run the server in a process of its own; yields its port."""
    command = [sys.executable, __file__, "serve", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def allow_descriptors(count):
    """Raise the limit of open descriptors, which is 1,024 on many systems, as far as is needed."""
    with suppress(ImportError):
        import resource  # noqa: PLC0415  not on Windows, which has no such limit

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def picture(returns):
    """Draw how many came back when."""
    first, last = min(returns), max(returns)
    width = (last - first) / BARS or 1
    counts = Counter(min(int((seconds - first) / width), BARS - 1) for seconds in returns)
    for bar in range(BARS):
        count = counts[bar]
        print(f"  {first + bar * width:4.1f} s {count:5,} {'█' * round(100 * count / len(returns))}")


def main(size):
    """Start the fleet, restart the server, and tell what happened."""
    allow_descriptors(size + 100)
    with server_process() as port:
        fleet = Fleet(f"ws://127.0.0.1:{port}/", size)
        fleet.start()
        fleet.watch(lambda: fleet.online == size, "connecting")
        fleet.watch(lambda: fleet.received >= size, "working")
        threads = [thread.name for thread in threading.enumerate() if "fleet" in thread.name]
        print(f"{size:,} devices on {len(threads)} threads")
    with closing(fleet), server_process(port):
        before = fleet.commands
        fleet.watch(lambda: len(fleet.returns) == size, "coming back")
        fleet.watch(lambda: fleet.commands >= before + size, "working")
    waits = [device.first_wait for device in fleet.devices]
    print(f"they drew first waits of {min(waits):.1f} to {max(waits):.1f} s")
    print(f"{len(fleet.returns):,} devices came back, after the connection was lost for")
    picture(fleet.returns)
    print("closed:", sum(device.is_closed for device in fleet.devices))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        with suppress(KeyboardInterrupt):
            asyncio.run(answer_devices(int(sys.argv[2])))
    else:
        main(int((*sys.argv, 1000)[1]))
