"""``python -m benchmarks``: measure lochws and its peers, print the tables, say which targets were met."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.support.delayed_link import FAR_HOST, is_possible

from . import pages, report
from .clients import CLIENTS, missing
from .run import Bench, Results
from .targets import BOUNDS, TARGETS, Bound, Target, verdicts
from .works import WORKS

_ROUNDS, _SECONDS = 5, 0.5
_SHORT_ROUNDS, _SHORT_SECONDS = 4, 0.1


def main() -> int:
    """Run the command line. Returns the exit status: 1 if in the short form a ratio is below its floor."""
    options = _parse()
    targets: Sequence[Target | Bound] = _short_targets(options) if options.short else [*TARGETS, *BOUNDS]
    if options.load:
        results, about = report.from_json(options.load.read_text(encoding="utf-8"))
        _print_lines(f"{name}: {value}" for name, value in about.items())
        _print_lines(report.tables(results))
    else:
        about = report.environment()
        _print_lines(f"{name}: {value}" for name, value in about.items())
        results = _measure(options, about)
    found = verdicts(results, [target for target in targets if target.work in results.rounds])
    _print_lines(report.verdict_lines(found))
    for path in options.chart:
        from .chart import draw  # noqa: PLC0415  matplotlib is not needed to measure

        draw(results, about, path)
    if options.write_docs:
        pages.write(results, about)
    return int(options.short and not all(verdict.holds for verdict in found))


def _parse() -> argparse.Namespace:
    names = ", ".join(WORKS), ", ".join(CLIENTS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, help="how often each client does each work (5)")
    parser.add_argument("--work", action="append", default=[], metavar="NAME",
                        help=f"a work, or how some begin; may be repeated: {names[0]}")
    parser.add_argument("--peers", metavar="NAMES",
                        help=f"clients, lochws too, with commas: {names[1]}")
    parser.add_argument("--seconds", type=float, help="processor time of one measurement (0.5)")
    parser.add_argument("--pin", action=argparse.BooleanOptionalAction, default=True,
                        help="keep server and client on a processor each, with all their threads")
    parser.add_argument("--short", action="store_true",
                        help="under a minute; status 1 if a ratio is below its floor: for automatic runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--load", type=Path, metavar="FILE", help="show what --json wrote; measure nothing")
    parser.add_argument("--chart", type=Path, action="append", default=[], metavar="FILE",
                        help="draw a chart, .png or .svg; may be repeated")
    parser.add_argument("--write-docs", action="store_true",
                        help="write what was measured, which must be all, into README.md and docs/")
    options = parser.parse_args()
    for name in options.peers.split(",") if options.peers else ():
        if name not in CLIENTS:
            parser.error(f"there is no client {name!r}")
    for beginning in options.work:
        if not any(work.startswith(beginning) for work in WORKS):
            parser.error(f"there is no work {beginning!r}")
    if options.write_docs and not options.load:
        absent = [name for name in CLIENTS if missing(name)]
        if options.work or options.peers or options.short or absent:
            parser.error(f"--write-docs needs all works and clients (missing: {', '.join(absent) or 'none'})")
    return options


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _measure(options: argparse.Namespace, about: dict[str, str]) -> Results:
    """Measure work by work; what was measured is printed, and written, at once."""
    targets = _short_targets(options)
    wanted = [
        work for work in WORKS.values()
        if (not options.work or work.name.startswith(tuple(options.work)))
        and (not options.short or any(target.work == work.name for target in targets))
    ]
    if any(work.delay for work in wanted) and not is_possible():
        print("without the works with a delay: they need a namespace with a TUN device", file=sys.stderr)
        wanted = [work for work in wanted if not work.delay]
    names = _installed(options.peers.split(",") if options.peers else CLIENTS)
    rounds = options.rounds or (_SHORT_ROUNDS if options.short else _ROUNDS)
    seconds = options.seconds or (_SHORT_SECONDS if options.short else _SECONDS)
    results = Results()
    with tempfile.TemporaryDirectory() as certificates:
        if any(work.tls for work in wanted):
            write_certificates(Path(certificates))
        bench = Bench(certificates, seconds, pin=options.pin)
        for work in wanted:
            here = [target for target in targets if target.work == work.name]
            needed = {name for target in here for name in (target.ours, target.peer, "lochws")}
            clients = [name for name in names if not options.short or name in needed]
            part = bench.run(work, clients, rounds)
            if options.short:
                look_again(bench, part, here, rounds)
            results.add(part)
            _print_lines(report.tables(part))
            if options.json:
                options.json.write_text(report.to_json(results, about), encoding="utf-8")
    return results


def look_again(bench: Bench, part: Results, targets: Sequence[Target], rounds: int) -> None:
    """Add twice as many rounds to a work with a ratio below its floor.

    All rounds count then, the first ones too: a machine that was disturbed for some seconds is outvoted,
    and a client that is slow stays slow. A client that failed has failed.
    """
    low = [verdict for verdict in verdicts(part, targets) if not verdict.holds]
    if not low or any(verdict.reached is None for verdict in low):
        return
    (name,) = part.rounds
    print(f"{name}: again, for a ratio was below its floor", file=sys.stderr)
    part.extend(bench.run(WORKS[name], list(part.rounds[name]), 2 * rounds))


def _installed(names: Iterable[str]) -> list[str]:
    reasons = {name: missing(name) for name in names}
    for name, reason in reasons.items():
        if reason:
            print(f"without {name}: {reason}", file=sys.stderr)
    return [name for name, reason in reasons.items() if not reason]


def _short_targets(options: argparse.Namespace) -> list[Target]:
    return [
        target for target in TARGETS
        if target.short and (not options.work or target.work.startswith(tuple(options.work)))
    ]


def write_certificates(directory: Path) -> None:
    """Make an authority and a server's certificate, to be thrown away."""
    import trustme  # noqa: PLC0415  only for TLS

    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    issued = authority.issue_cert("127.0.0.1", FAR_HOST)
    issued.private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")


if __name__ == "__main__":
    sys.exit(main())
