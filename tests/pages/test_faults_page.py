"""Tests of docs/faults.md: it says what the registry of faults says, and each fault has a test."""

from __future__ import annotations

import subprocess
import sys

from ..faults.registry import FAULTS, PAGE, render


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "write it anew: python -m tests.faults"


def test_every_fault_has_a_test() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--collect"],
        capture_output=True, text=True, timeout=150, check=False, cwd=PAGE.parents[1],
    )
    assert run.returncode == 0, run.stderr + run.stdout


def test_every_fault_says_what_lochws_does() -> None:
    said = [does for faults in FAULTS.values() for does in faults.values()]
    assert all(does.endswith(".") for does in said)
