"""The numbers behind the defaults of the back-off, and the table of docs/reconnecting.md that shows them.

Each client of a fleet loses a stable connection at the same moment, and is refused until the server is back.
The draws are pseudo-random, so the numbers are the same in every run.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from statistics import median

import pytest

from lochws import Backoff
from lochws.events import ConnectFail, Disconnected
from lochws.life.backoff import AttemptEnd, Retries

from ..support.pages import page, rows

CRASH = Disconnected("connection lost: reset by the server")
CLEAN = Disconnected("closed", True, ended_by="server", received_code=1012)
REFUSED = ConnectFail("unable to connect")
CLIENTS = 2000
#: The widest interval in which a server notices how many attempts arrive at once, in seconds.
MOMENT = 0.1


@cache
def delays(outage: float, *, is_shared: bool, end: AttemptEnd = CRASH) -> list[float]:
    """Return how long after the server's return each client of a fleet connects, in seconds."""
    dice = random.Random(f"{outage} {is_shared} {end.reason}")
    return [_delay(outage, Retries(Backoff(), dice.random, is_shared=is_shared), end) for _ in range(CLIENTS)]


def _delay(outage: float, retries: Retries, end: AttemptEnd) -> float:
    now, outcome = 3600.0, end
    retries.opened(0.0)
    while True:
        retries.ended(now)
        wait = retries.next_wait(outcome, now, 0.0)
        assert wait is not None
        now, outcome = now + wait, REFUSED
        if now >= 3600.0 + outage:
            return now - 3600.0 - outage


def share_of_the_busiest_moment(found: list[float]) -> float:
    return max(Counter(int(delay / MOMENT) for delay in found).values()) / len(found)


OUTAGES = {"1 s": 1.0, "10 s": 10.0, "60 s": 60.0, "10 min": 600.0}


def test_the_page_has_the_medians_of_both_defaults() -> None:
    computed = {
        outage: [f"{median(delays(seconds, is_shared=shared)):.1f} s" for shared in (False, True)]
        for outage, seconds in OUTAGES.items()
    }
    table = {first: rest for first, *rest in rows(page("reconnecting.md")) if first in OUTAGES}
    assert table == computed


def test_the_page_has_the_medians_after_a_clean_end_without_an_outage() -> None:
    computed = [f"{median(delays(0.0, is_shared=shared, end=CLEAN)):.2f} s" for shared in (False, True)]
    table = {first: rest for first, *rest in rows(page("reconnecting.md"))}
    assert table["none, closed cleanly"] == computed


@pytest.mark.parametrize(("outage", "limit"), [(1.0, 0.5), (10.0, 2.2), (60.0, 9.0), (600.0, 10.0)])
def test_one_client_waits_less_than_socket_io_after_short_outages(outage: float, limit: float) -> None:
    assert median(delays(outage, is_shared=False)) < limit


@pytest.mark.parametrize("outage", [0.0, *OUTAGES.values()])
@pytest.mark.parametrize("is_shared", [False, True])
def test_a_fleet_does_not_return_in_one_moment_after_a_crash(outage: float, is_shared: bool) -> None:
    assert share_of_the_busiest_moment(delays(outage, is_shared=is_shared)) < 0.25


def test_a_fleet_on_shared_threads_does_not_return_in_one_moment_after_a_clean_end() -> None:
    assert share_of_the_busiest_moment(delays(0.0, is_shared=True, end=CLEAN)) < 0.15
    assert share_of_the_busiest_moment(delays(0.0, is_shared=False, end=CLEAN)) == 1


@pytest.mark.parametrize("is_shared", [False, True])
def test_after_a_long_outage_the_waits_have_reached_30_seconds_for_both(is_shared: bool) -> None:
    found = delays(600.0, is_shared=is_shared)
    assert 25 < max(found) <= 30
