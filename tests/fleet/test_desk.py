"""The leases of a fleet, in distributed's own extension for semaphores."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from distributed.semaphore import SemaphoreExtension

from lochws.fleet.desk import Leases


def later(extension: SemaphoreExtension, seconds: float) -> None:
    """Let all leases be so many seconds older, and have the extension look for those that have run out."""
    for leases in extension.leases.values():
        leases.update({keeper: since - seconds for keeper, since in leases.items()})
    extension._check_lease_timeout()


def test_a_lease_lasts_as_long_as_the_fleet_that_holds_it_says_whatever_an_earlier_one_said() -> None:
    async def run() -> None:
        scheduler = SimpleNamespace(handlers={}, periodic_callbacks={})
        extension = SemaphoreExtension(scheduler)
        scheduler.periodic_callbacks["semaphore-lease-timeout"].stop()
        short, long = Leases(extension, "fleet", 100.0), Leases(extension, "fleet", 1000.0)
        assert await short.obtain([0], "a worker that died") == [0]
        short.close([0])  # in vain: it has a lease
        assert await long.obtain([0], "b") == []
        later(extension, 101)
        assert await long.obtain([0], "b") == [0]
        later(extension, 999)
        assert long.free([0]) == set()
        assert await short.obtain([0], "c") == []
        later(extension, 0)
        assert long.free([0]) == set(), "a fleet with a shorter lease does not end it early"
        later(extension, 2)
        assert long.free([0]) == {0}

    asyncio.run(run())


def test_leases_that_an_earlier_fleet_of_the_name_granted_can_be_given_up() -> None:
    async def run() -> None:
        scheduler = SimpleNamespace(handlers={}, periodic_callbacks={})
        extension = SemaphoreExtension(scheduler)
        scheduler.periodic_callbacks["semaphore-lease-timeout"].stop()
        earlier = Leases(extension, "fleet", 100.0)
        assert await earlier.obtain([0, 1], "a") == [0, 1]
        assert await earlier.obtain([2], "a", "-next") == [2]
        later = Leases(extension, "fleet", 100.0)
        assert later.give_up([0], "a") == [0]
        assert later.give_up([0, 1, 2], "b") == []
        assert later.give_up([2], "a", "-next") == [2]
        assert later.free([0, 1, 2]) == {0, 2}

    asyncio.run(run())
