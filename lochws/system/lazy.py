"""Lazy imports: names of a package that are imported when first used, and imports inside functions.

Signal handlers, finalizers and trace functions run in the middle of anything, an import included, and they
may call any public method. Python's import lock is reentrant, so such a call may find a half-executed module,
which its own thread is still importing. Therefore `ensure_whole` is called before each import of one of
lochws's modules inside a function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import FrameType
from typing import Any

_INSIDE = f"{__name__.partition('.')[0]}."


def attributes_of(
    package: str, modules: Mapping[str, str], **computed: Callable[[], Any]
) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package (PEP 562) that imports some of its names on first use.

    Args:
        package: the name of the package.
        modules: the module of the package that defines each name, by that name.
        **computed: for each other name, a function that returns its value. It is called at each access.
    """
    def get(name: str) -> Any:
        if name in computed:
            return computed[name]()
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = f"{package}.{modules[name]}"
        ensure_whole(module)
        __import__(module)
        value = getattr(sys.modules[module], name)
        setattr(sys.modules[package], name, value)
        return value

    return get


def ensure_whole(module: str) -> None:
    """Prepare the import of a module that the calling thread may be importing already.

    The modules whose imports this call interrupts are imported once more if they are needed. When the
    interrupted imports continue, Python drops their modules in favor of the new ones.

    Args:
        module: the full name of the module, one of lochws.
    """
    if module in sys.modules and not _is_half(module):
        return
    names, is_repeating = _under_way()
    halves = [name for name in names if name.startswith(_INSIDE) and _is_half(name)]
    if module in halves:
        _repeat(halves[:halves.index(module) + 1])
        return
    for half in () if is_repeating else halves:
        try:
            import_module(module)
        except (ImportError, AttributeError):  # perhaps because that module is not whole
            _repeat([half])
        else:
            return


def _repeat(halves: list[str]) -> None:
    """Import modules again whose import has begun but has not ended."""
    before = {name: sys.modules.pop(name) for name in halves}
    try:
        for name in halves:
            import_module(name)
    finally:
        for name, half in before.items():
            sys.modules.setdefault(name, half)  # the interrupted import needs one


def _is_half(module: str) -> bool:
    """Return whether the import of a module has begun but has not ended."""
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def _under_way() -> tuple[list[str], bool]:
    """Return the names of the modules that the calling thread is importing, and whether it repeats an import.

    The import that began last is the first one.
    """
    names, is_repeating = [], False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "_find_and_load":  # of importlib
            names.append(str(frame.f_locals.get("name")))
        is_repeating = is_repeating or frame.f_code is _repeat.__code__
        frame = frame.f_back
    return list(dict.fromkeys(names)), is_repeating
