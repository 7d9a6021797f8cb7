"""Interruption of code at any point: by an exception, as of Ctrl-C, or by a call, as of a signal handler."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any

#: After these Python checks whether a signal has arrived.
_LOOKING = ("CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE", "RESUME")


class Interrupted(BaseException):
    """Raised in the place of KeyboardInterrupt."""


def _nothing() -> None:
    """Be traced."""


def trace_once() -> None:
    """Prepare Python for tracing opcodes: with 3.12.1 the first call in a process has no opcode events."""

    def trace(frame: FrameType, _event: str, _arg: object) -> Any:
        frame.f_trace_opcodes = True
        return trace

    sys.settrace(trace)
    _nothing()


def interrupt(action: Callable[[], object], point: int, files: Collection[str | None]) -> bool:
    """Run a function, and raise at a given point in the code of these files; return whether it got there."""
    try:
        return call_at(action, point, files, _raise)
    except Interrupted:
        return True


def _raise() -> None:
    raise Interrupted


def call_at(
    action: Callable[[], object], point: int, files: Collection[str | None], call: Callable[[], object]
) -> bool:
    """Run a function, and call another at a given point in the code of these files, as a signal handler.

    Returns whether it got there.
    """
    seen = 0
    before: dict[FrameType, str] = {}

    def look(frame: FrameType) -> None:
        nonlocal seen
        earlier = before.get(frame, "")
        before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if earlier.startswith(_LOOKING):
            seen += 1
            if seen == point:
                call()

    _traced(action, files, look)
    return seen >= point


def enter(
    action: Callable[[], object], point: int, files: Collection[str | None], nested: Callable[[], object]
) -> bool:
    """Run something and call `nested` at any bytecode of these files' code, the given one in order.

    Finalizers and trace functions run at such points, not only signal handlers. Returns whether it got there.
    """
    seen = 0

    def look(_frame: FrameType) -> None:
        nonlocal seen
        seen += 1
        if seen == point:
            trace = sys.gettrace()
            sys.settrace(None)
            nested()
            sys.settrace(trace)

    _traced(action, files, look)
    return seen >= point


def enter_everywhere(
    action: Callable[[], object], step: int, files: Collection[str | None], nested: Callable[[], object]
) -> int:
    """Run `action`, and call `nested` at every `step`-th bytecode of these files' code. Return how often."""
    count = seen = 0

    def look(_frame: FrameType) -> None:
        nonlocal count, seen
        seen += 1
        if seen % step == 0:
            count += 1
            nested()

    _traced(action, files, look)
    return count


def _traced(
    action: Callable[[], object], files: Collection[str | None], look: Callable[[FrameType], object]
) -> None:
    """Run `action`, and call `look` with the frame before each bytecode of these files' code."""

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            look(frame)
        return trace

    outer = sys.gettrace()
    trace_once()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(outer)
