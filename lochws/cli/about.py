"""The text of `lochws --version`: the version, and other facts for bug reports."""

from __future__ import annotations

import platform
import ssl
import sys

from .. import __version__
from ..system.compiled import parts_in_use


def version_text() -> str:
    """Return the versions of lochws, Python and OpenSSL, and whether the compiled parts are in use."""
    parts = parts_in_use()
    missing = [part for part, is_used in parts.items() if not is_used]
    kind = "pure Python" if len(missing) == len(parts) else ", not ".join(("compiled", *missing))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    gil = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else " without a GIL"
    return f"lochws {__version__} ({kind}), {python}{gil}, {ssl.OPENSSL_VERSION}"
