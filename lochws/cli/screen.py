"""Lines above a prompt, shown from any thread, in color and in order."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from datetime import datetime
from typing import TypeAlias

from prompt_toolkit import print_formatted_text
from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.styles import Style

from ..text import cut, escaped_block

#: The maximum number of lines waiting to be shown; beyond it, the server is slowed down.
MAX_LINES = 500
#: The number of characters shown of a message.
MAX_SHOWN = 20_000

#: The colors, by kind of line.
STYLE = Style.from_dict({
    "time": "ansibrightblack", "sent": "ansicyan", "text": "ansigreen", "binary": "ansimagenta",
    "pong": "ansibrightblack", "info": "ansiblue", "warning": "ansiyellow", "error": "ansired bold",
    "prompt": "bold",
})

#: One line: pairs of a style and a text.
Line: TypeAlias = "list[tuple[str, str]]"


class Screen:
    """Shows lines above the prompt, from any thread; at most `MAX_LINES` of them wait.

    While there is no prompt, the calling thread writes its line itself.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        # The following attributes are guarded by _changed.
        self._lines: deque[Line] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None  # the prompt's, while there is one
        self._owner: int | None = None  # the prompt's thread
        self._prompt: Application[str] | None = None  # used on that thread only
        self._is_due = False  # the loop has been asked to show the waiting lines

    def show(self, style: str, mark: str, text: str) -> None:
        """Show a text of one or more lines. Waits for room, except on the prompt's own thread.

        Args:
            style: a key of `STYLE`.
            mark: one character to show before the text.
            text: the text; control characters are escaped.
        """
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        first, *others = escaped_block(cut(text, MAX_SHOWN)).splitlines() or [""]
        lines: list[Line] = [[("class:time", f"{now} "), (f"class:{style}", f"{mark} {first}")]]
        lines += [[(f"class:{style}", f"{'':11}{other}")] for other in others]
        with self._changed:
            if threading.get_ident() != self._owner:
                self._changed.wait_for(lambda: self._loop is None or len(self._lines) < MAX_LINES)
            self._lines.extend(lines)
            if self._loop is None:
                self._write()
            elif not self._is_due:
                self._is_due = True
                self._loop.call_soon_threadsafe(self._write)

    def open(self, prompt: Application[str]) -> None:
        """Start showing lines above a prompt, whose loop runs in this thread."""
        with self._changed:
            self._prompt = prompt
            self._loop, self._owner = asyncio.get_running_loop(), threading.get_ident()

    def close(self) -> None:
        """Stop showing lines above the prompt. For the prompt's thread."""
        with self._changed:
            self._loop = self._owner = self._prompt = None
            self._write()

    def _write(self) -> None:
        with self._changed:
            lines, self._lines = list(self._lines), deque()
            self._is_due = False
            self._changed.notify_all()
        if not lines:
            return
        prompt = self._prompt if self._prompt is not None and self._prompt.is_running else None
        if prompt is not None:
            # Not run_in_terminal(), which sets a mode in which the terminal echoes keys typed meanwhile.
            prompt.renderer.erase()
        whole = [part for line in lines for part in (*line, ("", "\n"))]
        print_formatted_text(FormattedText(whole), style=STYLE, end="")
        if prompt is not None:
            prompt.renderer.reset()
            prompt.invalidate()


class LogOnScreen(logging.Handler):
    """Shows log records on a screen.

    Args:
        screen: the screen.
        level: the lowest level to show.
    """

    def __init__(self, screen: Screen, level: int) -> None:
        super().__init__(level)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, in the color of its level."""
        style = {"WARNING": "warning", "ERROR": "error", "CRITICAL": "error"}.get(record.levelname, "info")
        self._screen.show(style, "*", record.getMessage())
