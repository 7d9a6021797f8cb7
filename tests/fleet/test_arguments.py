"""Mistakes in the arguments of a fleet: refused before anything is sent to the cluster."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from distributed import Client, LocalCluster

from lochws import Backoff, Threads, WebSocketApp
from lochws.errors import WebSocketError
from lochws.fleet import Fleet, current_worker

from ..support.seen import PATIENCE


def make_app(url: str, threads: Threads) -> WebSocketApp:
    return WebSocketApp(url, threads=threads)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with LocalCluster(
        n_workers=0, dashboard_address=":0", host="127.0.0.1"
    ) as cluster, Client(cluster) as client:
        yield client


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": ""}, "name='': expected a str that is not empty"),
        ({"shards": 0}, "shards=0: expected a whole number from 1 to 1048576"),
        ({"lease": 0.5}, "lease=0.5: expected at least 1 second"),
        ({"moves_at_once": 0}, "moves_at_once=0: expected a whole number of at least 1"),
        ({"overlap": 1}, "overlap=1: expected"),
        ({"quarantine_after": 0}, "quarantine_after=0: expected a whole number of at least 1"),
        ({"quarantine_for": -1}, "quarantine_for=-1: expected a number of at least 0"),
        ({"linger": -1}, "linger=-1: expected a number of at least 0"),
        ({"limit": -1}, "limit=-1: expected a whole number of at least 0"),
        ({"weights": {"w": -1}}, r"weights\['w'\]=-1: expected a number of at least 0"),
        ({"weights": {1: 1}}, "weights: 1 is not the name of a worker: expected a str"),
        ({"weights": ["w"]}, "weights=.*: expected a mapping from names of workers, or None"),
        ({"limits": {"w": 1.5}}, r"limits\['w'\]=1.5: expected a whole number of at least 0"),
        ({"persist": False}, "persist=False: expected True or a Backoff"),
        ({"ping_rate": -1}, "ping_rate=-1"),
        ({"pong_rate": 1}, "pong_rate"),
        ({"sources": "wss://a.example"}, "expected several sources, such as"),
        ({"sources": ["a", "b", "a"]}, "sources: 'a' is listed twice"),
        ({"sources": [object()]}, "has no stable text"),
        ({"sources": [1], "key": lambda source: source}, "key returned 1 for 1: expected a str"),
        ({"make_app": None}, "make_app=None: expected a function of a source and a Threads"),
        ({"make_app": lambda url: None}, "make_app"),
        ({"key": 5}, "key=5: expected a function of one argument"),
        ({"client": "tcp://127.0.0.1:1"}, "expected a distributed.Client, or None"),
    ],
)
def test_an_invalid_argument_is_named(client: Client, arguments: dict[str, Any], words: str) -> None:
    given = {"client": client, "sources": ["wss://a.example"], "make_app": make_app, **arguments}
    with pytest.raises((TypeError, ValueError), match=words):
        Fleet(given.pop("client"), given.pop("sources"), given.pop("make_app"), **given)
    assert not any(thread.name.startswith("lochws-fleet") for thread in threading.enumerate())


def test_a_function_that_cannot_be_pickled_is_refused(client: Client) -> None:
    lock = threading.Lock()

    def locking(url: str, threads: Threads) -> WebSocketApp:
        with lock:
            return WebSocketApp(url, threads=threads)

    with pytest.raises(TypeError, match=r"make_app=.* cannot be pickled for the workers"):
        Fleet(client, ["wss://a.example"], locking)


def test_a_name_that_is_taken_is_refused_until_the_other_fleet_is_closed(client: Client) -> None:
    with Fleet(client, ["wss://a.example"], make_app, persist=Backoff(max_wait=5)) as fleet:
        with pytest.raises(ValueError, match="a fleet of this name is running"):
            Fleet(client, ["wss://b.example"], make_app)
        for use in (fleet.drain, fleet.resume, fleet.restart_workers):
            words = rf"{use.__name__}: 'w' is not a worker of this fleet: expected one of \[\]"
            with pytest.raises(ValueError, match=words):
                use("w")
        for method in (fleet.drain, fleet.resume):
            with pytest.raises(ValueError, match="expected at least one worker's name, from"):
                method()
        with pytest.raises(ValueError, match=r"release: 'wss://c\.example' is not a source of this fleet"):
            fleet.release(["wss://c.example"])
        assert fleet.release(["wss://a.example"]) == fleet.release() == 0
        assert (fleet.status().sources, fleet.status().unplaced, fleet.status().workers) == (1, 1, ())
        assert not fleet.wait_ready(0.05)
        assert fleet.close()
        assert fleet.close()
    Fleet(client, ["wss://b.example"], make_app).close()


def test_current_worker_says_where_it_works() -> None:
    with pytest.raises(RuntimeError, match="works only while make_app runs on a worker of a fleet"):
        current_worker()


def test_on_the_event_loop_of_the_client_close_is_refused_and_works_elsewhere_then(client: Client) -> None:
    fleet = Fleet(client, ["wss://a.example"], make_app)
    outcome: Future[str] = Future()

    def called() -> None:
        try:
            fleet.close()
        except RuntimeError as error:
            outcome.set_result(str(error))
        else:
            outcome.set_result("closed")

    client.loop.add_callback(called)
    assert "was called on the event loop of its Dask client" in outcome.result(PATIENCE)
    assert fleet.status().sources == 1
    assert fleet.close()


def test_an_asynchronous_client_is_refused_on_its_event_loop_and_works_from_other_threads(
    client: Client,
) -> None:
    sources = ["wss://a.example"]

    async def use() -> None:
        async with Client(client.scheduler_info()["address"], asynchronous=True) as own:
            with pytest.raises(RuntimeError, match=r"Fleet\(\) was called .*asyncio\.to_thread"):
                Fleet(own, sources, make_app)
            fleet = await asyncio.to_thread(Fleet, own, sources, make_app)
            with pytest.raises(RuntimeError, match="was called on the event loop of its Dask client"):
                fleet.status()
            status = await asyncio.to_thread(fleet.status)
            assert (status.sources, status.unplaced) == (1, 1)
            assert await asyncio.to_thread(fleet.close)

    asyncio.run(use())


def test_threads_may_close_a_fleet_together(client: Client) -> None:
    with Client(client.cluster) as own, ThreadPoolExecutor(4) as pool:
        fleet = Fleet(own, ["wss://a.example"], make_app)
        assert all(pool.map(lambda _: fleet.close(), range(4)))


def test_sources_that_cannot_be_pickled_are_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="sources: they cannot be pickled for the workers"):
        Fleet(client, [threading.Lock()], make_app, key=lambda lock: "lock")


def test_a_client_that_is_closed_is_refused(client: Client) -> None:
    assert client.cluster is not None
    closed = Client(client.cluster)
    fleet = Fleet(closed, ["wss://a.example"], make_app, name="of a closed client")
    closed.close()
    with pytest.raises(WebSocketError, match="the Dask client of the fleet 'of a closed client' is closed"):
        fleet.status()
    assert not fleet.close()
    with pytest.raises(ValueError, match="it is closed, not running"):
        Fleet(closed, ["wss://a.example"], make_app)
