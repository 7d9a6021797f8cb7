"""Back-off: how long to wait before the next attempt to connect, and when to give up."""

from __future__ import annotations

import enum
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isnan
from typing import Final, Literal, TypeAlias

from .. import events
from ..options import check_bool, check_number, check_range
from ..system.deadline import Cancelled
from ..system.rate_limit import RateLimit
from ..system.report import report


class _Usual(enum.Enum):
    USUAL = "the usual wait"


#: What a `retry` hook returns to leave the wait to the back-off.
USUAL: Final = _Usual.USUAL

#: How an attempt ended: Rejected if the server refused it, otherwise its final event.
AttemptEnd: TypeAlias = events.Rejected | events.ConnectFail | events.Disconnected
HookAnswer: TypeAlias = float | Literal[_Usual.USUAL] | None
RetryHook: TypeAlias = Callable[[AttemptEnd], HookAnswer]
CallHook: TypeAlias = Callable[[Callable[[], HookAnswer]], HookAnswer]


@dataclass(frozen=True)
class Backoff:
    """Exponential back-off with full jitter: how long to wait before connecting again, and when to give up.

    After n consecutive failures, the wait is a random number, uniformly distributed between `min_wait` and
    ``min(max_wait, min_wait + factor**n)``. This keeps a thousand clients from reconnecting at the same
    moment after a server restart. A Backoff is immutable, and apps may share one.

    Attributes:
        min_wait: the shortest wait, in seconds.
        max_wait: the longest wait, in seconds, unless the server asks for a longer one.
        factor: how much the range grows with each failure; at least 1.
        respect_retry_after: whether the Retry-After header of a refusal lengthens the wait.
        max_retry_after: the longest wait that a server can ask for, in seconds.
        max_attempts: give up after this many consecutive failures; None for never.
        max_elapsed: give up this many seconds after the first of consecutive failures; None for never.
        stable_after: a connection that stays up for this many seconds resets the back-off.
        retry: a function that is called after the handlers of each final event, with the event that reports
            how the attempt ended: `events.Rejected`, `events.ConnectFail` or `events.Disconnected`. It
            returns the seconds to wait, `USUAL` for the wait that the back-off has chosen, or None to give
            up. If it raises an exception, that is logged and the back-off's wait applies. An app calls it on
            a separate thread, so that no connection waits for it; `persist` calls it on the iterating thread.

    Raises:
        TypeError, ValueError: an attribute is not valid; the message names it.
    """

    min_wait: float = 0.1
    max_wait: float = 30.0
    factor: float = 2.0
    respect_retry_after: bool = True
    max_retry_after: float = 300.0
    max_attempts: int | None = None
    max_elapsed: float | None = None
    stable_after: float = 10.0
    retry: RetryHook | None = None

    def __post_init__(self) -> None:
        for name in ("min_wait", "max_wait", "max_retry_after", "stable_after"):
            check_number(name, getattr(self, name), 0)
        check_number("factor", self.factor, 1)
        if self.max_wait < self.min_wait:
            raise ValueError(f"max_wait={self.max_wait!r}: expected at least min_wait={self.min_wait!r}")
        if self.max_attempts is not None:
            check_range("max_attempts", self.max_attempts, 1)
        if self.max_elapsed is not None:
            check_number("max_elapsed", self.max_elapsed, 0)
        check_bool("respect_retry_after", self.respect_retry_after)
        if self.retry is not None and not callable(self.retry):
            raise TypeError(f"retry={self.retry!r}: expected a function of one argument, or None")


class Retries:
    """The consecutive failures of one app, under a `Backoff`. Times are passed in. For one thread at a time.

    Args:
        backoff: the policy.
        draw: returns a random number from 0 to 1 for each wait; None for the system's random numbers.
    """

    def __init__(self, backoff: Backoff, draw: Callable[[], float] | None = None) -> None:
        self._backoff = backoff
        self._draw = draw or _drawn
        self._opened_at: float | None = None
        self._failures = 0
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
        self._opened_at = None
        if stable:
            self._failures = 0
            return
        if wanted:
            return
        if not self._failures:
            self._first_failure = now
        self._failures += 1

    @property
    def calls_hook(self) -> bool:
        """True if `next_wait` may call one of the user's functions."""
        return self._backoff.retry is not None

    def next_wait(
        self, outcome: AttemptEnd, now: float, wall: float, call: CallHook | None = None
    ) -> float | None:
        """Return how long to wait after `ended`, in seconds, or None to give up.

        Args:
            outcome: how the attempt ended.
            now: the time, in monotonic seconds.
            wall: the time by the wall clock, in seconds, for a Retry-After that is a date.
            call: calls the user's hook and returns its result; None to call the hook directly.
        """
        backoff = self._backoff
        if self._failures and self._gives_up(now):
            return None
        usual = self._usual(outcome, wall)
        if backoff.retry is None:
            return usual
        try:
            hook = partial(backoff.retry, outcome)
            answer = hook() if call is None else call(hook)
            if answer is None or answer is USUAL:
                return None if answer is None else usual
            check_number("retry's answer", answer, 0)
            return float(answer)
        except Cancelled:
            return None
        except Exception as error:  # noqa: BLE001  it is reported
            self._lines = self._lines or RateLimit()
            words = "the retry hook failed on %r; the usual wait applies"
            report(logging.ERROR, words, outcome, error=error, limit=self._lines)
            return usual

    def _gives_up(self, now: float) -> bool:
        backoff = self._backoff
        if backoff.max_attempts is not None and self._failures >= backoff.max_attempts:
            return True
        return backoff.max_elapsed is not None and now - self._first_failure >= backoff.max_elapsed

    def _usual(self, outcome: AttemptEnd, wall: float) -> float:
        backoff = self._backoff
        try:
            spread = backoff.factor ** self._failures
        except OverflowError:
            spread = backoff.max_wait
        spread = min(backoff.max_wait - backoff.min_wait, spread)
        wait = backoff.min_wait + self._draw() * spread
        if backoff.respect_retry_after and isinstance(outcome, events.Rejected):
            asked = retry_after(outcome.response.get("retry-after"), wall)
            if asked is not None:
                wait = max(wait, min(asked, backoff.max_retry_after))
        return wait


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


def _drawn() -> float:
    # The module `random` is slow to load, and only one number per attempt is needed.
    return int.from_bytes(os.urandom(4), "big") / 2**32


#: The back-off that ``persist=True`` selects.
DEFAULT_BACKOFF: Final = Backoff()
