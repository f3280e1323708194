from itertools import pairwise
from math import ceil, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from crewd.telemetry.sinks.metric_line import metric_line, quantile
from tests.telemetry.sinks.world import NOON
from tests.telemetry.test_metrics import full

BOUNDS = (1.0, 2.0, 5.0, 10.0, inf)


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ((0, 0, 0, 0, 0), 0.5, None),
        ((10, 10, 10, 10, 10), 0.5, 0.5),
        ((0, 10, 10, 10, 10), 0.5, 1.5),
        ((5, 5, 10, 10, 10), 0.5, 1.0),
        ((5, 5, 10, 10, 10), 0.75, 3.5),
        ((0, 0, 0, 4, 4), 1.0, 10.0),
        ((0, 0, 0, 1, 4), 0.5, None),
        ((0, 0, 0, 0, 7), 0.01, None),
    ],
)
def test_a_quantile_lies_on_the_line_inside_its_bucket(
    counts: tuple[int, ...], share: float, value: float | None
) -> None:
    told = quantile(list(zip(BOUNDS, map(float, counts), strict=True)), share)
    assert told == (None if value is None else pytest.approx(value))


def test_nothing_has_no_quantile() -> None:
    assert quantile([], 0.5) is None


@given(st.lists(st.floats(0, 20), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_a_quantile_lies_in_the_bucket_of_the_observation_of_that_rank(values: list[float], share: float) -> None:
    buckets = [(bound, float(sum(value <= bound for value in values))) for bound in BOUNDS]
    told = quantile(buckets, share)
    observed = sorted(values)[ceil(share * len(values)) - 1]
    if told is None:
        assert observed > 10
    else:
        upper = next(bound for bound in BOUNDS if observed <= bound)
        lower = max((bound for bound in BOUNDS if bound < observed), default=0.0)
        assert lower <= told <= upper


@given(st.lists(st.floats(0, 9), min_size=1, max_size=60))
def test_a_higher_quantile_is_never_lower(values: list[float]) -> None:
    buckets = [(bound, float(sum(value <= bound for value in values))) for bound in BOUNDS]
    told = [quantile(buckets, share) for share in (0.1, 0.5, 0.95, 0.99)]
    assert all(low is not None and high is not None and low <= high for low, high in pairwise(told))


def test_a_line_holds_every_family_with_both_spellings_and_honest_quantiles() -> None:
    line = metric_line(full().metrics.registry.collect(), NOON)
    assert line["v"] == 1 and line["ts"] == "2026-01-01T12:00:00.000Z"
    told = {family["name"]: family for family in line["metrics"]}
    assert told["crew_runs_finished_total"]["dotted"] == ["crew.run.count"]
    assert told["crew_run_duration_seconds"]["dotted"] == ["crew.run.duration_ms"]
    (series,) = told["crew_run_duration_seconds"]["series"]
    assert series["labels"] == {"runtime": "pi_crew", "crew": "blue"}
    assert series["count"] == 1 and series["sum"] == 61 and 60 <= series["p50"] <= series["p99"] <= 120
    assert told["crewd_ready"]["series"] == [{"labels": {}, "value": 1.0}]


def test_beyond_the_last_bound_only_the_bound_is_known() -> None:
    registry = CollectorRegistry()
    Histogram("wait_seconds", "Wait.", buckets=(1, 5), registry=registry).observe(100)
    (family,) = metric_line(registry.collect(), NOON)["metrics"]
    (series,) = family["series"]
    assert (series["p50"], series["p99"], series["above"]) == (None, None, 5.0)


def test_series_that_never_counted_are_left_out_and_their_family_is_not() -> None:
    registry = CollectorRegistry()
    Counter("jobs_total", "Jobs.", ["kind"], registry=registry).labels("a")
    Gauge("depth", "Depth.", registry=registry)
    Histogram("wait_seconds", "Wait.", registry=registry)
    told = {family["name"]: family["series"] for family in metric_line(registry.collect(), NOON)["metrics"]}
    assert told["jobs_total"] == told["depth"] == told["wait_seconds"] == []
