"""Rules and alerts for Prometheus: what they name exists, and every alert has been seen firing, and quiet."""

import contextlib
import http.server
import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import pytest
import yaml
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from crewd.cli.main import cli
from crewd.host import assets, runbooks
from crewd.model.catalogue import EVENTS
from crewd.telemetry import families as known
from crewd.telemetry.families import FAMILIES, Kind
from tests.deploy import monitoring
from tests.telemetry.test_metrics import full

FOLDER = assets.root() / "prometheus"
CASES = sorted((Path(__file__).parent / "prometheus").glob("*.yml"))
CONFIGURATIONS = sorted(FOLDER.glob("prometheus*.yml"))
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool here (Debian: apt install prometheus, or promtool)"
)
ADDRESS = "http://127.0.0.1:9464"

Rule = Mapping[str, Any]


def rules(name: str) -> list[Rule]:
    return [rule for group in read(FOLDER / name)["groups"] for rule in group["rules"]]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def label_of(rule: Rule) -> str:
    return "-".join([rule["alert"], *rule["labels"].values()])


RECORDED = rules("rules.yml")
ALERTS = rules("alerts.yml")
GROUPS = {name: read(FOLDER / name)["groups"] for name in ("rules.yml", "alerts.yml")}


def promtool(*arguments: str | Path, cwd: Path = FOLDER) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --------------------------------------------------------------------------------------------------
# What promtool says


@needs_promtool
def test_promtool_takes_every_rule() -> None:
    promtool("check", "rules", "rules.yml", "alerts.yml")


@needs_promtool
@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_promtool_takes_every_example_of_a_configuration(path: Path, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "crewd-token").write_text("0123456789abcdef\n")
    promtool("check", "config", path.name, cwd=tmp_path)


def alone(case: Rule, file: Mapping[str, Any], rules_path: Path) -> dict[str, Any]:
    """Give a case of a file as a file of its own, whose rules, at `rules_path`, are those that it asks for.

    promtool works out every rule at every step of every case: all but these are of no use to it.
    """
    asked = {check["alertname"] for check in case.get("alert_rule_test", ())}
    wanted = [rule for rule in ALERTS if rule["alert"] in asked]
    text = " ".join([*(each["expr"] for each in (*wanted, *case.get("promql_expr_test", ())))])
    for rule in reversed(RECORDED):  # those that others are made of stand before them
        if re.search(rf"{rule['record']}(?![\w:])", text):
            wanted.append(rule)
            text += rule["expr"]
    named = {Path(each).name for each in file["rule_files"]}
    groups = [
        {**group, "rules": [rule for rule in group["rules"] if rule in wanted]}
        for name, found in GROUPS.items()
        if name in named
        for group in found
    ]
    groups = [group for group in groups if group["rules"]]
    rules_path.write_text(json.dumps({"groups": groups}))
    order = [name for name in file["group_eval_order"] if name in {group["name"] for group in groups}]
    return {**file, "rule_files": [rules_path.name], "group_eval_order": order, "tests": [case]}


@needs_promtool
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path, tmp_path: Path) -> None:
    """`promtool test rules FILE` beside the file says the same, and takes four times as long."""
    file = read(path)
    for number, case in enumerate(file["tests"]):
        made = alone(case, file, tmp_path / f"rules-{number}.yml")
        (tmp_path / f"case-{number}.yml").write_text(json.dumps(made))
    promtool("test", "rules", *(f"case-{number}.yml" for number in range(len(file["tests"]))), cwd=tmp_path)


def test_what_is_to_be_pasted_is_what_the_whole_example_has() -> None:
    pasted, whole = (read(FOLDER / name)["scrape_configs"][0] for name in ("scrape.yml", "prometheus.yml"))
    assert pasted["job_name"] == whole["job_name"] == "crewd"
    assert pasted["static_configs"] == whole["static_configs"]


# --------------------------------------------------------------------------------------------------
# That every alert has been seen both ways


