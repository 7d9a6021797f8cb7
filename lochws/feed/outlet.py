"""Outlet: the connection on which a feed sends, and the events that the feed's handlers see."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

from .. import events
from ..clock import Clock
from ..dispatch.registry import Registry
from ..system.report import report
from ..url import redacted, without_secrets
from .leg import Leg
from .status import Reason, Switch


class Outlet:
    """The connection on which a feed sends, and the events that its handlers see.

    The methods are for the handlers' thread. Any thread may read the attributes.

    Args:
        registry: the feed's handlers.
        on_switch: the user's function for changes of the connection, or None.
        clock: the clock of the feed's threads.
        changed: called when the feed can send.

    Attributes:
        sender: the connection in use, or None.
        is_up: whether the handlers have received Ready, and no Disconnected since.
        switches: how often another connection has taken over.
        losses: how often the handlers have received Disconnected while the feed was running.
    """

    def __init__(
        self, registry: Registry, on_switch: Callable[[Switch], object] | None, clock: Clock,
        changed: Callable[[], object],
    ) -> None:
        self.sender: Leg | None = None
        self.is_up = False
        self.switches = self.losses = 0
        self._registry = registry
        self._on_switch = on_switch
        self._clock = clock
        self._changed = changed

    def tell(self, event: events.Event) -> None:
        """Call the handlers of an event."""
        self._registry.dispatch_all((event,))

    def use(self, leg: Leg, old: Leg | None, reason: Reason, is_overlapping: bool) -> None:
        """Send on a connection from now on."""
        self.sender = leg
        self._changed()
        if not self.is_up:
            self.is_up = True
            assert leg.ready_event is not None
            self.tell(leg.ready_event)
        elif old is not None:
            self.switches += 1
            seconds = self._clock.monotonic() - leg.opened_at
            switch = Switch(reason, redacted(old.url), redacted(leg.url), seconds, is_overlapping)
            words = "the feed switched from %s to %s (%s)"
            report(logging.INFO, words, without_secrets(old.url), without_secrets(leg.url), reason)
            if self._on_switch is not None:
                self._registry.call(partial(self._on_switch, switch))

    def use_none(self) -> None:
        """Send on no connection for now. Any thread."""
        self.sender = None

    def opening(self, leg: Leg, event: events.Event, legs: Iterable[Leg]) -> None:
        """Pass on the events of a connection that opens, if the feed has no other one."""
        if not self.is_up and leg is next((other for other in legs if other.can_receive), None):
            self.tell(event)

    def ended(self, event: events.ConnectFail | events.Disconnected, legs: Iterable[Leg]) -> None:
        """Pass on the end of a connection, unless another of these is in use or about to be."""
        if self.is_up and self.sender is None:
            self.is_up = False
            self.losses += 1
            self.tell(event)
        elif not self.is_up and not any(other.can_receive for other in legs):
            self.tell(event)
