"""Hosts that do not answer do not keep apps of other hosts from connecting on shared threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from statistics import median

import pytest

from lochws import Backoff, Threads

from ..faults.registry import fault
from ..support.awake import Awake
from ..support.peer import Link, StartPeer
from ..support.ports import silent_port
from ..support.scripts import polite
from ..support.seen import PATIENCE, Noting

#: Seconds within which an app of a healthy host must be ready.
PROMPTLY = 10.0
#: How many hosts do not answer, and by how many seconds they may delay another one.
CROWD, MOST_DELAY = 2000, 0.2
#: Tries on a busy machine; one that is prompt suffices.
MOST_TRIES = 10


def stop_all(apps: list[Noting]) -> None:
    for app in apps:
        app.close()
    assert all(app.join(PATIENCE) for app in apps)


@fault("opening", "Hosts that do not answer share threads with others")
@pytest.mark.parametrize("hosts", ["one host", "a host each"])
@pytest.mark.parametrize("supervisors", [2, 4])
def test_in_their_first_attempt(hosts: str, supervisors: int, start_peer: StartPeer, awake: Awake) -> None:
    shared = Threads(supervisors)
    one = start_peer(Link.wait_for_end).url
    urls = [one if hosts == "one host" else start_peer(Link.wait_for_end).url for _ in range(6)]
    dead = [Noting(url, threads=shared) for url in urls]
    for app in dead:
        app.start()
    dead[0].wait_for("connecting")
    good = Noting(start_peer(polite).url, threads=shared)
    began = awake()
    good.start()
    assert good.wait_ready(PATIENCE)
    assert awake() - began < PROMPTLY
    stop_all([good, *dead])


def test_after_many_attempts_of_more_hosts_than_there_are_threads(start_peer: StartPeer) -> None:
    shared = Threads(2)
    dead = [
        Noting(start_peer(Link.wait_for_end).url, threads=shared, open_timeout=0.05) for _ in range(30)
    ]
    for app in dead:
        app.start(persist=Backoff(0, 0))
    dead[-1].wait_for("back_off")
    for app in dead:
        app.reconnect()
    good = Noting(start_peer(polite).url, threads=shared)
    good.start()
    assert good.wait_ready(PATIENCE)
    stop_all([good, *dead])


@fault("opening", "Hosts that do not answer share threads with others")
def test_a_connection_that_is_lost_comes_back_while_others_hang(start_peer: StartPeer) -> None:
    shared = Threads(2)
    good = Noting(start_peer(polite).url, threads=shared)
    good.start(persist=Backoff(0, 0))
    assert good.wait_ready(PATIENCE)
    dead = [Noting(start_peer(Link.wait_for_end).url, threads=shared) for _ in range(6)]
    for app in dead:
        app.start()
    dead[0].wait_for("connecting")
    good.reconnect()
    good.wait_for("ready", 2)
    stop_all([good, *dead])


def test_attempts_that_hang_take_no_thread(start_peer: StartPeer) -> None:
    shared = Threads(2, name="few")
    dead = [Noting(start_peer(Link.wait_for_end).url, threads=shared) for _ in range(20)]
    for app in dead:
        app.start(persist=False)
    for app in dead:
        app.wait_for("connected")
    ours = [thread.name for thread in threading.enumerate() if thread.name.startswith("lochws-")]
    assert sum("-few" in name for name in ours) <= 3, ours
    stop_all(dead)


@fault("opening", "Hosts that do not answer share threads with others")
def test_hosts_that_have_failed_leave_half_of_the_attempts_to_others(start_peer: StartPeer) -> None:
    shared = Threads(2, attempts=2)
    dead = [
        Noting(start_peer(Link.wait_for_end).url, threads=shared, open_timeout=0.05) for _ in range(10)
    ]
    for app in dead:
        app.start(persist=Backoff(0, 0))
    for app in dead:
        app.wait_for("back_off")
    good = Noting(start_peer(polite).url, threads=shared)
    good.start()
    assert good.wait_ready(PATIENCE)
    stop_all([good, *dead])


@pytest.fixture
def dead_port() -> Iterator[int]:
    with silent_port() as port:
        yield port


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Raise the limit of descriptors to the number that the crowd needs."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CROWD + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("this user may not have that many descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@fault("opening", "Hosts that do not answer share threads with others")
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.1.2.3 is no address of this machine")
@pytest.mark.usefixtures("many_descriptors")
def test_thousands_of_hosts_that_were_never_tried_do_not_delay_another(
    dead_port: int, start_peer: StartPeer, awake: Awake
) -> None:
    shared, url = Threads(), start_peer(polite).url

    def opening() -> float:
        app = Noting(url, threads=shared)
        began = awake()
        app.start(persist=False)
        assert app.wait_ready(PATIENCE)
        took = awake() - began
        assert app.stop(PATIENCE)
        return took

    with_company = Noting(url, threads=shared)  # the threads do not end meanwhile
    with_company.start(persist=False)
    alone = [opening() for _ in range(5)]
    hosts = (f"127.1.{number // 250}.{number % 250 + 1}" for number in range(CROWD))
    dead = [Noting(f"ws://{host}:{dead_port}/", threads=shared, open_timeout=None) for host in hosts]
    for app in dead:
        app.start(persist=False)
    beside = [opening()]  # for this one, all of the others have yet to begin
    while beside[-1] >= median(alone) + MOST_DELAY:
        assert len(beside) < MOST_TRIES, (alone, beside)
        beside.append(opening())
    assert not any(app.all("connect_fail") for app in dead)
    stop_all([with_company, *dead])
