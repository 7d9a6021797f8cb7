"""Every example runs as its reader would run it, ends by itself, and shows what it is about."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lochws.demo import DemoServer

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

#: The environment of an example: it finds lochws as the tests do, installed or not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

#: What the output has to show, in this order, as regular expressions.
SHOWN = {
    "decorators.py": ["journal: Ready", "Text\\('hello'\\)", "journal: Disconnected", "last event: Disc"],
    "echo.py": ["Is anybody there\\? -> Is anybody there\\?", "Who says so\\? -> Who says so\\?"],
    "iteration.py": ["Connecting", "Connected", "Ready", "Text", "Closed\\(code=1000", "graceful=True"],
    "persist.py": ["Ready", "Text", "graceful=False", "BackOff", "Ready", "Text", "Closed", "graceful=True"],
    "ticker.py": ["6\\d{4}\\.\\d", "graceful=False", "trying again", "6\\d{4}\\.\\d", "graceful=True"],
}


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLES / name), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=20, check=False, env=ENVIRONMENT
    )


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == SHOWN.keys()


@pytest.mark.parametrize("name", SHOWN)
def test_the_example_runs_and_ends_by_itself(name: str) -> None:
    process = run(name)
    assert process.returncode == 0, process.stderr
    assert not process.stderr
    assert re.search(".*".join(SHOWN[name]), process.stdout, re.DOTALL), process.stdout


@pytest.mark.parametrize("name", SHOWN)
def test_the_example_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 45


def test_the_echo_example_takes_a_url() -> None:
    with DemoServer() as server:
        process = run("echo.py", server.echo_url)
    assert process.returncode == 0, process.stderr
    assert "-> Are you sure?" in process.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_the_ticker_example_takes_a_url_and_runs_until_ctrl_c() -> None:
    with DemoServer() as server:
        command = [sys.executable, "-u", str(EXAMPLES / "ticker.py"), server.url]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
        ) as process:
            assert process.stdout is not None
            assert float(process.stdout.readline()) > 0
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT
    assert output.endswith("Disconnected(reason='closed', graceful=True)\n")
    assert errors.endswith("KeyboardInterrupt\n")
