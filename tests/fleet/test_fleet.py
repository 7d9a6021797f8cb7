"""Fleets with a scheduler and workers that are processes, and a server that sees who owns what."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from time import monotonic

import pytest
from distributed import Client, Queue
from prometheus_client import CollectorRegistry

from lochws import errors
from lochws.fleet import Fleet

from ..support.seen import PATIENCE
from .cluster import BACKOFF, LEASE, Cluster, Watcher, cluster, make_app, make_feed, make_telling_app, uptime

pytestmark = pytest.mark.timeout(240)
#: So long that no lease ends even if the machine stalls; no test waits for the end of such a lease.
LONG_LEASE = 2 * PATIENCE
SOURCES = 30
NAMES = {str(number) for number in range(SOURCES)}


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watching = Watcher()
    yield watching
    watching.close()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("dask")) as running:
        yield running


@pytest.fixture
def dask(processes: Cluster) -> Cluster:
    """A scheduler and the workers w0, w1 and w2; those of them that an earlier test has ended are new."""
    processes.repair(["w0", "w1", "w2"])
    return processes


@pytest.fixture
def client(dask: Cluster) -> Iterator[Client]:
    with Client(dask.address, timeout=PATIENCE) as client:
        eventually(lambda: set(dask.names(client)) == {"w0", "w1", "w2"}, dask)
        yield client


@pytest.fixture(scope="module")
def with_nannies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("nannies"), 2, nannies=True) as running:
        yield running


@pytest.fixture
def calm(with_nannies: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client for workers with nannies, and leases that do not end while a busy machine stalls."""
    monkeypatch.setattr("lochws.fleet.fleet.uptime", uptime)
    with Client(with_nannies.address, timeout=PATIENCE) as client:
        eventually(lambda: {"w0", "w1"} <= set(with_nannies.names(client)), with_nannies)
        yield client


def eventually(condition: Callable[[], bool], dask: Cluster | None = None) -> None:
    """Wait until a condition holds, a minute at most: processes start slowly on a busy machine."""
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end, dask.log() if dask else "the condition did not hold in time"
        threading.Event().wait(0.02)


def urls(watcher: Watcher) -> list[str]:
    return [watcher.url(name) for name in sorted(NAMES)]


def each_has_one_owner(watcher: Watcher, pids: set[int]) -> bool:
    owners = watcher.owners()
    has_one = owners.keys() >= NAMES and all(len(owners[name]) == 1 for name in NAMES)
    return has_one and set().union(*owners.values()) == pids


def owned(watcher: Watcher) -> set[str]:
    return {name for name, owners in watcher.owners().items() if owners}


def refusal(fleet: Fleet[str], *workers: str) -> str:
    with pytest.raises(ValueError) as caught:
        fleet.restart_workers(*workers)
    return str(caught.value)


def test_workers_share_the_sources_and_take_over_from_those_that_die_or_are_stopped(
    watcher: Watcher, dask: Cluster, client: Client
) -> None:
    with Fleet(client, urls(watcher), make_app, lease=LEASE, shards=24, persist=BACKOFF) as fleet:
        pids = {process.pid for process in dask.workers.values()}
        eventually(lambda: each_has_one_owner(watcher, pids), dask)

        pids.remove(dask.kill("w0"))
        eventually(lambda: each_has_one_owner(watcher, pids), dask)
        eventually(lambda: {each.name for each in fleet.status().workers} == {"w1", "w2"})

        # A process that is stopped keeps its connections open, but takes no part. When it wakes up, it takes
        # its share of the shards again.
        (alive,) = pids - {dask.workers["w1"].pid}
        with dask.stopped(dask.workers["w1"]) as stop:
            eventually(lambda: stop() and all(alive in owners for owners in watcher.owners().values()), dask)
        eventually(lambda: each_has_one_owner(watcher, pids), dask)

        # A worker that stalls for a lease is not one of the fleet until its next report.
        eventually(lambda: "'w2' has no nanny that would restart it" in refusal(fleet, "w2", "w1"), dask)
        assert not any(each.is_draining for each in fleet.status().workers)


