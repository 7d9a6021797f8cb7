"""Publish and subscribe with NATS: ``python nats.py URL [SUBJECT]``, such as ``ws://localhost:9222 orders``.

Publishes an order every second, and prints what is published under the subject. Tested with nats-server
2.9.10, in whose configuration the section "websocket" sets the port.
"""

import json
import sys
import time

from lochws import WebSocketApp, events
from lochws.handlers.heartbeat import Answer, Every
from lochws.handlers.packets import Packets
from lochws.handlers.subscriptions import Step, Subscriptions

PING, PONG, END = b"PING\r\n", b"PONG\r\n", b"\r\n"


def size(data: bytes) -> int | None:
    """Return the length of the line at the beginning of some bytes, with the payload that follows it."""
    line, end, _ = data.partition(END)
    if not end:
        return None
    return len(line) + len(END) + (int(line.split()[-1]) + len(END) if line.startswith(b"MSG ") else 0)


def publication(subject: str, content: object) -> bytes:
    """Return the line and the payload that publish a JSON value."""
    payload = json.dumps(content).encode()
    return b"PUB %b %d\r\n%b\r\n" % (subject.encode(), len(payload), payload)


class Nats(WebSocketApp):
    """A client of a NATS server, subscribed to everything under a subject."""

    def __init__(self, url: str, subject: str = "orders") -> None:
        super().__init__(url)
        steps = [
            Step(None, expect=lambda event: event.data.startswith(b"INFO "), key="info"),
            Step(b'CONNECT {"verbose": false}\r\n' + PING, expect=PONG, key="connect"),
            Step(f"SUB {subject}.> 1\r\n".encode(), key="subscribe"),
        ]
        Subscriptions(self, steps, split=size)
        Answer(self, PING, PONG, split=size)
        Every(self, 30, PING, expect=PONG, split=size)
        Every(self, 1, lambda: publication(f"{subject}.new", {"placed": time.strftime("%X")}))

    def on_ready(self, event: events.Ready) -> None:
        self.packets = Packets(size)

    def on_binary(self, event: events.Binary) -> None:
        for packet in self.packets.feed(event.data):
            line, _, payload = packet.partition(END)
            if line.startswith(b"MSG "):
                print(line.split()[1].decode(), json.loads(payload), flush=True)


if __name__ == "__main__":
    Nats(*sys.argv[1:]).run_forever()
