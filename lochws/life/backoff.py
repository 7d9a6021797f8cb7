"""Back-off: how long to wait before the next attempt to connect, and when to give up."""

from __future__ import annotations

import enum
import logging
import os
from collections.abc import Callable, Collection, Iterable
from functools import partial
from math import isnan
from typing import Final, Literal, TypeAlias

from .. import events
from ..base.callables import check_takes
from ..base.records import record
from ..dispatch.arguments import refusing_unknown_fields
from ..options import check_bool, check_number, check_range
from ..status import Status
from ..system.deadline import Cancelled
from ..system.rate_limit import RateLimit
from ..system.report import report
from ..system.steps import Steps, raisable


class _Answer(enum.Enum):
    USE_BACKOFF = "the wait that the back-off has chosen"


#: What a `retry` hook returns to leave the wait to the back-off.
USE_BACKOFF: Final = _Answer.USE_BACKOFF

#: The growth of the range for an app that has threads of its own, and for one that shares them.
FACTOR, SHARED_FACTOR = 1.25, 2.0
#: The longest wait after a clean end, in seconds, for an app that has threads of its own.
CLEAN_WAIT = 0.1
#: The close codes of a clean end: the server is done, goes away, or restarts.
CLEAN_CODES: Final = frozenset({Status.NORMAL, Status.GOING_AWAY, 1012})

#: How an attempt ended: Rejected if the server refused it, otherwise its final event.
AttemptEnd: TypeAlias = events.Rejected | events.ConnectFail | events.Disconnected
HookAnswer: TypeAlias = float | Literal[_Answer.USE_BACKOFF] | None
RetryHook: TypeAlias = Callable[[AttemptEnd], HookAnswer]
CallHook: TypeAlias = Callable[[Callable[[], HookAnswer]], Steps[HookAnswer]]


