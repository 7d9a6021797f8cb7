"""The order books of docs/sequences.md under faults: the short form of `python -m tests.exchange`."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .exchange import Exchange
from .play import Step, play, steps


@pytest.fixture(scope="module", params=[True, False], ids=["ranges", "numbers"])
def exchange(request: pytest.FixtureRequest) -> Iterator[Exchange]:
    with Exchange(ranges=request.param) as exchange:
        yield exchange


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> None:
    """Log nothing: pytest keeps the tracebacks, and with them the sockets of the snapshots that failed."""
    caplog.set_level(logging.CRITICAL, "lochws")


@pytest.mark.parametrize("patience", [0.0, 0.01])
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), drawn=st.lists(steps(), min_size=1, max_size=5))
def test_a_book_is_that_of_the_exchange_after_each_fault_and_at_each_message(
    exchange: Exchange, patience: float, seed: int, drawn: list[Step]
) -> None:
    play(exchange, seed, drawn, ranges=exchange.ranges, patience=patience)
