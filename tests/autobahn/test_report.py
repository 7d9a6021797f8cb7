"""Reports of Autobahn runs: what counts as passed, and how it is shown."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest

from . import cases, report
from .run import NOT_RUN, within

OK: Mapping[str, object] = {"behavior": "OK", "behaviorClose": "OK", "duration": 500}


def outcome(behavior: str, closing: str) -> dict[str, object]:
    return {"behavior": behavior, "behaviorClose": closing, "duration": 1000}


@pytest.mark.parametrize(
    ("case", "behavior", "closing", "verdict"),
    [
        ("1.1.1", "OK", "OK", "passed"),
        ("6.4.1", "NON-STRICT", "OK", "non-strict"),
        ("7.1.6", "INFORMATIONAL", "INFORMATIONAL", "informational"),
        ("7.13.1", "OK", "INFORMATIONAL", "informational"),
        ("1.1.1", "INFORMATIONAL", "INFORMATIONAL", "failed"),
        ("7.1.5", "OK", "WRONG CODE", "failed"),
        ("7.1.5", "OK", "UNCLEAN", "failed"),
        ("2.1", "FAILED", "OK", "failed"),
        ("12.1.1", "UNIMPLEMENTED", "OK", "failed"),
    ],
)
def test_a_case_counts_by_the_worse_of_its_messages_and_its_closing(
    case: str, behavior: str, closing: str, verdict: str
) -> None:
    assert report.verdict(case, outcome(behavior, closing)) == verdict


def test_a_case_that_was_not_run_has_failed() -> None:
    assert report.verdict("1.1.1", NOT_RUN) == "failed"


def test_a_run_without_results_is_not_good() -> None:
    assert not report.is_good({})


@pytest.mark.parametrize("bad", [outcome("NON-STRICT", "OK"), outcome("OK", "WRONG CODE"), NOT_RUN])
def test_one_case_makes_a_run_bad(bad: Mapping[str, object]) -> None:
    good = {"1.1.1": OK, "7.1.6": outcome("INFORMATIONAL", "INFORMATIONAL")}
    assert report.is_good(good)
    assert not report.is_good({**good, "1.1.2": bad})


def test_the_table_has_a_line_a_section_in_order_and_the_sums() -> None:
    results = {"10.1.1": OK, "9.1.2": OK, "9.1.1": outcome("FAILED", "OK")}
    assert report.table(results).splitlines() == [
        "section  passed  non-strict  informational  failed  seconds",
        "      9       1           0              0       1      1.5",
        "     10       1           0              0       0      0.5",
        "    all       2           0              0       1      2.0",
    ]


def test_each_bad_case_is_named_with_its_outcome() -> None:
    results = {"7.1.5": outcome("OK", "WRONG CODE"), "1.1.1": OK}
    assert list(report.complaints(results)) == ["7.1.5: failed (messages OK, closing WRONG CODE; no report)"]


def test_the_quick_cases_leave_out_large_messages_and_most_sizes() -> None:
    assert "9.4.*" in cases.QUICK
    assert "9.5.*" not in cases.QUICK
    assert "13.7.3" in cases.QUICK
    assert "13.7.4" not in cases.QUICK


def test_an_act_that_stalls_is_given_up() -> None:
    stalled = threading.Event()
    try:
        assert not within(0.01, stalled.wait)
    finally:
        stalled.set()


def test_an_act_that_raises_has_come_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert within(10, lambda: 1 / 0)
    assert "ZeroDivisionError" in capsys.readouterr().err
