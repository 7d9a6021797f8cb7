"""Rivalry: finds out whether a server allows only one session at a time, because sessions end each other."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from math import inf

from .. import events
from ..system.report import report
from .leg import Leg
from .status import Phase

#: How soon after another session's beginning, in seconds, the end of one looks like its consequence.
RIVALRY_SECONDS = 2.0
#: How many such ends, or refusals of a second session, show that the server allows only one.
RIVALRY_SIGNS = 2
#: How long refusals are believed, in seconds: the server may only have been busy.
REFUSAL_SECONDS = 600.0


class Rivalry:
    """The signs of a server that allows only one session: one ends soon after another has begun.

    A server that ended sessions is believed to do so always. If it only refused them, two are tried again
    after a while.

    Attributes:
        until: until when the server is believed to allow only one session, in monotonic seconds.
    """

    def __init__(self) -> None:
        self.until = -inf
        self._signs = 0

    def allows_one(self, now: float) -> bool:
        """Return whether the server is believed to allow only one session. Any thread."""
        return now < self.until

    def coexisted(self) -> None:
        """Note that two sessions have lived side by side."""
        self._signs = 0

    def ended(
        self, leg: Leg, event: events.ConnectFail | events.Disconnected, was: Phase, others: Iterable[Leg],
        now: float,
    ) -> None:
        """Look at the end of a connection, beside those that are left."""
        alive = [other for other in others if other.ready_at is not None and other.can_receive]
        lasts = REFUSAL_SECONDS
        if was == "opening":
            self._signs += _was_refused(leg, event) and any(other.url == leg.url for other in alive)
        elif isinstance(event, events.Disconnected) and event.received_code is not None and (
            event.ended_by == "server" and not leg.is_done
        ):
            lasts = inf
            self._signs += any(
                now - (other.ready_at or 0.0) < RIVALRY_SECONDS and other.reason != "message"
                and (leg.ready_at or 0.0) < (other.ready_at or 0.0) for other in alive
            )
        if self._signs >= RIVALRY_SIGNS and not self.allows_one(now):
            self._signs = 0
            self.until = now + lasts
            report(
                logging.WARNING,
                "the server of a feed seems to allow only one session at a time: from now on, the feed "
                "closes a connection before it opens the next one",
            )


def _was_refused(leg: Leg, event: events.ConnectFail | events.Disconnected) -> bool:
    """Return whether the server refused a session, by an HTTP status of 400 to 499 or by a Close frame."""
    if leg.rejected is not None:
        return 400 <= (leg.rejected.response.status_code or 0) < 500
    return isinstance(event, events.Disconnected) and (
        event.ended_by == "server" and event.received_code is not None
    )
