"""The short examples: each runs as its reader would run it, ends by itself, and shows what it promises."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

from lochws.demo import DemoServer

from .running import EXAMPLES, run, running

#: Regular expressions that must match the output, in this order.
SHOWN = {
    "decorators.py": ["journal: Ready", "Text\\(text='hello'\\)", "journal: we closed", "last event: we"],
    "echo.py": ["Is anybody there\\? -> Is anybody there\\?", "Who says so\\? -> Who says so\\?"],
    "iteration.py": ["Connecting", "Connected", "Ready", "Text", "Closed\\(code=1000", "we closed"],
    "outbox.py": ["offline: 4", "file: 4", "all confirmed: True"],
    "persist.py": ["Ready", "Text", "connection lost", "BackOff", "Ready", "Text", "Closed", "we closed"],
    "ticker.py": [
        "ticker: ready", "6\\d{4}\\.\\d", "ticker: connection lost", "ticker: reconnecting",
        "ticker: ready", "6\\d{4}\\.\\d", "ticker: disconnected",
    ],
}

#: The maximum number of lines of larger examples.
LARGER = {
    "chat.py": 120, "dashboard.py": 120, "ticker_table.py": 120,
}


def test_every_example_is_run_by_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py"))
    examples = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")}
    assert not {name for name in examples if f'"{name}"' not in tests}


@pytest.mark.parametrize("name", SHOWN)
def test_the_example_runs_and_ends_by_itself(name: str) -> None:
    shown = re.compile(".*".join(SHOWN[name]), re.DOTALL)
    for _ in range(3 if name == "ticker.py" else 1):  # it ends after two seconds, which a stall may fill
        process = run(name)
        assert process.returncode == 0, process.stderr
        assert not process.stderr
        if shown.search(process.stdout):
            break
    else:
        pytest.fail(process.stdout)


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.name)
def test_the_example_is_read_in_a_few_minutes(path: Path) -> None:
    # The larger ones have a server of their own, too.
    longest = 45 if path.name in SHOWN else LARGER.get(path.name, 80)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= longest


def test_the_list_of_examples_names_them_all() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.rglob("*.py"):
        name = path.relative_to(EXAMPLES).as_posix()
        assert f"]({name})" in text or f"]({path.parent.name})" in text, name


def test_the_echo_example_takes_a_url() -> None:
    with DemoServer() as server:
        process = run("echo.py", server.echo_url)
    assert process.returncode == 0, process.stderr
    assert "-> Are you sure?" in process.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_the_ticker_example_takes_a_url_and_runs_until_ctrl_c() -> None:
    with DemoServer() as server, running("ticker.py", server.url) as ticker:
        assert float(ticker.wait_for(r"^[\d.]+$")[0]) > 0
        ticker.process.send_signal(signal.SIGINT)
        assert ticker.end() == -signal.SIGINT
    assert any(line.endswith("ticker: disconnected: we closed the connection: 1000") for line in ticker.lines)
    assert ticker.lines[-1] == "KeyboardInterrupt"
