"""Names of the standard library that programs import from `websocket._ssl_compat`."""

from __future__ import annotations

import ssl
from ssl import SSLEOFError, SSLError, SSLWantReadError, SSLWantWriteError

__all__ = ["HAVE_SSL", "SSLEOFError", "SSLError", "SSLWantReadError", "SSLWantWriteError", "ssl"]

HAVE_SSL = True
