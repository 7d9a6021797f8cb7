"""Conductor: opens, renews, replaces and merges the connections of a feed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import events
from ..app import WebSocketApp
from ..dispatch.registry import Registry
from ..engine.threads import Crew, Threads
from ..life.backoff import AttemptEnd, Backoff, Retries
from ..life.calls import ScheduledCall, call_later
from ..system.rate_limit import RateLimit
from ..system.report import report, safe_repr
from ..system.waits import Waiters
from ..url import redacted, without_secrets
from .leg import Leg, Message, Ticket, made_app
from .merge import Merge, Place
from .status import FeedStatus, LegStatus, Reason, Switch
from .urls import UrlChooser

#: How soon after another session's beginning, in seconds, the end of one looks like its consequence.
RIVALRY_SECONDS = 2.0
#: How many such ends, or refusals of a second session, show that the server allows only one.
RIVALRY_SIGNS = 2
#: How long a connection must have been in use, in seconds, for the server to have it renewed at once.
MIN_AGE = 1.0
#: The longest wait before the next attempt to renew a connection that is still open, in seconds.
MAX_RENEWAL_WAIT = 30.0


@dataclass(frozen=True)
class Plan:
    """The options of a feed, checked. `lochws.feed.feed.Feed` describes them."""

    factory: Callable[[str], Any]
    urls: tuple[str, ...]
    copies: int
    renew_after: float | None
    renew_codes: frozenset[int]
    renew_when: Callable[[Any], object] | None
    key: Callable[[Any], Hashable] | None
    order: Callable[[Any], tuple[Hashable, Any] | None] | None
    window: int
    drain: float
    cool_down: float
    on_switch: Callable[[Switch], object] | None


class _Slot:
    """A place for one connection: a feed has as many as copies. For the handlers' thread."""

    def __init__(self, copy: int, backoff: Backoff | None) -> None:
        self.copy = copy
        self.retries = None if backoff is None else Retries(backoff)
        self.main: Leg | None = None
        self.url: str | None = None
        self.timer: ScheduledCall | None = None
        self.failures = 0  # of the factory, or of attempts to renew, in a row
        self.has_given_up = False


