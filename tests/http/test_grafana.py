"""The Grafana dashboard and the alerts: every query runs, and every metric and label they name is there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Database
from tests.expect import LATE
from tests.http.conftest import Api

DOCS = Path(__file__).parents[2] / "service" / "docs"
DASHBOARD = json.loads((DOCS / "grafana.json").read_text())
ALERTS = [
    rule for group in yaml.safe_load((DOCS / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
# What Prometheus adds to each sample.
ADDED = {"instance", "job"}
# What Grafana puts into a query.
MACROS = {
    "${segment:sqlstring}": "'A'",
    "$__timeFrom()": "'2026-11-20T00:00:00Z'",
    "$__timeTo()": "'2026-11-27T00:00:00Z'",
    "$__interval_ms": "3600000",
}


def everything(part: Any) -> Iterator[dict[str, Any]]:
    """All objects inside a part of the dashboard."""
    if isinstance(part, dict):
        yield part
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from everything(inner)


SQL = [part["rawSql"] for part in everything(DASHBOARD) if "rawSql" in part]
PROMQL = [(part["expr"], part["legendFormat"]) for part in everything(DASHBOARD) if "expr" in part]
PROMQL += [(rule["expr"], rule["annotations"]["summary"].replace("{{ $labels.", "{{")) for rule in ALERTS]


def test_there_is_something_to_check() -> None:
    assert len(SQL) >= 5
    assert len(PROMQL) >= 10
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_no_panel_covers_another_or_leaves_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


def test_who_imports_it_chooses_the_data_sources() -> None:
    """Grafana asks for a source of each variable's type; every panel and query takes one of these."""
    sources = {
        variable["name"]: variable["query"]
        for variable in DASHBOARD["templating"]["list"]
        if variable["type"] == "datasource"
    }
    # Since Grafana 10.2.3 PostgreSQL's data source has this name.
    assert sources == {"postgres": "grafana-postgresql-datasource", "prometheus": "prometheus"}
    used = [part["datasource"] for part in everything(DASHBOARD) if "datasource" in part]
    assert len(used) > 20
    assert all(source in [{"type": t, "uid": f"${{{n}}}"} for n, t in sources.items()] for source in used)
    assert "id" not in DASHBOARD, "an id is of one Grafana"
    for panel in DASHBOARD["panels"]:
        names = [target["refId"] for target in panel.get("targets", [])]
        assert len(names) == len(set(names))
        assert names or panel["type"] == "row"


@pytest.mark.parametrize("query", [*SQL, DASHBOARD["templating"]["list"][2]["query"]])
def test_every_query_runs_for_a_reader(db: Database, query: str) -> None:
    db.rows("select create_segment('A', 30)")
    db.rows("select register_users(array(select generate_series(1, 100)))")
    for name, value in MACROS.items():
        query = query.replace(name, value)
    assert "$" not in query
    db.rows("set role segmentation_reader")
    # Grafana's login does not have our search path.
    db.rows("set search_path = public")
    rows = db.rows(query)
    assert rows or "segment_history" in query
    if '"time"' in query:
        assert [row.time for row in rows] == sorted(row.time for row in rows)
    if "segment_growth" in query:
        assert len(rows) == 7 * 24 + 1


@pytest.fixture
def labels(reader: Api, db: Database) -> dict[str, set[str]]:
    """The labels of each metric that the service shows, after some calls of each kind."""
    db.rows("select create_segment('A')")
    reader.send("GET", "/v1/users/1/segments")
    reader.send("GET", "/v1/segments/A/members", headers={"Accept": "text/csv"})
    db.rows("alter function segmentation.http_user_segments_each rename to hidden")
    assert reader.send("GET", "/v1/users/1/segments").status_code == 500
    db.rows("call sweep()")
    db.rows(LATE.format("1 minute"))
    text = reader.send("GET", "/metrics").text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_metric_and_label_is_there(labels: dict[str, set[str]]) -> None:
    for expression, legend in PROMQL:
        names = re.findall(r"\b(?:litestar|segmentation)_\w+", expression)
        assert names or expression.startswith("up{"), expression
        known = set.union(ADDED, *(labels[name] for name in names))
        used = re.findall(r"\{\{(\w+) ?\}\}", legend) + re.findall(r"\{(\w+)[!=~]", expression)
        for group in re.findall(r"by \(([^)]+)\)", expression):
            used += group.split(", ")
        assert set(used) <= known, expression
