"""JSON-RPC 2.0 over one connection: calls both ways, notifications, errors.

::

    rpc = JsonRpc(app)

    @rpc.method("progress")
    def progress(done: int, of: int) -> None: ...

    app.start()
    app.wait_ready()
    print(rpc.call("add", 1, 2, timeout=5).result())

The names and numbers are those of https://www.jsonrpc.org/specification.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from .. import WebSocketApp
from ..errors import TransportFail, WebSocketError, WebSocketUnavailable
from .replies import Replies, Reply

logger = logging.getLogger("lochws")

INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

_Function = TypeVar("_Function", bound=Callable[..., Any])


class RpcError(WebSocketError):
    """An error object (section 5.1): what the other side answers, or what a method of ours raises to answer.

    Attributes:
        code: the number; those from -32768 to -32000 are the specification's.
        message: one sentence.
        data: whatever else is to be said, or None.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.data = data


class JsonRpc(Replies):
    """A JSON-RPC 2.0 client and server on one connection. Registers itself with the app.

    Methods of ours run on the reader's thread, as handlers do, and may not wait for replies; give what takes
    long to a thread of your own, or the whole handler to `lochws.handlers.worker`.

    Args:
        app: the app whose connection is used.
    """

    def __init__(self, app: WebSocketApp) -> None:
        super().__init__(app, "id", unwrap=_result)
        self._methods: dict[str, Callable[..., Any]] = {}

    def call(self, method: str, /, *params: Any, timeout: float | None = 30.0, **named: Any) -> Reply:
        """Call a method of the other side. `request` sends what this cannot say.

        Args:
            method: its name.
            params: by position, or else by name; one called ``timeout`` needs `request`.
            timeout: seconds until the reply fails, or None for no limit.

        Returns:
            The reply, whose result is what the method returned; it fails with `RpcError` if that is what the
            other side answers.

        Raises:
            ValueError: parameters by position and by name.
            TypeError, WebSocketUnavailable, QueueFull, TransportFail: as for `request`.
        """
        return self.request(_message(method, params, named), timeout)

    def notify(self, method: str, /, *params: Any, **named: Any) -> None:
        """Call a method of the other side that answers nothing. Raises as `call`."""
        self._app.send_json(_message(method, params, named))

    def method(self, name: str) -> Callable[[_Function], _Function]:
        """Decorator: let the other side call a function by this name.

        What it returns is answered, and so is the `RpcError` that it raises. Any other exception is logged,
        and answered as an internal error without a detail.

        Raises:
            ValueError: the name is taken, or begins with ``rpc.``, which the specification keeps to itself.
        """
        if name in self._methods or name.startswith("rpc."):
            raise ValueError(f"method {name!r}: there is one already, or it begins with 'rpc.'")

        def add(function: _Function) -> _Function:
            self._methods[name] = function
            return function

        return add

    def _received(self, message: Any) -> None:
        if isinstance(message, list):  # a batch (section 6)
            answers = [answer for part in message if (answer := self._react(part)) is not None]
            if answers:
                self._send(answers)
        elif (answer := self._react(message)) is not None:
            self._send(answer)

    def _react(self, message: Any) -> dict[str, Any] | None:
        """Settle a reply or run a method. Returns the answer, if there is to be one."""
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            return None  # another protocol's, for other handlers
        if "method" not in message:
            super()._received(message)
            return None
        try:
            outcome = self._outcome(message)
            json.dumps(outcome)  # whether it can be told is the method's matter, too
        except Exception:
            logger.exception("unexpected error in the JSON-RPC method %r", message["method"])
            outcome = _error(INTERNAL_ERROR, "Internal error")
        return {"jsonrpc": "2.0", **outcome, "id": message["id"]} if "id" in message else None

    def _outcome(self, message: dict[str, Any]) -> dict[str, Any]:
        """Run a method. What it raises is the caller's, but for `RpcError`."""
        name, params = message["method"], message.get("params", [])
        if not isinstance(name, str) or not isinstance(params, (list, dict)):
            return _error(INVALID_REQUEST, "Invalid Request")
        function = self._methods.get(name)
        if function is None:
            return _error(METHOD_NOT_FOUND, "Method not found")
        positional, named = ([], params) if isinstance(params, dict) else (params, {})
        try:
            inspect.signature(function).bind(*positional, **named)
        except TypeError as error:
            return _error(INVALID_PARAMS, "Invalid params", str(error))
        try:
            return {"result": function(*positional, **named)}
        except RpcError as error:
            return _error(error.code, error.message, error.data)

    def _send(self, answer: dict[str, Any] | list[dict[str, Any]]) -> None:
        with suppress(WebSocketUnavailable, TransportFail):  # whoever asked has gone
            self._app.send_json(answer)


def _result(message: dict[str, Any]) -> Any:
    """What a response says (section 5): its result, or raises its error."""
    error = message.get("error")
    if error is None:
        return message.get("result")
    error = error if isinstance(error, Mapping) else {"data": error}
    code, said = error.get("code"), error.get("message")
    raise RpcError(
        code if isinstance(code, int) else INTERNAL_ERROR,
        said if isinstance(said, str) else "the other side gave no message",
        error.get("data"),
    )


def _error(code: int, message: str, data: Any = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message} | ({} if data is None else {"data": data})}


def _message(method: str, params: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    if params and named:
        raise ValueError(f"method {method!r}: give parameters by position or by name, not both")
    given = {"params": list(params) or named} if params or named else {}
    return {"jsonrpc": "2.0", "method": method, **given}
