"""A fleet of devices in one process, a thousand on five threads: ``python fleet.py [DEVICES]``.

Each device has its own connection, over which it receives commands and sends telemetry. Half-way through, the
server (a separate process) is killed and restarted, and the fleet reconnects: not all at once, since each
device waits for a random time.
"""

import json
import random
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing, contextmanager, suppress
from time import monotonic, sleep

from lochws import Backoff, Threads, WebSocketApp
from lochws.errors import TransportFail, WebSocketUnavailable
from lochws.testing import ScriptedServer, accept, close

BACKOFF = Backoff(min_wait=0.2, max_wait=4)  # random waits, from a range that grows
BARS = 12


class Fleet:
    """All devices and their counts. Needs no locks: handlers of apps that share threads never overlap."""

    def __init__(self, url, size):
        self.began = monotonic()
        self.threads = Threads(name="fleet")
        self.devices = [Device(url, number, self) for number in range(size)]
        self.commands = self.telemetry = self.received = 0
        self.returns = []  # for each device, the seconds from the loss of its connection to the next one

    @property
    def online(self):
        """The number of connected devices."""
        return sum(device.is_active for device in self.devices)

    def start(self):
        """Start all devices; they connect in the background."""
        for device in self.devices:
            device.start(persist=BACKOFF)

    def close(self):
        """Close all connections, and wait until they are closed."""
        for device in self.devices:
            device.close()
        for device in self.devices:
            device.join(timeout=10)

    def watch(self, condition, title, timeout=30):
        """Print the state of the fleet twice a second, until a condition holds."""
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
    """One device. Its handlers run on the reader thread that the whole fleet shares."""

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
        with suppress(WebSocketUnavailable, TransportFail):  # the connection has just been lost
            self.send_json(device=self.number, temperature=temperature)
            self.fleet.telemetry += 1

    def on_disconnected(self, event):
        self.lost_at = monotonic()

    def on_connect_fail(self, event):
        """Ignore the failure, because another attempt follows."""

    def on_back_off(self, event):
        if self.first_wait is None:
            self.first_wait = event.delay


class Control:
    """The server's side: commands all devices to measure, every two seconds, and counts what they send."""

    def __init__(self):
        self.received = 0
        self.lock = threading.Lock()  # guards `received`

    def listen(self, connection):
        """Count the messages of one device, on the thread of its connection."""
        for _ in connection:
            with self.lock:
                self.received += 1

    def serve(self, port, size):
        """Serve until the process is killed; prints the port first."""
        allow_descriptors(3 * size + 100)
        with ScriptedServer([accept(), self.listen, close()], port=port, history=False) as server:
            print(server.port, flush=True)
            while True:
                sleep(2)
                command = json.dumps({"command": "measure", "received": self.received})
                for connection in list(server.connections):
                    connection.send(command)


@contextmanager
def server_process(size, port=0):
    """Run the server in a process of its own; yields its port."""
    command = [sys.executable, __file__, "serve", str(port), str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def allow_descriptors(count):
    """Raise the limit on open descriptors, which is often 1,024, as far as needed and possible."""
    with suppress(ImportError):
        import resource  # noqa: PLC0415  Windows has neither the module nor the limit

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def picture(returns):
    """Draw a histogram of the seconds after which devices reconnected."""
    first, last = min(returns), max(returns)
    width = (last - first) / BARS or 1
    counts = Counter(min(int((seconds - first) / width), BARS - 1) for seconds in returns)
    for bar in range(BARS):
        count = counts[bar]
        print(f"  {first + bar * width:4.1f} s {count:5,} {'█' * round(100 * count / len(returns))}")


def main(size):
    """Start the fleet, restart the server, and print what happened."""
    allow_descriptors(size + 100)
    with server_process(size) as port:
        fleet = Fleet(f"ws://127.0.0.1:{port}/", size)
        fleet.start()
        fleet.watch(lambda: fleet.online == size, "connecting")
        fleet.watch(lambda: fleet.received >= size, "working")
        threads = [thread.name for thread in threading.enumerate() if "fleet" in thread.name]
        print(f"{size:,} devices on {len(threads)} threads")
    with closing(fleet), server_process(size, port):
        before = fleet.commands
        fleet.watch(lambda: len(fleet.returns) == size, "coming back")
        fleet.watch(lambda: fleet.commands >= before + size, "working")
    waits = [device.first_wait for device in fleet.devices]
    print(f"their first waits were {min(waits):.1f} to {max(waits):.1f} s")
    print(f"{len(fleet.returns):,} devices came back, after being offline for")
    picture(fleet.returns)
    print("closed:", sum(device.is_closed for device in fleet.devices))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        with suppress(KeyboardInterrupt):
            Control().serve(*map(int, sys.argv[2:]))
    else:
        main(int((*sys.argv, 1000)[1]))
