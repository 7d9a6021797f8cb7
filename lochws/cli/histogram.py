"""Times by the million in little memory, and their percentiles."""

from __future__ import annotations

import math
from collections import Counter

#: How much wider each class is than the one before: percentiles are right to so much.
STEP = 1.01
_LOG_STEP = math.log(STEP)
_LEAST = 1e-7  # seconds; shorter times count as that


class Histogram:
    """Counts times by classes that are 1 % wide. One thread at a time.

    Attributes:
        count: how many there are.
        most: the longest, exactly.
    """

    def __init__(self) -> None:
        self._classes: Counter[int] = Counter()
        self.count = 0
        self.most = 0.0

    def add(self, seconds: float) -> None:
        """Count a time."""
        self._classes[int(math.log(max(seconds, _LEAST)) // _LOG_STEP)] += 1
        self.count += 1
        self.most = max(self.most, seconds)

    def percentile(self, percent: float) -> float:
        """The time that so many percent of all do not exceed, to 1 %.

        Raises:
            ValueError: there are none.
        """
        if not self.count:
            raise ValueError("there are no times")
        wanted = math.ceil(self.count * percent / 100)
        seen = 0
        for number in sorted(self._classes):
            seen += self._classes[number]
            if seen >= wanted:
                return min(self.most, STEP ** (number + 1))
        return self.most