def test_workers_that_cannot_reach_the_scheduler_close_their_apps_until_they_can(
    watcher: Watcher, dask: Cluster, client: Client
) -> None:
    with Fleet(client, urls(watcher), make_app, lease=LEASE, shards=24, persist=BACKOFF):
        pids = {process.pid for process in dask.workers.values()}
        eventually(lambda: each_has_one_owner(watcher, pids), dask)
        with dask.stopped(dask.scheduler) as stop:
            eventually(lambda: stop() and not watcher.pids(), dask)
        eventually(lambda: each_has_one_owner(watcher, pids), dask)


def test_when_the_scheduler_dies_all_stop_and_with_another_one_all_return(
    watcher: Watcher, dask: Cluster, client: Client
) -> None:
    with Fleet(client, urls(watcher), make_app, lease=LEASE, shards=24, persist=BACKOFF) as fleet:
        eventually(lambda: owned(watcher) == NAMES, dask)
        dask.kill_scheduler()
        # Workers of Dask end without their scheduler, and close their apps.
        for process in dask.workers.values():
            process.wait(PATIENCE)
        eventually(lambda: not watcher.pids(), dask)
        dask.restart_scheduler()
        dask.workers.clear()
        pids = {dask.add_worker("w0"), dask.add_worker("w1")}
        eventually(lambda: each_has_one_owner(watcher, pids), dask)
        assert fleet.wait_ready(PATIENCE)


def test_a_source_has_one_owner_while_workers_join_are_drained_and_restarted(
    watcher: Watcher, with_nannies: Cluster, calm: Client
) -> None:
    with Fleet(calm, urls(watcher), make_app, lease=LONG_LEASE, shards=24, persist=BACKOFF) as fleet:
        assert fleet.wait_ready(PATIENCE)
        first = set(calm.run(os.getpid).values())
        eventually(lambda: each_has_one_owner(watcher, first))

        registry = CollectorRegistry()
        fleet.register(registry)
        of_fleet = {"fleet": "fleet"}
        assert registry.get_sample_value("lochws_fleet_sources", of_fleet) == SOURCES
        assert registry.get_sample_value("lochws_fleet_quarantined", of_fleet) == 0
        assert registry.get_sample_value("lochws_fleet_worker_shards", {**of_fleet, "worker": "w1"})

        with_nannies.add_worker("w2")
        eventually(lambda: len(watcher.pids()) == 3)
        (joined,) = watcher.pids() - first
        eventually(lambda: fleet.status().moving == 0 and each_has_one_owner(watcher, {joined, *first}))
        assert fleet.drain("w2", timeout=PATIENCE)
        eventually(lambda: each_has_one_owner(watcher, first))
        fleet.resume("w2")
        eventually(lambda: joined in watcher.pids())
        assert fleet.restart_workers("w0", timeout=2 * PATIENCE)
        now = set(calm.run(os.getpid).values())
        assert len(now) == 3
        assert len(now - {joined, *first}) == 1, "one process is new"
        eventually(lambda: each_has_one_owner(watcher, now))
        assert set(watcher.most.values()) == {1}
        assert fleet.close(PATIENCE)
        eventually(lambda: not watcher.pids())
        assert registry.get_sample_value("lochws_fleet_sources", of_fleet) is None
    with pytest.raises(errors.WebSocketError, match="does not run on the scheduler"):
        fleet.status()


def test_a_worker_that_dies_just_before_its_restart_is_waited_for(watcher: Watcher, calm: Client) -> None:
    class Deadly(Fleet[str]):
        def drain(self, *workers: str, timeout: float | None = None) -> bool:
            is_done = super().drain(*workers, timeout=timeout)
            (address,) = (each.address for each in self.status().workers if each.name in workers)
            os.kill(before[address], signal.SIGKILL)
            eventually(lambda: address not in {each.address for each in self.status().workers})
            return is_done

    with Deadly(calm, urls(watcher), make_app, lease=LONG_LEASE, shards=24, persist=BACKOFF) as fleet:
        assert fleet.wait_ready(PATIENCE)
        before = calm.run(os.getpid)
        names = [each.name for each in fleet.status().workers]
        assert fleet.restart_workers(names[0], timeout=2 * PATIENCE)
        assert [each.name for each in fleet.status().workers] == names
        now = set(calm.run(os.getpid).values())
        assert len(now - {*before.values()}) == 1
        eventually(lambda: each_has_one_owner(watcher, now))


