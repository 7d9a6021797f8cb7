"""Findings: the results of the individual steps of a diagnosis."""

from __future__ import annotations

import enum
from typing import Any

from ..base.records import record


class Verdict(str, enum.Enum):
    """The verdict of a finding."""

    OK = "ok"
    NOTE = "note"  # neither good nor bad
    WARNING = "warning"  # works anyway
    FAILED = "failed"


@record(frozen=True)
class Finding:
    """The result of one step.

    Attributes:
        phase: the name of the step.
        verdict: whether the result is good.
        result: the result, possibly quoting the server, and not yet escaped.
        seconds: how long the step took, or None if that is not meaningful.
        advice: a sentence on what to change; empty if there is nothing to change.
    """

    phase: str
    verdict: Verdict
    result: str
    seconds: float | None = None
    advice: str = ""

    @property
    def time(self) -> str:
        """The duration in milliseconds as text; empty if there is none."""
        return "" if self.seconds is None else f"{self.seconds * 1000:,.1f} ms"

    def as_object(self) -> dict[str, Any]:
        """Convert the finding for JSON; its texts are not escaped."""
        return {
            "phase": self.phase, "verdict": self.verdict.value, "result": self.result,
            "seconds": None if self.seconds is None else round(self.seconds, 6), "advice": self.advice,
        }
