"""Emit and receive Socket.IO events: ``python socket_io.py URL``, such as ``ws://localhost:3000``.

Places an order every second, prints the acknowledgements, and prints the events that the server emits. Speaks
Socket.IO 5 over Engine.IO 4. Tested with socket.io 4.8 on Node 20.
"""

import json
import re
import sys
from typing import Any

from lochws import WebSocketApp, events
from lochws.handlers.heartbeat import Answer, Every
from lochws.handlers.replies import Replies, Reply
from lochws.handlers.subscriptions import Step, Subscriptions


def parsed(event: events.Text, kind: str) -> tuple[int, list[Any]] | None:
    """Return the number and the data of a packet of this kind, or None for any other packet."""
    found = re.fullmatch(kind + r"(\d*)(\[.*)", event.text, re.DOTALL)
    return found and (int(found[1] or 0), json.loads(found[2]))


class SocketIO(WebSocketApp):
    """A client of a Socket.IO server, in its namespace ``/``."""

    def __init__(self, url: str, **auth: str) -> None:
        super().__init__(f"{url}/socket.io/?EIO=4&transport=websocket")
        Answer(self, "2", "3")  # Engine.IO's pings
        Subscriptions(self, [
            Step(None, expect=lambda event: event.text.startswith("0{"), key="handshake"),
            Step(f"40{json.dumps(auth)}", expect=lambda event: event.text.startswith("40{"), key="connect"),
        ])
        self.replies = Replies(
            self, match=lambda message: message[0], number=lambda message, number: (number, message[1]),
            encode=lambda message: f"42{message[0]}{json.dumps(message[1])}",
            decode=lambda event: parsed(event, "43"), unwrap=lambda message: message[1],
        )
        Every(self, 1, self.order)

    def emit(self, name: str, *data: object) -> Reply[Any]:
        """Emit an event, and return a future of the data in its acknowledgement."""
        return self.replies.request((0, [name, *data]))

    def order(self) -> Reply[Any]:
        """Place an order."""
        return self.emit("order", {"product": "tea", "cups": 2})

    def on_text(self, event: events.Text) -> None:
        if acknowledgement := parsed(event, "43"):
            print("acknowledged:", *acknowledgement[1], flush=True)
        elif packet := parsed(event, "42"):
            print(*packet[1], flush=True)


if __name__ == "__main__":
    SocketIO(sys.argv[1]).run_forever(stale_after=60)