def told(path: Path) -> Iterator[tuple[str, tuple[Mapping[str, str], ...]]]:
    for test in read(path)["tests"]:
        for check in test.get("alert_rule_test", ()):
            yield check["alertname"], tuple(each["exp_labels"] for each in check.get("exp_alerts", ()))


SEEN = [seen for path in CASES for seen in told(path)]


@pytest.mark.parametrize("rule", ALERTS, ids=label_of)
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(rule: Rule) -> None:
    mine = [labels for name, labels in SEEN if name == rule["alert"]]
    assert any(rule["labels"].items() <= each.items() for labels in mine for each in labels), "never seen firing"
    assert any(not labels for labels in mine), "never seen quiet"


def test_every_recording_rule_has_a_case_with_its_value() -> None:
    asked = " ".join(
        check["expr"] for path in CASES for test in read(path)["tests"] for check in test.get("promql_expr_test", ())
    )
    assert [rule["record"] for rule in RECORDED if not re.search(rf"{rule['record']}(?![\w:])", asked)] == []


# --------------------------------------------------------------------------------------------------
# That what they name exists

SELECTOR = re.compile(r"\b(?P<name>(?:crewd?_|job|process_)\w*(?::\w+)*|up)(?P<matchers>\{[^}]*\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on)\s*\([^)]*\)")
SELF = {"job", "instance"}  # what Prometheus adds

# The values of labels that are closed, where the table of families does not say them by itself.
CLOSED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("crew_runs_finished_total", "status"): known.RUN_OUTCOMES,
    ("crew_tasks_finished_total", "outcome"): known.TASK_OUTCOMES,
    ("crew_dead_letters_total", "reason"): known.LETTER_REASONS,
    ("crew_detection_latency_seconds", "reason"): known.DEAD_REASONS,
    ("crew_verdicts_total", "outcome"): known.OUTCOMES,
    ("crew_workers_in_trouble", "reason"): known.TROUBLES,
    ("crew_wedges", "wedge"): known.WEDGES,
    ("crew_recovery_plans", "state"): known.RECOVERY_STATES,
    ("crew_recoveries_total", "outcome"): known.RECOVERY_OUTCOMES,
    ("crew_budget_used_ratio", "scope"): ("day", "crew", "run", "task"),
    ("crewd_manifest_reads_total", "result"): known.READ_RESULTS,
    ("crewd_sink_errors_total", "reason"): known.SINK_ERRORS,
    ("crewd_loop_last_success_timestamp_seconds", "loop"): ("patrol", "sinks", "retention", "scheduler"),
    ("crewd_degraded", "reason"): ("patrol", "ledger", "listeners", "recovery", "scheduler", "shadowing", "stopping"),
}


def selectors(expression: str) -> Iterator[tuple[str, dict[str, tuple[str, str]]]]:
    """Give every metric that an expression asks for, with its matchers: label -> (operator, value)."""
    for found in SELECTOR.finditer(GROUPING.sub("", re.sub(r"#.*", "", expression))):
        if not found["matchers"] and found["name"] == "job":
            continue
        yield found["name"], {label: (how, value) for label, how, value in MATCHER.findall(found["matchers"] or "")}


def family_of(name: str) -> known.Family | None:
    for family in FAMILIES:
        suffixes = ("_bucket", "_count", "_sum") if family.kind is Kind.HISTOGRAM else ("",)
        if name in {family.name + suffix for suffix in suffixes}:
            return family
    return None


@pytest.mark.parametrize("rule", [*RECORDED, *ALERTS], ids=lambda rule: rule.get("record") or label_of(rule))
def test_every_name_in_a_rule_exists_and_is_asked_of_crewd_alone(rule: Rule) -> None:
    recorded = {each["record"] for each in RECORDED}
    found = list(selectors(rule["expr"]))
    assert found
    for name, matchers in found:
        assert matchers.get("job") == ("=", "crewd"), f"{name}: of which job?"
        if name == "up" or name in recorded:
            continue
        family = family_of(name)
        assert family is not None, f"{name} is no metric of crewd"
        for label, (how, value) in matchers.items():
            if label in SELF:
                continue
            if label == "le":
                assert float(value) in family.buckets and value == str(float(value)), f"{name}: no bucket {value}"
                continue
            assert label in family.labels, f"{name} has no label {label}"
            values = set(value.split("|") if "~" in how else (value,))
            assert values <= set(CLOSED[family.name, label]), f'{name}: {label}="{value}"'


