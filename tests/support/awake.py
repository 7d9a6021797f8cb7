"""Awake: a clock that stands still while the machine stalls."""

from __future__ import annotations

import threading
from time import monotonic

#: Seconds between two looks at the time, and how late one may come without counting as a stall.
BEAT_SECONDS = 0.005
LATE_SECONDS = 0.02


class Awake:
    """Seconds during which this process ran, for tests of what must happen soon. The fixture `awake`.

    A thread that sleeps and wakes again finds out how long the process, or the whole machine, stood still.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._beats = 0
        self._lost = 0.0  # seconds
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="awake")
        self._thread.start()

    def __call__(self) -> float:
        """Return the time. Takes up to `BEAT_SECONDS`: what has just been lost must be known."""
        with self._changed:
            count = self._beats
            self._changed.wait_for(lambda: self._beats > count)
            return monotonic() - self._lost

    def close(self) -> None:
        """End the thread."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        is_over = False
        while not is_over:
            began = monotonic()
            is_over = self._end.wait(BEAT_SECONDS)
            late = monotonic() - began - BEAT_SECONDS
            with self._changed:
                self._lost += late if late > LATE_SECONDS else 0.0
                self._beats += 1
                self._changed.notify_all()