class Conductor:
    """The moving part of a running feed, from its start to its end.

    Its methods are called on the handlers' thread, except `sender`, `legs` and `report`, which any thread may
    read, and those that say so. A new conductor is made for each start.

    Args:
        plan: the options.
        timing: the keyword arguments of each connection's `start`.
        backoff: the back-off of each copy, or None to give up after the first failure.
        threads: the threads of all connections.
        registry: the feed's handlers.
        waiters: notified when the feed becomes ready and when it ends; with `lock`, which guards `stop`.
    """

    def __init__(
        self, plan: Plan, timing: dict[str, Any], backoff: Backoff | None, threads: Threads,
        registry: Registry, lock: threading.RLock, waiters: Waiters,
    ) -> None:
        self._plan = plan
        self._timing = timing
        self._threads = threads
        self._registry = registry
        self._lock = lock
        self._waiters = waiters
        self.crew: Crew = threads.attach(self)
        self.chooser = UrlChooser(plan.urls, plan.cool_down)
        self._merge: Merge[Ticket] = Merge(plan.window)
        self._slots = [_Slot(copy, backoff) for copy in range(plan.copies)]
        self.legs: tuple[Leg, ...] = ()  # replaced as a whole
        self.sender: Leg | None = None
        self.stop: tuple[int | None, str | bytes] | None = None  # guarded by the lock
        self.is_over = False
        self.single_session = False
        self.last_end: events.ConnectFail | events.Disconnected | None = None
        self.passed = self.switches = self.losses = 0
        self._is_up = False  # the handlers have been told Ready, and not Disconnected since
        self._signs = 0  # of a server that allows only one session
        self._count = 0
        self._limit = RateLimit()

    # Any thread.

    def call_later(self, seconds: float, function: Callable[[], object]) -> ScheduledCall:
        """Have the handlers' thread call a function, unless the feed has ended by then."""
        def make(function: Callable[[], object]) -> None:
            if not self.is_over:
                self._registry.call(function)

        return call_later(self.crew, seconds, function, make)

    def close(self, code: int | None, reason: str | bytes) -> None:
        """Close all connections and open no more. Code and reason must be valid."""
        with self._lock:
            if self.is_over:
                return
            self.stop = self.stop or (code, reason)
        for leg in self.legs:
            leg.app.close(code, reason)
        self.call_later(0, self._stopping)

    def abandon(self) -> None:
        """End without having begun."""
        self._finish()

    def threads_failed(self, crew: Crew, error: BaseException) -> None:
        """End the feed after a fatal error in one of its threads. The connections end by themselves."""
        with self._lock:
            self.stop = self.stop or (1001, "")
            self.sender = None
        self._finish()

    def report(self) -> FeedStatus:
        """Return the state of the feed."""
        now = self.crew.clock.monotonic()
        sender = self.sender
        legs = tuple(
            LegStatus(
                leg.number, leg.copy, shown(leg.url), leg.phase, leg is sender,
                None if leg.ready_at is None else now - leg.ready_at, leg.meter.first, leg.meter.later,
                leg.meter.lost, leg.meter.backwards, leg.meter.lag,
            )
            for leg in self.legs
        )
        urls = tuple(url_status for url_status in self.chooser.report(now).values())
        return FeedStatus(
            sender is not None, self.single_session, self.passed, self.switches, self.losses,
            self._merge.size, legs, urls,
        )

    # The beginning and the end.

    def begin(self, first: WebSocketApp) -> None:
        """Open the connections. The first app has been made already, for the first URL."""
        for slot in self._slots:
            self._open(slot, made=first if slot.copy == 0 else None)

    def _stopping(self) -> None:
        for slot in self._slots:
            if slot.timer is not None:
                slot.timer.cancel()
        assert self.stop is not None
        for leg in self.legs:
            leg.app.close(*self.stop)
        if not self.legs:
            self._finish()

    def _finish(self) -> None:
        with self._lock:
            if self.is_over:
                return
            self.is_over = True
            self.sender = None
            self._waiters.notify_all()
        for leg in self.legs:
            _cancel(leg)
        self._threads.detach(self.crew, self)

    # Opening.

    def _open(
        self, slot: _Slot, *, heir_of: Leg | None = None, reason: Reason = "lost",
        made: WebSocketApp | None = None,
    ) -> None:
        """Open a connection, in the place of another one or in an empty slot."""
        slot.timer = None
        if self.stop is not None or (self.single_session and self._is_taken(slot, heir_of)):
            return
        now = self.crew.clock.monotonic()
        avoid = self._urls_beside(slot.copy)
        url = self._plan.urls[0] if made is not None else self.chooser.choose(now, slot.url, avoid)
        self._count += 1
        try:
            app = made or made_app(self._plan.factory, url, self._threads)
            leg = Leg(self._count, slot.copy, url, app, now, heir_of, reason)
            leg.install(self._received, self._opened)
            app._lochws.life.gates.when_all_open(partial(self._gates_open, leg))
            app._lochws.life.watch(partial(self._life_changed, leg))
            app.start(**self._timing, persist=False)
        except BaseException as error:  # noqa: BLE001  it is reported, and the feed goes on
            words = "a feed could not make or start an app for %s"
            report(logging.ERROR, words, shown(url), error=error, limit=self._limit)
            self.chooser.failed(url, now, safe_repr(error))
            self._try_later(slot, heir_of, reason)
            return
        slot.url = url
        self.legs = (*self.legs, leg)
        if heir_of is not None:
            heir_of.heir = leg
        else:
            slot.main = leg
        self._close_if_stopping(app)

    def _close_if_stopping(self, app: WebSocketApp) -> None:
        if self.stop is not None:
            app.close(*self.stop)

    def _is_taken(self, slot: _Slot, heir_of: Leg | None) -> bool:
        """Return whether another connection is open or opening."""
        others = (other for other in self._slots if other is not slot)
        return heir_of is not None or any(other.main is not None for other in others)

    def _try_later(self, slot: _Slot, heir_of: Leg | None, reason: Reason) -> None:
        slot.failures += 1
        wait = min(MAX_RENEWAL_WAIT, 2.0 ** min(slot.failures, 10) / 2)
        if heir_of is None:
            slot.timer = self.call_later(wait, partial(self._open, slot))
        elif heir_of in self.legs:
            _cancel(heir_of)
            heir_of.timer = self.call_later(wait, partial(self.renew, heir_of, reason))

    def _opened(self, leg: Leg, event: events.Ready) -> None:
        """Note that a connection is open; its session is ready unless a gate is closed."""
        leg.ready_event = event
        if leg.app.is_active:
            self._session_ready(leg)

    def _gates_open(self, leg: Leg) -> None:
        """Have the end of a session's setup noted. Any thread."""
        self.call_later(0, partial(self._session_ready, leg))

    def _session_ready(self, leg: Leg) -> None:
        """Take a connection into use, and have it replace the one that it is the heir of."""
        if leg.phase != "opening" or leg not in self.legs or leg.ready_event is None or self.stop is not None:
            return
        now = self.crew.clock.monotonic()
        slot, old = self._slots[leg.copy], leg.heir_of
        leg.phase, leg.ready_at = "ready", now
        slot.main, slot.failures = leg, 0
        self.chooser.worked(leg.url)
        if slot.retries is not None:
            slot.retries.opened(now)
        self._merge.join(leg.number, leg.meter)
        if self._plan.renew_after is not None:
            leg.timer = self.call_later(self._plan.renew_after, partial(self.renew, leg, "age"))
        if self.sender is None or self.sender is old:
            self._send_on(leg, old, leg.reason, is_overlapping=old is not None and old.can_receive)
        while leg.early:
            key, ticket = leg.early.popleft()
            self._deliver(leg, key, ticket, now)
        if self._merge.is_held(leg.number):
            self.call_later(self._plan.drain, partial(self._establish, leg))
        if leg.url in self._urls_beside(leg.copy) and len(self._plan.urls) > 1:
            self.call_later(max(MIN_AGE, self._plan.cool_down), partial(self._spread, leg))
        if old is not None and old in self.legs:
            self._drain(old, leg)

    def _urls_beside(self, copy: int) -> set[str]:
        """Return the URLs that the other copy uses."""
        return {leg.url for leg in self.legs if leg.copy != copy}

    def _spread(self, leg: Leg) -> None:
        """Move a copy that shares its URL with the other one to another URL, once one has cooled down."""
        beside = self._urls_beside(leg.copy)
        if leg not in self.legs or leg.url not in beside:
            return
        if self.chooser.choose(self.crew.clock.monotonic(), leg.url, beside) not in beside:
            self.renew(leg, "spread")
        else:
            self.call_later(max(MIN_AGE, self._plan.cool_down), partial(self._spread, leg))

    def _establish(self, leg: Leg) -> None:
        self._pass_on(self._merge.establish(leg.number))

    def _send_on(self, leg: Leg, old: Leg | None, reason: Reason, is_overlapping: bool) -> None:
        """Send on another connection from now on."""
        with self._lock:
            self.sender = leg
            self._waiters.notify_all()
        if not self._is_up:
            self._is_up = True
            assert leg.ready_event is not None
            self._tell(leg.ready_event)
        elif old is not None:
            self.switches += 1
            seconds = self.crew.clock.monotonic() - leg.opened_at
            switch = Switch(reason, shown(old.url), shown(leg.url), seconds, is_overlapping)
            words = "the feed switched from %s to %s (%s)"
            report(logging.INFO, words, switch.from_url, switch.to_url, reason)
            if self._plan.on_switch is not None:
                self._registry.call(partial(self._plan.on_switch, switch))

    # Draining.

    def _drain(self, old: Leg, heir: Leg) -> None:
        """Keep a connection that has been replaced until the new one is level with it."""
        _cancel(old)
        if old.phase != "ready":
            return
        old.phase = "draining"
        if self._plan.key is None:
            self._drained(old, heir)
            return
        old.timer = self.call_later(self._plan.drain, partial(self._drained, old, heir))
        self._check_drained(heir)

    def _check_drained(self, heir: Leg) -> None:
        old = heir.heir_of
        if old is not None and old.phase == "draining" and self._merge.is_level(heir.number):
            self._drained(old, heir)

    def _drained(self, old: Leg, heir: Leg) -> None:
        if old.phase == "draining":
            _cancel(old)
            old.phase, old.is_done = "ending", True
            self._signs = 0  # two sessions have lived side by side
            old.app.close(1000, "renewed")
            self._pass_on(self._merge.establish(heir.number))

    # Renewal.

    def renew(self, leg: Leg, reason: Reason) -> None:
        """Open another connection, which will replace this one."""
        if self.stop is not None or leg not in self.legs or leg.heir is not None or leg.ready_at is None:
            return
        slot = self._slots[leg.copy]
        if slot.main is not leg or leg.phase == "draining" or leg.is_done:
            return
        if reason == "message" and self._age(leg) < MIN_AGE:
            return  # or a server could make us connect as fast as we can
        _cancel(leg)
        if not self.single_session:
            self._open(slot, heir_of=leg, reason=reason)
        elif reason != "close":
            leg.is_done = True
            leg.app.close(1000, "renewed")

    def _age(self, leg: Leg) -> float:
        """Return how long a connection has been in use, in seconds."""
        return 0.0 if leg.ready_at is None else self.crew.clock.monotonic() - leg.ready_at

    def renew_all(self) -> None:
        """Renew every connection in use."""
        for slot in self._slots:
            if slot.main is not None:
                self.renew(slot.main, "asked")

    def _wants_renewal(self, event: Any) -> bool:
        """Ask the user's predicate about a message or a Close frame."""
        if isinstance(event, events.Closing) and event.code in self._plan.renew_codes:
            return True
        if self._plan.renew_when is None:
            return False
        try:
            return bool(self._plan.renew_when(event))
        except BaseException as error:  # noqa: BLE001  it is reported, and the message is handled
            report(logging.ERROR, "renew_on failed on %r", event, error=error, limit=self._limit)
            return False

    def _found_single(self) -> None:
        if not self.single_session:
            self.single_session = True
            report(
                logging.WARNING,
                "the server of a feed seems to allow only one session at a time: from now on, the feed "
                "closes a connection before it opens the next one",
            )

    # Events of the connections.

    def _received(self, leg: Leg, event: events.Event) -> None:
        """Take an event of a connection, before its own handlers."""
        if isinstance(event, (events.Text, events.Binary)):
            self._message(leg, event)
        elif isinstance(event, (events.ConnectFail, events.Disconnected)):
            self._ended(leg, event)
        elif isinstance(event, events.Closing):
            self._closing(leg, event)
        elif isinstance(event, (events.Connecting, events.Connected, events.Rejected)):
            if isinstance(event, events.Rejected):
                leg.rejected = event
            if not self._is_up and self._is_lead(leg):
                self._tell(event)
        elif not isinstance(event, events.Ready) and leg is self.sender:
            self._tell(event)

    def _is_lead(self, leg: Leg) -> bool:
        """Return whether the handlers are shown how this connection opens, while there is none."""
        return leg is next((other for other in self.legs if other.can_receive), None)

    def _message(self, leg: Leg, event: Message) -> None:
        ticket = leg.note(event)
        key = self._ask(self._plan.key, event)
        if leg.phase == "opening":
            leg.early.append((key, ticket))
            if len(leg.early) > self._plan.window:
                leg.early.popleft()[1].fate = False
        else:
            self._deliver(leg, key, ticket, self.crew.clock.monotonic())
        if self._plan.renew_when is not None and leg.phase == "ready" and self._wants_renewal(event):
            self.renew(leg, "message")

    def _ask(self, function: Callable[[Any], Any] | None, event: Message) -> Any:
        """Return what one of the user's functions says about a message; None if that cannot be hashed."""
        if function is None:
            return None
        try:
            answer = function(event)
            hash(answer)
        except BaseException as error:  # noqa: BLE001  the message has no key
            report(logging.DEBUG, "the key function of a feed failed on %r", event, error=error)
            return None
        return answer

    def _deliver(self, leg: Leg, key: Hashable, ticket: Ticket, now: float) -> None:
        if key is None:
            is_wanted = leg is self.sender or (self._plan.key is not None and leg.phase == "draining")
            ticket.fate = is_wanted
            if is_wanted:
                self._pass_on([ticket])
            return
        place = self._ask(self._plan.order, ticket.event)
        if not (isinstance(place, tuple) and len(place) == 2):
            place = None
        passed = self._merged(leg, key, ticket, now, place)
        if ticket.fate is None and not self._merge.is_held(leg.number) and ticket not in passed:
            ticket.fate = False
        self._pass_on(passed)
        self._check_drained(leg)
        if leg.heir is not None:
            self._check_drained(leg.heir)

    def _merged(
        self, leg: Leg, key: Hashable, ticket: Ticket, now: float, place: Place | None
    ) -> list[Ticket]:
        try:
            return self._merge.receive(leg.number, key, ticket, now, place)
        except Exception as error:  # noqa: BLE001  the user's positions cannot be compared, or keys equated
            words = "the keys or positions of a feed cannot be compared"
            report(logging.ERROR, words, error=error, limit=self._limit)
            return [ticket]

    def _pass_on(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            ticket.fate = True
            self.passed += 1
            self._tell(ticket.event)
            if ticket.calls:
                ticket.leg.call_own(ticket)

    def _tell(self, event: events.Event) -> None:
        self._registry.dispatch_all((event,))

    def _closing(self, leg: Leg, event: events.Closing) -> None:
        """Take a Close frame: the connection delivers no more, and the answer ends it."""
        is_announced = self._wants_renewal(event) and self._age(leg) >= MIN_AGE
        if is_announced:
            leg.is_done = True
            self.renew(leg, "close")
        met = self._met_others(leg)
        leg.can_receive = False
        _cancel(leg)
        if leg.phase == "ready":
            leg.phase = "ending"
        self._pass_on(self._merge.leave(leg.number))
        if leg is self.sender:
            has_other = self._lose_sender(leg, "close", met)
            if not (has_other or is_announced):
                self._tell(event)

    def _met_others(self, leg: Leg) -> set[Leg]:
        """Return the other connections whose messages continue those of this one without a gap."""
        return {
            other for other in self.legs
            if other is not leg and other.ready_at is not None and not self._merge.is_held(other.number)
        }

    def _lose_sender(self, leg: Leg, reason: Reason, met: set[Leg]) -> bool:
        """Send on another connection from now on; return False if there is none."""
        with self._lock:
            self.sender = None
        for other in () if self.stop is not None else self.legs:
            if other.phase == "ready" and other is not leg:
                self._send_on(other, leg, reason, is_overlapping=other in met)
                return True
        return False

    def _ended(self, leg: Leg, event: events.ConnectFail | events.Disconnected) -> None:
        """Take the end of a connection, and open another one if it was needed."""
        if leg not in self.legs:
            return
        self.last_end = event
        self.legs = tuple(other for other in self.legs if other is not leg)
        _cancel(leg)
        was, old = leg.phase, leg.heir_of
        met = self._met_others(leg)
        leg.phase, leg.can_receive = "ending", False
        self._pass_on(self._merge.leave(leg.number))
        slot = self._slots[leg.copy]
        if old is not None and old.phase == "draining" and old in self.legs:
            _cancel(old)
            old.phase, old.heir, slot.main = "ready", None, old  # it takes its place again
            self._try_later(slot, old, leg.reason)
        if self.sender is leg:
            self._lose_sender(leg, "lost", met)
        if self.stop is not None:
            if not self.legs:
                self._tell(event)
                self._finish()
            return
        self._note_rivalry(leg, event, was)
        is_wanted = leg.is_done or was == "draining"
        if not is_wanted:
            self.chooser.failed(leg.url, self.crew.clock.monotonic(), without_secrets(str(event)))
        fatal = slot.retries is not None and slot.retries.ends_with(leg.rejected or event)
        event.fatal = fatal
        self._tell_end(event)
        if slot.main is leg:
            self._replace(slot, leg, leg.rejected or event, is_wanted, fatal)
        elif leg.heir_of is not None and leg.heir_of.heir is leg and was == "opening":
            self._heir_failed(slot, leg)

    def _life_changed(self, leg: Leg) -> None:
        """Look whether an app has stopped. Any thread."""
        if leg.app._lochws.life.has_stopped:
            self.call_later(0, partial(self._stopped, leg))

    def _stopped(self, leg: Leg) -> None:
        """Note that an app has stopped: one that was closed before its first attempt has no final event."""
        if leg not in self.legs:
            return
        if self.stop is None:
            why = "the app was closed before its first attempt to connect"
            self._ended(leg, events.ConnectFail(why, phase="prepare"))
            return
        self.legs = tuple(other for other in self.legs if other is not leg)
        if not self.legs:
            self._finish()

    def _tell_end(self, event: events.ConnectFail | events.Disconnected) -> None:
        """Tell the handlers of an end, unless another connection is in use or about to be."""
        if self._is_up and self.sender is None:
            self._is_up = False
            self.losses += 1
            self._tell(event)
        elif not self._is_up and not any(other.can_receive for other in self.legs):
            self._tell(event)

    def _note_rivalry(self, leg: Leg, event: events.ConnectFail | events.Disconnected, was: str) -> None:
        """Look for signs of a server that allows only one session: the rise of one is the fall of another."""
        alive = [other for other in self.legs if other.ready_at is not None and other.can_receive]
        now = self.crew.clock.monotonic()
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
        if self._signs >= RIVALRY_SIGNS:
            self._found_single()

    def _heir_failed(self, slot: _Slot, heir: Leg) -> None:
        main = heir.heir_of
        assert main is not None
        main.heir = None
        if self.single_session:
            self.renew(main, heir.reason)
        else:
            self._try_later(slot, main, heir.reason)

    def _replace(
        self, slot: _Slot, leg: Leg, outcome: AttemptEnd, is_wanted: bool, fatal: bool
    ) -> None:
        """Let the heir take a connection's place, or open another one now or after a while."""
        slot.main = leg.heir if leg.heir in self.legs else None
        if slot.main is not None:
            return
        clock = self.crew.clock
        now = clock.monotonic()
        retries, wait = slot.retries, None
        if retries is not None and not fatal:
            retries.ended(now, wanted=is_wanted)
            wait = 0.0 if is_wanted else retries.next_wait(outcome, now, clock.wall())
        if wait is None:
            slot.has_given_up = True
            if all(other.has_given_up for other in self._slots) and not self.legs:
                self._finish()
            return
        if self.chooser.can_try_another(now, leg.url) and not is_wanted:
            wait = 0.0
        if wait and not self._is_up:
            self._tell(events.BackOff(wait))
        slot.timer = self.call_later(wait, partial(self._open, slot))


def shown(url: str) -> str:
    """Return a URL without its credentials."""
    return redacted(url)


def _cancel(leg: Leg) -> None:
    """Cancel the timer of a leg."""
    if leg.timer is not None:
        leg.timer.cancel()
        leg.timer = None