@refusing_unknown_fields
@record(frozen=True)
class Backoff:
    """Exponential back-off with full jitter: how long to wait before connecting again, and when to give up.

    After n consecutive failures, the wait is a random number, uniformly distributed between `min_wait` and
    ``min(max_wait, min_wait + factor**n)``. This keeps a thousand clients from reconnecting at the same
    moment after a server restart. A Backoff is immutable, and apps may share one.

    A connection is stable if it stayed up for `stable_after` seconds, not counting the time during which a
    gate was closed. If the server ends a stable connection cleanly, with close code 1000, 1001 or 1012, the
    first wait is a random number from 0 to `clean_wait` instead.

    Attributes:
        min_wait: the shortest wait, in seconds, except after a clean end.
        max_wait: the longest wait, in seconds, unless the server asks for a longer one.
        factor: how much the range grows with each failure; at least 1. None for 1.25, so that one client
            waits about a quarter as long as the outage has lasted; or for 2 if the app shares its threads
            with others, so that a fleet spreads its attempts.
        respect_retry_after: whether the Retry-After header of a refusal lengthens the wait.
        max_retry_after: the longest wait that a server can ask for, in seconds.
        max_attempts: give up after this many consecutive failures; None for never.
        max_elapsed: give up this many seconds after the first of consecutive failures; None for never.
        stable_after: a connection that stays up for this many seconds resets the back-off.
        retry: a function that is called after the handlers of each final event, with the event that reports
            how the attempt ended: `events.Rejected`, `events.ConnectFail` or `events.Disconnected`. It
            returns the seconds to wait, `USE_BACKOFF` for the wait that the back-off has chosen, or None to
            give up. If it raises an exception, that is logged and the back-off's wait applies. An app calls
            it on a separate thread, so that no connection waits for it; `persist` calls it on the iterating
            thread. It is not called after a fatal end (`fatal_codes`, `fatal_statuses`).
        clean_wait: the longest wait, in seconds, after the server has ended a stable connection cleanly. None
            for 0.1 if the app has threads of its own and `min_wait` is not longer than that. Otherwise None
            treats a clean end like any other: a fleet that shares threads would return all at once.
        fatal_codes: close codes, such as ``{4400, 4401}``, with which the server tells a client not to come
            back. If it closes the connection with one of them, the app stops, or `persist` ends, and the
            event's `fatal` is True.
        fatal_statuses: HTTP statuses, such as ``{401, 403}``, with which the server, or a proxy on the way,
            tells a client not to come back. If it refuses an attempt to connect with one of them, the app
            stops, or `persist` ends, and the event's `fatal` is True.

    Raises:
        TypeError, ValueError: an attribute is not valid; the message names it.
    """

    min_wait: float = 0.1
    """The shortest wait, in seconds, except after a clean end."""
    max_wait: float = 30.0
    """The longest wait, in seconds, unless the server asks for a longer one."""
    factor: float | None = None
    """How much the range grows with each failure; at least 1. None for 1.25, so that one client waits
    about a quarter as long as the outage has lasted; or for 2 if the app shares its threads with others,
    so that a fleet spreads its attempts."""
    respect_retry_after: bool = True
    """Whether the Retry-After header of a refusal lengthens the wait."""
    max_retry_after: float = 300.0
    """The longest wait that a server can ask for, in seconds."""
    max_attempts: int | None = None
    """Give up after this many consecutive failures; None for never."""
    max_elapsed: float | None = None
    """Give up this many seconds after the first of consecutive failures; None for never."""
    stable_after: float = 10.0
    """A connection that stays up for this many seconds resets the back-off."""
    retry: RetryHook | None = None
    """A function that is called after the handlers of each final event, with the event that reports how
    the attempt ended: `events.Rejected`, `events.ConnectFail` or `events.Disconnected`. It returns the
    seconds to wait, `USE_BACKOFF` for the wait that the back-off has chosen, or None to give up. If it
    raises an exception, that is logged and the back-off's wait applies. An app calls it on a separate
    thread, so that no connection waits for it; `persist` calls it on the iterating thread. It is not
    called after a fatal end (`fatal_codes`, `fatal_statuses`)."""
    clean_wait: float | None = None
    """The longest wait, in seconds, after the server has ended a stable connection cleanly. None for 0.1
    if the app has threads of its own and `min_wait` is not longer than that. Otherwise None treats a
    clean end like any other: a fleet that shares threads would return all at once."""
    fatal_codes: Collection[int] = frozenset()
    """Close codes, such as ``{4400, 4401}``, with which the server tells a client not to come back. If it
    closes the connection with one of them, the app stops, or `persist` ends, and the event's `fatal` is
    True."""
    fatal_statuses: Collection[int] = frozenset()
    """HTTP statuses, such as ``{401, 403}``, with which the server, or a proxy on the way, tells a client not
    to come back. If it refuses an attempt to connect with one of them, the app stops, or `persist` ends,
    and the event's `fatal` is True."""

    def __post_init__(self) -> None:
        for name in ("min_wait", "max_wait", "max_retry_after", "stable_after"):
            check_number(name, getattr(self, name), 0)
        if self.factor is not None:
            check_number("factor", self.factor, 1)
        if self.clean_wait is not None:
            check_number("clean_wait", self.clean_wait, 0)
        if self.max_wait < self.min_wait:
            raise ValueError(f"max_wait={self.max_wait!r}: expected at least min_wait={self.min_wait!r}")
        if self.max_attempts is not None:
            check_range("max_attempts", self.max_attempts, 1)
        if self.max_elapsed is not None:
            check_number("max_elapsed", self.max_elapsed, 0)
        check_bool("respect_retry_after", self.respect_retry_after)
        if self.retry is not None and not callable(self.retry):
            raise TypeError(f"retry={self.retry!r}: expected a function of one argument, or None")
        if self.retry is not None:
            check_takes("retry", self.retry, 1)
        codes = _numbers("fatal_codes", self.fatal_codes, "close codes, such as {4400, 4401}")
        statuses = _numbers("fatal_statuses", self.fatal_statuses, "HTTP statuses, such as {401, 403}")
        for code in codes:
            if not Status.is_valid(code):
                raise ValueError(f"fatal_codes: {code} is not a close code that a server can send")
        for status in statuses:
            check_range("fatal_statuses", status, 200, 599)
        # An immutable copy of each, so that a Backoff never changes and can be hashed.
        object.__setattr__(self, "fatal_codes", codes)
        object.__setattr__(self, "fatal_statuses", statuses)

    def is_fatal(self, outcome: AttemptEnd) -> bool:
        """Return whether the server, or a proxy, has told this client not to come back.

        The server's echo of our own Close frame does not count.

        Args:
            outcome: how an attempt or a connection ended.
        """
        if isinstance(outcome, events.Disconnected):
            return outcome.ended_by != "client" and outcome.received_code in self.fatal_codes
        return outcome.response is not None and outcome.response.status_code in self.fatal_statuses


