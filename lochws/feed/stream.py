"""Stream: the messages of all connections of a feed, merged into one sequence for its handlers."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence

from ..life.intake import memory_of
from ..options import MIB
from ..system.rate_limit import RateLimit
from ..system.report import report
from .leg import Leg, Message, Ticket
from .merge import Merge, Place
from .outlet import Outlet
from .plan import Plan

#: The maximum memory of the messages that wait until their connection's session is ready, in bytes.
MAX_EARLY_BYTES = 16 * MIB


class Stream:
    """The messages of all connections, merged into one sequence. For the handlers' thread.

    Args:
        plan: the options, among them the functions that return keys and positions.
        outlet: tells the handlers.

    Attributes:
        merge: the messages with keys.
        passed: how many messages have been passed on. Any thread may read it.
    """

    def __init__(self, plan: Plan, outlet: Outlet) -> None:
        self.merge: Merge[Ticket] = Merge(plan.window, lambda ticket: memory_of(ticket.event))
        self.passed = 0
        self._plan = plan
        self._outlet = outlet
        self._limit = RateLimit()

    def take(self, leg: Leg, event: Message, now: float) -> None:
        """Take a message: pass it on, drop it, or hold it back."""
        ticket = leg.note(event)
        key = self._plan.key_of(event)
        if leg.phase != "opening":
            self._deliver(leg, key, ticket, now)
            return
        leg.early.append((key, ticket))
        leg.early_bytes += memory_of(event)
        while len(leg.early) > (self._plan.window if leg.early_bytes <= MAX_EARLY_BYTES else 1):
            _, oldest = leg.early.popleft()
            leg.early_bytes -= memory_of(oldest.event)
            oldest.fate = False

    def join(self, leg: Leg) -> None:
        """Merge the messages of a connection with those of the others from now on."""
        self.merge.join(leg.number, leg.meter)

    def take_early(self, leg: Leg, now: float) -> None:
        """Take the messages that arrived before the connection's session was ready."""
        while leg.early:
            key, ticket = leg.early.popleft()
            self._deliver(leg, key, ticket, now)

    def pass_on_early(self, leg: Leg) -> None:
        """Pass on the messages of a connection whose session was never ready, such as a refused login."""
        self._pass_on([ticket for key, ticket in leg.early if key is None])
        leg.early.clear()

    def leave(self, leg: Leg) -> None:
        """Note that a connection delivers no more messages."""
        self._pass_on(self.merge.leave(leg.number))

    def establish(self, number: int) -> None:
        """Let a connection, identified by its number, stop waiting for the others."""
        self._pass_on(self.merge.establish(number))

    def _deliver(self, leg: Leg, key: Hashable, ticket: Ticket, now: float) -> None:
        if key is None:
            ticket.fate = leg is self._outlet.sender or (
                self._plan.key is not None and leg.phase == "draining"
            )
            if ticket.fate:
                self._pass_on([ticket])
            return
        passed = self._merged(leg, key, ticket, now, self._plan.place_of(ticket.event))
        if ticket.fate is None and not self.merge.is_held(leg.number) and ticket not in passed:
            ticket.fate = False
        self._pass_on(passed)

    def _merged(
        self, leg: Leg, key: Hashable, ticket: Ticket, now: float, place: Place | None
    ) -> list[Ticket]:
        try:
            return self.merge.receive(leg.number, key, ticket, now, place)
        except Exception as error:  # noqa: BLE001  the user's positions cannot be compared, or keys equated
            words = "the keys or positions of a feed cannot be compared"
            report(logging.ERROR, words, error=error, limit=self._limit)
            return [ticket]

    def _pass_on(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            ticket.fate = True
            self.passed += 1
            self._outlet.tell(ticket.event)
            if ticket.calls:
                ticket.leg.call_own(ticket)