def test_feeds_overlap_when_they_move_and_a_source_that_fails_is_in_quarantine(
    watcher: Watcher, calm: Client
) -> None:
    watcher.refused.add("7")
    with Fleet(
        calm, urls(watcher), make_feed, lease=LONG_LEASE, shards=24, persist=BACKOFF, overlap=True,
        quarantine_after=3,
    ) as fleet:
        eventually(lambda: [each.source for each in fleet.status().quarantined] == [watcher.url(7)])
        others = NAMES - {"7"}
        eventually(lambda: owned(watcher) == others)
        workers = calm.run(os.getpid)
        watcher.forget()
        drained = fleet.status().workers[0]
        assert fleet.drain(drained.name, timeout=PATIENCE)
        eventually(lambda: watcher.pids() == {*workers.values()} - {workers[drained.address]})
        assert not watcher.longest, "a source was without a connection while it moved"
        assert max(watcher.most.values()) == 2
        names = [each.name for each in fleet.status().workers]
        last = names[-1]
        if others_to_drain := [name for name in names if name not in (drained.name, last)]:
            assert fleet.drain(*others_to_drain, timeout=PATIENCE)
        for method in (fleet.drain, fleet.restart_workers):
            with pytest.raises(ValueError, match=f"no other worker could take the shards of '{last}'"):
                method(last)
        assert not fleet.status().workers[-1].is_draining
        with pytest.raises(ValueError, match=rf"resume: 'w9' is not .* expected one of \['{names[0]}', "):
            fleet.resume(drained.name, "w9")
        assert fleet.status().workers[0].is_draining
        assert [each.source for each in fleet.status().quarantined] == [watcher.url(7)]
        watcher.refused.clear()
        assert fleet.release() == 1
        eventually(lambda: bool(watcher.owners().get("7")))
        fleet.set_sources([watcher.url(1), watcher.url("new")])
        eventually(lambda: owned(watcher) == {"1", "new"})


def test_no_worker_takes_more_sources_than_its_limit_and_one_without_weight_takes_none(
    watcher: Watcher, calm: Client
) -> None:
    names = sorted(each["name"] for each in calm.scheduler_info(n_workers=-1)["workers"].values())
    idle, small, *_ = names
    with Fleet(
        calm, urls(watcher), make_app, lease=LONG_LEASE, shards=24, persist=BACKOFF, weights={idle: 0.0},
        limits={small: 5}, limit=9,
    ) as fleet:
        eventually(lambda: [each.name for each in fleet.status().workers] == names)
        eventually(lambda: (status := fleet.status()).owned == status.shards - status.unplaced > 0)
        pids = calm.run(os.getpid)
        present = {each.name: pids[each.address] for each in fleet.status().workers}
        eventually(lambda: watcher.pids() == {*present.values()} - {present[idle]})
        counts = Counter(pid for owners in watcher.owners().values() for pid in owners)
        assert fleet.status().unplaced > 0
        assert counts[present[small]] <= 5
        assert all(count <= 9 for count in counts.values())


def test_events_leave_the_workers_through_a_queue_of_dask_s(watcher: Watcher, calm: Client) -> None:
    queue = Queue("owners", client=calm)
    with Fleet(calm, urls(watcher), make_telling_app, lease=LONG_LEASE, shards=24, persist=BACKOFF):
        told = dict(queue.get(timeout=PATIENCE) for _ in NAMES)
        assert told.keys() == set(urls(watcher))
        assert set(told.values()) <= set(calm.run(os.getpid).values())
