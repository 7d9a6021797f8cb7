"""Publish and subscribe over MQTT: ``python mqtt.py URL [TOPIC]``, such as ``ws://localhost:9001 home``.

Publishes a temperature every second, and prints what is published under the topic. Tested with mosquitto 2.0.
"""

import random
import sys

from lochws import WebSocketApp, events
from lochws.handlers.heartbeat import Every
from lochws.handlers.packets import Packets
from lochws.handlers.subscriptions import Step, Subscriptions

CONNECT, CONNACK, PUBLISH, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP = 0x10, 0x20, 0x30, 0x82, 0x90, 0xC0, 0xD0


def packet(kind: int, *parts: bytes | str) -> bytes:
    """Return a packet of up to 16 KiB. Its parts are bytes, and texts, each preceded by its length."""
    body = b""
    for part in parts:
        body += part if isinstance(part, bytes) else len(part.encode()).to_bytes(2, "big") + part.encode()
    high, low = divmod(len(body), 128)
    return bytes([kind, low | 128, high] if high else [kind, low]) + body


def size(data: bytes) -> int | None:
    """Return the length of the packet at the beginning of some bytes, or None if more are needed to tell."""
    length = 0
    for position, byte in enumerate(data[1:5]):
        length |= (byte & 127) << 7 * position
        if byte < 128:
            return 2 + position + length
    return None


class Mqtt(WebSocketApp):
    """A client of an MQTT broker, subscribed to everything under a topic."""

    def __init__(self, url: str, topic: str = "home") -> None:
        super().__init__(url, protocols=["mqtt"])
        connect = packet(CONNECT, "MQTT", bytes([4, 2, 0, 30]), "")  # version, clean session, keep alive 30 s
        subscribe = packet(SUBSCRIBE, bytes([0, 1]), f"{topic}/#", bytes([0]))
        steps = [Step(connect, packet(CONNACK, bytes(2))), Step(subscribe, packet(SUBACK, bytes([0, 1, 0])))]
        Subscriptions(self, steps, split=size)
        Every(self, 15, packet(PINGREQ), expect=packet(PINGRESP), split=size)
        Every(self, 1, lambda: packet(PUBLISH, f"{topic}/temperature", b"%.1f" % random.gauss(20, 1)))

    def on_ready(self, event: events.Ready) -> None:
        self.packets = Packets(size)

    def on_binary(self, event: events.Binary) -> None:
        for received in self.packets.feed(event.data):
            if received[0] & 0xF0 == PUBLISH:
                start = 4 if received[1] < 128 else 5  # after the lengths of the packet and of the topic
                end = start + int.from_bytes(received[start - 2 : start], "big")
                print(received[start:end].decode(), received[end:].decode(), flush=True)


if __name__ == "__main__":
    Mqtt(*sys.argv[1:]).run_forever()
