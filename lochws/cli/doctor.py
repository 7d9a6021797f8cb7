"""`lochws doctor`: each step of opening a WebSocket, with its result, its duration, and advice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click

from .. import WebSocket
from ..diagnosis.examination import ClientCertificate, diagnose
from ..diagnosis.findings import Finding
from ..text import escaped
from .exits import Ending, Exit
from .findings import show
from .output import is_quiet, rich_console
from .shown import as_options
from .target import Target, checked, is_terminal, limit, target_options


@target_options
@click.command(
    help="""Diagnose the connection to the WebSocket server at URL.

    Tries every address of the host, reads the server's certificate even if it is not trusted, and then
    connects as `lochws connect` would and sends a few pings. Each problem is one line, with advice on how to
    fix it; -q prints only those. The exit codes are those of `lochws connect`.
    """,
)
@click.option("--json", is_flag=True, help="Print one JSON object per finding.")
def doctor(*, json: bool, **options: Any) -> Exit:
    """Examine the server and print the findings."""
    target = Target.taken_from(options)
    websocket = checked(lambda: WebSocket(target.url, **target.arguments))
    own, ending = ClientCertificate(certfile=target.cert, keyfile=target.key), Ending()
    with busy(f"examining {escaped(websocket.url)}"):
        findings = diagnose(websocket, limit(target.timeout), own=own, observers=[ending])
    show([_in_words(finding) for finding in findings], json=json)
    return ending.code


def _in_words(finding: Finding) -> Finding:
    """Return a finding in the words of the command line."""
    return replace(finding, result=as_options(finding.result), advice=as_options(finding.advice))


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show a status line on stderr during the block, if that is a terminal."""
    if is_quiet() or not is_terminal(2):
        yield
        return
    from rich.text import Text  # noqa: PLC0415  a large package, of no use in pipes

    with rich_console(err=True).status(Text(what)):
        yield
