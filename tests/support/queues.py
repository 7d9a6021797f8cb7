"""Parts for tests of the send queue: a sink with limited room, and a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from lochws.base.records import fields_of
from lochws.connection import sendqueue
from lochws.connection.compression import Compress
from lochws.connection.paced import Budget
from lochws.connection.room import Bound
from lochws.connection.sendqueue import SendQueue
from lochws.connection.window import SlidingWindow
from lochws.errors import WebSocketClosed
from lochws.protocol.sender import Sender


class Sink:
    """Takes as many bytes as it has room for.

    Attributes:
        room: how many more bytes it takes, or None for no limit.
        error: raised by the next call, if set.
        offered: the argument of each call.
        taken: everything it took, in order.
    """

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self.error: BaseException | None = None
        self.offered: list[bytes] = []
        self._taken = bytearray()

    @property
    def taken(self) -> bytes:
        return bytes(self._taken)

    def send(self, data: bytes | memoryview) -> int:
        self.offered.append(bytes(data))
        if self.error is not None:
            raise self.error
        count = len(data) if self.room is None else min(self.room, len(data))
        if self.room is not None:
            self.room -= count
        self._taken += data[:count]
        return count


class Clock:
    """A monotonic clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def rule(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Replace the clock of the send queue."""
        monkeypatch.setattr(sendqueue, "monotonic", self)


class Hourly(Clock):
    """A clock that advances by an hour whenever it is read, so that every window has passed."""

    def __call__(self) -> float:
        self.now += 3600.0
        return self.now


#: Makes the budget of a queue, by its name in a test: none, or one that admits a single frame at a time, and
#: the next one whenever the clock is read again.
BUDGETS: dict[str, Callable[[], Budget | None]] = {
    "no budget": lambda: None,
    "one at a time": lambda: Budget(SlidingWindow(1, 1.0), True, Hourly()),
}


class Asked:
    """Counts how often the loop was asked for a flush."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, _flush: object = None) -> None:
        self.times += 1


def make_queue(sink: Sink, *, limit: int = 1 << 24, ask_loop: Callable[[], None] = lambda: None,
               **options: Any) -> SendQueue:
    bound = Bound(limit, **{name: options.pop(name) for name in fields_of(Bound) if name in options})
    options.setdefault("pack", Sender().pack)
    if in_pieces := options.pop("compress_in_pieces", None):
        options["compress"] = Compress(options.get("compress", bytes), in_pieces)
    return SendQueue(sink, bound=bound, ask_flush=lambda _flush: ask_loop(), **options)


def push(queue: SendQueue, text: str) -> bool:
    return queue.push_item((text.encode(), text), len(text))


def push_quietly(queue: SendQueue, text: str) -> None:
    with suppress(WebSocketClosed):
        push(queue, text)


def blocked_queue(sink: Sink, **options: Any) -> SendQueue:
    """Make a queue whose sink has refused the message ``first``."""
    sink.room = 0
    queue = make_queue(sink, **options)
    push(queue, "first")
    assert queue.is_blocked
    return queue