def test_the_values_of_labels_are_those_that_crewd_exports() -> None:
    world = full()
    for folder in known.FOLDERS:
        world.metrics.free_space_observed(folder, 1)
    exported: dict[tuple[str, str], set[str]] = {}
    for metric in world.metrics.registry.collect():
        family = metric.name + "_total" if metric.type == "counter" else metric.name
        for sample in metric.samples:
            for label, value in sample.labels.items():
                exported.setdefault((family, label), set()).add(value)
    for (name, label), values in CLOSED.items():
        assert exported[name, label] <= set(values), (name, label)


def test_aggregations_keep_who_it_is_about() -> None:
    for rule in [*RECORDED, *ALERTS]:
        expression = re.sub(r"#.*", "", rule["expr"])
        for clause in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
            assert {label.strip() for label in clause.split(",")} >= SELF, rule
        assert len(re.findall(r"\b(?:sum|avg|min|max|count|group)\b(?!_)", expression)) == len(
            re.findall(r"\bby\b", expression)
        ), rule


def test_recording_rules_are_named_by_level_metric_and_operation() -> None:
    for rule in RECORDED:
        level, metric, operation = rule["record"].split(":")
        assert level in ("job", "job_instance_crew") and metric.startswith("crew") and operation, rule["record"]
        assert not metric.endswith("_total")
        assert ("crew" in level) == ("job, instance, crew)" in rule["expr"])


# What asks for the past by itself, or is known at once to be over.
ENDS_AT_ONCE = {
    "CrewdAbsent", "CrewdDown", "CrewdRestartingOften", "CrewdEventLoopLag", "CrewdDoubtsItself", "CrewdDefect",
    "CrewdInvariantViolated", "CrewdMetricsIncomplete", "CrewdSeriesLimit", "CrewdFalseDeaths",
}  # fmt: skip


@pytest.mark.parametrize("rule", ALERTS, ids=label_of)
def test_an_alert_about_a_state_outlives_a_crewd_that_dies_or_is_restarted(rule: Rule) -> None:
    lives_on = rule.get("keep_firing_for")
    if (short := rule["labels"].get("short_window")) is not None:
        assert monitoring.seconds(lives_on) == 2 * monitoring.seconds(short)
    else:
        assert lives_on == (None if rule["alert"] in ENDS_AT_ONCE else "5m")


@pytest.mark.parametrize("rule", [r for r in ALERTS if r["alert"] == "CrewdSlowDetectionBudgetBurn"], ids=label_of)
def test_what_is_told_late_after_a_start_or_a_suspend_has_left_the_short_window_when_it_counts(rule: Rule) -> None:
    uptime = re.search(r"process_start_time_seconds\S+ < (\d+)", rule["expr"])
    suspended = re.search(r"increase\(crewd_suspends_total\S+\[(\w+)\]\) > 0$", rule["expr"].strip())
    assert uptime is not None and suspended is not None
    short = monitoring.seconds(rule["labels"]["short_window"])
    assert int(uptime[1]) == monitoring.seconds(suspended[1]) >= short + 300


def test_what_is_recorded_is_still_fresh_when_it_is_asked_for() -> None:
    """Prometheus takes what is older than 5 minutes for gone."""
    for group in read(FOLDER / "rules.yml")["groups"]:
        assert re.fullmatch(r"[1-4]m", group.get("interval", "1m")), group["name"]


# --------------------------------------------------------------------------------------------------
# What a person reads

PAGE = (Path(__file__).parents[2] / "docs" / "runbooks.md").read_text("utf-8")


