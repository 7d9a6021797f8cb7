"""A threaded, callback-driven WebSocket client.

`WebSocketApp` runs in its own threads, calls your handlers and reconnects automatically. `WebSocket` is
iterated and starts no threads. ``lochws.compiled`` is True if all compiled parts are in use, and False if
Python code replaces any of them.
"""

import typing as _typing

from . import errors, events
from .app import WebSocketApp
from .codec import Codec
from .connection.receipts import Receipt, ReceiptState
from .counters import Counters
from .dispatch.naming import not_a_handler, on
from .dispatch.routes import route
from .engine.threads import Threads
from .life.state import State
from .options import Deflate, Rate
from .persist import Backoff
from .status import Status
from .system.compiled import are_all_in_use as _are_all_in_use
from .system.lazy import attributes_of as _attributes_of
from .transport.stream import TLS
from .version import __version__
from .websocket import WebSocket

if _typing.TYPE_CHECKING:
    from .conversation import connect
    from .engine.governor import Governor
    from .feed import Feed

    compiled: bool
    """Whether the compiled parts are built and in use; they do the same as their Python twins, but faster."""
else:
    # Imported when first used: most programs need only a connection. `compiled` imports the compiled parts.
    __getattr__ = _attributes_of(
        __name__, {"Feed": "feed", "Governor": "engine.governor", "connect": "conversation"},
        compiled=_are_all_in_use,
    )

__all__ = [
    "Backoff",
    "Codec",
    "Counters",
    "Deflate",
    "Feed",
    "Governor",
    "Rate",
    "Receipt",
    "ReceiptState",
    "State",
    "Status",
    "TLS",
    "Threads",
    "WebSocket",
    "WebSocketApp",
    "__version__",
    "compiled",
    "connect",
    "errors",
    "events",
    "not_a_handler",
    "on",
    "route",
]

# `dir(lochws)` shows what users import: these names, and the modules that are loaded already.
__dir__ = [
    *__all__, "__doc__", "__file__", "__name__", "__path__", "app", "clock", "options", "persist", "response",
    "sent", "status", "websocket",
].copy
