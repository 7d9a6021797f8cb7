"""Handover: keeps a replaced connection open until its heir has delivered the same messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from ..life.calls import ScheduledCall
from .leg import Leg
from .plan import Plan
from .stream import Stream


class Handover:
    """The change from connections to their heirs. For the handlers' thread.

    Args:
        plan: the options.
        stream: knows when an heir is level with the connection before.
        call_later: has the handlers' thread call a function after a number of seconds.
        done: called when a connection has been replaced, and is being closed.
    """

    def __init__(
        self, plan: Plan, stream: Stream, call_later: Callable[[float, Callable[[], object]], ScheduledCall],
        done: Callable[[], object],
    ) -> None:
        self._plan = plan
        self._stream = stream
        self._call_later = call_later
        self._done = done

    @contextmanager
    def streaming(self, leg: Leg) -> Iterator[None]:
        """Keep a connection open for the stream that a thread sends in the block, within `drain`."""
        leg.streams.append(None)
        try:
            yield
        finally:
            leg.streams.pop()
            self._call_later(0, lambda: self.check(leg.heir))

    def begin(self, old: Leg, heir: Leg) -> None:
        """Keep a connection, whose heir sends from now on, until the two are level."""
        old.cancel_timer()
        if old.phase != "ready":
            return
        old.phase = "draining"
        old.timer = self._call_later(self._plan.drain, partial(self._finish, old, heir))
        self.check(heir)

    def check(self, heir: Leg | None) -> None:
        """Close the previous connection if its heir is level with it, and no stream is being sent on it."""
        if heir is None or (old := heir.heir_of) is None or old.phase != "draining" or old.streams:
            return
        if self._plan.key is None or self._stream.merge.is_level(heir.number):
            self._finish(old, heir)

    def _finish(self, old: Leg, heir: Leg) -> None:
        if old.phase == "draining":
            old.cancel_timer()
            old.phase, old.is_done = "ending", True
            self._done()
            old.close(1000, "renewed")
            self._stream.establish(heir.number)
