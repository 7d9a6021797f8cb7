"""Compiled parts: which of them exist, and whether this process uses them or their Python twins.

Everything compiled has a twin in Python that does the same work and passes the same tests. The twins in C are
used where they were built, unless the environment variable ``LOCHWS_PURE_PYTHON`` is ``1`` when lochws is
imported. This is the only module that reads it.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TypeVar

_Twin = TypeVar("_Twin")

_PACKAGE = __name__.rpartition(".")[0].rpartition(".")[0]

#: The compiled parts: what each does, the package that it is in, and the module's name.
_PARTS = {
    "protocol": ("protocol", "_compiled"),
    "inflating": ("protocol", "_inflating"),
    "system calls": ("system", "_calls"),
    "small messages": ("connection", "_small"),
    "TLS records": ("transport", "_records"),
}


def is_pure_python() -> bool:
    """Return whether the environment asks for the Python twins alone, our own and those of other packages."""
    return os.environ.get("LOCHWS_PURE_PYTHON") == "1"


def load(part: str) -> ModuleType | None:
    """Import a compiled part, wanted or not.

    Args:
        part: one of the names above.

    Returns:
        Its module, or None if it was not built for this interpreter.
    """
    folder, name = _PARTS[part]
    try:
        return import_module(f"{_PACKAGE}.{folder}.{name}")
    except ImportError:
        return None


def choose(part: ModuleType | None, name: str, python_twin: _Twin) -> _Twin:
    """Return the compiled twin of that name, or the one in Python if the part is missing or not wanted."""
    if part is None or is_pure_python():
        return python_twin
    compiled_twin: _Twin = getattr(part, name, python_twin)
    return compiled_twin


def parts_in_use() -> dict[str, bool]:
    """Return what can be compiled for this Python, and whether this process uses its compiled twin."""
    return {part: not is_pure_python() and load(part) is not None for part in _PARTS if _is_built_here(part)}


def are_all_in_use() -> bool:
    """Return whether parts can be compiled for this Python and all of them are in use."""
    parts = parts_in_use()
    return bool(parts) and all(parts.values())


def _is_built_here(part: str) -> bool:
    # As in setup.py. What relies on the GIL is not built for Pythons without one.
    if sys.implementation.name != "cpython":
        return False
    return part == "protocol" or (os.name == "posix" and "t" not in getattr(sys, "abiflags", ""))
