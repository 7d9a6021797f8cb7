"""A server for the tests of outboxes: it notes and acknowledges messages, and cuts connections."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any, NamedTuple

from lochws import WebSocketApp
from lochws.handlers.outbox import Outbox

from ..support.apps import AT_ONCE, App, running
from ..support.peer import CLOSE, PING, PONG, TEXT, Link


class Plan(NamedTuple):
    """The behavior of the server on one connection.

    Attributes:
        reads: how many messages it reads before it resets the connection; None for no end.
        acks: how many of them it acknowledges.
        pongs: whether it answers pings.
        patience: after how many seconds without a frame it resets the connection, too.
    """

    reads: int | None = None
    acks: int = 1 << 30
    pongs: bool = True
    patience: float = 60.0


class Acking:
    """The script of a server that acknowledges each message with its id.

    Args:
        plans: one for each connection; after the last one it serves without end.

    Attributes:
        seen: the messages in the order of arrival.
        connections: how many there were.
    """

    def __init__(self, *plans: Plan) -> None:
        self._plans: Iterator[Plan] = iter((*plans, *repeat(Plan(), 1000)))
        self._lock = threading.Lock()
        self.seen: list[Any] = []
        self.connections = 0

    def __call__(self, link: Link) -> None:
        with self._lock:
            plan = next(self._plans)
            self.connections += 1
        link.accept()
        link.sock.settimeout(plan.patience)
        count = 0
        while plan.reads is None or count < plan.reads:
            try:
                opcode, payload = link.read_frame()
            except TimeoutError:
                break
            if opcode == TEXT:
                message = json.loads(payload)
                self.seen.append(message)
                count += 1
                if count <= plan.acks and isinstance(message, dict):
                    link.send_frame(TEXT, json.dumps({"ack": message.get("id")}).encode())
            elif opcode == PING and plan.pongs:
                link.send_frame(PONG, payload)
            elif opcode == CLOSE:
                link.send_frame(CLOSE, payload)
                return
        link.reset()

    def numbers(self) -> list[int]:
        """Return the numbers of the messages seen."""
        return [message["n"] for message in self.seen]


def acked(event: Any) -> Any:
    """Return the id that a message of the server acknowledges: the `confirm` of these tests."""
    return event.json["ack"]


def put_numbers(outbox: Outbox, numbers: Iterable[int]) -> None:
    for number in numbers:
        outbox.put({"n": number})


@contextmanager
def reconnecting(app: App) -> Iterator[App]:
    """Run an app that reconnects at once."""
    with running(app, persist=AT_ONCE):
        yield app


def offline() -> WebSocketApp:
    """Return an app that is not started."""
    return WebSocketApp("ws://127.0.0.1:1/")
