"""PromQL about families that exist, with the selectors that every query of a dashboard carries."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from crewd.telemetry.families import FAMILIES

PROMETHEUS = Path(__file__).parents[2] / "prometheus"
_LABELS = {family.name: family.labels for family in FAMILIES}
_SUFFIXES = ("_bucket", "_count", "_sum")
# What Prometheus itself keeps: of the scrape, and of the alerts of deploy/prometheus/alerts.yml.
_OF_PROMETHEUS = {
    "up": (),
    "ALERTS": ("alertname", "alertstate", "severity"),
    "ALERTS_FOR_STATE": ("alertname", "severity"),
}

_RULES = tuple(
    rule
    for name in ("rules.yml", "alerts.yml")
    for group in yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
)
# Each is a heading of docs/runbooks.md.
ALERT_NAMES = tuple(dict.fromkeys(rule["alert"] for rule in _RULES if "alert" in rule))
RECORDED = frozenset(rule["record"] for rule in _RULES if "record" in rule)

JOB = 'job=~"$job"'
INSTANCE = 'instance=~"$instance"'
# An alert about a job that is gone has no instance, and one about crewd itself no crew: they are shown all the same.
ALERT = f'{JOB}, instance=~"$instance|", alertname=~"Crewd.+"'
FIRING = f'ALERTS{{{ALERT}, alertstate="firing"'


@dataclass(frozen=True)
class Query:
    """One query of a panel. An `instant` one gives the newest value only; `table` gives labels as columns."""

    expr: str
    legend: str = ""
    ref: str = "A"
    instant: bool = False
    table: bool = False
    heatmap: bool = False
    exemplars: bool = False


def of(metric: str, *, crew: str = "$crew", **labels: str) -> str:
    """Select the series of `metric`. A label is `name="value"`, or `name="~pattern"`, or `name="!value"`.

    A family with crews is narrowed to the crews of the variable; `crew` is a pattern, or with "=" before it the one
    name. Raises ValueError for a metric or a label that
    crewd does not export.
    """
    known = _labels(metric)
    unknown = set(labels) - set(known) - {"le"}
    if unknown:
        raise ValueError(f"{metric} has no label {sorted(unknown)}: it has {known}")
    matchers = [JOB, INSTANCE]
    if "crew" in known:
        matchers.append(_matcher("crew", crew[1:] if crew.startswith("=") else f"~{crew}"))
    matchers += [_matcher(name, value) for name, value in labels.items()]
    return f"{metric}{{{', '.join(matchers)}}}"


def _labels(metric: str) -> tuple[str, ...]:
    for name in (metric, *(metric.removesuffix(suffix) for suffix in _SUFFIXES if metric.endswith(suffix))):
        if name in _LABELS:
            return _LABELS[name]
        if name in _OF_PROMETHEUS:
            return _OF_PROMETHEUS[name]
    if metric in RECORDED:
        return ("crew",) if metric.startswith("job_instance_crew:") else ()
    raise ValueError(f"crewd exports no {metric}: see crewd/telemetry/families.py")


def _matcher(name: str, value: str) -> str:
    sign, value = {"~": ("=~", value[1:]), "!": ("!=", value[1:])}.get(value[:1], ("=", value))
    return f'{name}{sign}"{value}"'


def total(of_what: str, *by: str) -> str:
    """Add up, by labels where some are given."""
    return f"sum{_by(by)}({of_what})"


def worst(of_what: str, *by: str) -> str:
    return f"max{_by(by)}({of_what})"


def least(of_what: str, *by: str) -> str:
    return f"min{_by(by)}({of_what})"


def rate(of_what: str, *by: str) -> str:
    """How often in a second: for what happens all the time."""
    return f"sum{_by(by)}(rate({of_what}[$__rate_interval]))"


def events(of_what: str, *by: str) -> str:
    """How many in one bar: for what happens rarely, in whole numbers.

    By the rate and the width of the bar: `increase` tells of all of $__rate_interval, which is longer by a scrape.
    """
    return f"round(sum{_by(by)}(rate({of_what}[$__rate_interval])) * $__interval_ms / 1000)"


def some(of_what: str, *by: str) -> str:
    """`events` of those of whom there were some: for labels of so many values that zeros would hide the rest."""
    return f"{events(of_what, *by)} > 0"


def in_range(of_what: str, *by: str) -> str:
    """How many in the time shown."""
    return f"sum{_by(by)}(increase({of_what}[$__range]))"


def quantile(share: float, family: str, *by: str, window: str = "$__rate_interval", **labels: str) -> str:
    """The value below which `share` of the observations of a histogram lie; absent (not NaN) where there are none."""
    how = "rate" if window == "$__rate_interval" else "increase"
    buckets = f"sum by ({', '.join(('le', *by))}) ({how}({of(f'{family}_bucket', **labels)}[{window}]))"
    return f"histogram_quantile({share}, {buckets}) >= 0"


def age(metric: str, *by: str, **labels: str) -> str:
    """Seconds since the oldest of the moments that `metric` tells."""
    return f"time() - {least(of(metric, **labels), *by)}"


def age_when_scraped(metric: str, *by: str) -> str:
    """How old the oldest moment was when it was told: of what moves more often than it is scraped."""
    return worst(f"timestamp({of(metric)}) - {of(metric)}", *by)


def share(part: str, whole: str, *by: str) -> str:
    """One counter's part of another in the time shown: 0 to 1, nothing where nothing happened."""
    return f"{in_range(part, *by)} / ({in_range(whole, *by)} > 0)"


def or_nothing(expr: str) -> str:
    """-1 where there is no series, and every crewd that is asked about is there to say so; else nobody knows."""
    return f"({expr}) or ({least(of('up'))} == 1) - 2"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""
