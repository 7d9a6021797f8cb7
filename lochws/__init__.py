"""A threaded, callback-driven WebSocket client: the public names."""

from . import errors, events
from .app import WebSocketApp
from .handlers.naming import on
from .options import Deflate
from .persist import Backoff
from .state import State
from .status import Status
from .threads import Threads
from .traffic import Counters
from .version import __version__
from .websocket import WebSocket

__all__ = [
    "Backoff",
    "Counters",
    "Deflate",
    "State",
    "Status",
    "Threads",
    "WebSocket",
    "WebSocketApp",
    "__version__",
    "errors",
    "events",
    "on",
]
