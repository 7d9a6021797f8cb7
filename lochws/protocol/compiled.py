"""Access to the compiled twins of the hot path: parsing and building frames, and large payloads."""

from __future__ import annotations

from types import ModuleType
from typing import TypeVar

from lochws.events import Binary, Text, _EncodedText

from ..system.compiled import choose, load

_Twin = TypeVar("_Twin")


def _load() -> ModuleType | None:
    module = load("protocol")
    if module is not None:
        module.configure(Text, _EncodedText, Binary)
    return module


#: The module of compiled twins, used or not; None where it was not built.
twins = _load()


def compiled_or(name: str, python_twin: _Twin) -> _Twin:
    """Return the compiled twin of that name, or the one in Python where it was not built or is not wanted."""
    return choose(twins, name, python_twin)
