"""The findings of `lochws doctor`, shown as a table, as plain lines or as JSON."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ..diagnosis.findings import Finding, Verdict
from ..text import escaped
from .output import has_color, is_quiet, rich_console
from .shown import as_json
from .target import is_terminal

_STYLES = {Verdict.OK: "green", Verdict.NOTE: "dim", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red"}


def show(findings: Sequence[Finding], *, json: bool) -> None:
    """Print findings: as a table on a terminal, otherwise one per line; with `json`, as one object per line.

    With ``-q``, only problems are printed.
    """
    if is_quiet():
        findings = [finding for finding in findings if finding.verdict in {Verdict.WARNING, Verdict.FAILED}]
    if json:
        for finding in findings:
            click.echo(as_json(finding.as_object()))
    elif is_terminal(1) or has_color():
        if findings:
            _show_table(findings)
    else:
        for finding in findings:
            columns = f"{finding.verdict.value:8} {finding.phase:12} {finding.time:>12}"
            advice = f" → {finding.advice}" if finding.advice else ""
            click.echo(f"{columns}  {escaped(finding.result + advice)}")


def _show_table(findings: Sequence[Finding]) -> None:
    from rich import box  # noqa: PLC0415  a large package, of no use in pipes
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("step", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("time", no_wrap=True, justify="right")
    table.add_column("result", overflow="fold")
    for finding in findings:
        # A Text is not parsed for markup, so the server's text is shown unchanged.
        result = Text(escaped(finding.result))
        if finding.advice:
            result.append(f"\n→ {escaped(finding.advice)}", style="bold")
        verdict = Text(finding.verdict.value, style=_STYLES[finding.verdict])
        table.add_row(Text(finding.phase), verdict, Text(finding.time), result)
    rich_console().print(table)
