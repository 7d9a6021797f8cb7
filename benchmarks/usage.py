"""Current usage of this process: memory and descriptors."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

_STATM = Path("/proc/self/statm")
_DESCRIPTORS = Path("/proc/self/fd")


def memory() -> float:
    """Return resident memory in MiB, or its maximum so far where the system does not tell."""
    if _STATM.exists():
        return int(_STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def descriptors() -> int:
    """Return the number of open descriptors, or -1 where the system does not tell."""
    return len(os.listdir(_DESCRIPTORS)) if _DESCRIPTORS.exists() else -1
