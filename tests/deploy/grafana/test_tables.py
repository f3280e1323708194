"""The tables as Grafana's own code lays them out: its package of npm, `@grafana/data`, in node."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.grafana.dashboards import NAMES, Panel, dashboard, grafanas_packages, panels
from tests.deploy.grafana.promql import grouped

pytestmark = pytest.mark.grafana

Rows = list[dict[str, Any]]
RED, ORANGE, GREEN, BLUE = "#F2495C", "#FF9830", "#73BF69", "#5794F2"  # of the dark theme


def shown(*asked: tuple[Panel, dict[str, Rows]]) -> list[dict[str, list[dict[str, Any]]]]:
    """The columns of tables, by name: a cell has text, colour and links."""
    program = ["node", str(Path(__file__).with_name("shown.mjs")), str(grafanas_packages().parent)]
    question = json.dumps([{"panel": panel, "answers": answers} for panel, answers in asked])
    said = subprocess.run(program, input=question, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    return [{column["name"]: column["cells"] for column in table["columns"]} for table in json.loads(said.stdout)]


def row(value: float, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [1_767_225_600, str(value)]}


def texts(column: list[dict[str, Any]]) -> list[str]:
    return [cell["text"] for cell in column]


def table(name: str, title: str) -> Panel:
    return next(panel for panel in panels(dashboard(name)) if panel["title"] == title)


def test_every_table_has_the_columns_that_its_settings_are_for() -> None:
    tables = [panel for name in NAMES for panel in panels(dashboard(name)) if panel["type"] == "table"]
    asked = []
    for panel in tables:
        labels = set().union(*(grouped(target["expr"]) for target in panel["targets"])) - {"alertstate"}
        if panel["title"] == "What fires now":
            labels.add("runbook")
        rows = [row(1, **dict.fromkeys(labels, "x"))]
        asked.append((panel, {target["refId"]: rows for target in panel["targets"]}))
    for panel, columns in zip(tables, shown(*asked), strict=True):
        arranged = next(each for each in panel["transformations"] if each["id"] == "organize")["options"]
        renamed = arranged["renameByName"]
        assert list(columns) == [renamed.get(each, each) for each in arranged["indexByName"]], panel["title"]
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["options"] in columns, panel["title"]


def test_the_crew_in_most_trouble_stands_first_with_a_link_to_it() -> None:
    panel = table("overview", "Crews, worst first")
    crews = {"calm": (0, 0), "lost": (2e9, 2), "shaky": (1e6, 0)}
    answers = {target["refId"]: [] for target in panel["targets"]} | {
        ref: [row(values[place], job="crewd", instance="a:9464", crew=crew) for crew, values in crews.items()]
        for place, ref in enumerate(("A", "B"))
    }
    (columns,) = shown((panel, answers))
    assert texts(columns["crew"]) == ["lost", "shaky", "calm"]
    assert [(cell["text"], cell["colour"]) for cell in columns["dead"]] == [("2", RED), ("0", GREEN), ("0", GREEN)]
    assert columns["crew"][0]["links"][0].endswith("&var-instance=a:9464&var-crew=lost")
    assert columns["instance"][0]["links"] == ["http://a:9464/"]


def test_what_fires_says_since_when_and_leads_to_its_runbook() -> None:
    panel = table("overview", "What fires now")
    since = 1_767_225_600_000
    fires = {"CrewdPaused": ("info", 0), "CrewdWorkerDead": ("critical", 2), "CrewdWorkersStale": ("warning", 1)}
    ranks, times = [], []
    for alert, (severity, rank) in fires.items():
        labels = {"severity": severity, "alertname": alert, "runbook": alert, "crew": "blue", "instance": "a:9464"}
        ranks.append(row(rank, **labels))
        times.append(row(since, **labels))
    (columns,) = shown((panel, {"A": ranks, "B": times}))
    assert texts(columns["alertname"]) == ["CrewdWorkerDead", "CrewdWorkersStale", "CrewdPaused"]
    assert columns["runbook"][0]["links"] == ["http://${page}/runbooks#crewdworkerdead"]
    assert [cell["colour"] for cell in columns["severity"]] == [RED, ORANGE, BLUE]
    assert all(text.endswith(" ago") or text.startswith("in ") for text in texts(columns["since"]))
