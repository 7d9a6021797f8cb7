"""Clocks that tests can set (the one of `lochws.testing` stands still)."""

from __future__ import annotations

from lochws.clock import SYSTEM, SystemClock


class Shifting(SystemClock):
    """The machine's clocks, each of which can be set forward and back while time goes on."""

    def __init__(self) -> None:
        self._ahead = {"monotonic": 0.0, "wall": 0.0}

    def jump(self, name: str, seconds: float) -> None:
        """Set a clock, ``monotonic`` or ``wall``, forward by this many seconds."""
        self._ahead[name] += seconds

    def monotonic(self) -> float:
        return SYSTEM.monotonic() + self._ahead["monotonic"]

    def wall(self) -> float:
        return SYSTEM.wall() + self._ahead["wall"]
