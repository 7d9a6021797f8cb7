"""Lazy names: names of a package whose modules are imported when the names are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any


def attributes_of(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package (PEP 562) that imports some of its names on first use.

    Args:
        package: the name of the package.
        modules: the module of the package that defines each name, by that name.
    """
    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = f"{package}.{modules[name]}"
        __import__(module)
        value = getattr(sys.modules[module], name)
        setattr(sys.modules[package], name, value)
        return value

    return get
