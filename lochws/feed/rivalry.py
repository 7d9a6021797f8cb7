"""Rivalry: finds out whether a server allows only one session at a time, because sessions end each other."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from .. import events
from ..system.report import report
from .leg import Leg
from .status import Phase

#: How soon after another session's beginning, in seconds, the end of one looks like its consequence.
RIVALRY_SECONDS = 2.0
#: How many such ends, or refusals of a second session, show that the server allows only one.
RIVALRY_SIGNS = 2


class Rivalry:
    """The signs of a server that allows only one session: the rise of one is the fall of another.

    Attributes:
        is_found: whether there have been enough of them. Any thread may read it.
    """

    def __init__(self) -> None:
        self.is_found = False
        self._signs = 0

    def coexisted(self) -> None:
        """Note that two sessions have lived side by side."""
        self._signs = 0

    def ended(
        self, leg: Leg, event: events.ConnectFail | events.Disconnected, was: Phase, others: Iterable[Leg],
        now: float,
    ) -> None:
        """Look at the end of a connection, beside those that are left."""
        alive = [other for other in others if other.ready_at is not None and other.can_receive]
        if was == "opening":
            refused = leg.rejected is not None or (
                isinstance(event, events.Disconnected) and event.ended_by == "server"
            )
            self._signs += bool(alive) and refused
        elif isinstance(event, events.Disconnected) and event.received_code is not None and (
            event.ended_by == "server" and not leg.is_done
        ):
            self._signs += any(
                now - (other.ready_at or 0.0) < RIVALRY_SECONDS and other.reason != "message"
                and (leg.ready_at or 0.0) < (other.ready_at or 0.0) for other in alive
            )
        if self._signs >= RIVALRY_SIGNS and not self.is_found:
            self.is_found = True
            report(
                logging.WARNING,
                "the server of a feed seems to allow only one session at a time: from now on, the feed "
                "closes a connection before it opens the next one",
            )
