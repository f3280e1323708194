"""Bars tell each event once, and as one, whatever the moments at which Prometheus scrapes."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.grafana.dashboards import NAMES, dashboard, panels

PROMTOOL = shutil.which("promtool")
# As Grafana takes them for a bar of a minute, where the data source is scraped every 15 s.
GIVEN = {"__rate_interval": "75s", "__interval_ms": "60000", "job": "crewd", "instance": ".+", "crew": ".+"}
# Two events in the second minute, one in the fourth, seven in the fifth; then crewd starts anew, and one more.
SAMPLES = "5 5 5 5 5 6 7 7 7 7 7 7 7 8 8 8 8 12 15 15 15 0 0 1 1 1 1 1 1 1"
BARS = {"67s": 0, "127s": 2, "187s": 0, "247s": 1, "307s": 7, "367s": 1, "427s": 0}
RETRIES = "crew_retries_total"


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on PATH: install Debian's package prometheus")
def test_each_event_stands_in_one_bar(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    (panel,) = [panel for panel in panels(dashboard("retries")) if panel["title"] == "Retries, by crew"]
    expr = re.sub(r"\$(\w+)", lambda found: GIVEN[found[1]], panel["targets"][0]["expr"])
    series = f'{RETRIES}{{job="crewd", instance="a", crew="blue", error_class="timeout"}}'
    asked = [
        {"expr": expr, "eval_time": at, "exp_samples": [{"labels": '{crew="blue"}', "value": events}]}
        for at, events in BARS.items()
    ]
    tests = [{"interval": "15s", "input_series": [{"series": series, "values": SAMPLES}], "promql_expr_test": asked}]
    (tmp_path / "bars.yml").write_text(json.dumps({"evaluation_interval": "15s", "tests": tests}))
    done = subprocess.run([PROMTOOL, "test", "rules", tmp_path / "bars.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_bars_are_asked_for_in_one_way() -> None:
    drawn = [
        (panel["title"], target["expr"])
        for name in NAMES
        for panel in panels(dashboard(name))
        if panel["type"] == "timeseries" and panel["fieldConfig"]["defaults"]["custom"].get("drawStyle") == "bars"
        for target in panel["targets"]
    ]
    assert len(drawn) > 30
    form = re.compile(
        r"round\(sum(?: by \([\w, ]+\) )?\(rate\(.+\[\$__rate_interval\]\)\) \* \$__interval_ms / 1000\)(?: > 0)?"
    )
    assert [title for title, expr in drawn if form.fullmatch(expr) is None] == []
