"""Arrivals: the events of a mailbox for an ``async for`` loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from .. import events
from ..life.intake import Intake
from .wakers import Waker

#: The longest that a loop which always finds an event keeps other coroutines from running, in seconds.
TURN_SECONDS = 0.005


class Arrivals(AsyncIterator[events.Event]):
    """One ``async for`` loop over a mailbox.

    Args:
        intake: the entrance of the mailbox.
        owner: kept alive as long as the loop, since a mailbox that nothing refers to is closed.
    """

    def __init__(self, intake: Intake, owner: object) -> None:
        self._intake = intake
        self._owner = owner
        self._turn_ends = monotonic() + TURN_SECONDS

    async def __anext__(self) -> events.Event:
        """Return the next event, or end the loop if there will be none."""
        intake = self._intake
        if monotonic() >= self._turn_ends:
            await asyncio.sleep(0)
            self._turn_ends = monotonic() + TURN_SECONDS
        while True:
            has_ended = intake.has_ended  # before looking: all events have arrived by then
            event = intake.inbox.take()
            if event is not None:
                return event
            if has_ended:
                raise StopAsyncIteration
            waker = Waker()
            intake.on_change(waker)
            try:
                if not (len(intake.inbox) or intake.has_ended):
                    await waker.future
            finally:
                intake.forget(waker)
            self._turn_ends = monotonic() + TURN_SECONDS
