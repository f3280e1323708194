"""The metric line: one snapshot of every family as one JSON value, with quantiles and both spellings of names."""

from collections.abc import Iterable, Sequence
from math import isinf
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from crewd.model.moment import rfc3339
from crewd.telemetry.families import FAMILIES

VERSION = 1
QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
DOTTED = {family.name: family.dotted for family in FAMILIES if family.dotted}


def metric_line(metrics: Iterable[Metric], wall: float) -> dict[str, Any]:
    """Lay out a snapshot: `{"v", "ts", "metrics": [{"name", "type", "dotted"?, "series": [...]}]}`.

    Every family is there; a series that has never counted anything is left out, which keeps a line of thousands
    of zero-filled series readable.
    """
    return {"v": VERSION, "ts": rfc3339(wall), "metrics": [_family(metric) for metric in metrics]}


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """Estimate a quantile by linear interpolation inside its bucket.

    `buckets` are (upper bound, observations at or below it), ascending, the last bound infinite. None: there are
    no observations, or it lies above the highest finite bound, where nothing is known but that.
    """
    total = buckets[-1][1] if buckets else 0.0
    if total <= 0:
        return None
    rank, lower, below = share * total, 0.0, 0.0
    for upper, at_or_below in buckets:
        if at_or_below >= rank and at_or_below > below:
            if isinf(upper):
                return None
            return lower + (upper - lower) * (rank - below) / (at_or_below - below)
        lower, below = upper, at_or_below
    return None


def _family(metric: Metric) -> dict[str, Any]:
    name = metric.name + "_total" if metric.type == "counter" else metric.name
    told: dict[str, Any] = {"name": name, "type": metric.type}
    if name in DOTTED:
        told["dotted"] = list(DOTTED[name])
    told["series"] = _histograms(metric) if metric.type == "histogram" else _values(metric)
    return told


def _values(metric: Metric) -> list[dict[str, Any]]:
    return [
        {"labels": sample.labels, "value": sample.value}
        for sample in metric.samples
        if sample.value and not sample.name.endswith("_created")
    ]


def _histograms(metric: Metric) -> list[dict[str, Any]]:
    grouped: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for sample in metric.samples:
        labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        grouped.setdefault(labels, []).append(sample)
    return [told for labels, samples in grouped.items() if (told := _histogram(dict(labels), samples))]


def _histogram(labels: dict[str, str], samples: Iterable[Sample]) -> dict[str, Any] | None:
    buckets: list[tuple[float, float]] = []
    told: dict[str, Any] = {"labels": labels}
    for sample in samples:
        if sample.name.endswith("_bucket"):
            buckets.append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            told["count"] = sample.value
        elif sample.name.endswith("_sum"):
            told["sum"] = sample.value
    if not told.get("count"):
        return None
    buckets.sort()
    told |= {name: quantile(buckets, share) for name, share in QUANTILES}
    if any(told[name] is None for name, _ in QUANTILES):
        told["above"] = buckets[-2][0]  # a quantile that is null is larger than this
    return told
