"""Reports: tables of what was measured, and the file to keep."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from importlib import metadata
from importlib.util import find_spec
from statistics import median

from lochws.version import __version__

from .clients import CLIENTS
from .metrics import BUSY, METRICS, Metric, middle, ratios
from .run import Measurement, Results
from .targets import Target, Verdict
from .works import WORKS

_REFERENCE = "lochws"


def environment() -> dict[str, str]:
    """Return what the numbers depend on."""
    compiled = find_spec("lochws.protocol._compiled") is not None
    found = {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": str(os.cpu_count()),
        "lochws": f"{__version__}, {'with' if compiled else 'without'} its compiled part",
    }
    peers = {entry.distribution for entry in CLIENTS.values() if entry.distribution}
    for name in sorted(peers | {"uvloop", "wsaccel", "zlib-ng"}):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def peer_versions(about: dict[str, str]) -> list[str]:
    """Name and version of each peer and library that took part."""
    others = ("date", "python", "system", "processors", "lochws")
    return [f"{name} {version}" for name, version in about.items()
            if name not in others and version != "not installed"]


def tables(results: Results) -> Iterable[str]:
    """One table a work, line by line."""
    for work, clients in results.rounds.items():
        metrics = BUSY if WORKS[work].busy else METRICS[WORKS[work].kind]
        ratio_of = f"{metrics[0].name} / {_REFERENCE}'s: median and each round"
        yield ""
        yield f"{work:<22}" + "".join(f"{metric.name:>12}" for metric in metrics) + f"   {ratio_of}"
        for client in clients:
            if client in results.failures.get(work, {}):
                yield f"  {client:<20}  failed: {results.failures[work][client]}"
            else:
                yield f"  {client:<20}" + _numbers(results, work, client, metrics)


def _numbers(results: Results, work: str, client: str, metrics: Sequence[Metric]) -> str:
    columns = "".join(f"{number(middle(results, work, client, metric)):>12}" for metric in metrics)
    found = ratios(results, work, metrics[0], _REFERENCE, client) if client != _REFERENCE else []
    if not found:
        return columns
    return columns + f"   {median(found):6.2f}  (" + " ".join(f"{ratio:.2f}" for ratio in found) + ")"


def number(value: float | None) -> str:
    """Three figures of a number, or a dash for none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def verdict_lines(verdicts: Iterable[Verdict]) -> Iterable[str]:
    """One line a target: what was reached, what is wanted, and the floor of those that have one."""
    yield ""
    yield "targets (ratios: times as fast, or as small)"
    for verdict in verdicts:
        reached = "not measured" if verdict.reached is None else number(verdict.reached)
        line = f"  {verdict.text:<70} {reached:>12}   {verdict.target.wanted:<14} {verdict.state:<8}"
        if isinstance(verdict.target, Target) and verdict.target.short:
            line += f"  floor {verdict.target.least:.2f} {'holds' if verdict.holds else 'BROKEN'}"
        yield line.rstrip()


def to_json(results: Results, about: dict[str, str]) -> str:
    """Everything, to be kept and drawn later: six figures of each number, a line a client and work."""
    works = [
        f"  {json.dumps(work)}: {{\n" + ",\n".join(
            f"   {json.dumps(client)}: {json.dumps([_rounded(one) for one in measurements])}"
            for client, measurements in clients.items()
        ) + "\n  }"
        for work, clients in results.rounds.items()
    ]
    return (
        f'{{\n "environment": {json.dumps(about, ensure_ascii=False)},\n'
        f' "failures": {json.dumps({work: failed for work, failed in results.failures.items() if failed})},\n'
        ' "rounds": {\n' + ",\n".join(works) + "\n }\n}\n"
    )


def _rounded(measurement: Measurement) -> Measurement:
    return {key: float(f"{value:.6g}") for key, value in measurement.items()}


def from_json(text: str) -> tuple[Results, dict[str, str]]:
    """Read what `to_json` wrote."""
    data = json.loads(text)
    return Results(data["rounds"], data["failures"]), data["environment"]
