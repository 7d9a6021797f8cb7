"""examples/bidi.py: Debian's Firefox, controlled through lochws."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .png import decode
from .running import load, run

pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("firefox") or shutil.which("firefox-esr")), reason="Firefox is not installed"
    ),
    pytest.mark.timeout(180),  # its first start takes some seconds, and much longer on a busy machine
]

TEAL = (0, 128, 128)


@pytest.fixture
def profiles() -> Iterator[str]:
    """A folder for profiles."""
    with tempfile.TemporaryDirectory() as path:
        yield path


def test_the_program_opens_a_page_takes_a_screenshot_and_leaves_nothing_behind(
    tmp_path: Path, profiles: str
) -> None:
    picture = tmp_path / "page.png"
    page = "data:text/html,<title>Hi</title><body style='background:teal'><script>console.log('so')</script>"
    environment = {"TMPDIR": profiles, "HOME": profiles}
    process = run("bidi.py", page, str(picture), environment=environment, timeout=170)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == ["console: so", "title: Hi"]
    screen = decode(picture.read_bytes())
    assert screen.pixel(0, 0) == screen.pixel(screen.width - 1, screen.height - 1) == TEAL
    assert not [name for name in os.listdir(profiles) if name.startswith("bidi-")]


def test_a_refused_command_says_why() -> None:
    with load("bidi.py").firefox() as browser, pytest.raises(RuntimeError, match="no such frame"):
        browser.do("browsingContext.navigate", context="none", url="about:blank", wait="complete")
