"""The stress program, for a few seconds; ``python -m tests.stress --seconds 60`` is the whole of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="needs a timer that sends signals")
@pytest.mark.parametrize("pure", ["0", "1"], ids=["compiled", "pure"])
def test_calls_that_interrupt_lochws_anywhere_neither_hang_nor_lose_a_message(pure: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.stress", "--seconds", "3"],
        cwd=ROOT, env={**os.environ, "LOCHWS_PURE_PYTHON": pure}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50, check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "nothing was lost, and nothing hung" in done.stdout
