"""Fleets with a scheduler and workers that are processes, and a server that sees who owns what."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from time import monotonic

import pytest
from distributed import Client

from lochws import errors
from lochws.fleet import Fleet

from .cluster import BACKOFF, LEASE, Cluster, Watcher, cluster, make_app, make_feed

pytestmark = pytest.mark.timeout(240)
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
    with Client(dask.address, timeout=60) as client:
        eventually(lambda: set(dask.names(client)) == {"w0", "w1", "w2"})
        yield client


def eventually(condition: Callable[[], bool], dask: Cluster | None = None) -> None:
    """Wait until a condition holds, a minute at most: processes start slowly on a busy machine."""
    end = monotonic() + 60
    while not condition():
        assert monotonic() < end, dask.log() if dask else "the condition did not hold in time"
        threading.Event().wait(0.02)


def urls(watcher: Watcher) -> list[str]:
    return [watcher.url(name) for name in sorted(NAMES)]


def each_has_one_owner(watcher: Watcher, pids: set[int]) -> bool:
    owners = watcher.owners()
    has_one = owners.keys() >= NAMES and all(len(owners[name]) == 1 for name in NAMES)
    return has_one and set().union(*owners.values()) == pids


def test_workers_share_the_sources_and_take_over_from_those_that_die_or_are_stopped(
    watcher: Watcher, dask: Cluster, client: Client
) -> None:
    with Fleet(client, urls(watcher), make_app, lease=LEASE, shards=24, persist=BACKOFF) as fleet:
        assert fleet.wait_ready(60)
        pids = {process.pid for process in dask.workers.values()}
        eventually(lambda: each_has_one_owner(watcher, pids))

        pids.remove(dask.kill("w0"))
        eventually(lambda: each_has_one_owner(watcher, pids))
        assert fleet.wait_ready(60)
        assert {each.name for each in fleet.status().workers} == {"w1", "w2"}

        # A process that is stopped keeps its connections open, but takes no part. When it wakes up, the first
        # that the server hears of it is that it is gone; then it takes its share of the shards again.
        stopped = dask.signal("w1", signal.SIGSTOP)
        (alive,) = pids - {stopped}
        eventually(lambda: all(alive in owners for owners in watcher.owners().values()))
        dask.signal("w1", signal.SIGCONT)
        eventually(lambda: each_has_one_owner(watcher, pids))

        # A worker that joins takes its share, and no source has two owners meanwhile.
        watcher.forget()
        pids.add(dask.add_worker("w3"))
        eventually(lambda: each_has_one_owner(watcher, pids))
        assert set(watcher.most.values()) == {1}

        # Draining leaves nothing behind.
        assert fleet.drain("w3", timeout=60)
        eventually(lambda: each_has_one_owner(watcher, {alive, stopped}))
        assert fleet.close()
    assert not watcher.pids()
    with pytest.raises(errors.WebSocketError, match="does not run on the scheduler"):
        fleet.status()


def test_when_the_scheduler_dies_all_stop_and_with_another_one_all_return(
    watcher: Watcher, dask: Cluster, client: Client
) -> None:
    with Fleet(client, urls(watcher), make_app, lease=LEASE, shards=24, persist=BACKOFF) as fleet:
        assert fleet.wait_ready(60)
        dask.kill_scheduler()
        # Workers of Dask end without their scheduler, and close their apps.
        for process in dask.workers.values():
            process.wait(60)
        eventually(lambda: not watcher.pids())
        dask.restart_scheduler()
        dask.workers.clear()
        pids = {dask.add_worker("w0"), dask.add_worker("w1")}
        eventually(lambda: each_has_one_owner(watcher, pids))
        eventually(fleet.wait_ready)


def test_feeds_overlap_when_they_move_and_a_source_that_fails_is_in_quarantine(
    watcher: Watcher, dask: Cluster, client: Client
) -> None:
    watcher.refused.add("7")
    with Fleet(
        client, urls(watcher), make_feed, lease=LEASE, shards=24, persist=BACKOFF, overlap=True,
        quarantine_after=3,
    ) as fleet:
        eventually(lambda: [each.source for each in fleet.status().quarantined] == [watcher.url(7)])
        pids = {process.pid for process in dask.workers.values()}
        others = NAMES - {"7"}
        eventually(lambda: {name for name, owners in watcher.owners().items() if owners} == others)
        eventually(lambda: fleet.status().open == len(others))
        watcher.forget()
        assert fleet.drain("w0", timeout=60)
        gone = dask.workers["w0"].pid
        eventually(lambda: watcher.pids() == pids - {gone})
        assert not watcher.longest, "a source was without a connection while it moved"
        assert max(watcher.most.values()) == 2
        assert [each.source for each in fleet.status().quarantined] == [watcher.url(7)]
        watcher.refused.clear()
        assert fleet.release() == 1
        eventually(lambda: bool(watcher.owners().get("7")))
        fleet.set_sources([watcher.url(1), watcher.url("new")])
        eventually(lambda: {name for name, owners in watcher.owners().items() if owners} == {"1", "new"})
