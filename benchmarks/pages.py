"""The pages with figures, written from the results: no number in them is typed by hand."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import report
from .clients import CLIENTS
from .metrics import METRICS, Metric, middle
from .run import Results
from .targets import BOUNDS, TARGETS, verdicts
from .works import WORKS

ROOT = Path(__file__).parent.parent
README, PERFORMANCE = ROOT / "README.md", ROOT / "docs" / "performance.md"
#: All numbers of the last run, for contributors.
MEASURED = ROOT / "benchmarks" / "MEASURED.md"
#: The same for programs.
RESULTS = ROOT / "benchmarks" / "results.json"
PICTURES = ROOT / "docs/_static/benchmarks.svg", ROOT / "docs/_static/benchmarks.png"
_BEGIN, _END = "<!-- measured: python -m benchmarks --write-docs -->\n", "<!-- end of what was measured -->\n"
_WIDTH = 118

#: The rows of the table that users read, and its columns.
_ROWS = {
    "receive text 128": "receive a text of 128 B, µs",
    "receive TLS 128": "the same over TLS, µs",
    "receive text 1024": "receive a text of 1 KiB, µs",
    "receive deflated 1024": "the same, compressed, µs",
    "receive binary 64K": "receive 64 KiB of binary, µs",
    "receive TLS 64K": "the same over TLS, µs",
    "send text 128": "send a text of 128 B, µs",
    "send binary 64K": "send 64 KiB of binary, µs",
    "echo 125": "round trip of 125 B, one in flight, µs",
    "open 1000": "open 1,000 connections, ms of wall time",
    "open 1000 TLS": "the same with TLS, ms",
    "open 1000, 25 ms away": "the same without TLS, 25 ms away, ms",
    "open 1000 TLS, 25 ms away": "the same with TLS, 25 ms away, ms",
    "idle 10000": "memory of an idle connection, KiB",
    "import": "import the library, ms",
}
_COLUMNS = {
    "lochws": "lochws", "lochws pure": "pure Python", "picows": "picows", "aiohttp": "aiohttp",
    "websockets threads": "websockets, threads", "websocket-client": "websocket-client", "lomond": "Lomond",
}
#: What of these the README admits if another client is faster, in words that follow "at".
_ADMITTED = {
    "echo 125": "round trips with one message in flight",
    "receive binary 64K": "receiving 64 KiB messages",
    "receive TLS 64K": "receiving 64 KiB messages over TLS",
    "send binary 64K": "sending 64 KiB messages",
    "open 1000": "opening 1,000 connections",
    "import": "being imported",
}


def pages(results: Results, about: dict[str, str]) -> dict[Path, str]:
    """Return the pages as they should be, with the parts between their marks replaced.

    Raises:
        ValueError: a page lacks its marks, or something that it tells was not measured.
    """
    return {
        README: _between_marks(README, _readme(results, about)),
        PERFORMANCE: _between_marks(PERFORMANCE, "\n".join(_performance(results, about)) + "\n"),
        MEASURED: "\n".join(_measured(results, about)) + "\n",
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


def _cost(results: Results, work: str, client: str) -> str:
    """Return the first number of a work, as it is told.

    Raises:
        ValueError: it was not measured.
    """
    value = middle(results, work, client, METRICS[WORKS[work].kind][0])
    if value is None:
        raise ValueError(f"{client} was not measured at {work!r}")
    return report.number(value)


def _readme(results: Results, about: dict[str, str]) -> str:
    """Return a picture and two sentences, the second of which has the exceptions."""

    def costs(work: str) -> str:
        peers = ("picows", "websockets threads", "websocket-client")
        said = ", ".join(f"{_COLUMNS[name].partition(',')[0]} {_cost(results, work, name)}" for name in peers)
        return f"{_cost(results, work, 'lochws')} µs of processor time ({said})"

    receive, send = costs("receive text 128"), costs("send text 128")
    exceptions = [
        f"{words} ({_cost(results, work, 'lochws')} {METRICS[WORKS[work].kind][0].name.rpartition(' ')[2]}; "
        f"{best} {_cost(results, work, best)})"
        for work, words in _ADMITTED.items() if (best := _best(results, work)) != "lochws"
    ]
    text = (
        f"On {_machine(about)}, receiving a text message of 128 B takes {receive}, and "
        f"sending one {send}. "
    )
    if exceptions:
        text += f"Others are faster at {_listed(exceptions)}; "
    text += "[performance](docs/performance.md) has the whole table."
    picture = (
        "![What a message costs with lochws and with other clients: processor time by kind of work]"
        f"({PICTURES[0].relative_to(ROOT).as_posix()})\n\n"
    )
    return picture + textwrap.fill(text, _WIDTH, break_on_hyphens=False, break_long_words=False) + "\n"


def _best(results: Results, work: str) -> str:
    """Return the client that does a work at the least cost; on a tie, lochws."""
    metric = METRICS[WORKS[work].kind][0]
    found = {name: middle(results, work, name, metric) for name in _COLUMNS if name != "lochws pure"}
    values = {name: value for name, value in found.items() if value is not None}
    return min(values, key=values.__getitem__)


def _listed(items: list[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def _performance(results: Results, about: dict[str, str]) -> Iterator[str]:
    """Yield the lines of the table for users."""
    yield textwrap.fill(
        "Processor time of the client's process for each message, unless the row says otherwise; less is "
        "better. "
        f"Measured on {about['date']}, on {_machine(about)}, with {', '.join(report.peer_versions(about))}. "
        "A dash: the client does not do that, or did not finish.",
        _WIDTH, break_on_hyphens=False,
    )
    yield ""
    yield _row("", *_COLUMNS.values())
    yield "|---" * (len(_COLUMNS) + 1) + "|"
    for work, words in _ROWS.items():
        if work not in results.rounds:
            continue  # it needs more than this machine allows
        metric = METRICS[WORKS[work].kind][0]
        yield _row(words, *(report.number(middle(results, work, name, metric)) for name in _COLUMNS))


def _measured(results: Results, about: dict[str, str]) -> Iterator[str]:
    """Yield the lines of the page for contributors: targets, and the medians of everything."""
    wanted = [target for target in (*TARGETS, *BOUNDS) if target.work in results.rounds]
    found = verdicts(results, wanted)
    met = sum(verdict.is_met for verdict in found)
    yield "# What was measured\n"
    yield textwrap.fill(
        f"Written by `python -m benchmarks --write-docs` on {about['date']}, on {_machine(about)}, with "
        f"{', '.join(report.peer_versions(about))}. [README.md](README.md) says how it is measured and what "
        "each number means.",
        _WIDTH, break_on_hyphens=False,
    )
    yield f"\n## Targets\n\n**{met} of {len(found)} targets are met.** Reached is the median of the rounds."
    yield "\n| target | wanted | reached | rounds | |\n|---|---|---|---|---|"
    for verdict in found:
        yield _row(
            verdict.text, verdict.target.wanted, report.number(verdict.reached), _range(verdict.rounds),
            f"**{verdict.state}**" if not verdict.is_met else verdict.state,
        )
    yield "\n## Medians\n\nA dash: the client does not do that, or did not finish.\n"
    clients = [name for name in CLIENTS if any(name in rounds for rounds in results.rounds.values())]
    yield _row("", *clients)
    yield "|---" * (len(clients) + 1) + "|"
    for work in results.rounds:
        for metric in _told(work):
            numbers = (report.number(middle(results, work, name, metric)) for name in clients)
            yield _row(f"{work}: {metric.name}", *numbers)


def _told(work: str) -> Iterable[Metric]:
    """Return the metrics to show of a work: wall time of messages depends more on the server."""
    metrics = METRICS[WORKS[work].kind]
    return metrics[:1] if WORKS[work].kind in ("receive", "send") else metrics


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _range(rounds: tuple[float, ...]) -> str:
    return f"{report.number(min(rounds))} to {report.number(max(rounds))}" if len(rounds) > 1 else ""


def _machine(about: dict[str, str]) -> str:
    return f"{about['processors']} processors with Python {about['python']}"