def _numbers(name: str, values: object, expected: str) -> frozenset[int]:
    """Return a collection of whole numbers as a set, or raise TypeError."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(f"{name}={values!r}: expected a set of {expected}")
    members = list(values)
    for member in members:
        if isinstance(member, bool) or not isinstance(member, int):
            raise TypeError(f"{name}: {member!r} is not a whole number: expected a set of {expected}")
    return frozenset(members)


class Retries:
    """The consecutive failures of one app, under a `Backoff`. Times are passed in. For one thread at a time.

    Args:
        backoff: the policy.
        draw: returns a random number from 0 to 1 for each wait; None for the system's random numbers.
        is_shared: whether the app shares its threads with others, which decides some of the defaults.

    Attributes:
        failures: the number of consecutive failures so far.
        end: why no further attempt follows, in words; None if one may follow.
    """

    def __init__(
        self, backoff: Backoff, draw: Callable[[], float] | None = None, *, is_shared: bool = False
    ) -> None:
        self._backoff = backoff
        self._draw = draw or drawn
        self._factor = backoff.factor or (SHARED_FACTOR if is_shared else FACTOR)
        self._clean_wait = backoff.clean_wait
        if self._clean_wait is None and not is_shared and backoff.min_wait <= CLEAN_WAIT:
            self._clean_wait = CLEAN_WAIT
        self._opened_at: float | None = None
        self._was_stable = False
        self.failures = 0
        self.end: str | None = None
        self._first_failure = 0.0
        self._lines: RateLimit | None = None  # about the retry hook; made when it fails

    def opened(self, now: float) -> None:
        """Note that a connection has opened, at a time in monotonic seconds."""
        self._opened_at = now

    def ended(self, now: float, wanted: bool = False) -> None:
        """Note that an attempt or a connection has ended.

        Args:
            now: the time, in monotonic seconds.
            wanted: whether the user requested the end, so that it does not count as a failure.
        """
        stable = self._opened_at is not None and now - self._opened_at >= self._backoff.stable_after
        self._opened_at, self._was_stable = None, stable
        if stable:
            self.failures = 0
            return
        if wanted:
            return
        if not self.failures:
            self._first_failure = now
        self.failures += 1

    def ends_with(self, outcome: AttemptEnd) -> bool:
        """Note why no further attempt may follow this end, if it is fatal; return whether it is."""
        if not self._backoff.is_fatal(outcome):
            return False
        if isinstance(outcome, events.Disconnected):
            self.end = f"close code {outcome.received_code} is in fatal_codes"
        elif outcome.response is not None:
            self.end = f"status {outcome.response.status_code} is in fatal_statuses"
        return True

    @property
    def calls_hook(self) -> bool:
        """True if `next_wait` may call one of the user's functions."""
        return self._backoff.retry is not None

    def next_wait(self, outcome: AttemptEnd, now: float, wall: float) -> float | None:
        """Return how long to wait after `ended`, in seconds, or None to give up. Calls the user's hook.

        Args:
            outcome: how the attempt ended.
            now: the time, in monotonic seconds.
            wall: the time by the wall clock, in seconds, for a Retry-After that is a date.
        """
        try:
            next(self.find_wait(outcome, now, wall, _call_directly))
        except StopIteration as end:
            wait: float | None = end.value
            return wait
        raise AssertionError("a direct call has nothing to wait for")

    def find_wait(
        self, outcome: AttemptEnd, now: float, wall: float, call: CallHook
    ) -> Steps[float | None]:
        """Return what `next_wait` returns.

        Args:
            outcome, now, wall: those of `next_wait`.
            call: calls the user's hook, and returns its result.
        """
        backoff = self._backoff
        self.end = self._limit_reached(now) if self.failures else None
        usual = None if self.end is not None else self._usual(outcome, wall)
        if backoff.retry is None or usual is None:
            return usual
        try:
            hook = partial(backoff.retry, outcome)
            answer = yield from call(hook)
            if answer is None:
                self.end = "the retry hook returned None"
                return None
            if answer is USE_BACKOFF:
                return usual
            check_number("retry's answer", answer, 0)
            return float(answer)
        except Cancelled:
            return None
        except Exception as error:  # noqa: BLE001  it is reported
            self._lines = self._lines or RateLimit()
            words = "the retry hook failed on %r; the usual wait applies"
            report(logging.ERROR, words, outcome, error=error, limit=self._lines)
            return usual

    def _limit_reached(self, now: float) -> str | None:
        """Return which limit has been reached, in words, or None."""
        backoff = self._backoff
        if backoff.max_attempts is not None and self.failures >= backoff.max_attempts:
            return f"{self.failures} failures in a row (max_attempts={backoff.max_attempts})"
        failing = now - self._first_failure
        if backoff.max_elapsed is not None and failing >= backoff.max_elapsed:
            return f"failing for {failing:.0f} s (max_elapsed={backoff.max_elapsed:g})"
        return None

    def _usual(self, outcome: AttemptEnd, wall: float) -> float:
        backoff = self._backoff
        if self._clean_wait is not None and self._was_stable and is_clean(outcome):
            return self._draw() * self._clean_wait
        try:
            spread = self._factor ** self.failures
        except OverflowError:
            spread = backoff.max_wait
        spread = min(backoff.max_wait - backoff.min_wait, spread)
        wait = backoff.min_wait + self._draw() * spread
        if backoff.respect_retry_after and isinstance(outcome, events.Rejected):
            asked = retry_after(outcome.response.get("retry-after"), wall)
            if asked is not None:
                wait = max(wait, min(asked, backoff.max_retry_after))
        return wait


