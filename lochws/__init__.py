"""A threaded, callback-driven WebSocket client: the public names."""

from . import errors, events
from .app import WebSocketApp
from .dispatch.naming import on
from .engine.threads import Threads
from .life.counters import Counters
from .life.state import State
from .options import Deflate
from .persist import Backoff
from .status import Status
from .transport.stream import TLS
from .version import __version__
from .websocket import WebSocket

__all__ = [
    "Backoff",
    "Counters",
    "Deflate",
    "State",
    "Status",
    "TLS",
    "Threads",
    "WebSocket",
    "WebSocketApp",
    "__version__",
    "errors",
    "events",
    "on",
]
