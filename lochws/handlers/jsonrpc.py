"""JsonRpc: JSON-RPC 2.0 in both directions over one connection: calls, notifications, batches and errors.

::

    rpc = JsonRpc(app)

    @rpc.method("progress")
    def progress(done: int, of: int) -> None: ...

    app.start()
    app.wait_ready()
    print(rpc.call("add", 1, 2, timeout=5).result())

Section numbers are those of https://www.jsonrpc.org/specification.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from .. import WebSocketApp
from ..errors import QueueFull, TransportFail, WebSocketError, WebSocketUnavailable
from ..system.rate_limit import RateLimit
from ..system.report import report
from ..text import cut
from ._parts.messages import encoded
from .replies import Replies, Reply

INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

#: The maximum length of a method name quoted in a log line, in characters.
_MAX_NAME = 100

_Function = TypeVar("_Function", bound=Callable[..., Any])


class RpcError(WebSocketError):
    """A JSON-RPC error object (section 5.1), sent by the other side or raised by one of our own methods.

    Attributes:
        code: the error's number; -32768 to -32000 are reserved by the specification.
        message: one sentence.
        data: additional details, or None.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.data = data


class JsonRpc(Replies[Mapping[str, Any], Any]):
    """A JSON-RPC 2.0 client and server on one connection. Registers itself with the app.

    Our own methods run on the reader thread, like handlers, and must not wait for replies. Move long-running
    work to a thread of your own.

    Args:
        app: the app whose connection is used. If it has a `codec`, that must decode objects as dicts.
    """

    def __init__(self, app: WebSocketApp) -> None:
        super().__init__(app, "id", unwrap=_result)
        self._methods: dict[str, Callable[..., Any]] = {}
        self._failures, self._unanswered = RateLimit(), RateLimit(burst=3, per_second=1 / 10)

    def call(self, method: str, /, *params: Any, timeout: float | None = 30.0, **named: Any) -> Reply[Any]:
        """Call a method of the other side.

        If the method has a parameter named ``timeout``, use `request` instead.

        Args:
            method: the name of the method.
            params: positional parameters; alternatively, pass named parameters as keywords.
            timeout: seconds until the reply fails, or None for no limit.

        Returns:
            The reply, a future whose result is the return value of the method. It fails with `RpcError` if
            the other side answers with an error.

        Raises:
            ValueError: parameters were given both by position and by name, or include NaN or infinity.
            TypeError: the parameters cannot be written as JSON.
            WebSocketUnavailable: the connection is not open.
            QueueFull: the app's send queue is full.
            TransportFail: the network failed.
        """
        return self.request(_message(method, params, named), timeout)

    def notify(self, method: str, /, *params: Any, **named: Any) -> None:
        """Call a method of the other side without requesting a reply (a notification).

        Args:
            method: the name of the method.
            params: positional parameters; alternatively, pass named parameters as keywords.

        Raises:
            ValueError: parameters were given both by position and by name, or include NaN or infinity.
            TypeError: the parameters cannot be written as JSON.
            WebSocketUnavailable: the connection is not open.
            QueueFull: the app's send queue is full.
            TransportFail: the network failed.
        """
        self._app.send_json(_message(method, params, named))

    def method(self, name: str) -> Callable[[_Function], _Function]:
        """Return a decorator that lets the other side call a function by this name.

        The return value of the function is sent as the result; an `RpcError` that it raises is sent as the
        error. Any other exception is logged, and sent as an internal error without details.

        Raises:
            ValueError: a method of that name is already registered, or the name begins with ``rpc.``, a
                reserved prefix (section 8).
        """
        if name in self._methods:
            raise ValueError(f"method {name!r} is registered already")
        if name.startswith("rpc."):
            raise ValueError(f"method {name!r}: names that begin with 'rpc.' are reserved")

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
        """Settle a reply or run a method. Return the answer, or None if no answer is due."""
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            return None  # a message of another protocol, for other handlers
        if "method" not in message:
            super()._received(message)
            return None
        number = message.get("id")
        if not isinstance(number, (str, int, float, type(None))) or not _is_json(number):
            return _answer(_error(INVALID_REQUEST, "Invalid Request"), None)
        try:
            outcome = self._outcome(message)
            encoded(self._app.hooks.codec, outcome)  # a result that cannot be sent also counts as a failure
        except Exception as error:  # noqa: BLE001  it is reported
            name = cut(str(message["method"]), _MAX_NAME)
            text = "unexpected error in the JSON-RPC method %r"
            report(logging.ERROR, text, name, error=error, limit=self._failures)
            outcome = _error(INTERNAL_ERROR, "Internal error")
        return _answer(outcome, number) if "id" in message else None

    def _outcome(self, message: dict[str, Any]) -> dict[str, Any]:
        """Run a method. Return an `RpcError` as its outcome, but let any other exception propagate."""
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
        with suppress(WebSocketUnavailable, TransportFail):  # the other side has gone
            try:
                was_accepted = self._app.send_json(answer)
            except QueueFull:
                was_accepted = False
            if not was_accepted:
                report(
                    logging.WARNING,
                    "a JSON-RPC answer was dropped: the send queue is full, the server does not read",
                    limit=self._unanswered,
                )


def _is_json(number: str | float | None) -> bool:
    """Return whether JSON can express this number: Python's parser also accepts NaN and infinity."""
    return not isinstance(number, float) or math.isfinite(number)


def _answer(outcome: dict[str, Any], number: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", **outcome, "id": number}


def _result(message: dict[str, Any]) -> Any:
    """Return the result of a response (section 5), or raise its error."""
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
