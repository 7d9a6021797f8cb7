"""The command `lochws` in a process of its own: with pipes, or in a terminal whose screen can be read."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyte

import lochws

from ..support.seen import PATIENCE

#: What a command line begins with.
COMMAND = (sys.executable, "-m", "lochws")


def environment(**more: str) -> dict[str, str]:
    """This process's, with the package that is tested, and what `more` says."""
    return {**os.environ, "PYTHONPATH": str(Path(lochws.__file__).parent.parent), **more}


class Ended(NamedTuple):
    """What a command came to."""

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


class Screen:
    """A command in a terminal of its own, which somebody types in and looks at.

    Args:
        words: what comes behind ``lochws``.
        size: columns and lines.
        env: more environment variables.
    """

    def __init__(self, *words: str, size: tuple[int, int] = (100, 30), **env: str) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        self._changed = threading.Condition()
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=environment(TERM="xterm-256color", PROMPT_TOOLKIT_NO_CPR="1", **env),
        )
        os.close(theirs)
        self._ours = ours
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._ours)

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without the blank lines at its end."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds of what is on the screen."""
        with self._changed:
            assert self._changed.wait_for(condition, 2 * PATIENCE), "\n".join(self.lines)

    def wait_for(self, text: str) -> None:
        """Wait until a text is on the screen."""
        self.wait_until(lambda: text in "\n".join(self.lines))

    def colour_of(self, text: str) -> str:
        """The colour of the first character of a text on the screen."""
        for row, line in enumerate(self.screen.display):
            if text in line:
                return self.screen.buffer[row][line.index(text)].fg
        raise AssertionError(f"{text!r} is not on the screen")

    def end(self) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(2 * PATIENCE)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # the other end is closed: that is how a terminal ends
                data = b""
            with self._changed:
                self._stream.feed(data)
                self._changed.notify_all()
            if not data:
                return
