"""The programs in the README and its pages run as they stand there, its commands and links are right.

The programs connect to wss://feed.example.org, which does not exist: here that is the demo server. One
that runs until Ctrl-C says so in a comment, and gets it once it has shown something.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lochws.demo import DemoServer

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
FEED = "wss://feed.example.org"
FOREVER = "until Ctrl-C"


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def programs() -> Iterator[object]:
    for page in PAGES:
        for number, program in enumerate(blocks(page, "python"), 1):
            yield pytest.param(program, id=f"{page}-{number}")


@pytest.fixture
def feed() -> Iterator[str]:
    """The URL that stands for the one in the README."""
    with DemoServer(interval=0.05) as server:
        yield server.url


def start(program: str, feed: str, folder: Path) -> subprocess.Popen[str]:
    assert FEED in program
    return subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-c", program.replace(FEED, feed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder,  # some write files
    )


@pytest.mark.parametrize("program", [case for case in programs() if FOREVER not in case.values[0]])
def test_a_program_that_ends_by_itself_runs(program: str, feed: str, tmp_path: Path) -> None:
    with start(program, feed, tmp_path) as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert not errors


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
@pytest.mark.parametrize("program", [case for case in programs() if FOREVER in case.values[0]])
def test_a_program_that_runs_until_ctrl_c_does_so(program: str, feed: str, tmp_path: Path) -> None:
    with start(program, feed, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT, errors
    assert "\nKeyboardInterrupt\n" in errors


def test_the_first_two_commands_are_the_demo_and_the_tests() -> None:
    demo, tests, *_ = blocks("README.md", "sh")
    assert demo.strip().endswith("python -m lochws demo")
    assert tests.strip().endswith("python -m pytest")


@pytest.mark.parametrize("page", PAGES)
def test_links_inside_the_project_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text):
        assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}, which does not exist"


def test_the_page_on_architecture_names_every_module() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    missing = [path.stem for path in (ROOT / "lochws").rglob("*.py") if path.stem not in text]
    assert not missing
