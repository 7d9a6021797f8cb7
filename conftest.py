"""Pytest settings for the whole checkout: its own plugin, and ``--no-skips``, which fails a skipped test.

CI uses that option, so that a missing peer or interpreter cannot silently disable a test suite.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

import pytest_lochws


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail tests that would be skipped")


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin's fixtures even if lochws is not installed but only on the path."""
    plugins = config.pluginmanager
    if not (plugins.has_plugin("lochws") or plugins.is_blocked("lochws")):
        plugins.register(pytest_lochws, "lochws")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # An expected failure is also reported as skipped, but is not a skipped test.
    if report.skipped and not hasattr(report, "wasxfail"):
        _refuse(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        _refuse(collector.config, report)
    return report


def _refuse(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    if config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which --no-skips forbids: {report.longrepr}"
