"""A rate limit for log lines, for failures that a server or a loop can repeat many times per second."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class RateLimit:
    """A token bucket: one token per log line, and a count of the lines that were suppressed.

    Any thread, signal handler or finalizer may use it, because it takes no lock. If several threads log at
    the same moment, one line more or less may be let through.

    Args:
        burst: the number of lines that may be logged in immediate succession.
        per_second: the number of lines per second in the long run.
        clock: returns monotonic seconds.
    """

    def __init__(
        self, burst: int = 20, per_second: float = 1.0, clock: Callable[[], float] = monotonic
    ) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._tokens = float(burst)
        self._counted = clock()
        self._suppressed = 0

    def take(self) -> str | None:
        """Ask whether a line may be logged now.

        Returns:
            None if the line must not be logged. Otherwise the text to append to it: how many lines were
            suppressed before it, or an empty string.
        """
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._counted) * self._per_second)
        self._counted = now
        if self._tokens < 1:
            self._suppressed += 1
            return None
        self._tokens -= 1
        suppressed, self._suppressed = self._suppressed, 0
        return f" ({suppressed} more like this were suppressed)" if suppressed else ""