@pytest.mark.parametrize("rule", ALERTS, ids=label_of)
def test_an_alert_says_what_is_wrong_and_what_to_do(rule: Rule) -> None:
    name, labels, words = rule["alert"], rule["labels"], rule["annotations"]
    assert re.fullmatch(r"Crewd([A-Z][a-z]+)+", name)
    assert labels["severity"] in ("critical", "warning", "info")
    assert set(words) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert words["summary"].endswith(".") and "{{" not in words["summary"] and len(words["summary"]) < 90
    assert words["runbook_url"] == f"{ADDRESS}/runbooks#{name.lower()}"
    assert re.match(
        r"http://127\.0\.0\.1:3000/d/crewd-(overview|crew|detection|retries|daemon)\?", words["dashboard_url"]
    )
    said = words["description"]
    assert "`" in said, "no command"
    assert said.rstrip().endswith((".", "}}")) and "\n\n" not in said
    if name != "CrewdAbsent":
        assert "$labels.instance" in said
    for label in set(re.findall(r"\$labels\.(\w+)", said)) - SELF - set(labels):
        assert re.search(rf"\b{label}\b", rule["expr"]) or any(
            label in (family.labels if (family := family_of(name)) else ()) for name, _ in selectors(rule["expr"])
        ), f"{label} is never set"
    if "var-crew" in words["dashboard_url"]:
        assert "crew" in said


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    headings = [section.alert for section in runbooks.sections(PAGE)]
    assert len(headings) == len(set(headings))
    assert set(headings) == {rule["alert"] for rule in ALERTS}
    assert headings == list(dict.fromkeys(rule["alert"] for rule in ALERTS)), "in another order than alerts.yml"


@pytest.mark.parametrize("section", runbooks.sections(PAGE), ids=lambda section: section.alert)
def test_a_runbook_says_what_it_means_what_to_look_at_what_to_do_and_when_it_is_wrong(
    section: runbooks.Section,
) -> None:
    for part in ("**Look at**", "**Do", "**False alarm:**"):
        assert part in section.text
    assert section.line.endswith(".") and len(section.line) < 300


