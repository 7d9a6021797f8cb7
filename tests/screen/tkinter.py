"""As much of tkinter as the page on GUI programs uses, for machines without a screen.

It writes what a window would show. The window is closed by its user once it has shown a price.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

WM_DELETE_WINDOW = "WM_DELETE_WINDOW"


class Tk:
    """A window whose thread runs what was left for it, when it is due."""

    def __init__(self) -> None:
        self._due: list[tuple[float, Callable[[], object]]] = []
        self._closes: Callable[[], object] = self.destroy
        self._is_open = True

    def title(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")

    def protocol(self, name: str, function: Callable[[], object]) -> None:
        assert name == WM_DELETE_WINDOW
        self._closes = function

    def after(self, milliseconds: int, function: Callable[[], object]) -> None:
        self._due.append((time.monotonic() + milliseconds / 1000, function))

    def destroy(self) -> None:
        self._is_open = False

    def mainloop(self) -> None:
        while self._is_open:
            when, function = self._due.pop(0)
            time.sleep(max(0.0, when - time.monotonic()))
            function()
            if Label.shown[:1].isdigit():
                self._closes()


class Label:
    """A text in a window."""

    shown = ""

    def __init__(self, master: Tk, text: str, font: tuple[str, int]) -> None:
        assert isinstance(master, Tk)
        self["text"] = text

    def pack(self, padx: int, pady: int) -> None:
        assert padx + pady > 0

    def __setitem__(self, name: str, value: str) -> None:
        assert name == "text"
        Label.shown = value
        sys.stdout.write(f"{value}\n")
