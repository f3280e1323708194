"""Every query of every dashboard, put to a real Prometheus that scraped a crewd with every series there can be."""

import math
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.deploy.grafana.dashboards import NAMES, Dashboard, Panel, dashboard, expressions, panels
from tests.deploy.grafana.world import DOWN, exposition, prometheus

pytestmark = [pytest.mark.slow, pytest.mark.real_time, pytest.mark.xdist_group("grafana-prometheus")]

# What Grafana puts in place of a variable.
GIVEN = {"__rate_interval": "4s", "__interval_ms": "2000", "__range": "1m"}
CHOSEN = {
    "job": "(crewd)",
    "instance": r"(127\\.0\\.0\\.1:\\d+)",
    "runtime": "(pi_crew|beat|managed)",
    "crew": "blue",
}
VARIABLE = re.compile(r"\$([a-z_]+)")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with exposition() as port, prometheus(tmp_path_factory.mktemp("prometheus"), port) as client:
        yield client


def spoken(expr: str, **chosen: str) -> str:
    """The query as Grafana would send it."""
    return VARIABLE.sub(lambda found: {**GIVEN, **CHOSEN, **chosen}[found[1]], expr)


def complaints(of: Dashboard, asked: httpx.Client) -> list[str]:
    """What is wrong with the queries: an error, no answer, or none that is a number."""
    found = []
    for where, expr in expressions(of):
        # A filter at the end may leave nothing of what is all zero: such a query is asked without it.
        # Of the crews of that world, `green` is the one that a provider keeps waiting.
        crew = "green" if "crew_throttled" in expr else "blue"
        answer = asked.get("/query", params={"query": spoken(expr.removesuffix(" > 0"), crew=crew)}).json()
        if answer["status"] != "success":
            found.append(f"{where}: {answer['error']}: {expr}")
        elif not answer["data"]["result"]:
            found.append(f"{where}: no answer: {expr}")
        elif all(math.isnan(float(each["value"][1])) for each in answer["data"]["result"]):
            found.append(f"{where}: not a number: {expr}")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_query_is_answered_with_numbers(name: str, asked: httpx.Client) -> None:
    assert complaints(dashboard(name), asked) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_has_values(name: str, asked: httpx.Client) -> None:
    for variable in dashboard(name)["templating"]["list"]:
        if variable["type"] != "query":
            continue
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert found is not None, variable
        answer = asked.get(f"/label/{found[2]}/values", params={"match[]": spoken(found[1])}).json()
        assert answer["status"] == "success" and answer["data"], variable


def tile(panel: Panel, asked: httpx.Client, **chosen: str) -> tuple[str, str]:
    """What a tile shows, with its colour."""
    query = spoken(panel["targets"][0]["expr"], **chosen)
    found = asked.get("/query", params={"query": query}).json()["data"]["result"]
    defaults = panel["fieldConfig"]["defaults"]
    steps = defaults["thresholds"]["steps"]
    if not found:
        return defaults["noValue"], steps[0]["color"]
    value = float(found[0]["value"][1])
    words = {key: word for each in defaults.get("mappings", []) for key, word in each["options"].items()}
    if word := words.get(f"{value:g}"):
        return word["text"], word.get("color", "text")
    return f"{value:g}", [step["color"] for step in steps if step["value"] is None or step["value"] <= value][-1]


TILES = [(name, panel) for name in NAMES for panel in panels(dashboard(name)) if panel["type"] == "stat"]


@pytest.mark.parametrize(("name", "panel"), TILES, ids=[f"{name}-{panel['title']}" for name, panel in TILES])
def test_no_tile_is_green_while_crewd_is_down(name: str, panel: Panel, asked: httpx.Client) -> None:
    shown, colour = tile(panel, asked, instance=DOWN.replace(".", r"\\."))
    assert shown in ("not known", "no rules") or colour == "red", (shown, colour)
    assert colour != "green"


THERE = r"127\\.0\\.0\\.1:\\d\\d+"


def test_a_tile_says_that_there_is_nothing_where_a_crewd_is_there(asked: httpx.Client) -> None:
    shown = {
        (name, panel["title"]): tile(panel, asked, crew="nobody", runtime="none", instance=THERE)
        for name, panel in TILES
        if panel["title"] in ("Waits for a person for", "Oldest dead letter", "Exit noticed, 95 %", "Dead workers")
    }
    assert shown == {
        ("overview", "Dead workers"): ("no run", "green"),
        ("crew", "Waits for a person for"): ("nobody waits", "green"),
        ("retries", "Oldest dead letter"): ("none", "green"),
        ("detection", "Exit noticed, 95 %"): ("no exit", "green"),
    }


def test_one_of_two_that_is_down_is_told(asked: httpx.Client) -> None:
    tiles = {(name, panel["title"]): panel for name, panel in TILES}
    assert tile(tiles["daemon", "Ready"], asked) == ("not ready", "red")
    assert tile(tiles["overview", "crewd not ready"], asked)[1] == "red"
    # Nothing is heard of this crew: it may be one of the other's.
    assert tile(tiles["crew", "Dead"], asked, crew="nobody") == ("not known", "purple")


def test_the_job_is_known_though_its_crewd_has_told_nothing_for_long(asked: httpx.Client) -> None:
    (query,) = [
        each["query"]["query"] for each in dashboard("overview")["templating"]["list"] if each["name"] == "job"
    ]
    series = spoken(query.removeprefix("label_values(").removesuffix(", job)")).replace("crewd_build_info", "nothing")
    assert asked.get("/label/job/values", params={"match[]": series}).json()["data"] == ["crewd"]


def test_a_query_that_is_wrong_or_finds_nothing_is_found(asked: httpx.Client) -> None:
    spoilt = dashboard("detection")
    targets = [panel["targets"][0] for panel in spoilt["panels"] if panel["type"] == "stat"]
    targets[0]["expr"] = 'sum(crew_workers{job="crewd"'
    targets[1]["expr"] = 'crew_workers{job="crewd", level="asleep"}'
    targets[2]["expr"] = "histogram_quantile(0.5, crew_run_duration_seconds_bucket == 1e9) or vector(NaN)"
    said = complaints(spoilt, asked)
    assert [each.split(": ")[1] for each in said] == ['invalid parameter "query"', "no answer", "not a number"], said
