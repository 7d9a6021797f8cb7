"""Results of Autobahn's cases: what they mean, and the table that shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .cases import INFORMATIONAL, section_of, sort_key

PASSED, NON_STRICT, INFORMATION, FAILED = "passed", "non-strict", "informational", "failed"
VERDICTS = (PASSED, NON_STRICT, INFORMATION, FAILED)


@dataclass
class Row:
    """One section of the table, or its last line."""

    verdicts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        counts = "".join(f"{self.verdicts[verdict]:>{len(verdict) + 2}}" for verdict in VERDICTS)
        return f"{counts}{self.seconds:>9.1f}"


def verdict(case: str, result: Mapping[str, object]) -> str:
    """One of `VERDICTS` for what the server says of a case: its messages and its closing.

    Only the cases that Autobahn does not judge may be informational.
    """
    outcomes = {result.get("behavior"), result.get("behaviorClose")}
    if outcomes == {"OK"}:
        return PASSED
    if case in INFORMATIONAL and outcomes <= {"OK", "INFORMATIONAL"}:
        return INFORMATION
    if outcomes <= {"OK", "NON-STRICT"}:
        return NON_STRICT
    return FAILED


def is_good(results: Mapping[str, Mapping[str, object]]) -> bool:
    """Return whether there are results, and every one is OK or rightly informational."""
    verdicts = {verdict(case, result) for case, result in results.items()}
    return bool(results) and verdicts <= {PASSED, INFORMATION}


def table(results: Mapping[str, Mapping[str, object]]) -> str:
    """One line a section, and the sums. The seconds are the server's, one case after another."""
    rows: dict[str, Row] = {}
    total = Row()
    for case in sorted(results, key=sort_key):
        section = rows.setdefault(section_of(case), Row())
        for row in (section, total):
            row.verdicts[verdict(case, results[case])] += 1
            row.seconds += _seconds(results[case])
    head = "section" + "".join(f"  {name}" for name in VERDICTS) + "  seconds"
    return "\n".join([head, *(f"{name:>7}{row}" for name, row in rows.items()), f"{'all':>7}{total}"])


def complaints(results: Mapping[str, Mapping[str, object]]) -> Iterable[str]:
    """Return a line for each case that is neither OK nor rightly informational."""
    for case in sorted(results, key=sort_key):
        found = verdict(case, results[case])
        if found in (NON_STRICT, FAILED):
            result = results[case]
            outcome = f"messages {result.get('behavior')}, closing {result.get('behaviorClose')}"
            yield f"{case}: {found} ({outcome}; {result.get('reportfile', 'no report')})"


def _seconds(result: Mapping[str, object]) -> float:
    milliseconds = result.get("duration")
    return milliseconds / 1000 if isinstance(milliseconds, int) else 0.0
