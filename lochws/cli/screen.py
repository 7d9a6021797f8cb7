"""Lines above a prompt, shown from any thread, in color and in order."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from datetime import datetime
from typing import TypeAlias

from prompt_toolkit.application import Application, get_app_session
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style

from ..text import cut, escaped_block
from .highlight import JSON_COLORS, highlighted
from .words import COLORS, MAX_SHOWN, Words, of_record

#: The maximum number of lines waiting to be shown; beyond it, the server is slowed down.
MAX_LINES = 500

#: The styles, by kind of line and by part of JSON.
STYLE = Style.from_dict({
    "time": "ansibrightblack", "prompt": "bold",
    **{kind: f"ansi{color.replace('_', '')}" for kind, color in COLORS.items()},
    **{
        part: f"{f'ansi{color}' if color else ''} {'bold' if is_bold else ''}".strip()
        for part, (color, is_bold) in JSON_COLORS.items()
    },
})
#: The depths of color for ``--color``: None leaves the choice to prompt_toolkit, which knows NO_COLOR.
DEPTHS = {None: None, True: ColorDepth.DEPTH_4_BIT, False: ColorDepth.DEPTH_1_BIT}

#: One line: pairs of a style and a text.
Line: TypeAlias = "list[tuple[str, str]]"


class Screen:
    """Shows lines above the prompt, from any thread; at most `MAX_LINES` of them wait.

    While there is no prompt, the calling thread writes its line itself.

    Args:
        depth: the depth of color; None for the terminal's own.
        timestamps: whether lines begin with the time, to the millisecond; None for times to the second.
    """

    def __init__(self, depth: ColorDepth | None = None, *, timestamps: bool | None = None) -> None:
        self._depth = depth
        self._time = {None: "%H:%M:%S ", True: "%H:%M:%S.%f", False: ""}[timestamps]
        self._changed = threading.Condition(threading.RLock())
        # The following attributes are guarded by _changed.
        self._lines: deque[Line] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None  # the prompt's, while there is one
        self._owner: int | None = None  # the prompt's thread
        self._prompt: Application[str] | None = None  # used on that thread only
        self._is_due = False  # the loop has been asked to show the waiting lines

    def show(self, words: Words) -> None:
        """Show words of one or more lines; control characters in them are escaped.

        Waits for room, except on the prompt's own thread.
        """
        lines = self._lines_of(words)
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

    def _lines_of(self, words: Words) -> list[Line]:
        style = f"class:{words.kind}"
        now = datetime.now().astimezone().strftime(self._time)
        if self._time.endswith("f"):
            now = f"{now[:-3]} "  # without microseconds
        text = escaped_block(cut(words.text, MAX_SHOWN))
        parts = highlighted(text) if words.kind == "text" else []
        lines: list[Line] = [[("class:time", now), (style, f"{words.mark} ")]]
        for part, piece in parts or [("", text)]:
            first, *others = piece.split("\n")
            lines[-1].append((f"class:{part}" if part else "" if parts else style, first))
            lines += [[(style, " " * (len(now) + 2) + other)] for other in others]
        return lines

    def _write(self) -> None:
        with self._changed:
            lines, self._lines = list(self._lines), deque()
            self._is_due = False
            self._changed.notify_all()
        if not lines:
            return
        prompt = self._prompt if self._prompt is not None and self._prompt.is_running else None
        # run_in_terminal() would set a mode in which the terminal echoes keys typed meanwhile.
        # print_formatted_text() of prompt_toolkit.shortcuts calls it; that of prompt_toolkit.renderer does
        # not.
        if prompt is not None:
            prompt.renderer.erase()
        whole = [part for line in lines for part in (*line, ("", "\n"))]
        print_formatted_text(get_app_session().output, FormattedText(whole), STYLE, color_depth=self._depth)
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
        self._screen.show(of_record(record))
