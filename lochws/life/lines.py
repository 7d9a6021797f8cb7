"""Life lines: the log lines that every app writes about its connections, without any handler.

The registry calls `LifeLines.note` before the handlers of each event that may be worth a line, and
`LifeLines.debug` with every event while the level is DEBUG. The lines are logged on a thread of their own, so
that no log handler can hold up the reader.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from .. import events
from ..system.rate_limit import RateLimit
from ..system.report import is_enabled, report_aside
from ..text import cut
from ..url import without_queries
from .backoff import CLEAN_CODES

#: Lines of one kind that an app may log in quick succession, and per second in the long run.
BURST, PER_SECOND = 20, 1 / 30
#: The same for lines about one kind of event at level DEBUG.
DEBUG_BURST, DEBUG_PER_SECOND = 100, 10.0
#: A connection that the server closes cleanly before this time, in seconds, was short. The second short
#: connection in a row is logged as a warning.
SHORT_SECONDS = 10.0
#: The longest text of a line, in characters: a server may have chosen it.
MAX_CHARACTERS = 500


#: An event that ends an attempt, or tells why it will end.
_End: TypeAlias = events.Rejected | events.ConnectFail | events.Disconnected


class LoggedLife(Protocol):
    """The part of an app's life cycle that the log lines depend on."""

    url: str

    @property
    def is_stopping(self) -> bool:
        """True if the app has been closed."""


class LifeLines:
    """The log lines about the connections of one app. For the reader's thread.

    Each line has fields for structured logging, which become attributes of the record: see docs/logging.md.
    Lines of one kind that repeat quickly are suppressed and counted.

    Args:
        life: the life of the app.

    Attributes:
        kinds: the classes of the events that `note` wants.
    """

    __slots__ = (
        "_attempts", "_has_told_end", "_is_attempting", "_life", "_limits", "_refused", "_short", "_url",
        "_was_lost",
    )

    def __init__(self, life: LoggedLife) -> None:
        self._life = life
        self._limits: dict[str, RateLimit] | None = None  # by the kind of line; made with the first line
        self.started()

    def started(self) -> None:
        """Forget earlier connections, because the app is started."""
        self._url = self._life.url
        self._attempts = 0  # since the last connection
        self._is_attempting = self._refused = self._was_lost = False
        self._has_told_end = False  # the last line says that the connection was closed
        self._short = 0  # short connections in a row

    def note(self, event: events.Event) -> None:
        """Log the line of an event, if it has one. Raises nothing."""
        _NOTES[type(event)](self, event)

    def debug(self, received: Sequence[events.Event]) -> None:
        """Log a line at DEBUG for each event to which `note` gives none."""
        if not is_enabled(logging.DEBUG):
            return
        for event in received:
            if type(event) in _WITH_LINE:
                continue
            limit = self._limit(event.name, DEBUG_BURST, DEBUG_PER_SECOND)
            self._write(logging.DEBUG, event.name, limit, "event %s%s", event.name, _details(event))

    def gave_up(self, reason: str) -> None:
        """Log that no further attempt follows, because the back-off has decided so."""
        if is_enabled(logging.WARNING):
            self._note(logging.WARNING, "gave_up", "giving up: %s", reason, ws_reason=reason)

    def stopped(self) -> None:
        """Log that the app was closed, unless the last line says so."""
        if not self._has_told_end and is_enabled(logging.INFO):
            self._note(logging.INFO, "stopped", "closed; there was no connection")

    # One method for each kind of event.

    def _connecting(self, event: events.Connecting) -> None:
        if not self._is_attempting:  # a redirect continues the same attempt
            self._is_attempting, self._has_told_end, self._url = True, False, event.url
            self._attempts += 1

    def _ready(self, event: events.Ready) -> None:
        self._attempts, self._is_attempting = 0, False
        if not is_enabled(logging.INFO):
            return
        opening = sum(event.timings.values())
        address = f" ({event.address})" if event.address else ""
        row = f", on attempt {event.attempt}" if event.attempt > 1 else ""
        if event.outage is not None:
            how = "was lost" if self._was_lost else "ended"
            row = f", {span(event.outage)} after the last connection {how}{row}"
        self._note(
            logging.INFO, "ready", "ready after %s%s%s", span(opening), address, row,
            ws_address=event.address, ws_opening=opening, ws_attempt=event.attempt, ws_outage=event.outage,
        )

    def _rejected(self, event: events.Rejected) -> None:
        self._refused = True
        self._failed(event, ws_status=event.response.status_code)

    def _connect_fail(self, event: events.ConnectFail) -> None:
        self._is_attempting = False
        status = None if event.response is None else event.response.status_code
        self._failed(event, ws_status=status)

    def _failed(self, event: _End, **fields: Any) -> None:
        # After close(), the attempt was called off.
        if not self._life.is_stopping and is_enabled(logging.WARNING):
            self._note(
                logging.WARNING, event.name, "%s", _words(event),
                ws_address=event.address, ws_attempt=self._attempts, **_about(event), **fields,
            )

    def _disconnected(self, event: events.Disconnected) -> None:
        refused, self._refused, self._is_attempting = self._refused, False, False
        if event.opened_for is not None:
            self._ended(event, event.opened_for)
        elif not refused:
            self._failed(event)

    def _ended(self, event: events.Disconnected, opened_for: float) -> None:
        by_server = event.graceful and event.ended_by == "server"
        self._short = self._short + 1 if by_server and opened_for < SHORT_SECONDS else 0
        self._was_lost = not (event.graceful or event.ended_by == "client" or self._life.is_stopping)
        is_usual = event.received_code is None or event.received_code in CLEAN_CODES
        is_well = not self._was_lost and (not by_server or is_usual) and self._short < 2 and not event.fatal
        level = logging.INFO if is_well else logging.WARNING
        self._has_told_end = not self._was_lost
        if not is_enabled(level):
            return
        words = _words(event)
        if self._was_lost:
            what, words = "connection lost", words.removeprefix("connection lost: ")
        elif by_server:
            what, words = "closed by the server", words.removeprefix("the server closed the connection")
        else:
            what, words = "closed by us", words.removeprefix("we closed the connection")
        words = words.removeprefix(": ")
        colon = ": " if words and not words.startswith(";") else ""
        row = f"; {self._short} connections in a row have ended this soon" if self._short > 1 else ""
        self._note(
            level, event.name, "%s after %s%s%s%s", what, span(opened_for), colon, words, row,
            ws_opened_for=opened_for, ws_ended_by=event.ended_by, ws_graceful=event.graceful,
            ws_code=event.received_code, ws_sent_code=event.sent_code, ws_unsent=len(event.unsent),
            ws_in_doubt=len(event.in_doubt) + event.in_doubt_omitted, **_about(event),
        )

    def _stale(self, event: events.Stale) -> None:
        if is_enabled(logging.WARNING):
            words, seconds = "no message from the server for %s", event.seconds
            self._note(logging.WARNING, event.name, words, span(seconds), ws_silence=seconds)

    def _back_off(self, event: events.BackOff) -> None:
        if is_enabled(logging.INFO):
            words = "trying again in %s"
            self._note(logging.INFO, event.name, words, span(event.delay), ws_delay=event.delay)

    # Writing.

    def _note(self, level: int, kind: str, words: str, *args: object, **fields: object) -> None:
        self._write(level, kind, self._limit(kind, BURST, PER_SECOND), words, *args, **fields)

    def _limit(self, kind: str, burst: int, per_second: float) -> RateLimit:
        if self._limits is None:
            self._limits = {}
        limit = self._limits.get(kind)
        if limit is None:
            limit = self._limits[kind] = RateLimit(burst, per_second)
        return limit

    def _write(
        self, level: int, kind: str, limit: RateLimit, words: str, *args: object, **fields: object
    ) -> None:
        place = without_queries(self._url)
        report_aside(
            level, f"%s: {words}", place, *args,
            limit=limit, fields={"ws_event": kind, "ws_url": place, **fields},
        )


