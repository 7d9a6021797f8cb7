"""Freshness: a watch over the channels of one connection, which reports those that have fallen silent.

::

    Freshness(app, key=lambda event: event.json["symbol"], limit=30, on_stale=print)

A connection may deliver messages while one of its subscriptions is dead. For a connection that delivers none
at all, there is the option ``stale_after`` of `WebSocketApp.start`.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import inf
from typing import Any, Generic, Literal, TypeVar

from .. import WebSocketApp, events
from ..base.callables import check_takes
from ..clock import Clock, current
from ..errors import WebSocketError
from ..life.calls import ScheduledCall
from ..options import check_choice, check_number, check_range
from ..system import forks
from ..system.rate_limit import RateLimit
from ..system.report import safe_repr
from ..text import cut, escaped
from ._parts.checks import check_app
from ._parts.lines import report_about
from ._parts.messages import Doubts

__all__ = ["Freshness", "StaleChannel"]

K = TypeVar("K", bound=Hashable)

#: How late, in seconds, the end of a limit may be noticed, so that one look serves several channels; at most
#: a tenth of the shortest limit.
_LATE = 0.1
#: How much later, in seconds, a channel is looked at again whose message may wait behind a slow handler.
_AGAIN = 1.0
#: The largest rounding error, in seconds, in the sum of two times.
_ROUNDING = 1e-6
#: The longest key in a log line, in characters.
_MAX_KEY = 60


@dataclass(frozen=True)
class StaleChannel(Generic[K]):
    """A channel that has fallen silent.

    Attributes:
        key: its key.
        seconds: how long it has had no message, in seconds; if it has had none on this connection, since the
            session became ready.
        limit: its limit, in seconds.
    """

    key: K
    seconds: float
    limit: float


class Freshness(Generic[K]):
    """Watches the channels of an app's connection, and reports those without messages. Registers itself.

    Time counts from the last message of a channel. It begins anew for all channels with each session: when
    the connection is ready, and all steps of a `Subscriptions` have been answered. Between two connections
    nothing is stale. A channel that is stale is reported once, until it has a message again.

    Each message costs one call of `key` and one store, and there is one timer for all channels, which may
    notice a silent channel a tenth of a second late (or a tenth of the shortest limit). A message that waits
    behind a slow handler counts as received, unless it has been waiting for a second more.

    All methods may be called from any thread and never block. Functions are called on the handlers' thread,
    and their exceptions, except those of `key`, are treated like those of a handler.

    Args:
        app: the app.
        key: a function that is called with each `Text` and `Binary` and returns the key of its channel: a
            symbol, a topic. None: the message belongs to no channel. If it raises an exception, or the key is
            not hashable, the same applies, and the exception is logged at level DEBUG.
        limit: more than 0 seconds. A number is the limit of every channel; a channel is then watched from its
            first message on, on later connections too. A mapping has the limit for each key; its channels are
            watched from the beginning, and others are ignored.
        on_stale: called with a `StaleChannel` when a channel has had no message for as long as its limit. It
            may ask the server for a new subscription, for example. Or ``"reconnect"`` to log a warning and
            drop the connection, as `WebSocketApp.force_disconnect` does, or ``"tell"`` for the warning alone.
        on_fresh: called with the key when a stale channel has a message again, or None.
        max_keys: the maximum number of channels, so that a server cannot make them grow without bound.
            Further channels are not watched, which is logged.
        clock: the clock to read; None for the one in use when a connection is ready (`lochws.clock`).

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it and says what would be valid.
    """

    def __init__(
        self,
        app: WebSocketApp,
        *,
        key: Callable[[Any], K | None],
        limit: float | Mapping[K, float],
        on_stale: Callable[[StaleChannel[K]], object] | Literal["reconnect", "tell"],
        on_fresh: Callable[[K], object] | None = None,
        max_keys: int = 100_000,
        clock: Clock | None = None,
    ) -> None:
        check_app(app)
        if isinstance(on_stale, str):
            check_choice("on_stale", on_stale, ("reconnect", "tell"))
        elif not callable(on_stale):
            raise TypeError(f"on_stale={on_stale!r}: expected a function, 'reconnect' or 'tell'")
        else:
            check_takes("on_stale", on_stale, 1)
        for name, function in (("key", key), ("on_fresh", on_fresh)):
            if not callable(function) and not (function is None and name == "on_fresh"):
                raise TypeError(f"{name}={function!r}: expected a function")
            if function is not None:
                check_takes(name, function, 1)
        if not (clock is None or callable(getattr(clock, "monotonic", None))):
            raise TypeError(f"clock={clock!r}: expected a lochws.clock.Clock, or None")
        check_range("max_keys", max_keys, 1)
        self._app = app
        self._key = key
        self._on_stale = on_stale
        self._on_fresh = on_fresh
        self._max_keys = max_keys
        self._given_clock = clock
        self._limit = _checked_limit(limit, max_keys)
        self._changes: deque[Callable[[], object]] = deque()  # asked for by any thread
        # The handlers' thread changes all below; any thread reads.
        self._now = (clock or current()).monotonic
        self._seen: dict[K, float] = {}  # the channels that are not stale, and the time of their last message
        self._stale: dict[K, StaleChannel[K]] = {}
        self._ignored: dict[K, None] = {}  # channels that were removed, oldest first
        # When to look at a channel; a number, the one in _turns if the entry still counts; the channel; and
        # whether its message may have been waiting behind a slow handler at the last look.
        self._heap: list[tuple[float, int, K, bool]] = []
        self._turns: dict[K, int] = {}
        self._numbers = count()
        self._is_watching = False
        self._timer: ScheduledCall | None = None
        self._due = inf  # when the timer looks
        self._doubts = Doubts()
        self._lines = RateLimit(burst=20, per_second=1 / 30)
        self._refusals = RateLimit(burst=1, per_second=1 / 60)
        forks.register(self)
        self._gate = app.hooks.gate()
        self._gate.remove()
        self._gate.when_all_open(self._gates_opened)
        app.add_handler(self)

    # Any thread.

    @property
    def limit(self) -> float | Mapping[K, float]:
        """The limit, or the limits by key, in seconds. It may be set; the times of messages are kept.

        Raises:
            TypeError, ValueError: the value is not a number above 0, or a mapping with such numbers.
        """
        return self._limit

    @limit.setter
    def limit(self, limit: float | Mapping[K, float]) -> None:
        self._soon(partial(self._set_limit, _checked_limit(limit, self._max_keys)))

    @property
    def stale(self) -> tuple[StaleChannel[K], ...]:
        """The channels that are stale, in the order in which they were reported."""
        return tuple(self._stale.copy().values())

    @property
    def keys(self) -> tuple[K, ...]:
        """The keys of all channels that are being watched, stale ones included."""
        return (*self._seen.copy(), *self._stale.copy())

    def add(self, key: K) -> None:
        """Watch a channel from now on, even if it never has a message; also one that was removed.

        With limits by key, the key must have one.

        Raises:
            TypeError: the key is not hashable.
            ValueError: the key has no limit, or there are `max_keys` channels.
        """
        hash(key)
        if self._limit_of(key) is None:
            raise ValueError(f"key={key!r} has no limit: set limit first")
        if len(self._seen) + len(self._stale) >= self._max_keys and key not in self.keys:
            raise ValueError(f"key={key!r}: max_keys={self._max_keys} channels are being watched already")
        self._soon(partial(self._add, key))

    def remove(self, key: K) -> bool:
        """Stop watching a channel, and ignore its messages, because it was unsubscribed, for instance.

        Returns:
            Whether it was being watched.
        """
        is_known = key in self._seen or key in self._stale
        self._soon(partial(self._remove, key))
        return is_known

    def leave(self) -> None:
        """Stop watching for good, and stop handling events."""
        with suppress(ValueError):  # leave() was called before
            self._app.remove_handler(self)
        with suppress(ValueError):
            self._gate.forget(self._gates_opened)
        self._soon(self._end)

    def reset_after_fork(self) -> None:
        """Stop in the child of a fork: the connection is the parent's. The channels are kept."""
        self._timer, self._due = None, inf
        self._is_watching = False

    def _gates_opened(self) -> None:
        self._soon(self._begin)

    def _soon(self, change: Callable[[], object]) -> None:
        """Have the handlers' thread make a change, in order."""
        self._changes.append(change)
        if not self._app.in_handler:
            try:
                self._app.call_later(0, self._apply)
                return
            except WebSocketError:
                pass  # the app is not running, so this is the only thread
        self._apply()

    # The handlers' thread.

    def on_event(self, event: events.Event) -> None:
        """Note the time of a message. (`on_text` is not called if a handler takes batches.)"""
        if not isinstance(event, (events.Text, events.Binary)):
            return
        try:
            key = self._key(event)
            is_fresh = key in self._seen
        except BaseException as error:  # noqa: BLE001  not even SystemExit may end the handlers' thread
            self._doubts.add(self._key, error)
            return
        if is_fresh:
            self._seen[key] = self._now()  # type: ignore[index]  # None is never among the keys
        elif key is not None:
            self._has_message(key)

    def on_ready(self, _event: events.Ready) -> None:
        """Begin, unless there is a session to wait for."""
        self._end()
        self._now = (self._given_clock or current()).monotonic
        if self._app.is_active:
            self._begin()

    def on_disconnected(self, _event: events.Disconnected) -> None:
        """Stop, until the next connection."""
        self._end()

    def _apply(self) -> None:
        while self._changes:
            self._changes.popleft()()

    def _begin(self) -> None:
        """Start the clocks of all channels."""
        if self._is_watching or not self._app.is_active:
            return
        self._is_watching = True
        now = self._now()
        if isinstance(self._limit, Mapping):
            known: Iterable[K] = [key for key in self._limit if key not in self._ignored]
        else:
            known = self._seen
        self._seen = dict.fromkeys(known, now)
        self._plan_all()

    def _end(self) -> None:
        self._is_watching = False
        self._seen.update(dict.fromkeys(self._stale, 0.0))
        self._stale.clear()
        self._forget_plan()

    def _has_message(self, key: K) -> None:
        """Note the message of a channel that is stale, or has not been watched so far."""
        if self._stale.pop(key, None) is not None:
            self._watch(key)
            if self._on_fresh is not None:
                self._on_fresh(key)
        elif not isinstance(self._limit, Mapping) and key not in self._ignored:
            if len(self._seen) + len(self._stale) < self._max_keys:
                self._watch(key)
            else:
                text = "channel %r is not being watched: there are already max_keys=%d"
                report_about(
                    self._app, logging.WARNING, "not_watched", text, key, self._max_keys, limit=self._refusals
                )

    def _watch(self, key: K) -> None:
        self._seen[key] = now = self._now()
        limit = self._limit_of(key)
        if self._is_watching and limit is not None:
            self._plan(key, now + limit)
            self._set_timer(now)

    def _add(self, key: K) -> None:
        self._ignored.pop(key, None)
        if key not in self._seen and key not in self._stale and self._limit_of(key) is not None:
            self._watch(key)

    def _remove(self, key: K) -> None:
        self._seen.pop(key, None)
        self._stale.pop(key, None)
        self._turns.pop(key, None)
        self._ignored[key] = None
        if len(self._ignored) > self._max_keys:
            del self._ignored[next(iter(self._ignored))]

    def _set_limit(self, limit: float | Mapping[K, float]) -> None:
        self._limit = limit
        now = self._now()
        for key in [*self._seen, *self._stale]:
            if self._limit_of(key) is None:
                self._seen.pop(key, None)
                self._stale.pop(key, None)
        if isinstance(limit, Mapping):
            for key in limit:
                if key not in self._stale and key not in self._ignored:
                    self._seen.setdefault(key, now)
        if self._is_watching:
            self._plan_all()

    def _limit_of(self, key: K) -> float | None:
        return self._limit.get(key) if isinstance(self._limit, Mapping) else self._limit

    def _plan_all(self) -> None:
        """Plan a look at every channel."""
        self._forget_plan()
        for key, seen in self._seen.items():
            self._plan(key, seen + (self._limit_of(key) or 0.0))
        self._set_timer(self._now())

    def _forget_plan(self) -> None:
        self._heap.clear()
        self._turns.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._due = None, inf

    def _plan(self, key: K, when: float, in_doubt: bool = False) -> None:
        self._turns[key] = number = next(self._numbers)
        heapq.heappush(self._heap, (when, number, key, in_doubt))

    def _set_timer(self, now: float, soonest: float = 0.0) -> None:
        """Set the timer to the next look that is planned, but not before `soonest` seconds from now."""
        if not self._heap:
            return
        due = max(self._heap[0][0], now + soonest)
        if due >= self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        with suppress(WebSocketError):  # the app has stopped
            self._due = due
            self._timer = self._app.call_later(due - now, self._look)

    def _look(self) -> None:
        """Look at the channels whose limits may have passed, and report the stale ones."""
        self._timer, self._due = None, inf
        now = self._now()
        found: deque[StaleChannel[K]] = deque()
        while self._heap and self._heap[0][0] <= now + _ROUNDING:
            _, number, key, in_doubt = heapq.heappop(self._heap)
            if self._turns.get(key) != number or key not in self._seen:
                continue  # removed, or planned anew
            limit = self._limit_of(key) or 0.0
            seconds = now - self._seen[key]
            if seconds < limit - _ROUNDING:
                self._plan(key, self._seen[key] + limit)
            elif self._app.waiting_bytes and not in_doubt:
                self._plan(key, now + min(_AGAIN, limit), in_doubt=True)
            else:
                del self._seen[key]
                self._stale[key] = channel = StaleChannel(key, seconds, limit)
                found.append(channel)
        limits = self._limit.values() if isinstance(self._limit, Mapping) else (self._limit,)
        self._set_timer(now, soonest=min(_LATE, min(limits, default=inf) / 10))
        self._report(found)

    def _report(self, found: deque[StaleChannel[K]]) -> None:
        try:
            while found:
                channel = found.popleft()
                if self._stale.get(channel.key) is channel:  # or the user's function has removed it
                    self._react(channel)
        finally:
            if found:  # the function failed, which is a handler's failure, and no reason to skip the others
                with suppress(WebSocketError):
                    self._app.call_later(0, partial(self._report, found))

    def _react(self, channel: StaleChannel[K]) -> None:
        if callable(self._on_stale):
            self._on_stale(channel)
            return
        drops = self._on_stale == "reconnect"
        key = escaped(cut(safe_repr(channel.key), _MAX_KEY))
        words = f"channel {key} has had no message for {channel.seconds:.3g} s"
        report_about(
            self._app, logging.WARNING, "stale_channel", "disconnecting: %s" if drops else "%s", words,
            limit=self._lines, ws_reason=words, ws_silence=channel.seconds,
        )
        if drops:
            self._end()
            self._app.force_disconnect(words)


def _checked_limit(limit: float | Mapping[K, float], max_keys: int) -> float | Mapping[K, float]:
    """Return the limit, or a copy of the limits, if they are valid.

    Raises:
        TypeError, ValueError: a limit is not a number above 0, or there are more than `max_keys`.
    """
    if not isinstance(limit, Mapping):
        _check_above_0("limit", limit)
        return limit
    if len(limit) > max_keys:
        raise ValueError(f"limit has {len(limit)} keys: max_keys={max_keys}")
    for key, seconds in limit.items():
        _check_above_0(f"limit[{key!r}]", seconds)
    return dict(limit)


def _check_above_0(name: str, seconds: float) -> None:
    check_number(name, seconds, 0, "more than 0 seconds")
    if seconds == 0:
        raise ValueError(f"{name}=0: expected more than 0 seconds")
