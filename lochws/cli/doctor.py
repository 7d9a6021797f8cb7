"""`lochws doctor`: each step to a WebSocket with its result and its time, and what to change."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import click

from .. import WebSocket, events
from ..errors import TransportFail, WebSocketUnavailable
from ..text import cut, escaped
from ..url import parse_url
from .addresses import look_up, try_all
from .certificate import Handshakes, agreement
from .exits import Exit, Outcome
from .findings import Finding, Verdict, show
from .shown import as_options
from .target import Target, checked, is_terminal, limit, target_options

#: Pings whose latency is measured.
PINGS = 5
#: Characters of a refusal's body that are shown.
MAX_BODY = 300
#: Seconds for a step where the command line sets no limit.
STEP_SECONDS = 30.0

_CLOSED = "Ask who runs the server what it closes for: it may want a log-in, or a subprotocol."
_LOST = "Ask who runs the server why it drops the connection; something between may do that, too."
_NO_CLOSE = "Ask who runs the server why it does not close as RFC 6455 says."
_NO_PONG = "Ask who runs the server why it does not answer pings, as RFC 6455 section 5.5.2 says it must."


@click.command(
    help="""Find out what is wrong with the way to the WebSocket server at URL.

    Every address of both families is tried, the server's certificate is read even if nobody would trust it,
    and then there is one attempt as `lochws connect` would make it, with a few pings. For each failure there
    is a sentence on what to change. The exit code is that of `lochws connect`.
    """,
)
@target_options
@click.option("--json", is_flag=True, help="One finding a line, as an object of JSON.")
def doctor(*, json: bool, **options: Any) -> Exit:
    """Examine, and tell."""
    target = Target.taken_from(options)
    websocket = checked(lambda: WebSocket(target.url, **target.arguments))
    attempt = Attempt(websocket, limit(target.timeout) or STEP_SECONDS)
    with busy(f"on the way to {escaped(websocket.url)}"):
        attempt.run()
        findings = [] if attempt.is_proxied else before_the_attempt(target, websocket)
    show([*findings, *attempt.findings], json=json)
    return attempt.outcome.code


def before_the_attempt(target: Target, websocket: WebSocket) -> list[Finding]:
    """What can be learned of the server besides an attempt: its addresses and its certificate. Blocks."""
    endpoint = parse_url(websocket.url)
    if endpoint.unix is not None:
        return []
    seconds = limit(target.timeout) or STEP_SECONDS
    named, addresses = look_up(endpoint.host, endpoint.port, seconds)
    tried, good = try_all(addresses, seconds)
    findings = [*([] if _is_address(endpoint.host) else [named]), *tried]
    if good is not None and endpoint.is_secure:
        name = endpoint.host.partition("%")[0]  # a certificate knows nothing of zones
        handshakes = Handshakes(good, name, seconds, certfile=target.cert, keyfile=target.key)
        findings += handshakes.inspect()
    return findings


class Attempt:
    """One attempt as any program would make it, with pings, and its events as findings.

    Args:
        websocket: who makes it.
        seconds: how long the server may take to answer a ping, and our Close frame.

    Attributes:
        findings: so far.
        outcome: how it ended.
        is_proxied: whether there is a proxy between.
    """

    def __init__(self, websocket: WebSocket, seconds: float) -> None:
        self._websocket = websocket
        self._seconds = seconds
        self.findings: list[Finding] = []
        self.outcome = Outcome()
        self.is_proxied = False
        self._began = monotonic()
        self._latencies: list[float] = []
        self._asked: float | None = None  # when the ping was sent that has no answer yet
        self._closing: events.Closing | None = None  # the server's Close frame, if that came first
        self._has_left = False  # a server that answers no ping

    def run(self) -> None:
        """Make it. Blocks until the connection has ended."""
        seconds = self._seconds
        # Polls come while the server is silent, other events while it floods us.
        for event in self._websocket.connect(poll=seconds / 4, ping_rate=None, close_timeout=seconds):
            for handler in (self.outcome, self):
                react = getattr(handler, f"on_{event.name}", None)
                if react is not None:
                    react(event)
            self._look_at_the_time()

    def on_connecting(self, event: events.Connecting) -> None:
        """It begins, or goes on elsewhere."""
        if self.findings:
            self._find("redirect", Verdict.NOTE, f"to {event.url}")
        self._began = monotonic()

    def on_connected(self, event: events.Connected) -> None:
        """The network's part is done."""
        self.is_proxied = event.proxy is not None
        if event.proxy is not None:
            self._find("proxy", Verdict.OK, f"{event.proxy} leads there", self._took)
        else:
            self._find("connect", Verdict.OK, f"to {event.url}", self._took)
        self._began = monotonic()

    def on_connect_fail(self, event: events.ConnectFail) -> None:
        """The network's part has failed."""
        self.is_proxied = event.phase == "proxy" or "proxy" in event.timings
        reason = event.reason
        if event.response is not None:
            reason += _body(event.response.text)
        phase = "proxy" if event.phase == "proxy" else "connect"
        self._find(phase, Verdict.FAILED, reason, event.timings.get(event.phase), as_options(event.advice))

    def on_rejected(self, event: events.Rejected) -> None:
        """There is no WebSocket."""
        response = event.response
        server = response.get("server")
        by = f", says {server}" if server else ""
        status = f"{response.status_code} {response.status}".strip()
        text = f"{status}{by}: {event.reason}{_body(response.text)}"
        self._find("upgrade", Verdict.FAILED, text, event.timings.get("upgrade"), as_options(event.advice))

    def on_protocol_error(self, event: events.ProtocolError) -> None:
        """The server said what no WebSocket server says."""
        self._find("protocol", Verdict.FAILED, event.error)

    def on_closing(self, event: events.Closing) -> None:
        """The server closes, before we have asked for it."""
        self._closing, self._asked = event, None

    def on_ready(self, event: events.Ready) -> None:
        """The WebSocket is open: what was agreed, and the first ping."""
        tls = self._websocket.tls
        if self.is_proxied and tls is not None:  # else it was looked at directly
            self.findings += agreement(tls, event.timings.get("tls"))
        server = event.response.get("server")
        by = f", says {server}" if server else ""
        status = f"{event.response.status_code} {event.response.status}"
        self._find("upgrade", Verdict.OK, f"{status}{by}", self._took)
        self._find("subprotocol", Verdict.NOTE, event.protocol or "none")
        self._find("extensions", Verdict.NOTE, ", ".join(sorted(event.extensions)) or "none")
        self._began = monotonic()
        self._ping()

    def on_pong(self, event: events.Pong) -> None:
        """The next ping, or the end."""
        if event.latency is None:
            return
        self._latencies.append(event.latency)
        self._asked = None
        if len(self._latencies) < PINGS:
            self._ping()
            return
        least, most = min(self._latencies) * 1000, max(self._latencies) * 1000
        text = f"{PINGS} pings, {least:,.1f} to {most:,.1f} ms"
        self._find("latency", Verdict.OK, text, sum(self._latencies) / PINGS)
        self._began = monotonic()
        self._websocket.close()

    def on_disconnected(self, event: events.Disconnected) -> None:
        """It is over; if it was open, that is a step of its own."""
        if event.phase != "open":
            if not self.findings or self.findings[-1].verdict is not Verdict.FAILED:
                took = event.timings.get("upgrade")
                self._find("upgrade", Verdict.FAILED, event.reason, took, as_options(event.advice))
            elif not self.findings[-1].advice:
                last = self.findings.pop()
                self._find(last.phase, last.verdict, last.result, last.seconds, as_options(event.advice))
        elif self._has_left or self.findings[-1].phase == "protocol":
            pass  # what it ended for has been said
        elif self._closing is not None or len(self._latencies) < PINGS:
            self._find_early_end(event)
        elif event.graceful:
            text = f"the server answered with {_code(event.received_code)}"
            self._find("close", Verdict.OK, text, self._took)
        else:
            self._find("close", Verdict.FAILED, event.reason, self._took, event.advice or _NO_CLOSE)

    def _find_early_end(self, event: events.Disconnected) -> None:
        """It ended before we closed it."""
        after = f"after {len(self._latencies)} of {PINGS} pongs"
        if self._closing is None:
            self._find("open", Verdict.FAILED, f"{event.reason}, {after}", self._took, event.advice or _LOST)
            return
        reason = f": {self._closing.reason}" if self._closing.reason else ""
        text = f"the server closed by itself {after}, with {_code(self._closing.code)}{reason}"
        verdict = Verdict.FAILED if self.outcome.sentence else Verdict.WARNING
        self._find("close", verdict, text, self._took, _CLOSED)

    def _look_at_the_time(self) -> None:
        """Leave a server that answers no ping."""
        if self._asked is not None and monotonic() - self._asked > self._seconds:
            text = f"no answer to a ping within {self._seconds:g} s"
            self._find("latency", Verdict.FAILED, text, monotonic() - self._asked, _NO_PONG)
            self._asked, self._has_left = None, True
            self._websocket.force_disconnect(text)

    def _ping(self) -> None:
        self._asked = monotonic()
        with suppress(WebSocketUnavailable, TransportFail):  # the end is an event of its own
            self._websocket.send_ping(b"lochws doctor %d" % (len(self._latencies) + 1))

    @property
    def _took(self) -> float:
        return monotonic() - self._began

    def _find(self, *about: Any) -> None:
        self.findings.append(Finding(*about))


@contextmanager
def busy(what: str) -> Iterator[None]:
    """A sign on stderr that something is going on, if that is a terminal."""
    if not is_terminal(2):
        yield
        return
    from rich.console import Console  # noqa: PLC0415  a large package, and pipes do without it
    from rich.text import Text  # noqa: PLC0415

    with Console(stderr=True).status(Text(what)):
        yield


def _body(text: str) -> str:
    text = " ".join(text.split())
    return f"; it says: {cut(text, MAX_BODY)}" if text else ""


def _code(code: int | None) -> str:
    return "no code" if code is None else f"code {code}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
