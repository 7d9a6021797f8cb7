"""Paths of messages through lochws: files and functions.

Counted as the calls of functions in lochws/ on the thread that does the work, in the steady state: the
connection is open, nothing waits, and one message follows the other with a pause in between.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest

import lochws
from lochws import events
from lochws.system.compiled import parts_in_use

from .support.apps import echo, opened
from .support.peer import StartPeer
from .support.seen import PATIENCE

PACKAGE = Path(lochws.__file__).parent

pytestmark = pytest.mark.skipif(
    not all(parts_in_use().values()), reason="the Python twins are functions of their own"
)


class Trail(NamedTuple):
    """The calls that were made, in order, as file and function."""

    calls: list[tuple[str, str]]

    @property
    def files(self) -> set[str]:
        return {file for file, _ in self.calls}

    @property
    def functions(self) -> set[tuple[str, str]]:
        return set(self.calls)

    def __str__(self) -> str:
        lines = [f"{len(self.files)} files, {len(self.functions)} functions"]
        return "\n".join([*lines, *(f"  {file} {function}" for file, function in self.calls)])


class Tracer:
    """Notes the calls of functions in lochws/ on the thread that begins it, until that thread ends it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def begin(self) -> None:
        sys.setprofile(self._note)

    def end(self) -> Trail:
        sys.setprofile(None)
        calls, self.calls = self.calls, []
        return Trail(calls)

    def _note(self, frame: FrameType, event: str, _arg: object) -> None:
        if event == "call":
            file = Path(frame.f_code.co_filename)
            if file.is_relative_to(PACKAGE) and file.name != "locks.py":  # from Python 3.14 on, a `with lock`
                self.calls.append((file.relative_to(PACKAGE).as_posix(), frame.f_code.co_qualname
                                   if sys.version_info >= (3, 11) else frame.f_code.co_name))


class Receiving(lochws.WebSocketApp):
    """Traces the reader from one message's handler to the next one's."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.handled = threading.Event()
        self.paths: list[Trail] = []
        self.tracer = Tracer()

    def on_text(self, event: events.Text) -> None:
        self.paths.append(self.tracer.end())
        self.handled.set()
        self.tracer.begin()


def shortest(paths: list[Trail]) -> Trail:
    """The path of a message without any other work, such as that of a timer."""
    return min(paths, key=lambda path: len(path.calls))


def test_a_received_text_runs_through_few_files_and_functions(start_peer: StartPeer) -> None:
    with opened(Receiving(start_peer(echo).url)) as app:
        for _ in range(20):
            app.handled.clear()
            app.send_text("a message")
            assert app.handled.wait(PATIENCE)
    path = shortest(app.paths[5:])
    assert len(path.files) <= 1, str(path)
    assert len(path.functions) <= 1, str(path)


def test_a_lone_sent_text_runs_through_few_files_and_functions(start_peer: StartPeer) -> None:
    tracer = Tracer()
    paths = []
    with opened(Receiving(start_peer(echo).url)) as app:
        for _ in range(20):
            app.handled.clear()
            tracer.begin()
            app.send_text("a message")
            paths.append(tracer.end())
            assert app.handled.wait(PATIENCE)
    path = shortest([path for path in paths[5:] if path.calls])
    assert len(path.files) <= 1, str(path)
    assert len(path.functions) <= 1, str(path)
