"""What a dashboard must keep to: those of grafana/dashboard-linter that apply, and crewd's own.

Each rule takes a dashboard and says what is wrong with it. Two differ from the linter's, with a reason:

- "All" of job and instance is the list of crewd's, not `.+`: `up` and `process_...` belong to every job there is.
- An alert may have no instance, and is shown all the same: its selector is `instance=~"$instance|"`.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations

import yaml

from crewd.cli.main import COMMANDS
from crewd.telemetry import families as known
from crewd.telemetry.families import FAMILIES, Kind
from tests.deploy.grafana.dashboards import NAMES, ROOT, Dashboard, Panel, dashboard, expressions, links, panels
from tests.deploy.grafana.promql import grouped, selectors, unselected

Rule = Callable[[Dashboard], Iterator[str]]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {
    "short", "none", "s", "bytes", "Bps", "percentunit", "cps", "cpm", "reqps", "currencyUSD", "dateTimeFromNow",
    "dtdurations",
}  # fmt: skip
# Colours that the levels give their meaning; darker ones tell what belongs to the same meaning apart.
COLOURS = {
    "green", "semi-dark-green", "yellow", "orange", "semi-dark-orange", "red", "dark-red", "blue", "purple", "text",
}  # fmt: skip
WINDOWS = {"$__rate_interval", "$__range", "1h", "7d"}
GRID_WIDTH = 24
OF_PROMETHEUS = {
    "up": set[str](),
    "ALERTS": {"alertname", "alertstate", "severity", "crew"},
    "ALERTS_FOR_STATE": {"alertname", "severity", "crew"},
}
PAGES = {"/", "/runbooks", "/readyz"}  # of crewd, to which a link may lead
# What a link may take from Grafana, beside the variables of the dashboard.
BUILT_IN = {"__url_time_range", "__value.text", "__data.fields", "__field.labels"}
# Values of labels that are closed: of a family where a label means something else in another.
CLOSED: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "level"): known.LEVELS,
    ("crew_heartbeat_threshold_seconds", "level"): ("warn", "stale", "hung", "dead"),
    ("", "from_level"): known.LEVELS,
    ("", "to_level"): known.LEVELS,
    ("crew_verdicts_total", "outcome"): known.OUTCOMES,
    ("crew_tasks_finished_total", "outcome"): known.TASK_OUTCOMES,
    ("crew_dead_letter_redrives_total", "outcome"): known.REDRIVES,
    ("crew_recoveries_total", "outcome"): known.RECOVERY_OUTCOMES,
    ("crew_recoveries_total", "cause"): known.RECOVERY_CAUSES,
    ("crew_runs_finished_total", "status"): known.RUN_OUTCOMES,
    ("crew_runs", "status"): known.RUN_STATUSES,
    ("crew_tasks", "status"): known.TASK_STATUSES,
    ("crew_verdicts_total", "reason"): known.DEAD_REASONS,
    ("crew_verdicts_open", "reason"): known.DEAD_REASONS,
    ("crew_detection_latency_seconds", "reason"): known.DEAD_REASONS,
    ("crew_heartbeats_rejected_total", "reason"): known.REJECTIONS,
    ("crew_workers_in_trouble", "reason"): known.TROUBLES,
    ("crew_dead_letters_total", "reason"): known.LETTER_REASONS,
    ("crewd_stream_disconnects_total", "reason"): known.STREAM_ENDS,
    ("crewd_manifest_reads_total", "result"): known.READ_RESULTS,
    ("crewd_notifications_total", "result"): known.NOTIFY_RESULTS,
    ("", "severity"): known.SEVERITY_LABELS,
    ("crew_incidents_open", "state"): known.INCIDENT_STATES,
    ("crew_recovery_plans", "state"): known.RECOVERY_STATES,
    ("crew_budget_used_ratio", "scope"): ("day", "crew", "run", "task"),
    ("crewd_paused", "scope"): known.PAUSES,
    ("", "folder"): known.FOLDERS,
    ("", "alertstate"): ("firing", "pending"),
}
# Families that no dashboard shows, and why.
NOT_SHOWN = {
    "process_virtual_memory_bytes": "what is reserved is no memory that is used, and dwarfs it in the panel",
    "python_gc_collections_total": "the CPU time and the lag of the event loop tell what it costs",
    "python_gc_objects_collected_total": "tells nobody anything",
    "python_gc_objects_uncollectable_total": "always 0 since Python 3.4",
}


@cache
def recorded() -> dict[str, set[str]]:
    """The recording rules with the labels by which they are kept."""
    read = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    rules = [rule["record"] for group in read["groups"] for rule in group["rules"] if "record" in rule]
    return {name: {"crew"} if name.startswith("job_instance_crew:") else set() for name in rules}


@cache
def headings() -> set[str]:
    """The anchors of the runbooks."""
    text = (ROOT / "docs/runbooks.md").read_text()
    return {found[1].lower() for found in re.finditer(r"^## (\w+)$", text, re.MULTILINE)}


@cache
def uids() -> set[str]:
    return {dashboard(name)["uid"] for name in NAMES}


def family_of(metric: str) -> known.Family | None:
    """The family of a metric or of a sample of a histogram."""
    by_name = {family.name: family for family in FAMILIES}
    family = by_name.get(metric) or by_name.get(re.sub(r"_(bucket|count|sum)$", "", metric))
    return family if family is None or family.name == metric or family.kind is Kind.HISTOGRAM else None


def labels_of(metric: str) -> set[str] | None:
    """The labels of a metric, but for job and instance; None if there is no such metric."""
    family = family_of(metric)
    if family is not None:
        return {*family.labels, *({"le"} if metric.endswith("_bucket") else ())}
    return OF_PROMETHEUS.get(metric, recorded().get(metric))


def values_of(metric: str, label: str) -> tuple[str, ...] | None:
    """The values of a closed label; None if it is open."""
    family = family_of(metric)
    if label == "le" and family is not None:
        return tuple(str(bound) for bound in family.buckets)
    return CLOSED.get((family.name if family else metric, label), CLOSED.get(("", label)))


def datasource_is_a_variable(of: Dashboard) -> Iterator[str]:
    found = [each for each in of["templating"]["list"] if each["type"] == "datasource"]
    if [(each["name"], each["label"], each["query"]) for each in found] != [
        ("datasource", "Data source", "prometheus")
    ]:
        yield f"not one variable for the datasource: {found}"
    for where, datasource in _datasources(of):
        if datasource != DATASOURCE:
            yield f"{where}: another datasource: {datasource}"


def _datasources(of: Dashboard) -> Iterator[tuple[str, object]]:
    for panel in panels(of):
        yield panel["title"], panel.get("datasource")
        yield from ((panel["title"], target.get("datasource")) for target in panel["targets"])
    for annotation in of["annotations"]["list"]:
        yield annotation["name"], annotation.get("datasource")
    for variable in of["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable.get("datasource")


def job_and_instance_are_variables(of: Dashboard) -> Iterator[str]:
    for name in ("job", "instance"):
        found = [each for each in of["templating"]["list"] if each["name"] == name]
        if len(found) != 1 or found[0]["type"] != "query" or found[0].get("label") != name.title():
            yield f"not one variable {name}"
        elif not found[0]["multi"] or not found[0]["includeAll"] or "allValue" in found[0]:
            yield f"not all of {name} can be chosen, or more than crewd's"


def variables_ask_prometheus_and_are_renewed(of: Dashboard) -> Iterator[str]:
    for variable in of["templating"]["list"]:
        if variable["type"] != "query":
            continue
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        if found is None:
            yield f"variable {variable['name']} is no label_values"
        elif any(labels_of(metric) is None for metric in _asked_for(found[1])):
            yield f"variable {variable['name']} asks for a metric that does not exist"
        if variable.get("refresh") != 2:
            yield f"variable {variable['name']} is not renewed when the time changes"


def _asked_for(series: str) -> list[str]:
    """The metrics of a selector: by their name, or by a pattern of names."""
    named = re.search(r'__name__=~"([^"]+)"', series)
    return named[1].split("|") if named else [series.partition("{")[0]]


def names_are_patterns_only_where_grafana_masks_them(of: Dashboard) -> Iterator[str]:
    """It masks what has a meaning in patterns (`c++`) in the values of variables of which many can be chosen."""
    single = {each["name"] for each in of["templating"]["list"] if not (each.get("multi") or each.get("includeAll"))}
    for where, expr in expressions(of):
        for name in re.findall(r'=~"[^"]*\$\{?([a-z]\w*)', expr):
            if name in single:
                yield f"{where}: ${name} is one name, and is taken for a pattern"


def variables_that_are_used_exist(of: Dashboard) -> Iterator[str]:
    names = {each["name"] for each in of["templating"]["list"]}
    for where, expr in expressions(of):
        used = set(re.findall(r"\$\{?([a-z]\w*)", expr))
        yield from (f"{where}: no variable {name}" for name in sorted(used - names))
    for where, url in links(of):
        used = {each for each in re.findall(r"\$\{([\w.]+)", url) if not each.startswith(tuple(BUILT_IN))}
        yield from (f"{where}: no variable {name} in {url}" for name in sorted(used - names))


def panels_say_what_they_are_for(of: Dashboard) -> Iterator[str]:
    titles = [panel.get("title") for panel in panels(of)]
    yield from (
        f"two panels are called {each}" for each in sorted({each for each in titles if titles.count(each) > 1})
    )
    for panel in panels(of):
        if not panel.get("title"):
            yield f"panel {panel['id']} has no title"
        if not re.fullmatch(r"[A-Z][^\n]*\?\n\nDo: [^\n]+\.", panel.get("description", "")):
            yield f"{panel.get('title')}: no question with what is to be done"


def commands_in_descriptions_exist(of: Dashboard) -> Iterator[str]:
    for panel in panels(of):
        for command in re.findall(r"`crewd ([a-z-]+)", panel.get("description", "")):
            if command not in COMMANDS:
                yield f"{panel['title']}: there is no command crewd {command}"


def panels_have_units(of: Dashboard) -> Iterator[str]:
    for panel in panels(of):
        units = [panel["fieldConfig"]["defaults"].get("unit")]
        units += [each["value"] for each in _properties(panel) if each["id"] == "unit"]
        yield from (f"{panel['title']}: no such unit: {unit}" for unit in units if unit not in UNITS)


def panels_ask_something(of: Dashboard) -> Iterator[str]:
    for panel in panels(of):
        refs = [target["refId"] for target in panel["targets"]]
        if not refs or len(refs) != len(set(refs)) or not all(target.get("expr") for target in panel["targets"]):
            yield f"{panel['title']}: no query, or two of one name"


def queries_are_about_this_job_and_instance(of: Dashboard) -> Iterator[str]:
    for where, expr in expressions(of):
        for each in selectors(expr):
            instance = "$instance|" if each.metric.startswith("ALERTS") else "$instance"
            if not {("job", "=~", "$job"), ("instance", "=~", instance)} <= set(each.matchers):
                yield f"{where}: {each.metric} without job or instance"
        yield from (f"{where}: {metric} without selectors" for metric in unselected(expr))


def rates_follow_the_resolution(of: Dashboard) -> Iterator[str]:
    for where, expr in expressions(of):
        for each in selectors(expr):
            if each.function in ("rate", "irate") and each.window != "$__rate_interval":
                yield f"{where}: {each.function} over {each.window}"
            elif each.window and each.window not in WINDOWS:
                yield f"{where}: a window of {each.window}"
    for panel in panels(of):
        for target in panel["targets"]:
            # Grafana takes four times that step for $__rate_interval: each event would be drawn four times.
            if "$__rate_interval" in target["expr"] and target.get("interval"):
                yield f"{panel['title']}: {target['refId']} asks for a least step; that is the panel's"
            if "$__interval_ms" in target["expr"] and panel.get("interval") != "1m":
                yield f"{panel['title']}: bars of less than a minute"


def what_is_told_of_now_is_asked_of_now(of: Dashboard) -> Iterator[str]:
    """The newest value of a query over time may be hours old: of what has vanished since."""
    for panel in panels(of):
        now = panel["type"] in ("stat", "bargauge", "table")
        for target in panel["targets"]:
            if target.get("instant", False) is not now or target.get("range", False) is now:
                yield f"{panel['title']}: {'not ' if now else ''}only the newest value is asked for"


def what_nobody_knows_is_not_well(of: Dashboard) -> Iterator[str]:
    """Where no crewd answers there is no value: its colour is the first, and its words are no all-clear."""
    for panel in panels(of):
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] == "stat":
            if defaults["thresholds"]["steps"][0]["color"] == "green":
                yield f"{panel['title']}: green where nobody knows"
            if defaults.get("noValue") not in ("not known", "not scraped", "no rules"):
                yield f"{panel['title']}: {defaults.get('noValue')!r} where nobody knows"
        if panel["type"] in ("stat", "bargauge"):
            for target in panel["targets"]:
                if "histogram_quantile" in target["expr"] and ">= 0" not in target["expr"]:
                    yield f"{panel['title']}: not a number where nothing was observed"


def counters_are_counted_as_they_grow(of: Dashboard) -> Iterator[str]:
    for where, expr in expressions(of):
        for each in selectors(expr):
            family = family_of(each.metric)
            if family is not None and family.kind is not Kind.GAUGE:
                if each.function not in ("rate", "irate", "increase"):
                    yield f"{where}: {each.metric} without rate or increase"
            elif each.function in ("rate", "irate", "increase"):
                yield f"{where}: {each.function} of {each.metric}, which is no counter"


def names_and_values_exist(of: Dashboard) -> Iterator[str]:
    for where, expr in expressions(of):
        labels = {"job", "instance", "runbook"}
        for each in selectors(expr):
            own = labels_of(each.metric)
            if own is None:
                yield f"{where}: no metric {each.metric}"
                continue
            labels |= own
            for label, _, pattern in each.matchers:
                if label not in own | {"job", "instance"}:
                    yield f"{where}: {each.metric} has no label {label}"
                values = values_of(each.metric, label)
                wrong = [one for one in pattern.split("|") if values is not None and one and one not in values]
                yield from (f"{where}: {label} of {each.metric} is never {one}" for one in wrong if one[0] != "$")
        yield from (f"{where}: no label {label}" for label in sorted(grouped(expr) - labels))


def legends_name_labels_that_are_left(of: Dashboard) -> Iterator[str]:
    for panel in panels(of):
        for target in panel["targets"]:
            left = grouped(target["expr"])
            named = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            yield from (f"{panel['title']}: no {label} is left for the legend" for label in sorted(named - left))


def colours_go_to_series_that_exist(of: Dashboard) -> Iterator[str]:
    for panel in panels(of):
        names = _series(panel)
        for override in panel["fieldConfig"]["overrides"]:
            if names is not None and override["matcher"]["options"] not in names:
                yield f"{panel['title']}: there is no series {override['matcher']['options']}"
        used = set(re.findall(r'"(?:color|fixedColor)": "([^"]+)"', str(panel["fieldConfig"]).replace("'", '"')))
        yield from (f"{panel['title']}: {each} has no meaning" for each in sorted(used - COLOURS))


def _series(panel: Panel) -> set[str] | None:
    """The names that series of a panel can have; None if they are open."""
    if panel["type"] == "table":
        organised = next(each for each in panel["transformations"] if each["id"] == "organize")["options"]
        asked = set().union(*(grouped(target["expr"]) for target in panel["targets"]))
        return {*organised["renameByName"].values(), *asked, "runbook"}
    names: set[str] = set()
    for target in panel["targets"]:
        legend = target.get("legendFormat", "")
        found = re.fullmatch(r"(.*)\{\{(\w+)\}\}", legend)
        if found is None:
            names.add(legend)
            continue
        values = [values_of(each.metric, found[2]) for each in selectors(target["expr"])]
        if None in values:
            return None
        names |= {found[1] + value for each in values for value in each or ()}
    return names


def links_lead_somewhere(of: Dashboard) -> Iterator[str]:
    for where, url in links(of):
        page = re.fullmatch(
            r"http://\$\{(?:page|__data\.fields\.instance|__field\.labels\.instance)\}(/\w*)(#.+)?", url
        )
        other = re.match(r"/d/([\w-]+)(?:\?|$)", url)
        if other is not None:
            if other[1] not in uids():
                yield f"{where}: no dashboard {other[1]}"
        elif page is None or page[1] not in PAGES:
            yield f"{where}: leads nowhere: {url}"
        elif page[2] and page[2] != "#${__value.text}" and page[2][1:] not in headings():
            yield f"{where}: no runbook {page[2]}"
    for panel in panels(of):
        for each in _properties(panel):
            if each["id"] == "mappings" and any("Crewd" in value for value in each["value"][0]["options"]):
                shown = {one["text"] for one in each["value"][0]["options"].values()}
                yield from (f"{panel['title']}: no runbook {one}" for one in sorted(shown ^ headings()))


def dashboards_lead_to_each_other(of: Dashboard) -> Iterator[str]:
    linked = {url for _, url in links({**of, "panels": []})}
    wanted = {f"/d/{uid}" for uid in uids() - {of["uid"]}} | {"http://${page}/", "http://${page}/runbooks"}
    yield from (f"no link to {each}" for each in sorted(wanted - linked))
    if {each["name"] for each in of["annotations"]["list"]} != {"crewd started", "Settings loaded", "Alerts"}:
        yield "not the annotations that every dashboard has"


def panels_lie_on_the_grid(of: Dashboard) -> Iterator[str]:
    placed = [(each["title"], each["gridPos"]) for each in of["panels"]]
    for title, at in placed:
        if at["x"] < 0 or at["w"] < 1 or at["h"] < 1 or at["x"] + at["w"] > GRID_WIDTH:
            yield f"{title} is not on the grid: {at}"
    for (one, a), (other, b) in combinations(placed, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        if not beside and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]:
            yield f"{one} and {other} lie upon each other"


def ids_are_unique(of: Dashboard) -> Iterator[str]:
    ids = [panel.get("id") for panel in of["panels"]]
    if None in ids or len(ids) != len(set(ids)):
        yield f"not every panel has an id of its own: {ids}"


def nobody_edits_it(of: Dashboard) -> Iterator[str]:
    if of.get("editable") is not False:
        yield "it can be edited, and the next start would lose the change"
    if "id" in of or of.get("version"):
        yield "it bears the number of one Grafana"


def it_begins_well(of: Dashboard) -> Iterator[str]:
    if not of.get("description", "").endswith("?") or of.get("tags") != ["crewd"]:
        yield "no question, or not the tag crewd"
    if not re.fullmatch(r"now-\d+h", of["time"]["from"]) or of["refresh"] not in ("30s", "1m"):
        yield f"an odd time: {of['time']}, {of['refresh']}"


RULES: tuple[Rule, ...] = (
    datasource_is_a_variable,
    job_and_instance_are_variables,
    variables_ask_prometheus_and_are_renewed,
    names_are_patterns_only_where_grafana_masks_them,
    variables_that_are_used_exist,
    panels_say_what_they_are_for,
    commands_in_descriptions_exist,
    panels_have_units,
    panels_ask_something,
    queries_are_about_this_job_and_instance,
    rates_follow_the_resolution,
    what_is_told_of_now_is_asked_of_now,
    what_nobody_knows_is_not_well,
    counters_are_counted_as_they_grow,
    names_and_values_exist,
    legends_name_labels_that_are_left,
    colours_go_to_series_that_exist,
    links_lead_somewhere,
    dashboards_lead_to_each_other,
    panels_lie_on_the_grid,
    ids_are_unique,
    nobody_edits_it,
    it_begins_well,
)


def _properties(panel: Panel) -> list[dict[str, object]]:
    return [each for override in panel["fieldConfig"]["overrides"] for each in override["properties"]]
