"""examples/dask_workers.py, with a scheduler and two workers of Dask, each a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ..support.seen import PATIENCE, eventually
from .running import errors_of, run, running

#: The last line of the output if no price was lost.
ALL_DONE = "WorkCounts(received=30, waiting=0, running=0, done=30, failed=0, dropped=0)"


@contextmanager
def dask(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program of Dask on loopback; it is stopped at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *map(str, arguments), "--host", "127.0.0.1", "--no-dashboard"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_two_workers_share_the_work_and_one_does_it_all_when_the_other_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    with ExitStack() as stack:
        stack.enter_context(dask("scheduler", "--port", "0", "--scheduler-file", file))
        workers = [
            stack.enter_context(dask(
                "worker", "--scheduler-file", file, "--nthreads", "1", "--no-nanny",
                "--local-directory", tmp_path / name,
            ))
            for name in "ab"
        ]
        eventually(file.exists)
        eventually(lambda: file.read_text(encoding="utf-8").endswith("}"))
        address = json.loads(file.read_text(encoding="utf-8"))["address"]
        example = stack.enter_context(running("dask_workers.py", address, "2"))
        for worker in workers:
            example.wait_for(rf"computed by .*-{worker.pid}$")
        workers[0].kill()
        assert example.end() == 0, example.lines
    assert example.lines[-1] == ALL_DONE


@pytest.mark.timeout(120)
def test_by_itself_it_starts_two_workers() -> None:
    # Three processes import Dask, which on a busy machine takes much longer than the work.
    process = run("dask_workers.py", timeout=100)
    assert process.returncode == 0, process.stderr
    assert not errors_of(process)
    lines = process.stdout.splitlines()
    assert lines[-1] == ALL_DONE
    line_of_work = re.compile(r"(\S+) at +[\d.]+: a call is worth +[\d.]+, computed by (.*)")
    shown = [line_of_work.fullmatch(line) for line in lines[:-1]]
    products = [found[1] for found in shown if found]
    assert {product: products.count(product) for product in products} == dict.fromkeys(
        ["BTC-USD", "ETH-USD", "SOL-USD"], 10
    )
    assert len({found[2] for found in shown if found}) == 2
