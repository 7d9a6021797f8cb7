"""The words for events and sent items, which `connect` and `replay` share."""

from __future__ import annotations

import logging
import sys
from typing import NamedTuple

from .. import events
from ..handlers.log import Log
from ..sent import Sent, Streamed
from ..text import cut
from .payloads import Payloads
from .shown import as_options

#: The number of characters shown of a text, and of bytes shown of a binary message.
MAX_SHOWN = 20_000


class Words(NamedTuple):
    """The words for one event or sent item.

    Attributes:
        kind: the kind of line, which determines its color: a key of `COLORS`.
        mark: one character to show before the text: ``<`` for received, ``>`` for sent, ``*`` for other
            events.
        text: the text, not yet escaped.
    """

    kind: str
    mark: str
    text: str


#: The colors, by kind of line, as click and ANSI terminals name them.
COLORS = {
    "sent": "cyan", "text": "green", "binary": "magenta", "pong": "bright_black", "info": "blue",
    "warning": "yellow", "error": "red",
}
_LEVELS = {logging.WARNING: "warning", logging.ERROR: "error", logging.CRITICAL: "error"}


def of_record(record: logging.LogRecord) -> Words:
    """Return the words for a log record, with command-line options in place of parameters."""
    return Words(_LEVELS.get(record.levelno, "info"), "*", as_options(record.getMessage()))


def of_sent(item: Sent, payloads: Payloads) -> Words:
    """Return the words for a sent item."""
    if isinstance(item, str):
        return Words("sent", ">", item)
    if isinstance(item, bytes):
        return Words("sent", ">", of_bytes(item, payloads))
    if isinstance(item, Streamed):
        return Words("sent", ">", f"[{item.name} stream of {item.size:,} bytes]")
    if item.name == "close":
        code = "" if item.code is None else f" {item.code}"
        return Words("sent", ">", f"close{code} {item.reason}".rstrip())
    return Words("sent", ">", f"{item.name} {_payload(item.data)}".rstrip())


def of_bytes(data: bytes, payloads: Payloads) -> str:
    """Return the words for a binary message: its length, and its beginning in the chosen notation."""
    shown = data if payloads.notation == "file" else data[:MAX_SHOWN]
    return f"[{len(data):,} bytes] {payloads.written(shown)}"


class EventWords(logging.Handler):
    """Puts events into words; events of the connection's life cycle get the words of `Log`.

    Args:
        payloads: the notation for binary messages.
    """

    def __init__(self, payloads: Payloads) -> None:
        super().__init__(logging.DEBUG)
        self._payloads = payloads
        self._found: Words | None = None
        logger = logging.Logger("words", logging.DEBUG)  # noqa: LOG001  no other code should see or set it
        logger.addHandler(self)
        # No line is suppressed, however quickly the events of a recording follow each other.
        self._log = Log(logger=logger, burst=sys.maxsize)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the words of the event being described."""
        self._found = of_record(record)

    def of(self, event: events.Event) -> Words | None:
        """Return the words for an event; None if there is nothing to say about it."""
        if isinstance(event, events.Text):
            return Words("text", "<", event.text)
        if isinstance(event, events.Binary):
            return Words("binary", "<", of_bytes(event.data, self._payloads))
        if isinstance(event, events.Pong):
            return Words("pong", "<", of_pong(event))
        if isinstance(event, events.Ping):
            return Words("pong", "<", f"ping {_payload(event.data)}".rstrip())
        self._found = None
        describe = getattr(self._log, f"on_{event.name}", None)
        if describe is not None:
            describe(event)
        return self._found


def of_pong(event: events.Pong) -> str:
    """Return the words for a pong: its payload, and how long it took if it answers a ping of ours."""
    latency = "" if event.latency is None else f" after {event.latency * 1000:.1f} ms"
    return f"pong {_payload(event.data)}".rstrip() + latency


#: The prefix of pings that the user typed: an invisible space that distinguishes them from those of lochws.
USERS_PING = b"\xe2\x80\x8b"


def _payload(data: bytes) -> str:
    return cut(data.removeprefix(USERS_PING).decode("utf-8", "replace"), MAX_SHOWN)
