"""The cells of docs/jupyter.md and docs/asyncio.md, in a kernel of Jupyter."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from lochws.demo import DemoServer

from ..support.blocks import ROOT, blocks
from .service import HERE, PATIENCE, service_program

FEED = "wss://feed.example.org"


def run_cells(*cells: str) -> list[tuple[str, str | None]]:
    """Run cells, one after the other, against the demo server; return what each printed and raised."""
    with DemoServer(interval=0.05) as server:
        done = subprocess.run(
            [service_program("python"), str(HERE / "notebook.py")],
            input=json.dumps([cell.replace(FEED, server.url.rstrip("/")) for cell in cells]),
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    return [(printed, raised) for printed, raised in json.loads(done.stdout.splitlines()[-1])]


@pytest.mark.timeout(2 * PATIENCE)
def test_the_cells_of_the_pages_run_in_a_kernel() -> None:
    threads = [block.text for block in blocks("docs/jupyter.md") if block.language == "python"]
    start, read = [block.text for block in blocks("docs/asyncio.md") if "notebook" in block.marks]
    receive = "price = await mailbox.__aiter__().__anext__(); print(price.json['type'])"
    results = run_cells(*threads, start, read, receive, "app.stop(timeout=5)")
    *of_threads, started, interrupted, received, stopped = results
    assert [raised for _, raised in of_threads] == [None] * len(threads)
    assert "OPEN" in of_threads[1][0]
    assert started == ("", None)
    assert "ticker" in interrupted[0]
    assert interrupted[1] in {"CancelledError", "KeyboardInterrupt"}
    assert received == ("ticker\n", None)
    assert stopped == ("", None)
