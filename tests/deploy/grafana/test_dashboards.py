"""The dashboards keep to the rules; each rule finds the fault that it is for; the JSON is what its source makes."""

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from crewd.telemetry.families import FAMILIES
from tests.deploy.grafana import rules
from tests.deploy.grafana.dashboards import GRAFANA, NAMES, ROOT, Dashboard, dashboard, expressions, panels, text_of
from tests.deploy.grafana.promql import selectors, unselected
from tests.deploy.grafana.rules import NOT_SHOWN, RULES, Rule, family_of


def with_sdk(test: Callable[..., None]) -> Callable[..., None]:
    """A test of what makes the dashboards, in the one worker that bears the import of the SDK."""
    marks = (
        pytest.mark.skipif(
            importlib.util.find_spec("grafana_foundation_sdk") is None,
            reason="grafana-foundation-sdk is not installed: `pip install -r requirements-dev.lock` brings it",
        ),
        pytest.mark.xdist_group("grafana-sdk"),
        # Dashboards of the older form are what every Grafana since 10 reads.
        pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning"),
    )
    for mark in marks:
        test = mark(test)
    return test


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_dashboards_keep_to_the_rules(rule: Rule, name: str) -> None:
    assert list(rule(dashboard(name))) == []


def variable(of: Dashboard, name: str) -> dict[str, Any]:
    return next(each for each in of["templating"]["list"] if each["name"] == name)


def first(of: Dashboard, kind: str = "timeseries") -> dict[str, Any]:
    return next(panel for panel in panels(of) if panel["type"] == kind)


def runbooks(of: Dashboard) -> dict[str, dict[str, Any]]:
    """The words of the column that leads to runbooks, by alert."""
    properties = [
        each for override in first(of, "table")["fieldConfig"]["overrides"] for each in override["properties"]
    ]
    mappings = [each["value"][0]["options"] for each in properties if each["id"] == "mappings"]
    found: dict[str, dict[str, Any]] = next(each for each in mappings if "CrewdDown" in each)
    return found


def bar(of: Dashboard) -> dict[str, Any]:
    return next(panel for panel in panels(of) if "$__interval_ms" in panel["targets"][0]["expr"])


def asked(expr: str) -> Callable[[Dashboard], None]:
    """Put another query into a panel."""

    def spoil(of: Dashboard) -> None:
        first(of)["targets"][0]["expr"] = expr

    return spoil


