"""One attempt to connect: its events, its result, and how long it took."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from time import monotonic
from typing import Any, TypeAlias

from lochws.events import ConnectFail, Disconnected, Event
from lochws.opening.dial import Dialler, Opened
from lochws.system.deadline import Deadline
from lochws.system.steps import performed

from .awake import Awake


class Attempt:
    """The result of an attempt.

    Attributes:
        events: its events.
        opened: the open WebSocket, or None.
        seconds: how long it took.
        awake_seconds: the same without the machine's stalls.
    """

    def __init__(self, dialler: Dialler, deadline: Deadline) -> None:
        self.events: list[Event] = []
        with closing(Awake()) as awake:
            start, awake_start = monotonic(), awake()
            self.opened = _exhaust(performed(dialler.dial(deadline), deadline), self.events)
            self.seconds, self.awake_seconds = monotonic() - start, awake() - awake_start
        self._check_ending()

    @property
    def names(self) -> list[str]:
        """The names of the events."""
        return [event.name for event in self.events]

    @property
    def last(self) -> Any:
        """The last event."""
        return self.events[-1]

    def _check_ending(self) -> None:
        # Exactly one final event, at the end; none if the WebSocket opened.
        endings = [event for event in self.events if isinstance(event, (ConnectFail, Disconnected))]
        assert endings == ([] if self.opened else [self.last])
        assert self.names[0] == "connecting"
        if isinstance(self.last, Disconnected):
            assert self.last.phase == "upgrade"
            assert not self.last.graceful


#: The fixture `dial`: takes a URL, options by name, and perhaps a `deadline`.
Dial: TypeAlias = Callable[..., Attempt]


def _exhaust(steps: Generator[Event, None, Opened | None], seen: list[Event]) -> Opened | None:
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
