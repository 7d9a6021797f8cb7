"""Programs in a terminal of their own, whose screen a test can read, and in which it can type."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyte

from .seen import PATIENCE

if TYPE_CHECKING:
    from typing_extensions import Self


class Terminal:
    """A program in a pseudo-terminal; a context manager that kills it at the end of the block.

    Args:
        command: its words.
        environment: its environment.
        size: columns and lines.

    Attributes:
        process: the program.
        screen: what pyte makes of its output.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], size: tuple[int, int] = (100, 30)
    ) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        self._changed = threading.Condition(threading.RLock())  # its lock guards the screen
        self._is_over = False
        self._ours, theirs = pty.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
            self.process = subprocess.Popen(
                command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
                env={**environment, "TERM": "xterm-256color"},
            )
        finally:
            os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._ours)

    @property
    def lines(self) -> list[str]:
        """The lines on the screen, without blank ones at its end."""
        return self.text.split("\n")

    @property
    def text(self) -> str:
        """The text on the screen, without blank lines at its end."""
        with self._changed:
            return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the screen holds; fail if the program ends before."""
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._is_over, 2 * PATIENCE)
            assert condition(), self.text

    def wait_for(self, text: str) -> None:
        """Wait until a text is on the screen."""
        self.wait_until(lambda: text in self.text)

    def wait_for_match(self, pattern: str) -> None:
        """Wait until a regular expression matches somewhere on the screen."""
        self.wait_until(lambda: re.search(pattern, self.text) is not None)

    def color_of(self, text: str) -> str:
        """Return the color of the first character of a text on the screen."""
        with self._changed:
            for row, line in enumerate(self.screen.display):
                if text in line:
                    return self.screen.buffer[row][line.index(text)].fg
        raise AssertionError(f"{text!r} is not on the screen")

    def end(self) -> int:
        """Wait until the program has ended and its output has been read; return the exit code."""
        code = self.process.wait(2 * PATIENCE)
        self._reader.join()
        return code

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # the other end is closed: this is how a pseudo-terminal ends
                data = b""
            with self._changed:
                self._stream.feed(data)
                self._is_over = not data
                self._changed.notify_all()
            if not data:
                return
