"""A channel for a loop, over real sockets: records its calls, and does what a test tells it to."""

from __future__ import annotations

import socket
from collections.abc import Callable
from selectors import EVENT_READ

from lochws.engine.inbox import Inbox

#: The name of a call and its argument: the mask for ``ready``, the error for ``error``.
Call = tuple[str, object]


class Probe:
    """A channel that reads everything that arrives.

    Attributes:
        calls: the calls of the loop, in order.
        far: the other end of its connection.
        received: the bytes received from there.
        wanted: the events it is interested in, as a mask.
        timer: when it wants to be called, or None.
        more: whether it says that it has more to do.
        is_finished: whether the loop should release it.
        inbox: the inbox that hands received bytes to the reader when this is allowed; or None.
        act: called with the name of each call, at its start; may raise.
        closed: whether the loop has released it.
    """

    def __init__(self) -> None:
        self._near, self.far = socket.socketpair()
        self._near.setblocking(False)
        self.calls: list[Call] = []
        self.received = b""
        self.wanted = EVENT_READ
        self.timer: float | None = None
        self.more = False
        self.is_finished = False
        self.inbox: Inbox | None = None
        self.act: Callable[[str], object] = lambda _: None
        self.closed = False

    @property
    def names(self) -> list[str]:
        """The names of the calls."""
        return [name for name, _ in self.calls]

    def fileno(self) -> int:
        return self._near.fileno()

    def interest(self) -> int:
        return self.wanted

    def on_start(self, now: float) -> bool:
        return self._called("start", now)

    def on_touch(self, now: float) -> bool:
        return self._called("touch", now)

    def on_ready(self, mask: int, buffer: memoryview, now: float, is_direct: bool = False) -> bool | Inbox:
        if mask & EVENT_READ:
            try:
                self.received += self._near.recv(100)
            except BlockingIOError:
                pass  # called again because it said that there is more
        more = self._called("ready", mask)
        if self.inbox is None or not is_direct:
            return more
        self.inbox.last = [self.received]
        return self.inbox

    def on_timer(self, now: float) -> None:
        self.timer = None
        self._called("timer", now)

    def on_suspension(self, now: float) -> None:
        self._called("gap", now)

    def next_timer(self) -> float | None:
        return self.timer

    def on_error(self, error: Exception) -> None:
        self._called("error", error)

    def release(self) -> None:
        self.closed = True
        self._near.close()
        self.far.close()

    def _called(self, name: str, what: object) -> bool:
        self.calls.append((name, what))
        self.act(name)
        return self.more
