"""Log: a handler that writes the life of a connection to `logging`, one line per event.

::

    app.add_handler(Log("feed"))

writes ``feed: connecting to wss://feed.example.org/stream``, ``feed: ready (203.0.113.7:443)`` and so on to
the logger ``lochws.events``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from .. import events
from ..life.lines import span
from ..options import check_range
from ..system.rate_limit import RateLimit
from ..text import cut, escaped
from ..url import without_secrets

_MAX_CHARACTERS = 300


class Log:
    """A handler that writes one log line per event, with a label, in place of an app's default lines.

    ===========================================  =======
    event                                        level
    ===========================================  =======
    connecting, ready, closing, back_off         INFO
    connect_fail, rejected, unresponsive, stale  WARNING
    disconnected                                 INFO if graceful, else WARNING
    protocol_error                               ERROR
    connected, closed, messages, pings, pongs    DEBUG
    ===========================================  =======

    Poll events are not logged, nor are exceptions raised by handlers: lochws logs those itself.

    URLs are logged without their query, which may contain tokens, and messages without their content unless
    `payload` is given. Control characters and invisible formatting characters are escaped, so that a server
    can neither forge log lines nor take over a terminal.

    Runs on the reader thread, and never waits for anything except the logger's own handlers.

    Args:
        label: a prefix for each line, to tell connections apart; empty for none.
        logger: the logger to write to; None for ``lochws.events``.
        payload: how many characters or bytes of each message to log; 0 for its size only.
        burst: how many lines for the same kind of event may be written in quick succession.
        per_second: the average number of lines per second for the same kind of event. Lines above this rate
            are suppressed, and the next line says how many were.
        clock: a function that returns monotonic seconds.

    Raises:
        TypeError, ValueError: `payload` is not a non-negative integer, `burst` is less than 1, or
            `per_second` is not positive.
    """

    #: The registry then leaves the default lines of the app out, so that nothing is logged twice.
    replaces_default_lines = True

    def __init__(
        self,
        label: str = "",
        *,
        logger: logging.Logger | None = None,
        payload: int = 0,
        burst: int = 20,
        per_second: float = 1.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        check_range("payload", payload, 0)
        check_range("burst", burst, 1)
        if not per_second > 0:
            raise ValueError(f"per_second={per_second!r}: expected a number above 0")
        self._logger = logger or logging.getLogger("lochws.events")
        self._prefix = f"{label}: " if label else ""
        self._payload = payload
        self._limits: dict[str, RateLimit] = {}  # by the name of the event
        self._burst, self._per_second, self._clock = burst, per_second, clock

    def on_connecting(self, event: events.Connecting) -> None:
        """Log the URL at INFO."""
        self._log(event, logging.INFO, f"connecting to {_place(event.url)}")

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """Log the reason and the advice at WARNING."""
        self._log(event, logging.WARNING, _prefixed("could not connect", _reason(event)))

    def on_connected(self, event: events.Connected) -> None:
        """Log the proxy, if there is one, at DEBUG."""
        proxy = f" through proxy {_place(event.proxy)}" if event.proxy else ""
        self._log(event, logging.DEBUG, f"connected{proxy}, waiting for the upgrade")

    def on_rejected(self, event: events.Rejected) -> None:
        """Log the status, the reason and the advice at WARNING."""
        status = f"{event.response.status_code or 'no status'} {event.response.status}".strip()
        reason = _reason(event)
        if status in reason:
            self._log(event, logging.WARNING, _prefixed("upgrade refused", reason))
        else:
            self._log(event, logging.WARNING, f"upgrade refused ({status}): {reason}")

    def on_ready(self, event: events.Ready) -> None:
        """Log the server's address, the subprotocol, the extensions and the outage before it at INFO."""
        agreed = [event.address] if event.address else []
        agreed += [f"subprotocol {event.protocol}"] if event.protocol else []
        agreed += sorted(event.extensions)
        words = f"ready ({', '.join(agreed)})" if agreed else "ready"
        if event.outage is not None:
            words += f", {span(event.outage)} after the last connection ended"
        if event.attempt > 1:
            words += f", on attempt {event.attempt}"
        self._log(event, logging.INFO, words)

    def on_text(self, event: events.Text) -> None:
        """Log the length of a text message, and its beginning if `payload` is given, at DEBUG."""
        self._log_message(event, "text", "characters", event.text)

    def on_binary(self, event: events.Binary) -> None:
        """Log the length, and the beginning if `payload` is given, at DEBUG."""
        self._log_message(event, "binary", "bytes", event.data)

    def on_stream(self, event: events.Stream) -> None:
        """Log that a message above `stream_above` begins, at DEBUG."""
        kind = "text" if event.is_text else "binary"
        self._log(event, logging.DEBUG, f"received the beginning of a {kind} stream")

    def on_ping(self, event: events.Ping) -> None:
        """Log the length of the payload at DEBUG."""
        self._log(event, logging.DEBUG, f"received ping, {len(event.data)} bytes")

    def on_pong(self, event: events.Pong) -> None:
        """Log a pong at DEBUG, with its latency if it answers one of our pings."""
        if event.latency is None:
            self._log(event, logging.DEBUG, "received unsolicited pong")
        else:
            self._log(event, logging.DEBUG, f"received pong after {event.latency * 1000:.1f} ms")

    def on_protocol_error(self, event: events.ProtocolError) -> None:
        """Log the server's protocol violation at ERROR."""
        self._log(event, logging.ERROR, f"protocol error: {event.error}")

    def on_unresponsive(self, event: events.Unresponsive) -> None:
        """Log at WARNING that the server has stopped answering pings."""
        self._log(event, logging.WARNING, "the server does not answer pings")

    def on_stale(self, event: events.Stale) -> None:
        """Log at WARNING for how long the server has sent no message."""
        self._log(event, logging.WARNING, f"stale: no message from the server for {event.seconds:.0f} s")

    def on_closing(self, event: events.Closing) -> None:
        """Log the server's code and reason at INFO."""
        self._log(event, logging.INFO, f"closed by the server: {_code(event)}")

    def on_closed(self, event: events.Closed) -> None:
        """Log the server's code and reason at DEBUG."""
        self._log(event, logging.DEBUG, f"the server answered our Close frame: {_code(event)}")

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Log how the connection ended and how many messages were unsent: INFO if graceful, else WARNING."""
        if event.phase == "upgrade" and event.ended_by == "server" and not event.unsent:
            return  # on_rejected or on_protocol_error has logged it
        words = without_secrets(str(event))
        if event.graceful:
            self._log(event, logging.INFO, f"disconnected: {words}")
        else:
            how = "could not connect" if event.phase == "upgrade" else "connection lost"
            self._log(event, logging.WARNING, _prefixed(how, words))

    def on_back_off(self, event: events.BackOff) -> None:
        """Log the delay before the next attempt at INFO."""
        self._log(event, logging.INFO, f"reconnecting in {event.delay:.1f} s")

    def _log_message(
        self, event: events.Text | events.Binary, kind: str, unit: str, content: str | bytes
    ) -> None:
        if not self._logger.isEnabledFor(logging.DEBUG):
            return  # checked first, because messages may arrive at a high rate
        shown = f": {content[:self._payload]!r}" if self._payload else ""
        more = "…" if shown and len(content) > self._payload else ""
        self._log(event, logging.DEBUG, f"received {kind}, {len(content)} {unit}{shown}{more}")

    def _log(self, event: events.Event, level: int, words: str) -> None:
        if not self._logger.isEnabledFor(level):
            return
        limit = self._limits.get(event.name)
        if limit is None:
            limit = self._limits[event.name] = RateLimit(self._burst, self._per_second, self._clock)
        suppressed = limit.take()
        if suppressed is not None:
            # Escaping lengthens the text, so it is cut twice; the first cut bounds the work.
            line = cut(escaped(cut(words, _MAX_CHARACTERS)), _MAX_CHARACTERS)
            self._logger.log(level, "%s%s%s", self._prefix, line, suppressed)


def _place(url: str) -> str:
    """Return a URL for the log, without credentials and query."""
    return without_secrets(url).partition("?")[0]


def _reason(event: events.ConnectFail | events.Rejected) -> str:
    """Return the reason and the advice, with possible secrets removed from the URLs that they quote."""
    return without_secrets(f"{event.reason}. {event.advice}" if event.advice else event.reason)


def _prefixed(how: str, reason: str) -> str:
    reason = reason.removeprefix("unable to connect; ")  # "could not connect" says it already
    return reason if reason.startswith(how) else f"{how}: {reason}"


def _code(event: events.Closing | events.Closed) -> str:
    code = "no code" if event.code is None else str(event.code)
    return f"{code} {event.reason}" if event.reason else code
