"""Command line of the Autobahn run: ``python -m tests.autobahn``."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import cast

from . import cases, client_lochws, report, wstest
from .run import Client, Run
from .server import FuzzingServer

DESCRIPTION = """\
Run Autobahn's fuzzing server against lochws, and print a table of the outcome.
Exits 1 unless every case is OK; only 7.1.6, 7.13.1 and 7.13.2 may be informational.

The server is Autobahn's wstest, taken from the variable WSTEST, from PATH, or installed into .autobahn/ of
this checkout with a Python 2.7 from PATH or pyenv.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parse(arguments)
    # Otherwise the servers would outlive a terminated run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    client = cast(Client, importlib.import_module(f"{__package__}.client_{options.client}"))
    if options.fragment is not None:
        echo = partial(client_lochws.echo, fragment=options.fragment)
        client = cast(Client, SimpleNamespace(echo=echo, ask=client.ask))
    agent = options.agent or options.client
    began = monotonic()
    try:
        results = run(options, client, agent)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\n{report.table(results)}\n")
    for complaint in report.complaints(results):
        print(complaint)
    seconds = monotonic() - began
    print(f"{agent}: {len(results)} cases in {seconds:.0f} s, reports in {options.reports / agent}")
    return 0 if report.is_good(results) else 1


def run(options: argparse.Namespace, client: Client, agent: str) -> dict[str, dict[str, object]]:
    """Start the servers, take the client through the cases, end the servers."""
    command = wstest.find_or_install()
    patterns = cases.QUICK if options.quick else options.cases
    with ExitStack() as stack:
        servers = [
            stack.enter_context(FuzzingServer(command, patterns, options.reports / agent / str(number)))
            for number in range(1, options.jobs + 1)
        ]
        return Run(client, servers, agent, options.case_seconds).results()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        "python -m tests.autobahn",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--cases", nargs="+", default=cases.ALL, metavar="CASE",
                       help="cases or patterns such as 6.* 9.1.1; default: all")
    which.add_argument("--quick", action="store_true",
                       help="sections 1-7, 9.1-9.4 and 10, and the first three cases of each 12.x and 13.x")
    parser.add_argument("--client", choices=["lochws", "websockets"], default="lochws",
                        help="whom to test; websockets is there to compare")
    parser.add_argument("--fragment", type=int, metavar="BYTES",
                        help="let lochws send messages in fragments of this size; default: its own")
    parser.add_argument("--agent", help="name in the reports; default: the client's")
    parser.add_argument("--jobs", type=int, choices=range(1, 17), default=2, metavar="N",
                        help="servers, and so cases, at a time; default: 2")
    parser.add_argument("--case-seconds", type=float, default=180, metavar="S",
                        help="give a case up after this long; default: 180")
    parser.add_argument("--reports", type=Path, default=wstest.CACHE / "reports", metavar="FOLDER",
                        help="where the servers write their reports; default: .autobahn/reports")
    options = parser.parse_args(arguments)
    if options.fragment is not None and options.client != "lochws":
        parser.error("--fragment is for lochws")
    return options


if __name__ == "__main__":
    sys.exit(main())
