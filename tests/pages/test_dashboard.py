"""The Grafana dashboard: its queries name only what Metrics exports, and Prometheus understands them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from lochws import WebSocketApp, events
from lochws.handlers.metrics import Metrics

from ..support.blocks import ROOT

DASHBOARD: dict[str, Any] = json.loads((ROOT / "docs/_static/grafana-dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
PAGE = (ROOT / "docs/measuring.md").read_text(encoding="utf-8")
#: What Grafana puts in place of its variables.
VARIABLES = {"$app": "feed|orders", "$__rate_interval": "1m"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool, of Prometheus, is not installed"
)


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Return the labels of each exported metric, by its name in queries."""
    metrics, registry = Metrics(), CollectorRegistry()
    app = WebSocketApp("ws://127.0.0.1:1/")
    app.on("text")(lambda event: None)
    metrics.watch(app, "feed")
    (measures,) = (one for _, one in metrics._watched.values())
    for event in (events.Text("x"), events.Disconnected(), events.Connecting("ws://127.0.0.1:1/")):
        measures.on_event(event)
    families = metrics.register(registry).describe()
    found = {family.name: {"app"} for family in families if family.type == "gauge"}  # some have no value yet
    for family in registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def used_in(query: str) -> dict[str, set[str]]:
    """Return the labels that a query uses, by the metrics that it uses them for."""
    metrics = re.findall(r"\blochws_\w+", query)
    grouped = {name for group in re.findall(r"by \(([^)]*)\)", query) for name in re.split(r",\s*", group)}
    return {
        metric: grouped | set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", found[0]))
        for metric in metrics
        if (found := re.search(rf"{metric}\{{([^}}]*)\}}", query))
    }


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_only_metrics_and_labels_that_are_exported(
    query: str, exported: dict[str, set[str]]
) -> None:
    used = used_in(query)
    assert set(re.findall(r"\blochws_\w+", query)) == set(used) != set(), "it is not limited to some apps"
    for metric, labels in used.items():
        assert metric in exported
        assert labels <= exported[metric]
        assert "app" in labels


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_legend_names_only_labels_that_the_result_has(
    panel: dict[str, Any], exported: dict[str, set[str]]
) -> None:
    for target in panel["targets"]:
        kept = set.intersection(*(exported[name] for name in used_in(target["expr"])))
        if grouped := re.search(r"by \(([^)]*)\)", target["expr"]):
            kept = set(re.split(r",\s*", grouped[1]))
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept


def test_counters_are_only_used_for_how_much_they_grow(exported: dict[str, set[str]]) -> None:
    for query in QUERIES:
        for counter in re.findall(r"\blochws_\w+_(?:total|bucket|sum|count)\b", query):
            assert re.search(rf"(?:rate|increase)\({counter}\{{", query), query


def test_panels_have_distinct_names_a_description_and_a_place_of_their_own() -> None:
    assert len({panel["title"] for panel in PANELS}) == len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(panel["description"].endswith(".") for panel in PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        assert (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        )
    assert max(panel["gridPos"]["x"] + panel["gridPos"]["w"] for panel in PANELS) == 24


def test_it_asks_for_its_data_source_and_lists_the_apps(exported: dict[str, set[str]]) -> None:
    source, app = DASHBOARD["templating"]["list"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", app["query"]).groups()  # type: ignore[union-attr]
    assert label in exported[metric]
    for panel in PANELS:
        for one in (panel, *panel["targets"], app):
            assert one["datasource"] == {"type": "prometheus", "uid": f"${{{source['name']}}}"}


def test_the_page_lists_what_is_exported() -> None:
    families = Metrics().register(CollectorRegistry()).describe()
    exported = [
        (f"`{family.name}{'_total' * (family.type == 'counter')}`", family.type, family.documentation)
        for family in families
    ]
    listed = [
        (name, kind, re.sub(r" Label `\w+`\.$", "", words))
        for name, kind, words in re.findall(r"^\| (`lochws_\w+`) \| (\w+) \| (.*) \|$", PAGE, re.MULTILINE)
    ]
    assert listed == exported


def understood(path: Path, rules: str) -> str:
    """Return what promtool says about a file of rules."""
    path.write_text(rules)
    ran = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@needs_promtool
def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    rules = []
    for number, query in enumerate(QUERIES):
        for variable, value in VARIABLES.items():
            query = query.replace(variable, value)  # noqa: PLW2901  what Grafana sends
        assert "$" not in query
        rules.append({"record": f"query:{number}", "expr": query})
    text = json.dumps({"groups": [{"name": "dashboard", "rules": rules}]})  # JSON is YAML
    assert f"{len(QUERIES)} rules found" in understood(tmp_path / "rules.yml", text)


@needs_promtool
def test_prometheus_understands_the_alerts_and_the_configuration_on_the_page(tmp_path: Path) -> None:
    configuration, alerts = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert "5 rules found" in understood(tmp_path / "rules.yml", alerts)
    (tmp_path / "prometheus.yml").write_text(configuration)
    subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yml"], check=True)


def test_alerts_name_only_metrics_that_are_exported(exported: dict[str, set[str]]) -> None:
    names = set(re.findall(r"\blochws_\w+", "\n".join(re.findall(r"expr: (.*)", PAGE))))
    assert len(names) > 5
    assert names <= exported.keys()
