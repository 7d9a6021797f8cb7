"""Stacks of threads, for error messages about threads that do not end."""

from __future__ import annotations

import sys
import threading
import traceback


def stacks(*prefixes: str) -> str:
    """Return the formatted stacks of the threads whose names start with one of these prefixes."""
    frames = sys._current_frames()
    found = [
        f"{thread.name}:\n{''.join(traceback.format_stack(frames[thread.ident])).rstrip()}"
        for thread in threading.enumerate()
        if thread.name.startswith(prefixes) and thread.ident in frames
    ]
    return "\n".join(found) or "(no such thread is running)"
