"""The standard streams at the end of a command, whose readers may be gone."""

from __future__ import annotations

import os
import sys

#: The exit code of a program whose output has no reader: as shells report it, 128 plus the number of SIGPIPE.
NO_READER = 141


def flushed(code: int) -> int:
    """Flush stdout, since Python reports a failure at exit. Return the code, or `NO_READER`."""
    if sys.stdout is None:  # it was closed when the program started
        return code
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return code or NO_READER
    return code
