"""How many lines of a kind may be logged, so that a flood of events does not become one of lines."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Allowance:
    """A bucket of tokens; one is taken for each line. For one thread at a time.

    Args:
        burst: how many lines may follow at once.
        per_second: and how many from then on.
        clock: monotonic seconds.
    """

    def __init__(
        self, burst: int = 20, per_second: float = 1.0, clock: Callable[[], float] = monotonic
    ) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._tokens = float(burst)
        self._counted = clock()
        self._left_out = 0

    def take(self) -> str | None:
        """What to add to a line, how many were left out before it or nothing; None: it is left out too."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._counted) * self._per_second)
        self._counted = now
        if self._tokens < 1:
            self._left_out += 1
            return None
        self._tokens -= 1
        left_out, self._left_out = self._left_out, 0
        return f" ({left_out} more of this kind left out)" if left_out else ""
