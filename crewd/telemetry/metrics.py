"""Metrics: a listener that counts what it is told, and a registry in which a scrape finds counts and state."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, permutations, product

import structlog
from prometheus_client import CollectorRegistry

from crewd.model.event import Event, trace_id
from crewd.model.report import RoundReport
from crewd.model.run import Run
from crewd.model.snapshot import Snapshot
from crewd.telemetry import families as known
from crewd.telemetry.figures import LedgerFigures, ReloadFigures, SinkFigures, StreamFigures
from crewd.telemetry.labels import UNKNOWN
from crewd.telemetry.notify.figures import NotifyFigures
from crewd.telemetry.parts import Part, register_library
from crewd.telemetry.state import State
from crewd.telemetry.tallies import MetricsOptions, Tallies

RUN_OUTCOME = {"run.completed": "completed", "run.failed": "failed", "run.cancelled": "cancelled"}
TASK_OUTCOME = {f"task.{outcome}": outcome for outcome in known.TASK_OUTCOMES}
VERDICT_OUTCOME = {"verdict.opened": "open", "verdict.confirmed": "true", "verdict.refuted": "false"}
RECOVERY_OUTCOME = {f"recovery.{outcome}": outcome for outcome in known.RECOVERY_OUTCOMES}
REDRIVE_OUTCOME = {f"deadletter.{outcome}": outcome for outcome in known.REDRIVES}
MANAGED = "managed"


class Metrics:
    """Everything that `/metrics` shows, in the registry it is given.

    All methods but the registry's own belong to the daemon's loop. What other parts keep of themselves is asked
    for at scrape time: `watch_ledger` and `watch_sinks` say whom to ask.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        snapshot: Callable[[], Snapshot],
        options: MetricsOptions | None = None,
        redact: Callable[[str], str] = str,
    ) -> None:
        self.registry = registry
        self._options = options = options or MetricsOptions()
        self._tallies = Tallies(options, redact)
        self._state = State(snapshot, self._tallies.admissions, options.per_worker_max if options.per_worker else 0)
        self._seen: dict[str, Run] = {}  # run id -> as of the latest round, to look only into what is new
        self._absent: dict[str, int] = {}  # crew, as a label value -> rounds without a run of it
        self._runtimes: set[str] = set()
        self._last_seq = 0
        for name, values in (
            ("crewd_manifest_reads_total", known.READ_RESULTS),
            ("crewd_invariant_violations_total", known.INVARIANTS),
            ("crewd_worker_protocol_errors_total", known.BAD_LINES),
            ("crew_fenced_results_total", (MANAGED,)),
            ("crewd_incidents_total", known.SEVERITY_LABELS),
            (
                "crewd_metric_collect_errors_total",
                ("tallies", "runs", "self", "ledger", "sinks", "notifications", "streams", "process", "python_gc"),
            ),
        ):
            for value in values:
                self._tallies.exist(name, value)
        self._meet_agents()
        # First of all, so that no name of others takes the place of one of crewd's own.
        for executor, error_class in product(options.executors, known.ERROR_CLASSES):
            self._tallies.exist("crew_task_errors_total", executor, error_class)
        for runtime in options.runtimes:
            self._meet_runtime(runtime)
        self._register()

    def on_events(self, events: Sequence[Event]) -> None:
        """Count what happened."""
        for event in events:
            if event.seq:
                if event.seq <= self._last_seq:
                    self.invariant_violated("I8")
                self._last_seq = max(self._last_seq, event.seq)
            self._count(event)

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        """Count the figures of a round, and let the series of newcomers exist before they first count."""
        self._meet(snapshot)
        self._count_round(report)
        self._count_beats(report)
        self._state.looks_stuck = report.looks_stuck
        for promise in report.violations:
            self.invariant_violated(promise)
        for name, number in self._state.folded(snapshot).items():
            self._tallies.dropped(name, number)
        if self._options.per_worker:
            workers = sum(len(view.workers) for view in snapshot.runs.values())
            if workers > self._options.per_worker_max:
                self._tallies.dropped(
                    "crew_worker_last_progress_timestamp_seconds", workers - self._options.per_worker_max
                )

    def http_observed(self, route: str, method: str, code: int, seconds: float) -> None:
        """Count one answer. `route` is a template such as `/api/v1/runs/{run}`, never a path."""
        self._tallies.count("crewd_http_requests_total", route, method, str(code))
        self._tallies.observe("crewd_http_request_duration_seconds", route, method, amount=seconds)

    def loop_lag_observed(self, seconds: float) -> None:
        """Take in how late the event loop woke a timer."""
        self._tallies.observe("crewd_event_loop_lag_seconds", amount=max(0.0, seconds))

    def free_space_observed(self, folder: str, free: int | None) -> None:
        """Take in how many bytes are free where a folder of crewd's lies; None: nobody knows."""
        assert folder in known.FOLDERS
        self._state.free[folder] = free

    def invariant_violated(self, number: str) -> None:
        """Count and log a broken promise, such as "I8"."""
        structlog.get_logger("crewd.metrics").error("invariant.violated", id=number)
        self._tallies.count("crewd_invariant_violations_total", number)

    def reload_result(self, ok: bool, wall: float) -> None:
        """Take in how a load of the settings went; the one at the start counts too."""
        former = self._state.reload
        self._state.reload = ReloadFigures(ok, wall if ok else former.success_at)

    def watch_ledger(self, stats: Callable[[], LedgerFigures]) -> None:
        """Name whom to ask for the ledger's figures; asked in another thread."""
        self._state.ledger = stats

    def watch_sinks(self, stats: Callable[[], Iterable[SinkFigures]]) -> None:
        """Name whom to ask for the sinks' figures; asked in another thread."""
        self._state.sinks = stats

    def watch_notifications(self, figures: Callable[[], NotifyFigures]) -> None:
        """Name whom to ask for the figures of the channels; asked in another thread."""
        self._state.notifications = figures

    def watch_streams(self, figures: Callable[[], StreamFigures]) -> None:
        """Name whom to ask for the figures of the streams; asked in another thread."""
        self._state.streams = figures

    def _register(self) -> None:
        tallies, state = self._tallies, self._state
        for name, describe, collect in (
            ("tallies", tallies.describe, tallies.collect),
            ("runs", state.describe_runs, state.collect_runs),
            ("self", state.describe_self, state.collect_self),
            ("ledger", state.describe_ledger, state.collect_ledger),
            ("sinks", state.describe_sinks, state.collect_sinks),
            ("notifications", state.describe_notifications, state.collect_notifications),
            ("streams", state.describe_streams, state.collect_streams),
        ):
            self.registry.register(Part(name, describe, collect, self._part_failed))
        register_library(self.registry, self._part_failed)

    def _part_failed(self, part: str) -> None:
        self._tallies.count("crewd_metric_collect_errors_total", part)

    def _count(self, event: Event) -> None:
        tallies, data = self._tallies, event.data
        if event.type in RUN_OUTCOME:
            self._count_run_end(event)
        elif event.type in TASK_OUTCOME:
            self._count_task_end(event)
        elif event.type == "usage.recorded":
            self._count_usage(event)
        elif event.type == "worker.level_changed":
            levels = _text(data, "from_level"), _text(data, "to_level")
            if set(levels) <= set(known.LEVELS):
                tallies.count("crew_worker_level_changes_total", event.runtime, *levels)
        elif event.type == "shadow.level_changed":
            if (level := _text(data, "to_level")) in known.LEVELS:
                tallies.count("crew_shadow_verdicts_total", event.runtime, level)
        elif event.type in VERDICT_OUTCOME:
            self._count_verdict(event)
        elif event.type == "task.retry_scheduled":
            tallies.count("crew_retries_total", event.crew, _text(data, "error_class"))
            delay = _delay(data)
            if delay is not None:
                tallies.observe("crew_retry_delay_seconds", event.crew, amount=delay)
        elif event.type == "deadletter.added":
            reason = _text(data, "reason")
            reason = reason if reason in known.LETTER_REASONS else "manual"
            tallies.count("crew_dead_letters_total", event.runtime, event.crew, reason)
        elif event.type in RECOVERY_OUTCOME:
            self._count_recovery(event)
        elif event.type in REDRIVE_OUTCOME:
            tallies.count("crew_dead_letter_redrives_total", event.crew, REDRIVE_OUTCOME[event.type])
        else:
            self._count_attempt(event)

    def _count_attempt(self, event: Event) -> None:
        """Count what happened to an attempt that crewd itself runs."""
        tallies, data = self._tallies, event.data
        match event.type:
            case "attempt.starting":
                waited = _number(data, "queue_seconds")
                if waited is not None:
                    task_type = _text(data, "task_type")
                    tallies.observe("crew_task_queue_duration_seconds", task_type, amount=waited)
            case "attempt.started":
                self._count_agent_start(event)
            case "worker.refused":
                labels = _profile(data), _text(data, "error_class")
                tallies.count("crew_agent_refusals_total", *labels)
            case "worker.looping" | "worker.burning" | "budget.alarmed":
                then = _text(data, "then")
                if then in known.THEN:
                    tallies.count("crew_agent_alarms_total", known.ALARM_EVENTS[event.type], then)
            case "worker.format_unknown":
                tallies.count("crew_agent_unknown_formats_total", _profile(data))
            case "attempt.finished":
                if "error_class" in data:
                    labels = _text(data, "executor"), _text(data, "error_class")
                    tallies.count("crew_task_errors_total", *labels)
            case "attempt.fenced":
                # A whole attempt whose lease was lost, or so many words of a worker after its last one.
                late = _number(data, "late_results")
                tallies.count("crew_fenced_results_total", event.runtime, amount=1.0 if late is None else late)
            case "incident.opened":
                severity = _text(data, "severity")
                tallies.count("crewd_incidents_total", severity if severity in known.SEVERITY_LABELS else "warning")
            case "attempt.adopted":
                tallies.count("crewd_attempts_adopted_total")
            case "worker.protocol_error":
                kinds = data.get("kinds")
                if isinstance(kinds, Mapping):
                    for kind in known.BAD_LINES:
                        tallies.count("crewd_worker_protocol_errors_total", kind, amount=_number(kinds, kind) or 0.0)

    def _count_recovery(self, event: Event) -> None:
        cause, outcome = _text(event.data, "cause"), RECOVERY_OUTCOME[event.type]
        if cause in known.RECOVERY_CAUSES:
            self._tallies.count("crew_recoveries_total", event.runtime, cause, outcome)
        duration = _number(event.data, "duration_seconds")
        if outcome == "verified" and duration is not None:
            self._tallies.observe("crew_recovery_duration_seconds", amount=duration)

    def _count_agent_start(self, event: Event) -> None:
        rung = event.data.get("rung")
        if rung not in known.RUNGS:
            return  # any other command
        profile = _profile(event.data)
        self._tallies.count("crew_agent_starts_total", profile, str(rung))
        self._tallies.count(
            "crew_agent_saved_tokens_total", profile, amount=_number(event.data, "saved_tokens") or 0.0
        )

    def _count_run_end(self, event: Event) -> None:
        self._tallies.count("crew_runs_finished_total", event.runtime, event.crew, RUN_OUTCOME[event.type])
        duration = _number(event.data, "duration_seconds")
        if duration is not None:
            self._tallies.observe(
                "crew_run_duration_seconds",
                event.runtime,
                event.crew,
                amount=duration,
                trace_id=trace_id(event.run_id),
            )

    def _count_task_end(self, event: Event) -> None:
        task_type, outcome = _text(event.data, "task_type"), TASK_OUTCOME[event.type]
        self._tallies.count("crew_tasks_finished_total", event.runtime, event.crew, task_type, outcome)
        if outcome != "skipped":
            self._tallies.observe("crew_task_attempts", event.crew, amount=max(1, event.attempt))
        duration = _number(event.data, "duration_seconds")
        if duration is not None:
            self._tallies.observe(
                "crew_task_duration_seconds", task_type, outcome, amount=duration, trace_id=trace_id(event.run_id)
            )

    def _count_usage(self, event: Event) -> None:
        model = _text(event.data, "model")
        for direction in known.DIRECTIONS:
            self._tallies.count(
                "crew_tokens_total", event.runtime, model, direction, amount=_number(event.data, direction) or 0.0
            )
        cost = _number(event.data, "cost_usd")
        if cost is not None:
            self._tallies.count("crew_cost_usd_total", event.runtime, model, amount=cost)

    def _count_verdict(self, event: Event) -> None:
        reason = _text(event.data, "reason")
        if reason not in known.DEAD_REASONS:
            return
        outcome = VERDICT_OUTCOME[event.type]
        self._tallies.count("crew_verdicts_total", event.runtime, reason, outcome)
        latency = _number(event.data, "latency_seconds")
        if outcome == "open" and latency is not None:
            # From the event and not from the report of the round: the event knows whose trace it belongs to.
            self._tallies.observe(
                "crew_detection_latency_seconds",
                event.runtime,
                reason,
                amount=latency,
                trace_id=trace_id(event.run_id),
            )

    def _count_round(self, report: RoundReport) -> None:
        tallies = self._tallies
        tallies.observe("crewd_round_duration_seconds", amount=report.duration)
        for result, number in report.reads.items():
            tallies.count("crewd_manifest_reads_total", result.value, amount=number)
        for runtime, number in report.happenings.items():
            tallies.count("crewd_happenings_total", runtime, amount=number)
        for name, amount in (
            ("crewd_own_stall_seconds_total", max(0.0, report.own_stall)),
            ("crewd_suspends_total", float(report.suspended)),
            ("crewd_clock_steps_total", float(report.stepped)),
            ("crewd_watch_overflows_total", report.watch_overflows),
            ("crewd_happenings_dropped_total", report.happenings_dropped),
            ("crewd_unknown_fields_total", report.unknown_fields),
            ("crewd_unknown_statuses_total", report.unknown_statuses),
        ):
            tallies.count(name, amount=amount)

    def _count_beats(self, report: RoundReport) -> None:
        tallies = self._tallies
        for runtime, number in report.heartbeats.items():
            tallies.count("crew_heartbeats_total", runtime, amount=number)
        for (runtime, reason), number in report.heartbeats_rejected.items():
            tallies.count("crew_heartbeats_rejected_total", runtime, reason, amount=number)
        for runtime, seconds in report.heartbeat_intervals:
            tallies.observe("crew_heartbeat_interval_seconds", runtime, amount=seconds)

    def _meet(self, snapshot: Snapshot) -> None:
        """Let the label sets of new crews, runtimes and task types exist, and forget crews that are long gone."""
        seen: dict[str, Run] = {}
        present: set[str] = set()
        groups: dict[tuple[str, str], set[str]] = {}
        for run_id, view in snapshot.runs.items():
            run = seen[run_id] = view.run
            present.add(run.crew)
            if self._seen.get(run_id) is not run:
                groups.setdefault((run.runtime, run.crew), set()).update(task.task_type for task in run.tasks)
        self._seen = seen
        for runtime in {runtime for runtime, _ in groups} - self._runtimes:
            self._meet_runtime(runtime)
        for (runtime, crew), task_types in groups.items():
            self._meet_crew(runtime, crew, task_types)
        managed = snapshot.managed
        if managed is not None:
            for name in managed.circuits:
                self._tallies.admissions["circuit"].admit(name)
        self._forget_absent(present | set(snapshot.dead_letters))

    def _meet_runtime(self, runtime: str) -> None:
        exist = self._tallies.exist
        if len(self._runtimes) < self._options.max_runtimes * 4:
            self._runtimes.add(runtime)
        for name in ("crew_heartbeats_total", "crew_heartbeat_interval_seconds", "crewd_happenings_total"):
            exist(name, runtime)
        for reason in known.REJECTIONS:
            exist("crew_heartbeats_rejected_total", runtime, reason)
        for levels in permutations(known.LEVELS, 2):
            exist("crew_worker_level_changes_total", runtime, *levels)
        for level in known.LEVELS:
            exist("crew_shadow_verdicts_total", runtime, level)
        for reason in known.DEAD_REASONS:
            exist("crew_detection_latency_seconds", runtime, reason)
            for outcome in known.OUTCOMES:
                exist("crew_verdicts_total", runtime, reason, outcome)
        for cause, outcome in product(known.RECOVERY_CAUSES, known.RECOVERY_OUTCOMES):
            exist("crew_recoveries_total", runtime, cause, outcome)
        # A dead letter may name a run that nobody has seen: its crew is unknown.
        for reason in known.LETTER_REASONS:
            exist("crew_dead_letters_total", runtime, UNKNOWN, reason)

    def _meet_agents(self) -> None:
        exist = self._tallies.exist
        for profile in known.PROFILES:
            exist("crew_agent_saved_tokens_total", profile)
            exist("crew_agent_unknown_formats_total", profile)
            for rung in known.RUNGS:
                exist("crew_agent_starts_total", profile, rung)
            for error_class in known.REFUSED_FOR:
                exist("crew_agent_refusals_total", profile, error_class)
        for cause, then in product(known.ALARMS, known.THEN):
            exist("crew_agent_alarms_total", cause, then)

    def _meet_crew(self, runtime: str, crew: str, task_types: Iterable[str]) -> None:
        exist = self._tallies.exist
        exist("crew_run_duration_seconds", runtime, crew)
        exist("crew_task_attempts", crew)
        exist("crew_retries_total", crew, UNKNOWN)
        exist("crew_retry_delay_seconds", crew)
        for outcome in known.REDRIVES:
            exist("crew_dead_letter_redrives_total", crew, outcome)
        if runtime == MANAGED:
            for error_class in known.RETRIED:
                exist("crew_retries_total", crew, error_class)
            for task_type in task_types:
                exist("crew_task_queue_duration_seconds", task_type)
        for status in known.RUN_OUTCOMES:
            exist("crew_runs_finished_total", runtime, crew, status)
        for reason in known.LETTER_REASONS:
            exist("crew_dead_letters_total", runtime, crew, reason)
        for task_type, outcome in chain.from_iterable(
            ((each, o) for o in known.TASK_OUTCOMES) for each in task_types
        ):
            exist("crew_tasks_finished_total", runtime, crew, task_type, outcome)

    def _forget_absent(self, present: set[str]) -> None:
        crews = self._tallies.admissions["crew"]
        here = {crews.label_of(crew) for crew in present}
        self._absent = {crew: self._absent.get(crew, 0) + 1 for crew in crews.values() - here}
        gone = [crew for crew, rounds in self._absent.items() if rounds >= self._options.crew_grace_rounds]
        if gone:
            self._tallies.forget("crew", gone)


def _text(data: Mapping[str, object], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) and value else UNKNOWN


def _profile(data: Mapping[str, object]) -> str:
    name = _text(data, "profile")
    return name if name in known.PROFILES else UNKNOWN


def _delay(data: Mapping[str, object]) -> float | None:
    """Seconds before a retry: as crewd tells them, or in pi-crew's own word and unit."""
    if "delay_seconds" in data:
        return _number(data, "delay_seconds")
    delay = _number(data, "delayMs")
    return None if delay is None else delay / 1000


def _number(data: Mapping[str, object], key: str) -> float | None:
    """Read a number that can be counted; a runtime may have written anything: "***", a bool, negative, not finite."""
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Beyond this a float no longer counts one by one, and nothing that a crew does comes near.
    return float(value) if 0 <= value <= 1e15 else None
