"""Metrics, read back through the text that Prometheus would read."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from crewd.model.event import Event, trace_id
from crewd.model.look import ReadResult
from crewd.model.run import RunStatus, Waiting
from crewd.model.snapshot import EMPTY, BudgetFigures, Health, ManagedFigures, Snapshot
from crewd.model.verdict import Incident, Level, Reason, Wedge
from crewd.sources.managed.messages import BAD_KINDS, TYPES
from crewd.telemetry import families as known
from crewd.telemetry.families import FAMILIES, Kind
from crewd.telemetry.figures import SinkFigures, StreamFigures
from crewd.telemetry.metrics import Metrics
from crewd.telemetry.notify.figures import ChannelFigures, NotifyFigures
from crewd.telemetry.tallies import MetricsOptions
from tests.telemetry.pictures import NOW, event, report, snapshot, view, worker


class Ledger:
    """Figures of a ledger."""

    commits = 7
    failures = 1
    history_missed = 2
    bytes = 4096
    duration_buckets = ((0.001, 2), (0.01, 7))
    duration_sum = 0.02


class World:
    """Metrics over a picture that can be exchanged."""

    def __init__(self, **options: Any) -> None:
        self.picture: Snapshot = EMPTY
        self.metrics = Metrics(CollectorRegistry(), lambda: self.picture, MetricsOptions(**options))

    def see(self, picture: Snapshot, **changes: Any) -> None:
        self.picture = picture
        self.metrics.on_round(report(**changes), picture)

    def samples(self) -> dict[str, float]:
        """Everything exported, as `name{label="value"}` -> value."""
        text = generate_latest(self.metrics.registry).decode()
        found: dict[str, float] = {}
        for family in parse_text(text):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found


MANAGED = ManagedFigures(
    running=3,
    running_max=8,
    ready=5,
    retries_pending={"blue": 2, "idle": 0},
    circuits={"openai": "open", "local": "closed", "claude": "half_open"},
    paused=("crew:blue", "crew:red", "daemon"),
    stuck={"r1/t1/2": "SIGKILL did not end sh"},
    budgets=BudgetFigures(
        ratios={("day", ""): 0.5, ("crew", "blue"): 0.25, ("task", "blue"): 1.5},
        burn={"blue": (12.5, 0.001), "red": (1.0, None)},
    ),
    messages={"ready": 1, "heartbeat": 40, "unknown": 2},
    succeeded_at=NOW - 1,
)


def full() -> World:
    """A world in which every family has a series."""
    world = World(per_worker=True)
    throttled = view("r3", "green", worker("t9", Level.WAITING, reason=Reason.THROTTLED, waiting_since=NOW - 60))
    people = view("r2", "blue", worker("t9", Level.WAITING, reason=Reason.HUMAN, waiting_since=NOW - 300))
    stuck = worker("t2", Level.STALE, reason=Reason.SILENT, wedge=Wedge.TOOL_RUNNING)
    world.see(
        snapshot(
            view("r1", "blue", worker("t1"), stuck),
            people,
            throttled,
            dead_letters={"blue": (2, NOW - 500)},
            verdicts_open={("pi_crew", "hung"): 1},
            thresholds={"default": {"warn": 30.0, "dead": 300.0}},
            managed=MANAGED,
        ),
        reads={ReadResult.OK: 3},
        heartbeats={"pi_crew": 2},
        heartbeat_intervals=(("pi_crew", 4.0),),
    )
    world.metrics.on_events(
        [
            event("run.completed", 1, task_id="", data={"duration_seconds": 61.0}),
            event("task.completed", 2, data={"task_type": "explore", "duration_seconds": 3.0}),
            event("usage.recorded", 3, data={"model": "m", "input": 10, "output": 5, "cost_usd": 0.25}),
            event("worker.level_changed", 4, data={"from_level": "warn", "to_level": "stale"}),
            event("verdict.opened", 5, data={"reason": "hung", "latency_seconds": 2.0}),
            event("task.retry_scheduled", 6, data={"attempt": 1, "delayMs": 1500}),
            event("deadletter.added", 7, data={"reason": "max-retries"}),
            managed("attempt.starting", 8, task_type="explore", queue_seconds=1.5),
            managed("attempt.finished", 9, executor="default", error_class="timeout"),
            managed("attempt.finished", 10, exit_code=0, interrupted=True),
            managed("task.retry_scheduled", 11, error_class="timeout", delay_seconds=4.0),
            managed("attempt.fenced", 12, fence=7),
            managed("attempt.fenced", 13, late_results=3),
            managed("attempt.adopted", 14, pid=7),
            managed("worker.protocol_error", 15, count=3, kinds={"bad_json": 2, "nan": 1}),
            managed("deadletter.redriven", 16, key="k"),
            managed("deadletter.discarded", 17, key="k"),
            event("recovery.verified", 18, task_id="", data={"cause": "all_exited", "duration_seconds": 4.0}),
            event("shadow.level_changed", 19, data={"from_level": "warn", "to_level": "dead"}),
        ]
    )
    world.metrics.http_observed("/metrics", "GET", 200, 0.01)
    world.metrics.loop_lag_observed(0.001)
    world.metrics.reload_result(True, NOW)
    world.metrics.free_space_observed("state", 10**9)
    world.metrics.watch_ledger(Ledger)
    world.metrics.watch_sinks(
        lambda: [SinkFigures("events", 5, 700, {"no_space": 1}, 0, NOW, NOW), SinkFigures("metrics")]
    )
    world.metrics.watch_notifications(
        lambda: NotifyFigures((ChannelFigures("chat", sent=2, failed=1, retries=3, waiting=1, not_told=1),), 1, NOW)
    )
    world.metrics.watch_streams(lambda: StreamFigures(2, {"overflow": 1, "gone": 0}))
    return world


def managed(type: str, seq: int, **data: Any) -> Event:
    """An event of a managed run."""
    return event(type, seq, runtime="managed", data=data)


def test_every_family_of_the_table_is_exported_and_no_other() -> None:
    text = openmetrics(full().metrics.registry).decode()
    exported = {
        (family.name + "_total" if family.type == "counter" else family.name): family
        for family in parse_openmetrics(text)
    }
    assert set(exported) == {family.name for family in FAMILIES}
    for family in FAMILIES:
        told = exported[family.name]
        assert told.type == family.kind.value and told.documentation == family.help
        assert told.samples, family.name
        for sample in told.samples:
            assert set(sample.labels) - {"le"} == set(family.labels), family.name


def test_the_library_counts_no_created_times_and_its_global_switch_is_left_alone() -> None:
    assert "_created" not in generate_latest(full().metrics.registry).decode()
    registry = CollectorRegistry()
    Counter("someone_elses", "of the host that embeds crewd", registry=registry).inc()
    assert "someone_elses_created" in generate_latest(registry).decode()


def test_names_keep_the_rules_that_promtool_does_not_know() -> None:
    for family in FAMILIES:
        name = family.name
        assert family.help.endswith(".") or name.startswith("python_gc"), name
        assert not name.endswith(("_age_seconds", "_percent", "_ms", "_milliseconds", "_created")), name
        assert (family.kind is Kind.COUNTER) == name.endswith("_total"), name
        assert ("timestamp" in name) == name.endswith("_timestamp_seconds"), name
        if name.endswith("_info"):
            assert family.kind is Kind.GAUGE
        if family.kind is Kind.HISTOGRAM:
            assert name.endswith(("_seconds", "_attempts")) and family.buckets == tuple(sorted(family.buckets))
        assert not set(family.labels) & {"pid", "path", "error", "goal"}, name
        if family.name != "crew_worker_last_progress_timestamp_seconds":
            assert not set(family.labels) & {"run", "task", "run_id", "task_id"}, name


def test_promtool_finds_nothing_to_complain_of() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH: install Debian's package prometheus to check the exposition with it")
    text = generate_latest(full().metrics.registry)
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_the_series_of_a_runtime_exist_at_zero_before_anything_happens() -> None:
    samples = World().samples()
    for series in (
        'crew_verdicts_total{outcome="false",reason="hung",runtime="pi_crew"}',
        'crew_worker_level_changes_total{from_level="stale",runtime="beat",to_level="dead"}',
        'crew_detection_latency_seconds_count{reason="exited",runtime="pi_crew"}',
        'crewd_manifest_reads_total{result="torn"}',
        'crewd_metric_series_dropped_total{metric="crew_runs_finished_total"}',
        'crewd_invariant_violations_total{id="I8"}',
        'crewd_invariant_violations_total{id="I3"}',
        'crew_task_errors_total{error_class="heartbeat_lost",executor="default"}',
        'crew_fenced_results_total{runtime="managed"}',
        'crewd_worker_protocol_errors_total{kind="bad_json"}',
        "crewd_attempts_adopted_total",
        'crewd_metric_series_dropped_total{metric="crew_task_errors_total"}',
    ):
        assert samples[series] == 0, series


def test_the_series_of_a_crew_exist_at_zero_from_its_first_round() -> None:
    world = World()
    world.see(snapshot(view("r1", "blue", worker())))
    samples = world.samples()
    for series in (
        'crew_dead_letters_total{crew="blue",reason="max-retries",runtime="pi_crew"}',
        'crew_runs_finished_total{crew="blue",runtime="pi_crew",status="failed"}',
        'crew_tasks_finished_total{crew="blue",outcome="timed_out",runtime="pi_crew",task_type="explore"}',
        'crew_retries_total{crew="blue",error_class="unknown"}',
        'crew_run_duration_seconds_count{crew="blue",runtime="pi_crew"}',
    ):
        assert samples[series] == 0, series


def test_events_are_counted_once_each() -> None:
    samples = full().samples()
    for series, value in {
        'crew_runs_finished_total{crew="blue",runtime="pi_crew",status="completed"}': 1,
        'crew_run_duration_seconds_sum{crew="blue",runtime="pi_crew"}': 61,
        'crew_tasks_finished_total{crew="blue",outcome="completed",runtime="pi_crew",task_type="explore"}': 1,
        'crew_tokens_total{direction="input",model="m",runtime="pi_crew"}': 10,
        'crew_tokens_total{direction="cache_read",model="m",runtime="pi_crew"}': 0,
        'crew_cost_usd_total{model="m",runtime="pi_crew"}': 0.25,
        'crew_worker_level_changes_total{from_level="warn",runtime="pi_crew",to_level="stale"}': 1,
        'crew_shadow_verdicts_total{level="dead",runtime="pi_crew"}': 1,
        'crew_verdicts_total{outcome="open",reason="hung",runtime="pi_crew"}': 1,
        'crew_detection_latency_seconds_sum{reason="hung",runtime="pi_crew"}': 2,
        'crew_retries_total{crew="blue",error_class="unknown"}': 1,
        'crew_retry_delay_seconds_sum{crew="blue"}': 1.5 + 4.0,
        'crew_retries_total{crew="blue",error_class="timeout"}': 1,
        'crew_task_queue_duration_seconds_sum{task_type="explore"}': 1.5,
        'crew_task_errors_total{error_class="timeout",executor="default"}': 1,
        'crew_fenced_results_total{runtime="managed"}': 4,
        "crewd_attempts_adopted_total": 1,
        'crewd_worker_protocol_errors_total{kind="bad_json"}': 2,
        'crewd_worker_protocol_errors_total{kind="wrong_id"}': 0,
        'crew_dead_letter_redrives_total{crew="blue",outcome="redriven"}': 1,
        'crew_dead_letter_redrives_total{crew="blue",outcome="discarded"}': 1,
        'crew_dead_letters_total{crew="blue",reason="max-retries",runtime="pi_crew"}': 1,
        'crew_heartbeats_total{runtime="pi_crew"}': 2,
        'crewd_manifest_reads_total{result="ok"}': 3,
    }.items():
        assert samples[series] == value, series
    errors = [value for series, value in samples.items() if series.startswith("crew_task_errors_total")]
    assert sum(errors) == 1  # an attempt that crewd itself interrupted is no error


def test_state_is_read_from_the_snapshot_of_the_moment() -> None:
    world = full()
    samples = world.samples()
    for series, value in {
        'crew_runs{crew="blue",runtime="pi_crew",status="running"}': 2,
        'crew_runs{crew="blue",runtime="pi_crew",status="failed"}': 0,
        'crew_tasks{crew="blue",runtime="pi_crew",status="running"}': 3,
        'crew_workers{crew="blue",level="stale",runtime="pi_crew"}': 1,
        'crew_workers{crew="blue",level="dead",runtime="pi_crew"}': 0,
        'crew_wedges{runtime="pi_crew",wedge="tool_running"}': 1,
        'crew_waiting_human{crew="blue"}': 1,
        'crew_waiting_human_oldest_timestamp_seconds{crew="blue"}': NOW - 300,
        'crew_oldest_progress_timestamp_seconds{crew="blue",runtime="pi_crew"}': NOW - 10,
        'crew_dead_letters_open{crew="blue"}': 2,
        'crew_dead_letters_oldest_timestamp_seconds{crew="blue"}': NOW - 500,
        'crew_verdicts_open{reason="hung",runtime="pi_crew"}': 1,
        'crew_heartbeat_threshold_seconds{level="dead",runtime="default"}': 300,
        'crewd_runs_watched{runtime="pi_crew"}': 3,
        "crewd_ready": 1,
        'crewd_ledger_commit_duration_seconds_bucket{le="+Inf"}': 7,
        'crewd_sink_errors_total{reason="no_space",sink="events"}': 1,
        'crewd_loop_last_success_timestamp_seconds{loop="retention"}': NOW,
        'crewd_loop_last_success_timestamp_seconds{loop="scheduler"}': NOW - 1,
        'crew_retries_pending{crew="blue"}': 2,
        'crew_retries_pending{crew="idle"}': 0,
        'crew_circuit_state{circuit="openai"}': 2,
        'crew_circuit_state{circuit="claude"}': 1,
        'crew_circuit_state{circuit="local"}': 0,
        "crewd_attempts_running": 3,
        "crewd_attempts_max": 8,
        "crewd_attempts_stuck": 1,
        "crewd_tasks_ready": 5,
        'crewd_paused{scope="crew"}': 2,
        'crewd_paused{scope="daemon"}': 1,
        'crewd_paused{scope="executor"}': 0,
        'crewd_worker_messages_total{type="heartbeat"}': 40,
        'crewd_worker_messages_total{type="result"}': 0,
    }.items():
        assert samples[series] == value, series
    world.picture = snapshot(view("r3", "red", status=RunStatus.FAILED))
    assert not any("r1" in series or 'crew_runs{crew="blue"' in series for series in world.samples())


def test_what_is_unknown_is_absent_and_not_zero() -> None:
    world = World()
    world.see(snapshot(view("r1", "blue")))
    world.metrics.on_events([event("usage.recorded", 1, data={"model": "m", "input": 1})])
    names = {series.partition("{")[0] for series in world.samples()}
    assert not names & {
        "crew_cost_usd_total",
        "crew_oldest_progress_timestamp_seconds",
        "crew_waiting_human_oldest_timestamp_seconds",
        "crew_dead_letters_oldest_timestamp_seconds",
        "crewd_sink_last_write_timestamp_seconds",
        "crewd_ledger_commits_total",
        "crewd_config_last_reload_success_timestamp_seconds",
    }


def test_a_wait_that_the_run_declares_counts_once() -> None:
    world = World()
    world.see(snapshot(view("r1", "blue", waiting=Waiting("human", NOW - 9))))
    samples = world.samples()
    assert samples['crew_waiting_human{crew="blue"}'] == 1
    assert samples['crew_waiting_human_oldest_timestamp_seconds{crew="blue"}'] == NOW - 9


def test_the_dead_and_the_waiting_do_not_hide_the_silence_of_the_living() -> None:
    world = World()
    dead = worker("t1", Level.DEAD, progress_at=NOW - 5000)
    waits = worker("t2", Level.WAITING, reason=Reason.HUMAN, progress_at=NOW - 4000)
    fresh = worker("t3", progress_at=None, first_seen_at=NOW - 7)
    world.see(snapshot(view("r1", "blue", dead, waits, fresh)))
    assert world.samples()['crew_oldest_progress_timestamp_seconds{crew="blue",runtime="pi_crew"}'] == NOW - 7


def test_more_crews_than_the_cap_are_told_as_other_and_counted() -> None:
    world = World(max_crews=2)
    world.see(snapshot(*(view(f"r{number}", f"crew{number}") for number in range(5))))
    world.metrics.on_events([event("run.failed", 1, task_id="", crew="crew4")])
    samples = world.samples()
    assert samples['crew_runs{crew="other",runtime="pi_crew",status="running"}'] == 3
    assert samples['crew_runs_finished_total{crew="other",runtime="pi_crew",status="failed"}'] == 1
    assert samples['crewd_metric_series_dropped_total{metric="crew_runs_finished_total"}'] == 1
    assert samples['crewd_metric_series_dropped_total{metric="crew_runs"}'] == 3
    crews = {series.partition('crew="')[2].partition('"')[0] for series in samples if 'crew="' in series}
    assert crews <= {"crew0", "crew1", "other", "unknown"}


def test_a_flood_of_names_cannot_make_series_without_end() -> None:
    world = World(max_crews=50, max_task_types=50, max_series=200)
    for number in range(3000):
        data = {"task_type": f"type{number % 60}"}
        world.metrics.on_events([event("task.failed", number + 1, crew=f"crew{number % 70}", data=data)])
    counts = [value for series, value in world.samples().items() if series.startswith("crew_tasks_finished_total{")]
    assert len(counts) <= 201 and sum(counts) == 3000


def test_the_series_of_a_crew_that_is_long_gone_are_forgotten_and_make_room() -> None:
    world = World(max_crews=1, crew_grace_rounds=3)
    world.see(snapshot(view("r1", "blue")))
    for _ in range(3):
        assert any('crew="blue"' in series for series in world.samples())
        world.see(snapshot(view("r2", "red")))
    world.see(snapshot(view("r2", "red", goal="changed")))
    samples = world.samples()
    assert not any('crew="blue"' in series for series in samples)
    assert samples['crew_runs{crew="red",runtime="pi_crew",status="running"}'] == 1


@pytest.mark.parametrize("crew", ['a"b\\c\nd', "\x00\x1b[31m", "\ud800", "x" * 500, "", "é\u202e"])
def test_no_name_in_a_file_can_break_the_text(crew: str) -> None:
    world = World()
    world.see(snapshot(view("r1", crew, worker()), dead_letters={crew: (1, None)}))
    world.metrics.on_events([event("deadletter.added", 1, crew=crew, data={"reason": 'x"} 1\n'})])
    list(parse_openmetrics(openmetrics(world.metrics.registry).decode()))
    assert any(series.startswith("crew_dead_letters_total") and world.samples()[series] for series in world.samples())


@pytest.mark.parametrize("value", ["***", None, True, -1, float("nan"), float("inf"), 10**400, [1], {}])
def test_what_a_runtime_wrote_where_a_number_belongs_counts_as_nothing(value: Any) -> None:
    world = World()
    keys = (
        "input",
        "output",
        "cache_read",
        "cache_write",
        "cost_usd",
        "duration_seconds",
        "latency_seconds",
        "delayMs",
        "delay_seconds",
        "queue_seconds",
        "late_results",
        "kinds",
    )
    data = {"reason": "hung", **dict.fromkeys(keys, value)}
    types = ("usage.recorded", "task.completed", "run.completed", "verdict.opened", "task.retry_scheduled")
    types += ("attempt.starting", "attempt.fenced", "worker.protocol_error")
    world.metrics.on_events([event(type, seq, data=data) for seq, type in enumerate(types, 1)])
    samples = world.samples()
    assert samples['crew_tokens_total{direction="input",model="unknown",runtime="pi_crew"}'] == 0
    assert not any(series.startswith("crew_cost_usd_total") for series in samples)
    assert samples['crew_runs_finished_total{crew="blue",runtime="pi_crew",status="completed"}'] == 1
    assert samples['crew_detection_latency_seconds_count{reason="hung",runtime="pi_crew"}'] == 0
    assert not any(series.startswith("crew_run_duration_seconds_count") for series in samples)
    assert not any(series.startswith("crew_task_queue_duration_seconds_count") for series in samples)
    assert samples['crew_fenced_results_total{runtime="pi_crew"}'] == 1
    assert samples['crewd_worker_protocol_errors_total{kind="nan"}'] == 0


def test_levels_that_do_not_exist_become_no_label() -> None:
    world = World()
    world.metrics.on_events([event("worker.level_changed", 1, data={"from_level": "evil", "to_level": "dead"})])
    assert not any("evil" in series for series in world.samples())


def test_an_event_told_twice_is_a_broken_promise() -> None:
    world = World()
    world.metrics.on_events([event("task.started", 1), event("task.started", 2)])
    assert world.samples()['crewd_invariant_violations_total{id="I8"}'] == 0
    world.metrics.on_events([event("task.started", 2)])
    assert world.samples()['crewd_invariant_violations_total{id="I8"}'] == 1


def test_a_duration_leads_to_its_trace() -> None:
    text = openmetrics(full().metrics.registry).decode()
    wanted = trace_id("r1")
    for name in ("crew_run_duration_seconds", "crew_detection_latency_seconds"):
        lines = [line for line in text.splitlines() if line.startswith(f"{name}_bucket") and "trace_id" in line]
        assert lines and all(f'trace_id="{wanted}"' in line for line in lines), name


def test_a_part_that_fails_costs_its_own_families_only() -> None:
    world = full()

    def broken() -> Ledger:
        raise OSError("the ledger is gone")

    world.metrics.watch_ledger(broken)
    assert "crewd_ledger_commits_total" not in world.samples()
    samples = world.samples()
    assert samples['crewd_metric_collect_errors_total{part="ledger"}'] >= 1
    assert samples["crewd_ready"] == 1


def test_a_part_that_is_degraded_is_named_and_crewd_is_not_ready() -> None:
    world = World()
    world.see(snapshot(health=Health(round_number=1, parts={"ledger": True}, degraded={"ledger": "disk is full"})))
    samples = world.samples()
    assert samples['crewd_degraded{reason="ledger"}'] == 1 and samples["crewd_ready"] == 0


def test_an_unchanged_run_is_not_counted_again_and_a_changed_one_is() -> None:
    world = World()
    first = view("r1", "blue", worker())
    world.see(snapshot(first))
    assert world.samples()['crew_tasks{crew="blue",runtime="pi_crew",status="running"}'] == 1
    world.see(snapshot(view("r1", "blue", worker("t1"), worker("t2"))))
    assert world.samples()['crew_tasks{crew="blue",runtime="pi_crew",status="running"}'] == 2
    world.see(snapshot())
    assert not any(series.startswith("crew_tasks{") for series in world.samples())


def test_who_is_stale_or_dead_is_told_by_the_reason_and_by_nothing_else() -> None:
    world = World()
    world.see(
        snapshot(
            view(
                "r1",
                "blue",
                worker("t1", Level.DEAD, reason=Reason.HUNG),
                worker("t2", Level.DEAD, reason=Reason.EXITED),
                worker("t3", Level.STALE, reason=Reason.SILENT),
                worker("t4", Level.WARN, reason=Reason.STOPPED),  # on its way
                worker("t5", Level.WAITING, reason=Reason.HUMAN),
            ),
            view("r2", "blue", worker("t1", Level.DEAD, reason=Reason.HUNG)),
        )
    )
    samples = world.samples()
    told = {
        reason: samples[f'crew_workers_in_trouble{{crew="blue",reason="{reason}",runtime="pi_crew"}}']
        for reason in known.TROUBLES
    }
    assert told == {"silent": 1, "stopped": 0, "busy": 0, "exited": 1, "hung": 2, "presumed": 0}
    both = samples['crew_workers{crew="blue",level="dead",runtime="pi_crew"}']
    both += samples['crew_workers{crew="blue",level="stale",runtime="pi_crew"}']
    assert sum(told.values()) == both


def test_a_worker_flaps_until_its_thresholds_are_the_usual_ones_again() -> None:
    world = World()
    name = 'crew_workers_flapping{crew="blue",runtime="pi_crew"}'
    flapping = worker("t2", Level.WARN)
    standing = msgspec.structs.replace(flapping.standing, flapping_until=100.5)  # on the observed clock
    over = msgspec.structs.replace(flapping.standing, flapping_until=100.0)
    still = msgspec.structs.replace(flapping, standing=standing)
    ended = msgspec.structs.replace(flapping, task_id="t3", standing=over)
    world.see(snapshot(view("r1", "blue", worker("t1"), still, ended)))
    assert world.samples()[name] == 1
    world.see(snapshot(view("r1", "blue", worker("t1"), ended)))
    assert world.samples()[name] == 0


def test_free_space_that_nobody_knows_is_absent() -> None:
    world = full()
    world.metrics.free_space_observed("logs", 7)
    assert world.samples()['crewd_filesystem_free_bytes{folder="logs"}'] == 7
    world.metrics.free_space_observed("logs", None)
    assert 'crewd_filesystem_free_bytes{folder="logs"}' not in world.samples()


def test_series_of_workers_come_only_when_asked_for_and_are_capped() -> None:
    picture = snapshot(view("r1", "blue", *(worker(f"t{number}") for number in range(5))))
    plain, detailed = World(), World(per_worker=True, per_worker_max=3)
    plain.see(picture)
    detailed.see(picture)
    name = "crew_worker_last_progress_timestamp_seconds"
    assert not any(series.startswith(name) for series in plain.samples())
    assert sum(series.startswith(name) for series in detailed.samples()) == 3
    assert detailed.samples()[f'crewd_metric_series_dropped_total{{metric="{name}"}}'] == 2


def test_a_worker_without_any_progress_is_told_since_it_was_first_seen() -> None:
    silent = msgspec.structs.replace(worker("t"), progress_at=None, first_seen_at=NOW - 99)
    detailed = World(per_worker=True, per_worker_max=3)
    detailed.see(snapshot(view("r1", "blue", silent)))
    assert detailed.samples()['crew_worker_last_progress_timestamp_seconds{run="r1",task="t"}'] == NOW - 99


def test_options_out_of_bounds_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"metrics\.max_crews is 0"):
        MetricsOptions(max_crews=0)


def test_incidents_are_told_by_severity_and_by_what_a_person_said_of_them() -> None:
    world = World()
    dead = Incident("r/t", "dead", "critical", "t is dead", NOW - 9)
    seen = msgspec.structs.replace(dead, cause="silent", severity="warning", acknowledged_at=NOW - 5)
    quiet = msgspec.structs.replace(seen, cause="stopped", snoozed_until=NOW + 5)
    world.see(msgspec.structs.replace(snapshot(view("r", "blue")), incidents=(dead, seen, quiet)))
    world.metrics.on_events([event("incident.opened", 1, data={"severity": each}) for each in ("critical", "odd")])
    samples = world.samples()
    opened = {name: value for name, value in samples.items() if name.startswith("crew_incidents_open") and value}
    assert opened == {
        'crew_incidents_open{severity="critical",state="open"}': 1,
        'crew_incidents_open{severity="warning",state="acknowledged"}': 1,
        'crew_incidents_open{severity="warning",state="snoozed"}': 1,
    }
    assert sum(name.startswith("crew_incidents_open") for name in samples) == 9, "each exists before it counts"
    assert [samples[f'crewd_incidents_total{{severity="{each}"}}'] for each in ("critical", "warning", "info")] == [
        1, 1, 0,
    ]  # fmt: skip


def test_who_is_throttled_is_told_apart_from_who_waits_for_a_person() -> None:
    world = World()
    throttled = worker("t1", Level.WAITING, reason=Reason.THROTTLED, waiting_since=NOW - 60)
    human = worker("t2", Level.WAITING, reason=Reason.HUMAN, waiting_since=NOW - 30)
    whole = view("r2", "blue", waiting=Waiting("throttled", NOW - 90, ""))
    world.see(snapshot(view("r1", "blue", throttled, human), whole))
    samples = world.samples()
    assert samples['crew_throttled{crew="blue"}'] == 2
    assert samples['crew_throttled_oldest_timestamp_seconds{crew="blue"}'] == NOW - 90
    assert samples['crew_waiting_human{crew="blue"}'] == 1
    assert samples['crew_waiting_human_oldest_timestamp_seconds{crew="blue"}'] == NOW - 30


def test_the_reference_page_tells_every_family_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text()
    rows = {line.split("|")[1].strip().strip("`"): line for line in page.splitlines() if line.startswith("| `c")}
    rows |= {line.split("|")[1].strip().strip("`"): line for line in page.splitlines() if line.startswith("| `p")}
    assert set(rows) == {family.name for family in FAMILIES}
    for family in FAMILIES:
        assert family.kind.value in rows[family.name] and family.help in rows[family.name], family.name
        for label in (*family.labels, *family.dotted):
            assert label in rows[family.name], (family.name, label)


def test_a_broken_invariant_that_a_round_found_is_counted() -> None:
    world = World()
    world.see(EMPTY, violations=("I18",))
    assert world.samples()['crewd_invariant_violations_total{id="I18"}'] == 1


def test_the_series_of_a_crew_of_managed_runs_exist_at_zero_too() -> None:
    world = World()
    world.see(snapshot(view("r1", "blue", worker(), runtime="managed"), managed=ManagedFigures()))
    samples = world.samples()
    for series in (
        'crew_retries_total{crew="blue",error_class="rate_limited"}',
        'crew_task_queue_duration_seconds_count{task_type="explore"}',
        'crew_dead_letter_redrives_total{crew="blue",outcome="redriven"}',
        'crew_retries_pending{crew="blue"}',
        'crewd_paused{scope="daemon"}',
    ):
        assert samples[series] == 0, series


def test_agents_are_counted_by_profile_and_a_stranger_is_none_of_them() -> None:
    world = World()
    assert world.samples()['crew_agent_starts_total{profile="claude",rung="resume"}'] == 0
    world.metrics.on_events(
        [
            managed("attempt.started", 1, profile="claude", rung="fresh"),
            managed("attempt.started", 2, profile="claude", rung="resume", saved_tokens=5000),
            managed("attempt.started", 3, pid=7),  # any other command
            managed("worker.refused", 4, profile="codex", error_class="rate_limited"),
            managed("worker.refused", 5, profile="made up", error_class="rate_limited"),
            managed("worker.looping", 6, then="stop", scope="task"),
            managed("budget.alarmed", 7, then="warn", scope="day"),
            managed("budget.alarmed", 8, then="made up", scope="day"),
            managed("worker.format_unknown", 9, profile="pi"),
        ]
    )
    samples = world.samples()
    assert samples['crew_agent_starts_total{profile="claude",rung="fresh"}'] == 1
    assert samples['crew_agent_starts_total{profile="claude",rung="resume"}'] == 1
    assert samples['crew_agent_saved_tokens_total{profile="claude"}'] == 5000
    assert samples['crew_agent_refusals_total{error_class="rate_limited",profile="codex"}'] == 1
    assert samples['crew_agent_refusals_total{error_class="rate_limited",profile="unknown"}'] == 1
    assert samples['crew_agent_alarms_total{cause="loop",then="stop"}'] == 1
    assert samples['crew_agent_alarms_total{cause="budget",then="warn"}'] == 1
    assert samples['crew_agent_unknown_formats_total{profile="pi"}'] == 1
    assert not any("made up" in series for series in samples)


def test_budgets_tell_the_fullest_and_what_is_burnt_where_it_is_known() -> None:
    world = World()
    world.see(snapshot(view("r1", "blue", worker(), runtime="managed"), managed=MANAGED))
    samples = world.samples()
    assert samples['crew_budget_used_ratio{crew="",scope="day"}'] == 0.5
    assert samples['crew_budget_used_ratio{crew="blue",scope="task"}'] == 1.5
    assert samples['crew_burn_tokens_per_second{crew="blue"}'] == 12.5
    assert samples['crew_burn_usd_per_second{crew="blue"}'] == 0.001
    assert 'crew_burn_usd_per_second{crew="red"}' not in samples


def test_a_crewd_that_only_watches_exports_no_state_of_managed_runs() -> None:
    world = World()
    world.see(snapshot(view("r1", "blue", worker())))
    assert not {series.partition("{")[0] for series in world.samples()} & {
        "crew_retries_pending",
        "crew_circuit_state",
        "crewd_attempts_running",
        "crewd_attempts_max",
        "crewd_tasks_ready",
        "crewd_paused",
        "crewd_worker_messages_total",
    }


def test_the_executors_of_the_settings_exist_at_zero_and_others_are_capped() -> None:
    world = World(executors=("claude",), max_executors=2)
    assert world.samples()['crew_task_errors_total{error_class="timeout",executor="claude"}'] == 0
    for seq in range(1, 6):
        world.metrics.on_events([managed("attempt.finished", seq, executor=f"e{seq}", error_class="timeout")])
    samples = world.samples()
    assert samples['crew_task_errors_total{error_class="timeout",executor="e1"}'] == 1
    assert samples['crew_task_errors_total{error_class="timeout",executor="other"}'] == 4
    assert samples['crewd_metric_series_dropped_total{metric="crew_task_errors_total"}'] == 4


def test_of_the_circuits_beyond_the_cap_the_worst_is_told() -> None:
    world = World(max_circuits=1)
    circuits = {"first": "closed", "second": "open", "third": "half_open"}
    world.see(snapshot(managed=ManagedFigures(circuits=circuits)))
    told = {series: value for series, value in world.samples().items() if series.startswith("crew_circuit_state")}
    assert told == {'crew_circuit_state{circuit="first"}': 0, 'crew_circuit_state{circuit="other"}': 2}
    assert world.samples()['crewd_metric_series_dropped_total{metric="crew_circuit_state"}'] == 2


def test_every_class_of_errors_has_room_whatever_other_runtimes_call_theirs() -> None:
    world = World()
    flood = [event("task.retry_scheduled", seq, data={"error_class": f"made up {seq}"}) for seq in range(1, 100)]
    world.metrics.on_events([*flood, managed("attempt.finished", 100, executor="default", error_class="unknown")])
    assert world.samples()['crew_retries_total{crew="blue",error_class="made up 1"}'] == 1
    for error_class in known.ERROR_CLASSES:
        assert f'crew_task_errors_total{{error_class="{error_class}",executor="default"}}' in world.samples()


def test_what_workers_may_say_is_what_the_protocol_knows() -> None:
    assert set(known.MESSAGES) == {*TYPES, "unknown"} and set(known.BAD_LINES) == set(BAD_KINDS)


def test_a_scheduler_that_never_finished_a_turn_has_no_time_of_success() -> None:
    world = World()
    world.see(snapshot(managed=ManagedFigures()))
    assert 'crewd_loop_last_success_timestamp_seconds{loop="scheduler"}' not in world.samples()


def test_recoveries_are_counted_by_cause_and_outcome_and_plans_by_state() -> None:
    world = World()
    world.see(snapshot(view("r1", "blue"), recoveries={"planned": 2}))
    for seq, (type, cause) in enumerate(
        (("verified", "all_exited"), ("declined", "all_exited"), ("failed", "what nobody knows")), 1
    ):
        data = {"cause": cause, "duration_seconds": 4.0}
        world.metrics.on_events([event(f"recovery.{type}", seq, task_id="", data=data)])
    samples = world.samples()
    total = 'crew_recoveries_total{cause="all_exited",outcome="%s",runtime="pi_crew"}'
    assert [samples[total % each] for each in ("verified", "failed", "declined", "withdrawn")] == [1, 0, 1, 0]
    assert samples["crew_recovery_duration_seconds_count"] == 1
    assert samples['crew_recovery_plans{state="planned"}'] == 2
    assert samples['crew_recovery_plans{state="failed"}'] == 0
