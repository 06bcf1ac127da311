"""Alert rules and dashboards ask for metrics that exist, by labels that they have."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
import yaml

from observability.names import FAMILIES, Kind

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "observability" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "observability" / "grafana" / "sidecar.json"
SUFFIXES = {Kind.COUNTER: ("_total",), Kind.GAUGE: ("",), Kind.HISTOGRAM: ("_bucket", "_sum", "_count")}
SERIES = {
    family.name + suffix: {*family.labels, *(["le"] if suffix == "_bucket" else [])}
    for family in FAMILIES
    for suffix in SUFFIXES[family.kind]
}
FROM_SCRAPING = {"instance", "job"}
METRIC = re.compile(r"\b(?:aegis|gen_ai|cp|sidecar|process)_[a-z0-9_]+")


def alerts() -> list[dict[str, object]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def targets() -> Iterator[tuple[str, str]]:
    """Expression and legend of every series on the dashboard."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"], target["legendFormat"]


def expressions() -> list[str]:
    return [str(rule["expr"]) for rule in alerts()] + [expression for expression, _ in targets()]


def metrics_in(expression: str) -> set[str]:
    """Names in it that are not labels: what stands in braces, quotes and after `by` is taken away first."""
    bare = re.sub(r"\bby\s*\([^)]*\)", "", re.sub(r"\{[^}]*\}", "", expression))
    return set(METRIC.findall(bare))


def labels_in(expression: str) -> set[str]:
    matched = {
        name for inside in re.findall(r"\{([^}]*)\}", expression) for name in re.findall(r"(\w+)\s*[=!]", inside)
    }
    grouped = {name.strip() for inside in re.findall(r"\bby\s*\(([^)]*)\)", expression) for name in inside.split(",")}
    return matched | grouped


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_metrics_that_exist_and_labels_that_they_have(expression: str) -> None:
    metrics = metrics_in(expression)

    assert metrics
    assert metrics <= SERIES.keys()
    for metric in metrics:
        assert labels_in(expression) <= SERIES[metric] | FROM_SCRAPING, metric


def test_a_legend_shows_labels_that_its_expression_keeps() -> None:
    for expression, legend in targets():
        kept = {name.strip() for inside in re.findall(r"\bby\s*\(([^)]*)\)", expression) for name in inside.split(",")}
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= kept, expression


def test_an_alert_says_how_urgent_it_is_and_speaks_of_labels_that_it_has() -> None:
    for rule in alerts():
        assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"})
        annotations = rule["annotations"]
        assert isinstance(annotations, dict)
        spoken_of = set(re.findall(r"\$labels\.(\w+)", str(annotations)))
        assert spoken_of <= labels_in(str(rule["expr"])), rule["alert"]


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_dashboard_is_what_its_script_writes() -> None:
    checked = subprocess.run([sys.executable, ROOT / "scripts" / "gen_dashboard.py", "--check"], check=False)

    assert checked.returncode == 0


@pytest.mark.peers
def test_prometheus_itself_accepts_the_rules_and_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    promtool = which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian: prometheus) is not installed")
    recording = tmp_path / "dashboard.yaml"
    rules = [
        {"record": f"dashboard:series:{n}", "expr": expression.replace("$__rate_interval", "5m")}
        for n, (expression, _) in enumerate(targets())
    ]
    recording.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    checked = subprocess.run([promtool, "check", "rules", ALERTS, recording], capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout + checked.stderr
