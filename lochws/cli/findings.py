"""The findings of `lochws doctor`, shown as a table, as plain lines or as JSON."""

from __future__ import annotations

import enum
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from ..text import escaped
from .shown import as_json
from .target import is_terminal


class Verdict(str, enum.Enum):
    """The verdict of a finding."""

    OK = "ok"
    NOTE = "note"  # neither good nor bad
    WARNING = "warning"  # works nevertheless
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """The result of one step.

    Attributes:
        phase: the name of the step.
        verdict: whether the result is good.
        result: the result, possibly quoting the server, and not yet escaped.
        seconds: how long the step took, or None if that is not meaningful.
        advice: a sentence on what to change; empty if there is nothing to change.
    """

    phase: str
    verdict: Verdict
    result: str
    seconds: float | None = None
    advice: str = ""

    @property
    def time(self) -> str:
        """The duration in milliseconds as text; empty if there is none."""
        return "" if self.seconds is None else f"{self.seconds * 1000:,.1f} ms"

    def as_object(self) -> dict[str, Any]:
        """Convert the finding for JSON; its texts are not escaped."""
        return {
            "phase": self.phase, "verdict": self.verdict.value, "result": self.result,
            "seconds": None if self.seconds is None else round(self.seconds, 6), "advice": self.advice,
        }


_STYLES = {Verdict.OK: "green", Verdict.NOTE: "dim", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red"}


def show(findings: Sequence[Finding], *, json: bool) -> None:
    """Print findings: as a table on a terminal, else as plain lines; with `json`, as one object per line."""
    if json:
        for finding in findings:
            click.echo(as_json(finding.as_object()))
    elif is_terminal(1):
        _show_table(findings)
    else:
        for finding in findings:
            columns = f"{finding.verdict.value:8} {finding.phase:12} {finding.time:>12}"
            click.echo(f"{columns}  {escaped(finding.result)}")
            if finding.advice:
                click.echo(f"{'':35}→ {escaped(finding.advice)}")


def _show_table(findings: Sequence[Finding]) -> None:
    from rich import box  # noqa: PLC0415  a large package, of no use in pipes
    from rich.console import Console  # noqa: PLC0415
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
    Console(file=sys.stdout).print(table)
