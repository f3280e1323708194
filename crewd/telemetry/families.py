"""Families: every metric that crewd exports, in one table. Code, reference page and tests are held to it."""

from dataclasses import dataclass
from enum import StrEnum

from crewd.model.failure import ErrorClass
from crewd.model.incident import OPEN_STATES, SEVERITIES
from crewd.model.look import ReadResult
from crewd.model.recovery import Cause
from crewd.model.run import RunStatus, TaskStatus
from crewd.model.verdict import Level, Outcome, Reason, Wedge


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Family:
    """One metric family. `dotted` are the names under which pi-crew's plan knew it."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    dotted: tuple[str, ...] = ()


# The values of closed labels: known beforehand, so that every series exists at 0 before it first counts.
RUN_OUTCOMES = ("completed", "failed", "cancelled")
TASK_OUTCOMES = ("completed", "failed", "timed_out", "cancelled", "skipped")
DIRECTIONS = ("input", "output", "cache_read", "cache_write")
DEAD_REASONS = tuple(reason.value for reason in (Reason.EXITED, Reason.HUNG, Reason.PRESUMED))
OUTCOMES = tuple(outcome.value for outcome in Outcome)
LEVELS = tuple(level.value for level in Level)
WEDGES = tuple(wedge.value for wedge in Wedge)
RUN_STATUSES = tuple(status.value for status in RunStatus)
TASK_STATUSES = tuple(status.value for status in TaskStatus)
REJECTIONS = ("future", "regressed", "malformed")
LETTER_REASONS = ("max-retries", "heartbeat-dead", "not-retryable", "budget", "manual")
READ_RESULTS = tuple(result.value for result in ReadResult)
SINK_ERRORS = ("no_space", "permission", "io_error", "torn_tail", "source", "position_ahead", "unexpected")

STREAM_ENDS = ("overflow", "gone", "stopped", "failed")
NOTIFY_RESULTS = ("sent", "failed", "dropped", "suppressed")
SEVERITY_LABELS = SEVERITIES
INCIDENT_STATES = tuple(state.value for state in OPEN_STATES)
REDRIVES = ("redriven", "discarded")
RECOVERY_CAUSES = tuple(each.value for each in Cause)
RECOVERY_OUTCOMES = ("verified", "failed", "declined", "withdrawn")
RECOVERY_STATES = ("planned", "approved", "applied", "failed")  # of which something may still come
ERROR_CLASSES = tuple(each.value for each in ErrorClass)
# No attempt was made, or a person ended it: nothing of the kind is ever tried again.
RETRIED = tuple(each for each in ERROR_CLASSES if each not in ("gate_failed", "dependency_failed", "cancelled"))
CIRCUIT_STATES = {"closed": 0, "half_open": 1, "open": 2}
PAUSES = ("daemon", "crew", "executor")
# What a protocol worker may say, and how a line may be no message (docs/reference/worker-protocol.md).
MESSAGES = (
    "ready", "heartbeat", "busy", "chunk", "log", "artifact", "usage", "result", "error", "pong", "unknown"
)  # fmt: skip
BAD_LINES = (
    "bad_utf8", "bad_json", "not_object", "duplicate_key", "too_deep", "nan", "bad_field", "line_too_long",
    "wrong_id", "before_ready", "ready_again",
)  # fmt: skip
# Parts of crewd that survive a defect of their own, which is counted and in the log (engine).
DEFECTS = (
    "attempt", "heed", "inbox", "listener", "parole", "publish", "reader", "recovery", "reload", "retention",
    "scheduler", "shadowing", "trim",
)  # fmt: skip
# Agents that crewd understands, how they begin, and what it says of them (docs/agents.md).
PROFILES = ("claude", "codex", "gemini", "pi")
RUNGS = ("fresh", "resume")
REFUSED_FOR = (
    "auth_error", "budget_exceeded", "config_invalid", "context_exhausted", "input_invalid", "provider_error",
    "rate_limited", "task_error", "unknown",
)  # fmt: skip
ALARMS = ("loop", "burn", "budget")
THEN = ("warn", "stop", "park")
ALARM_EVENTS = {"worker.looping": "loop", "worker.burning": "burn", "budget.alarmed": "budget"}
# The promises that are checked while crewd runs; the numbers are those of the guarantees page.
INVARIANTS = ("I2", "I3", "I4", "I5", "I6", "I7", "I8", "I10", "I18")

# Why a worker is stale or dead (the evidence table of docs/detection.md), and the folders whose space is measured.
TROUBLES = tuple(
    each.value for each in (Reason.SILENT, Reason.STOPPED, Reason.BUSY, Reason.EXITED, Reason.HUNG, Reason.PRESUMED)
)
FOLDERS = ("state", "logs")

# Labels whose values come from files that others write: capped.
OPEN_LABELS = ("crew", "runtime", "model", "task_type", "error_class", "executor", "circuit")

DURATION = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
INTERVAL = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
DETECTION = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
DELAY = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
QUEUE = (0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
ATTEMPTS = (1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0)
ROUND = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
QUICK = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

C, G, H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

# Counted as it is told: by events and by the report of each round.
TOLD = (
    Family(
        "crew_runs_finished_total",
        C,
        "Runs that ended while crewd watched.",
        ("runtime", "crew", "status"),
        dotted=("crew.run.count",),
    ),
    Family(
        "crew_run_duration_seconds",
        H,
        "Time from the start to the end of a run, by its runtime's own times.",
        ("runtime", "crew"),
        DURATION,
        ("crew.run.duration_ms",),
    ),
    Family(
        "crew_tasks_finished_total",
        C,
        "Tasks that ended while crewd watched.",
        ("runtime", "crew", "task_type", "outcome"),
        dotted=("crew.task.count",),
    ),
    Family(
        "crew_task_duration_seconds",
        H,
        "Time from the start to the end of a task, by its runtime's own times.",
        ("task_type", "outcome"),
        DURATION,
        ("crew.task.duration_ms",),
    ),
    Family(
        "crew_task_attempts",
        H,
        "Attempts that a task had taken when it ended.",
        ("crew",),
        ATTEMPTS,
        ("crew.task.retry_count",),
    ),
    Family(
        "crew_tokens_total",
        C,
        "Tokens used: by managed tasks as they are noted, every few seconds; by others once they ended.",
        ("runtime", "model", "direction"),
        dotted=("crew.task.tokens_total",),
    ),
    Family(
        "crew_cost_usd_total",
        C,
        "Cost in US dollars, as its runtime or program counted it. Absent where it is unknown.",
        ("runtime", "model"),
    ),
    Family(
        "crew_worker_level_changes_total",
        C,
        "Changes of a worker's level.",
        ("runtime", "from_level", "to_level"),
        dotted=("crew.heartbeat.level_total",),
    ),
    Family(
        "crew_shadow_verdicts_total",
        C,
        "Times that an override which is only tried would have brought a worker to a level.",
        ("runtime", "level"),
    ),
    Family(
        "crew_verdicts_total",
        C,
        "Dead verdicts, counted as open when given and as true or false when the truth arrived.",
        ("runtime", "reason", "outcome"),
        dotted=("crew.heartbeat.dead_total",),
    ),
    Family(
        "crew_detection_latency_seconds",
        H,
        "Time from the last proven life of a worker, or its exit, to the dead verdict.",
        ("runtime", "reason"),
        DETECTION,
    ),
    Family("crew_heartbeats_total", C, "Signs of life of workers that crewd saw.", ("runtime",)),
    Family(
        "crew_heartbeats_rejected_total",
        C,
        "Heartbeats whose time or form could not be believed.",
        ("runtime", "reason"),
    ),
    Family(
        "crew_heartbeat_interval_seconds",
        H,
        "Observed time between two signs of life of one worker.",
        ("runtime",),
        INTERVAL,
    ),
    Family(
        "crew_retries_total",
        C,
        "Retries that a runtime announced.",
        ("crew", "error_class"),
        dotted=("crew.task.retry_attempt",),
    ),
    Family(
        "crew_retry_delay_seconds",
        H,
        "Delay before a retry, as its runtime announced it.",
        ("crew",),
        DELAY,
        ("crew.task.retry_delay_ms",),
    ),
    Family(
        "crew_dead_letters_total",
        C,
        "Tasks that were given up, by their runtime or by crewd.",
        ("runtime", "crew", "reason"),
        dotted=("crew.task.deadletter_total",),
    ),
    Family(
        "crew_dead_letter_redrives_total",
        C,
        "Dead letters that got a new budget of attempts, or were wanted no more.",
        ("crew", "outcome"),
    ),
    Family(
        "crew_recoveries_total",
        C,
        "Recovery plans of interrupted runs that came to an end, by how the run was interrupted and what came of it.",
        ("runtime", "cause", "outcome"),
    ),
    Family(
        "crew_recovery_duration_seconds",
        H,
        "Time from when the command of a recovery began to when its run was seen to move.",
        (),
        DURATION,
    ),
    Family(
        "crew_task_errors_total",
        C,
        "Attempts of managed tasks that did not succeed, by the class of what went wrong.",
        ("executor", "error_class"),
    ),
    Family(
        "crew_task_queue_duration_seconds",
        H,
        "Time from when an attempt of a managed task could have started to when it was given a slot.",
        ("task_type",),
        QUEUE,
    ),
    Family(
        "crew_agent_starts_total",
        C,
        "Attempts of agents that began, afresh or by resuming the session of the attempt before.",
        ("profile", "rung"),
    ),
    Family(
        "crew_agent_saved_tokens_total",
        C,
        "Tokens that attempts before had put into a session, and that its resumption need not spend again.",
        ("profile",),
    ),
    Family(
        "crew_agent_refusals_total",
        C,
        "Attempts of agents whose provider refused a request, by the class of the first refusal.",
        ("profile", "error_class"),
    ),
    Family(
        "crew_agent_alarms_total",
        C,
        "Agents that went in circles, burnt tokens or spent a budget, by what followed.",
        ("cause", "then"),
    ),
    Family(
        "crew_agent_unknown_formats_total",
        C,
        "Attempts of agents in whose output something was not known: another version of the program, perhaps.",
        ("profile",),
    ),
    Family(
        "crew_fenced_results_total",
        C,
        "Results that came behind their fence: kept as evidence, and without effect.",
        ("runtime",),
    ),
    Family(
        "crewd_incidents_total",
        C,
        "Incidents that opened, each time they did, also those that were damped.",
        ("severity",),
    ),
    Family("crewd_attempts_adopted_total", C, "Living attempts taken over from a former crewd."),
    Family(
        "crewd_worker_protocol_errors_total",
        C,
        "Lines of protocol workers that are no messages, by what is wrong with them, told at the end of the attempt.",
        ("kind",),
    ),
    Family("crewd_round_duration_seconds", H, "Duration of a complete round of the patrol.", (), ROUND),
    Family("crewd_event_loop_lag_seconds", H, "How late the event loop woke a timer.", (), QUICK),
    Family("crewd_own_stall_seconds_total", C, "Seconds for which crewd itself stood still beyond its interval."),
    Family("crewd_suspends_total", C, "Suspends of the machine that crewd noticed."),
    Family("crewd_clock_steps_total", C, "Steps of the wall clock that crewd noticed."),
    Family("crewd_manifest_reads_total", C, "Reads of runs' files, by how they ended.", ("result",)),
    Family("crewd_watch_overflows_total", C, "File change notifications lost by the kernel; the scan finds them."),
    Family("crewd_happenings_total", C, "Lines read from runtimes' own event logs.", ("runtime",)),
    Family("crewd_happenings_dropped_total", C, "Lines of runtimes' event logs beyond the cap of one round."),
    Family("crewd_unknown_fields_total", C, "Fields in runs' files that this version of crewd does not know."),
    Family("crewd_unknown_statuses_total", C, "Statuses in runs' files that this version of crewd does not know."),
    Family("crewd_http_requests_total", C, "HTTP requests answered.", ("route", "method", "code")),
    Family("crewd_http_request_duration_seconds", H, "Time to answer a HTTP request.", ("route", "method"), QUICK),
    Family(
        "crewd_invariant_violations_total",
        C,
        "Broken promises that crewd found in itself, by the number of the invariant.",
        ("id",),
    ),
    Family(
        "crewd_metric_series_dropped_total",
        C,
        "Recordings told under the label value other, because a cap was reached.",
        ("metric",),
        dotted=("crew.metrics.cardinality_evicted",),
    ),
    Family("crewd_metric_collect_errors_total", C, "Parts of a scrape that failed and were left out.", ("part",)),
)

# Read when asked, from one immutable snapshot and from the figures that other parts keep.
STATE = (
    Family("crew_runs", G, "Runs that crewd sees, by status.", ("runtime", "crew", "status")),
    Family("crew_tasks", G, "Tasks of the runs that crewd sees, by status.", ("runtime", "crew", "status")),
    Family("crew_workers", G, "Workers by the level at which they stand.", ("runtime", "crew", "level")),
    Family(
        "crew_workers_in_trouble",
        G,
        "Workers that are stale (silent, stopped, busy) or dead (exited, hung, presumed), by the reason.",
        ("runtime", "crew", "reason"),
    ),
    Family(
        "crew_workers_flapping",
        G,
        "Workers that change their level so often that their thresholds are doubled.",
        ("runtime", "crew"),
    ),
    Family(
        "crew_oldest_progress_timestamp_seconds",
        G,
        "When crewd last saw progress of the worker that has been silent longest. Absent when nobody works.",
        ("runtime", "crew"),
        dotted=("crew.heartbeat.staleness_ms",),
    ),
    Family(
        "crew_worker_last_progress_timestamp_seconds",
        G,
        "When crewd last saw progress of one worker, or else first saw it. Only with metrics.per_worker.",
        ("run", "task"),
    ),
    Family(
        "crew_heartbeat_threshold_seconds",
        G,
        "Silence at which a worker reaches a level.",
        ("runtime", "level"),
    ),
    Family("crew_wedges", G, "Silent, living workers by the diagnosed cause.", ("runtime", "wedge")),
    Family("crew_waiting_human", G, "Workers and runs that wait for a person.", ("crew",)),
    Family(
        "crew_waiting_human_oldest_timestamp_seconds",
        G,
        "Since when the oldest of them waits. Absent when nobody waits.",
        ("crew",),
    ),
    Family("crew_throttled", G, "Workers and runs that the rate limit of a provider keeps waiting.", ("crew",)),
    Family(
        "crew_throttled_oldest_timestamp_seconds",
        G,
        "Since when the oldest of them waits. Absent when nobody does.",
        ("crew",),
    ),
    Family(
        "crew_incidents_open",
        G,
        "Open incidents, by severity and by what a person said of them.",
        ("severity", "state"),
    ),
    Family("crew_verdicts_open", G, "Dead verdicts about which the truth has not arrived.", ("runtime", "reason")),
    # Not "crew_dead_letters": OpenMetrics calls the counter crew_dead_letters_total so, and a name has one type.
    Family("crew_dead_letters_open", G, "Dead letters that crewd sees.", ("crew",)),
    Family(
        "crew_dead_letters_oldest_timestamp_seconds",
        G,
        "Time of the oldest dead letter. Absent when there is none.",
        ("crew",),
    ),
    Family("crew_retries_pending", G, "Managed tasks between two attempts.", ("crew",)),
    Family(
        "crew_circuit_state",
        G,
        "The circuit of a provider or executor: 0 closed, 1 half open, 2 open. Absent until one failed.",
        ("circuit",),
    ),
    Family(
        "crew_budget_used_ratio",
        G,
        "The part of a budget that is used: of the day, of a crew's day, and of the fullest run and task of a crew.",
        ("scope", "crew"),
    ),
    Family("crew_burn_tokens_per_second", G, "Tokens that a crew used in a second, over 300 s.", ("crew",)),
    Family(
        "crew_burn_usd_per_second",
        G,
        "What a crew cost in a second, over 300 s. Absent where it is unknown.",
        ("crew",),
    ),
    Family("crew_recovery_plans", G, "Recovery plans of which something may still come, by state.", ("state",)),
    Family("crewd_attempts_running", G, "Attempts of managed tasks at work, until nothing of them is left."),
    Family("crewd_attempts_max", G, "Attempts of managed tasks that may be at work at one time."),
    Family("crewd_attempts_stuck", G, "Attempts that were killed and do not end: nothing takes their place."),
    Family(
        "crewd_tasks_ready",
        G,
        "Managed tasks that wait for nothing but a slot, the rate of starts, a circuit or a pause.",
    ),
    Family("crewd_paused", G, "Doors that a person closed, by what is behind them.", ("scope",)),
    Family(
        "crewd_worker_messages_total",
        C,
        "Messages of protocol workers, told at the end of the attempt.",
        ("type",),
    ),
    Family(
        "crewd_defects_total",
        C,
        "Defects of crewd itself that a part of it survived; the log has each of them. Any is worth a report.",
        ("part",),
    ),
    Family("crewd_build_info", G, "Version of crewd and of Python.", ("version", "python_version")),
    Family("crewd_ready", G, "1 when every part of crewd is ready."),
    Family("crewd_degraded", G, "1 for each part of crewd with which something is wrong.", ("reason",)),
    Family("crewd_last_round_timestamp_seconds", G, "When the latest complete round ended."),
    Family("crewd_round_interval_seconds", G, "Planned time between two rounds."),
    Family(
        "crewd_loop_last_success_timestamp_seconds",
        G,
        "When each of crewd's own loops last did its work. Absent until it has.",
        ("loop",),
    ),
    Family("crewd_hold", G, "1 while nobody may get worse, because crewd itself stood still or has just started."),
    Family("crewd_mass_brake", G, "1 while too many workers turned worse at once to be believed."),
    Family("crewd_local_health", G, "Factor on all thresholds by which crewd doubts itself: 1 is well, 5 the most."),
    Family("crewd_runs_watched", G, "Runs that crewd watches.", ("runtime",)),
    Family("crewd_looks_stuck", G, "Roots whose look has not come back."),
    Family("crewd_ledger_commits_total", C, "Durable commits of the ledger."),
    Family("crewd_ledger_commit_duration_seconds", H, "Time of one durable commit.", (), QUICK),
    Family("crewd_ledger_failures_total", C, "Commits of the ledger that failed."),
    Family(
        "crewd_ledger_history_missed_total",
        C,
        "Events that are not in the history, because a row of it is damaged; `crewd history verify` names it.",
    ),
    Family("crewd_ledger_bytes", G, "Size of the ledger on disk, with its write-ahead log."),
    Family(
        "crewd_filesystem_free_bytes",
        G,
        "What crewd can still write where its state and its daily files lie. Absent while that does not answer.",
        ("folder",),
    ),
    Family("crewd_sink_records_total", C, "Records written to a sink.", ("sink",)),
    Family("crewd_sink_bytes_total", C, "Bytes written to a sink.", ("sink",)),
    Family(
        "crewd_sink_errors_total", C, "Failures of a sink; what was not written is written later.", ("sink", "reason")
    ),
    Family("crewd_sink_lag_records", G, "Events in the ledger that a sink has not written.", ("sink",)),
    Family(
        "crewd_sink_last_write_timestamp_seconds",
        G,
        "When a sink last wrote. Absent until it has.",
        ("sink",),
    ),
    Family(
        "crewd_notifications_total",
        C,
        "Incidents that began or ended, by what became of telling them on a channel.",
        ("channel", "result"),
    ),
    Family(
        "crewd_notification_retries_total",
        C,
        "Tries to deliver a message that failed, and after which crewd tried again.",
        ("channel",),
    ),
    Family("crewd_notifications_pending", G, "Incidents that a channel is still to tell.", ("channel",)),
    Family(
        "crewd_notifications_not_told",
        G,
        "Open incidents that a channel could not tell, and gave up; it tries them again later.",
        ("channel",),
    ),
    Family("crewd_dead_man_failures_total", C, "Dead-man pings that failed."),
    Family(
        "crewd_dead_man_last_success_timestamp_seconds",
        G,
        "When the latest dead-man ping succeeded. Absent until one has.",
    ),
    Family("crewd_stream_clients", G, "Streams of events that are open."),
    Family(
        "crewd_stream_disconnects_total",
        C,
        "Streams of events that ended, by why: overflow means that their reader was too slow.",
        ("reason",),
    ),
    Family("crewd_config_last_reload_successful", G, "1 when the latest load of the settings succeeded."),
    Family(
        "crewd_config_last_reload_success_timestamp_seconds",
        G,
        "When settings were last loaded with success. Absent until they were.",
    ),
)

# Exported by the library's own collectors, registered in the daemon's registry.
LIBRARY = (
    Family("process_virtual_memory_bytes", G, "Virtual memory size in bytes."),
    Family("process_resident_memory_bytes", G, "Resident memory size in bytes."),
    Family("process_start_time_seconds", G, "Start time of the process since unix epoch in seconds."),
    Family("process_cpu_seconds_total", C, "Total user and system CPU time spent in seconds."),
    Family("process_open_fds", G, "Number of open file descriptors."),
    Family("process_max_fds", G, "Maximum number of open file descriptors."),
    Family("python_gc_objects_collected_total", C, "Objects collected during gc", ("generation",)),
    Family("python_gc_objects_uncollectable_total", C, "Uncollectable objects found during GC", ("generation",)),
    Family("python_gc_collections_total", C, "Number of times this generation was collected", ("generation",)),
)

FAMILIES = TOLD + STATE + LIBRARY
