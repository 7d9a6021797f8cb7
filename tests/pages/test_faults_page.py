"""The page on faults says what the tests say, and every fault has a test."""

from __future__ import annotations

import subprocess
import sys

from ..faults.registry import PAGE


def test_every_fault_has_a_test_and_the_page_is_current() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--collect"],
        capture_output=True, text=True, timeout=25, check=False, cwd=PAGE.parents[1],
    )
    assert run.returncode == 0, run.stderr + run.stdout
    page = run.stdout.partition("\0")[2]
    assert PAGE.read_text(encoding="utf-8") == page, "write it anew: python -m tests.faults"
