"""A fleet of devices in one process, a thousand on five threads: ``python fleet.py [DEVICES]``.

The server, a separate process, is killed and restarted. Devices reconnect one by one, after random waits.
"""

import logging
import random
import resource
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lochws import Backoff, Threads, WebSocketApp, events
from lochws.handlers.heartbeat import Every
from lochws.testing import ScriptedServer, accept, echo


class Device(WebSocketApp):
    """One device. The server acknowledges what it sends."""
    def __init__(self, url: str, number: int, threads: Threads) -> None:
        super().__init__(f"{url}?device={number}", threads=threads)
        self.outage = 0.0
        Every(self, 2, lambda: {"device": number, "temperature": round(random.gauss(20, 2), 1)})

    def on_ready(self, event: events.Ready) -> None:
        self.outage = event.outage or 0.0  # in seconds


def watch(fleet: list[Device], outages: int) -> None:
    """Print the state of the fleet twice a second, until all are online after this many outages."""
    online = 0
    while online < len(fleet):
        threading.Event().wait(0.5)
        online = sum(device.is_active and device.counters.connections > outages for device in fleet)
        acknowledged = sum(device.counters.messages_received for device in fleet)
        print(f"online {online:5,}  telemetry {acknowledged:7,}", flush=True)


@contextmanager
def server_process(port: int = 0) -> Iterator[int]:
    """Run the server in a process of its own; yields its port."""
    command = [sys.executable, __file__, "serve", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


def main(size: int) -> None:
    """Start the fleet, restart the server, and print what happened."""
    logging.getLogger("lochws").setLevel(logging.ERROR)  # not a warning for each lost connection
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3 * size + 100, hard))
    threads = Threads(name="fleet")
    with server_process() as port:
        fleet = [Device(f"ws://127.0.0.1:{port}/", number, threads) for number in range(size)]
        for device in fleet:
            device.start(persist=Backoff(max_wait=4))
        watch(fleet, 0)
        count = sum("fleet" in thread.name for thread in threading.enumerate())
        print(f"{size:,} devices on {count} threads")
    with server_process(port):
        watch(fleet, 1)
        quarters = statistics.quantiles(device.outage for device in fleet)
        print("back after: a quarter {:.1f} s, half {:.1f} s, three quarters {:.1f} s".format(*quarters))
        for device in fleet:
            device.close()
        print("closed:", sum(device.join(60) for device in fleet))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        with ScriptedServer([accept(), echo()], port=int(sys.argv[2]), history=False) as server:
            print(server.port, flush=True)
            threading.Event().wait()
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 1000)
