"""The life of a connection in the log: one line an event, with levels that make sense.

::

    app.add_handler(Log("feed"))

writes ``lochws.events: feed: connected to wss://feed.example.org/?token=…`` and so on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from time import monotonic

from .. import events
from ..url import without_secrets
from ..system.rate_limit import RateLimit

#: What a terminal or a reader of log lines could take for something else.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAX_WORDS = 300


class Log:
    """A handler that tells what happens to `logging`.

    ===========================================  =======
    event                                        level
    ===========================================  =======
    connecting, ready, closing, back_off         INFO
    connect_fail, rejected, unresponsive         WARNING
    disconnected                                 INFO if graceful, else WARNING
    protocol_error                               ERROR
    connected, closed, messages, pings, pongs    DEBUG
    ===========================================  =======

    Poll is not told, and neither is what a handler raised: lochws logs that itself. Values in the query of a
    URL are left out, for they may be tokens; so are the contents of messages, unless `payload` is given. What
    the server said is shown with control characters escaped, so it cannot forge lines of the log.

    Args:
        label: begins each line, to tell connections apart; empty for none.
        logger: where to.
        payload: how many characters or bytes of a message to show; 0 for none but its size.
        burst: how many lines for one kind of event may follow at once.
        per_second: and how many from then on; what is left out is counted and told with the next line.
        clock: monotonic seconds.

    Raises:
        ValueError: `payload` is negative, or `burst` or `per_second` not positive.

    Runs on the reader's thread and waits for nothing but the handlers of the logger.
    """

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
        if payload < 0:
            raise ValueError(f"payload={payload!r}: expected 0 or more characters")
        if burst < 1 or per_second <= 0:
            raise ValueError(f"burst={burst!r}, per_second={per_second!r}: expected 1 or more, and above 0")
        self._logger = logger or logging.getLogger("lochws.events")
        self._prefix = f"{label}: " if label else ""
        self._payload = payload
        self._limits: dict[str, RateLimit] = {}
        self._burst, self._per_second, self._clock = burst, per_second, clock

    def on_connecting(self, event: events.Connecting) -> None:
        """INFO: where to."""
        self._tell(event, logging.INFO, f"connecting to {without_secrets(event.url)}")

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """WARNING: the reason and the advice."""
        self._tell(event, logging.WARNING, f"could not connect: {_reason(event)}")

    def on_connected(self, event: events.Connected) -> None:
        """DEBUG: through which proxy, if any."""
        proxy = f" through {without_secrets(event.proxy)}" if event.proxy else ""
        self._tell(event, logging.DEBUG, f"connected{proxy}, waiting for the upgrade")

    def on_rejected(self, event: events.Rejected) -> None:
        """WARNING: the reason, the status and the advice."""
        status = f"{event.response.status_code} {event.response.status}".strip()
        self._tell(event, logging.WARNING, f"the server did not upgrade ({status}): {_reason(event)}")

    def on_ready(self, event: events.Ready) -> None:
        """INFO: the subprotocol and the extensions."""
        agreed = [event.protocol] if event.protocol else []
        agreed += sorted(event.extensions)
        self._tell(event, logging.INFO, f"ready ({', '.join(agreed)})" if agreed else "ready")

    def on_text(self, event: events.Text) -> None:
        """DEBUG: how long, and the beginning if asked for."""
        self._tell_message(event, "text", "characters", event.text)

    def on_binary(self, event: events.Binary) -> None:
        """DEBUG: how long, and the beginning if asked for."""
        self._tell_message(event, "binary", "bytes", event.data)

    def on_ping(self, event: events.Ping) -> None:
        """DEBUG: how long its payload is."""
        self._tell(event, logging.DEBUG, f"ping, {len(event.data)} bytes")

    def on_pong(self, event: events.Pong) -> None:
        """DEBUG: the latency, if it answers a ping of ours."""
        words = "unsolicited pong" if event.latency is None else f"pong after {event.latency * 1000:.1f} ms"
        self._tell(event, logging.DEBUG, words)

    def on_protocol_error(self, event: events.ProtocolError) -> None:
        """ERROR: what is wrong."""
        self._tell(event, logging.ERROR, f"the server broke the protocol: {event.error}")

    def on_unresponsive(self, event: events.Unresponsive) -> None:
        """WARNING."""
        self._tell(event, logging.WARNING, "the server does not answer any more")

    def on_closing(self, event: events.Closing) -> None:
        """INFO: the server's code and reason."""
        self._tell(event, logging.INFO, f"the server closes: {_code(event)}")

    def on_closed(self, event: events.Closed) -> None:
        """DEBUG: the server's code and reason."""
        self._tell(event, logging.DEBUG, f"the server has answered our Close frame: {_code(event)}")

    def on_disconnected(self, event: events.Disconnected) -> None:
        """INFO or WARNING: the reason, and how many messages were not sent."""
        unsent = f"; {len(event.unsent)} messages were not sent" if event.unsent else ""
        level = logging.INFO if event.graceful else logging.WARNING
        how = "disconnected" if event.graceful else "connection lost"
        self._tell(event, level, f"{how}: {_reason(event)}{unsent}")

    def on_back_off(self, event: events.BackOff) -> None:
        """INFO: how long."""
        self._tell(event, logging.INFO, f"trying again in {event.delay:.1f} s")

    def _tell_message(
        self, event: events.Text | events.Binary, kind: str, unit: str, content: str | bytes
    ) -> None:
        if not self._logger.isEnabledFor(logging.DEBUG):
            return  # before any work: there may be very many of these
        shown = f": {content[:self._payload]!r}" if self._payload else ""
        more = "…" if shown and len(content) > self._payload else ""
        self._tell(event, logging.DEBUG, f"{kind}, {len(content)} {unit}{shown}{more}")

    def _tell(self, event: events.Event, level: int, words: str) -> None:
        if not self._logger.isEnabledFor(level):
            return
        limit = self._limits.get(event.name)
        if limit is None:
            limit = self._limits[event.name] = RateLimit(self._burst, self._per_second, self._clock)
        more = limit.take()
        if more is not None:
            self._logger.log(level, "%s%s%s", self._prefix, _safe(words), more)


def _reason(event: events.ConnectFail | events.Rejected | events.Disconnected) -> str:
    return f"{event.reason}; {event.advice}" if event.advice else event.reason


def _code(event: events.Closing | events.Closed) -> str:
    code = "no code" if event.code is None else str(event.code)
    return f"{code} {event.reason}" if event.reason else code


def _safe(words: str) -> str:
    words = _UNSAFE.sub(lambda match: repr(match[0])[1:-1], words)
    return words if len(words) <= _MAX_WORDS else words[:_MAX_WORDS] + "…"
