"""`lochws doctor`: each step of opening a WebSocket, with its result, its duration, and advice."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from time import monotonic
from typing import Any

import click

from .. import WebSocket, events
from ..errors import TransportFail, WebSocketUnavailable
from ..response import Response
from ..text import cut, escaped
from ..url import parse_url
from .addresses import look_up, try_all
from .certificate import Handshakes, agreement
from .exits import Ending, Exit
from .findings import Finding, Verdict, show
from .shown import as_options
from .target import Target, checked, is_terminal, limit, target_options

#: The number of pings for measuring the latency.
PINGS = 5
#: The number of characters shown of a proxy's refusal.
MAX_BODY = 300
#: The time limit for a step, in seconds, if the command line sets none.
STEP_SECONDS = 30.0

_CLOSED = "Ask the server's operator why it closes: it may require a login, or a subprotocol."
_LOST = "Ask the server's operator why it drops the connection; a proxy on the way may also be the cause."
_NO_CLOSE = "Tell the server's operator that it does not close as RFC 6455 section 7 requires."
_NO_PONG = "Tell the server's operator that it does not answer pings, as RFC 6455 section 5.5.2 requires."

#: For each phase in which an attempt can fail: the steps of the examination that find the same problem.
_SAME_PROBLEM = {"resolve": ("name",), "tcp": ("IPv4", "IPv6"), "tls": ("TLS",), "dates": ("certificate",)}
_TRY_WSS = "Try wss:// instead of ws://: this port expects TLS."
#: OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
_ABOUT_DATES = (9, 10)


@click.command(
    help="""Diagnose the connection to the WebSocket server at URL.

    Tries every address of the host, reads the server's certificate even if it is not trusted, and then
    connects as `lochws connect` would and sends a few pings. Each failure comes with advice on how to fix it.
    The exit codes are those of `lochws connect`.
    """,
)
@target_options
@click.option("--json", is_flag=True, help="Print one JSON object per finding.")
def doctor(*, json: bool, **options: Any) -> Exit:
    """Examine the server and print the findings."""
    target = Target.taken_from(options)
    websocket = checked(lambda: WebSocket(target.url, **target.arguments))
    attempt = Attempt(websocket, limit(target.timeout) or STEP_SECONDS)
    with busy(f"examining {escaped(websocket.url)}"):
        attempt.run()
        findings = [] if attempt.is_proxied else examine(target, websocket, attempt)
    show(without_repetition(findings, attempt), json=json)
    return attempt.ending.code


def examine(target: Target, websocket: WebSocket, attempt: Attempt) -> list[Finding]:
    """Examine the server's addresses and its certificate, or whether it expects TLS at all. Blocks."""
    endpoint = parse_url(websocket.url)
    if endpoint.unix is not None:
        return []
    seconds = limit(target.timeout) or STEP_SECONDS
    named, addresses = look_up(endpoint.host, endpoint.port, seconds)
    tried, good = try_all(addresses, seconds)
    findings = [*([] if _is_address(endpoint.host) else [named]), *tried]
    if good is not None and endpoint.is_secure:
        name = endpoint.host.partition("%")[0]  # certificates have no zones
        handshakes = Handshakes(good, name, seconds, certfile=target.cert, keyfile=target.key)
        findings += handshakes.inspect()
    elif good is not None and attempt.was_hung_up_on and Handshakes(good, endpoint.host, seconds).succeed():
        attempt.findings[-1] = replace(attempt.findings[-1], advice=_TRY_WSS)
    return findings


def without_repetition(examined: list[Finding], attempt: Attempt) -> list[Finding]:
    """Combine all findings, and report a problem that both parts found only once, with the advice."""
    failed = [finding for finding in examined if finding.verdict is Verdict.FAILED]
    if len(failed) != 1 or failed[0].phase not in _SAME_PROBLEM.get(attempt.failed_phase, ()):
        return [*examined, *attempt.findings]
    *before, last = attempt.findings
    result = last.result if failed[0].phase == "TLS" else failed[0].result  # whichever is more detailed
    only = replace(failed[0], result=result, advice=last.advice or failed[0].advice)
    return [*(only if finding is failed[0] else finding for finding in examined), *before]


class Attempt:
    """An ordinary attempt to connect, followed by pings; its events become findings.

    Args:
        websocket: makes the attempt.
        seconds: how long the server may take to answer a ping, and our Close frame.

    Attributes:
        findings: the findings so far.
        ending: how the attempt or the connection ended.
        is_proxied: whether the connection goes through a proxy.
        failed_phase: the phase of `ConnectFail`, or ``"dates"`` if the certificate is expired or not yet
            valid; empty if there was a connection.
        was_hung_up_on: whether the server ended the connection without any answer to the upgrade request.
    """

    def __init__(self, websocket: WebSocket, seconds: float) -> None:
        self._websocket = websocket
        self._seconds = seconds
        self.findings: list[Finding] = []
        self.ending = Ending()
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
            for handler in (self.ending, self):
                react = getattr(handler, f"on_{event.name}", None)
                if react is not None:
                    react(event)
            self._check_time()

    def on_connecting(self, event: events.Connecting) -> None:
        """Start the attempt, or report a redirect."""
        if self.findings:
            self._find("redirect", Verdict.NOTE, f"to {event.url}")
        self._began = monotonic()

    def on_connected(self, event: events.Connected) -> None:
        """Report the connection: TCP and TLS have succeeded."""
        self.is_proxied = event.proxy is not None
        if event.proxy is not None:
            self._find("proxy", Verdict.OK, f"connected through {event.proxy}", self._took)
        else:
            self._find("connect", Verdict.OK, f"to {event.url}", self._took)
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
        self._find(phase, Verdict.FAILED, reason, event.timings.get(event.phase), as_options(event.advice))

    def on_rejected(self, event: events.Rejected) -> None:
        """Report the server's refusal."""
        # Either the reason is the status with the server's text, or the status does not explain the refusal.
        text = event.reason.removeprefix("upgrade refused: ")
        if text == event.reason:
            text = f"{event.response.status_code} {event.response.status}: {text}"
        text += _server(event.response)
        self._find("upgrade", Verdict.FAILED, text, event.timings.get("upgrade"), as_options(event.advice))

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
                self._find("upgrade", Verdict.FAILED, event.reason, took, as_options(event.advice))
            elif not self.findings[-1].advice:
                last = self.findings.pop()
                self._find(last.phase, last.verdict, last.result, last.seconds, as_options(event.advice))
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
        verdict = Verdict.FAILED if self.ending.sentence else Verdict.WARNING
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


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show a status line on stderr during the block, if that is a terminal."""
    if not is_terminal(2):
        yield
        return
    from rich.console import Console  # noqa: PLC0415  a large package, of no use in pipes
    from rich.text import Text  # noqa: PLC0415

    with Console(stderr=True).status(Text(what)):
        yield


def _server(response: Response) -> str:
    server = response.get("server")
    return f" (server: {server})" if server else ""


def _body(text: str) -> str:
    text = " ".join(text.split())
    return f"; its body: {cut(text, MAX_BODY)}" if text else ""


def _code(code: int | None) -> str:
    return "no code" if code is None else f"code {code}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
