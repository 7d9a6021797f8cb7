"""Conductor: opens, renews and replaces the connections of a feed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

from .. import events
from ..app import WebSocketApp
from ..dispatch.registry import Registry
from ..engine.threads import Crew, Threads
from ..life.backoff import AttemptEnd, Backoff, Retries, drawn
from ..life.calls import ScheduledCall, call_later
from ..system.rate_limit import RateLimit
from ..system.report import report, safe_repr
from ..url import redacted, without_secrets
from .handover import Handover
from .leg import Leg, made_app
from .outlet import Outlet
from .plan import Plan
from .rivalry import Rivalry
from .status import FeedStatus, LegStatus, Reason
from .stream import Stream
from .urls import UrlChooser

#: How long a connection must have been in use, in seconds, for the server to have it renewed at once.
MIN_AGE = 1.0
#: The longest wait before the next attempt to renew a connection that is still open, in seconds.
MAX_RENEWAL_WAIT = 30.0
#: The largest fraction of its age by which a connection is renewed early, so that clients that were started
#: together, and the two copies of a feed, do not reconnect at the same moment.
EARLIER = 0.05


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

    Its methods are called on the handlers' thread, except those that say so. Any thread may read the
    attributes. A new conductor is made for each start.

    Args:
        plan: the options.
        timing: the keyword arguments of each connection's `start`.
        backoff: the back-off of each copy, or None to give up after the first failure.
        threads: the threads of all connections.
        crew: the threads that are running.
        leave: called at the end, when the feed no longer needs the crew.
        registry: the feed's handlers.
        lock: guards `stop`.
        changed: called without the lock when the feed becomes ready and when it ends. Any thread.
    """

    def __init__(
        self, plan: Plan, timing: dict[str, Any], backoff: Backoff | None, threads: Threads, crew: Crew,
        leave: Callable[[], object], registry: Registry, lock: threading.RLock, changed: Callable[[], object],
    ) -> None:
        self._plan = plan
        self._timing = timing
        self._threads = threads
        self.crew = crew
        self._leave = leave
        self._registry = registry
        self._lock = lock
        self._changed = changed
        self.outlet = Outlet(registry, plan.on_switch, self.crew.clock, changed)
        self._chooser = UrlChooser(plan.urls, plan.cool_down)
        self._stream = Stream(plan, self.outlet)
        self._rivalry = Rivalry()
        self.handover = Handover(plan, self._stream, self.call_later, self._rivalry.coexisted)
        self._slots = [_Slot(copy, backoff) for copy in range(plan.copies)]
        self.legs: tuple[Leg, ...] = ()  # replaced as a whole
        self.stop: tuple[int | None, str | bytes] | None = None  # guarded by the lock
        self.is_over = False
        self.last_end: events.ConnectFail | events.Disconnected | None = None
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
            leg.close(code, reason)
        self.call_later(0, self._stopping)

    def threads_failed(self) -> None:
        """End the feed after a fatal error in one of its threads. The connections end by themselves."""
        with self._lock:
            self.stop = self.stop or (1001, "")
        self.finish()

    def report(self) -> FeedStatus:
        """Return the state of the feed."""
        now = self.crew.clock.monotonic()
        sender = self.outlet.sender
        legs = tuple(
            LegStatus(
                leg.number, leg.copy, redacted(leg.url), leg.phase, leg is sender,
                None if leg.ready_at is None else now - leg.ready_at, leg.meter.first, leg.meter.later,
                leg.meter.lost, leg.meter.backwards, leg.meter.lag,
            )
            for leg in self.legs
        )
        return FeedStatus(
            sender is not None, self._rivalry.allows_one(now), self._stream.passed, self.outlet.switches,
            self.outlet.losses, self._stream.merge.size, legs, tuple(self._chooser.report(now).values()),
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
            leg.close(*self.stop)
        if not self.legs:
            self.finish()

    def _finish_if_given_up(self) -> None:
        if not self.legs and all(slot.has_given_up for slot in self._slots):
            self.finish()

    def finish(self) -> None:
        """End the feed, since no connection is left. Any thread, also before `begin`."""
        with self._lock:
            if self.is_over:
                return
            self.is_over = True
        self.outlet.use_none()
        self._changed()
        for leg in self.legs:
            leg.cancel_timer()
        self._leave()

    # Opening.

    def _open(
        self, slot: _Slot, *, heir_of: Leg | None = None, reason: Reason = "lost",
        made: WebSocketApp | None = None,
    ) -> None:
        """Open a connection, in the place of another one or in an empty slot."""
        slot.timer = None
        now = self.crew.clock.monotonic()
        if self.stop is not None:
            return
        if self._rivalry.allows_one(now) and self._is_taken(slot, heir_of):
            if heir_of is None and (wait := self._rivalry.until - now) < inf:
                slot.timer = self.call_later(wait, partial(self._open, slot))
            return
        avoid = self._urls_beside(slot.copy)
        url = self._plan.urls[0] if made is not None else self._chooser.choose(now, slot.url, avoid)
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
            report(logging.ERROR, words, without_secrets(url), error=error, limit=self._limit)
            self._chooser.failed(url, now, safe_repr(error))
            self._try_later(slot, heir_of, reason)
            return
        slot.url = url
        self.legs = (*self.legs, leg)
        if heir_of is not None:
            heir_of.heir = leg
        else:
            slot.main = leg
        self._close_if_stopping(leg)

    def _close_if_stopping(self, leg: Leg) -> None:
        if self.stop is not None:
            leg.close(*self.stop)

    def _is_taken(self, slot: _Slot, heir_of: Leg | None) -> bool:
        """Return whether another connection is open or opening."""
        others = (other for other in self._slots if other is not slot)
        return heir_of is not None or any(other.main is not None for other in others)

    def _try_later(self, slot: _Slot, heir_of: Leg | None, reason: Reason) -> None:
        slot.failures += 1
        wait = min(MAX_RENEWAL_WAIT, 2.0 ** min(slot.failures, 10) / 2)
        if heir_of is None and slot.retries is None:
            slot.has_given_up = True
            self._finish_if_given_up()
        elif heir_of is None:
            slot.timer = self.call_later(wait, partial(self._open, slot))
        elif heir_of in self.legs:
            heir_of.cancel_timer()
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
        self._chooser.worked(leg.url)
        if slot.retries is not None:
            slot.retries.opened(now)
        self._stream.join(leg)
        if self._plan.renew_after is not None:
            age = self._plan.renew_after * (1 - EARLIER * drawn())
            leg.timer = self.call_later(age, partial(self.renew, leg, "age"))
        if self.outlet.sender in (None, old):
            self.outlet.use(leg, old, leg.reason, is_overlapping=old is not None and old.can_receive)
        self._stream.take_early(leg, now)
        if self._stream.merge.is_held(leg.number):
            self.call_later(self._plan.drain, partial(self._stream.establish, leg.number))
        if leg.url in self._urls_beside(leg.copy) and len(self._plan.urls) > 1:
            self.call_later(max(MIN_AGE, self._plan.cool_down), partial(self._spread, leg))
        if old is not None and old in self.legs:
            self.handover.begin(old, leg)
        else:
            leg.heir_of = None

    def _urls_beside(self, copy: int) -> set[str]:
        """Return the URLs that the other copy uses."""
        return {leg.url for leg in self.legs if leg.copy != copy}

    def _spread(self, leg: Leg) -> None:
        """Move a copy that shares its URL with the other one to another URL, once one has cooled down."""
        beside = self._urls_beside(leg.copy)
        if leg not in self.legs or leg.url not in beside:
            return
        if self._chooser.choose(self.crew.clock.monotonic(), leg.url, beside) not in beside:
            self.renew(leg, "spread")
        else:
            self.call_later(max(MIN_AGE, self._plan.cool_down), partial(self._spread, leg))

    # Renewal.

    def renew(self, leg: Leg, reason: Reason) -> None:
        """Open another connection, which will replace this one."""
        if self.stop is not None or leg not in self.legs or leg.heir is not None or leg.ready_at is None:
            return
        slot = self._slots[leg.copy]
        if slot.main is not leg or leg.phase == "draining" or leg.is_done:
            return
        if reason == "message" and self._is_young(leg):
            return  # or a server could make us connect as fast as we can
        leg.cancel_timer()
        if not self._rivalry.allows_one(self.crew.clock.monotonic()):
            self._open(slot, heir_of=leg, reason=reason)
        elif reason != "close":
            leg.is_done = True
            leg.close(1000, "renewed")

    def _is_young(self, leg: Leg) -> bool:
        """Return whether a connection is too young to be renewed at once when its server asks for that."""
        return leg.ready_at is None or self.crew.clock.monotonic() - leg.ready_at < MIN_AGE

    def renew_all(self) -> None:
        """Renew every connection in use."""
        for slot in self._slots:
            if slot.main is not None:
                self.renew(slot.main, "asked")

    # Events of the connections.

    def _received(self, leg: Leg, event: events.Event) -> None:
        """Take an event of a connection, before its own handlers."""
        if isinstance(event, (events.Text, events.Binary)):
            self._stream.take(leg, event, self.crew.clock.monotonic())
            self.handover.check(leg)
            self.handover.check(leg.heir)
            if self._plan.renew_when is not None and leg.phase == "ready" and self._plan.announces_end(event):
                self.renew(leg, "message")
        elif isinstance(event, (events.ConnectFail, events.Disconnected)):
            self._ended(leg, event)
        elif isinstance(event, events.Closing):
            self._closing(leg, event)
        elif isinstance(event, (events.Connecting, events.Connected, events.Rejected)):
            if isinstance(event, events.Rejected):
                leg.rejected = event
            self.outlet.opening(leg, event, self.legs)
        elif not isinstance(event, events.Ready) and leg is self.outlet.sender:
            self.outlet.tell(event)

    def _closing(self, leg: Leg, event: events.Closing) -> None:
        """Take a Close frame: the connection delivers no more, and the answer ends it."""
        is_announced = self._plan.announces_end(event) and not self._is_young(leg)
        if is_announced:
            leg.is_done = True
            self.renew(leg, "close")
        met = self._met_others(leg)
        leg.can_receive = False
        leg.cancel_timer()
        if leg.phase == "ready":
            leg.phase = "ending"
        self._stream.leave(leg)
        self._restore(leg)
        if leg is self.outlet.sender:
            has_other = self._lose_sender(leg, "close", met)
            if not (has_other or is_announced):
                self.outlet.tell(event)

    def _met_others(self, leg: Leg) -> set[Leg]:
        """Return the other connections whose messages continue those of this one without a gap."""
        is_held = self._stream.merge.is_held
        return {
            other for other in self.legs
            if other is not leg and other.ready_at is not None and not is_held(other.number)
        }

    def _lose_sender(self, leg: Leg, reason: Reason, met: set[Leg]) -> bool:
        """Send on another connection from now on; return False if there is none."""
        self.outlet.use_none()
        for other in () if self.stop is not None else self.legs:
            if other.phase == "ready" and other is not leg:
                self.outlet.use(other, leg, reason, is_overlapping=other in met)
                return True
        return False

    def _ended(self, leg: Leg, event: events.ConnectFail | events.Disconnected) -> None:
        """Take the end of a connection, and open another one if it was needed."""
        if leg not in self.legs:
            return
        self.last_end = event
        leg.app._lochws.life.close(1000, "")  # or `app.reconnect` would have it open a connection by itself
        self.legs = tuple(other for other in self.legs if other is not leg)
        leg.cancel_timer()
        was = leg.phase
        met = self._met_others(leg)
        leg.phase, leg.can_receive = "ending", False
        if was == "opening" and not (self.outlet.is_up or any(other.can_receive for other in self.legs)):
            self._stream.pass_on_early(leg)
        self._stream.leave(leg)
        slot = self._slots[leg.copy]
        self._restore(leg)
        if self.outlet.sender is leg:
            self._lose_sender(leg, "lost", met)
        if self.stop is not None:
            if not self.legs:
                self.outlet.tell(event)
                self.finish()
            return
        now = self.crew.clock.monotonic()
        self._rivalry.ended(leg, event, was, self.legs, now)
        is_wanted = leg.is_done or was == "draining"
        if not is_wanted:
            self._chooser.failed(leg.url, now, str(event))
        fatal = slot.retries is not None and slot.retries.ends_with(leg.rejected or event)
        event.fatal = fatal
        self.outlet.ended(event, self.legs)
        if slot.main is leg:
            self._replace(slot, leg, leg.rejected or event, is_wanted, fatal)
        elif was == "opening" and (main := leg.heir_of) is not None and main.heir is leg:
            main.heir = None
            self._try_later(slot, main, leg.reason)
        leg.unlink()
        self._finish_if_given_up()

    def _restore(self, leg: Leg) -> None:
        """Give the place back to the previous connection, if it is still open, to be replaced later."""
        old, slot = leg.heir_of, self._slots[leg.copy]
        if slot.main is not leg or old is None or old.phase != "draining" or old not in self.legs:
            return
        old.cancel_timer()
        old.phase, old.heir, slot.main = "ready", None, old
        if leg.heir is not None and leg.heir.phase == "opening":
            old.heir, leg.heir.heir_of = leg.heir, old
        else:
            self._try_later(slot, old, leg.reason)

    def _life_changed(self, leg: Leg) -> None:
        """Check whether an app has stopped. Any thread."""
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
            self.finish()

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
            return
        if retries is not None and retries.failures < len(self._plan.urls):  # else each has had its turn
            wait = 0.0 if self._chooser.can_try_another(now, leg.url) else wait
        if wait and not self.outlet.is_up:
            self.outlet.tell(events.BackOff(wait))
        slot.timer = self.call_later(wait, partial(self._open, slot))