def test_links_between_runbooks_lead_somewhere() -> None:
    anchors = {section.anchor for section in runbooks.sections(PAGE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors
    for page in set(re.findall(r"\]\(([a-z/.-]+\.md)[)#]", PAGE)):
        assert (Path(__file__).parents[2] / "docs" / page).is_file(), page


QUERY = re.compile(r"(?<![\w:])(?:crewd?_\w+|job\w*(?::\w+)+)(?::?\*)?")


def test_every_metric_on_the_page_exists() -> None:
    recorded = {rule["record"] for rule in RECORDED}
    everything = {*recorded, *(family.name for family in FAMILIES)}
    for name in set(QUERY.findall(" ".join(re.findall(r"`([^`]+)`", PAGE)))):
        if name.endswith("*"):
            assert any(each.startswith(name.rstrip(":*")) for each in everything), name
        else:
            assert name in recorded or family_of(name) is not None, name


def test_every_event_and_setting_on_the_page_exists() -> None:
    for event in set(
        re.findall(r"--type ([a-z_.]+)", PAGE + " ".join(a["annotations"]["description"] for a in ALERTS))
    ):
        assert event in EVENTS, event
    settings = (Path(__file__).parents[2] / "docs" / "reference" / "settings.md").read_text("utf-8")
    groups = set(re.findall(r"^## \[(\w+)", settings, re.MULTILINE))
    for key in set(re.findall(r"`([a-z_]+(?:\.[A-Za-z_]+)+)(?: = [^`]+)?`", PAGE)):
        if key.split(".")[0] in groups:
            assert f"`{key}`" in settings or f"## [{key}" in settings, key


COMMAND = re.compile(r"`(crewd [^`]+)`")


def commands() -> list[str]:
    texts = [PAGE, *(rule["annotations"]["description"] for rule in ALERTS)]
    return sorted({" ".join(found.split()) for text in texts for found in COMMAND.findall(text)})


@pytest.mark.parametrize("line", commands())
def test_every_command_that_is_named_can_be_given(line: str) -> None:
    """The command exists, and so does each of its options; what it would do is not tried here."""
    words = shlex.split(re.sub(r"\{\{.*?\}\}", "NAME", line))[1:]
    group: click.Command = cli
    context = click.Context(cli, info_name="crewd")
    while isinstance(group, click.Group) and words and not words[0].startswith("-"):
        command = group.get_command(context, words.pop(0))
        assert command is not None, line
        context, group = click.Context(command, parent=context), command
    known_options = {option for each in group.params for option in (*each.opts, *each.secondary_opts)}
    for word in words:
        if word.startswith("-"):
            assert word in known_options, f"{line}: no option {word}"
    places = [each for each in group.params if isinstance(each, click.Argument) and each.required]
    given = [word for word in words if not word.startswith("-")]
    assert len(given) >= len(places), f"{line}: {places[len(given)].name if places else ''} is missing"


# --------------------------------------------------------------------------------------------------
# A real Prometheus


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers with what the server was given for a path."""

    def do_GET(self) -> None:
        kind, body = self.server.pages[self.path]  # type: ignore[attr-defined]  # set below
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def answering(pages: Mapping[str, tuple[str, bytes]]) -> Iterator[str]:
    """Serve pages on the loopback address; yields `host:port`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.pages = pages  # type: ignore[attr-defined]  # a server of ours, read by its handler above
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
@pytest.mark.real_time
@pytest.mark.skipif(monitoring.PROMETHEUS is None, reason="no prometheus here (Debian: apt install prometheus)")
def test_a_real_prometheus_finds_crewds_by_file_and_by_http_and_evaluates_every_rule(tmp_path: Path) -> None:
    exposed = "application/openmetrics-text; version=1.0.0; charset=utf-8", openmetrics(full().metrics.registry)
    one, other = ({"/metrics": exposed} for _ in range(2))
    listed = read(FOLDER / "file_sd" / "crewd.json")
    with contextlib.ExitStack() as stack:
        by_file, by_http = stack.enter_context(answering(one)), stack.enter_context(answering(other))
        named = json.dumps([{"targets": [by_http], "labels": {"host": "server"}}]).encode()
        service = stack.enter_context(answering({"/crewd.json": ("application/json", named)}))
        listed[0]["targets"] = [by_file]
        (tmp_path / "file_sd").mkdir()
        (tmp_path / "file_sd" / "crewd.json").write_text(json.dumps(listed))
        settings = read(FOLDER / "prometheus-file-sd.yml")
        over_http = read(FOLDER / "prometheus-http-sd.yml")["scrape_configs"][0]["http_sd_configs"]
        over_http[0]["url"] = f"http://{service}/crewd.json"
        settings["scrape_configs"][0]["http_sd_configs"] = over_http
        settings["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        del settings["alerting"]
        loaded = {name: read(FOLDER / name) for name in ("rules.yml", "alerts.yml")}
        for group in [group for file in loaded.values() for group in file["groups"]]:
            group["interval"] = "1s"
        prometheus = monitoring.start_prometheus(tmp_path, settings, loaded)
        with monitoring.closing(prometheus):
            prometheus.wait_ready()

            def asked(path: str) -> Any:
                return (monitoring.ask(f"{prometheus.url}/api/v1/{path}") or {}).get("data")

            def up() -> set[tuple[str, str]]:
                targets = asked("targets?state=active")["activeTargets"]
                return {(t["labels"]["instance"], t["labels"]["host"]) for t in targets if t["health"] == "up"}

            monitoring.eventually(lambda: up() == {(by_file, "workstation"), (by_http, "server")}, "both are scraped")

            def health() -> list[tuple[str, str, str]]:
                groups = asked("rules")["groups"]
                return [(r["name"], r["health"], r.get("lastError", "")) for g in groups for r in g["rules"]]

            monitoring.eventually(lambda: {each[1] for each in health()} == {"ok"}, "every rule is evaluated", 20)
            assert len(health()) == len(RECORDED) + len(ALERTS)

            # Nothing of two crewds is ever one figure.
            def instances() -> set[str]:
                recorded = asked("query?query=" + quote("job_instance_crew:crew_retries:rate5m"))["result"]
                return {each["metric"]["instance"] for each in recorded}

            monitoring.eventually(lambda: instances() == {by_file, by_http}, "both have rates of their own")
