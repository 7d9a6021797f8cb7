"""A histogram of times, for percentiles of millions of them in little memory."""

from __future__ import annotations

import math
from collections import Counter

#: How much wider each class is than the one before it, which determines the accuracy of the percentiles.
STEP = 1.01
_LOG_STEP = math.log(STEP)
_LEAST = 1e-7  # seconds; shorter times count as this


class Histogram:
    """Counts times in classes that are 1 % wide. For one thread at a time.

    Attributes:
        count: the number of times added.
        most: the longest of them, exactly.
    """

    def __init__(self) -> None:
        self._classes: Counter[int] = Counter()
        self.count = 0
        self.most = 0.0

    def add(self, seconds: float) -> None:
        """Add a time."""
        self._classes[int(math.log(max(seconds, _LEAST)) // _LOG_STEP)] += 1
        self.count += 1
        self.most = max(self.most, seconds)

    def percentile(self, percent: float) -> float:
        """Return a percentile: the time that this percentage of all times does not exceed, to within 1 %.

        Raises:
            ValueError: no time was added.
        """
        if not self.count:
            raise ValueError("no time was added")
        wanted = math.ceil(self.count * percent / 100)
        seen = 0
        for number in sorted(self._classes):
            seen += self._classes[number]
            if seen >= wanted:
                return min(self.most, STEP ** (number + 1))
        return self.most
