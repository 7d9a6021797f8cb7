"""The command `lochws` in a process of its own: with pipes, or in a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import lochws

from ..support.seen import PATIENCE
from ..support.terminal import Terminal

#: The beginning of every command line.
COMMAND = (sys.executable, "-m", "lochws")


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment, with the package under test on the path, and more variables."""
    return {**os.environ, "PYTHONPATH": str(Path(lochws.__file__).parent.parent), **more}


class Ended(NamedTuple):
    """The result of a command."""

    code: int
    output: str
    errors: str


def run(*words: str, text: str = "", timeout: float = 3 * PATIENCE, **options: Any) -> Ended:
    """Run a command to its end, with a text as its input."""
    done = subprocess.run(
        [*COMMAND, *words], input=text, capture_output=True, text=True, timeout=timeout, encoding="utf-8",
        env=environment(**options.pop("env", {})), check=False, **options,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def in_terminal(*words: str, size: tuple[int, int] = (100, 30), **env: str) -> Terminal:
    """Start a command in a terminal.

    Args:
        words: the words after ``lochws``.
        size: columns and lines.
        env: more environment variables.
    """
    return Terminal([*COMMAND, *words], environment(PROMPT_TOOLKIT_NO_CPR="1", **env), size)
