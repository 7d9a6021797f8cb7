"""Back-off: how long to wait before the next attempt to connect, and when to give up."""

from __future__ import annotations

import enum
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from typing import Final, Literal, TypeAlias

from .. import events
from ..system.report import report


class _Usual(enum.Enum):
    USUAL = "the usual wait"


#: What a `retry` hook returns to leave the wait to the back-off.
USUAL: Final = _Usual.USUAL

#: What an attempt came to: Rejected if the server turned it down, else its final event.
AttemptEnd: TypeAlias = events.Rejected | events.ConnectFail | events.Disconnected
RetryHook: TypeAlias = Callable[[AttemptEnd], float | Literal[_Usual.USUAL] | None]


@dataclass(frozen=True)
class Backoff:
    """How long to wait before connecting again, and when to give up. Immutable: apps may share one.

    The wait before attempt n after a connection that was stable (n = 0) is drawn evenly between
    `min_wait` and ``min(max_wait, min_wait + factor**n)``: the whole range is random ("full jitter"),
    so that a thousand clients of a server that restarts do not come back at once.

    Attributes:
        min_wait: the shortest wait in seconds.
        max_wait: the longest wait in seconds, but for what the server asks for.
        factor: what the range grows by with each failure.
        respect_retry_after: whether a refusal's Retry-After header lengthens the wait.
        max_retry_after: the longest Retry-After that is honoured, in seconds; longer ones are cut to it.
        max_attempts: give up after so many failures in a row; None for never.
        max_elapsed: give up when so many seconds have passed since the first failure in a row; None
            for never.
        stable_after: a connection that was open for so many seconds ends a row of failures.
        retry: called with each outcome, on the handlers' thread; returns the seconds to wait, `USUAL`
            for what the back-off would wait, or None to give up. What it raises is logged, and the
            usual wait applies.
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
            _check(name, getattr(self, name), 0)
        _check("factor", self.factor, 1)
        if self.max_wait < self.min_wait:
            raise ValueError(f"max_wait={self.max_wait!r}: expected at least min_wait={self.min_wait!r}")
        if self.max_attempts is not None:
            _check("max_attempts", self.max_attempts, 1)
            if not isinstance(self.max_attempts, int):
                raise TypeError(f"max_attempts={self.max_attempts!r}: expected a whole number, or None")
        if self.max_elapsed is not None:
            _check("max_elapsed", self.max_elapsed, 0)
        if not isinstance(self.respect_retry_after, bool):
            raise TypeError(f"respect_retry_after={self.respect_retry_after!r}: expected True or False")
        if self.retry is not None and not callable(self.retry):
            raise TypeError(f"retry={self.retry!r}: expected a function of one argument, or None")


class Retries:
    """One app's row of failures under a `Backoff`; told the time, never asking. One thread at a time.

    Args:
        backoff: the policy.
        draw: gives a random number from 0 up to 1, for each wait; None for the system's.
    """

    def __init__(self, backoff: Backoff, draw: Callable[[], float] | None = None) -> None:
        self._backoff = backoff
        self._draw = draw or _drawn
        self._opened_at: float | None = None
        self._failures = 0
        self._first_failure = 0.0

    def opened(self, now: float) -> None:
        """A connection opened (monotonic seconds)."""
        self._opened_at = now

    def ended(self, now: float, wanted: bool = False) -> None:
        """An attempt or connection ended; if the user wanted it so, that is no failure."""
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

    def next_wait(self, outcome: AttemptEnd, now: float, wall: float) -> float | None:
        """How long to wait after `ended`, in seconds, or None to give up.

        Args:
            outcome: what the attempt came to.
            now: monotonic seconds.
            wall: seconds of the wall clock, for a Retry-After that is a date.
        """
        backoff = self._backoff
        if self._failures:
            if backoff.max_attempts is not None and self._failures >= backoff.max_attempts:
                return None
            if backoff.max_elapsed is not None and now - self._first_failure >= backoff.max_elapsed:
                return None
        usual = self._usual(outcome, wall)
        if backoff.retry is None:
            return usual
        try:
            answer = backoff.retry(outcome)
            if answer is None or answer is USUAL:
                return None if answer is None else usual
            _check("retry's answer", answer, 0)
            return float(answer)
        except Exception as error:  # noqa: BLE001  it is reported
            report(logging.ERROR, "the retry hook failed on %r: waiting as usual", outcome, error=error)
            return usual

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
    """The seconds that a Retry-After header asks for (RFC 9110 section 10.2.3), or None if it says nothing.

    Args:
        value: the header's value: seconds, fractions allowed, or an HTTP date.
        wall: seconds of the wall clock.
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
    # The module `random` is slow to load, and one number an attempt is all that is wanted.
    return int.from_bytes(os.urandom(4), "big") / 2**32


def _check(name: str, value: float, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r}: expected a number from {least:g} up")
    if not least <= value < float("inf"):
        raise ValueError(f"{name}={value!r}: expected a number from {least:g} up")


#: What ``persist=True`` stands for.
DEFAULT_BACKOFF: Final = Backoff()
