"""The lines of a recording: events and sent messages as JSON objects, and back.

`Recorder` writes them, `lochws.handlers.replay.Replay` reads them; docs/recording.md describes the format.
"""

from __future__ import annotations

import base64
import builtins
import json
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, NoReturn, TypeAlias

from ... import errors, events
from ...counters import Counters
from ...dispatch.naming import CLASSES
from ...errors import WebSocketError
from ...response import Response
from ...sent import ControlFrame, Sent, Streamed
from ...system.rate_limit import RateLimit
from ...system.report import report
from ...url import without_secrets
from ...version import __version__

#: The default length limit for a line, in bytes, and the limit for filler: enough for the largest message
#: that an app accepts by default (64 MiB), in base64.
MAX_LINE = 96 << 20
#: The version of the format, in the header line.
VERSION = 1

Payload: TypeAlias = "str | bytes"
#: A function of ``"in"`` or ``"out"`` and a payload that returns what to record; None omits the payload.
Redact: TypeAlias = "Callable[[str, Payload], Payload | None]"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(separators=(",", ":")).encode
_NONE = type(None)
#: The JSON types of the fields of events.
_TYPES: dict[str, tuple[type, ...]] = {
    "address": (str, _NONE), "advice": (str,), "attempt": (int,), "code": (int, _NONE), "counters": (dict,),
    "critical": (bool,), "data": (str,),
    "delay": (int, float), "ended_by": (str,), "error": (str, dict, _NONE), "extensions": (list,),
    "fatal": (bool,), "graceful": (bool,), "history": (list,), "in_doubt": (list,),
    "in_doubt_omitted": (int,), "is_reconnect": (bool,), "is_text": (bool,),
    "last_message_at": (int, float, _NONE), "latency": (int, float, _NONE),
    "opened_for": (int, float, _NONE), "outage": (int, float, _NONE), "phase": (str,),
    "protocol": (str, _NONE), "proxy": (str, _NONE), "reason": (str,), "received_code": (int, _NONE),
    "received_reason": (str,), "response": (dict, _NONE),
    "sent_code": (int, _NONE), "text": (str,), "timings": (dict,), "unsent": (list,), "url": (str,),
}
#: The modules whose exceptions are recreated by name; any other becomes a `RecordedError`.
_ERRORS = {module.__name__: module for module in (builtins, errors, socket, ssl)}
#: Fields of events that are tuples of messages.
_MESSAGES = frozenset({"unsent", "in_doubt"})
#: Fields of events that are URLs or may quote URLs.
_QUOTES_URLS = frozenset({"url", "proxy", "reason", "received_reason", "advice"})
#: Headers of a response whose URLs are recorded without their secrets.
_WITH_URLS = frozenset({"location", "content-location", "refresh", "link"})


class RecordedError(Exception):
    """Stands for a recorded exception that cannot be recreated.

    Attributes:
        kind: the name of its class, such as ``"mylibrary.Refused"``.
    """

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind


