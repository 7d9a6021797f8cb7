"""examples/kernel.py: requests, replies, and the output in between."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from lochws.handlers.replies import ReplyLost

from ..support.seen import PATIENCE
from .running import load, run


def test_the_program_shows_busy_output_and_reply_of_each_cell() -> None:
    process = run("kernel.py")
    assert process.returncode == 0, process.stderr
    assert not process.stderr
    assert [line.strip() for line in process.stdout.splitlines()] == [
        "A small kernel",
        "In: 6 * 7", "status           busy", "execute_result   42", "execute_reply    ok",
        "In: for step in range(3):", "print('step', step)", "status           busy",
        *(f"stream           step {number}" for number in range(3)), "execute_reply    ok",
        "In: 1 / 0", "status           busy", "error            ZeroDivisionError: division by zero",
        "execute_reply    error",
        "at once: busy 'one' ok", "at once: busy 'two' ok",
    ]


def test_outputs_of_simultaneous_requests_do_not_mix() -> None:
    example = load("kernel.py")
    with example.small_kernel() as url, example.Kernel(url) as kernel, ThreadPoolExecutor(20) as threads:
        assert kernel.wait_ready(PATIENCE)
        cells = [f"print({number})\nprint('more')\n{number} + 1" for number in range(100)]
        for number, outputs in enumerate(threads.map(lambda cell: list(kernel.execute(cell)), cells)):
            shown = [example.shown(*output) for output in outputs]
            assert shown == ["busy", str(number), "more", str(number + 1), "ok"]
        assert not kernel.outputs
        assert not kernel.replies.open_requests


@pytest.mark.parametrize("cell", ["", "x = 1", "def f(:", "undefined", "raise KeyError('k')"])
def test_any_cell_gets_a_reply(cell: str) -> None:
    example = load("kernel.py")
    with example.small_kernel() as url, example.Kernel(url) as kernel:
        assert kernel.wait_ready(PATIENCE)
        *_, (kind, content) = kernel.execute(cell)
    assert kind == "execute_reply"
    assert content["status"] == ("ok" if cell in {"", "x = 1"} else "error")


def test_an_execution_fails_when_the_connection_is_lost() -> None:
    example = load("kernel.py")
    with example.small_kernel() as url, example.Kernel(url) as kernel:
        assert kernel.wait_ready(PATIENCE)
        outputs = kernel.execute("print.__self__.connection.drop()")
        assert next(outputs) == ("status", {"execution_state": "busy"})
        with pytest.raises(ReplyLost, match="connection lost"):
            list(outputs)
        assert not kernel.outputs
