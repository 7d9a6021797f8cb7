"""examples/ticker_table.py, in a terminal."""

from __future__ import annotations

import signal
import sys

import pytest

from lochws.demo import DemoServer

from .running import ENVIRONMENT, command, load

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

from ..support.terminal import Terminal

ROW = r"│ {} +│ +[\d,]+\.\d\d │ +[+-]0\.\d{{3}} % │ [▁▂▃▄▅▆▇█]{{2,}} *│ +\d+ │"


def test_the_table_lives_through_a_lost_connection_and_stays_on_the_screen() -> None:
    with Terminal(command("ticker_table.py"), ENVIRONMENT) as screen:
        screen.wait_for_match(ROW.format("BTC-USD"))
        screen.wait_for_match("connected, .* over 2 connections")
        assert screen.end() == 0
        shown = screen.text.splitlines()
    # The log's warning stands above the table, or below it if the log is late.
    lines = [line for line in shown if ": connection lost after " not in line]
    assert len(shown) - len(lines) == 1
    assert lines[0].strip().startswith("Prices from ws://127.0.0.1:")
    assert lines[-1].startswith("closed, ")
    assert [line.split()[1] for line in lines if line.startswith("│")] == ["BTC-USD", "ETH-USD", "SOL-USD"]
    assert len(lines) == 9, "rich has drawn one table, over itself"


def test_the_table_follows_the_products_of_a_url_until_ctrl_c() -> None:
    with (
        DemoServer(interval=0.01) as server,
        Terminal(command("ticker_table.py", server.url, "X-USD"), ENVIRONMENT) as screen,
    ):
        screen.wait_for_match(ROW.format("X-USD"))
        screen.process.send_signal(signal.SIGINT)
        assert screen.end() == 0
        assert "BTC-USD" not in screen.text
        assert screen.text.splitlines()[-1].startswith("closed, ")


@pytest.mark.parametrize(
    ("prices", "drawn"), [((1.0,), "▁"), ((1.0, 2.0), "▁█"), ((0.0, 7.0, 3.0), "▁█▄"), ((5.0, 5.0), "▁▁")]
)
def test_bars_reach_from_the_lowest_to_the_highest_price(prices: tuple[float, ...], drawn: str) -> None:
    assert load("ticker_table.py").bars(prices) == drawn
