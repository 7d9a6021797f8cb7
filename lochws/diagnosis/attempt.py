"""Diagnostic attempt: an ordinary attempt to connect, followed by pings, whose events become findings."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from .. import events
from ..errors import TransportFail, WebSocketUnavailable
from ..response import Response
from ..text import cut
from ..url import without_secrets
from .certificate import agreement
from .findings import Finding, Verdict

if TYPE_CHECKING:
    from ..websocket import WebSocket

#: The number of pings for measuring the latency.
PINGS = 5
#: The number of characters shown of a proxy's refusal.
MAX_BODY = 300

_CLOSED = "Ask the server's operator why it closes: it may require a login or a subprotocol."
_LOST = "Ask the server's operator why it drops the connection; a proxy on the way may also be the cause."
_NO_CLOSE = "Tell the server's operator that the server does not close as RFC 6455 section 7 requires."
_NO_PONG = "Tell the server's operator that the server does not answer pings, as RFC 6455 section 5.5.2 says."

#: OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
_ABOUT_DATES = (9, 10)
#: Close codes of a normal end (RFC 6455 section 7.4.1).
_FINE = (None, 1000, 1001)


class Attempt:
    """An ordinary attempt to connect, followed by pings; its events become findings.

    Args:
        websocket: makes the attempt.
        seconds: how long the server may take to answer a ping, and our Close frame.
        observers: objects whose ``on_<event>`` methods get each event first.

    Attributes:
        findings: the findings so far.
        url: the URL of the first attempt, without credentials; empty before it.
        is_proxied: whether the connection goes through a proxy.
        failed_phase: the phase of `ConnectFail`, or ``"dates"`` if the certificate is expired or not yet
            valid; empty if there was a connection.
        was_hung_up_on: whether the server ended the connection without any answer to the upgrade request.
    """

    def __init__(self, websocket: WebSocket, seconds: float, observers: Sequence[object] = ()) -> None:
        self._websocket = websocket
        self._seconds = seconds
        self._handlers = (*observers, self)
        self.findings: list[Finding] = []
        self.url = ""
        self.is_proxied = False
        self.failed_phase = ""
        self.was_hung_up_on = False
        self._began = monotonic()
        self._latencies: list[float] = []
        self._pinged_at: float | None = None  # when the unanswered ping was sent
        self._closing: events.Closing | None = None  # the server's Close frame, if the server closed first
        self._has_given_up = False  # on a server that does not answer pings

    def run(self) -> None:
        """Make the attempt. Blocks until the connection has ended."""
        seconds = self._seconds
        # Checked on every event: Polls arrive while the server is silent, others while it sends a flood.
        for event in self._websocket.connect(poll=seconds / 4, ping_rate=None, close_timeout=seconds):
            for handler in self._handlers:
                react = getattr(handler, f"on_{event.name}", None)
                if react is not None:
                    react(event)
            self._check_time()

    def on_connecting(self, event: events.Connecting) -> None:
        """Start the attempt, or report a redirect."""
        if self.findings:
            self._find("redirect", Verdict.NOTE, f"to {without_secrets(event.url)}")
        self.url = self.url or event.url
        self._began = monotonic()

    def on_connected(self, event: events.Connected) -> None:
        """Report the connection: TCP and TLS have succeeded."""
        self.is_proxied = event.proxy is not None
        if event.proxy is not None:
            self._find("proxy", Verdict.OK, f"connected through {event.proxy}", self._took)
        else:
            self._find("connect", Verdict.OK, f"to {without_secrets(event.url)}", self._took)
        self._began = monotonic()

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """Report why no connection was established."""
        cause = event.error
        while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
            cause = cause.__cause__
        self.failed_phase = event.phase
        if cause is not None:
            self.failed_phase = "dates" if cause.verify_code in _ABOUT_DATES else "trust"
        self.is_proxied = event.phase == "proxy" or "proxy" in event.timings
        reason = event.reason
        if event.response is not None:
            reason += _body(event.response.text)
        phase = "proxy" if event.phase == "proxy" else "connect"
        self._find(phase, Verdict.FAILED, reason, event.timings.get(event.phase), event.advice)

    def on_rejected(self, event: events.Rejected) -> None:
        """Report the server's refusal."""
        # Either the reason is the status with the server's text, or the status does not explain the refusal.
        text = event.reason.removeprefix("upgrade refused: ")
        if text == event.reason:
            text = f"{event.response.status_code} {event.response.status}: {text}"
        text += _server(event.response)
        self._find("upgrade", Verdict.FAILED, text, event.timings.get("upgrade"), event.advice)

    def on_protocol_error(self, event: events.ProtocolError) -> None:
        """Report that the server violated the protocol."""
        self._find("protocol", Verdict.FAILED, event.error)

    def on_closing(self, event: events.Closing) -> None:
        """Remember the Close frame of a server that closes first."""
        self._closing, self._pinged_at = event, None

    def on_ready(self, event: events.Ready) -> None:
        """Report the negotiated parameters, and send the first ping."""
        tls = self._websocket.tls
        if self.is_proxied and tls is not None:  # otherwise it was examined directly
            self.findings += agreement(tls, event.timings.get("tls"))
        status = f"{event.response.status_code} {event.response.status}"
        self._find("upgrade", Verdict.OK, status + _server(event.response), self._took)
        self._find("subprotocol", Verdict.NOTE, event.protocol or "none")
        self._find("extensions", Verdict.NOTE, ", ".join(sorted(event.extensions)) or "none")
        self._began = monotonic()
        self._ping()

    def on_pong(self, event: events.Pong) -> None:
        """Send the next ping, or close."""
        if event.latency is None:
            return
        self._latencies.append(event.latency)
        self._pinged_at = None
        if len(self._latencies) < PINGS:
            self._ping()
            return
        least, most = min(self._latencies) * 1000, max(self._latencies) * 1000
        text = f"{PINGS} pings, {least:,.1f} to {most:,.1f} ms"
        self._find("latency", Verdict.OK, text, sum(self._latencies) / PINGS)
        self._began = monotonic()
        self._websocket.close()

    def on_disconnected(self, event: events.Disconnected) -> None:
        """Report how the connection ended."""
        if event.phase != "open":
            is_late = isinstance(event.error, TimeoutError)
            self.was_hung_up_on = event.ended_by == "network" and not is_late
            if not self.findings or self.findings[-1].verdict is not Verdict.FAILED:
                took = event.timings.get("upgrade")
                self._find("upgrade", Verdict.FAILED, event.reason, took, event.advice)
            elif not self.findings[-1].advice:
                last = self.findings.pop()
                self._find(last.phase, last.verdict, last.result, last.seconds, event.advice)
        elif self._has_given_up or self.findings[-1].phase == "protocol":
            pass  # the reason has been reported
        elif self._closing is not None or len(self._latencies) < PINGS:
            self._find_early_end(event)
        elif event.graceful:
            text = f"the server answered with {_code(event.received_code)}"
            self._find("close", Verdict.OK, text, self._took)
        else:
            self._find("close", Verdict.FAILED, event.reason, self._took, event.advice or _NO_CLOSE)

    def _find_early_end(self, event: events.Disconnected) -> None:
        """Report that the connection ended before we closed it."""
        after = f"after {len(self._latencies)} of {PINGS} pongs"
        if self._closing is None:
            self._find("open", Verdict.FAILED, f"{event.reason}, {after}", self._took, event.advice or _LOST)
            return
        reason = f": {self._closing.reason}" if self._closing.reason else ""
        text = f"the server closed the connection {after}, with {_code(self._closing.code)}{reason}"
        is_fine = event.graceful and self._closing.code in _FINE
        verdict = Verdict.WARNING if is_fine else Verdict.FAILED
        self._find("close", verdict, text, self._took, _CLOSED)

    def _check_time(self) -> None:
        """Give up on a server that does not answer pings."""
        if self._pinged_at is not None and monotonic() - self._pinged_at > self._seconds:
            text = f"no pong within {self._seconds:g} s"
            self._find("latency", Verdict.FAILED, text, monotonic() - self._pinged_at, _NO_PONG)
            self._pinged_at, self._has_given_up = None, True
            self._websocket.force_disconnect(text)

    def _ping(self) -> None:
        self._pinged_at = monotonic()
        with suppress(WebSocketUnavailable, TransportFail):  # an event reports the end
            self._websocket.send_ping(b"lochws doctor %d" % (len(self._latencies) + 1))

    @property
    def _took(self) -> float:
        return monotonic() - self._began

    def _find(self, *about: Any) -> None:
        self.findings.append(Finding(*about))


def _server(response: Response) -> str:
    server = response.get("server")
    return f" (server: {server})" if server else ""


def _body(text: str) -> str:
    text = " ".join(text.split())
    return f"; its body: {cut(text, MAX_BODY)}" if text else ""


def _code(code: int | None) -> str:
    return "no code" if code is None else f"code {code}"