_NOTES: dict[type[events.Event], Callable[[LifeLines, Any], None]] = {
    events.Connecting: LifeLines._connecting,
    events.Ready: LifeLines._ready,
    events.Rejected: LifeLines._rejected,
    events.ConnectFail: LifeLines._connect_fail,
    events.Disconnected: LifeLines._disconnected,
    events.Stale: LifeLines._stale,
    events.BackOff: LifeLines._back_off,
}
LIFE_KINDS = frozenset(_NOTES)
_WITH_LINE = LIFE_KINDS - {events.Connecting}


def span(seconds: float) -> str:
    """Return a length of time in readable units: ``0.25 s``, ``12.3 s``, ``5 min 1 s``, ``3 h 12 min``."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, smaller, its_name in (
        (86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")
    ):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name} {rest} {its_name}" if rest else f"{whole // unit} {name}"
    return f"{whole} s"


def _words(event: _End) -> str:
    """Return the text of an event: the reason, the server's words and the advice, without secrets."""
    return cut(without_queries(str(event)), MAX_CHARACTERS)


def _about(event: _End) -> dict[str, object]:
    """Return the fields that the lines about all ends have."""
    reason = getattr(event, "received_reason", "") or event.reason
    return {
        "ws_reason": cut(without_queries(reason), MAX_CHARACTERS), "ws_advice": without_queries(event.advice),
        "ws_phase": event.phase, "ws_fatal": event.fatal,
    }


def _details(event: events.Event) -> str:
    """Return what is shown of an event at level DEBUG: never a payload, which may contain secrets."""
    if isinstance(event, events.Text):
        return f", length {len(events.content_of(event))}"
    if isinstance(event, (events.Binary, events.Ping)):
        return f", length {len(event.data)}"
    if isinstance(event, events.Pong):
        return "" if event.latency is None else f" after {event.latency * 1000:.1f} ms"
    if isinstance(event, (events.Closing, events.Closed)):
        code = "no code" if event.code is None else str(event.code)
        return f": {code} {cut(without_queries(event.reason), MAX_CHARACTERS)}".rstrip()
    if isinstance(event, events.ProtocolError):
        return f": {cut(without_queries(event.error), MAX_CHARACTERS)}"
    return ""
