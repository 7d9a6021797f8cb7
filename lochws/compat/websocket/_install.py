"""The function that makes `import websocket` find this package."""

from __future__ import annotations

import sys

_PACKAGE = __name__.rpartition(".")[0]


def install() -> None:
    """Make `import websocket` find this package, for the whole process.

    Call it at the start of the program, before any module imports `websocket`: names that were imported from
    the original earlier would keep using it. Repeated calls have no effect. websocket-client may be
    installed or not; distributions that require it keep working either way, since only the import is
    replaced.

    Raises:
        RuntimeError: another module named `websocket` has been imported already.
    """
    ours = sys.modules[_PACKAGE]
    present = sys.modules.get("websocket")
    if present is ours:
        return
    loaded = sorted(name for name in sys.modules if name == "websocket" or name.startswith("websocket."))
    if loaded:
        where = getattr(present, "__file__", None) or "an unknown place"
        raise RuntimeError(
            f"install(): {loaded[0]!r} has already been imported, from {where}; call install() at the start "
            "of the program, before any import of websocket or of a package that uses it"
        )
    for name, module in list(sys.modules.items()):
        if name == _PACKAGE or name.startswith(f"{_PACKAGE}."):
            sys.modules["websocket" + name.removeprefix(_PACKAGE)] = module
