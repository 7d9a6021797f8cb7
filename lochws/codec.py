"""Codec: how messages become objects and objects become messages; JSON by default."""

from __future__ import annotations

import json
from collections.abc import Callable
from json import JSONEncoder
from typing import Any, TypeAlias

from .base.callables import check_takes

#: Converts an object to a message: a str, or the UTF-8 of one; bytes for a codec of binary messages.
Dumps: TypeAlias = Callable[[Any], "str | bytes | bytearray | memoryview"]
#: Converts a message to an object.
Loads: TypeAlias = Callable[[Any], Any]

_encode = JSONEncoder(allow_nan=False).encode


def encode_json(value: Any) -> str:
    """Convert an object to JSON.

    Raises:
        TypeError: part of the object cannot be represented in JSON.
        ValueError: the object contains itself, or NaN or infinity, which JSON does not have.
    """
    try:
        return _encode(value)
    except TypeError as error:
        raise TypeError(f"send_json: {error}") from None
    except ValueError as error:
        text = f"send_json: {error}"
        if "float" in text:
            text += " (JSON has no NaN and no infinity; encoder=json.dumps sends them)"
        raise ValueError(text) from None


class Codec:
    """Two functions that convert messages to objects and objects to messages: the option `codec`.

    ::

        WebSocketApp(url, codec=Codec(orjson.loads, orjson.dumps))
        WebSocketApp(url, codec=Codec(msgspec.json.Decoder(Message).decode, msgspec.json.encode))
        WebSocketApp(url, codec=Codec(msgpack.unpackb, msgpack.packb, binary=True))

    A codec is for one kind of message, text or binary. It decodes the messages of that kind for `Text.json`
    or `Binary.json`, for routes and for the ready-made handlers, each message once, when its object is first
    asked for. It encodes what `send_json` and the ready-made handlers send, as messages of that kind. Both
    functions may be called from any thread, and by several threads at once; neither should block.

    Args:
        loads: takes a message, a str or, with ``binary=True`` or the option ``text_as="bytes"``, bytes;
            returns the object. Its exceptions reach the code that asked for the object. When lochws decodes a
            message for a route, `json.JSONDecodeError` (orjson raises it too) means that no route matches the
            message, and any other exception is treated like a handler's. The ready-made handlers ignore a
            message that cannot be decoded.
        dumps: takes an object; returns the message: a str or UTF-8 bytes, or bytes with ``binary=True``.
        binary: whether the codec is for binary messages.

    Raises:
        TypeError: `loads` or `dumps` cannot be called with one argument or is a coroutine or generator
            function, or `binary` is not a bool.
    """

    __slots__ = ("binary", "dumps", "loads")

    loads: Loads
    """Takes a message, a str or bytes; returns the object."""
    dumps: Dumps
    """Takes an object; returns the message, a str or bytes."""
    binary: bool
    """Whether the codec is for binary messages."""

    def __init__(self, loads: Loads, dumps: Dumps, *, binary: bool = False) -> None:
        check_function("Codec: loads", loads, "a function from a message to an object, such as json.loads")
        check_function("Codec: dumps", dumps, "a function from an object to a message, such as json.dumps")
        if not isinstance(binary, bool):
            raise TypeError(f"Codec: binary={binary!r}: expected True or False")
        self.loads = loads
        self.dumps = dumps
        self.binary = binary

    def __repr__(self) -> str:
        binary = ", binary=True" if self.binary else ""
        return f"Codec({_name(self.loads)}, {_name(self.dumps)}{binary})"

    def encode(self, value: Any) -> str | bytes:
        """Return an object as a message: a str, to be sent as text, or bytes, to be sent as binary.

        Raises:
            TypeError: `dumps` returned something else than a message of this kind.
            ValueError: `dumps` returned bytes for a text message that are not valid UTF-8.
            Exception: whatever `dumps` raised.
        """
        if not self.binary:
            return as_message(self.dumps, value)
        message = self.dumps(value)
        if isinstance(message, (bytes, bytearray, memoryview)):
            return bytes(message)
        raise TypeError(
            f"{_name(self.dumps)} returned {type(message).__name__}: a codec with binary=True expects bytes"
        )


def as_message(dumps: Dumps, value: Any) -> str:
    """Return an object as a text message.

    Raises:
        TypeError: the function returned neither a str nor bytes.
        ValueError: it returned bytes that are not valid UTF-8.
        Exception: whatever the function raised.
    """
    message = dumps(value)
    if isinstance(message, str):
        return message
    function = _name(dumps)
    if not isinstance(message, (bytes, bytearray, memoryview)):
        raise TypeError(f"{function} returned {type(message).__name__}: expected a str or UTF-8 bytes")
    try:
        return bytes(message).decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{function} returned bytes that are not valid UTF-8 (at position {error.start}), so they cannot "
            "be sent as text; a codec for binary messages is Codec(…, binary=True)"
        ) from None


def check_function(name: str, function: object, expected: str) -> None:
    """Raise TypeError unless a function can be called with one argument, which runs its body.

    Args:
        name: the name of the argument, for the error.
        function: its value.
        expected: what would be valid.
    """
    if not callable(function):
        raise TypeError(f"{name}={function!r}: expected {expected}")
    check_takes(name, function, 1)


def _name(function: object) -> str:
    """Return the name of a function, with its module; its repr if it has none."""
    name, module = getattr(function, "__qualname__", None), getattr(function, "__module__", None)
    if not isinstance(name, str):
        return repr(function)
    return f"{module}.{name}" if isinstance(module, str) and module not in ("builtins", "__main__") else name


#: The default codec. Its functions are not checked, which would make every import slower.
JSON = Codec.__new__(Codec)
JSON.loads, JSON.dumps, JSON.binary = json.loads, encode_json, False
