"""LegMeter: counts what one connection of a feed has contributed, and how far it lags behind the others."""

from __future__ import annotations

from dataclasses import dataclass

#: The number of lags that a meter remembers: the percentiles are those of the latest ones.
REMEMBERED = 512


@dataclass(frozen=True)
class Lag:
    """Seconds by which a connection delivered its copies after the first copy of the same message.

    A message that the connection was the first to deliver counts as 0. The percentiles are those of the
    latest 512 messages.

    Attributes:
        p50: the median.
        p99: the 99th percentile.
        max: the largest since the connection opened.
    """

    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0


class LegMeter:
    """The numbers of one connection. Pure: times are passed in.

    Attributes:
        first: the messages that it was the first to deliver.
        later: the messages that another connection had delivered before.
        repeated: the messages that it had delivered itself before.
        lost: the messages that it should have delivered, according to the others, and has not.
        backwards: the messages that were dropped because a later one had been passed on.
    """

    __slots__ = ("_lags", "_largest", "_oldest", "backwards", "first", "later", "lost", "repeated")

    def __init__(self) -> None:
        self.first = self.later = self.repeated = self.lost = self.backwards = 0
        self._lags: list[float] = []  # the oldest at _oldest, once there are as many as are remembered
        self._oldest = 0
        self._largest = 0.0

    def was_first(self) -> None:
        """Count a message that this connection was the first to deliver."""
        self.first += 1
        self._remember(0.0)

    def was_later(self, lag: float) -> None:
        """Count a copy that arrived `lag` seconds after the first one; negative numbers count as 0."""
        self.later += 1
        lag = max(0.0, lag)
        self._largest = max(self._largest, lag)  # first, so that readers never see a percentile above it
        self._remember(lag)

    @property
    def lag(self) -> Lag:
        """The percentiles of the latest lags."""
        lags = sorted(self._lags.copy())  # unlike a deque's, this copy is made in one step: others may append
        if not lags:
            return Lag()
        return Lag(lags[len(lags) // 2], lags[min(len(lags) - 1, len(lags) * 99 // 100)], self._largest)

    def _remember(self, lag: float) -> None:
        if len(self._lags) < REMEMBERED:
            self._lags.append(lag)
        else:
            self._lags[self._oldest] = lag
            self._oldest = (self._oldest + 1) % REMEMBERED