J = 'job=~"$job", instance=~"$instance"'
# What each rule must find.
FAULTS: tuple[tuple[Rule, Callable[[Dashboard], object]], ...] = (
    (rules.datasource_is_a_variable, lambda of: first(of)["datasource"].update(uid="PBFA97CFB590B2093")),
    (rules.datasource_is_a_variable, lambda of: first(of)["targets"][0]["datasource"].update(uid="prometheus")),
    (rules.datasource_is_a_variable, lambda of: variable(of, "datasource").update(query="loki")),
    (rules.datasource_is_a_variable, lambda of: of["annotations"]["list"][0]["datasource"].update(uid="prometheus")),
    (rules.datasource_is_a_variable, lambda of: variable(of, "job")["datasource"].update(uid="prometheus")),
    (rules.job_and_instance_are_variables, lambda of: of["templating"]["list"].remove(variable(of, "job"))),
    (rules.job_and_instance_are_variables, lambda of: variable(of, "instance").update(multi=False)),
    (rules.job_and_instance_are_variables, lambda of: variable(of, "job").update(allValue=".+")),
    (rules.variables_ask_prometheus_and_are_renewed, lambda of: variable(of, "job").update(refresh=1)),
    (
        rules.variables_ask_prometheus_and_are_renewed,
        lambda of: variable(of, "job")["query"].update(query="label_values(crewd_buildinfo, job)"),
    ),
    (
        rules.variables_ask_prometheus_and_are_renewed,
        lambda of: variable(of, "job")["query"].update(query="query_result(crewd_build_info)"),
    ),
    (
        rules.variables_ask_prometheus_and_are_renewed,
        lambda of: variable(of, "job")["query"].update(query='label_values({__name__=~"up|crewd_buildinfo"}, job)'),
    ),
    (
        rules.names_are_patterns_only_where_grafana_masks_them,
        lambda of: variable(of, "instance").update(multi=0, includeAll=0),
    ),
    (rules.variables_that_are_used_exist, asked(f'sum(crew_workers{{{J}, crew=~"$team"}})')),
    (rules.variables_that_are_used_exist, lambda of: of["links"][0].update(url="/d/crewd-crew?var-x=${team}")),
    (rules.panels_say_what_they_are_for, lambda of: first(of).update(title="")),
    (rules.panels_say_what_they_are_for, lambda of: first(of).update(description="Workers by level.")),
    (rules.panels_say_what_they_are_for, lambda of: first(of).update(title=first(of, "stat")["title"])),
    (rules.commands_in_descriptions_exist, lambda of: first(of).update(description="`crewd mend` mends it.")),
    (rules.panels_have_units, lambda of: first(of)["fieldConfig"]["defaults"].pop("unit")),
    (rules.panels_have_units, lambda of: first(of)["fieldConfig"]["defaults"].update(unit="seconds")),
    (rules.panels_ask_something, lambda of: first(of).update(targets=[])),
    (rules.panels_ask_something, lambda of: first(of)["targets"].append(first(of)["targets"][0])),
    (rules.queries_are_about_this_job_and_instance, asked('sum(crew_workers{instance=~"$instance"})')),
    (rules.queries_are_about_this_job_and_instance, asked('sum(crew_workers{job=~"$job", instance="a:1"})')),
    (rules.queries_are_about_this_job_and_instance, asked(f"sum(crew_workers{{{J}}}) / sum(crew_runs)")),
    (rules.rates_follow_the_resolution, asked(f"sum(rate(crew_retries_total{{{J}}}[5m]))")),
    (rules.rates_follow_the_resolution, asked(f"sum(increase(crew_retries_total{{{J}}}[5m]))")),
    (rules.rates_follow_the_resolution, lambda of: bar(of)["targets"][0].update(interval="1m")),
    (rules.rates_follow_the_resolution, lambda of: bar(of).pop("interval")),
    (
        rules.what_nobody_knows_is_not_well,
        lambda of: first(of, "stat")["fieldConfig"]["defaults"]["thresholds"]["steps"][0].update(color="green"),
    ),
    (
        rules.what_nobody_knows_is_not_well,
        lambda of: first(of, "stat")["fieldConfig"]["defaults"].update(noValue="none"),
    ),
    (
        rules.what_nobody_knows_is_not_well,
        lambda of: first(of, "stat")["targets"][0].update(
            expr=f"histogram_quantile(0.9, sum by (le) (rate(crew_task_attempts_bucket{{{J}}}[$__rate_interval])))"
        ),
    ),
    (
        rules.what_is_told_of_now_is_asked_of_now,
        lambda of: first(of, "stat")["targets"][0].update(instant=False, range=True),
    ),
    (
        rules.what_is_told_of_now_is_asked_of_now,
        lambda of: first(of)["targets"][0].update(instant=True, range=False),
    ),
    (rules.counters_are_counted_as_they_grow, asked(f"sum(crew_retries_total{{{J}}})")),
    (rules.counters_are_counted_as_they_grow, asked(f"sum by (le) (crew_run_duration_seconds_bucket{{{J}}})")),
    (rules.counters_are_counted_as_they_grow, asked(f"sum(rate(crew_workers{{{J}}}[$__rate_interval]))")),
    (rules.names_and_values_exist, asked(f"sum(crew_agents{{{J}}})")),
    (rules.names_and_values_exist, asked(f'sum(crew_workers{{{J}, state="dead"}})')),
    (rules.names_and_values_exist, asked(f'sum(crew_workers{{{J}, level=~"dead|asleep"}})')),
    (rules.names_and_values_exist, asked(f"sum by (model) (crew_workers{{{J}}})")),
    (
        rules.names_and_values_exist,
        asked(f'sum(increase(crew_detection_latency_seconds_bucket{{{J}, le="7.0"}}[$__range]))'),
    ),
    (rules.legends_name_labels_that_are_left, lambda of: first(of)["targets"][0].update(legendFormat="{{run}}")),
    (
        rules.colours_go_to_series_that_exist,
        lambda of: first(of)["fieldConfig"]["overrides"][0]["matcher"].update(options="asleep"),
    ),
    (
        rules.colours_go_to_series_that_exist,
        lambda of: first(of, "stat")["fieldConfig"]["defaults"]["thresholds"]["steps"][0].update(color="pink"),
    ),
    (rules.links_lead_somewhere, lambda of: of["links"][0].update(url="/d/crewd-nowhere")),
    (rules.links_lead_somewhere, lambda of: of["links"][0].update(url="http://${page}/nowhere")),
    (rules.links_lead_somewhere, lambda of: of["links"][0].update(url="http://${page}/runbooks#crewdnothing")),
    (rules.links_lead_somewhere, lambda of: of["links"][0].update(url="http://127.0.0.1:9464/")),
    (rules.links_lead_somewhere, lambda of: runbooks(of)["CrewdDown"].update(text="crewdnothing")),
    (rules.dashboards_lead_to_each_other, lambda of: of["links"].pop()),
    (rules.dashboards_lead_to_each_other, lambda of: of["annotations"]["list"].pop()),
    (rules.panels_lie_on_the_grid, lambda of: first(of)["gridPos"].update(first(of, "stat")["gridPos"])),
    (rules.panels_lie_on_the_grid, lambda of: of["panels"][-1]["gridPos"].update(x=18, w=12)),
    (rules.ids_are_unique, lambda of: of["panels"][1].update(id=of["panels"][0]["id"])),
    (rules.ids_are_unique, lambda of: of["panels"][1].pop("id")),
    (rules.nobody_edits_it, lambda of: of.update(editable=True)),
    (rules.nobody_edits_it, lambda of: of.update(id=7)),
    (rules.it_begins_well, lambda of: of.update(refresh="1s")),
    (rules.it_begins_well, lambda of: of.update(tags=[])),
)


