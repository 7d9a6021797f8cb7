"""The command ``python -m tests.faults``: runs every test of a fault and writes docs/faults.md.

With ``--collect`` it only checks that each fault has a test.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from .registry import PAGE, Coverage, render

#: In a checkout that was built with pip, the list of lochws's files names ``tests``, so pytest takes that
#: package for a part of the plugin, and warns that it came too early to have its assertions rewritten: it has
#: none itself.
ALREADY_HERE = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")


class Gathering:
    """A plugin of pytest that records which tests belong to faults and how they end."""

    def __init__(self, coverage: Coverage) -> None:
        self._coverage = coverage

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Take in the tests, once all are known."""
        self._coverage.add(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a phase of a test that did not pass. A skipped test has shown nothing either."""
        if not report.passed:
            self._coverage.fail(report.nodeid)


def files() -> list[str]:
    """Return the test files that use the marker: collecting only these is quick."""
    tests = Path(__file__).parents[1]
    return [str(path) for path in sorted(tests.rglob("test_*.py")) if "fault(" in path.read_text("utf-8")]


def main() -> int:
    """Run the tests and return the status for the shell."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--collect", action="store_true", help="check that each fault has a test; run none")
    collect = parser.parse_args().collect
    coverage = Coverage()
    quiet = ["--collect-only", "-qqq"] if collect else []
    arguments = [*ALREADY_HERE, "-p", "no:cacheprovider", "-m", "fault", *quiet, *files()]
    status = pytest.main(arguments, [Gathering(coverage)])
    if not collect:
        PAGE.write_text(render(), encoding="utf-8")
    for _, name in sorted(coverage.failed):
        sys.stderr.write(f"failed: {name}\n")
    for name in coverage.missing():
        sys.stderr.write(f"no test of: {name}\n")
        status = 1
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
