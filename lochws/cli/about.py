"""What `lochws --version` prints: the version, and what matters in a bug report."""

from __future__ import annotations

import platform
import ssl

from .. import __version__
from ..system.compiled import parts_in_use


def version_text() -> str:
    """Return the versions of lochws, Python and OpenSSL, and whether the compiled parts are in use."""
    parts = parts_in_use()
    kind = "compiled" if all(parts.values()) else "pure Python"
    if kind != "compiled" and any(parts.values()):
        kind = f"compiled: {', '.join(name for name, is_used in parts.items() if is_used)}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"lochws {__version__} ({kind}), {python}, {ssl.OPENSSL_VERSION}"
