"""Servers for the tests of handlers: JSON both ways, and a closing handshake."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from ..support.peer import CLOSE, TEXT, Link


def read(link: Link) -> Any:
    """Read the next message."""
    while True:
        opcode, payload = link.read_frame()
        if opcode == TEXT:
            return json.loads(payload)
        if opcode == CLOSE:
            link.send_frame(CLOSE, payload)
            raise EOFError("the client closes")


def send(link: Link, message: Any) -> None:
    """Send a message."""
    link.send_frame(TEXT, json.dumps(message).encode())


def answering(answer: Callable[[Any], Iterable[Any]]) -> Callable[[Link], None]:
    """A script that answers each message with those that a function returns for it."""

    def script(link: Link) -> None:
        link.accept()
        while True:
            message = read(link)
            for one in answer(message):
                send(link, one)

    return script


def listen(link: Link) -> None:
    """Send nothing more until the client closes."""
    while True:
        read(link)
