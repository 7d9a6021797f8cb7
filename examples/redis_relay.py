"""Relay a feed into a Redis stream, and read it there: ``python redis_relay.py [--redis URL]``.

In practice the relay and its reader are two programs on two machines. Without a URL, this one starts a
redis-server of its own, which must be installed. Needs redis-py: pip install 'lochws[redis]'.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile

import redis

from lochws import WebSocketApp
from lochws.demo import DemoServer
from lochws.handlers.relay import Relay

STREAM, GROUP, READER = "lochws:prices", "readers", "reader-1"
PRICES = 10


@contextlib.contextmanager
def own_redis():
    """Run a redis-server that writes acknowledged data to disk; yields its URL."""
    with tempfile.TemporaryDirectory() as folder:
        options = (
            f"--port 0 --unixsocket {folder}/socket --dir {folder} "
            "--appendonly yes --appendfsync always"
        )
        command = ["redis-server", *options.split()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            if not any("ready to accept connections" in line.lower() for line in process.stdout):
                sys.exit("redis-server does not start")
            yield f"unix://{folder}/socket"
            process.terminate()


def relay(url):
    """Relay some prices. After the block, Redis has all of them, or the log says which are missing."""
    with DemoServer(interval=0.02) as server:
        app = WebSocketApp(server.url)
        app.on("ready")(lambda _: app.send_json(type="subscribe", channels=["ticker"]))
        with Relay(app, STREAM, url, maxlen=100_000) as relay:
            app.on("text")(lambda _: relay.counts.received > PRICES and app.close())
            app.run_forever(persist=False)
        print(relay.counts)


def read(url):
    """Read entries that no other reader of the group has read. Unacknowledged entries are read again."""
    client = redis.Redis.from_url(url, decode_responses=True)
    with contextlib.suppress(redis.ResponseError):  # the group already exists
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    seen = set()  # an entry may arrive twice; a real reader would store this with its results
    while found := client.xreadgroup(GROUP, READER, {STREAM: ">"}, count=100, block=100):
        for entry, fields in found[0][1]:
            if fields["id"] not in seen:
                seen.add(fields["id"])
                print(f"connection {fields['connection']}, event {fields['sequence']}:", fields["event"],
                      fields["data"] if fields["event"] == "text" else "")
            client.xack(STREAM, GROUP, entry)
    client.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].split(":")[0])
    parser.add_argument("--redis", metavar="URL", help="such as redis://localhost:6379")
    given = parser.parse_args().redis
    with contextlib.nullcontext(given) if given else own_redis() as url:
        relay(url)
        read(url)