class Scribe:
    """Creates the lines of a recording. For use by one thread.

    Args:
        payloads: whether to record messages, pings and pongs, or only their lengths.
        redact: a function that returns what to record in place of each payload, or None.
        secrets: whether to record cookies and the values in the query of URLs.
    """

    def __init__(self, payloads: bool, redact: Redact | None, secrets: bool) -> None:
        self._payloads = payloads
        self._redact = redact
        self._secrets = secrets
        self._log_limit = RateLimit()

    def header(self, began: float, at: float, part: int) -> bytes:
        """Return the first line of a file, with its number and the start of the recording (wall clock)."""
        return as_line({
            "lochws": __version__, "recording": VERSION, "part": part, "began": began, "at": round(at, 6),
        })

    def missing(self, at: float, time: float, count: int) -> bytes:
        """Return the line that stands for events and sends that could not be recorded."""
        return as_line({"at": round(at, 6), "time": time, "missing": count})

    def event(self, at: float, event: events.Event) -> bytes:
        """Return the line of an event."""
        if self._payloads and self._redact is None and isinstance(event, events.Text):
            return self._text(at, event.received_time, "in", event.text)
        line = {"at": round(at, 6), "time": event.received_time, "direction": "in", "event": event.name}
        for name in fields_of(type(event)):
            value = getattr(event, name)
            if name in {"text", "data"}:
                line.update(self._payload("in", value))
            else:
                line[name] = self._field(name, value)
        return as_line(line)

    def sent(self, at: float, time: float, sent: Sent) -> bytes:
        """Return the line of a message or control frame that was sent."""
        if self._payloads and self._redact is None and isinstance(sent, str):
            return self._text(at, time, "out", sent)
        line: dict[str, Any] = {"at": round(at, 6), "time": time, "direction": "out"}
        if isinstance(sent, Streamed):
            line.update(event=sent.name, length=sent.size)
        elif not isinstance(sent, ControlFrame):
            line["event"] = "text" if isinstance(sent, str) else "binary"
            line.update(self._payload("out", sent))
        elif sent.name == "close":
            line.update(event="close", code=sent.code, reason=sent.reason)
        else:
            line["event"] = sent.name
            line.update(self._payload("out", sent.data))
        return as_line(line)

    def _text(self, at: float, time: float, direction: str, text: str) -> bytes:
        """Return the line of a text message: the most frequent kind, built in a third of the time."""
        head = f'{{"at":{at:.6f},"time":{time!r},"direction":"{direction}","event":"text","text":'
        try:
            return f"{head}{_encode(text)}}}\n".encode()
        except UnicodeEncodeError:  # lone surrogates, in an event created by hand
            return f"{head}{_encode_ascii(text)}}}\n".encode()

    def _payload(self, direction: str, payload: Payload) -> dict[str, Any]:
        """Return the fields for a payload: the payload itself, or its length in characters or bytes."""
        kept = payload if self._payloads else None
        if kept is not None and self._redact is not None:
            kept = self._redacted(self._redact, direction, payload)
        if kept is None:
            return {"length": len(payload)}
        return {"text": kept} if isinstance(kept, str) else {"data": _base64(kept)}

    def _redacted(self, redact: Redact, direction: str, payload: Payload) -> Payload | None:
        try:
            kept = redact(direction, payload)
            if kept is None or type(kept) is type(payload):
                return kept
            raise TypeError(f"redact returned {type(kept).__name__} for {type(payload).__name__}")
        except Exception as error:  # noqa: BLE001  it is reported
            words = "redact failed; the payload is not recorded"
            report(logging.ERROR, words, error=error, limit=self._log_limit)
            return None

    def _field(self, name: str, value: Any) -> Any:
        if name == "response":
            return None if value is None else self._response(value)
        if name in _MESSAGES:
            return [self._payload("out", message) for message in value]
        if name in _AS_JSON:
            return _AS_JSON[name](value)
        if isinstance(value, BaseException):
            return self._error(value)
        if isinstance(value, str) and not self._secrets and name in _QUOTES_URLS:
            return without_secrets(value)
        return value

    def _response(self, response: Response) -> dict[str, Any]:
        head = response.raw if self._secrets else _head_without_secrets(response)
        return {"head": head.decode("latin-1"), "body": _base64(response.body)}

    def _error(self, error: BaseException) -> dict[str, Any]:
        kind = type(error)
        name = error.kind if isinstance(error, RecordedError) else f"{kind.__module__}.{kind.__qualname__}"
        hide = (lambda text: text) if self._secrets else without_secrets
        given = [hide(arg) if isinstance(arg, str) else arg for arg in error.args]
        plain = all(isinstance(arg, (str, int, float, _NONE)) for arg in given)
        return {"type": name, "text": hide(str(error)), "args": given if plain else None}


def _head_without_secrets(response: Response) -> bytes:
    """Return the head of a response, rebuilt without secrets if it contains any.

    It is rebuilt from the headers that `Response` has parsed, so that no unusual spelling of a header (spaces
    before the colon, folded lines, control characters in its name) escapes.
    """
    shown = [(name, _without_secrets(name, value)) for name, value in response.header_list]
    first = _without_secrets("location", re.split(rb"[\r\n]", response.raw, maxsplit=1)[0].decode("latin-1"))
    understood = _as_head(first, response.header_list)
    if understood.lower() == response.raw.lower() and shown == response.header_list:
        return response.raw
    return _as_head(first, shown)


