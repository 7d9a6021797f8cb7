"""Send and receive over STOMP: ``python stomp.py URL [DESTINATION]``, such as ``ws://localhost:15674/ws``.

Sends a price every second, and prints what arrives. Tested with RabbitMQ 3.10.8 and its plugin Web STOMP.
"""

import random
import sys

from lochws import WebSocketApp, events
from lochws.handlers.heartbeat import Every
from lochws.handlers.subscriptions import Step, Subscriptions

BEATS = "10000,10000"  # milliseconds between the heartbeats that we offer, and that we want


def frame(command: str, body: str = "", **headers: str) -> str:
    """Return a frame. Keywords are its headers, with _ for -."""
    lines = [f"{name.replace('_', '-')}:{value}\n" for name, value in headers.items()]
    return f"{command}\n{''.join(lines)}\n{body}\0"


def parsed(event: events.Text) -> tuple[str, dict[str, str], str]:
    """Return the command, the headers and the body of a frame. All are empty if it is a heartbeat."""
    head, _, body = event.text.strip("\n\0").partition("\n\n")
    command, *lines = head.split("\n")
    return command, dict(line.split(":", 1) for line in lines), body


def interval(event: events.Text) -> float | None:
    """Return the seconds between our heartbeats, once the server has said how often it wants them."""
    command, headers, _ = parsed(event)
    wanted = int(headers.get("heart-beat", "0,0").split(",")[1])
    return wanted and max(10_000, wanted) / 2000 if command == "CONNECTED" else None


class Stomp(WebSocketApp):
    """A client of a STOMP broker, subscribed to a destination."""

    def __init__(self, url: str, destination: str = "/topic/prices") -> None:
        super().__init__(url, protocols=["v12.stomp"])
        user = {"login": "guest", "passcode": "guest", "accept_version": "1.2", "host": "/"}
        connect = frame("CONNECT", heart_beat=BEATS, **user)
        subscribe = frame("SUBSCRIBE", id="0", destination=destination, receipt="0")
        Subscriptions(self, [
            Step(connect, expect=lambda event: parsed(event)[0] == "CONNECTED", key="connect"),
            Step(subscribe, expect=lambda event: parsed(event)[0] == "RECEIPT", key="subscribe"),
        ])
        Every(self, interval, "\n")
        Every(self, 1, lambda: frame("SEND", f"{random.gauss(100, 1):.2f}", destination=destination))

    def on_text(self, event: events.Text) -> None:
        command, headers, body = parsed(event)
        if command == "MESSAGE":
            print(headers["destination"], body, flush=True)
        elif command == "ERROR":
            print(headers.get("message"), body, file=sys.stderr)


if __name__ == "__main__":
    Stomp(*sys.argv[1:]).run_forever()
