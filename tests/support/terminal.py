"""Programs in a terminal: what its screen shows, as who sits before it sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyte

from .seen import PATIENCE


class Terminal:
    """A program that runs in a terminal of its own. Made by `terminal`.

    Attributes:
        process: the program.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], columns: int, lines: int
    ) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = threading.Condition()  # its lock guards the screen
        self._is_over = False
        self._ours, theirs = pty.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            self.process = subprocess.Popen(
                command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
                env={**environment, "TERM": "xterm-256color"},
            )
        finally:
            os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # nobody has the other side any more
                break
            with self._changed:
                self._stream.feed(data)
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """What the screen shows."""
        with self._changed:
            return self._text()

    def _text(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until a regular expression is found on the screen."""
        found: list[re.Match[str]] = []

        def shows() -> bool:
            if match := re.search(pattern, self._text()):
                found.append(match)
            return bool(found) or self._is_over

        with self._changed:
            self._changed.wait_for(shows, PATIENCE)
            assert found, f"no {pattern!r} on the screen:\n{self._text()}"
        return found[0]

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def end(self) -> int:
        """Wait until the program has ended; its status."""
        status = self.process.wait(PATIENCE)
        self._reader.join()
        return status

    def drop(self) -> None:
        """End the program for certain, and all that is held of it."""
        self.process.kill()
        self.end()
        os.close(self._ours)


@contextmanager
def terminal(
    command: Sequence[str], environment: Mapping[str, str], columns: int = 100, lines: int = 30
) -> Iterator[Terminal]:
    """Run a program in a terminal of that size; it ends with the block at the latest."""
    running = Terminal(command, environment, columns, lines)
    try:
        yield running
    finally:
        running.drop()
