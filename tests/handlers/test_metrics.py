"""Metrics: counts and times, as a dict and for Prometheus."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from lochws import WebSocketApp, events
from lochws.handlers._parts.measures import SECONDS, SIZES, Histogram, Measures
from lochws.handlers.metrics import Metrics
from lochws.handlers.outbox import Outbox
from lochws.testing import ScriptedServer, accept, fin, send, stop_reading, wait_for, wait_for_end

from ..support.apps import AT_ONCE, opened, running
from ..support.seen import PATIENCE, Noting, eventually

URL = "wss://feed.example.org/?token=secret"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def lively(metrics: Metrics) -> Iterator[WebSocketApp]:
    """A watched app that has sent and received messages, with handlers of which one fails."""
    with ScriptedServer([accept(), send("héllo"), send(bytes(300)), wait_for("x")]) as server:
        app = Noting(server.url)
        app.on("text")(lambda _: 1 / 0)
        app.on("sent")(lambda _: None)
        metrics.watch(app, "feed")
        with opened(app):
            app.send_many(["x", b"yz", "é" * 50])
            app.wait_for("binary")
            app.wait_for("pong")
            eventually(lambda: metrics.snapshot()["feed"]["ping_seconds"]["count"] > 0)
            yield app


def test_received_and_sent_messages_are_counted_and_measured(lively: WebSocketApp, metrics: Metrics) -> None:
    found = metrics.snapshot()["feed"]
    assert (found["state"], found["open"], found["connections"]) == ("open", 1, 1)
    assert (found["messages_received"], found["messages_sent"]) == (2, 3)
    assert found["messages_dropped"] == found["messages_unsent"] == 0
    assert found["received_size_bytes"]["count"] == 2
    assert found["received_size_bytes"]["sum"] == 306
    assert found["received_size_bytes"]["buckets"] == {
        str(bound): 1 if bound < 300 else 2 for bound in SIZES
    } | {"+Inf": 2}
    assert found["sent_size_bytes"]["count"] == 3
    assert found["sent_size_bytes"]["sum"] == 103
    assert found["bytes_received"] > 306
    assert found["bytes_sent"] > 103
    assert found["queued_bytes"] == found["waiting_bytes"] == 0
    assert 0 < found["latency_seconds"] < PATIENCE
    assert found["ping_seconds"]["count"] >= 1


def test_handlers_are_timed_by_event_and_their_errors_are_counted(
    lively: WebSocketApp, metrics: Metrics
) -> None:
    found = metrics.snapshot()["feed"]
    assert found["handler_errors"] == 1
    assert found["handler_seconds"].keys() == {"event", "text"}, "ours are not timed, nor those of sends"
    assert found["handler_seconds"]["text"]["count"] == 1
    assert found["handler_seconds"]["text"]["sum"] > 0
    assert found["handler_seconds"]["event"]["count"] >= 6


def test_a_snapshot_can_be_written_as_json(lively: WebSocketApp, metrics: Metrics) -> None:
    assert json.loads(json.dumps(metrics.snapshot())).keys() == {"feed"}


def test_the_docstring_names_every_key(metrics: Metrics) -> None:
    metrics.watch(WebSocketApp(URL))
    (numbers,) = metrics.snapshot().values()
    assert set(re.findall(r"``([a-z_]+)``", Metrics.snapshot.__doc__ or "")) >= numbers.keys()


def test_messages_in_batches_are_counted_and_timed_too(metrics: Metrics) -> None:
    with ScriptedServer([accept(), send("a"), send("b")]) as server:
        app = WebSocketApp(server.url)
        app.on("batch")(lambda _: None)
        metrics.watch(app, "feed")
        with running(app):
            eventually(lambda: metrics.snapshot()["feed"]["received_size_bytes"]["count"] == 2)
            eventually(lambda: metrics.snapshot()["feed"]["handler_seconds"]["batch"]["count"] > 0)


def test_reconnects_are_counted_by_why_the_last_attempt_ended(metrics: Metrics) -> None:
    with ScriptedServer([accept(), fin()], [accept()]) as server:
        app = Noting(server.url)
        metrics.watch(app, "feed")
        with running(app, persist=AT_ONCE):
            app.wait_for("ready", 2)
            app.force_disconnect()
            app.wait_for("ready", 3)
        found = metrics.snapshot()["feed"]
        assert found["reconnects"] == {"network": 1, "client": 1}
        assert (found["connections"], found["open"], found["state"]) == (3, 0, "stopped")
        assert found["latency_seconds"] is None


def test_the_last_message_and_stale_servers_are_measured(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    app = WebSocketApp(URL)
    metrics.watch(app, "feed")
    assert metrics.snapshot()["feed"]["last_message_time"] is None
    assert registry.get_sample_value("lochws_last_message_timestamp_seconds", {"app": "feed"}) is None
    with ScriptedServer([accept(), send("a")]) as server:
        other = Noting(server.url)
        metrics.watch(other, "other")
        with running(other, persist=AT_ONCE, stale_after=0.05):
            other.wait_for("ready", 2)
        text = other.all("text")[-1]
        found = metrics.snapshot()["other"]
        assert found["last_message_time"] == text.received_time
        assert found["stale"] == len(other.all("stale")) > 0
        outages = [event.outage for event in other.all("ready")]
        assert outages[0] is None
        assert found["outage_seconds"]["count"] == len(outages) - 1
        assert found["outage_seconds"]["sum"] == sum(outages[1:])
    name = "lochws_last_message_timestamp_seconds"
    assert registry.get_sample_value(name, {"app": "other"}) == text.received_time
    assert registry.get_sample_value("lochws_stale_total", {"app": "other"}) == found["stale"]


END = events.Disconnected(ended_by="server")


@pytest.mark.parametrize(
    ("before", "cause"),
    [
        ([events.ConnectFail("", phase="tls")], {"tls": 1}),
        ([END], {"server": 1}),
        ([events.Rejected(None, ""), END], {"rejected": 1}),  # type: ignore[arg-type]
        ([events.Unresponsive(), END], {"unresponsive": 1}),
        ([events.Stale(90, None), events.Disconnected(ended_by="client")], {"stale": 1}),
        ([events.Stale(90, None), END], {"server": 1}),
        ([events.ProtocolError("", critical=False), END], {"protocol_error": 1}),
        ([], {}),
        ([events.Connecting("redirected")], {}),
    ],
    ids=lambda value: next(iter(value), "none") if isinstance(value, dict) else "",
)
def test_each_cause_has_its_name(before: list[events.Event], cause: dict[str, int]) -> None:
    measures = Measures()
    for event in [events.Connecting(""), *before, events.Connecting(""), events.Connecting("redirected")]:
        measures.on_event(event)
    assert measures.reconnects == cause


def test_accepted_messages_that_were_not_sent_are_counted(metrics: Metrics) -> None:
    with ScriptedServer([accept(), stop_reading(), wait_for_end()], receive_buffer=4096) as server:
        app = WebSocketApp(server.url)
        metrics.watch(app, "feed")
        with opened(app):
            app.send_binary(bytes(10_000_000))
            app.send_text("x")
            eventually(lambda: metrics.snapshot()["feed"]["queued_bytes"] > 0)
            app.force_disconnect()
        assert metrics.snapshot()["feed"]["messages_unsent"] == 2


def test_messages_in_doubt_are_counted_with_those_that_are_not_named(metrics: Metrics) -> None:
    app = WebSocketApp("ws://127.0.0.1:1/")
    metrics.watch(app, "feed")
    for end in (events.Disconnected(in_doubt=("a", b"b"), in_doubt_omitted=40), events.Disconnected()):
        app._lochws.registry.dispatch_all([end])
    assert metrics.snapshot()["feed"]["messages_in_doubt"] == 42


def test_a_value_is_counted_up_to_its_bound() -> None:
    histogram = Histogram((1, 2.5))
    for value in (0, 1, 1.5, 2.5, 3):
        histogram.observe(value)
    assert histogram.as_dict() == {"count": 5, "sum": 8.0, "buckets": {"1": 2, "2.5": 4, "+Inf": 5}}


def test_the_bounds_are_ascending() -> None:
    for bounds in (SIZES, SECONDS):
        assert sorted(set(bounds)) == list(bounds)


def test_many_apps_can_be_watched_by_name(metrics: Metrics) -> None:
    apps = [WebSocketApp(URL), WebSocketApp(URL)]
    metrics.watch(apps[0])
    metrics.watch(apps[1], "other")
    assert metrics.snapshot().keys() == {"wss://feed.example.org/?token=…", "other"}


def test_an_app_that_is_no_longer_watched_pays_nothing(metrics: Metrics) -> None:
    app = WebSocketApp(URL)
    seen: list[events.Event] = []
    app.on("text")(seen.append)
    before = app._lochws.registry._setup.table
    metrics.watch(app)
    assert app._lochws.registry._setup.table != before
    metrics.unwatch(app)
    assert app._lochws.registry._setup.table == before
    assert metrics.snapshot() == {}
    metrics.watch(app, "again")


def test_an_app_stays_watched_if_unwatching_it_fails(metrics: Metrics) -> None:
    def failing(name: str, handler: Callable[[Any], object]) -> Callable[[Any], object]:
        if fails:
            raise ValueError("not now")
        return handler

    fails = False
    app = WebSocketApp(URL)
    metrics.watch(app, "feed")
    app.hooks.wrap_handlers(failing)
    fails = True
    with pytest.raises(ValueError, match="not now"):
        metrics.unwatch(app)
    assert metrics.snapshot().keys() == {"feed"}
    fails = False
    metrics.unwatch(app)
    assert metrics.snapshot() == {}


def test_watching_again_and_again_leaves_nothing_behind(metrics: Metrics) -> None:
    app = WebSocketApp(URL)
    before = app._lochws.registry._setup
    for _ in range(3):
        metrics.watch(app)
        metrics.unwatch(app)
    assert app._lochws.registry._setup == before


@pytest.mark.parametrize(
    ("act", "error", "said"),
    [
        (lambda metrics, app: metrics.watch(app), ValueError, "is being watched already"),
        (lambda metrics, app: metrics.watch(WebSocketApp(URL), "feed"), ValueError, "name='feed': another"),
        (lambda metrics, app: metrics.watch(WebSocketApp(URL), 5), TypeError, "name=5"),
        (lambda metrics, app: metrics.watch("ws://localhost"), TypeError, "app: expected a lochws"),
        (lambda metrics, app: metrics.watch_outbox(app, "x"), TypeError, "outbox: expected a lochws"),
        (lambda metrics, app: metrics.watch_outbox(Outbox(app), 5), TypeError, "name=5: expected a str"),
        (lambda metrics, app: metrics.unwatch(WebSocketApp(URL)), ValueError, "is not being watched"),
    ],
)
def test_invalid_arguments_are_refused_immediately(
    act: Callable[[Any, WebSocketApp], object], error: type[Exception], said: str, metrics: Metrics
) -> None:
    app = WebSocketApp(URL)
    metrics.watch(app, "feed")
    with pytest.raises(error, match=said):
        act(metrics, app)
    assert metrics.snapshot().keys() == {"feed"}


# Prometheus.


@pytest.fixture
def registry(metrics: Metrics) -> CollectorRegistry:
    registry = CollectorRegistry()
    metrics.register(registry)
    return registry


def test_prometheus_gets_the_same_numbers(
    lively: WebSocketApp, metrics: Metrics, registry: CollectorRegistry
) -> None:
    metrics.watch(WebSocketApp(URL), "idle")
    found = metrics.snapshot()["feed"]
    for name, labels, value in [
        ("lochws_open", {}, 1),
        ("lochws_messages_received_total", {}, 2),
        ("lochws_sent_bytes_total", {}, found["bytes_sent"]),
        ("lochws_handler_errors_total", {}, 1),
        ("lochws_received_message_size_bytes_bucket", {"le": "64.0"}, 1),
        ("lochws_received_message_size_bytes_bucket", {"le": "+Inf"}, 2),
        ("lochws_received_message_size_bytes_sum", {}, 306),
        ("lochws_handler_seconds_count", {"event": "text"}, 1),
    ]:
        assert registry.get_sample_value(name, {"app": "feed", **labels}) == value, name
    assert registry.get_sample_value("lochws_open", {"app": "idle"}) == 0
    assert registry.get_sample_value("lochws_latency_seconds", {"app": "idle"}) is None


def test_prometheus_gets_the_counts_of_outboxes(metrics: Metrics, registry: CollectorRegistry) -> None:
    with Outbox(WebSocketApp(URL), max_messages=2, when_full="drop_oldest") as outbox:
        metrics.watch_outbox(outbox, "orders")
        outbox.put_many(["x", "y"])
        outbox.put("z")
        for key, value in outbox.counts._asdict().items():
            name = f"lochws_outbox_{key}"
            name += "" if key in ("pending", "pending_bytes", "in_flight") else "_total"
            assert registry.get_sample_value(name, {"outbox": "orders"}) == value
        assert registry.get_sample_value("lochws_outbox_dropped_total", {"outbox": "orders"}) == 1
    assert generate_latest(registry).decode().count('outbox="orders"') == len(outbox.counts)


def test_scraped_metrics_follow_the_conventions_of_prometheus(
    lively: WebSocketApp, metrics: Metrics, registry: CollectorRegistry
) -> None:
    """Those that promtool checks: prefix, base units, ``_total`` on counters, help, ascending bounds."""
    lively.force_disconnect()
    text = generate_latest(registry).decode()
    families = list(text_string_to_metric_families(text))
    assert len(families) == 10 + 5 + 1 + 4 + 1
    for family in families:
        assert re.fullmatch(r"lochws(_[a-z]+)+", family.name)
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|milliseconds|kb|count|sum|bucket|gauge|counter|histogram)$", family.name)
        assert family.type in ("counter", "gauge", "histogram")
        if family.type == "histogram":
            assert family.name.endswith(("_bytes", "_seconds"))
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")
            assert sample.labels["app"] == "feed"
    for family in families:
        if family.type == "histogram":
            bounds = [float(one.labels["le"]) for one in family.samples if "le" in one.labels]
            assert bounds
            assert all(low < high or low == float("inf") for low, high in pairwise(bounds))


def test_a_second_collector_in_the_same_registry_is_refused(registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError, match="lochws_connections"):
        Metrics().register(registry)


def test_a_collector_can_be_unregistered(metrics: Metrics) -> None:
    registry = CollectorRegistry()
    registry.unregister(metrics.register(registry))
    assert generate_latest(registry) == b""


def test_prometheus_client_is_imported_only_when_needed_and_named_when_missing() -> None:
    program = (
        "import sys\n"
        "sys.modules['prometheus_client'] = None\n"
        "from lochws import WebSocketApp\n"
        "from lochws.handlers.metrics import Metrics\n"
        "metrics = Metrics()\n"
        "metrics.watch(WebSocketApp('ws://127.0.0.1:1/'))\n"
        "metrics.snapshot()\n"
        "try:\n"
        "    metrics.register()\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        check=True, timeout=PATIENCE, capture_output=True, text=True,
    )
    assert "pip install 'lochws[metrics]'" in done.stdout
