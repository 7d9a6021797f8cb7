"""Leg: one connection of a feed, and what of it reaches the handlers of its own app."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial, wraps
from typing import Any, TypeAlias

from .. import events
from ..app import WebSocketApp
from ..engine.threads import Threads
from ..life.calls import ScheduledCall
from ..life.state import State
from ..system.report import is_interrupt, report, safe_repr
from .meter import LegMeter
from .status import Phase, Reason

Message: TypeAlias = events.Text | events.Binary

#: The limit on the tickets of a batch, in case none of its handlers is called. One read returns fewer.
MAX_BATCH = 1 << 16


class Ticket:
    """A message, and its fate: passed on (True), dropped (False), or held back (None).

    Attributes:
        leg: the connection that delivered it.
        event: the message.
        fate: see above.
        calls: the calls of the leg's own handlers, to be made once the message is passed on.
    """

    __slots__ = ("calls", "event", "fate", "leg")

    def __init__(self, leg: Leg, event: Message) -> None:
        self.leg = leg
        self.event = event
        self.fate: bool | None = None
        self.calls: list[Callable[[], object]] = []


class Leg:
    """One connection of a feed. For the handlers' thread; any thread may read the attributes.

    Args:
        number: counts the legs of the feed.
        copy: the number of the copy of the feed that it delivers, 0 or 1.
        url: the URL as it was passed to the feed.
        app: the app that the factory made.
        opened_at: when it began to open, in monotonic seconds.
        heir_of: the leg that it is going to replace, or None.
        reason: why it was opened.
    """

    def __init__(
        self, number: int, copy: int, url: str, app: WebSocketApp, opened_at: float, heir_of: Leg | None,
        reason: Reason,
    ) -> None:
        self.number = number
        self.copy = copy
        self.url = url
        self.app = app
        self.opened_at = opened_at
        self.heir_of = heir_of
        self.reason = reason
        self.heir: Leg | None = None
        self.streams: list[None] = []  # one for each stream that is being sent; any thread adds and removes
        self.phase: Phase = "opening"
        self.ready_at: float | None = None
        self.ready_event: events.Ready | None = None
        self.can_receive = True
        self.is_done = False  # its end is wanted or was announced, and so no failure
        self.rejected: events.Rejected | None = None
        self.meter = LegMeter()
        self.timer: ScheduledCall | None = None
        self.early: deque[tuple[Hashable, Ticket]] = deque()  # what arrives before its session is ready
        self.early_bytes = 0
        self._batch: dict[int, Ticket] = {}  # the tickets of the batch being delivered, by id() of the event
        self._is_batch = False  # handlers of batches will get the messages being noted
        self._is_handled = False  # handlers of that batch have been called, so it has been noted whole

    def install(self, received: Callable[[Leg, Any], object], ready: Callable[[Leg, Any], object]) -> None:
        """Register the feed's own handlers with the app, and put its handlers of messages behind a filter."""
        # Ready comes to the feed after the app's own handlers, and everything else before them.
        self.app.on("event")(partial(received, self))
        self.app.on("ready")(partial(ready, self))
        self.app.hooks.wrap_handlers(self._filter)

    def note(self, event: Message) -> Ticket:
        """Create the ticket of a message that is about to be delivered."""
        ticket = Ticket(self, event)
        if self._is_handled or not self._is_batch or len(self._batch) >= MAX_BATCH:
            self._batch.clear()
            self._is_handled = False
            # All messages of a batch are noted before a handler of any of them is called. Handlers of batches
            # that are added or removed in between change nothing about that.
            self._is_batch = self.app._lochws.registry.has(("batch",))
        self._batch[id(event)] = ticket
        return ticket

    def _ticket_of(self, event: Message) -> Ticket | None:
        """Return the ticket of a message that is being handled, or None if it was not noted."""
        self._is_handled = True
        return self._batch.get(id(event))

    def close(self, code: int | None, reason: str | bytes) -> None:
        """Close the connection by the app's `close`, which a subclass may have overridden. Any thread."""
        try:
            self.app._lochws.close_app(code=code, reason=reason)
        except BaseException as error:
            self.app._lochws.life.close(code, reason)
            if is_interrupt(error):
                raise
            report(logging.ERROR, "close failed in %s", safe_repr(self.app), error=error)

    def unlink(self) -> None:
        """Forget the previous and the next connection, once they do not need this one any more."""
        self.heir_of = None
        if self.heir is not None and self.heir.phase != "opening":
            self.heir.heir_of = None
        self.heir = None

    def cancel_timer(self) -> None:
        """Cancel the timer, if there is one."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def call_own(self, ticket: Ticket) -> None:
        """Make the calls of the leg's own handlers for a message that was held back."""
        calls, ticket.calls = ticket.calls, []
        for call in calls:
            self.app._lochws.registry.call(call)

    def _filter(self, name: str, handler: Callable[[Any], object]) -> Callable[[Any], object]:
        """Have the app's own handlers of messages called only for what the feed passes on."""
        if name in {"text", "binary"}:

            @wraps(handler)
            def one(event: Message) -> object:
                ticket = self._ticket_of(event)
                if ticket is None or ticket.fate:
                    return handler(event)
                if ticket.fate is None:
                    ticket.calls.append(partial(handler, event))
                return None

            return one
        if name != "batch":
            return handler

        @wraps(handler)
        def many(messages: list[Message]) -> object:
            passed = []
            for message in messages:
                ticket = self._ticket_of(message)
                if ticket is None or ticket.fate:
                    passed.append(message)
                elif ticket.fate is None:
                    ticket.calls.append(partial(handler, [message]))
            return handler(passed) if passed else None

        return many


def made_app(factory: Callable[[str], Any], url: str, threads: Threads) -> WebSocketApp:
    """Call a factory, and have the app that it returns use the feed's threads.

    Raises:
        TypeError: it returned something else than an app.
        ValueError: the app has been started, has threads of its own, or has options that a feed cannot use.
        Exception: whatever the factory raised.
    """
    app = factory(url)
    if not isinstance(app, WebSocketApp):
        raise TypeError(f"factory returned {app!r}: expected a WebSocketApp")
    life = app._lochws.life
    if life.state is not State.NEW:
        raise ValueError(f"factory returned {app!r}, which has been started: expected a new app each time")
    if life.threads not in (None, threads):
        raise ValueError("factory returned an app with threads=: pass them to the Feed instead")
    if app._lochws.on_handler_error == "reconnect":
        raise ValueError(
            "factory returned an app with on_handler_error='reconnect': use 'stop', after which the feed "
            "opens another connection"
        )
    if app._lochws.options.stream_above is not None:
        raise ValueError(
            "factory returned an app with stream_above: leave it out; a Feed cannot compare streams"
        )
    life.threads = threads
    return app
