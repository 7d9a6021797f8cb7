"""Traffic in all ways there are to send, and a server that keeps what it receives."""

from __future__ import annotations

import random
from collections.abc import Callable

from lochws import WebSocketApp
from lochws.sent import ControlFrame, Sent

from .peer import CLOSE, PING, PONG, TEXT, Link

CONTROLS = {PING: "ping", PONG: "pong", CLOSE: "close"}


class Listener:
    """A script that keeps what it receives until the client closes, in the form of `on_sent`.

    Attributes:
        heard: what it has received.
    """

    def __init__(self) -> None:
        self.heard: list[Sent] = []

    def __call__(self, link: Link) -> None:
        link.accept()
        self.until_closed(link)

    def until_closed(self, link: Link) -> None:
        """Read up to the client's Close frame, and echo that."""
        opcode = None
        while opcode != CLOSE:
            opcode, payload = link.read_frame()
            if opcode in CONTROLS:
                self.heard.append(ControlFrame(CONTROLS[opcode], payload))
            else:
                self.heard.append(payload.decode() if opcode == TEXT else payload)
        link.send_frame(CLOSE, payload)


def chatter(app: WebSocketApp, number: int) -> None:
    """Send 24 messages in all ways there are, in a random order that depends on the number."""
    chance = random.Random(number)
    for turn in range(6):
        name = f"{number}.{turn}"
        for act in chance.sample(_WAYS, len(_WAYS)):
            act(app, name)


def _corked(app: WebSocketApp, name: str) -> None:
    with app.corked():
        app.send_binary(name.encode() * 2000)


_WAYS: list[Callable[[WebSocketApp, str], object]] = [
    lambda app, name: app.send_text(f"{name} text"),
    lambda app, name: app.send_many([f"{name} ä", f"{name} many".encode()]),
    _corked,
]
