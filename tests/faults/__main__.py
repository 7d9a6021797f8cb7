"""Runs every test of a fault and writes docs/faults.md: ``python -m tests.faults``.

With ``--collect`` it runs none, and prints the page as it is when all of them pass.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from .registry import PAGE, Table

#: In a checkout that was built with pip, the list of lochws's files names ``tests``, so pytest takes that
#: package for a part of the plugin, and warns that it came too early to have its assertions rewritten: it has
#: none itself.
ALREADY_HERE = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")


class Gathering:
    """A plugin of pytest that fills a table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """All tests are known."""
        self._table.add(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test has come so far. A skipped one has shown nothing."""
        if not report.passed:
            self._table.failed(report.nodeid)


def files() -> list[str]:
    """The test files that have the marker: collecting them is quick."""
    tests = Path(__file__).parents[1]
    return [str(path) for path in sorted(tests.rglob("test_*.py")) if "fault(" in path.read_text("utf-8")]


def main() -> int:
    """Run it; returns the status for the shell."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--collect", action="store_true", help="print the page without running the tests")
    collect = parser.parse_args().collect
    table = Table()
    quiet = ["--collect-only", "-qqq"] if collect else []
    arguments = [*ALREADY_HERE, "-p", "no:cacheprovider", "-m", "fault", *quiet, *files()]
    status = pytest.main(arguments, [Gathering(table)])
    if status == pytest.ExitCode.OK or (status == pytest.ExitCode.TESTS_FAILED and not collect):
        if collect:
            sys.stdout.write("\0" + table.render())  # behind what pytest has to say
        else:
            PAGE.write_text(table.render(), encoding="utf-8")
    for name in table.missing():
        sys.stderr.write(f"no test of: {name}\n")
        status = 1
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
