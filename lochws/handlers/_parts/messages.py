"""Messages as the arguments of ready-made handlers describe them: what to send, and what to expect."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ... import WebSocketApp, events
from ...base.callables import check_takes
from ...codec import JSON, Codec
from ...dispatch.routes import NO_FIELDS, has_fields, is_like
from ...system.rate_limit import RateLimit
from ...system.report import report, safe_name, safe_repr
from ...text import cut, escaped

#: A message to send: text, binary, or an object or array that the app's codec encodes, as JSON by default.
Message: TypeAlias = "str | bytes | Mapping[str, Any] | list[Any]"
#: A description of received messages: a text, bytes, fields of a JSON object, the first elements of a JSON
#: array, or a function of the event.
Expected: TypeAlias = "str | bytes | Mapping[str, Any] | list[Any] | Callable[[Any], object]"

#: The kind of message that an app's codec decodes.
Kind: TypeAlias = "type[events.Text | events.Binary]"

_MESSAGES = (str, bytes, Mapping, list)
#: How many characters of a server's message an error or a log line quotes.
MAX_QUOTED = 300
#: How many characters the repr of a user's exception may have in an error.
_MAX_ERROR = 100


def is_message(value: object) -> bool:
    """Return whether a value can be sent as a message."""
    return isinstance(value, _MESSAGES)


def kind_of(app: WebSocketApp) -> Kind:
    """Return the class of the messages that an app's codec decodes."""
    return events.Binary if app.hooks.codec.binary else events.Text


def field_of(message: object, name: str) -> Any:
    """Return a field of a decoded message, an item of a mapping or an attribute; None if there is none."""
    if isinstance(message, Mapping):
        return message.get(name)
    return None if isinstance(message, NO_FIELDS) else getattr(message, name, None)


def encoded(codec: Codec, value: object) -> str | bytes:
    """Return an object as a message: str for text, bytes for binary. What the codec raises propagates."""
    return json.dumps(value, allow_nan=False) if codec is JSON else codec.encode(value)


def as_payload(name: str, value: object, codec: Codec) -> str | bytes:
    """Return a message as it is sent: objects and arrays as the codec encodes them.

    Raises:
        TypeError: the value is not a message.
        Exception: whatever the codec raised; TypeError or ValueError if JSON cannot express the value.
    """
    if isinstance(value, (str, bytes)):
        return value
    if isinstance(value, (Mapping, list)):
        return encoded(codec, value)
    raise TypeError(f"{name} returned {type(value).__name__}: expected str, bytes, a mapping or a list")


def check_message(name: str, value: object, codec: Codec) -> str | bytes:
    """Return a message, which may be any value of `Message`, as it is sent.

    Raises:
        TypeError, ValueError: it cannot be sent.
    """
    try:
        payload = as_payload(name, value, codec)
        if isinstance(payload, str) and not payload.isascii():
            payload.encode()
        return payload
    except Exception as error:  # the codec may raise anything
        wanted = "encoded as UTF-8" if isinstance(value, str) else "written as JSON"
        if codec.loads is not JSON.loads and not isinstance(value, str):
            wanted = f"encoded by {codec!r}"
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}={safe_repr(value)} cannot be {wanted}: {error}") from error


def check_expected(name: str, value: object) -> None:
    """Raise TypeError unless the value describes received messages."""
    if callable(value):
        check_takes(name, value, 1)
    if not (is_message(value) or callable(value)):
        raise TypeError(f"{name}={value!r}: expected str, bytes, a mapping, a list or a function")


def fits(expected: Expected, event: events.Text | events.Binary, kind: Kind) -> bool:
    """Return whether a message is one that `expected` describes. Exceptions of a function propagate.

    Args:
        expected: the description.
        event: the message.
        kind: the class of the messages that the app's codec decodes.
    """
    if callable(expected):
        return bool(expected(event))
    if isinstance(expected, (str, bytes)):
        return expected == (event.text if isinstance(event, events.Text) else event.data)
    if not isinstance(event, kind):
        return False
    try:
        found = event.json
    except ValueError:
        return False  # not JSON, so not the message
    if isinstance(expected, Mapping):
        return has_fields(found, expected)
    is_long_enough = isinstance(found, (list, tuple)) and len(found) >= len(expected)
    return is_long_enough and all(map(is_like, found, expected))


def quoted(event: events.Text | events.Binary) -> str:
    """Return the beginning of a message as one line that is safe to show."""
    if isinstance(event, events.Text):
        return escaped(cut(event.text, MAX_QUOTED))
    more = "…" if len(event.data) > MAX_QUOTED else ""
    return f"{event.data[:MAX_QUOTED]!r}{more}"


class Doubts:
    """The exceptions that a user's functions raised on messages, which then count as unrelated.

    For one thread: that of the handlers.
    """

    __slots__ = ("_count", "_last", "_limit")

    def __init__(self) -> None:
        self._count = 0
        self._last = ""
        self._limit = RateLimit(burst=3, per_second=1 / 10)

    def add(self, function: object, error: BaseException) -> None:
        """Count an exception, and log it at level DEBUG."""
        name = safe_name(function)
        self._count += 1
        self._last = f"{name} raised {escaped(cut(safe_repr(error), _MAX_ERROR))}"
        text = "%s failed on a message, which therefore counts as unrelated"
        report(logging.DEBUG, text, name, error=error, limit=self._limit)

    def clear(self) -> None:
        """Forget them."""
        self._count = 0

    def __str__(self) -> str:
        """Return a clause for the error that follows when the expected message never arrived, or ""."""
        if not self._count:
            return ""
        return f" ({self._last}; messages on which a function raised an exception: {self._count})"
