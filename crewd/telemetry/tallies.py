"""Tallies: the counters and histograms of the table, with capped labels, zero-filled, and free of global state."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric

from crewd.telemetry.families import OPEN_LABELS, TOLD, Family, Kind
from crewd.telemetry.labels import OTHER, Admission

DROPPED = "crewd_metric_series_dropped_total"


@dataclass(frozen=True)
class MetricsOptions:
    """How many values each open label may have, and what is exported beyond the usual."""

    runtimes: tuple[str, ...] = ("pi_crew", "beat", "managed")  # whose series exist from the start
    max_crews: int = 100
    max_runtimes: int = 10
    max_models: int = 50
    max_task_types: int = 50
    max_error_classes: int = 40
    executors: tuple[str, ...] = ("default",)  # whose series exist from the start
    max_executors: int = 50
    max_circuits: int = 50
    max_series: int = 5_000  # label sets of one family
    per_worker: bool = False
    per_worker_max: int = 200  # series of the per-worker family
    crew_grace_rounds: int = 720  # rounds without a run after which the series of a crew are forgotten

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise ValueError(f"metrics.{name} is {value}: give at least 1")


class Tallies:
    """Everything that only counts up. Written by the daemon's loop, read by the thread that answers a scrape."""

    def __init__(self, options: MetricsOptions, redact: Callable[[str], str] = str) -> None:
        self.admissions: Mapping[str, Admission] = {
            "crew": Admission(options.max_crews, redact),
            "runtime": Admission(options.max_runtimes, redact),
            "model": Admission(options.max_models, redact),
            "task_type": Admission(options.max_task_types, redact),
            "error_class": Admission(options.max_error_classes, redact),
            "executor": Admission(options.max_executors, redact),
            "circuit": Admission(options.max_circuits, redact),
        }
        self._max_series = options.max_series
        self._families = {family.name: family for family in TOLD}
        # registry=None: the parts that hand them to a registry also leave out what it should not show.
        self._metrics = {family.name: _build(family) for family in TOLD}
        self._known: dict[str, set[tuple[str, ...]]] = {family.name: set() for family in TOLD}
        for family in TOLD:
            if set(family.labels) & set(OPEN_LABELS):
                self.exist(DROPPED, family.name)

    def count(self, name: str, *values: str, amount: float = 1.0, trace_id: str = "") -> None:
        """Add to a counter. Values of open labels may be any text."""
        metric = self._metrics[name]
        assert isinstance(metric, Counter)
        child = metric.labels(*self._labels(name, values)) if values else metric
        child.inc(amount, _exemplar(trace_id))

    def observe(self, name: str, *values: str, amount: float, trace_id: str = "") -> None:
        """Add one observation to a histogram."""
        metric = self._metrics[name]
        assert isinstance(metric, Histogram)
        child = metric.labels(*self._labels(name, values)) if values else metric
        child.observe(amount, _exemplar(trace_id))

    def exist(self, name: str, *values: str) -> None:
        """Let a label set exist at 0, so that its first count is a growth that `increase()` can see."""
        self._metrics[name].labels(*self._labels(name, values, fold_counts=False))

    def dropped(self, name: str, amount: float = 1.0) -> None:
        """Count recordings of a family that were told as "other"."""
        self.count(DROPPED, name, amount=amount)

    def forget(self, label: str, values: Iterable[str]) -> None:
        """Drop every series that carries one of these values, and make room for new ones."""
        gone = set(values) - {OTHER}
        for name, family in self._families.items():
            if label not in family.labels:
                continue
            place = family.labels.index(label)
            for key in [key for key in self._known[name] if key[place] in gone]:
                self._metrics[name].remove(*key)
                self._known[name].discard(key)
        self.admissions[label].release(gone)

    def describe(self) -> list[Metric]:
        """Name the families, without their series."""
        return [metric for wrapper in self._metrics.values() for metric in wrapper.describe()]

    def collect(self) -> Iterator[Metric]:
        """Give all series, without the `_created` ones.

        The library can switch those off only for the whole process (disable_created_metrics sets a module global),
        which a daemon that may be embedded must not do to its host.
        """
        for wrapper in self._metrics.values():
            for metric in wrapper.collect():
                metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
                yield metric

    def _labels(self, name: str, values: tuple[str, ...], fold_counts: bool = True) -> tuple[str, ...]:
        family, known = self._families[name], self._known[name]
        key = tuple(
            self.admissions[label].admit(value) if label in OPEN_LABELS else value
            for label, value in zip(family.labels, values, strict=True)
        )
        folded = OTHER in key and OTHER not in values
        if key not in known and len(known) >= self._max_series:
            key = tuple(
                OTHER if label in OPEN_LABELS else value for label, value in zip(family.labels, key, strict=True)
            )
            folded = True
        if folded and fold_counts:
            self.dropped(name)
        known.add(key)
        return key


def _build(family: Family) -> Counter | Histogram:
    if family.kind is Kind.COUNTER:
        return Counter(family.name, family.help, family.labels, registry=None)
    return Histogram(family.name, family.help, family.labels, registry=None, buckets=family.buckets)


def _exemplar(trace_id: str) -> dict[str, str] | None:
    return {"trace_id": trace_id} if trace_id else None
