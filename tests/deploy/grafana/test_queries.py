"""Every query of every dashboard, put to a real Prometheus that scraped a crewd with every series there can be."""

import math
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.deploy.grafana.dashboards import NAMES, Dashboard, dashboard, expressions
from tests.deploy.grafana.world import exposition, prometheus

pytestmark = [pytest.mark.slow, pytest.mark.real_time, pytest.mark.xdist_group("grafana-prometheus")]

# What Grafana puts in place of a variable.
GIVEN = {"__rate_interval": "4s", "__interval": "2s", "__range": "1m", "crew": ".+"}
CHOSEN = {"job": "(crewd)", "instance": r"(127\\.0\\.0\\.1:\\d+)", "runtime": "(pi_crew|beat|managed)"}
VARIABLE = re.compile(r"\$([a-z_]+)")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with exposition() as port, prometheus(tmp_path_factory.mktemp("prometheus"), port) as client:
        yield client


def spoken(expr: str) -> str:
    """The query as Grafana would send it."""
    return VARIABLE.sub(lambda found: {**GIVEN, **CHOSEN}[found[1]], expr)


def complaints(of: Dashboard, asked: httpx.Client) -> list[str]:
    """What is wrong with the queries: an error, no answer, or none that is a number."""
    found = []
    for where, expr in expressions(of):
        # A filter at the end may leave nothing of what is all zero: such a query is asked without it.
        answer = asked.get("/query", params={"query": spoken(expr.removesuffix(" > 0"))}).json()
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


def test_a_query_that_is_wrong_or_finds_nothing_is_found(asked: httpx.Client) -> None:
    spoilt = dashboard("detection")
    targets = [panel["targets"][0] for panel in spoilt["panels"] if panel["type"] == "stat"]
    targets[0]["expr"] = 'sum(crew_workers{job="crewd"'
    targets[1]["expr"] = 'crew_workers{job="crewd", level="asleep"}'
    targets[2]["expr"] = "histogram_quantile(0.5, crew_run_duration_seconds_bucket == 1e9) or vector(NaN)"
    said = complaints(spoilt, asked)
    assert [each.split(": ")[1] for each in said] == ['invalid parameter "query"', "no answer", "not a number"], said
