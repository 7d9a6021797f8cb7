"""Nine packages that use websocket-client: the same over the drop-in and over the original."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from ..services.service import service_program

HERE = Path(__file__).parent
SECONDS = 80  # more than the patience of the clients

PACKAGES = (
    "python-socketio", "slack_sdk", "docker", "kubernetes", "binance-connector", "pybit", "Pysher",
    "obsws-python", "jupyter_server",
)


def run_client(module: str, package: str) -> object:
    """Run a package's client, and return what it has seen."""
    done = subprocess.run(
        [service_program("python", "clients"), str(HERE / "clients.py"), module, package],
        env={**os.environ, "PYTHONPATH": str(HERE.parent.parent)}, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(3 * SECONDS)
@pytest.mark.parametrize("package", PACKAGES)
def test_a_client_sees_the_same_over_the_drop_in(package: str) -> None:
    seen = run_client("drop-in", package)
    assert seen
    if package == "slack_sdk":
        assert seen == "2 of 2 refreshes"  # the original does not always succeed
    else:
        assert seen == run_client("original", package)
