"""State: everything that is read when asked, as metric families, from one immutable snapshot and without a lock."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from platform import python_version
from typing import TypeVar

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from crewd import __version__
from crewd.model.incident import state_of
from crewd.model.snapshot import BudgetFigures, ManagedFigures, Snapshot
from crewd.telemetry import families as known
from crewd.telemetry.census import Census, take
from crewd.telemetry.families import STATE, Family, Kind
from crewd.telemetry.figures import LedgerFigures, ReloadFigures, SinkFigures, StreamFigures
from crewd.telemetry.labels import Admission, clean
from crewd.telemetry.notify.figures import NotifyFigures
from crewd.telemetry.parts import describe
from crewd.telemetry.readiness import is_ready

FAMILY = {family.name: family for family in STATE}
Labels = tuple[str, ...]
Key = TypeVar("Key", bound=tuple[str, ...])

NOTIFYING = ("crewd_notification", "crewd_dead_man")
STREAMS = "crewd_stream"
OTHER_PARTS = ("crewd_ledger", "crewd_sink", STREAMS, *NOTIFYING)


class State:
    """Reads gauges out of whatever `snapshot()` returns at that moment.

    Nothing here is written by two threads: the census of the former snapshot is replaced, never changed, so two
    scrapes at once at worst count the same twice.
    """

    def __init__(
        self, snapshot: Callable[[], Snapshot], admissions: Mapping[str, Admission], per_worker_max: int
    ) -> None:
        self._snapshot = snapshot
        self._admissions = admissions
        self._per_worker_max = per_worker_max  # 0: no series per worker
        self._census: Census = Census()
        self.reload = ReloadFigures()
        self.looks_stuck = 0
        self.free: dict[str, int | None] = {}  # folder -> bytes; None: its filesystem does not answer
        self.ledger: Callable[[], LedgerFigures] | None = None
        self.sinks: Callable[[], Iterable[SinkFigures]] | None = None
        self.notifications: Callable[[], NotifyFigures] | None = None
        self.streams: Callable[[], StreamFigures] | None = None

    def describe_runs(self) -> list[Metric]:
        return describe(family for family in STATE if family.name.startswith("crew_"))

    def describe_self(self) -> list[Metric]:
        return describe(
            family for family in STATE if family.name.startswith("crewd_") and not family.name.startswith(OTHER_PARTS)
        )

    def describe_ledger(self) -> list[Metric]:
        return describe(family for family in STATE if family.name.startswith("crewd_ledger"))

    def describe_sinks(self) -> list[Metric]:
        return describe(family for family in STATE if family.name.startswith("crewd_sink"))

    def describe_notifications(self) -> list[Metric]:
        return describe(family for family in STATE if family.name.startswith(NOTIFYING))

    def describe_streams(self) -> list[Metric]:
        return describe(family for family in STATE if family.name.startswith(STREAMS))

    def collect_streams(self) -> Iterator[Metric]:
        """Give the families about streams of events; none where none can be had."""
        if self.streams is None:
            return
        figures = self.streams()
        yield _gauge("crewd_stream_clients", {(): figures.clients})
        ends: dict[Labels, int] = {(reason,): number for reason, number in figures.disconnects.items()}
        yield _counter("crewd_stream_disconnects_total", ends)

    def collect_notifications(self) -> Iterator[Metric]:
        """Give the families about what is told to people outside; none where nothing is."""
        if self.notifications is None:
            return
        figures = self.notifications()
        counts: dict[Labels, int] = {
            (each.channel, result): number for each in figures.channels for result, number in each.results().items()
        }
        yield _counter("crewd_notifications_total", counts)
        retries: dict[Labels, int] = {(each.channel,): each.retries for each in figures.channels}
        yield _counter("crewd_notification_retries_total", retries)
        yield _gauge("crewd_notifications_pending", {(each.channel,): each.waiting for each in figures.channels})
        yield _gauge("crewd_notifications_not_told", {(each.channel,): each.not_told for each in figures.channels})
        if figures.dead_man_failures is not None:
            yield _counter("crewd_dead_man_failures_total", {(): figures.dead_man_failures})
            yield _gauge("crewd_dead_man_last_success_timestamp_seconds", {(): figures.dead_man_at})

    def collect_runs(self) -> Iterator[Metric]:
        """Give the families about crews."""
        snapshot = self._snapshot()
        self._census = census = take(snapshot, self._census)
        pairs = self._merge(census.groups(), ("runtime", "crew"))
        runtimes = sorted(
            {runtime for runtime, _ in pairs} | {self._label("runtime", r) for r in snapshot.thresholds}
        )
        others = set(snapshot.dead_letters)
        if snapshot.managed is not None:
            others |= set(snapshot.managed.retries_pending)
        crews = sorted({crew for _, crew in pairs} | {self._label("crew", crew) for crew in others})
        for name, counts, values in (
            ("crew_runs", census.runs, known.RUN_STATUSES),
            ("crew_tasks", census.tasks, known.TASK_STATUSES),
            ("crew_workers", census.workers, known.LEVELS),
            ("crew_workers_in_trouble", census.in_trouble, known.TROUBLES),
        ):
            merged = self._merge(counts, FAMILY[name].labels)
            yield _gauge(name, {(*pair, value): merged[(*pair, value)] for pair in sorted(pairs) for value in values})
        flapping = self._merge(census.flapping, FAMILY["crew_workers_flapping"].labels)
        yield _gauge("crew_workers_flapping", {pair: flapping[pair] for pair in sorted(pairs)})
        yield _gauge(
            "crew_oldest_progress_timestamp_seconds", self._oldest(census.oldest_progress, ("runtime", "crew"))
        )
        yield from self._per_worker(snapshot)
        yield self._thresholds(snapshot)
        yield self._zeroed("crew_wedges", census.wedges, runtimes, known.WEDGES)
        yield self._zeroed("crew_verdicts_open", snapshot.verdicts_open, runtimes, known.DEAD_REASONS)
        yield from self._per_crew(snapshot, census, crews)
        yield _incidents(snapshot)
        plans = snapshot.recoveries
        yield _gauge("crew_recovery_plans", {(state,): plans.get(state, 0) for state in known.RECOVERY_STATES})
        if snapshot.managed is not None:
            yield self._circuits(snapshot.managed)
            yield from self._budgets(snapshot.managed.budgets)

    def collect_self(self) -> Iterator[Metric]:
        """Give the families about crewd itself."""
        snapshot = self._snapshot()
        health = snapshot.health
        yield _gauge("crewd_build_info", {(__version__, python_version()): 1})
        yield _gauge("crewd_ready", {(): float(is_ready(health))})
        yield _gauge(
            "crewd_degraded",
            {(clean(part),): float(part in health.degraded) for part in {*health.parts, *health.degraded}},
        )
        yield _gauge("crewd_last_round_timestamp_seconds", {(): health.round_at} if health.round_number else {})
        yield _gauge("crewd_round_interval_seconds", {(): health.round_interval})
        yield _gauge("crewd_loop_last_success_timestamp_seconds", self._loops(snapshot))
        yield _gauge("crewd_hold", {(): float(bool(health.hold))})
        yield _gauge("crewd_mass_brake", {(): float(bool(health.brake))})
        yield _gauge("crewd_local_health", {(): health.local_health})
        watched = Counter(self._label("runtime", view.run.runtime) for view in snapshot.runs.values())
        yield _gauge("crewd_runs_watched", {(runtime,): number for runtime, number in watched.items()})
        yield _gauge("crewd_looks_stuck", {(): self.looks_stuck})
        yield _gauge("crewd_filesystem_free_bytes", {(folder,): free for folder, free in self.free.copy().items()})
        defects = Counter(health.defects)
        if snapshot.managed is not None:
            yield from _managed(snapshot.managed)
            defects.update(snapshot.managed.defects)
        yield _counter("crewd_defects_total", {(part,): defects[part] for part in known.DEFECTS})
        yield _gauge("crewd_config_last_reload_successful", {(): float(self.reload.successful)})
        at = self.reload.success_at
        yield _gauge("crewd_config_last_reload_success_timestamp_seconds", {} if at is None else {(): at})

    def collect_ledger(self) -> Iterator[Metric]:
        """Give the families about the ledger; none before there is one."""
        if self.ledger is None:
            return
        figures = self.ledger()
        yield _counter("crewd_ledger_commits_total", {(): figures.commits})
        yield _counter("crewd_ledger_failures_total", {(): figures.failures})
        yield _counter("crewd_ledger_history_missed_total", {(): figures.history_missed})
        yield _gauge("crewd_ledger_bytes", {(): figures.bytes})
        family = FAMILY["crewd_ledger_commit_duration_seconds"]
        histogram = HistogramMetricFamily(family.name, family.help)
        below = [(repr(float(bound)), count) for bound, count in figures.duration_buckets if bound != float("inf")]
        histogram.add_metric((), [*below, ("+Inf", figures.commits)], figures.duration_sum)
        yield histogram

    def collect_sinks(self) -> Iterator[Metric]:
        """Give the families about the sinks; none before there are any."""
        if self.sinks is None:
            return
        sinks = tuple(self.sinks())
        yield _counter("crewd_sink_records_total", {(each.sink,): each.records for each in sinks})
        yield _counter("crewd_sink_bytes_total", {(each.sink,): each.bytes for each in sinks})
        yield _counter(
            "crewd_sink_errors_total",
            {(each.sink, reason): each.errors.get(reason, 0) for each in sinks for reason in known.SINK_ERRORS},
        )
        yield _gauge("crewd_sink_lag_records", {(each.sink,): each.lag for each in sinks if each.lag is not None})
        yield _gauge(
            "crewd_sink_last_write_timestamp_seconds",
            {(each.sink,): each.last_write_at for each in sinks if each.last_write_at is not None},
        )

    def folded(self, snapshot: Snapshot) -> Counter[str]:
        """Count, per gauge family, the crews that this snapshot makes it tell as "other"."""
        crews = {view.run.crew for view in snapshot.runs.values()} | set(snapshot.dead_letters)
        others = sum(self._label("crew", crew) == "other" for crew in crews)
        folded = Counter({family.name: others for family in STATE if "crew" in family.labels and others})
        circuits = () if snapshot.managed is None else snapshot.managed.circuits
        if others := sum(self._label("circuit", name) == "other" for name in circuits):
            folded["crew_circuit_state"] = others
        return folded

    def _per_crew(self, snapshot: Snapshot, census: Census, crews: Sequence[str]) -> Iterator[Metric]:
        waiting = self._merge({(crew,): number for crew, number in census.waiting.items()}, ("crew",))
        yield _gauge("crew_waiting_human", {(crew,): waiting[crew,] for crew in crews})
        oldest = {(crew,): at for crew, at in census.waiting_oldest.items()}
        yield _gauge("crew_waiting_human_oldest_timestamp_seconds", self._oldest(oldest, ("crew",)))
        throttled = self._merge({(crew,): number for crew, number in census.throttled.items()}, ("crew",))
        yield _gauge("crew_throttled", {(crew,): throttled[crew,] for crew in crews})
        oldest = {(crew,): at for crew, at in census.throttled_oldest.items()}
        yield _gauge("crew_throttled_oldest_timestamp_seconds", self._oldest(oldest, ("crew",)))
        letters = self._merge({(crew,): number for crew, (number, _) in snapshot.dead_letters.items()}, ("crew",))
        yield _gauge("crew_dead_letters_open", {(crew,): letters[crew,] for crew in crews})
        ages = {(crew,): at for crew, (_, at) in snapshot.dead_letters.items() if at is not None}
        yield _gauge("crew_dead_letters_oldest_timestamp_seconds", self._oldest(ages, ("crew",)))

        if snapshot.managed is not None:
            by_crew = {(crew,): number for crew, number in snapshot.managed.retries_pending.items()}
            pending = self._merge(by_crew, ("crew",))
            yield _gauge("crew_retries_pending", {(crew,): pending[crew,] for crew in crews})

    def _budgets(self, budgets: BudgetFigures) -> Iterator[Metric]:
        """How full the purse is. Crews that share a label share the fullest budget, and add up what they burn."""
        crew_label = ("crew",)
        ratios: dict[Labels, float] = {}
        for (scope, crew), share in budgets.ratios.items():
            named = (scope, *self._labels((crew,), crew_label)) if crew else (scope, "")
            ratios[named] = max(share, ratios.get(named, 0.0))
        yield _gauge("crew_budget_used_ratio", ratios)
        tokens: dict[Labels, float] = {}
        usd: dict[Labels, float] = {}
        for crew, (of_tokens, of_usd) in budgets.burn.items():
            named = self._labels((crew,), crew_label)
            tokens[named] = tokens.get(named, 0.0) + of_tokens
            if of_usd is not None:
                usd[named] = usd.get(named, 0.0) + of_usd
        yield _gauge("crew_burn_tokens_per_second", tokens)
        yield _gauge("crew_burn_usd_per_second", usd)

    def _circuits(self, managed: ManagedFigures) -> Metric:
        """The worst of those that share a label value."""
        states: dict[Labels, int] = {}
        for name, state in managed.circuits.items():
            label = (self._label("circuit", name),)
            states[label] = max(known.CIRCUIT_STATES.get(state, 0), states.get(label, 0))
        return _gauge("crew_circuit_state", states)

    def _per_worker(self, snapshot: Snapshot) -> Iterator[Metric]:
        if not self._per_worker_max:
            return
        seen: dict[Labels, float] = {}
        for run_id, view in snapshot.runs.items():
            for worker in view.workers:
                if len(seen) < self._per_worker_max:
                    # Who has shown nothing yet is the most silent of all, and must not be missing.
                    at = worker.first_seen_at if worker.progress_at is None else worker.progress_at
                    seen[clean(run_id), clean(worker.task_id)] = at
        yield _gauge("crew_worker_last_progress_timestamp_seconds", seen)

    def _thresholds(self, snapshot: Snapshot) -> Metric:
        return _gauge(
            "crew_heartbeat_threshold_seconds",
            {
                (self._label("runtime", runtime), clean(level)): seconds
                for runtime, levels in snapshot.thresholds.items()
                for level, seconds in levels.items()
            },
        )

    def _loops(self, snapshot: Snapshot) -> dict[Labels, float]:
        loops: dict[Labels, float] = {}
        health, managed = snapshot.health, snapshot.managed
        if health.round_number:
            loops["patrol",] = health.round_at
        if managed is not None and managed.succeeded_at:
            loops["scheduler",] = managed.succeeded_at
        for each in () if self.sinks is None else self.sinks():
            if each.last_write_at is not None:
                loops["sinks",] = max(each.last_write_at, loops.get(("sinks",), 0.0))
            if each.retention_at is not None:
                loops["retention",] = max(each.retention_at, loops.get(("retention",), 0.0))
        return loops

    def _zeroed(
        self, name: str, counts: Mapping[tuple[str, str], int], runtimes: Sequence[str], values: Sequence[str]
    ) -> Metric:
        merged = self._merge(counts, FAMILY[name].labels)
        return _gauge(name, {(runtime, value): merged[runtime, value] for runtime in runtimes for value in values})

    def _merge(self, counts: Mapping[Key, int], labels: Sequence[str]) -> Counter[Labels]:
        """Add up what different texts, once made label values, have in common."""
        merged: Counter[Labels] = Counter()
        for key, number in counts.items():
            merged[self._labels(key, labels)] += number
        return merged

    def _oldest(self, moments: Mapping[Key, float], labels: Sequence[str]) -> dict[Labels, float]:
        oldest: dict[Labels, float] = {}
        for key, at in moments.items():
            named = self._labels(key, labels)
            oldest[named] = min(at, oldest.get(named, at))
        return oldest

    def _labels(self, key: tuple[str, ...], labels: Sequence[str]) -> Labels:
        return tuple(self._label(label, text) for label, text in zip(labels, key, strict=True))

    def _label(self, label: str, text: str) -> str:
        admission = self._admissions.get(label)
        return text if admission is None else admission.label_of(text)


def _incidents(snapshot: Snapshot) -> Metric:
    counts = Counter((each.severity, state_of(each, snapshot.taken_at).value) for each in snapshot.incidents)
    pairs = product(known.SEVERITY_LABELS, known.INCIDENT_STATES)
    return _gauge("crew_incidents_open", {pair: counts[pair] for pair in pairs})


def _managed(managed: ManagedFigures) -> Iterator[Metric]:
    """The families about managed runs as a whole."""
    yield _gauge("crewd_attempts_running", {(): managed.running})
    yield _gauge("crewd_attempts_max", {(): managed.running_max})
    yield _gauge("crewd_attempts_stuck", {(): len(managed.stuck)})
    yield _gauge("crewd_tasks_ready", {(): managed.ready})
    paused = Counter(scope.partition(":")[0] for scope in managed.paused)
    yield _gauge("crewd_paused", {(kind,): paused[kind] for kind in known.PAUSES})
    messages: dict[Labels, int] = {(type,): managed.messages.get(type, 0) for type in known.MESSAGES}
    yield _counter("crewd_worker_messages_total", messages)


def _gauge(name: str, values: Mapping[Labels, float | int | None]) -> Metric:
    family = FAMILY[name]
    assert family.kind is Kind.GAUGE
    metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in values.items():
        if value is not None:
            metric.add_metric(labels, value)
    return metric


def _counter(name: str, values: Mapping[Labels, float | int]) -> Metric:
    family: Family = FAMILY[name]
    metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric
