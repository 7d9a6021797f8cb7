"""examples/graphql_subscription.py and graphql-ws, the reference implementation of graphql-transport-ws."""

from __future__ import annotations

import queue
from typing import Any

import pytest

from ..examples.running import load
from .service import HERE, PATIENCE, Service, example, node

pytestmark = pytest.mark.timeout(3 * PATIENCE)

QUERY = 'subscription { price(product: "BTC-USD") }'


def server() -> Service:
    """Return a server whose prices begin with 100 for each subscription."""
    return Service([node("graphql", "graphql-ws", "ws"), str(HERE / "graphql.js"), "$port"])


def test_a_subscription_goes_on_after_a_restart_of_the_server() -> None:
    with server() as graphql:
        url = f"ws://127.0.0.1:{graphql.port}/graphql"
        with example("graphql_subscription.py", url, QUERY, "secret") as program:
            program.wait_for('^{"data": {"price": 100}}$')
            program.wait_for('^{"data": {"price": 103}}$')
            graphql.kill()
            graphql.start()
            program.wait_for('^{"data": {"price": 100}}$')
            program.wait_for('^{"data": {"price": 103}}$')
            program.interrupt()


def test_an_invalid_query_is_reported_once_and_not_sent_again() -> None:
    client = load("graphql_subscription.py").GraphQL
    with server() as graphql, client(f"ws://127.0.0.1:{graphql.port}/graphql", token="secret") as app:
        results: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        app.subscribe("subscription { weather }", results.put)
        assert "Cannot query field" in results.get(timeout=PATIENCE)["errors"][0]["message"]
        assert [step.key for step in app.subscriptions.steps] == ["init"]
        app.subscribe(QUERY, results.put)
        assert results.get(timeout=PATIENCE) == {"data": {"price": 100}}
