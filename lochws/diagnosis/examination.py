"""Examination: the complete diagnosis of a server, step by step."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..options import Password
from ..url import parse_url
from .addresses import look_up, try_all
from .attempt import Attempt
from .certificate import Handshakes
from .findings import Finding, Verdict

if TYPE_CHECKING:
    from ..websocket import WebSocket

#: The time limit for a step, in seconds, if none is set.
STEP_SECONDS = 30.0

#: For each phase in which an attempt can fail: the steps of the examination that find the same problem.
_SAME_PROBLEM = {"resolve": ("name",), "tcp": ("IPv4", "IPv6"), "tls": ("TLS",), "dates": ("certificate",)}
_TRY_WSS = "Try wss:// instead of ws://: this port expects TLS."


@dataclass(frozen=True, kw_only=True)
class ClientCertificate:
    """The client certificate to present to a server that asks for one.

    Attributes:
        certfile: the file of the certificate, or None.
        keyfile: the file of its private key, if separate.
        password: the key's password, or a function that returns it.
    """

    certfile: str | os.PathLike[str] | None = None
    keyfile: str | os.PathLike[str] | None = None
    password: Password | None = None


def diagnose(
    websocket: WebSocket,
    seconds: float | None = None,
    *,
    own: ClientCertificate | None = None,
    is_direct: bool = True,
    observers: Sequence[object] = (),
) -> list[Finding]:
    """Make one attempt to connect, and examine the server's addresses and certificate. Blocks.

    Args:
        websocket: makes the attempt; nothing else may iterate it.
        seconds: the time limit for each step; None for `STEP_SECONDS`.
        own: the client certificate for the examination; the attempt uses that of `websocket`.
        is_direct: whether the server is reached at an address of its host. Addresses of a proxied server
            are never examined.
        observers: objects whose ``on_<event>`` methods get each event of the attempt.
    """
    seconds = seconds or STEP_SECONDS
    attempt = Attempt(websocket, seconds, observers)
    attempt.run()
    findings = [] if attempt.is_proxied or not is_direct else _examine(attempt, seconds, own)
    return _without_repetition(findings, attempt)


def _examine(attempt: Attempt, seconds: float, own: ClientCertificate | None) -> list[Finding]:
    """Examine the server's addresses and its certificate, or whether it expects TLS at all. Blocks."""
    try:
        endpoint = parse_url(attempt.url)
    except ValueError:
        return []  # a function was to return the URL, and failed
    if endpoint.unix is not None:
        return []
    named, addresses = look_up(endpoint.host, endpoint.port, seconds)
    tried, good = try_all(addresses, seconds)
    findings = [*([] if _is_address(endpoint.host) else [named]), *tried]
    if good is not None and endpoint.is_secure:
        name = endpoint.host.partition("%")[0]  # certificates have no zones
        own = own or ClientCertificate()
        handshakes = Handshakes(
            good, name, seconds, certfile=own.certfile, keyfile=own.keyfile, password=own.password
        )
        findings += handshakes.inspect()
    elif good is not None and attempt.was_hung_up_on and Handshakes(good, endpoint.host, seconds).succeed():
        result = "the server expects TLS on this port"
        attempt.findings[-1] = replace(attempt.findings[-1], result=result, advice=_TRY_WSS)
    return findings


def _without_repetition(examined: list[Finding], attempt: Attempt) -> list[Finding]:
    """Combine all findings, and report a problem that both parts found only once, with the advice."""
    failed = [finding for finding in examined if finding.verdict is Verdict.FAILED]
    if len(failed) != 1 or failed[0].phase not in _SAME_PROBLEM.get(attempt.failed_phase, ()):
        return [*examined, *attempt.findings]
    *before, last = attempt.findings
    result = last.result if failed[0].phase == "TLS" else failed[0].result  # whichever is more detailed
    only = replace(failed[0], result=result, advice=last.advice or failed[0].advice)
    return [*(only if finding is failed[0] else finding for finding in examined), *before]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
