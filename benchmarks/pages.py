"""The pages that tell what was measured, written from the results: no number in them is typed by hand."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import report
from .clients import CLIENTS
from .metrics import METRICS, Metric, middle
from .run import Results
from .targets import BOUNDS, TARGETS, Verdict, verdicts
from .works import WORKS

ROOT = Path(__file__).parent.parent
README, PERFORMANCE = ROOT / "README.md", ROOT / "docs" / "performance.md"
#: The numbers of the last run that was written into the pages.
RESULTS = ROOT / "benchmarks" / "results.json"
PICTURES = ROOT / "docs/_static/benchmarks.svg", ROOT / "docs/_static/benchmarks.png"
_BEGIN, _END = "<!-- measured: python -m benchmarks --write-docs -->\n", "<!-- end of what was measured -->\n"
_WIDTH = 118


def pages(results: Results, about: dict[str, str]) -> dict[Path, str]:
    """The pages as they should be: what stands between their marks is replaced.

    Raises:
        ValueError: a page lacks its marks, or something that it tells was not measured.
    """
    found = verdicts(results, [*TARGETS, *BOUNDS])
    return {
        README: _between_marks(README, _readme(results, about, found)),
        PERFORMANCE: _between_marks(PERFORMANCE, "\n".join(_performance(results, about, found)) + "\n"),
    }


def write(results: Results, about: dict[str, str]) -> None:
    """Write pages, pictures and the results that they show.

    Raises:
        ValueError: as of `pages`; nothing was written then.
    """
    results, about = report.from_json(report.to_json(results, about))  # rounded, as they will be compared
    written = pages(results, about)
    from .chart import draw  # noqa: PLC0415  matplotlib is not needed to check pages

    RESULTS.write_text(report.to_json(results, about), encoding="utf-8")
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    for picture in PICTURES:
        draw(results, about, picture)


def _between_marks(page: Path, text: str) -> str:
    before, begin, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page.name} has no marks around what was measured")
    return f"{before}{begin}\n{text}\n{end}{after}"


def _readme(results: Results, about: dict[str, str], found: list[Verdict]) -> str:
    """A picture and three sentences, whatever the numbers are."""

    def cost(work: str, client: str) -> str:
        value = middle(results, work, client, METRICS[WORKS[work].kind][0])
        if value is None:
            raise ValueError(f"{client} was not measured at {work!r}")
        return report.number(value)

    def costs(work: str, *clients: str) -> str:
        return ", ".join(f"{client} {cost(work, client)}" for client in clients)

    receive, send, echo = "receive text 128", "send text 128", "echo 125"
    met = sum(verdict.is_met for verdict in found)
    paragraph = (
        f"Receiving a text message of 128 B costs a program {cost(receive, 'lochws')} µs of processor time "
        f"with lochws, and {cost(receive, 'lochws on_batch')} µs if it takes them in lists; with picows, "
        f"which is compiled and needs asyncio, it costs {cost(receive, 'picows')} µs, with aiohttp "
        f"{cost(receive, 'aiohttp')}, with websockets' threading client "
        f"{cost(receive, 'websockets threads')}, with websocket-client {cost(receive, 'websocket-client')}. "
        f"Sending one costs {cost(send, 'lochws')} µs "
        f"({costs(send, 'picows', 'websocket-client')}), a round trip with one message in flight "
        f"{cost(echo, 'lochws')} µs ({costs(echo, 'picows', 'websocket-client', 'bare sockets')}). "
        f"All were measured in one run on {_machine(about)}, in which lochws met {met} of the {len(found)} "
        "targets that were set for it: [docs/performance.md](docs/performance.md) says which, where the time "
        "goes, and what is left."
    )
    picture = (
        "![What a message costs with lochws and with other clients: processor time by kind of work]"
        f"({PICTURES[0].relative_to(ROOT).as_posix()})\n\n"
    )
    return picture + textwrap.fill(paragraph, _WIDTH, break_on_hyphens=False, break_long_words=False) + "\n"


def _performance(results: Results, about: dict[str, str], found: list[Verdict]) -> Iterator[str]:
    met = sum(verdict.is_met for verdict in found)
    versions = ", ".join(report.peer_versions(about))
    yield textwrap.fill(
        f"Measured on {about['date']}, on {_machine(about)}, with {versions}. "
        f"**{met} of {len(found)} targets are met.** "
        "Reached is the median of the rounds, whose least and most follow it.",
        _WIDTH, break_on_hyphens=False,
    )
    yield "\n| target | wanted | reached | rounds | |\n|---|---|---|---|---|"
    for verdict in found:
        yield _row(
            verdict.text, verdict.target.wanted, report.number(verdict.reached), _range(verdict.rounds),
            f"**{verdict.state}**" if not verdict.is_met else verdict.state,
        )
    yield "\nThe medians of all clients, of which a dash says that it does not do that work:\n"
    clients = [name for name in CLIENTS if any(name in rounds for rounds in results.rounds.values())]
    yield _row("", *clients)
    yield "|---" * (len(clients) + 1) + "|"
    for work in results.rounds:
        for metric in _told(work):
            numbers = (report.number(middle(results, work, name, metric)) for name in clients)
            yield _row(f"{work}: {metric.name}", *numbers)


def _told(work: str) -> Iterable[Metric]:
    """What is told of a work: wall time of messages says more of the server than of a client."""
    metrics = METRICS[WORKS[work].kind]
    return metrics[:1] if WORKS[work].kind in ("receive", "send") else metrics


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _range(rounds: tuple[float, ...]) -> str:
    return f"{report.number(min(rounds))} to {report.number(max(rounds))}" if len(rounds) > 1 else ""


def _machine(about: dict[str, str]) -> str:
    return f"{about['processors']} processors with Python {about['python']}"