def _as_head(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace")


def _without_secrets(name: str, value: str) -> str:
    if name.startswith("set-cookie"):  # attributes are omitted too: they may hide another cookie
        cookie, equals, _ = value.partition("=")
        return f"{cookie}=***" if equals else "***"
    if name in _WITH_URLS:
        return without_secrets(value).replace("…", "***")
    return value


def as_line(fields: Mapping[str, Any]) -> bytes:
    """Return a line of JSON in UTF-8, including the line end."""
    try:
        return _encode(fields).encode() + b"\n"
    except UnicodeEncodeError:  # a file name that is not UTF-8, for instance
        return _encode_ascii(fields).encode() + b"\n"


def as_event(fields: Mapping[str, Any], fill: bool = False) -> events.Event:
    """Create an event from its line.

    Args:
        fields: the parsed line.
        fill: replace an omitted payload with ``x`` repeated to the same length.

    Raises:
        ValueError: the event is unknown, a field is missing or invalid, or the payload was omitted.
    """
    kind = CLASSES.get(fields["event"])
    if kind is None:
        raise ValueError(f"unknown event {fields['event']!r}")
    event = events.Stream(False, _NOT_RECORDED) if kind is events.Stream else kind.__new__(kind)
    event.received_time = float(fields["time"])
    for name in fields_of(kind):
        if name in {"text", "data"}:
            payload = payload_of(fields, fill)
            if isinstance(payload, str) != (name == "text"):
                raise ValueError(f"{name!r} is missing")
            setattr(event, name, payload)
            continue
        if name not in fields:
            raise ValueError(f"{name!r} is missing")
        setattr(event, name, _value(name, fields[name], fill))
    return event


def described(event: events.Stream) -> events.Stream:
    """Return a copy of a stream without its content, which can be kept without stopping the connection."""
    copy = events.Stream(event.is_text, _NOT_RECORDED)
    copy.received_time = event.received_time
    return copy


class _NotRecorded:
    """The content of a stream in a recording, which has none."""

    def read(self, _size: int | None, _timeout: float | None) -> NoReturn:
        """Raise WebSocketError."""
        raise WebSocketError("the content of streams is not recorded")

    def chunk(self) -> NoReturn:
        """Raise WebSocketError."""
        self.read(None, None)

    def chunks(self, _owner: object) -> NoReturn:
        """Raise WebSocketError."""
        self.read(None, None)

    def close(self) -> None:
        """Do nothing."""

    def abandon(self) -> None:
        """Do nothing."""

    def __reduce__(self) -> str:
        """Be pickled by name, since there is one such object."""
        return "_NOT_RECORDED"


_NOT_RECORDED = _NotRecorded()


def as_sent(fields: Mapping[str, Any], fill: bool = False) -> Sent:
    """Create a sent item, a message or a control frame, from its line.

    Args:
        fields: the parsed line.
        fill: replace an omitted payload with ``x`` repeated to the same length.

    Raises:
        ValueError: this kind of item cannot be sent, a field is invalid, or the payload was omitted.
    """
    name = fields["event"]
    if name == "close":
        code, reason = fields.get("code"), fields.get("reason", "")
        if not isinstance(reason, str) or not isinstance(code, (int, _NONE)):
            raise ValueError(f"code {code!r}, reason {reason!r}: expected a number and a string")
        return ControlFrame(name, b"" if code is None else code.to_bytes(2, "big") + reason.encode())
    if name not in ("text", "binary", "ping", "pong"):
        raise ValueError(f"{name!r} is not something that can be sent")
    payload = payload_of(fields, fill)
    if isinstance(payload, str) != (name == "text"):
        raise ValueError("the payload is missing or of the wrong type")
    return ControlFrame(name, payload) if name in ("ping", "pong") and isinstance(payload, bytes) else payload


def payload_of(fields: Mapping[str, Any], fill: bool = False) -> Payload:
    """Return the payload of a line.

    Args:
        fields: the parsed line.
        fill: replace an omitted payload with ``x`` repeated to the same length.

    Raises:
        ValueError: the payload is missing, has the wrong type, or was omitted.
    """
    if "text" in fields:
        if not isinstance(fields["text"], str):
            raise ValueError(f"'text' is {fields['text']!r}")
        return str(fields["text"])
    if "data" in fields:
        return _bytes(fields["data"])
    length = length_of(fields)
    if length is None:
        raise ValueError("'text', 'data' and 'length' are all missing")
    if not fill:
        raise ValueError("the payload was left out of the recording; fill=True puts as many x in its place")
    if length > MAX_LINE:
        raise ValueError(f"'length' is {length!r}: no more than {MAX_LINE} are filled in")
    filler = "x" * length
    return filler if fields.get("event") == "text" else filler.encode()


def length_of(fields: Mapping[str, Any]) -> int | None:
    """Return the length of an omitted payload; None if the payload was not omitted.

    Raises:
        ValueError: the length is not valid.
    """
    if "length" not in fields:
        return None
    length = fields["length"]
    if isinstance(length, bool) or not isinstance(length, int) or length < 0:
        raise ValueError(f"'length' is {length!r}: expected a non-negative integer")
    return length


def fields_of(kind: type[events.Event]) -> tuple[str, ...]:
    """Return the public attributes of an event class, except for `received_time`."""
    if kind not in _fields:
        _fields[kind] = tuple(
            name for base in reversed(kind.__mro__) for name in base.__dict__.get("__slots__", ())
            if name != "received_time" and not name.startswith("_")
        )
    return _fields[kind]


_fields: dict[type[events.Event], tuple[str, ...]] = {}


def _value(name: str, value: Any, fill: bool) -> Any:
    types = _TYPES.get(name)
    if types is not None and not isinstance(value, types):
        raise ValueError(f"{name!r} is {value!r}")
    if name == "extensions":
        return set(map(str, value))
    if name in _MESSAGES:
        if sum(length_of(message) or 0 for message in value) > MAX_LINE:
            raise ValueError(f"{name!r} is longer than {MAX_LINE} bytes")
        return tuple(payload_of({"event": "text", **message}, fill) for message in value)
    if isinstance(value, dict) and name == "response":
        return Response(str(value["head"]).encode("latin-1"), _bytes(value["body"]))
    if isinstance(value, dict) and name == "error":
        return _error(value)
    return _FROM_JSON[name](value) if name in _FROM_JSON else value


def _entry(fields: Mapping[str, Any]) -> events.HistoryEntry:
    """Recreate an entry of a history.

    Raises:
        ValueError: a field is missing, unknown or of the wrong type.
    """
    try:
        entry = events.HistoryEntry(**fields)
        str(entry)
    except (TypeError, ValueError, OverflowError, OSError):
        raise ValueError(f"'history' has {fields!r}") from None
    return entry


def _counters(fields: Mapping[str, Any]) -> Counters:
    """Recreate counters.

    Raises:
        ValueError: a counter is unknown, or is not an integer.
    """
    names = Counters.__dataclass_fields__
    if not fields.keys() <= names.keys() or not all(type(count) is int for count in fields.values()):
        raise ValueError(f"'counters' is {fields!r}")
    return Counters(**fields)


_AS_JSON: dict[str, Callable[[Any], Any]] = {
    "counters": asdict, "extensions": sorted, "history": lambda entries: [asdict(entry) for entry in entries],
}
_FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "counters": _counters, "history": lambda entries: tuple(map(_entry, entries)),
}


def _error(fields: Mapping[str, Any]) -> BaseException:
    """Recreate an exception of the recorded class if that is free of side effects and gives the same text."""
    name, text, given = str(fields["type"]), str(fields["text"]), fields["args"]
    module, _, short = name.rpartition(".")
    kind = getattr(_ERRORS.get(module), short, None)
    if isinstance(given, list) and isinstance(kind, type) and issubclass(kind, Exception):
        try:
            error = kind(*given)
        except Exception:  # noqa: BLE001  the class takes other arguments
            return RecordedError(text, name)
        if str(error) == text:
            return error
    return RecordedError(text, name)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not base64")
    return base64.b64decode(value, validate=True)
