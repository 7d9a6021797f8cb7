"""A drop-in for websocket-client: its interface, on connections of lochws.

::

    import lochws.compat.websocket

    lochws.compat.websocket.install()       # before anything imports websocket

    import slack_sdk.socket_mode.websocket_client

Programs and packages that import `websocket` then use lochws. Names, arguments, defaults, return values,
exceptions and the order of callbacks are those of websocket-client 1.9. Arguments that cannot be supported
raise NotImplementedError when they are passed, and the message says what to do instead.
"""

from . import _http, _ssl_compat, _url, _utils  # noqa: F401  programs reach them as attributes
from ._abnf import (
    ABNF,
    STATUS_ABNORMAL_CLOSED,
    STATUS_BAD_GATEWAY,
    STATUS_GOING_AWAY,
    STATUS_INVALID_EXTENSION,
    STATUS_INVALID_PAYLOAD,
    STATUS_MESSAGE_TOO_BIG,
    STATUS_NORMAL,
    STATUS_POLICY_VIOLATION,
    STATUS_PROTOCOL_ERROR,
    STATUS_SERVICE_RESTART,
    STATUS_STATUS_NOT_AVAILABLE,
    STATUS_TLS_HANDSHAKE_ERROR,
    STATUS_TRY_AGAIN_LATER,
    STATUS_UNEXPECTED_CONDITION,
    STATUS_UNSUPPORTED_DATA_TYPE,
)
from ._app import WebSocketApp, set_reconnect
from ._core import WebSocket, create_connection
from ._exceptions import (
    WebSocketAddressException,
    WebSocketBadStatusException,
    WebSocketConnectionClosedException,
    WebSocketException,
    WebSocketPayloadException,
    WebSocketProtocolException,
    WebSocketProxyException,
    WebSocketTimeoutException,
)
from ._install import install
from ._logging import (
    debug,
    dump,
    enableTrace,
    error,
    isEnabledForDebug,
    isEnabledForError,
    isEnabledForTrace,
    trace,
    warning,
)
from ._socket import DEFAULT_SOCKET_OPTION, getdefaulttimeout, setdefaulttimeout

#: The version of websocket-client whose interface this is; some packages look at it.
__version__ = "1.9.2"

__all__ = [
    "ABNF",
    "DEFAULT_SOCKET_OPTION",
    "STATUS_ABNORMAL_CLOSED",
    "STATUS_BAD_GATEWAY",
    "STATUS_GOING_AWAY",
    "STATUS_INVALID_EXTENSION",
    "STATUS_INVALID_PAYLOAD",
    "STATUS_MESSAGE_TOO_BIG",
    "STATUS_NORMAL",
    "STATUS_POLICY_VIOLATION",
    "STATUS_PROTOCOL_ERROR",
    "STATUS_SERVICE_RESTART",
    "STATUS_STATUS_NOT_AVAILABLE",
    "STATUS_TLS_HANDSHAKE_ERROR",
    "STATUS_TRY_AGAIN_LATER",
    "STATUS_UNEXPECTED_CONDITION",
    "STATUS_UNSUPPORTED_DATA_TYPE",
    "WebSocket",
    "WebSocketAddressException",
    "WebSocketApp",
    "WebSocketBadStatusException",
    "WebSocketConnectionClosedException",
    "WebSocketException",
    "WebSocketPayloadException",
    "WebSocketProtocolException",
    "WebSocketProxyException",
    "WebSocketTimeoutException",
    "__version__",
    "create_connection",
    "debug",
    "dump",
    "enableTrace",
    "error",
    "getdefaulttimeout",
    "install",
    "isEnabledForDebug",
    "isEnabledForError",
    "isEnabledForTrace",
    "set_reconnect",
    "setdefaulttimeout",
    "trace",
    "warning",
]