def is_clean(outcome: AttemptEnd) -> bool:
    """Return whether the server has ended a connection cleanly, with close code 1000, 1001 or 1012."""
    return (
        isinstance(outcome, events.Disconnected) and outcome.graceful and outcome.ended_by == "server"
        and outcome.received_code in CLEAN_CODES
    )


def retry_after(value: str | None, wall: float) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110 section 10.2.3), or None.

    Args:
        value: the value of the header, a number of seconds or an HTTP date; None if there is no header.
        wall: the time by the wall clock, in seconds.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            from email.utils import parsedate_to_datetime  # noqa: PLC0415  a large package, and dates are rare

            seconds = parsedate_to_datetime(value).timestamp() - wall
        except (ValueError, OverflowError, OSError):  # OSError: no descriptor left for the import
            return None
    return None if isnan(seconds) else max(0.0, seconds)


def _call_directly(hook: Callable[[], HookAnswer]) -> Steps[HookAnswer]:
    yield from ()
    try:
        return hook()
    except (StopIteration, GeneratorExit) as error:
        raise raisable(error) from error


def drawn() -> float:
    """Return a random number from 0 up to, but not including, 1."""
    # The module `random` is slow to load, and only one number per attempt is needed.
    return int.from_bytes(os.urandom(4), "big") / 2**32


#: The back-off that ``persist=True`` selects.
DEFAULT_BACKOFF: Final = Backoff()


def as_backoff(persist: bool | Backoff) -> Backoff | None:
    """Return the back-off that the argument `persist` stands for; None for no further attempt.

    Raises:
        TypeError: it is neither a bool nor a Backoff.
    """
    if not isinstance(persist, (bool, Backoff)):
        raise TypeError(f"persist={persist!r}: expected True, False or a Backoff")
    return DEFAULT_BACKOFF if persist is True else persist or None
