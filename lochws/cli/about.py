"""The text of `lochws --version`: the version, and other facts for bug reports."""

from __future__ import annotations

import platform
import ssl

from .. import __version__, compiled


def version_text() -> str:
    """Return the versions of lochws, Python and OpenSSL, and whether the compiled parts are in use."""
    kind = "compiled" if compiled else "pure Python"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"lochws {__version__} ({kind}), {python}, {ssl.OPENSSL_VERSION}"