@pytest.mark.parametrize(
    ("rule", "spoil"), FAULTS, ids=[f"{rule.__name__}-{place}" for place, (rule, _) in enumerate(FAULTS)]
)
def test_each_rule_finds_what_it_is_for(rule: Rule, spoil: Callable[[Dashboard], object]) -> None:
    spoilt = dashboard("overview")
    spoil(spoilt)
    assert list(rule(spoilt)) != []


def test_every_rule_has_a_fault_to_find() -> None:
    assert {rule for rule, _ in FAULTS} == set(RULES)


def test_every_family_is_on_a_dashboard() -> None:
    shown = {
        family.name
        for name in NAMES
        for _, expr in expressions(dashboard(name))
        for each in selectors(expr)
        if (family := family_of(each.metric)) is not None
    }
    assert {family.name for family in FAMILIES} - shown == set(NOT_SHOWN)


def test_a_selector_is_read_as_prometheus_reads_it() -> None:
    (one, other) = selectors('sum by (le) (rate(a_total{job=~"$job", x!="1"}[$__rate_interval])) / (b{} > 0)')
    assert (one.metric, one.function, one.window) == ("a_total", "rate", "$__rate_interval")
    assert one.matchers == (("job", "=~", "$job"), ("x", "!=", "1"))
    assert (other.metric, other.function, other.window, other.matchers) == ("b", "", "", ())
    assert unselected('sum by (x) (rate(a{}[5m])) / on (y) b or label_replace(c, "d", "$1", "e", "f") * 1e9') == [
        "b",
        "c",
    ]


@with_sdk
def test_the_json_is_what_its_source_makes() -> None:
    from deploy.grafana.source.__main__ import texts

    made = texts()
    assert set(made) == {f"{name}.json" for name in NAMES}
    stale = [name for name in NAMES if made[f"{name}.json"] != text_of(name)]
    assert stale == [], "run python -m deploy.grafana.source"


@with_sdk
def test_what_differs_is_named_and_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from deploy.grafana.source.__main__ import main

    shutil.copytree(GRAFANA / "dashboards", tmp_path, dirs_exist_ok=True)
    assert main([str(tmp_path), "--check"]) == 0
    (tmp_path / "crew.json").write_text("{}")
    assert main([str(tmp_path), "--check"]) == 1 and "crew.json differs" in capsys.readouterr().out
    assert main([str(tmp_path)]) == 0 and (tmp_path / "crew.json").read_text() == text_of("crew")


@with_sdk
def test_a_query_about_what_does_not_exist_is_refused_before_it_is_written() -> None:
    from deploy.grafana.source.panels import About, runbook
    from deploy.grafana.source.queries import of

    with pytest.raises(ValueError, match="crewd exports no crew_agents"):
        of("crew_agents")
    with pytest.raises(ValueError, match="crew_workers has no label"):
        of("crew_workers", state="dead")
    with pytest.raises(ValueError, match="no such alert"):
        runbook("CrewdNothing")
    with pytest.raises(ValueError, match="not a question"):
        About("Workers", "look").text()


@with_sdk
@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_survives_the_way_through_the_sdk(name: str) -> None:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard as Model

    register_default_plugins()
    kept = dict(leaves(json.loads(JSONEncoder().encode(Model.from_json(dashboard(name))))))
    there = dict(leaves(dashboard(name)))
    assert [where for where, value in there.items() if value not in (None, False) and kept.get(where) != value] == []


def leaves(value: Any, where: str = "") -> list[tuple[str, Any]]:
    """Every value with the way to it."""
    if isinstance(value, dict):
        return [leaf for key, each in value.items() for leaf in leaves(each, f"{where}.{key}")]
    if isinstance(value, list):
        return [leaf for place, each in enumerate(value) for leaf in leaves(each, f"{where}[{place}]")]
    return [(where, value)]


def test_alerts_lead_to_dashboards_and_variables_that_exist() -> None:
    variables = {of["uid"]: {each["name"] for each in of["templating"]["list"]} for of in map(dashboard, NAMES)}
    text = (ROOT / "deploy/prometheus/alerts.yml").read_text()
    addresses = re.findall(r"/d/([\w-]+)(\S*)", text)
    assert addresses
    for uid, rest in addresses:
        assert uid in variables and set(re.findall(r"[?&]var-(\w+)=", rest)) <= variables[uid], (uid, rest)


def test_what_is_provisioned_is_where_the_files_say() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/crewd.yml").read_text())["providers"]
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/crewd.yml").read_text())["datasources"]
    assert provider["type"] == "file" and provider["allowUiUpdates"] is False and provider["options"]["path"]
    assert source["type"] == "prometheus" and source["access"] == "proxy" and source["url"].startswith("http://")
    assert {path.stem for path in (GRAFANA / "dashboards").iterdir()} == set(NAMES)
